# SPDX-License-Identifier: MIT
"""Finding and ending processes that something started here has left behind.

A test script may leave anything running: a server in the background, a daemon with a
session of its own. Such a process is found by the session that it is in or by a mark in
its environment, and at the end of a run, when this process is made the one that adopts
orphans (`become_subreaper`), simply as a descendant.

Reading the process table takes tens of milliseconds where there are many processes. So those who want to see it
at about the same time, such as a thousand consoles at the end of a run, share one look (`look`).
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
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
# Seconds that killed processes get to go; more is needed only by one that hangs in the kernel. And seconds for all,
# should new ones come again and again.
_PATIENCE, _LONGEST = 2.0, 30.0


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table.

    :param name: of its program, cut to 15 characters.
    :param started: in clock ticks since the kernel's start.
    """

    pid: int
    parent: int
    session: int
    zombie: bool
    name: str
    started: int


def become_subreaper() -> None:
    """Adopt descendants whose parents end, who else would go to init. `reap_orphans` is to reap them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def death_signal() -> Callable[[], object]:
    """What a child does between fork and exec, in order to be killed when this process ends."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # It has ended already.

    return arm


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
        begin, end = line.index(b"(") + 1, line.rindex(b")")
        fields = line[end + 2 :].split()
        state, parent, session, started = fields[0], fields[1], fields[3], fields[19]
        name = line[begin:end].decode(errors="replace")
        table.append(
            Process(int(entry), int(parent), int(session), state in (b"Z", b"X"), name, int(started))
        )
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


class Processes:
    """The live processes below this one, as they were when this was made."""

    def __init__(self) -> None:
        self._live = [one for one in descendants(os.getpid(), process_table()) if not one.zombie]
        self._marks: dict[int, str | None] | None = None  # once it is asked for

    def all(self) -> list[int]:
        """Their process ids, parents before their children."""
        return [process.pid for process in self._live]

    def marked(self, mark: str, session: int | None, outside: int | None = None) -> list[int]:
        """Those that carry `mark` in their environment, or are in `session`.

        :param outside: a session whose processes are left out.
        """
        if self._marks is None:
            self._marks = {process.pid: mark_of(process.pid) for process in self._live}
        return [
            process.pid
            for process in self._live
            if process.session != outside and (process.session == session or self._marks[process.pid] == mark)
        ]


class _Looks:
    """Makes a `Processes` for all who ask while the last one was made, or soon after."""

    def __init__(self) -> None:
        self._coming: asyncio.Future[Processes] | None = None
        self._cost = 0.0  # seconds that the last look took

    async def next(self) -> Processes:
        loop = asyncio.get_running_loop()
        if self._coming is None or self._coming.get_loop() is not loop:
            self._coming = loop.create_future()
            # So no more than half of the time is spent on it.
            loop.call_later(self._cost, self._look, self._coming)
        return await asyncio.shield(self._coming)

    def _look(self, coming: "asyncio.Future[Processes]") -> None:
        self._coming = None
        began = time.monotonic()
        try:
            coming.set_result(Processes())
        except OSError as error:
            coming.set_exception(error)
        self._cost = time.monotonic() - began


_looks = _Looks()


async def look() -> Processes:
    """The processes as they are some time after the call. Raises OSError."""
    return await _looks.next()


def mark_of(pid: int) -> str | None:
    """The mark that a process has in its environment, if it has one and may be looked into."""
    prefix = f"{MARK_VARIABLE}=".encode()
    entry = next((entry for entry in environment(pid) if entry.startswith(prefix)), None)
    return None if entry is None else entry[len(prefix) :].decode(errors="surrogateescape")


def everything_below() -> list[int]:
    """All live processes below this one, at once."""
    return Processes().all()


def environment(pid: int) -> list[bytes]:
    """The environment that a process was started with, `NAME=VALUE` each; empty if it may not be looked into."""
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


async def kill_all(find: Callable[[Processes], list[int]]) -> list[int]:
    """Kill what `find` finds until it finds nothing; return what would not go.

    A process may fork between being found and being killed, so one round is not enough.
    """
    began = changed = time.monotonic()
    pause = 0.001
    known: set[int] = set()
    while pids := find(await look()):
        now = time.monotonic()
        if not known.issuperset(pids):
            changed = now
        if now >= changed + _PATIENCE or now >= began + _LONGEST:
            return pids
        known.update(pids)
        send_signal(pids, signal.SIGKILL)
        # There is nothing to be notified by: these need not be our own children.
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
    return []
