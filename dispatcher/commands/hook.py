# SPDX-License-Identifier: MIT
"""`lavabox hook`: between a console and the program that drives it."""

import argparse
import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence

from dispatcher.consoles import Console
from dispatcher.consoles.opening import open_console
from dispatcher.consoles.pseudoterminal import Settings
from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.engine import Engine
from dispatcher.errors import SetupError, UsageError
from dispatcher.group.configuration import Configuration
from dispatcher.group.events import Founded
from dispatcher.grouplog import GroupLog, GroupLogError
from dispatcher.host import groupoptions, ownterminal
from dispatcher.host.attachment import Membership
from dispatcher.host.deadwatch import QuietWatch
from dispatcher.host.group import Attached, Group
from dispatcher.host.hook import Hook, OneConnection, Screen
from dispatcher.host.lavagroup import LavaGroup
from dispatcher.host.lavajob import NO_ROLE, LavaJob, coordinator_is_here, find_job
from dispatcher.host.options import add_grace
from dispatcher.host.remote import Card, RemoteGroup
from dispatcher.host.remotewire import DEFAULT_SOCKET
from dispatcher.host.stopsignals import unwind_when_told_to_end
from dispatcher.host.watched import WatchedGroup
from dispatcher.names import check_name

SUMMARY = "stand between a console and the program that drives it, such as LAVA's dispatcher"

DESCRIPTION = """\
Run the command that reaches a console, and behave like that command to the program that
starts the hook: bytes go both ways unchanged and at once, and so do the window size,
signals, the end of file and the exit status. Only the frames of the lava-* commands on the
device are taken out, and answered.

Under LAVA, what the device reports comes out as the text signals that LAVA reads; the name,
role and group of the device are those of LAVA's job.
"""

EPILOGUE = """\
exit status: that of COMMAND (killed by the same signal, if it was), 127 if there is no such
command, 126 if it can't be run; 1 if the port can't be opened or is lost, or the group does not
take the device; 2 usage.

examples:
  lavabox hook -- telnet localhost 7001
  lavabox hook --coordinator /run/lavabox/coordinator -- ssh -tt board
  lavabox hook --serial socket://localhost:7001
  lavabox hook --group-log nats://nats1,nats2/farm --group g --group-size 2 --name panda01 -- telnet localhost 7001
  in a LAVA device dictionary:
    {% set connection_command = 'lavabox hook -- telnet localhost 7001' %}
"""

# What --coordinator may be besides a socket.
_LAVA, _ALONE = "lava", "none"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("words", metavar="COMMAND", nargs="*", help="what reaches the console; after --")
    parser.add_argument(
        "--serial",
        metavar="URL",
        help="open a port instead: what pyserial opens, such as /dev/ttyUSB0 or socket://HOST:PORT",
    )
    parser.add_argument(
        "--speed", metavar="BAUD", type=int, default=115200, help="of a serial port (default: %(default)s)"
    )
    parser.add_argument(
        "--name", help="the device's name in its group (default: the id of LAVA's job; else 'device')"
    )
    parser.add_argument("--role", help="the device's role (default: that of LAVA's job; else 'device')")
    parser.add_argument(
        "--group", help="the name of the group (default: that of LAVA's job; else the device's name)"
    )
    parser.add_argument(
        "--coordinator",
        metavar="SOCKET",
        help="who answers multi-device commands: the `lavabox coordinator` that listens on this socket; 'lava': LAVA "
        f"itself; 'none': the device is alone (default: in a MultiNode job of LAVA {DEFAULT_SOCKET}, if it exists "
        "and LAVA's coordinator is on this machine, else 'lava'; without such a job 'none')",
    )
    parser.add_argument(
        "--group-log",
        metavar="PLACE",
        help="where the events of the group are written, not with --coordinator: a file, a line of JSON for each event; "
        "or nats://HOST,HOST/LAB, servers that dispatchers on several hosts share",
    )
    groupoptions.add_server_arguments(parser)
    groupoptions.add_members_arguments(parser)
    add_grace(parser)
    parser.add_argument(
        "--signals",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="write what the device reports as LAVA's text signals (default: under LAVA)",
    )


