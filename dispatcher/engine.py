# SPDX-License-Identifier: MIT
"""The engine: one group as one host sees it.

    request --> OPERATIONS --> answer
                           --> event --> events_to_append --> the group log
    the group log --> receive_event --> GroupState --> outcomes --> answers

It does no I/O and knows no clock. What comes from a console is given to `request`, `cancel` and
`report`; what comes out of the log, also by the hand of other hosts, to `receive_event`, which is
the only place where a request that adds an event is answered. After every call, the caller takes
what has come of it: `events_to_append`, `answers`, `new_results`, `notices`.

What a request may ask for stands in group/operations.py.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from dispatcher.group.appends import Appends
from dispatcher.group.configuration import Configuration
from dispatcher.group.coordinator import Outcome
from dispatcher.group.deadend import DEAD_END, DeadEnd, find, too_large
from dispatcher.group.events import (
    Asked,
    Ended,
    Event,
    Joined,
    Left,
    Lost,
    Released,
    Reported,
    Resting,
    Sent,
    Taken,
    Unlocked,
    Waiting,
    WaitKind,
    readable,
)
from dispatcher.group.misuse import Calls, Repetitions
from dispatcher.group.operations import OPERATIONS, Call
from dispatcher.group.results import Case, Counts
from dispatcher.group.state import Change, GroupState, size
from dispatcher.group.wording import command, duration, shown
from toolkit.wire.vocabulary import (
    INTERRUPTED,
    LINK_FAILED,
    MAX_REPLY,
    NO,
    OK,
    USAGE,
    ProtocolError,
    pack_reply,
)

# Bytes that one device may put into the group's log, which is kept for the life of its group.
MAX_BYTES = 256 * 1024 * 1024
# Seconds after which a wait that no command asks for any more, or what a command got and has not taken, is
# given up: as long as a command that is there may be without its link, once before the answer and once after it.
ABANDONED = 120.0
# The same for what a command got, where another one waits for that: mostly the first one was killed with its agent.
IMPATIENT = 10.0
# Malformed signals that are shown of each device; all are counted.
MAX_MALFORMED_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said to a request: its packed reply, or None: it is recorded, and the reply will follow."""

    device: str
    request: object
    reply: bytes | None


@dataclass(slots=True)
class _Device:
    """A device whose console is here."""

    role: str
    full: bool = False  # whether the operator knows that its share of the log is used up
    malformed: int = 0
    lost: bool = False  # there is no connection, or it may boot, and the log says so
    calls: Calls = field(default_factory=Calls)


@dataclass(frozen=True, slots=True)
class _Waiter:
    """Who is to be told how a request ended; several when it came over several links."""

    device: str
    request: object
    event: Asked


@dataclass(slots=True)
class _Waiters:
    of_request: dict[bytes, list[_Waiter]] = field(default_factory=dict)
    by_handle: dict[object, bytes] = field(default_factory=dict)

    def add(self, waiter: _Waiter) -> None:
        self.of_request.setdefault(waiter.event.identity, []).append(waiter)
        self.by_handle[waiter.request] = waiter.event.identity

    def take(self, identity: bytes) -> list[_Waiter]:
        waiters = self.of_request.pop(identity, [])
        for waiter in waiters:
            del self.by_handle[waiter.request]
        return waiters

    def forget(self, device: str) -> None:
        """Tell nothing to this device any more."""
        for identity, waiters in list(self.of_request.items()):
            if any(waiter.device == device for waiter in waiters):
                for waiter in self.take(identity):
                    if waiter.device != device:
                        self.add(waiter)

    def drop(self, request: object) -> bytes | None:
        """Forget one; returns the identity of what it asked for if nobody else waits for that."""
        identity = self.by_handle.pop(request, None)
        if identity is None:
            return None
        rest = [waiter for waiter in self.of_request[identity] if waiter.request is not request]
        if rest:
            self.of_request[identity] = rest
            return None
        del self.of_request[identity]
        return identity


