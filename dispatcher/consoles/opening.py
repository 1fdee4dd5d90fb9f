# SPDX-License-Identifier: MIT
"""Which kind of console is at an address. A further kind is a module beside this one, and a line here."""

from dispatcher.consoles import Console
from dispatcher.consoles.reopened import ReopenedConsole


def open_console(address: str, speed: int) -> Console:
    """The console at `address`, not yet opened. Raises ConsoleError for what can be none.

    :param address: `exec:COMMAND`, or what pyserial takes: a device file or a URL such as socket://host:port.
    :param speed: baud; counts for serial ports.
    """
    # Imported here: pyserial is of use only to who has consoles that it reaches.
    if address.startswith("exec:"):
        from dispatcher.consoles.ptyprocess import command_console

        return command_console(address)
    from dispatcher.consoles.serialport import SerialPort

    return SerialPort(address, speed)


def lasting_console(address: str, speed: int) -> Console:
    """The console at `address`, as `open_console` has it, and one that is opened again whenever it ends.

    Raises ConsoleError for what can be none.
    """
    console = open_console(address, speed)
    return console if console.lasting else ReopenedConsole(address, lambda: open_console(address, speed))