def card(arguments: argparse.Namespace, job: LavaJob | None) -> Card:
    """Who the device is: what the options say, else LAVA's job, else that it is alone. Raises UsageError."""
    name = check_name("device", arguments.name or (job.job_id if job else "device"))
    role = check_name("role", arguments.role or (job.role if job else NO_ROLE))
    group = arguments.group or (job.group if job else None) or name
    return Card(
        group,
        name,
        role,
        console=job.hostname if job else name,
        job=job.job_id if job else f"process {os.getpid()}",
        size=job.size if job and job.group and not arguments.group else None,
    )


def run(arguments: argparse.Namespace) -> int:
    """Be the command; returns its exit status, or does not return at all. Raises UsageError or SetupError."""
    ownterminal.make_raw()
    try:
        status = _run(arguments)
    finally:
        ownterminal.restore()
    if status < 0:
        _die_by(-status)
    return status


def _run(arguments: argparse.Namespace) -> int:
    if bool(arguments.words) == bool(arguments.serial):
        raise UsageError("give a command that reaches the console after --, or a port with --serial")
    if arguments.coordinator not in (None, _ALONE):
        for option in ("group_log", "members", "group_size"):
            if getattr(arguments, option) is not None:
                raise UsageError(f"--{option.replace('_', '-')}: the coordinator keeps the log of the group")
    job = find_job(os.getppid(), os.environ)
    who = card(arguments, job)
    coordinator = _coordinator(arguments, job)
    log = groupoptions.group_log(arguments, who.group)
    founded = groupoptions.founding(arguments)
    if groupoptions.is_shared(arguments) and founded.members is None and founded.size is None:
        founded = Founded(founded.time, founded.identity, size=who.size)
    if arguments.words:
        status = _missing(arguments.words[0])
        if status:
            return status
    _warn_of_drawing(arguments.words)
    console = _console(arguments)
    signals = job is not None if arguments.signals is None else arguments.signals
    try:
        return asyncio.run(_hook(arguments, who, console, coordinator, job, log, founded, signals=signals))
    except GroupLogError as error:
        raise SetupError(f"--group-log: {error}") from error
    finally:
        unwind_when_told_to_end()


def _coordinator(arguments: argparse.Namespace, job: LavaJob | None) -> str:
    """The socket of a coordinator, or _LAVA or _ALONE. Raises UsageError."""
    given: str | None = arguments.coordinator
    multinode = job is not None and job.group is not None
    if given == _LAVA and not multinode:
        raise UsageError("--coordinator lava: this was not started by a MultiNode job of LAVA")
    if given is not None:
        return given
    if not multinode or arguments.group is not None or arguments.group_log is not None:
        return _ALONE
    return DEFAULT_SOCKET if os.path.exists(DEFAULT_SOCKET) and coordinator_is_here() else _LAVA


def _console(arguments: argparse.Namespace) -> Console:
    if arguments.serial is not None:
        if arguments.speed <= 0:
            raise UsageError(f"--speed {arguments.speed}: a speed is a positive number")
        return OneConnection(open_console(arguments.serial, arguments.speed))
    # It finds the terminal that we have found. On pipes it gets one all the same, which changes nothing.
    modes = ownterminal.modes_before()
    return PtyProcess(
        arguments.words[0],
        arguments.words,
        settings=Settings(modes=modes, raw=modes is None),
        size=ownterminal.terminal_size(),
        dies_with_us=True,
    )


async def _hook(
    arguments: argparse.Namespace,
    who: Card,
    console: Console,
    coordinator: str,
    job: LavaJob | None,
    log: GroupLog,
    founded: Founded,
    *,
    signals: bool,
) -> int:
    teller = _Teller()
    randomness = random.SystemRandom()
    async with _group(arguments, who, coordinator, job, teller, log, founded) as group:
        try:
            hook = Hook(
                who.device,
                who.role,
                console,
                group,
                token=lambda: randomness.getrandbits(32),
                signals=signals,
                keys=group.receive_keys if isinstance(group, LavaGroup) else None,
            )
        except ValueError as error:
            raise SetupError(str(error)) from error
        teller.begin(hook.screen)
        return await hook.run()


