# SPDX-License-Identifier: MIT
"""Groups by name, each with its log, for members that come from outside of this process.

A group begins when its first member comes, and ends when all of its members have left, when nobody
has asked anything for a day, or when `Groups.end` is called. Who comes then begins a new one. How the members are
reached is not known here: `groupserver` has them behind a unix socket, `lavaserver` behind LAVA's protocol.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from dispatcher.engine import MAX_BYTES, Answer, Engine
from dispatcher.errors import UsageError
from dispatcher.group.configuration import Configuration
from dispatcher.group.events import Event, Founded
from dispatcher.group.wording import command
from dispatcher.grouplog import GroupLog, GroupLogError
from dispatcher.grouplog.file import FileGroupLog
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.host.deadwatch import Watch
from dispatcher.host.group import Group, GroupEndedError
from dispatcher.host.watched import WatchedGroup

# Seconds without a request and without a connection after which a group is ended.
IDLE = 24 * 3600.0
# Seconds before a group whose log can't go on is tried to be begun anew; twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
# Seconds after which a device that says that it has ended has left its group, unless it comes again meanwhile: hooks of
# a console follow each other, and a job of LAVA says so also when a wait has timed out.
LINGER = 10.0
# Seconds between looks at which groups are over.
_TIDY_UP = 1.0
# A device that has used so much of its quota in the group's log is reported; and seconds between looks at that.
NEARLY_FULL = 0.8
_LOOK = 60.0
# Groups at a time.
MAX_GROUPS = 4096
# Devices of a group that came from outside, at a time.
MAX_MEMBERS = 10_000
_SUFFIX = ".jsonl"
# Why a group has ended, as a clause.
_ALL_LEFT = "all of its devices have left"
# Bytes that a file name may have.
_LONGEST_NAME = 255


class GroupLogs:
    """Where the logs of groups lie: in memory, on servers, or as DIRECTORY/NAME.jsonl, those of ended groups in
    DIRECTORY/ended.

    :param shared: makes the logs of groups on servers; raises UsageError for a name that none can have.
    """

    def __init__(self, directory: Path | None, shared: Callable[[str], GroupLog] | None = None) -> None:
        """Raises OSError if the folder can't be made."""
        self._directory = directory
        self._shared = shared
        if directory is not None:
            (directory / "ended").mkdir(parents=True, exist_ok=True)

    def log(self, name: str) -> GroupLog:
        """The log of this group, not yet opened. Raises GroupLogError for a name that none can have."""
        if self._shared is not None:
            try:
                return self._shared(name)
            except UsageError as error:
                raise GroupLogError(str(error)) from None
        return MemoryGroupLog() if self._directory is None else FileGroupLog(self._path(name))

    @property
    def shared(self) -> bool:
        """Whether other hosts have devices in the same groups."""
        return self._shared is not None

    def holds(self, name: str) -> bool:
        """Whether the log of this group is there, as `names` says. Raises GroupLogError as `log` does."""
        return self._directory is not None and self._path(name).exists()

    def names(self) -> list[str]:
        """The groups whose logs are there; on servers they are begun when a device comes to them."""
        if self._directory is None:
            return []
        return sorted(
            unquote(path.name.removesuffix(_SUFFIX)) for path in self._directory.glob(f"*{_SUFFIX}")
        )

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
        self.why = ""  # it leaves then, as a clause
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

    def __init__(self, name: str, group: Group, observer: WatchedGroup, since: float) -> None:
        self.name = name
        self._observer = observer
        self.group = group
        self.engine = group.engine
        self.members: dict[str, Member] = {}
        self.since = since
        self.used = since  # when a member last came or asked
        self.kept = False  # it ends only when it is told to
        self.nearly_full: set[str] = set()  # devices of which that has been told

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

    async def close(self) -> None:
        """Carry out what is left; the log may be opened again."""
        await self.group.close()
        self._observer.close()

    def leave_soon(self, member: Member, why: str, now: float) -> None:
        """The device will probably not send again; `why` is a clause."""
        member.closing, member.why = now + LINGER, why

    def leave(self, member: Member, reason: str) -> None:
        """The device will never send again."""
        if self.members.pop(member.name, None) is not None:
            self.group.detach(member, reason)

    def role(self, device: str) -> str | None:
        """The role of a device that has been in the group; None if it has not."""
        member = self.members.get(device)
        return self.engine.state.role(device) if member is None else member.role

    @property
    def unseen(self) -> Set[str]:
        """The devices of which it is not known here whether they print something: who is not here, LAVA's own."""
        names = {name for name, _ in self.engine.state.coordinator.members}
        seen = self.engine.here - {name for name, member in self.members.items() if not member.connections}
        return names - seen

    @property
    def dead_end(self) -> list[str]:
        """The sentences on the dead end that the group is in; none if that is not known."""
        return self._observer.dead_end

    def status(self, now: float) -> dict[str, Any]:
        """The group as it is now, as JSON can carry it: its devices, and for whom each waits."""
        state = self.engine.state
        coordinator = state.coordinator
        waits: dict[str, list[dict[str, Any]]] = {}
        for wait in coordinator.open_waits():
            waits.setdefault(wait.waiting.device, []).append(
                {
                    "command": command(wait.waiting).strip("`"),
                    "for": wait.missing,
                    "more": wait.more,
                    "seconds": round(max(0.0, self.engine.epoch + now - wait.waiting.time), 1),
                }
            )
        return {
            "name": self.name,
            "awaited": coordinator.awaited,
            "dead_end": self.dead_end,
            "results": state.results.counts._asdict(),
            "events": state.changes,
            "members": [
                {
                    "name": name,
                    "alias": self.members[name].alias if name in self.members else name,
                    "role": role,
                    "left": name in coordinator.gone,
                    "hooks": self.members[name].connections if name in self.members else 0,
                    "log_bytes": state.bytes_of(name),
                    "waits": waits.get(name, []),
                }
                for name, role in coordinator.members
            ],
        }

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
        if self.members or not coordinator.complete:
            return False
        everybody = {name for name, _ in coordinator.members}
        return bool(everybody) and everybody <= coordinator.gone


