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
    """The program in the foreground of this terminal, for messages; "" if none is found.

    Of several that one which began last: a shell waits for what it has started, and does not read.
    """
    found, last = "", -1
    try:
        pids = [name for name in posix.listdir("/proc") if name.isdigit()]
    except OSError:
        return ""
    for pid in pids:
        try:
            fields = _status(pid)
            began = int(fields[19])
            if int(fields[4]) == terminal and fields[2] == fields[5] and began >= last:
                with open("/proc/%s/comm" % pid) as file:
                    found, last = "%s (process %s)" % (file.read().strip(), pid), began
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile
    return found
