# SPDX-License-Identifier: MIT
"""The coordinator: who is in the group, what was sent, and who waits for whom.

It folds the events of a group log, one after the other, and says which requests
end by each of them. It does no I/O and knows no clock, so the same log gives the
same state and the same outcomes, wherever and whenever it is folded.

It keeps the identities of all events, and drops an event whose identity it knows:
whoever does not know whether an append came through may repeat it.

A wait needs one other device (lava-wait), or all others of the group or of a
role, each of which must have sent the message a number of times: once for
lava-wait-all, n times for a device's n-th lava-sync of an id. That number makes
a repeated sync a true barrier; one that repeats a sync that failed (timed
out, killed) stands for it and counts no more. A wait ends in one of three ways: it is fulfilled,
it becomes hopeless since devices it needs have left, or a `Released` event ends
it.

Every event costs little however many waits are open: open waits stand with the
message they wait for, grouped by what they need, and a group's waits are looked
at only when at most one of the needed devices is lacking. (One may lack, as a
device that waits for all others need not have sent itself.) Only `Left`, which is
rare, goes through all open waits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

from dispatcher.group.events import Event, Founded, Joined, Left, Released, Reported, Sent, Waiting, WaitKind
from dispatcher.group.wording import counted, enumerated, near_miss, shown, times
from toolkit.wire.vocabulary import INTERRUPTED, NO, OK

# Ids that are kept of each device, the newest ones, to say which may have been meant for another.
MAX_RECENT = 32

# What a wait needs: devices of which role (None: of any), and how often each must have sent.
_Need = tuple[str | None, int]
# lava-wait: no device in particular, any other one will do.
_ANY_OTHER: _Need = (None, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: `status` 0 and no reason, or another exit status and a sentence saying why."""

    request: bytes
    device: str
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class OpenWait:
    """A wait that has not ended, and the devices that have still to send.

    For a lava-wait these are the others that can still send, one of which is enough.
    """

    waiting: Waiting
    missing: list[str]


@dataclass(frozen=True, slots=True)
class WaitGroup:
    """Open waits that need the same, in the order they began.

    :param lacking: the devices that have still to send. One that waits may be among them, though its
        own messages are of no use to it.
    :param times: how often each must have sent the message; 0: one message of one of them is enough.
    """

    waits: list[Waiting]
    lacking: list[str]
    times: int


@dataclass(slots=True)
class _Message:
    """All that is known about one message id."""

    awaited: bool = False  # whether anybody ever waited for it
    times_sent: dict[str, int] = field(default_factory=dict)  # by device; a sync counts as well
    times_synced: dict[str, int] = field(default_factory=dict)
    values: dict[tuple[str, bytes], bytes] = field(default_factory=dict)  # by sender and key, oldest first
    senders: set[str] = field(default_factory=set)  # by lava-send
    keys: dict[str, set[bytes]] = field(default_factory=dict)  # those of each sender in `values`
    unmet: set[str] = field(default_factory=set)  # devices whose last sync was not fulfilled
    met: dict[_Need, int] = field(default_factory=dict)  # how many devices have done what is needed
    waits: dict[_Need, dict[bytes, "_Wait"]] = field(default_factory=dict)  # the open ones, by request


@dataclass(slots=True, eq=False)
class _Wait:
    waiting: Waiting
    message: _Message
    need: _Need
    number: int  # counts the waits of the group


