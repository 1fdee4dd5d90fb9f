# SPDX-License-Identifier: MIT
"""How a console is reached: a serial port, a connection to a terminal server, or a command on a pty.

Everything else sees a console as something that is opened, tells a `Listener` what
happens, and takes bytes to be typed.
"""

from typing import Protocol

from dispatcher.errors import SetupError


class ConsoleError(SetupError):
    """A console can't be opened; the text says which, why, and what to do."""


class Listener(Protocol):
    """What a console tells, always from the event loop that it was opened in."""

    def received(self, data: bytes) -> None:
        """Bytes came from the device."""

    def drained(self) -> None:
        """All that was taken by `write` is written, after a `write` that took nothing."""

    def lost(self, reason: str) -> None:
        """The connection is gone; `open` may get it back. Not called when `close` ended it."""

    def rebooted(self) -> None:
        """The device reboots: none of its processes goes on. Only a console that knows says so."""

    def ended(self, reason: str, status: int) -> None:
        """The console is over, and all its bytes have been received. Not called when `close` ended it.

        `reason` is a clause such as "ended with status 3"; `status` is 0 for success, otherwise
        an exit status, or a signal's number made negative.
        """


class Console(Protocol):
    """One device's console."""

    @property
    def address(self) -> str:
        """What a person would call it: /dev/ttyUSB0, a URL, exec:COMMAND."""

    @property
    def lasting(self) -> bool:
        """Whether it is worth trying again to open it, when that failed or the connection was lost."""

    async def open(self, listener: Listener) -> None:
        """Open it, for the first time or after `Listener.lost`. Raises ConsoleError."""

    def write(self, data: bytes) -> bool:
        """Type bytes; never blocks.

        False: none of them was taken, as it is not open or too many wait to be written. In the latter case
        `Listener.drained` follows.
        """

    def pause(self) -> None:
        """Receive nothing for now: whoever is told can't keep up. What comes stays on the line as long as it can."""

    def resume(self) -> None:
        """Receive again."""

    async def close(self) -> None:
        """Give it up and end what belongs to it, in whatever state it is."""
