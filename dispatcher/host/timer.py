# SPDX-License-Identifier: MIT
"""A deadline that moves: one timer of the event loop for all the deadlines of one thing."""

import asyncio
from collections.abc import Callable


class Timer:
    """Calls `callback` at the time that was set last, or earlier.

    What has a deadline says so with `next_timeout`, and does nothing when it is called too early.
    So a timer is only replaced by an earlier one: most deadlines move back all the time.
    """

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, time: float | None) -> None:
        """Call it at this time of the loop; None: there is nothing to wait for."""
        if time is None or (self._handle is not None and self._handle.when() <= time):
            return
        self.cancel()
        self._handle = asyncio.get_running_loop().call_at(time, self._go_off)

    def cancel(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _go_off(self) -> None:
        self._handle = None
        self._callback()