class Coordinator:
    """The state of a group; `apply` is the only way to change it."""

    def __init__(self) -> None:
        self._roles: dict[str, str] = {}  # by device, in the order joined
        self._gone: dict[str, None] = {}  # devices that have left, in the order they did
        self._sizes: dict[str | None, int] = {None: 0}  # devices of each role; None: of the group
        self._messages: dict[bytes, _Message] = {}
        self._waits: dict[bytes, _Wait] = {}  # the open ones by request, in the order they began
        # Every identity that is known and no open wait: how it ended, or just whose it is where that was well.
        self._known: dict[bytes, Outcome | str] = {}
        self._waits_so_far = 0
        self._size = 0  # how many devices the group is to have, at least
        self._expected: set[str] = set()  # declared members that have still to join
        self._joined: set[str] = set()
        self._recent: dict[str, dict[bytes, None]] = {}  # ids by the device that sent them, newest last

    @property
    def members(self) -> list[tuple[str, str]]:
        """(device, role) of all that ever joined, in the order they did."""
        return list(self._roles.items())

    @property
    def complete(self) -> bool:
        """Whether all devices that were declared when the group began have joined."""
        return not self._expected and len(self._joined) >= self._size

    @property
    def awaited(self) -> str:
        """Who has still to join, as in "waiting for ..."; "" if the group is complete."""
        if self.complete:
            return ""
        missing = [name for name in self._roles if name in self._expected]
        return enumerated(missing) if missing else counted(self._size - len(self._joined), "more device")

    @property
    def gone(self) -> frozenset[str]:
        """The devices that have left."""
        return frozenset(self._gone)

    @property
    def anybody_waits(self) -> bool:
        """Whether a wait is open."""
        return bool(self._waits)

    def known(self, identity: bytes) -> bool:
        """Whether the log holds an event with this identity."""
        return identity in self._known or identity in self._waits

    def outcome(self, request: bytes) -> Outcome | None:
        """How the request ended; None if it is still open or not known."""
        ended = self._known.get(request)
        return Outcome(request, ended, OK, "") if isinstance(ended, str) else ended

    def sent_before(self, device: str, message_id: bytes) -> bool:
        """Whether the device has sent this by lava-send already."""
        message = self._messages.get(message_id)
        return message is not None and device in message.senders

    def data_for(self, device: str, message_id: bytes) -> list[tuple[str, bytes, bytes]]:
        """What a wait of `device` returns now: (sender, key, value) of all other devices.

        In the order in which these values were sent; a key that its sender sent again
        stands where its newest value was sent.
        """
        message = self._messages.get(message_id)
        if message is None:
            return []
        return [(sender, key, value) for (sender, key), value in message.values.items() if sender != device]

    def times_sent(self, device: str, message_id: bytes) -> int:
        """How often the device has sent the message; a lava-sync that counts is among them."""
        message = self._messages.get(message_id)
        return 0 if message is None else message.times_sent.get(device, 0)

    def times_synced(self, device: str, message_id: bytes) -> int:
        """The number of the device's newest lava-sync of this id: how often all others must have sent it."""
        message = self._messages.get(message_id)
        return 0 if message is None else message.times_synced.get(device, 0)

    def role(self, device: str) -> str | None:
        """The device's role; None if it neither joined nor was declared."""
        return self._roles.get(device)

    def wait(self, request: bytes) -> Waiting | None:
        """The open wait of this request."""
        wait = self._waits.get(request)
        return None if wait is None else wait.waiting

    def waits(self) -> list[Waiting]:
        """The waits that have not ended, in the order they began."""
        return [wait.waiting for wait in self._waits.values()]

    def open_waits(self) -> list[OpenWait]:
        """`waits`, each with the devices that are missing."""
        # Waits that need the same share one search for the devices that lack.
        lacking = {wait.identity: group.lacking for group in self.wait_groups() for wait in group.waits}
        return [
            OpenWait(wait, [name for name in lacking[wait.identity] if name != wait.device])
            for wait in self.waits()
        ]

    def missing(self, request: bytes) -> list[str]:
        """The devices that have still to send, as in `OpenWait`; none if the request is not an open wait."""
        wait = self._waits.get(request)
        if wait is None:
            return []
        return [name for name in self._lacking(wait) if name != wait.waiting.device]

    def wait_groups(self) -> list[WaitGroup]:
        """The waits that have not ended, those together that need the same; the oldest first."""
        groups: dict[tuple[bytes, _Need], WaitGroup] = {}
        for wait in self._waits.values():
            key = (wait.waiting.message_id, wait.need)
            if key not in groups:
                groups[key] = WaitGroup([], self._lacking(wait), wait.need[1])
            groups[key].waits.append(wait.waiting)
        return list(groups.values())

    def senders(self, message_id: bytes) -> dict[str, int]:
        """How often each device has sent or synced this, of those that have."""
        message = self._messages.get(message_id)
        return {} if message is None else dict(message.times_sent)

    def near_miss(self, device: str, message_id: bytes) -> bytes | None:
        """What the device has sent and nobody ever waited for, and may have meant to be `message_id`."""
        return near_miss(
            message_id, (sent for sent in self._recent.get(device, ()) if not self._messages[sent].awaited)
        )

    def unmet(self, request: bytes) -> str:
        """What an open wait still waits for, as in "waiting for ..."; "" if it is none."""
        wait = self._waits.get(request)
        missing = self.missing(request)
        if wait is None or not missing:
            return ""
        conjunction = "or" if wait.need == _ANY_OTHER else "and"
        again = f" {times(wait.need[1])}" if wait.need[1] > 1 else ""
        what = f"'{shown(wait.waiting.message_id)}'{again} from {enumerated(missing, conjunction)}"
        return what + self._hints(wait, missing)

    def apply(self, event: Event) -> list[Outcome]:
        """Take the next event of the log; return how the requests end that it ends.

        They come in the order in which the requests were made, so a `Sent` ends with
        its own outcome. A `Reported` ends without one: nobody waits for it. An event
        whose identity is known changes nothing, and neither does a `Released` whose request is no open
        wait. Raises ValueError for an event of a device that never joined; the state is then as before.
        """
        if self.known(event.identity):
            return []
        if isinstance(event, Sent | Waiting | Left | Reported):
            self._check_joined(event.device)
        match event:
            case Founded():
                outcomes = self._found(event)
            case Joined():
                outcomes = self._join(event)
            case Sent():
                return self._send(event)
            case Waiting():
                return self._wait(event)
            case Released():
                wait = self._waits.get(event.request)
                outcomes = [] if wait is None else [self._end(wait.waiting, event.status, event.reason)]
            case Left():
                outcomes = self._leave(event.device)
            case Reported():
                outcomes = []
            case _:
                assert_never(event)
        self._known[event.identity] = getattr(event, "device", "")
        return outcomes

    def _check_joined(self, device: str) -> None:
        if device not in self._roles:
            raise ValueError(f"{device!r} never joined the group")

    def _found(self, event: Founded) -> list[Outcome]:
        for name, role in event.members or ():
            self._enter(name, role)
            self._expected.add(name)
        self._size = event.size or 0
        return []

    def _join(self, event: Joined) -> list[Outcome]:
        complete = self.complete
        self._gone.pop(event.device, None)
        self._joined.add(event.device)
        self._expected.discard(event.device)
        self._enter(event.device, event.role)
        if complete or not self.complete:
            return []
        judged = [(wait.waiting, self._judge(wait)) for wait in self._waits.values()]
        return [self._end(waiting, *how) for waiting, how in judged if how is not None]

    def _enter(self, device: str, role: str) -> None:
        if device not in self._roles:
            self._roles[device] = role
            for group in (None, role):
                self._sizes[group] = self._sizes.get(group, 0) + 1

    def _leave(self, device: str) -> list[Outcome]:
        self._gone[device] = None
        reasons = [
            (
                wait,
                "the device has ended" if wait.waiting.device == device else self._hopeless(wait, (device,)),
            )
            for wait in self._waits.values()
        ]
        return [
            # Of its own waits nobody is left to read the answer.
            self._end(wait.waiting, INTERRUPTED if wait.waiting.device == device else NO, reason)
            for wait, reason in reasons
            if reason
        ]

    def _send(self, event: Sent) -> list[Outcome]:
        message = self._messages.setdefault(event.message_id, _Message())
        message.senders.add(event.device)
        keys = message.keys.setdefault(event.device, set())
        if not keys.isdisjoint(key for key, _ in event.data):
            # It repeats a key, so it takes the place of what its sender has sent before.
            for key in keys:
                del message.values[event.device, key]
            keys.clear()
        for key, value in event.data:
            keys.add(key)
            # Taken out first: a key keeps its place in a dict when it only gets a new value.
            message.values.pop((event.device, key), None)
            message.values[event.device, key] = value
        outcomes = self._count(message, event.device)
        outcomes.append(self._end(event, OK, ""))
        self._note(event.device, event.message_id)
        return outcomes

    def _note(self, device: str, message_id: bytes) -> None:
        """Keep the id as one of the newest that the device has sent."""
        recent = self._recent.setdefault(device, {})
        recent.pop(message_id, None)
        recent[message_id] = None
        if len(recent) > MAX_RECENT:
            del recent[next(iter(recent))]

    def _wait(self, event: Waiting) -> list[Outcome]:
        message = self._messages.setdefault(event.message_id, _Message())
        message.awaited = True
        outcomes = []
        need = _ANY_OTHER
        if event.kind is WaitKind.WAIT_ALL:
            need = (event.role, 1)
        elif event.kind is WaitKind.SYNC:
            if event.device in message.unmet:
                # Timed out, killed, rebooted: it has been announced, and this takes its place.
                message.unmet.discard(event.device)
            else:
                message.times_synced[event.device] = message.times_synced.get(event.device, 0) + 1
                outcomes = self._count(message, event.device)
            need = (None, message.times_synced[event.device])
        wait = _Wait(event, message, need, self._waits_so_far)
        self._waits_so_far += 1
        how = self._judge(wait)
        if how is not None:
            return [*outcomes, self._end(event, *how)]
        self._waits[event.identity] = wait
        message.waits.setdefault(need, {})[event.identity] = wait
        return outcomes

    def _judge(self, wait: _Wait) -> tuple[int, str] | None:
        """How the wait ends, as far as is known now: its status and the reason; None if it is open."""
        role = wait.need[0]
        if role is not None and role not in self._sizes and self.complete:
            roles = ", ".join(shown(known) for known in self._sizes if known is not None)
            return NO, f"no device has the role '{shown(role)}'; the roles are {roles}"
        if self._fulfilled(wait):
            return OK, ""
        reason = self._hopeless(wait, self._gone)
        return (NO, reason) if reason else None

    def _count(self, message: _Message, device: str) -> list[Outcome]:
        """Note that `device` has sent once more, and end the waits that this fulfils."""
        times = message.times_sent.get(device, 0) + 1
        message.times_sent[device] = times
        touched = list(message.waits.get(_ANY_OTHER, {}).values()) if times == 1 else []
        for role in (None, self._roles[device]):
            need = (role, times)
            message.met[need] = message.met.get(need, 0) + 1
            if self._sizes[role] - message.met[need] <= 1:
                touched += message.waits.get(need, {}).values()
        return self._end_those(touched)

    def _end_those(self, waits: Iterable[_Wait]) -> list[Outcome]:
        """End those of the waits that are fulfilled."""
        fulfilled = sorted(filter(self._fulfilled, waits), key=lambda wait: wait.number)
        return [self._end(wait.waiting, OK, "") for wait in fulfilled]

    def _end(self, request: Sent | Waiting, status: int, reason: str) -> Outcome:
        wait = self._waits.pop(request.identity, None)
        if wait is not None:
            waits = wait.message.waits[wait.need]
            del waits[request.identity]
            if not waits:
                del wait.message.waits[wait.need]
        if isinstance(request, Waiting) and request.kind is WaitKind.SYNC and status != OK:
            self._messages[request.message_id].unmet.add(request.device)
        outcome = Outcome(request.identity, request.device, status, reason)
        self._known[request.identity] = request.device if status == OK else outcome
        return outcome

    def _fulfilled(self, wait: _Wait) -> bool:
        message, device = wait.message, wait.waiting.device
        if wait.need == _ANY_OTHER:
            return len(message.times_sent) > (device in message.times_sent)
        if not self.complete:
            return False
        lacking = self._sizes.get(wait.need[0], 0) - message.met.get(wait.need, 0)
        return lacking == self._lacks(wait, device)

    def _lacks(self, wait: _Wait, device: str) -> bool:
        """Whether `device`, which may be the one that waits, has not done what is needed of all."""
        role, times = wait.need
        return role in (None, self._roles[device]) and wait.message.times_sent.get(device, 0) < times

    def _lacking(self, wait: _Wait) -> list[str]:
        """The devices that have still to send, the one that waits perhaps among them."""
        if wait.need == _ANY_OTHER:
            return [name for name in self._roles if name not in self._gone]
        return [name for name in self._roles if self._lacks(wait, name)]

    def _hopeless(self, wait: _Wait, gone: Iterable[str]) -> str:
        """Why the wait, not fulfilled so far, can't be any more, if `gone` have left; "" if it can."""
        device = wait.waiting.device
        if wait.need == _ANY_OTHER:
            if not self.complete:
                return ""
            if len(self._roles) == 1:
                return "there is no other device in the group"
            others_here = len(self._roles) - len(self._gone) - (device not in self._gone)
            missing = [] if others_here else [name for name in self._gone if name != device]
        else:
            missing = [name for name in gone if name != device and self._lacks(wait, name)]
        if not missing:
            return ""
        often = f" {times(wait.need[1])}" if wait.need[1] > 1 else ""
        reason = f"{enumerated(missing)} ended without sending '{shown(wait.waiting.message_id)}'{often}"
        return reason + self._hints(wait, missing)

    def _hints(self, wait: _Wait, missing: Iterable[str]) -> str:
        """What one of these devices may have sent by mistake, as the end of a sentence; mostly ""."""
        wanted = wait.waiting.message_id
        for name in missing:
            sent = self.near_miss(name, wanted)
            if sent is not None:
                return f"; {name} sent '{shown(sent)}' (did you mean '{shown(wanted)}'?)"
        return ""
