# SPDX-License-Identifier: MIT
"""Which process has the foreground of a terminal, by /proc/PID/stat."""

import posix


def _status(pid: "int | str") -> "list[bytes]":
    """State, parent, group, session, terminal, its foreground group, ... of a process; raises OSError."""
    with open("/proc/%s/stat" % pid, "rb") as file:
        # Behind the name in parentheses.
        return file.read().rpartition(b")")[2].split()


def has_foreground(pid: int, terminal: int) -> bool:
    """Whether a process is what the shell on this terminal waits for, so that nobody else reads it.

    :param terminal: the number of its device.
    :return: True also where it can't be told.
    """
    try:
        state, _, group, _, tty, foreground = _status(pid)[:6]
    except OSError:
        return True
    return int(tty) == terminal and group == foreground and state not in (b"T", b"t")


def owner(terminal: int) -> str:
    """The program in the foreground of this terminal, for messages; "" if none is found."""
    try:
        pids = [name for name in posix.listdir("/proc") if name.isdigit()]
    except OSError:
        return ""
    for pid in pids:
        try:
            _, _, group, _, tty, foreground = _status(pid)[:6]
            if int(tty) == terminal and int(pid) == int(group) == int(foreground):
                with open("/proc/%s/comm" % pid) as file:
                    return "%s (process %s)" % (file.read().strip(), pid)
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return ""
