# SPDX-License-Identifier: MIT
"""Groups by name, each with its log, for members that come from outside of this process.

A group begins when its first member comes, and ends when all of its members have left, when nobody
has asked anything for a day, or when `Groups.end` is called. Who the members are reached by is of no concern here:
`groupserver` has them behind a unix socket, `lavashell` behind LAVA's protocol.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

from dispatcher.engine import Answer, Engine
from dispatcher.group.configuration import Configuration
from dispatcher.group.events import Event, Founded
from dispatcher.group.results import Case, Counts
from dispatcher.grouplog import GroupLog, GroupLogError
from dispatcher.grouplog.file import FileGroupLog
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.host.group import Group

# Seconds without a request and without a connection after which a group is ended.
IDLE = 24 * 3600.0
# Groups at a time.
MAX_GROUPS = 4096
# Devices of a group that came from outside, at a time.
MAX_MEMBERS = 10_000
_SUFFIX = ".jsonl"
# Bytes that a file name may have.
_LONGEST_NAME = 255


class GroupLogs:
    """Where the logs of groups lie: in memory, or as DIRECTORY/NAME.jsonl; those of ended groups in DIRECTORY/ended."""

    def __init__(self, directory: Path | None) -> None:
        """Raises OSError if the folder can't be made."""
        self._directory = directory
        if directory is not None:
            (directory / "ended").mkdir(parents=True, exist_ok=True)

    def log(self, name: str) -> GroupLog:
        """The log of this group, not yet opened. Raises GroupLogError for a name that no file can have."""
        return MemoryGroupLog() if self._directory is None else FileGroupLog(self._path(name))

    def names(self) -> list[str]:
        """The groups whose logs are there."""
        if self._directory is None:
            return []
        return sorted(
            unquote(path.name.removesuffix(_SUFFIX)) for path in self._directory.glob(f"*{_SUFFIX}")
        )

    def file(self, name: str) -> Path | None:
        """The file of this group's log; None where it has none."""
        return None if self._directory is None else self._path(name)

    def end(self, name: str) -> None:
        """Put the log of an ended group, which is closed, out of the way. Raises OSError."""
        if self._directory is None:
            return
        path = self._path(name)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        target = self._directory / "ended" / f"{stamp}-{os.urandom(4).hex()}-{path.name}"
        path.rename(target.with_name(target.name[-_LONGEST_NAME:]))

    def _path(self, name: str) -> Path:
        assert self._directory is not None
        file_name = quote(name, safe="") + _SUFFIX
        if len(file_name) > _LONGEST_NAME or file_name.startswith("."):
            raise GroupLogError(f"no log can be called after the group {name!r:.40}; give it another name")
        return self._directory / file_name


class Member:
    """A device of a group. `answered` is called with each answer to what was asked in its name.

    :param alias: what a person calls it; under LAVA its host name, where its name is the id of a job.
    """

    def __init__(self, hosted: HostedGroup, name: str, role: str, alias: str) -> None:
        self.hosted = hosted
        self.name = name
        self.role = role
        self.alias = alias
        self.connections = 0  # those that are open
        self.console = ""  # where they come from
        self.closing: float | None = None  # when it leaves, if nothing more comes of it
        self._flushed: list[Callable[[], object]] = []

    def answer(self, answer: Answer, now: float) -> None:
        """Pass an answer on to whoever asked: what was given to the engine as the request is called with it."""
        request = answer.request
        assert callable(request)
        request(answer.reply)

    def after_turn(self, callback: Callable[[], object]) -> None:
        """Call it once what happened in this turn of the loop is carried out."""
        self._flushed.append(callback)
        self.hosted.group.wake(self)

    def flush(self, now: float) -> None:
        """This turn of the loop is carried out."""
        callbacks, self._flushed = self._flushed, []
        for callback in callbacks:
            callback()


class HostedGroup:
    """A group, and the members that have come to it here."""

    def __init__(self, name: str, group: Group, since: float) -> None:
        self.name = name
        self.group = group
        self.engine = group.engine
        self.members: dict[str, Member] = {}
        self.since = since
        self.used = since  # when a member last came or asked
        self.kept = False  # it ends only when it is told to

    def member(self, device: str, role: str, alias: str, now: float) -> Member:
        """The device, which joins if it has not. Raises ValueError, with a sentence, if it can't."""
        self.used = now
        member = self.members.get(device)
        if member is None:
            if len(self.members) >= MAX_MEMBERS:
                raise ValueError(f"the group has {MAX_MEMBERS} devices already")
            member = Member(self, device, role, alias)
            self.group.attach(member, role)
            self.members[device] = member
        elif role != member.role:
            raise ValueError(f"{device} has the role {member.role!r} in this group, not {role!r:.80}")
        member.closing = None
        if alias != device:
            member.alias = alias
        return member

    def leave(self, member: Member, reason: str) -> None:
        """The device will never send again."""
        if self.members.pop(member.name, None) is not None:
            self.group.detach(member, reason)

    def role(self, device: str) -> str | None:
        """The role of a device that has been in the group; None if it has not."""
        member = self.members.get(device)
        return self.engine.state.role(device) if member is None else member.role

    @property
    def all_done(self) -> bool:
        """Whether all devices that were to come have come, and have said that they have ended."""
        return (
            not self.kept
            and self.engine.state.coordinator.complete
            and all(member.closing is not None and not member.connections for member in self.members.values())
        )

    @property
    def over(self) -> bool:
        """Whether all devices that were to come have come, and have left."""
        coordinator = self.engine.state.coordinator
        everybody = {name for name, _ in coordinator.members}
        return not self.members and coordinator.complete and bool(everybody) and everybody <= coordinator.gone