@contextlib.asynccontextmanager
async def _group(
    arguments: argparse.Namespace,
    who: Card,
    coordinator: str,
    job: LavaJob | None,
    teller: "_Teller",
    log: GroupLog,
    founded: Founded,
) -> AsyncIterator[Membership]:
    """The group of the device, as long as the block lasts."""
    if coordinator not in (_LAVA, _ALONE):
        remote = (RemoteGroup if job is None else _LastingRemote)(coordinator, who, os.urandom(8), teller.say)
        await remote.open()
        try:
            yield remote
        finally:
            await remote.close()
        return
    engine = Engine(os.urandom(8), time.time() - time.monotonic(), Configuration())
    watch = None
    if groupoptions.is_shared(arguments):
        watch = QuietWatch(engine, arguments.grace, fails=False, shared=True)
    observer = WatchedGroup(engine, watch, lambda device, sentence: teller.say(sentence))
    group = observer.group = (Group if job is None else _Lasting)(engine, log, observer, [])
    await group.open(founded)
    try:
        if coordinator == _LAVA and job is not None:
            with contextlib.closing(LavaGroup(job, group, who.device, teller.print_line)) as handed_on:
                yield handed_on
        else:
            yield group
    finally:
        await group.close()
        observer.close()


class _LastingRemote(RemoteGroup):
    """The device stays in its group when its console ends: LAVA often connects again, and tells when its job ends."""

    def detach(self, attachment: Attached, reason: str) -> None:
        """The next hook of the job goes on."""


class _Lasting(Group):
    """The same, where the group is on this host or on servers."""

    def detach(self, attachment: Attached, reason: str) -> None:
        """The next hook of the job goes on."""
        self.release(attachment)


class _Teller:
    """Shows what an operator should see, once there is a screen."""

    def __init__(self) -> None:
        self._early: list[str] = []
        self._screen: Screen | None = None

    def begin(self, screen: Screen) -> None:
        self._screen = screen
        for sentence in self._early:
            screen.notice(sentence)

    def print_line(self, text: str) -> None:
        """A line for LAVA, which comes only when there is a screen."""
        assert self._screen is not None
        self._screen.line(text)

    def say(self, sentence: str) -> None:
        if self._screen is None:
            self._early.append(sentence)
        else:
            self._screen.notice(sentence)


def _missing(program: str) -> int:
    """The exit status for a program that can't be run, told in words; 0 if it can."""
    if shutil.which(program) is not None:
        return 0
    exists = os.path.dirname(program) and os.path.exists(program)
    ownterminal.restore()
    what = "can't be executed" if exists else "there is no such program"
    print(f"lavabox hook: {program}: {what}", file=sys.stderr)
    return 126 if exists else 127


# Programs that draw a terminal of their own: they take frames for something of that, and drop them.
_DRAWING = ("tmux", "screen", "byobu", "dvtm", "zellij", "minicom")


def keeps_frames(words: Sequence[str]) -> str | None:
    """The program of this command that lets no frames through; None if none is known to.

    It may also be one that ssh or a shell is to run.
    """
    # Behind the name of a program, that of a host may stand.
    parts = [part for word in (*words[:1], *words[2:]) for part in word.split()]
    return next((name for name in map(os.path.basename, parts) if name in _DRAWING), None)


def _warn_of_drawing(words: Sequence[str]) -> None:
    program = keeps_frames(words)
    if program is not None:
        instead = (
            "run picocom in its place"
            if program == "minicom"
            else f"run the hook inside of {program}, around what reaches the console"
        )
        print(
            f"lavabox hook: {program} drops the frames of the lava-* commands, which will find no dispatcher; {instead}",
            end="\r\n",
            file=sys.stderr,
            flush=True,
        )


def _die_by(number: int) -> None:
    """End by this signal, as the command did."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
