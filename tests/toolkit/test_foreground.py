# SPDX-License-Identifier: MIT
"""Who has the foreground of a terminal."""

import os
import pty
import signal

from toolkit.foreground import has_foreground, owner


def test_of_several_the_last_one_is_named() -> None:
    """A script that has started `cat` waits for it: `cat` reads."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("sh", ["sh", "-c", "tty; cat; true"])
    try:
        seen = b""
        while b"\n" not in seen:
            seen += os.read(master, 1000)
        terminal = os.stat(seen.split()[0]).st_rdev
        os.write(master, b"typed\n")
        # Once as the echo, once as what `cat` has written.
        while seen.count(b"typed") < 2:
            seen += os.read(master, 1000)
        name, _, process = owner(terminal).partition(" (process ")
        assert name == "cat"
        assert int(process.rstrip(")")) != pid
        assert has_foreground(pid, terminal)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(master)
        os.waitpid(pid, 0)
