# SPDX-License-Identifier: MIT
"""`lavabox console`: look at a device of a lab, and type to it, while its commands go on."""

import argparse
import contextlib
import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Iterator

from dispatcher.commands.ctl import add_control
from dispatcher.errors import SetupError, UsageError
from dispatcher.lab.control import connect
from dispatcher.view.interactive.escapekeys import EscapeKeys

SUMMARY = "look at a device of a lab, and type to it"

DESCRIPTION = """\
Show what a device of `lavabox serve LAB.toml` prints, and type to it. Any number may look at one
device. Its commands are answered meanwhile; their frames are not shown.
"""

EPILOGUE = """\
keys: the escape key and q: leave; the escape key twice: type it to the device.

exit status: 0 when left; 1 when there is no such device, or the lab ends; 2 usage.

example:
  lavabox console panda01 --escape ^A
"""

_READ_SIZE = 65536


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_control(parser)
    parser.add_argument("device", metavar="DEVICE", help="the name of the device")
    parser.add_argument("--read-only", action="store_true", help="only look")
    parser.add_argument(
        "--escape", metavar="KEY", default="^]", help="the escape key, as ^] or ^A (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show the console until it is left. Raises UsageError or SetupError."""
    escape = _key(arguments.escape)
    request = {"do": "console", "device": arguments.device, "write": not arguments.read_only}
    connection, response, early = connect(arguments.control, request)
    with connection:
        if not response.get("ok"):
            raise SetupError(str(response.get("error")))
        with _raw(sys.stdin.fileno()):
            if sys.stdin.isatty():
                print(f"{arguments.device}: {arguments.escape} q leaves\r", file=sys.stderr, flush=True)
            return _talk(connection, early, Keys(escape))


class Keys:
    """Takes the escape key out of what is typed. No I/O.

    :param escape: the escape key.
    """

    def __init__(self, escape: int) -> None:
        self._keys = EscapeKeys(escape)
        self.left = False  # whether the person has left

    def receive_keys(self, data: bytes) -> bytes:
        """What is for the device."""
        typed = b""
        for item in self._keys.receive(data):
            if isinstance(item, bytes):
                typed += item
            elif item in b"qQ.":
                self.left = True
                break
        return typed


def _key(text: str) -> int:
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return ord(text[1].upper()) - 64
    raise UsageError(f"--escape {text!r}: write a control key, such as ^] or ^A")


def _talk(connection: socket.socket, early: bytes, keys: Keys) -> int:
    _show(early)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if connection.fileno() in ready:
            try:
                data = connection.recv(_READ_SIZE)
            except ConnectionResetError:
                data = b""
            if not data:
                print("\r\nthe lab has closed the console\r", file=sys.stderr)
                return 1
            _show(data)
        if sys.stdin.fileno() in ready:
            data = os.read(sys.stdin.fileno(), _READ_SIZE)
            if not data:
                # What comes from a file or a pipe is typed; whoever looks goes on looking.
                poll.unregister(sys.stdin)
            with contextlib.suppress(ConnectionError):
                connection.sendall(keys.receive_keys(data))
            if keys.left:
                return 0


def _show(data: bytes) -> None:
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Every key goes to the device, Ctrl-C as well."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    # What was typed by now counts.
    tty.setraw(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)