class Groups:
    """All groups of this process.

    :param notice: is told what an operator should see.
    :param configuration: what the lab says of its devices.
    """

    def __init__(
        self,
        logs: GroupLogs,
        notice: Callable[[str], object],
        configuration: Configuration | None = None,
    ) -> None:
        self.groups: dict[str, HostedGroup] = {}
        self.readers: list[Callable[[str, Event], object]] = []
        self._logs = logs
        self._notice = notice
        self._configuration = configuration
        self._lock = asyncio.Lock()

    def log_file(self, name: str) -> Path | None:
        """The file of a group's log; None if there is no such group, or its log is in memory."""
        return self._logs.file(name) if name in self.groups else None

    async def open(self) -> None:
        """Open the groups whose logs are there. One that can't be opened is told, and left alone."""
        for name in self._logs.names():
            try:
                await self.get(name, None)
            except (GroupLogError, ValueError) as error:
                self._notice(f"the group {name} can't go on: {error}")

    async def close(self) -> None:
        """Close all groups; those whose logs are in files go on when they are opened again."""
        for hosted in self.groups.values():
            await hosted.group.close()
        self.groups.clear()

    async def get(self, name: str, size: int | None) -> HostedGroup:
        """The group of this name, which begins if there is none. Raises GroupLogError or ValueError.

        :param size: how many devices a new group is to have; None: that is not known.
        """
        async with self._lock:
            hosted = self.groups.get(name)
            if hosted is None:
                if len(self.groups) >= MAX_GROUPS:
                    raise ValueError(f"there are {MAX_GROUPS} groups; end some of them")
                hosted = await self._begin(name, size)
                self.groups[name] = hosted
            return hosted

    async def _begin(self, name: str, size: int | None) -> HostedGroup:
        engine = Engine(os.urandom(8), time.time() - time.monotonic(), self._configuration)
        observer = _Observer(name, self._notice)
        group = Group(
            engine,
            self._logs.log(name),
            observer,
            [lambda event: [reader(name, event) for reader in self.readers]],
        )
        # A log that is there says itself how many there are to be.
        await group.open(Founded(time.time(), os.urandom(8), size=None if self._holds(name) else size))
        return HostedGroup(name, group, asyncio.get_running_loop().time())

    def _holds(self, name: str) -> bool:
        return name in self._logs.names()

    async def end(self, name: str, reason: str) -> None:
        """End a group; the members that are still there leave it. Raises KeyError if there is none."""
        async with self._lock:
            hosted = self.groups.pop(name)
            for member in list(hosted.members.values()):
                hosted.leave(member, reason)
            await hosted.group.close()
            self._notice(f"the group {name} has ended: {reason}")
            try:
                self._logs.end(name)
            except OSError as error:
                self._notice(f"the log of the group {name} can't be put away: {error}")

    async def tidy_up(self, now: float) -> None:
        """Let members go that have said so, and end the groups that are over."""
        for hosted in list(self.groups.values()):
            for member in list(hosted.members.values()):
                if member.closing is not None and member.closing <= now and not member.connections:
                    hosted.leave(member, "has ended its job")
            if hosted.kept:
                continue
            if hosted.over:
                await self.end(hosted.name, "all of its devices have left")
            elif now - hosted.used > IDLE and not any(m.connections for m in hosted.members.values()):
                await self.end(hosted.name, "nobody has asked anything for a day")


class _Observer:
    """Hands on what a group has to say."""

    def __init__(self, name: str, notice: Callable[[str], object]) -> None:
        self._name = name
        self._notice = notice

    def result(self, case: Case, counts: Counts) -> None:
        """Results are in the log."""

    def notice(self, device: str | None, sentence: str) -> None:
        """Say which group, and which device."""
        self._notice(f"{self._name}: {sentence}" if device is None else f"{self._name}: {device}: {sentence}")

    def turned(self, now: float) -> None:
        """Nothing is shown."""
