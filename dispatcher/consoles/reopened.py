# SPDX-License-Identifier: MIT
"""A console that a command reaches, and that is reached again when the command ends."""

import asyncio
import contextlib
from collections.abc import Callable

from dispatcher.consoles import Console, Listener

# Seconds between an end and the next start, if the command did not run for longer than LASTS; twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
LASTS = 60.0


class ReopenedConsole:
    """Makes a console that does not last (`Console.lasting`) one that does.

    :param make: makes the console; each is opened once.
    """

    lasting = True

    def __init__(self, address: str, make: Callable[[], Console]) -> None:
        self.address = address
        self._make = make
        self._console: Console | None = None
        self._closed = asyncio.Event()
        self._opened = 0.0
        self._pause = 0.0

    async def open(self, listener: Listener) -> None:
        """Start the command, after a pause if it has just ended. Raises ConsoleError."""
        if self._pause:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), self._pause)
        if self._closed.is_set():
            return
        self._opened = asyncio.get_running_loop().time()
        self._console = self._make()
        await self._console.open(_Watcher(listener, self._note_end))

    def _note_end(self) -> None:
        lasted = asyncio.get_running_loop().time() - self._opened >= LASTS
        self._pause = FIRST_PAUSE if lasted or not self._pause else min(2 * self._pause, LONGEST_PAUSE)
        self._console = None

    def write(self, data: bytes) -> bool:
        """Type bytes; False if the command does not run, or lets too many wait."""
        return self._console is not None and self._console.write(data)

    def pause(self) -> None:
        """Receive nothing for now."""
        if self._console is not None:
            self._console.pause()

    def resume(self) -> None:
        """Receive again."""
        if self._console is not None:
            self._console.resume()

    async def close(self) -> None:
        """End the command, and start it no more."""
        self._closed.set()
        if self._console is not None:
            await self._console.close()


class _Watcher:
    """Tells the listener that the console is lost, where it has ended."""

    def __init__(self, listener: Listener, note_end: Callable[[], object]) -> None:
        self._note_end = note_end
        self.received = listener.received
        self.drained = listener.drained
        self.lost = listener.lost
        self.rebooted = listener.rebooted

    def ended(self, reason: str, status: int) -> None:
        self._note_end()
        self.lost(f"the command {reason}")