class Groups:
    """All groups of this process.

    :param notice: is told what an operator should see.
    :param configuration: what the lab says of its devices.
    :param watch: makes what looks for dead ends of a group, by its engine and what returns the devices of which it
        is not known here whether they print something; None: nothing does.
    """

    def __init__(
        self,
        logs: GroupLogs,
        notice: Callable[[str], object],
        configuration: Configuration | None = None,
        watch: Callable[[Engine, Callable[[], Set[str]]], Watch] | None = None,
    ) -> None:
        self.groups: dict[str, HostedGroup] = {}
        # Are called with the name of a group and each event of its log.
        self.readers: list[Callable[[str, Event], object]] = []
        # Are called with a group that one with a new log has replaced, once that one can be joined.
        self.renewed: list[Callable[[HostedGroup], object]] = []
        self._logs = logs
        self._notice = notice
        self._configuration = configuration
        self._watch = watch
        self._looked = 0.0
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def shared(self) -> bool:
        """Whether other hosts have devices in the same groups."""
        return self._logs.shared

    async def open(self) -> None:
        """Open the groups whose logs are there. One that can't be opened is told, and left alone."""
        for name in self._logs.names():
            try:
                await self._get(name, None)
            except GroupEndedError:
                self._put_away_or_tell(name, _ALL_LEFT)
            except (GroupLogError, ValueError) as error:
                self._notice(f"the group {name} can't go on: {error}")

    async def close(self) -> None:
        """Close all groups; those whose logs are in files go on when they are opened again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(hosted.close() for hosted in self.groups.values()))
        self.groups.clear()

    async def get(self, name: str, size: int | None) -> HostedGroup:
        """The group of this name, which begins if there is none that can be joined. Raises GroupLogError or ValueError.

        :param size: how many devices a new group is to have; None: that is not known.
        """
        if (there := self.there(name)) is not None:
            return there
        async with self._lock:
            if (there := self.there(name)) is not None:
                return there
            if name in self.groups:
                if self.shared:
                    # It stays on the servers, to be looked at.
                    raise GroupEndedError
                await self._end(name, _ALL_LEFT)
            try:
                return await self._get(name, size)
            except GroupEndedError:
                if self.shared:
                    raise
                self._put_away(name, _ALL_LEFT)
            return await self._get(name, size)

    def there(self, name: str) -> HostedGroup | None:
        """The group of this name, if there is one that can be joined."""
        hosted = self.groups.get(name)
        return None if hosted is None or hosted.engine.state.coordinator.ended else hosted

    async def _get(self, name: str, size: int | None) -> HostedGroup:
        if len(self.groups) >= MAX_GROUPS:
            raise ValueError(f"there are {MAX_GROUPS} groups; end some of them")
        hosted = self.groups[name] = await self._begin(name, size)
        return hosted

    async def _begin(self, name: str, size: int | None, former: HostedGroup | None = None) -> HostedGroup:
        """Open a group. Raises GroupLogError.

        :param former: a group of this name whose log broke; GroupLogError if it is still the same.
        """
        early: list[Event] | None = None if former is None else []  # until it is known to be another one

        def read(event: Event) -> None:
            if early is not None:
                early.append(event)
                return
            for reader in self.readers:
                reader(name, event)

        engine = Engine(os.urandom(8), time.time() - time.monotonic(), self._configuration)
        watch = None if self._watch is None else self._watch(engine, lambda: hosted.unseen)
        observer = WatchedGroup(
            *(engine, watch),
            lambda device, text: self._tell(name, device, text),
            lambda: self._renew_soon(hosted),
        )
        group = Group(engine, self._logs.log(name), observer, [read])
        hosted = HostedGroup(name, group, observer, asyncio.get_running_loop().time())
        # A log that is there says itself how many there are to be.
        await group.open(Founded(time.time(), os.urandom(8), size=None if self._logs.holds(name) else size))
        observer.group = group
        if former is not None and former.group.number == group.number:
            await hosted.close()
            raise GroupLogError("it is still the same group")
        held, early = early or [], None
        for event in held:
            read(event)
        return hosted

    def _renew_soon(self, hosted: HostedGroup) -> None:
        task = asyncio.get_running_loop().create_task(self._renew(hosted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _renew(self, hosted: HostedGroup) -> None:
        """Begin a group anew whose log is broken, if an operator has removed that log.

        The broken log is not trusted, so the new one has to be another.
        """
        name, founded, pause = hosted.name, hosted.engine.state.founded, FIRST_PAUSE
        while self.groups.get(name) is hosted:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                new = await self._begin(name, None if founded is None else founded.size, hosted)
            except GroupLogError:
                continue
            if self.groups.get(name) is not hosted:
                await new.close()
                return
            new.kept = hosted.kept
            self.groups[name] = new
            self._notice(f"the group {name} begins again")
            for renewed in self.renewed:
                renewed(hosted)
            await hosted.close()

    async def end(self, name: str, reason: str) -> None:
        """End a group; the members that are still there leave it. Raises KeyError if there is none."""
        async with self._lock:
            await self._end(name, reason)

    async def _end(self, name: str, reason: str) -> None:
        hosted = self.groups.pop(name)
        for member in list(hosted.members.values()):
            hosted.leave(member, reason)
        await hosted.close()
        self._put_away_or_tell(name, reason)

    def _put_away(self, name: str, reason: str) -> None:
        """Tell that a group has ended, and put its log, which is closed, out of the way. Raises GroupLogError."""
        self._notice(f"the group {name} has ended: {reason}")
        try:
            self._logs.end(name)
        except OSError as error:
            raise GroupLogError(f"the log of the group {name} can't be archived: {error}") from error

    def _put_away_or_tell(self, name: str, reason: str) -> None:
        try:
            self._put_away(name, reason)
        except GroupLogError as error:
            self._notice(str(error))

    def status(self, now: float) -> list[dict[str, Any]]:
        """The groups as they are now, as JSON can carry it."""
        return [hosted.status(now) for hosted in self.groups.values()]

    async def tidy_up_until(self, stop: asyncio.Event) -> None:
        """Tidy up again and again; returns when the event is set."""
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), _TIDY_UP)
            except TimeoutError:
                await self.tidy_up(asyncio.get_running_loop().time())

    async def tidy_up(self, now: float) -> None:
        """Let members go that have said so, end the groups that are over, and tell of those that grow too large."""
        if now - self._looked >= _LOOK:
            self._looked = now
            for hosted in self.groups.values():
                self._tell_of_shares(hosted)
        for hosted in list(self.groups.values()):
            for member in list(hosted.members.values()):
                if member.closing is not None and member.closing <= now and not member.connections:
                    hosted.leave(member, member.why)
            if hosted.kept:
                continue
            if hosted.over:
                await self.end(hosted.name, _ALL_LEFT)
            elif now - hosted.used > IDLE and not any(m.connections for m in hosted.members.values()):
                await self.end(hosted.name, "nobody has asked anything for a day")

    def _tell(self, name: str, device: str | None, sentence: str) -> None:
        """Say which group, and which device."""
        self._notice(f"{name}: {sentence}" if device is None else f"{name}: {device}: {sentence}")

    def _tell_of_shares(self, hosted: HostedGroup) -> None:
        for name, _ in hosted.engine.state.coordinator.members:
            part = hosted.engine.state.bytes_of(name) / MAX_BYTES
            if part >= NEARLY_FULL and name not in hosted.nearly_full:
                hosted.nearly_full.add(name)
                self._notice(
                    f"{hosted.name}: {name} has used {part:.0%} of what the log of a group may hold of one device; "
                    "its requests are refused when that is all. End the group when a test is over"
                )
