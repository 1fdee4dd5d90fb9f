# SPDX-License-Identifier: MIT
"""Finding and ending processes that something started here has left behind.

A test script may leave anything running: a server in the background, a daemon with a
session of its own. Such a process is found by the session that it is in or by a mark in
its environment, and at the end of a run, when this process is made the one that adopts
orphans (`become_subreaper`), simply as a descendant.
"""

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

# Set in the environment of every process started on a pty here; the value tells whose it is.
MARK_VARIABLE = "LAVABOX_DEVICE"

# From <linux/prctl.h>.
_PR_SET_CHILD_SUBREAPER = 36
# Seconds that killed processes get to go; more is needed only by one that hangs in the kernel.
_PATIENCE = 2.0


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    session: int
    zombie: bool


def become_subreaper() -> None:
    """Adopt descendants whose parents end, who else would go to init. `reap_orphans` is to reap them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def reap_orphans(own: Collection[int | None]) -> None:
    """Reap adopted children that have ended; those in `own` are left to whoever started them."""
    while True:
        try:
            # WNOWAIT only looks. It shows the same child again and again until it is reaped, so this
            # stops at one of `own`, and is to be called again after that one was reaped.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in own:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)
        except ChildProcessError:
            return


def process_table() -> list[Process]:
    """All processes that can be seen."""
    table = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                line = file.read()
        except OSError:
            continue
        # The second field is the name in parentheses, which may hold spaces and parentheses.
        state, parent, _group, session = line[line.rindex(b")") + 2 :].split()[:4]
        table.append(Process(int(entry), int(parent), int(session), state in (b"Z", b"X")))
    return table


def descendants(ancestor: int, table: Iterable[Process]) -> list[Process]:
    """The processes below `ancestor`, parents before their children."""
    children: dict[int, list[Process]] = {}
    for process in table:
        children.setdefault(process.parent, []).append(process)
    found = list(children.get(ancestor, []))
    for process in found:
        found += children.get(process.pid, [])
    return found


def marked(mark: str, session: int | None, outside: int | None = None) -> list[int]:
    """The live processes below this one that carry `mark` in their environment, or are in `session`.

    :param outside: a session whose processes are left out.
    """
    entry = f"{MARK_VARIABLE}={mark}".encode()
    return [
        process.pid
        for process in descendants(os.getpid(), process_table())
        if not process.zombie
        and process.session != outside
        and (process.session == session or entry in _environment(process.pid))
    ]


def mark_of(pid: int) -> str | None:
    """The mark that a process has in its environment, if it has one and may be looked into."""
    prefix = f"{MARK_VARIABLE}=".encode()
    entry = next((entry for entry in _environment(pid) if entry.startswith(prefix)), None)
    return None if entry is None else entry[len(prefix) :].decode(errors="surrogateescape")


def everything_below() -> list[int]:
    """All live processes below this one."""
    return [process.pid for process in descendants(os.getpid(), process_table()) if not process.zombie]


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Send the signal to those that are still there and may be sent one."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


async def kill_all(find: Callable[[], list[int]]) -> list[int]:
    """Kill what `find` finds until it finds nothing; return what would not go.

    A process may fork between being found and being killed, so one round is not enough.
    """
    deadline = time.monotonic() + _PATIENCE
    pause = 0.001
    while pids := find():
        if time.monotonic() >= deadline:
            return pids
        send_signal(pids, signal.SIGKILL)
        # There is nothing to be notified by: these need not be our own children.
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
    return []
