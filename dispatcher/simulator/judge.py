# SPDX-License-Identifier: MIT
"""Which simulated devices do nothing but wait: told from their processes.

A device does nothing but wait if each of its live processes is either one of the commands whose
wait is open, asleep until the answer comes, or waits itself, without a time limit, for such
processes: a shell for its children, a filter for what they write. Anything else may do something
later: a `sleep`, a `read`, `timeout 60 lava-wait x`, a server in the background, a command that
was stopped. So does a process that can't be looked into. As long as there is a process of which nothing
tells whose it is (a daemon may shed parent, session and environment), it may be anybody's.

A device may also hand work to a server that runs on this machine already: a terminal multiplexer, a container
engine, a service manager, `at`. What such a server has started since this run began may be that work, and no
process tells. Then devices may be in a dead end, or not (`doubt`). Servers are known by their names; work that was
given the name of a device's console, which it needs to send anything, is known by that, whoever started it.

What a process does at the moment is read from /proc/PID/wchan, the name of the kernel's function that it
sleeps in. Where the kernel does not tell, nobody is ever judged to do nothing.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dispatcher.consoles.processes import Process, descendants, environment, mark_of, process_table
from dispatcher.group.events import Waiting, WaitKind
from dispatcher.group.wording import enumerated
from toolkit.wire.vocabulary import NETWORK_ID

# Owns what is marked, and of no device that can be looked at: a tool of ours, a device to type to.
_SOMEBODY_ELSE = ""
# The agent belongs to the box, not to the test.
_AGENT = b"lavabox-agent"
_KINDS = {kind.value.encode(): kind for kind in WaitKind}
# Functions that a process sleeps in: that waits for a child (some shells wait for the signal of its end); that
# reads from a pipe; for the agent's answer, without a limit (a command that is told to end gives it one, and
# sleeps in poll).
_FOR_CHILDREN = (b"do_wait", b"sigsuspend", b"__do_sys_rt_sigsuspend")
# The box waits for the signals of its child's end and of its own; others may wait so with a time limit.
_FOR_SIGNALS = (b"do_sigtimedwait", b"__do_sys_rt_sigtimedwait")
_FOR_A_PIPE = (b"pipe_read", b"anon_pipe_read", b"pipe_wait")
_FOR_THE_AGENT = (b"unix_stream_read_generic", b"unix_stream_data_wait")
# In one that waits for a terminal to be typed to.
_FOR_TYPING = (b"n_tty_read", b"wait_woken")
_TERMINALS = ("/dev/pts/", "/dev/tty", "/dev/console")
# Programs that start others for whoever asks, by the names that the kernel has for them.
_SERVERS = {
    *("tmux: server", "screen", "SCREEN", "dtach", "abduco", "zellij"),
    *("dockerd", "containerd", "containerd-shim", "conmon", "podman", "crio", "lxc-start", "lxd", "incusd"),
    *("systemd", "init", "runsv", "runsvdir", "s6-supervise", "s6-svscan", "supervisord", "dbus-daemon"),
    *("atd", "cron", "crond", "sshd", "sshd-session", "inetd", "xinetd"),
}
# Characters of a command that are shown.
_MAX_SHOWN = 60
# SIGALRM in the mask of caught signals: who catches it may have set an alarm, as `timeout` does.
_ALARM = 1 << 13


class Leader(NamedTuple):
    """The process that a device began with, and the mark that all its processes have in their environment."""

    pid: int
    mark: str


class _Command(NamedTuple):
    """A command that waits, as it was called."""

    kind: WaitKind
    arguments: Sequence[bytes]

    def may_be(self, waiting: Waiting) -> bool:
        """Whether this wait is that of the command."""
        kind = WaitKind.NEXT if b"--next" in self.arguments else self.kind
        if kind is not waiting.kind:
            return False
        words = {*self.arguments, *(word.partition(b"=")[2] for word in self.arguments)}
        whom = waiting.whom if isinstance(waiting.whom, tuple) else (waiting.whom,)
        named = {str(one).encode("utf-8", "surrogateescape") for one in whom if one is not None}
        return words.issuperset(named) and words.issuperset(waiting.ids)


class Found(NamedTuple):
    """What was found out about devices.

    :param idle: those that do nothing but wait, with their processes.
    :param doubt: a clause that says which process may yet do something for one of them; empty if there is none.
    :param servers: whether there is a server that may be about to start something for one of them.
    :param busy: a clause that says which processes keep others from being idle; empty if that is not known.
    """

    idle: Mapping[str, frozenset[int]]
    doubt: str = ""
    servers: bool = False
    busy: str = ""


def idle_devices(
    leaders: Mapping[str, Leader], waits: Mapping[str, Sequence[Waiting]], *, servers: bool
) -> Found:
    """The devices that do nothing but wait.

    :param leaders: of the devices that have begun and not ended.
    :param waits: all open waits of the devices in question.
    :param servers: whether devices can reach the servers of this machine.
    """
    table = process_table()
    owned = _by_device(leaders, table)
    if isinstance(owned, Process):
        return Found(
            {}, busy=f"{_shown(owned)} (process {owned.pid}) may be of any device, and do something yet"
        )
    idle: dict[str, frozenset[int]] = {}
    busy: list[str] = []
    for name in waits.keys() & owned.keys():
        own = owned[name]
        try:
            if (process := _that_does_more(own, waits[name])) is not None:
                busy.append(f"{name} has {_shown(process)} (process {process.pid})")
            else:
                idle[name] = frozenset(process.pid for process in own)
        except (OSError, _Unseen):
            continue  # a process has ended meanwhile, or can't be looked into
    clause = f"{enumerated(sorted(busy))}, which may do something yet" if busy else ""
    if not servers or not idle:
        return Found(idle, busy=clause)
    to_start = any(process.name in _SERVERS for process in table)
    return Found(idle, _doubt(table, _consoles(leaders)), to_start, clause)


def doings(leaders: Mapping[str, Leader]) -> dict[str, str]:
    """What runs on each device, as a clause: the process that was started last of those that wait for no other."""
    found = {}
    owned = _by_device(leaders, process_table())
    for name, own in {} if isinstance(owned, Process) else owned.items():
        parents = {process.parent for process in own}
        last = max(own, key=lambda one: (one.pid not in parents, one.started, one.pid), default=None)
        if last is not None:
            found[name] = f"runs {_shown(last)}{_typing(last)}"
    return found


def _typing(process: Process) -> str:
    try:
        path = os.readlink(f"/proc/{process.pid}/fd/0")
        reads = path.startswith(_TERMINALS) and _asleep_in(process.pid) in _FOR_TYPING
    except OSError:
        reads = False
    return ", which waits for something to be typed" if reads else ""


def _consoles(leaders: Mapping[str, Leader]) -> re.Pattern[bytes]:
    """What tells the consoles of devices to their processes, as it stands in their environment."""
    entries = [entry for leader in leaders.values() for entry in environment(leader.pid)]
    consoles = [re.escape(entry) for entry in entries if entry.startswith(b"LAVA_CONSOLE=")]
    return re.compile(rb"(?:%b)(?!\d)" % b"|".join(consoles or [rb"(?!)"]))


def _names_one(pid: int, consoles: re.Pattern[bytes]) -> bool:
    try:
        words = _read(pid, "cmdline") + b"\0" + b"\0".join(environment(pid)) + b"\0"
    except OSError:
        return False
    return consoles.search(words) is not None


def _doubt(table: Sequence[Process], consoles: re.Pattern[bytes]) -> str:
    """Which process a server may have started for a device, as a clause.

    :param consoles: what names the consoles of devices.
    """
    all_by_pid = {process.pid: process for process in table}
    began = all_by_pid[os.getpid()].started
    own = {process.pid for process in descendants(os.getpid(), table)}
    for process in table:
        if process.pid in own or process.started < began or process.zombie:
            continue
        above = all_by_pid.get(process.parent)
        while above is not None and above.name not in _SERVERS and above.started >= began:
            above = all_by_pid.get(above.parent)
        if _names_one(process.pid, consoles):
            return (
                f"{_shown(process)} (process {process.pid}), which no device has started, has a device's console in its "
                "environment"
            )
        if above is not None and above.name in _SERVERS:
            return (
                f"'{above.name}' (process {above.pid}) has started {_shown(process)} (process {process.pid}) since "
                "this run began, perhaps for a device"
            )
    return ""


def _shown(process: Process) -> str:
    try:
        # Who writes a title over its arguments may leave no NUL at the end.
        argv = _read(process.pid, "cmdline").removesuffix(b"\0").split(b"\0")
    except OSError:
        argv = []
    if _is_box(argv) and (words := _words_of_box(argv)):
        # As it was called, and not the Python that runs it.
        argv = [os.path.basename(words[0]), *words[1:]]
    text = " ".join(b" ".join(argv).decode(errors="replace").split()) or process.name
    return f"`{text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + '...'}`"


def _by_device(leaders: Mapping[str, Leader], table: Sequence[Process]) -> dict[str, list[Process]] | Process:
    """The live processes of each device, without agents; or one of which nothing tells whose it is."""
    sessions = {leader.pid: name for name, leader in leaders.items()}
    marks = {leader.mark: name for name, leader in leaders.items()}
    owners: dict[int, str | None] = {}
    found: dict[str, list[Process]] = {name: [] for name in leaders}
    # Parents come before their children.
    for process in descendants(os.getpid(), table):
        if process.zombie:
            continue
        owner = sessions.get(process.session) or owners.get(process.parent)
        if owner is None:
            mark = mark_of(process.pid)
            owner = None if mark is None else marks.get(mark, _SOMEBODY_ELSE)
        owners[process.pid] = owner
        if owner == _SOMEBODY_ELSE or _is_agent(process):
            continue
        if owner is None:
            return process
        found[owner].append(process)
    return found


def _is_agent(process: Process) -> bool:
    try:
        return process.session == process.pid and _read(process.pid, "comm").strip() == _AGENT
    except OSError:
        return False  # it has ended meanwhile


class _Unseen(Exception):
    """There is an open wait of which no process was found."""


def _that_does_more(processes: Sequence[Process], waits: Sequence[Waiting]) -> Process | None:
    """The one of these processes that does more than to wait in the commands of these waits. Raises OSError and _Unseen."""
    parents = {process.parent for process in processes}
    unmatched = list(waits)
    for process in processes:
        has_children = process.pid in parents
        argv = _read(process.pid, "cmdline").split(b"\0")[:-1]
        called = _command(argv)
        waiting = None if called is None else next((wait for wait in unmatched if called.may_be(wait)), None)
        if called is None or has_children or (called.kind is WaitKind.LOCK and waiting is None):
            # `flock FILE lava-wait x` names the command that its child is. And `lava-lock NAME -- COMMAND` has what it
            # waited for: one process waits for COMMAND, one for a pipe.
            if not _waits_for_others(process.pid, has_children, _is_box(argv)):
                return process
            continue
        if waiting is None or _asleep_in(process.pid) not in _FOR_THE_AGENT:
            return process
        unmatched.remove(waiting)
    if unmatched:
        raise _Unseen
    return None


def _command(argv: Sequence[bytes]) -> _Command | None:
    """The waiting command that a process is, if it is one: the box, called by a link or with a name."""
    words = _words_of_box(argv)
    if not words:
        return None
    name, arguments = os.path.basename(words[0]), words[1:]
    if name == b"lava-network" and arguments[:1] == [b"collect"]:
        return _Command(WaitKind.WAIT_ALL, [*arguments[1:], NETWORK_ID])
    kind = _KINDS.get(name)
    return None if kind is None else _Command(kind, arguments)


def _words_of_box(argv: Sequence[bytes]) -> Sequence[bytes]:
    """The command that the box was called for, and its arguments."""
    words = argv[6:] if _is_box(argv) else argv[1:]
    return words if not words or os.path.basename(words[0]).startswith(b"lava-") else words[1:]


def _is_box(argv: Sequence[bytes]) -> bool:
    # The box starts `python3 -E -s -S -c CODE BOX ...`; somebody may start `python3 BOX ...`.
    return argv[3:5] == [b"-S", b"-c"]


def _waits_for_others(pid: int, has_children: bool, is_box: bool) -> bool:
    """Whether the process sleeps until one of the same device has done something. Raises OSError."""
    status = _fields(_read(pid, "status"))
    if status[b"Threads"] != b"1" or int(status[b"SigCgt"], 16) & _ALARM:
        return False
    where = _asleep_in(pid)
    if where in _FOR_CHILDREN or (is_box and where in _FOR_SIGNALS):
        return has_children
    return where in _FOR_A_PIPE and not _has_named_pipe(pid)


def _asleep_in(pid: int) -> bytes:
    """The kernel's function that the process sleeps in; empty if it runs, or was stopped. Raises OSError."""
    state = _fields(_read(pid, "status"))[b"State"]
    # Compilers add to the names of functions: sigsuspend.isra.0.
    return _read(pid, "wchan").partition(b".")[0] if state.startswith(b"S") else b""


def _has_named_pipe(pid: int) -> bool:
    """Whether it has a pipe open that processes of other devices may write into. Raises OSError."""
    folder = f"/proc/{pid}/fd"
    for entry in os.listdir(folder):
        path = f"{folder}/{entry}"
        if stat.S_ISFIFO(os.stat(path).st_mode) and not os.readlink(path).startswith("pipe:"):
            return True
    return False


def _fields(text: bytes) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()
