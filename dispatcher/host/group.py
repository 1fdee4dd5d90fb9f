# SPDX-License-Identifier: MIT
"""A group at work on this host: its engine, its log, and the consoles of its devices.

    Attachment --Asked, Cancelled, Found--> Engine --events--> GroupLog
    Attachment <--answers------------------ Engine <--events-- GroupLog

All decisions are the engine's; this carries them out. Work is done once for each turn of the
event loop, for all consoles that brought something in it (`wake`).
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Protocol

from dispatcher.engine import Answer, Engine
from dispatcher.group.events import Event, Founded
from dispatcher.group.results import Case, Counts
from dispatcher.grouplog import GroupLog, GroupLogError
from dispatcher.host.timer import Timer
from dispatcher.line.channel import Asked
from dispatcher.line.session import Request
from dispatcher.line.textsignals import Found


class Attached(Protocol):
    """A device of the group: one whose console is here (`Attachment`), or in another process."""

    @property
    def name(self) -> str:
        """Of the device."""

    def answer(self, answer: Answer, now: float) -> None:
        """Carry an answer to the device."""

    def flush(self, now: float) -> None:
        """All that this turn of the loop brought is carried out."""


# Events after which what was kept of them is taken out of the garbage collector's sight. It is there for good,
# and to look through the state of a million events would hold up all consoles for a second.
SETTLE_AFTER = 20_000
# Events that a log brings when it is opened, after which the results among them are told.
TELL_AFTER = 100


class GroupEndedError(GroupLogError):
    """The group has ended: all devices that were to come have come, and have left."""

    def __init__(self) -> None:
        super().__init__("the group has ended, and nobody can join it any more; begin a new one")


class Observer(Protocol):
    """Watches a group: a display, a status page."""

    def result(self, case: Case, counts: Counts) -> None:
        """A result has come; `counts` are all results so far."""

    def notice(self, device: str | None, sentence: str) -> None:
        """Something that an operator should see, about a device or about the group."""

    def turned(self, now: float) -> None:
        """What this turn of the loop brought has been carried out."""

    def broken(self, error: GroupLogError) -> None:
        """The group's log can't go on: all requests of the group end with status 75 from now on."""


class Group:
    """A group; call `open` first, then attach consoles to it.

    :param readers: are given each event of the log that is new and can be in it there, after the engine.
    """

    def __init__(
        self, engine: Engine, log: GroupLog, observer: Observer, readers: list[Callable[[Event], object]]
    ) -> None:
        self.engine = engine
        self._log = log
        self._observer = observer
        self._readers = readers
        self._attachments: dict[str, Attached] = {}
        self._touched: set[Attached] = set()
        self._awake = False
        self._opening = False
        self._unsettled = 0  # events
        self._timer = Timer(self._handle_timeout)

    async def open(self, founded: Founded) -> None:
        """Open the log and take what it holds. Raises GroupLogError, GroupEndedError where nobody can join any more.

        :param founded: how the group begins, if its log is new.
        """
        self._loop = asyncio.get_running_loop()
        # What a replay makes is kept, so there is nothing to collect.
        collects, self._opening = gc.isenabled(), True
        gc.disable()
        try:
            await self._log.open(
                founded, self._receive_event, self._append_failed, self._notice, self._broken
            )
        finally:
            self._opening = False
            if collects:
                gc.enable()
        if self._unsettled >= SETTLE_AFTER:
            self._unsettled = 0
            gc.freeze()
        if self.engine.state.coordinator.ended:
            await self._log.close()
            raise GroupEndedError
        self._turn()

    async def close(self) -> None:
        """Carry out what is left, and close the log."""
        self._turn()
        self._timer.cancel()
        await self._log.close()

    @property
    def number(self) -> int:
        """32 bits that name the group and its log."""
        return self.engine.state.number

    def attach(self, attachment: Attached, role: str) -> None:
        """A device's console is here. Raises ValueError, with a sentence, if the device can't join.

        :param role: of the device.
        """
        self.engine.join(attachment.name, role, self._loop.time())
        self._attachments[attachment.name] = attachment
        self.wake(attachment)

    def detach(self, attachment: Attached, reason: str) -> None:
        """The device will never send again; `reason` is a clause."""
        if self._attachments.pop(attachment.name, None) is not None:
            self.engine.leave(attachment.name, reason, self._loop.time())
            self.wake()

    def release(self, attachment: Attached) -> None:
        """The device's console is not here any more, for a while: the device stays in the group."""
        if self._attachments.pop(attachment.name, None) is not None:
            self.engine.release(attachment.name)
            self._touched.discard(attachment)

    def lose(self, attachment: Attached, reason: str, *, boots: bool = False) -> None:
        """There is no connection to the device, or it boots; `reason` is a clause."""
        self.engine.lose(attachment.name, reason, self._loop.time(), boots=boots)
        self.wake()

    def regain(self, attachment: Attached) -> None:
        """There is a connection again."""
        self.engine.regain(attachment.name, self._loop.time())
        self.wake()

    def reboot(self, attachment: Attached, reason: str) -> None:
        """None of the device's commands is there any more; `reason` is a clause."""
        self.engine.reboot(attachment.name, reason, self._loop.time())
        self.wake()

    def request(self, device: str, asked: Asked, now: float) -> None:
        """Carry out what the device asks for; `Attachment.answer` follows."""
        self.engine.request(
            device, asked.request, asked.identity, asked.operation, asked.arguments, asked.position, now
        )

    def cancel(self, request: Request, reason: str, now: float) -> None:
        """Nobody waits for this answer any more."""
        self.engine.cancel(request, reason, now)

    def report(self, device: str, found: Found, now: float) -> None:
        """Note what the device reports by text."""
        self.engine.report(device, found.kind, found.fields, found.offset, now)

    def hear(self, now: float) -> None:
        """A device has printed something."""
        self.engine.heard = now

    def wake(self, attachment: Attached | None = None) -> None:
        """Something has happened: carry it out in this turn of the loop.

        :param attachment: where there may be something to type.
        """
        if attachment is not None:
            self._touched.add(attachment)
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._awake = False
        while events := self.engine.events_to_append():
            for event in events:
                self._log.append(event)
        now = self._loop.time()
        for answer in self.engine.answers():
            attachment = self._attachments.get(answer.device)
            if attachment is not None:
                attachment.answer(answer, now)
                self._touched.add(attachment)
        touched, self._touched = self._touched, set()
        for attachment in touched:
            attachment.flush(now)
        self._tell_results()
        for device, sentence in self.engine.notices():
            self._observer.notice(device, sentence)
        self._timer.set(self.engine.next_timeout())
        self._observer.turned(now)

    def _tell_results(self) -> None:
        for case, counts in self.engine.new_results():
            self._observer.result(case, counts)

    def _receive_event(self, event: Event) -> None:
        state = self.engine.state
        changes = state.changes
        self.engine.receive_event(event, self._loop.time())
        if state.changes != changes:
            for reader in self._readers:
                reader(event)
        self._unsettled += 1
        if self._opening:
            if not self._unsettled % TELL_AFTER:
                # There may be a million: they are not to gather.
                self._tell_results()
            return
        if self._unsettled >= SETTLE_AFTER:
            self._unsettled = 0
            gc.collect()
            gc.freeze()
        self.wake()

    def _append_failed(self, identity: bytes, reason: str, *, may_come: bool = False) -> None:
        self.engine.append_failed(identity, reason, self._loop.time(), may_come=may_come)
        self.wake()

    def _broken(self, error: GroupLogError) -> None:
        self.engine.break_off(str(error))
        self._observer.broken(error)
        self.wake()

    def _notice(self, sentence: str) -> None:
        self._observer.notice(None, sentence)

    def _handle_timeout(self) -> None:
        self.engine.handle_timeout(self._loop.time())
        self.wake()
