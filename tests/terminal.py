# SPDX-License-Identifier: MIT
"""A pty for tests, and its slave as the toolkit opens it."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

import pytest

from toolkit.console import Console

_LFLAG = 3


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
        size: int = struct.unpack("i", fcntl.ioctl(self.slave, termios.FIONREAD, bytes(4)))[0]
        return size

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


def may_give_back() -> bool:
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSTI, b"x")
    except OSError:
        return False
    finally:
        os.close(master)
        os.close(slave)
    return True


needs_tiocsti = pytest.mark.skipif(not may_give_back(), reason="the kernel lets nobody give input back here")
