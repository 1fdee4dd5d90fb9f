# SPDX-License-Identifier: MIT
"""Notices that this process was stopped for a while: by a signal, a debugger, a machine that slept.

What devices wrote meanwhile lies unread, and nothing tells how old it is. So whoever reads has to know before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

# Seconds between two looks, and seconds without one after which the process counts as stopped.
BEAT = 1.0
STOPPED = 20.0


class Pulse:
    """One for each event loop; `pulse_of` finds it.

    :param clock: in seconds; one that goes on while the machine sleeps.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._listeners: dict[Callable[[], object], None] = {}
        self._last = clock()
        self._timer: asyncio.TimerHandle | None = None

    def listen(self, went_on: Callable[[], object]) -> None:
        """Call this whenever the process goes on after it was stopped."""
        self._listeners[went_on] = None
        if self._timer is None:
            self._beat()

    def forget(self, went_on: Callable[[], object]) -> None:
        """Call it no more."""
        self._listeners.pop(went_on, None)
        if not self._listeners and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Tell the listeners if the process was stopped. To be called before anything is read.

        The event loop hands out what there is to read before it calls timers, so the timer alone would be too late.
        """
        now = self._clock()
        stopped, self._last = now - self._last > STOPPED, now
        if stopped:
            for went_on in list(self._listeners):
                went_on()

    def _beat(self) -> None:
        if self._timer is None:
            self._last = self._clock()
        else:
            self.look()
        self._timer = self._loop.call_later(BEAT, self._beat)


_pulses: WeakKeyDictionary[asyncio.AbstractEventLoop, Pulse] = WeakKeyDictionary()


def pulse_of(loop: asyncio.AbstractEventLoop) -> Pulse:
    """The pulse of this event loop."""
    if loop not in _pulses:
        _pulses[loop] = Pulse(loop, lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
    return _pulses[loop]
