# SPDX-License-Identifier: MIT
"""A window of tmux that is the console of a device: passes bytes between its terminal and a socket.

A program of its own, which imports nothing of lavabox: there may be many of them.

To the socket go messages: a letter, the length of what follows (two bytes, big endian), and that. "k" has
keys, "w" the size of the window: rows and columns, two bytes each. From the socket comes plain output.
"""

import os
import select
import signal
import socket
import struct
import sys
import termios
import tty

HEAD = struct.Struct("!cH")
SIZE = struct.Struct("!HH")
KEYS, WINDOW = b"k", b"w"


def main(path: str) -> int:
    """Serve until the socket, or the terminal, is closed."""
    console = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    console.connect(path)
    tty.setraw(0, termios.TCSANOW)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGWINCH, lambda number, frame: None)
    _send(console, WINDOW, _size())
    while True:
        ready, _, _ = select.select([0, console.fileno(), awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
            _send(console, WINDOW, _size())
        if console.fileno() in ready:
            data = console.recv(65536)
            if not data:
                return 0
            _write(data)
        if 0 in ready:
            data = os.read(0, 4096)
            if not data:
                return 0
            _send(console, KEYS, data)


def _size() -> bytes:
    size = os.get_terminal_size(0)
    return SIZE.pack(size.lines, size.columns)


def _send(console: socket.socket, kind: bytes, data: bytes) -> None:
    console.sendall(HEAD.pack(kind, len(data)) + data)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