class Engine:
    """One group.

    :param host: 8 random bytes, other ones each time: they make the identities of this host's own events.
    :param epoch: what to add to `now` to get the time that stands in the log.
    :param configuration: of the devices.
    """

    def __init__(self, host: bytes, epoch: float = 0.0, configuration: Configuration | None = None) -> None:
        self.epoch = epoch
        self.configuration = configuration or Configuration()
        self.state = GroupState()
        self.dead_ends: Counter[str] = Counter()  # waits of devices that are here that ended so
        self.heard = 0.0  # when a device last did something other than to ask whether its wait is over
        self._host = host
        self._counter = 0
        self._devices: dict[str, _Device] = {}
        self._waiters = _Waiters()
        self._borrowers = _Waiters()  # who was told of a message or lock, and has not taken it yet
        self._held: list[tuple[object, Call]] = []  # what waits until devices have joined
        self._notices: list[tuple[str | None, str]] = []
        tell = self._notices.append
        # (No reference back to the engine: what has been frozen, and stands in a circle, would never be freed.)
        self._appends = Appends(host, self.state.coordinator.joined, lambda sentence: tell((None, sentence)))
        # Waits on their way into the log that nobody waits for any more, and why.
        self._given_up: dict[bytes, str] = {}
        self._told_too_large = False
        self._broken = ""  # why the log can't go on, as a sentence
        self._at_work = False  # something was asked or appended here; until then all events are of the past
        self._time_outs: list[tuple[float, bytes]] = []
        self._borrowed: dict[bytes, float] = {}  # what was lent, and the seconds that it got to be taken
        self._doubts: list[tuple[float, bytes]] = []  # waits that may be given up then
        self._answers: list[Answer] = []
        self._new_results: list[tuple[Case, Counts]] = []
        self._repetitions = Repetitions()

    # -- devices -------------------------------------------------------------------------------

    def join(self, device: str, role: str, now: float) -> None:
        """A device's console is here.

        Raises ValueError, with a sentence, if it is already, or if the group knows the device with another role.
        """
        if device in self._devices:
            raise ValueError(f"{device} is in the group already")
        known = self.state.role(device)
        if known not in (None, role):
            raise ValueError(
                f"{device} has the role {shown(known or '')!r} in this group, not {shown(role)!r}"
            )
        founded = self.state.founded
        if known is None and founded is not None and founded.members is not None:
            raise ValueError(f"{device} is not one of the declared members of the group")
        self._devices[device] = _Device(role)
        self._append_joined(device, now)
        coordinator = self.state.coordinator
        for wait in coordinator.waits_of(device):
            # Of an earlier run of this host, which kept their time.
            self._watch_time(wait, now)
            self._doubt(wait.identity, now, ABANDONED)
        self._doubt_lent(now)

    def leave(self, device: str, reason: str, now: float) -> None:
        """The device will never send again: its script has ended, or it is dead."""
        del self._devices[device]
        self._drop_held(device)
        self._append(Left(self.epoch + now, device, self._identity(), reason), now)

    def release(self, device: str) -> None:
        """The device's console is not here any more, for a while: its waits go on, and its commands ask again."""
        del self._devices[device]
        self._drop_held(device)
        self._waiters.forget(device)
        self._borrowers.forget(device)

    def reboot(self, device: str, reason: str, now: float) -> None:
        """None of the device's commands is there any more; `reason` is a clause."""
        self._drop_held(device)
        coordinator = self.state.coordinator
        ending = {event.request for event in self._appends.pending if isinstance(event, Released)}
        lent = [wait for wait in coordinator.lent() if wait.device == device]
        for wait in (*coordinator.waits_of(device), *lent):
            if wait.identity not in ending:
                self._release(wait.identity, INTERRUPTED, reason, now)
        for claim in coordinator.claims_of_commands(device):
            # Its COMMAND has ended with all others.
            time, name = self.epoch + now, claim.message_id
            self._append(Unlocked(time, device, self._identity(), name, claim.identity), now)
        for event in self._appends.pending:
            if isinstance(event, Waiting) and event.device == device:
                self._given_up[event.identity] = reason

    def lose(self, device: str, reason: str, now: float, *, boots: bool = False) -> None:
        """There is no connection to the device's console, or it shows that the device boots; `reason` is a clause."""
        if device in self._devices:
            self._devices[device].lost = True
            self._append(Lost(self.epoch + now, device, self._identity(), reason, boots), now)

    def regain(self, device: str, now: float) -> None:
        """There is a connection again, or the device has not booted."""
        of_device = self._devices.get(device)
        if of_device is not None and of_device.lost:
            of_device.lost = False
            self._append_joined(device, now)

    def request(
        self,
        device: str,
        request: object,
        identity: bytes,
        operation: str,
        arguments: list[Any],
        position: int,
        now: float,
    ) -> None:
        """Carry out what a device asks for, once however often it does.

        :param request: what `answers` is to give back with the answer.
        :param identity: the 8 bytes that the command made up.
        :param position: in the device's console log, in bytes.
        """
        self._at_work = True
        self.heard = now
        if self._broken:
            self._answers.append(Answer(device, request, pack_reply(LINK_FAILED, self._broken)))
            return
        self.regain(device, now)
        # The name makes sure that no device can answer for, or suppress, another's request.
        key = identity + device.encode()
        call = Call(device, key, operation, arguments, self.epoch + now, position, self.configuration)
        self._carry_out(request, call, now)

    def cancel(self, request: object, reason: str, now: float) -> None:
        """Nobody waits for the answer to this request any more, or has taken what the answer gave."""
        self._held = [held for held in self._held if held[0] is not request]
        identity = self._waiters.drop(request) or self._borrowers.drop(request)
        if identity is None:
            return
        if self._appends.is_pending(identity):
            # Not before it is in the log: what comes too early there does nothing.
            self._given_up[identity] = reason
        elif self._ends_by_release(identity):
            self._release(identity, INTERRUPTED, reason, now)

    def report(
        self,
        device: str,
        kind: str,
        fields: tuple[str | None, ...],
        position: int,
        now: float,
        identity: bytes | None = None,
    ) -> None:
        """Note what a device reports by text signals, which nobody answers. Raises ValueError.

        :param identity: of the event, where it may be reported again; None: it is new.
        """
        identity = identity or self._identity()
        event = Reported(self.epoch + now, device, identity, kind, fields, position)
        if self.state.known(identity) or identity in self._appends:
            return
        of_device = self._devices.get(device) or _Device("")
        try:
            self._check_share(event)
        except ProtocolError as error:
            if not of_device.full:
                of_device.full = True
                self._notices.append((device, f"{error}; its text signals are ignored"))
            return
        self._append(event, now)
        if kind == "malformed":
            self._complain(device, of_device, fields)

    def _complain(self, name: str, device: _Device, fields: tuple[str | None, ...]) -> None:
        device.malformed += 1
        if device.malformed <= MAX_MALFORMED_SHOWN:
            text, reason = fields[:2]
            self._notices.append((name, f"malformed signal '{readable(text or '')}': {reason}"))
        elif device.malformed == MAX_MALFORMED_SHOWN + 1:
            self._notices.append((name, "more malformed signals are counted, not shown"))

    # -- what is to be done --------------------------------------------------------------------

    def events_to_append(self) -> list[Event]:
        """What to append to the group log, in this order. Each comes back by `receive_event` or `append_failed`."""
        return self._appends.take()

    def answers(self) -> list[Answer]:
        """Answers to requests."""
        answers, self._answers = self._answers, []
        return answers

    def new_results(self) -> list[tuple[Case, Counts]]:
        """The results that have come since the last call, and how many there were then."""
        results, self._new_results = self._new_results, []
        return results

    def notices(self) -> list[tuple[str | None, str]]:
        """What an operator should see, as `(device, sentence)`; None: it is about the group."""
        notices = self._notices[:]
        self._notices.clear()
        return notices

    # -- the log -------------------------------------------------------------------------------

    def receive_event(self, event: Event, now: float) -> None:
        """Take the next event of the log, one's own or another host's.

        Those that were in the log when it was opened come before any device has joined here.
        """
        if not self._at_work:
            self._apply(event, now, ours=False)
            return
        ours = self._appends.came(event.identity)
        given_up = self._given_up.pop(event.identity, None)
        here = getattr(event, "device", None) in self._devices
        coordinator = self.state.coordinator
        was_complete = coordinator.complete
        if isinstance(event, Waiting | Sent | Joined) and not self.state.known(event.identity):
            self._warn(event, here, ours)
        change = self._apply(event, now, ours)
        if change is None:
            return
        if here and isinstance(event, Waiting):
            self._watch_time(event, now)
        for identity in change.ended:
            self._answer_waiters(identity)
        self._settle_loans(event, now)
        self._answer_waiters(event.identity)
        if given_up is not None and self._ends_by_release(event.identity):
            self._release(event.identity, INTERRUPTED, given_up, now)
        if isinstance(event, Left):
            if here:
                # It has come again, or here from another host, whose last word of it is late.
                self._append_joined(event.device, now)
            elif ours and self.state.coordinator.abandoned and self.state.founded is not None:
                # Whoever else sees that appends the same.
                self._append(Ended(self.epoch + now, b"ended" + self.state.founded.identity), now)
        if isinstance(event, Joined):
            for one in self._appends.early():
                if not self._is_over(one):
                    self._append(one, now)
        if self._held and isinstance(event, Joined) and (here or not was_complete):
            held, self._held = self._held, []
            for request, call in held:
                self._carry_out(request, call, now)

    def _apply(self, event: Event, now: float, ours: bool) -> Change | None:
        """Fold the event, and tell of what came of it; returns None for one that can't be in a log there."""
        try:
            change = self.state.apply(event)
        except ValueError as error:
            sentence = f"ignored an invalid event of the group log: {error}"
            self._notices.append((None, sentence))
            self._fail_waiters(event.identity, sentence)
            return None
        if type(event) is not Resting:
            self.heard = now
        self._tell(event, change, ours)
        return change

    def append_failed(self, identity: bytes, reason: str, now: float, *, may_come: bool = False) -> None:
        """An event of `events_to_append` is not in the log, as far as is known.

        What a command waits for ends with status 75; everything else is tried again.

        :param reason: a clause that says what happened.
        :param may_come: whether it may come out of the log all the same, later.
        """
        event = self._appends.fail(identity)
        if event is None:
            return
        self._given_up.pop(identity, None)
        if self._broken:
            return
        sentence = f"the dispatcher could not write it to the group log: {reason}"
        if may_come and isinstance(event, Waiting):
            # Nobody will wait there any more.
            self._given_up[identity] = sentence
        waited_for = self._fail_waiters(identity, sentence)
        if isinstance(event, Joined | Left) and self._is_on_its_way(event.device):
            self._fail_held(sentence, event.device)
        self._appends.note_outage(reason)
        if not waited_for and not self._appends.comes_again(event) and not self._is_over(event):
            self._appends.keep(event, now)

    def break_off(self, sentence: str) -> None:
        """The log can't go on: what is asked, and what comes, ends with status 75 and this sentence."""
        self._broken = sentence
        self._fail_held(sentence)
        for identity in list(self._waiters.of_request):
            self._fail_waiters(identity, sentence)

    # -- time ----------------------------------------------------------------------------------

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        times = [heap[0][0] for heap in (self._time_outs, self._doubts) if heap]
        if self._appends.retry_at is not None:
            times.append(self._appends.retry_at)
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        """Let waits end whose time is over, and append again what could not be appended."""
        for event in self._appends.due(now):
            self._append(event, now)
        while self._time_outs and self._time_outs[0][0] <= now:
            _, request = heapq.heappop(self._time_outs)
            if self.state.coordinator.wait(request) is not None:
                self._release(
                    request, NO, f"timed out waiting for {self.state.coordinator.unmet(request)}", now
                )

        while self._doubts and self._doubts[0][0] <= now:
            _, request = heapq.heappop(self._doubts)
            asked_for = request in self._waiters.of_request
            if self.state.coordinator.lends(request) or (
                self.state.coordinator.wait(request) is not None and not asked_for
            ):
                self._release(request, INTERRUPTED, "its command has stopped asking", now)

    # -- dead ends -----------------------------------------------------------------------------

    def judges(self) -> bool:
        """Whether dead ends are looked for in this group; the operator is told once that they are not."""
        reason = too_large(self.state.coordinator)
        if reason and not self._told_too_large:
            self._told_too_large = True
            self._notices.append((None, f"no dead ends are looked for in the group: {reason}"))
        return not reason

    def find_dead_end(self, idle: Iterable[str], now: float) -> DeadEnd | None:
        """The dead end that the group is in, if it is in one; `idle` are devices that do nothing but wait."""
        return find(self.state.coordinator, idle, self.epoch + now)

    @property
    def here(self) -> Set[str]:
        """The devices whose consoles are here."""
        return self._devices.keys()

    def rest(self, waits: Iterable[Waiting], doubt: str, now: float) -> None:
        """Tell other hosts that the devices which have these waits open do nothing else; see `Resting`."""
        if not any(isinstance(event, Resting) for event in self._appends.pending):
            requests = tuple(wait.identity for wait in waits)
            self._append(Resting(self.epoch + now, self._identity(), requests, doubt), now)

    def fail(self, dead_end: DeadEnd, now: float) -> None:
        """End the waits of a dead end with status 1."""
        for request, reason in dead_end.reasons.items():
            if self.state.coordinator.wait(request) is not None:
                self._release(request, NO, DEAD_END + reason, now)

    def end_waits(self, device: str, status: int, reason: str, now: float) -> None:
        """End all open waits of this device: NO if its time is over, INTERRUPTED if it is stopped otherwise."""
        for wait in self.state.coordinator.waits_of(device):
            self._release(wait.identity, status, reason, now)

    # -- inside --------------------------------------------------------------------------------

    def _append_joined(self, device: str, now: float) -> None:
        if self._appends.is_leaving(device):
            return  # this is called again when its `Left` is in the log
        role = self._devices[device].role
        self._append(Joined(self.epoch + now, device, self._identity(), role), now)

    def _drop_held(self, device: str) -> None:
        self._held = [(request, call) for request, call in self._held if call.device != device]

    def _fail_held(self, sentence: str, device: str | None = None) -> None:
        """Tell the requests that are held, of this device or of all, that they are not in the log."""
        held, self._held = self._held, []
        for request, call in held:
            if device in (None, call.device):
                self._answers.append(Answer(call.device, request, pack_reply(LINK_FAILED, sentence)))
            else:
                self._held.append((request, call))

    def _is_on_its_way(self, device: str) -> bool:
        """Whether the device's `Joined` is still to come, which nothing of it may overtake."""
        return not self.state.coordinator.joined(device) or self._appends.is_leaving(device)

    def _carry_out(self, request: object, call: Call, now: float) -> None:
        if self._is_on_its_way(call.device):
            self._held.append((request, call))
            return
        try:
            handler = OPERATIONS.get(call.operation)
            if handler is None:
                raise ProtocolError(f"this dispatcher knows no operation {call.operation[:40]!r}")
            done = handler(self.state, call)
            if not isinstance(done, bytes | None) and not self.state.known(done.identity):
                self._check_share(done)
        except ProtocolError as error:
            reply = pack_reply(USAGE, f"the dispatcher refused the request: {error}")
            self._answers.append(Answer(call.device, request, reply))
            return
        if done is None:
            self._held.append((request, call))
        if isinstance(done, bytes | None):
            self._answers.append(Answer(call.device, request, done))
            return
        self._waiters.add(_Waiter(call.device, request, done))
        self._given_up.pop(done.identity, None)
        if self.state.known(done.identity):
            self._answer_waiters(done.identity)
        elif done.identity not in self._appends:
            self._append(done, now)

    def _answer_waiters(self, identity: bytes) -> None:
        """Tell those that wait for this request how it ended, or that it is noted."""
        if identity not in self._waiters.of_request:
            return
        outcome = self.state.coordinator.outcome(identity)
        if outcome is None:
            waiters = self._waiters.of_request.get(identity, ())
            self._answers += (Answer(waiter.device, waiter.request, None) for waiter in waiters)
            return
        for waiter in self._waiters.take(identity):
            self._answers.append(Answer(waiter.device, waiter.request, self._reply(waiter, outcome)))
            if self.state.coordinator.lends(identity):
                self._borrowers.add(waiter)

    def _fail_waiters(self, identity: bytes, sentence: str) -> bool:
        """Tell those that wait for this request that it is not in the log; returns whether anybody did."""
        waiters = self._waiters.take(identity)
        for waiter in waiters:
            self._answers.append(Answer(waiter.device, waiter.request, pack_reply(LINK_FAILED, sentence)))
        return bool(waiters)

    def _reply(self, waiter: _Waiter, outcome: Outcome) -> bytes:
        if outcome.status != OK:
            return pack_reply(outcome.status, outcome.reason)
        wait, coordinator = waiter.event, self.state.coordinator
        if not isinstance(wait, Waiting):
            return pack_reply(OK)
        if wait.kind is WaitKind.LOCK:
            return pack_reply(OK)
        if wait.kind is WaitKind.NEXT:
            sender, data = coordinator.message_for(wait)
            return pack_reply(OK, [sender, *(item for pair in data for item in pair)])
        message_id = wait.message_id
        values: list[object] = []
        if wait.or_ids:
            message_id = coordinator.first_there(wait.device, wait.ids) or message_id
            values.append(message_id)
        pairs = coordinator.data_for(waiter.device, message_id)
        length = sum(len(key) + len(value) for _, key, value in pairs)
        if length > MAX_REPLY:
            return pack_reply(NO, _too_much(length))
        for sender, of_sender in groupby(pairs, key=lambda pair: pair[0]):
            items: list[str | bytes] = [sender]
            for _, key, value in of_sender:
                items += (key, value)
            values.append(items)
        reply = pack_reply(OK, *values)
        return reply if len(reply) <= MAX_REPLY else pack_reply(NO, _too_much(len(reply)))

    def _check_share(self, event: Asked) -> None:
        """Raises ProtocolError if the device's share of the log has no room for the event."""
        if self.state.bytes_of(event.device) + size(event) > MAX_BYTES:
            raise ProtocolError("this device has sent more than a group's log may hold of one device")

    def _warn(self, event: Waiting | Sent | Joined, here: bool, ours: bool) -> None:
        """Tell the operator of what a device should not have done; the event is not folded yet."""
        if isinstance(event, Waiting):
            if event.kind is not WaitKind.LOCK:
                self._notices += self._repetitions.wait(event)
                if here and (clause := self._devices[event.device].calls.add(event)):
                    self._notices.append((event.device, clause))
        elif here and isinstance(event, Sent):
            self._notices += self._repetitions.send(event, self.state.coordinator)
        elif here and not ours:
            sentence = "another host has a console of this device as well; let one of them have it"
            self._notices.append((event.device, sentence))

    def _tell(self, event: Event, change: Change, ours: bool) -> None:
        """Tell what an event has brought: results, refusals, waits that have failed."""
        if type(event) is Reported and event.kind == "refused":
            self._notices.append((event.device, f"refused: {event.fields[0]}: {event.fields[1]}"))
        if change.cases:
            self._new_results += [(case, self.state.results.counts) for case in change.cases]
        if not change.failed:
            return
        if isinstance(event, Released) and event.reason.startswith(DEAD_END):
            self.dead_ends.update(wait.device for wait, _ in change.failed if wait.device in self._devices)
        for wait, reason in change.failed:
            # Of what this host lets fail it has told, and of what another one lets fail that one.
            released = isinstance(event, Released) and not ours and wait.device in self._devices
            if isinstance(event, Left) or released:
                waited = f"waited {duration(event.time - wait.time)} in {command(wait)}"
                self._notices.append((wait.device, f"{waited}: {reason}"))

    def _settle_loans(self, event: Event, now: float) -> None:
        """Forget what was lent and is taken or has gone back, and watch what is lent now."""
        if isinstance(event, Taken | Released | Unlocked | Left):
            for identity in [one for one in self._borrowed if not self.state.coordinator.lends(one)]:
                del self._borrowed[identity]
                self._borrowers.take(identity)
        self._doubt_lent(now)

    def _watch_time(self, wait: Waiting, now: float) -> None:
        if wait.timeout is not None:
            # Not before its time, and not later than if it had begun now: a clock may have been set meanwhile.
            due = min(wait.time + wait.timeout - self.epoch, now + wait.timeout)
            heapq.heappush(self._time_outs, (due, wait.identity))

    def _doubt(self, request: bytes, now: float, patience: float) -> None:
        heapq.heappush(self._doubts, (now + patience, request))

    def _doubt_lent(self, now: float) -> None:
        """Give what was lent to devices here a time to be taken, a shorter one where somebody waits for it."""
        coordinator = self.state.coordinator
        for wait in coordinator.lent():
            given = self._borrowed.get(wait.identity)
            if given == IMPATIENT or wait.device not in self._devices:
                continue
            patience = IMPATIENT if coordinator.behind(wait.identity) else ABANDONED
            if patience != given:
                self._borrowed[wait.identity] = patience
                self._doubt(wait.identity, now, patience)

    def _ends_by_release(self, request: bytes) -> bool:
        """Whether a `Released` would change anything for this request."""
        return self.state.coordinator.wait(request) is not None or self.state.coordinator.lends(request)

    def _release(self, request: bytes, status: int, reason: str, now: float) -> None:
        self._append(Released(self.epoch + now, self._identity(), request, status, reason), now)

    def _append(self, event: Event, now: float) -> None:
        self._at_work = True
        if not isinstance(event, Resting):
            self.heard = now
        self._appends.add(event)

    def _is_over(self, event: Event) -> bool:
        """Whether it says of a device whether that is there, and it is otherwise by now: that stands in the log, or will."""
        if not isinstance(event, Joined | Lost):
            return False
        device = self._devices.get(event.device)
        if isinstance(event, Lost):
            return device is None or not device.lost
        return device is not None and device.lost and self.state.coordinator.joined(event.device)

    def _identity(self) -> bytes:
        self._counter += 1
        return self._host + self._counter.to_bytes(4, "big")


def _too_much(size: int) -> str:
    return f"the data of this message is {size} bytes, and a reply holds {MAX_REPLY}"
