# SPDX-License-Identifier: MIT
"""The coordinator: who is in the group, what was sent, and who waits for whom.

It folds the events of a group log, one after the other, and says which requests
end by each of them. It does no I/O and knows no clock, so the same log gives the
same state and the same outcomes, wherever and whenever it is folded.

It keeps the identities of all events, and drops an event whose identity it knows:
whoever does not know whether an append came through may repeat it.

A wait needs one other device (lava-wait), or all others of the group or of a
role, or those of some names, or so many devices, each of which must have sent the
message a number of times: once for lava-wait-all, n times for a device's n-th
lava-sync of an id. That number makes
a repeated sync a true barrier; one that repeats a sync that failed (timed
out, killed) stands for it and counts no more. A lava-wait --next needs a message that none
of the device's earlier ones has got: for each device and id the coordinator keeps how many were.
A lava-lock needs that no other device has the lock; the devices that wait for it get it in the order of
the log. A wait ends in one of three ways: it is fulfilled,
it becomes hopeless since devices it needs have left, or a `Released` event ends
it.

What a lava-wait --next or a lava-lock gets is lent to its command until a `Taken` event says that the command has
it; a `Released` event before takes it back, and it goes to whoever is next. As long as a message is lent, no
other lava-wait --next of the device for the same id ends. A lock has a claim of each lava-lock that its device
got it by, and is free when the last one is gone; a lava-unlock takes all of them.

Every event costs little however many waits are open: open waits stand with the
message they wait for, grouped by what they need, and a group's waits are looked
at only when at most one of the needed devices is lacking. (One may lack, as a
device that waits for all others need not have sent itself.) Waits for devices by name
stand with each device that they lack, those for a lock in its queue. Only `Left`, which is
rare, goes through all open waits.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, assert_never

from dispatcher.group.events import (
    Ended,
    Event,
    Founded,
    Joined,
    Left,
    Lost,
    Released,
    Reported,
    Sent,
    Taken,
    Unlocked,
    Waiting,
    WaitKind,
    Whom,
)
from dispatcher.group.wording import counted, enumerated, near_miss, needed, shown, times
from toolkit.wire.vocabulary import INTERRUPTED, NO, OK

# Ids that are kept of each device, the newest ones, to say which may have been meant for another.
MAX_RECENT = 32

# Events of devices that must have joined. A tuple: to make a union of them takes longer than to look.
_OF_MEMBERS = (Sent, Waiting, Taken, Unlocked, Lost, Left, Reported)
# What a wait needs: which devices, and how often each must have sent.
_Need = tuple[Whom, int]
# Needs without such a number. lava-wait: any message of any other device; lava-wait --next: a new one of any
# other device; lava-lock: that no other device has the lock.
_ANY_OTHER: _Need = (None, 0)
_NEXT: _Need = (None, -1)
_LOCK: _Need = (None, -2)


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

    For a lava-wait these are the others that can still send, one of which is enough; for a
    lava-sync --count those that can still come; for a lava-lock the device that has the lock.
    """

    waiting: Waiting
    missing: list[str]


@dataclass(frozen=True, slots=True)
class WaitGroup:
    """Open waits that need the same, in the order they began.

    :param lacking: the devices that have still to send. One that waits may be among them, though its
        own messages are of no use to it.
    :param times: how often each must have sent the message.
    :param enough: how many of those that lack are enough; None: all of them are needed.
    """

    waits: list[Waiting]
    lacking: list[str]
    times: int
    enough: int | None


