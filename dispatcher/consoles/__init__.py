# SPDX-License-Identifier: MIT
"""How a console is reached: a serial port, a connection to a terminal server, or a command on a pty.

Everything else sees a console as something that is started once, tells a `Listener` what
happens, and takes bytes to be typed.
"""

from typing import Protocol

from dispatcher.errors import SetupError


class ConsoleError(SetupError):
    """A console can't be opened; the text says which, why, and what to do."""


class Listener(Protocol):
    """What a console tells, always from the event loop that it was started in."""

    def received(self, data: bytes) -> None:
        """Bytes came from the device."""

    def dropped(self, reason: str) -> None:
        """The connection is gone. The console tries to get it back; `restored` or `ended` follows."""

    def restored(self) -> None:
        """The connection is back."""

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

    async def start(self, listener: Listener) -> None:
        """Open it. Raises ConsoleError. To be called once."""

    def write(self, data: bytes) -> None:
        """Type bytes; never blocks. While the console is not there they are dropped, as by a real line."""

    async def close(self) -> None:
        """Give it up and end what belongs to it, in whatever state it is."""


def open_console(address: str, speed: int) -> Console:
    """The console at `address`, not yet started.

    :param address: `exec:COMMAND`, or what pyserial takes: a device file or a URL such as socket://host:port.
    :param speed: baud; counts for serial ports.
    """
    # Imported here: pyserial is of use only to who has consoles that it reaches.
    if address.startswith("exec:"):
        from dispatcher.consoles.ptyprocess import command_console

        return command_console(address)
    from dispatcher.consoles.serialport import SerialPort

    return SerialPort(address, speed)
