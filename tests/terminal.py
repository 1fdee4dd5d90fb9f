# SPDX-License-Identifier: MIT
"""A pty for tests, and its slave as the toolkit opens it."""

from __future__ import annotations

import fcntl
import os
import sys
import termios

from toolkit.console import Console
from toolkit.wire.framing import encode_line

_LFLAG = 3

# A line of the host.
OURS = encode_line(b"\x94\x01\xce\x11\x22\x33\x44\x01\x01\x00")


def unread(fd: int) -> int:
    """Bytes of input that nobody has read so far."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


class Terminal:
    """A pty; `console` is its slave as the toolkit opens it."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.console = Console(os.ttyname(self.slave))

    @property
    def lflag(self) -> int:
        flag: int = termios.tcgetattr(self.slave)[_LFLAG]
        return flag

    def stty(self, *, on: int = 0, off: int = 0) -> None:
        modes = termios.tcgetattr(self.slave)
        modes[_LFLAG] = modes[_LFLAG] & ~off | on
        termios.tcsetattr(self.slave, termios.TCSANOW, modes)

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def input(self) -> bytes:
        """What somebody who reads this terminal would get now."""
        data = b""
        while self.waiting():
            data += os.read(self.slave, 4096)
        return data

    def waiting(self) -> int:
        """Bytes that can be read."""
        return unread(self.slave)

    def until_waiting(self, size: int) -> None:
        """What was typed arrives a little later."""
        while self.waiting() < size:
            os.sched_yield()

    def lines(self) -> list[bytes]:
        """What the toolkit reads now."""
        lines: list[bytes] = []
        try:
            while True:
                lines += self.console.read_lines()
        except BlockingIOError:
            return lines

    def close(self) -> None:
        for fd in (self.master, self.slave, self.console.read_fd, self.console.write_fd):
            os.close(fd)