@dataclass(slots=True)
class _Message:
    """All that is known about one message id."""

    awaited: bool = False  # whether anybody ever waited for it
    times_sent: dict[str, int] = field(default_factory=dict)  # by device; a sync counts as well
    times_synced: dict[str, int] = field(default_factory=dict)
    values: dict[tuple[str, bytes], bytes] = field(default_factory=dict)  # by sender and key, oldest first
    keys: dict[str, list[bytes]] = field(
        default_factory=dict
    )  # those of each sender in `values`; by lava-send
    met: dict[_Need, int] = field(default_factory=dict)  # how many devices have done what is needed
    waits: dict[_Need, dict[bytes, "_Wait"]] = field(default_factory=dict)  # the open ones, by request
    by_lack: dict[str, dict[bytes, "_Wait"]] = field(default_factory=dict)  # those by name, by whom they lack
    first: list[tuple[int, str]] = field(
        default_factory=list
    )  # that of the first two devices, and its number
    # For lava-wait --next: all of them, how many of these each device has been given or may leave out, and who waits.
    all: list[tuple[str, tuple[tuple[bytes, bytes], ...]]] = field(default_factory=list)
    passed: dict[str, int] = field(default_factory=dict)
    nexts: dict[str, dict[bytes, "_Wait"]] = field(default_factory=dict)
    lent: set[str] = field(default_factory=set)  # devices with one that is not taken

    def next(self, device: str) -> int | None:
        """The place in `all` of the next message for this device."""
        place = self.passed.get(device, 0)
        while place < len(self.all) and self.all[place][0] == device:
            place += 1
        self.passed[device] = place
        return place if place < len(self.all) else None

    def first_of_others(self, device: str) -> int | None:
        """The number of the first message that another device has sent."""
        return next((number for number, sender in self.first if sender != device), None)


@dataclass(slots=True)
class _Lock:
    """Who has a lock, by which waits, and who waits for it: by device, in the order in which they began."""

    holder: str | None = None
    claims: dict[bytes, "_Wait"] = field(default_factory=dict)
    queue: dict[str, dict[bytes, "_Wait"]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Wait:
    waiting: Waiting
    messages: tuple[_Message, ...]  # any of which will do; none of a lava-lock
    need: _Need
    number: int  # counts the waits of the group
    lacks: set[str]  # of one for devices by name: those that have still to send, its own perhaps among them


class Coordinator:
    """The state of a group; `apply` is the only way to change it."""

    def __init__(self) -> None:
        self._roles: dict[str, str] = {}  # by device, in the order joined
        self._gone: dict[str, str] = {}  # devices that have left, in the order they did, and why
        self._lost: dict[str, Lost] = {}  # devices to which there is no connection, or that seem to boot
        self._sizes: dict[str | None, int] = {None: 0}  # devices of each role; None: of the group
        self._messages: dict[bytes, _Message] = {}
        self._waits: dict[bytes, _Wait] = {}  # the open ones by request, in the order they began
        # Every identity that is known and no open wait: how it ended, or just whose it is where that was well.
        self._known: dict[bytes, Outcome | str] = {}
        self._waits_so_far = 0
        self._declared = False  # whether it was said who belongs to the group, or how many
        self._size = 0  # how many devices the group is to have, at least
        self._expected: set[str] = set()  # declared members that have still to join
        self._joined: set[str] = set()
        self._unmet: set[tuple[bytes, str]] = set()  # ids and devices whose last sync of it was not fulfilled
        self._messages_so_far = 0
        self._locks: dict[bytes, _Lock] = {}  # by name; those that nobody ever had are not in it
        self._held: dict[str, dict[bytes, None]] = {}  # the locks that each device has
        self._given: dict[bytes, int] = {}  # by lava-wait --next: the place of the message it got
        self._lent: dict[bytes, _Wait] = {}  # fulfilled waits by request, until what they got is taken
        self._ended = False
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
    def ended(self) -> bool:
        """Whether the group is over, and nobody joins it any more."""
        return self._ended

    @property
    def abandoned(self) -> bool:
        """Whether all devices have left of a group that was declared, and was complete."""
        return self._declared and self.complete and len(self._gone) == len(self._roles)

    @property
    def gone(self) -> frozenset[str]:
        """The devices that have left."""
        return frozenset(self._gone)

    def gone_because(self, device: str) -> str | None:
        """Why the device has left; None if it has not."""
        return self._gone.get(device)

    def lost_because(self, device: str) -> str | None:
        """Why the device can't be spoken to; None if it can, as far as is known."""
        lost = self._lost.get(device)
        return None if lost is None else lost.reason

    def here(self, device: str) -> bool:
        """Whether the device has joined, and has not left."""
        return device in self._joined and device not in self._gone

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
        return message is not None and device in message.keys

    def data_for(self, device: str, message_id: bytes) -> list[tuple[str, bytes, bytes]]:
        """What a wait of `device` returns now: (sender, key, value) of all other devices.

        In the order in which these values were sent; a key that its sender sent again
        stands where its newest value was sent.
        """
        message = self._messages.get(message_id)
        if message is None:
            return []
        return [(sender, key, value) for (sender, key), value in message.values.items() if sender != device]

    def message_for(self, request: Waiting) -> tuple[str, tuple[tuple[bytes, bytes], ...]]:
        """The sender and the pairs of the message that this fulfilled lava-wait --next was given."""
        return self._messages[request.message_id].all[self._given[request.identity]]

    def place_of_next(self, request: bytes) -> int:
        """Which message of its id this fulfilled lava-wait --next was given: their count begins with 0."""
        return self._given[request]

    def holder(self, name: bytes) -> str | None:
        """The device that has this lock."""
        lock = self._locks.get(name)
        return None if lock is None else lock.holder

    def locks_of(self, device: str) -> list[bytes]:
        """The locks that the device has, in the order in which it got them."""
        return list(self._held.get(device, ()))

    def claims_of_commands(self, device: str) -> list[Waiting]:
        """The waits by which the device has locks for as long as a COMMAND runs."""
        return [
            claim.waiting
            for name in self._held.get(device, ())
            for claim in self._locks[name].claims.values()
            if claim.waiting.for_command
        ]

    def first_there(self, device: str, ids: Iterable[bytes]) -> bytes | None:
        """Of these ids, the one that another device than this was the first to send; None if none was."""
        found = [
            (number, one)
            for one in ids
            if (message := self._messages.get(one)) is not None
            and (number := message.first_of_others(device)) is not None
        ]
        return min(found)[1] if found else None

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

    def lent(self) -> list[Waiting]:
        """The fulfilled waits whose commands have not taken yet what they got."""
        return [wait.waiting for wait in self._lent.values()]

    def lends(self, request: bytes) -> bool:
        """Whether the wait of this request is one of `lent`."""
        return request in self._lent

    def behind(self, request: bytes) -> list[Waiting]:
        """The open waits that end at the earliest when what was lent to this request is taken, or goes back."""
        wait = self._lent.get(request)
        return [] if wait is None else [other.waiting for other in self._behind(wait)]

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
        groups: dict[tuple[tuple[bytes, ...], _Need], WaitGroup] = {}
        for wait in self._waits.values():
            key = (wait.waiting.ids, wait.need)
            if key not in groups:
                groups[key] = WaitGroup([], self._lacking(wait), max(1, wait.need[1]), self._enough(wait))
            groups[key].waits.append(wait.waiting)
        return list(groups.values())

    def senders(self, message_id: bytes) -> dict[str, int]:
        """How often each device has sent or synced this, of those that have."""
        message = self._messages.get(message_id)
        return {} if message is None else dict(message.times_sent)

    def near_miss(self, device: str, ids: Iterable[bytes]) -> tuple[bytes, bytes] | None:
        """What the device has sent and nobody ever waited for, and which of these ids it may have meant by it."""
        for wanted in ids:
            unawaited = (sent for sent in self._recent.get(device, ()) if not self._messages[sent].awaited)
            sent = near_miss(wanted, unawaited)
            if sent is not None:
                return sent, wanted
        return None

    def unmet(self, request: bytes) -> str:
        """What an open wait still waits for, as in "waiting for ..."; "" if it is none."""
        wait = self._waits.get(request)
        missing = self.missing(request)
        if wait is None or not missing:
            return ""
        if wait.need == _LOCK:
            return f"the lock '{shown(wait.waiting.message_id)}', which {missing[0]} has"
        return f"{_wanted(wait)} from {needed(missing, self._enough(wait))}{self._hints(wait, missing)}"

    def apply(self, event: Event) -> list[Outcome]:
        """Take the next event of the log; return how the requests end that it ends.

        They come in the order in which the requests were made, so a `Sent` ends with
        its own outcome. A `Reported` ends without one: nobody waits for it. An event
        whose identity is known changes nothing, and neither does a `Released` whose request is no open
        wait and none of `lent`. Raises ValueError for an event of a device that never joined, or that joins a group that has
        ended; the state is then as before.
        """
        if self.known(event.identity):
            return []
        if isinstance(event, _OF_MEMBERS):
            self._check_joined(event.device)
        self._lost.pop(getattr(event, "device", ""), None)
        if isinstance(event, Joined) and self._ended:
            raise ValueError(f"{event.device!r} joins a group that has ended")
        match event:
            # The most frequent ones first: a log has a million of them.
            case Sent():
                return self._send(event)
            case Waiting():
                return self._wait(event)
            case Reported():
                outcomes: list[Outcome] = []
            case Taken():
                return self._take(event)
            case Unlocked():
                return self._unlock(event)
            case Founded():
                outcomes = self._found(event)
            case Joined():
                outcomes = self._join(event)
            case Released():
                if event.request in self._lent:
                    outcomes = _in_order(self._take_back(event.request, event.status, event.reason))
                else:
                    wait = self._waits.get(event.request)
                    outcomes = [] if wait is None else [self._end(wait.waiting, event.status, event.reason)]
            case Left():
                outcomes = self._leave(event.device, event.reason)
            case Lost():
                self._lost[event.device] = event
                outcomes = []
            case Ended():
                outcomes = []
                self._ended = self.abandoned
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
        self._declared = event.size is not None or event.members is not None
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

    def _leave(self, device: str, reason: str) -> list[Outcome]:
        self._gone[device] = reason
        own = [request for request, wait in self._lent.items() if wait.waiting.device == device]
        reasons = [
            (
                wait,
                "the device has ended" if wait.waiting.device == device else self._hopeless(wait, (device,)),
            )
            for wait in self._waits.values()
        ]
        ended = [
            # Of its own waits nobody is left to read the answer.
            (wait, self._end(wait.waiting, INTERRUPTED if wait.waiting.device == device else NO, why))
            for wait, why in reasons
            if why
        ]
        for request in own:
            # (Its other waits have ended by now.)
            ended += self._take_back(request, INTERRUPTED, "the device has ended")
        for name in self.locks_of(device):
            ended += self._pass_on(name)
        return _in_order(ended)

    def _take(self, event: Taken) -> list[Outcome]:
        """Note that the command has what its wait was lent; another wait of the device may go on."""
        ended = self._settle(event.request)
        taken = self._known.get(event.request) == event.device
        reason = (
            "" if taken else "what the dispatcher has given to this command was taken back in the meantime"
        )
        outcome = Outcome(event.identity, event.device, OK if taken else NO, reason)
        self._known[event.identity] = event.device if taken else outcome
        return [*_in_order(ended), outcome]

    def _settle(self, request: bytes) -> list[tuple["_Wait", Outcome]]:
        """Nothing is lent to this request any more; returns the waits of its device that end by that."""
        wait = self._lent.pop(request, None)
        if wait is None:
            return []
        if wait.need == _LOCK:
            return []  # it is had, as before
        wait.messages[0].lent.discard(wait.waiting.device)
        ended = []
        for other in self._behind(wait):
            # One after the other: the next one may be lent to the first of them.
            how = self._judge(other)
            if how is not None:
                ended.append((other, self._end(other.waiting, *how)))
        return ended

    def _behind(self, wait: "_Wait") -> list["_Wait"]:
        if wait.need == _LOCK:
            queue = self._locks[wait.waiting.message_id].queue
            return [other for waits in queue.values() for other in waits.values()]
        return list(wait.messages[0].nexts.get(wait.waiting.device, {}).values())

    def _take_back(self, request: bytes, status: int, reason: str) -> list[tuple["_Wait", Outcome]]:
        """What was lent to this request goes to whoever is next; returns the waits that this ends."""
        wait = self._lent[request]
        device = wait.waiting.device
        self._known[request] = Outcome(request, device, status, reason)
        if wait.need == _LOCK:
            return self._drop_claim(wait.waiting.message_id, request)
        wait.messages[0].passed[device] = self._given.pop(request)
        return self._settle(request)

    def _unlock(self, event: Unlocked) -> list[Outcome]:
        name, holder = event.name, self.holder(event.name)
        if event.request:
            outcomes = _in_order(self._drop_claim(name, event.request))
            self._known[event.identity] = event.device
            return [*outcomes, Outcome(event.identity, event.device, OK, "")]
        if holder != event.device:
            whose = "nobody has it" if holder is None else f"{holder} has it"
            outcome = Outcome(
                event.identity,
                event.device,
                NO,
                f"this device does not have the lock '{shown(name)}': {whose}",
            )
            self._known[event.identity] = outcome
            return [outcome]
        self._known[event.identity] = event.device
        outcomes = _in_order(self._pass_on(name))
        return [*outcomes, Outcome(event.identity, event.device, OK, "")]

    def _drop_claim(self, name: bytes, request: bytes) -> list[tuple["_Wait", Outcome]]:
        """The device has the lock by this request no more, and perhaps not at all; returns the waits that this ends."""
        lock = self._locks.get(name)
        if lock is None or lock.claims.pop(request, None) is None:
            return []
        self._lent.pop(request, None)
        return [] if lock.claims else self._pass_on(name)

    def _pass_on(self, name: bytes) -> list[tuple["_Wait", Outcome]]:
        """Take the lock from the device that has it, and give it to the next one; returns the waits that this ends."""
        lock = self._locks[name]
        assert lock.holder is not None
        del self._held[lock.holder][name]
        for request in lock.claims:
            self._lent.pop(request, None)
        lock.claims.clear()
        if not lock.queue:
            del self._locks[name]
            return []
        lock.holder = None
        waits = list(next(iter(lock.queue.values())).values())
        return [(wait, self._end(wait.waiting, OK, "")) for wait in waits]

    def _give(self, wait: "_Wait") -> None:
        """Note what this wait, which is fulfilled, gets."""
        device, request = wait.waiting.device, wait.waiting.identity
        if wait.need == _NEXT:
            message = wait.messages[0]
            place = message.next(device)
            assert place is not None
            message.passed[device] = place + 1
            self._given[request] = place
            if wait.waiting.confirms:
                message.lent.add(device)
        elif wait.need == _LOCK:
            name = wait.waiting.message_id
            lock = self._locks.setdefault(name, _Lock())
            lock.holder = device
            lock.claims[request] = wait
            self._held.setdefault(device, {})[name] = None
        if wait.waiting.confirms:
            self._lent[request] = wait

    def _send(self, event: Sent) -> list[Outcome]:
        message = self._messages.setdefault(event.message_id, _Message())
        values, device = message.values, event.device
        keys = message.keys.setdefault(device, [])
        if any((device, key) in values for key, _ in event.data):
            # It repeats a key, so it takes the place of what its sender has sent before.
            for key in keys:
                del values[device, key]
            keys.clear()
        for key, value in event.data:
            # Taken out first: a key keeps its place in a dict when it only gets a new value.
            if values.pop((device, key), None) is None:
                keys.append(key)
            values[device, key] = value
        outcomes = self._count(message, device, event.data)
        self._known[event.identity] = device
        outcomes.append(Outcome(event.identity, device, OK, ""))
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
        messages: tuple[_Message, ...] = ()
        if event.kind is not WaitKind.LOCK:
            messages = tuple(self._messages.setdefault(one, _Message()) for one in event.ids)
        outcomes: list[Outcome] = []
        for message in messages:
            message.awaited = True
        match event.kind:
            case WaitKind.WAIT:
                need = _ANY_OTHER
            case WaitKind.NEXT:
                need = _NEXT
            case WaitKind.LOCK:
                need = _LOCK
            case WaitKind.WAIT_ALL:
                need = (event.whom, 1)
            case WaitKind.SYNC:
                (message,) = messages
                if (event.message_id, event.device) in self._unmet:
                    # Timed out, killed, rebooted: it has been announced, and this takes its place.
                    self._unmet.discard((event.message_id, event.device))
                else:
                    message.times_synced[event.device] = message.times_synced.get(event.device, 0) + 1
                    outcomes = self._count(message, event.device, ())
                need = (event.whom, message.times_synced[event.device])
            case _:
                assert_never(event.kind)
        wait = _Wait(event, messages, need, self._waits_so_far, set())
        if isinstance(event.whom, tuple):
            wait.lacks.update(event.whom)
            wait.lacks.difference_update(*(message.times_sent for message in messages))
        self._waits_so_far += 1
        how = self._judge(wait)
        if how is not None:
            if how[0] == OK:
                self._give(wait)
            return [*outcomes, self._end(event, *how)]
        self._waits[event.identity] = wait
        for waits in self._places(wait):
            waits[event.identity] = wait
        return outcomes

    def _places(self, wait: _Wait) -> list[dict[bytes, _Wait]]:
        """Where the open wait is found when something happens that may end it."""
        device = wait.waiting.device
        if wait.need == _LOCK:
            return [self._locks[wait.waiting.message_id].queue.setdefault(device, {})]
        if wait.need == _NEXT:
            return [message.nexts.setdefault(device, {}) for message in wait.messages]
        if isinstance(wait.need[0], tuple):
            return [message.by_lack.setdefault(name, {}) for message in wait.messages for name in wait.lacks]
        return [message.waits.setdefault(wait.need, {}) for message in wait.messages]

    def _forget_places(self, wait: _Wait) -> None:
        device, request = wait.waiting.device, wait.waiting.identity
        if wait.need == _LOCK:
            _take(self._locks[wait.waiting.message_id].queue, device, request)
        for message in wait.messages:
            if wait.need == _NEXT:
                _take(message.nexts, device, request)
            elif isinstance(wait.need[0], tuple):
                for name in wait.lacks:
                    _take(message.by_lack, name, request)
            else:
                _take(message.waits, wait.need, request)

    def _judge(self, wait: _Wait) -> tuple[int, str] | None:
        """How the wait ends, as far as is known now: its status and the reason; None if it is open."""
        whom = wait.need[0]
        if isinstance(whom, str) and whom not in self._sizes and self.complete:
            roles = ", ".join(shown(known) for known in self._sizes if known is not None)
            return NO, f"no device has the role '{shown(whom)}'; the roles are {roles}"
        if isinstance(whom, tuple) and self.complete:
            unknown = next((name for name in whom if name not in self._roles), None)
            if unknown is not None:
                return (
                    NO,
                    f"no device is called '{shown(unknown)}'; `lava-group` lists them",
                )
        if self._fulfilled(wait):
            return OK, ""
        reason = self._hopeless(wait, self._gone)
        return (NO, reason) if reason else None

    def _count(self, message: _Message, device: str, data: tuple[tuple[bytes, bytes], ...]) -> list[Outcome]:
        """Note that `device` has sent once more, and end the waits that this fulfils."""
        times = message.times_sent.get(device, 0) + 1
        message.times_sent[device] = times
        message.all.append((device, data))
        self._messages_so_far += 1
        touched: list[_Wait] = []
        if times == 1:
            if len(message.first) < 2:
                message.first.append((self._messages_so_far, device))
            touched += message.waits.get(_ANY_OTHER, {}).values()
            for wait in message.by_lack.pop(device, {}).values():
                wait.lacks.discard(device)
                touched.append(wait)
        # Of each device that waits for the next one, one wait gets this one.
        touched += [next(iter(waits.values())) for name, waits in message.nexts.items() if name != device]
        for whom in (None, self._roles[device]):
            need = (whom, times)
            message.met[need] = message.met.get(need, 0) + 1
            if self._sizes[whom] - message.met[need] <= 1:
                touched += message.waits.get(need, {}).values()
        touched += message.waits.get((message.met[None, times], times), {}).values()
        return self._end_those(touched)

    def _end_those(self, waits: Iterable[_Wait]) -> list[Outcome]:
        """End those of the waits that are fulfilled."""
        fulfilled = [wait for wait in waits if self._fulfilled(wait)]
        return _in_order((wait, self._end(wait.waiting, OK, "")) for wait in fulfilled)

    def _end(self, request: Waiting, status: int, reason: str) -> Outcome:
        wait = self._waits.pop(request.identity, None)
        lost = self._lost.get(request.device)
        if status == NO and lost is not None and lost.boots:
            # Its command is not there any more, for all that is known.
            status, reason = INTERRUPTED, lost.reason
        if wait is not None:
            self._forget_places(wait)
            if status == OK:
                self._give(wait)
        if request.kind is WaitKind.SYNC and status != OK:
            self._unmet.add((request.message_id, request.device))
        outcome = Outcome(request.identity, request.device, status, reason)
        self._known[request.identity] = request.device if status == OK else outcome
        return outcome

    def _fulfilled(self, wait: _Wait) -> bool:
        device = wait.waiting.device
        if wait.need == _ANY_OTHER:
            return any(len(message.times_sent) > (device in message.times_sent) for message in wait.messages)
        if wait.need == _NEXT:
            return device not in wait.messages[0].lent and wait.messages[0].next(device) is not None
        if wait.need == _LOCK:
            return self.holder(wait.waiting.message_id) in (None, device)
        (message,) = wait.messages
        whom, times = wait.need
        if isinstance(whom, tuple):
            return len(wait.lacks) == (device in wait.lacks)
        if isinstance(whom, int):
            return message.met.get((None, times), 0) >= whom
        if not self.complete:
            return False
        lacking = self._sizes.get(whom, 0) - message.met.get(wait.need, 0)
        return lacking == self._lacks(wait, device)

    def _lacks(self, wait: _Wait, device: str) -> bool:
        """Whether `device`, which may be the one that waits, has not done what is needed of all."""
        whom, times = wait.need
        if isinstance(whom, tuple):
            return device in wait.lacks
        if isinstance(whom, str) and whom != self._roles[device]:
            return False
        return wait.messages[0].times_sent.get(device, 0) < times

    def _enough(self, wait: _Wait) -> int | None:
        """How many of `_lacking` are enough; None: all of them are needed."""
        if wait.need in (_ANY_OTHER, _NEXT):
            return 1
        whom, times = wait.need
        if isinstance(whom, int):
            return whom - wait.messages[0].met.get((None, times), 0)
        return None

    def _lacking(self, wait: _Wait) -> list[str]:
        """The devices that have still to send, the one that waits perhaps among them."""
        if wait.need in (_ANY_OTHER, _NEXT):
            return [name for name in self._roles if name not in self._gone]
        if wait.need == _LOCK:
            holder = self.holder(wait.waiting.message_id)
            return [] if holder is None else [holder]
        lacking = [name for name in self._roles if self._lacks(wait, name)]
        if isinstance(wait.need[0], int):
            return [name for name in lacking if name not in self._gone]
        return lacking

    def _hopeless(self, wait: _Wait, gone: Iterable[str]) -> str:
        """Why the wait, not fulfilled so far, can't be any more, if `gone` have left; "" if it can."""
        device = wait.waiting.device
        if wait.need == _LOCK or (wait.need == _NEXT and device in wait.messages[0].lent):
            return ""
        if wait.need in (_ANY_OTHER, _NEXT):
            if not self.complete:
                return ""
            if len(self._roles) == 1:
                return "there is no other device in the group"
            others_here = len(self._roles) - len(self._gone) - (device not in self._gone)
            missing = [] if others_here else [name for name in self._gone if name != device]
        elif isinstance(wait.need[0], int):
            if not self.complete or len(self._lacking(wait)) >= (self._enough(wait) or 0):
                return ""
            if len(self._roles) < wait.need[0]:
                return f"the group has {counted(len(self._roles), 'device')}, not {wait.need[0]}"
            missing = [name for name in self._gone if self._lacks(wait, name)]
        else:
            missing = [name for name in gone if name != device and self._lacks(wait, name)]
        if not missing:
            return ""
        more = "another " if wait.need == _NEXT and wait.messages[0].passed.get(device) else ""
        reason = f"{enumerated(missing)} ended without sending {more}{_wanted(wait)}"
        return reason + self._hints(wait, missing)

    def _hints(self, wait: _Wait, missing: Iterable[str]) -> str:
        """What one of these devices may have sent by mistake, as the end of a sentence; mostly ""."""
        for name in missing:
            found = self.near_miss(name, wait.waiting.ids)
            if found is not None:
                sent, wanted = found
                return f"; {name} sent '{shown(sent)}' (did you mean '{shown(wanted)}'?)"
        return ""


def _wanted(wait: _Wait) -> str:
    """The message that is waited for, and how often, as in "ended without sending ..."."""
    ids = enumerated([f"'{shown(one)}'" for one in wait.waiting.ids], "or")
    return f"{ids} {times(wait.need[1])}" if wait.need[1] > 1 else ids


def _in_order(ended: Iterable[tuple[_Wait, Outcome]]) -> list[Outcome]:
    """The outcomes in the order in which the waits began."""
    return [outcome for _, outcome in sorted(ended, key=lambda pair: pair[0].number)]


def _take(places: dict[Any, dict[bytes, _Wait]], key: object, request: bytes) -> None:
    """Take the wait out of its place, and the place away if it is empty."""
    waits = places.get(key)
    if waits is not None:
        waits.pop(request, None)
        if not waits:
            del places[key]
