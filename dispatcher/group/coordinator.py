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
stand with each device that they lack, those for a lock in its queue. For `Left` the groups of
waits stand by whom they need, too: one that goes on although it needs the device is one for a
message that the device has sent, so there are no more of these than it has sent messages. A sentence names
the first devices that lack, and counts the others.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, assert_never

import msgspec

from dispatcher.group.events import (
    Ended,
    Event,
    Founded,
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
    Whom,
)
from dispatcher.group.identities import Identities
from dispatcher.group.wording import counted, enumerated, near_miss, needed, shown, times
from toolkit.wire.vocabulary import INTERRUPTED, NO, OK

# Ids that are kept of each device, the newest ones, to say which may have been meant for another.
MAX_RECENT = 32
# Devices that are named of those that a wait lacks, and devices that are looked at to find them.
MAX_NAMED = 20
MAX_LOOKED_AT = 256
# Devices that are asked whether they sent something alike, and pairs of ids that are compared for each.
_MAX_ASKED = 3
_MAX_PAIRS = 64

# Events of devices that must have joined.
_OF_MEMBERS = frozenset((Waiting, Sent, Reported, Taken, Unlocked, Lost, Left))
# What a wait needs: which devices, and how often each must have sent.
_Need = tuple[Whom, int]
# Needs without such a number. lava-wait: any message of any other device; lava-wait --next: a new one of any
# other device; lava-lock: that no other device has the lock.
_ANY_OTHER: _Need = (None, 0)
_NEXT: _Need = (None, -1)
_LOCK: _Need = (None, -2)


class Outcome(NamedTuple):
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

    :param missing: MAX_NAMED of them at most, of the first MAX_LOOKED_AT devices of the group.
    :param more: how many there are beside these.
    :param enough: how many of them are enough; None: all of them are needed.
    """

    waiting: Waiting
    missing: list[str]
    more: int = 0
    enough: int | None = field(default=None, compare=False)

    @property
    def whom(self) -> str:
        """The devices that are missing, as in "waits for ..."; "nobody" if none is."""
        return needed(self.missing, self.enough, self.more) or "nobody"


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


_Pairs = tuple[tuple[bytes, bytes], ...]


@lru_cache(maxsize=1024)
def _same(*values: Any) -> Any:
    """These values as a tuple that all share who ask for it."""
    return values


# There are very many of these. (A Struct is made in a third of the time that a dataclass takes.)
class _Waits(msgspec.Struct, eq=False):
    """The open waits for one message id."""

    by_need: dict[_Need, dict[bytes, "_Wait"]] = {}  # by request
    by_lack: dict[str, dict[bytes, "_Wait"]] = {}  # those by name, by whom they lack
    nexts: dict[str, dict[bytes, "_Wait"]] = {}  # lava-wait --next, by who waits

    def __bool__(self) -> bool:
        return bool(self.by_need or self.by_lack or self.nexts)


@dataclass(slots=True)
class _Values:
    """What a wait for one message id returns, folded of so many of its messages."""

    folded: int = 0
    values: dict[tuple[str, bytes], bytes] = field(default_factory=dict)  # by sender and key, oldest first
    keys: dict[str, list[bytes]] = field(default_factory=dict)  # those of each sender; by lava-send

    def send(self, device: str, data: _Pairs) -> None:
        keys = self.keys.setdefault(device, [])
        if any((device, key) in self.values for key, _ in data):
            # It repeats a key, so it takes the place of what its sender has sent before.
            for key in keys:
                del self.values[device, key]
            keys.clear()
        for key, value in data:
            # Taken out first: a key keeps its place in a dict when it only gets a new value.
            if self.values.pop((device, key), None) is None:
                keys.append(key)
            self.values[device, key] = value


class _Message(msgspec.Struct, eq=False):
    """All that is known about one message id.

    There may be a hundred thousand, most of which nobody asks for again: so what is seldom needed is made
    when it is asked for.
    """

    awaited: bool = False  # whether anybody ever waited for it
    times: dict[str, tuple[int, int]] = {}  # by device: how often it has sent it; those by lava-sync
    # How many devices have sent it once, how many twice, ...; counted once somebody waits for all or for a
    # number of them, and by role once somebody waits for those of a role.
    met: list[int] | None = None
    met_by_role: dict[str, list[int]] | None = None
    all: list[Any] = []  # who has sent, and what, in turns; None: by a lava-sync
    first: tuple[Any, ...] = ()  # the number of its first message, and who sent it; that of another
    waits: _Waits | None = None
    values: _Values | None = None
    # For lava-wait --next: by device the places in `all` that are passed; devices with one that is not taken.
    passed: dict[str, int] | None = None
    lent: set[str] | None = None
    # Of the devices that have left, in that order: how many at the beginning are known to have done what is needed.
    looked: dict[_Need, int] | None = None

    def times_sent(self, device: str) -> int:
        return self.times.get(device, _NEVER)[0]

    def folded(self) -> _Values:
        """What waits return now."""
        if self.values is None:
            self.values = _Values()
        values = self.values
        while values.folded < len(self.all):
            device, data = self.all[values.folded : values.folded + 2]
            values.folded += 2
            if data is not None:
                values.send(device, data)
        return values

    def next(self, device: str) -> int | None:
        """The place in `all` of the next message for this device."""
        if self.passed is None:
            self.passed = {}
        place = self.passed.get(device, 0)
        while place < len(self.all) and self.all[place] == device:
            place += 2
        self.passed[device] = place
        return place if place < len(self.all) else None

    def first_of_others(self, device: str) -> int | None:
        """The number of the first message that another device has sent."""
        first = self.first[:1] if self.first[1:2] != (device,) else self.first[2:3]
        return first[0] if first else None


_NEVER = (0, 0)


@dataclass(slots=True)
class _Lock:
    """Who has a lock, by which waits, and who waits for it: by device, in the order in which they began."""

    holder: str | None = None
    claims: dict[bytes, "_Wait"] = field(default_factory=dict)
    queue: dict[str, dict[bytes, "_Wait"]] = field(default_factory=dict)


class _Wait(msgspec.Struct, eq=False):
    waiting: Waiting
    messages: tuple[_Message, ...]  # any of which will do; none of a lava-lock
    need: _Need
    number: int  # counts the waits of the group
    # Of one for devices by name: those that have still to send, its own perhaps among them.
    lacks: set[str] | frozenset[str] = frozenset()


class Coordinator:
    """The state of a group; `apply` is the only way to change it."""

    def __init__(self) -> None:
        self._roles: dict[str, str] = {}  # by device, in the order joined
        self._gone: dict[str, str] = {}  # devices that have left, in the order they did, and why
        self._lost: dict[str, Lost] = {}  # devices to which there is no connection, or that seem to boot
        # Devices that do nothing but wait, as their hosts say: the number of waits then, and a doubt.
        self._resting: dict[str, tuple[int, str]] = {}
        self._sizes: dict[str | None, int] = {None: 0}  # devices of each role; None: of the group
        self._messages: dict[bytes, _Message] = {}
        self._waits: dict[bytes, _Wait] = {}  # the open ones by request, in the order they began
        # All identities: how a request ended, or just whose it is where that was well, or where it is open.
        self._known: Identities[Outcome] = Identities()
        self._waits_so_far = 0
        self.declared = False  # whether it was said when the group began who belongs to it, or how many
        self.complete = True  # whether all devices that were declared when the group began have joined
        self.ended = False  # whether the group is over, and nobody joins it any more
        self._size = 0  # how many devices the group is to have, at least
        self._expected: set[str] = set()  # declared members that have still to join
        self._joined: dict[
            str, str
        ] = {}  # who has joined: the value is the one copy of the name that all else refers to
        self._unmet: set[tuple[bytes, str]] = set()  # ids and devices whose last sync of it was not fulfilled
        self._messages_so_far = 0
        self._locks: dict[bytes, _Lock] = {}  # by name; those that nobody ever had are not in it
        self._held: dict[str, dict[bytes, None]] = {}  # the locks that each device has
        self._given: dict[bytes, int] = {}  # by lava-wait --next: the place of the message it got
        self._lent: dict[bytes, _Wait] = {}  # fulfilled waits by request, until what they got is taken
        self._recent: dict[str, dict[bytes, None]] = {}  # ids by the device that sent them, newest last
        self._departures: list[str] = []  # devices in the order in which they left, each time
        # The open waits by the device that waits; those by name by the device that they lack; those for any other;
        # and the groups of those for a role, for all or for a number of devices: by message and times.
        self._of_device: dict[str, dict[bytes, _Wait]] = {}
        self._by_lack: dict[str, dict[bytes, _Wait]] = {}
        self._of_any: dict[bytes, _Wait] = {}
        self._of_whom: dict[Whom, dict[tuple[bytes, int], dict[bytes, _Wait]]] = {}
        # The waits that the newest event let fail, each with the reason, by request.
        self.failed: dict[bytes, tuple[Waiting, str]] = {}

    @property
    def members(self) -> list[tuple[str, str]]:
        """(device, role) of all that ever joined, in the order they did."""
        return list(self._roles.items())

    @property
    def awaited(self) -> str:
        """Who has still to join, as in "waiting for ..."; "" if the group is complete."""
        if self.complete:
            return ""
        missing = [name for name in self._roles if name in self._expected]
        return enumerated(missing) if missing else counted(self._size - len(self._joined), "more device")

    @property
    def abandoned(self) -> bool:
        """Whether all devices have left of a group that was declared, and was complete."""
        return self.declared and self.complete and len(self._gone) == len(self._roles)

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

    def joined(self, device: str) -> bool:
        """Whether the device has ever joined; one that was only declared has not."""
        return device in self._joined

    def here(self, device: str) -> bool:
        """Whether the device has joined, and has not left."""
        return device in self._joined and device not in self._gone

    def resting(self, devices: Collection[str]) -> dict[str, str]:
        """Those of these devices that do nothing but wait, as their hosts say, each with a doubt or "".

        Only what was said after the newest wait of these devices began: so each host looks anew.
        """
        newest = max(
            (wait.number for wait in self._waits.values() if wait.waiting.device in devices), default=-1
        )
        return {
            name: doubt
            for name, (since, doubt) in self._resting.items()
            if name in devices and since > newest
        }

    @property
    def anybody_waits(self) -> bool:
        """Whether a wait is open."""
        return bool(self._waits)

    def known(self, identity: bytes) -> bool:
        """Whether the log holds an event with this identity."""
        return identity in self._known

    def outcome(self, request: bytes) -> Outcome | None:
        """How the request ended; None if it is still open or not known."""
        if request in self._waits:
            return None
        ended = self._known.get(request)
        return Outcome(request, ended, OK, "") if isinstance(ended, str) else ended

    def sent_before(self, device: str, message_id: bytes) -> bool:
        """Whether the device has sent this by lava-send already."""
        message = self._messages.get(message_id)
        if message is None:
            return False
        sent, of_sync = message.times.get(device, _NEVER)
        return sent > of_sync

    def awaited_by(self, message_id: bytes) -> WaitKind | None:
        """Whether anybody ever waited for it: None, NEXT if somebody takes one message after the other, or WAIT."""
        message = self._messages.get(message_id)
        if message is None or not message.awaited:
            return None
        return WaitKind.WAIT if message.passed is None else WaitKind.NEXT

    def data_for(self, device: str, message_id: bytes) -> list[tuple[str, bytes, bytes]]:
        """What a wait of `device` returns now: (sender, key, value) of all other devices.

        In the order in which these values were sent; a key that its sender sent again
        stands where its newest value was sent.
        """
        message = self._messages.get(message_id)
        if message is None:
            return []
        values = message.folded().values
        return [(sender, key, value) for (sender, key), value in values.items() if sender != device]

    def message_for(self, request: Waiting) -> tuple[str, _Pairs]:
        """The sender and the pairs of the message that this fulfilled lava-wait --next was given."""
        place = self._given[request.identity]
        sender, data = self._messages[request.message_id].all[place : place + 2]
        return sender, data or ()

    def place_of_next(self, request: bytes) -> int:
        """Which message of its id this fulfilled lava-wait --next was given: their count begins with 0."""
        return self._given[request] // 2

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
        return 0 if message is None else message.times_sent(device)

    def times_synced(self, device: str, message_id: bytes) -> int:
        """The number of the device's newest lava-sync of this id: how often all others must have sent it."""
        message = self._messages.get(message_id)
        return 0 if message is None else message.times.get(device, _NEVER)[1]

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

    def waits_of(self, device: str) -> list[Waiting]:
        """Those of one device."""
        return [wait.waiting for wait in self._of_device.get(device, {}).values()]

    def open_waits(self) -> list[OpenWait]:
        """`waits`, each with the devices that are missing, or the first of these."""
        # Waits that need the same share one search.
        found: dict[tuple[tuple[bytes, ...], _Need], list[str]] = {}
        return [self._open(wait, found) for wait in self._waits.values()]

    def _open(self, wait: "_Wait", found: dict[tuple[tuple[bytes, ...], _Need], list[str]]) -> OpenWait:
        key, device = (wait.waiting.ids, wait.need), wait.waiting.device
        by_name = isinstance(wait.need[0], tuple)
        if key not in found or by_name:
            looked_at = islice(self._roles, MAX_LOOKED_AT)
            found[key] = list(islice(self._lacking(wait, looked_at), None if by_name else MAX_NAMED + 1))
        names = [name for name in found[key] if name != device][:MAX_NAMED]
        more = self._number_lacking(wait) - len(names)
        return OpenWait(wait.waiting, names, more, self._enough(wait))

    def missing(self, request: bytes) -> list[str]:
        """The devices that have still to send, as in `OpenWait`; none if the request is not an open wait."""
        wait = self._waits.get(request)
        if wait is None:
            return []
        return [name for name in self._lacking(wait, self._roles) if name != wait.waiting.device]

    def wait_groups(self) -> list[WaitGroup]:
        """The waits that have not ended, those together that need the same; the oldest first.

        Each group takes time and memory for all devices of the group.
        """
        groups: dict[tuple[tuple[bytes, ...], _Need], WaitGroup] = {}
        for wait in self._waits.values():
            key = (wait.waiting.ids, wait.need)
            if key not in groups:
                lacking = list(self._lacking(wait, self._roles))
                groups[key] = WaitGroup([], lacking, max(1, wait.need[1]), self._enough(wait))
            groups[key].waits.append(wait.waiting)
        return list(groups.values())

    @property
    def needs(self) -> int:
        """How many `wait_groups` there are."""
        return len({(wait.waiting.ids, wait.need) for wait in self._waits.values()})

    def senders(self, message_id: bytes) -> dict[str, int]:
        """How often each device has sent or synced this, of those that have."""
        message = self._messages.get(message_id)
        return {} if message is None else {name: sent for name, (sent, _) in message.times.items()}

    def near_miss(self, device: str, ids: Iterable[bytes]) -> tuple[bytes, bytes] | None:
        """What the device has sent and nobody ever waited for, and which of these ids it may have meant by it."""
        unawaited = [sent for sent in self._recent.get(device, ()) if not self._messages[sent].awaited]
        for wanted in islice(ids, _MAX_PAIRS // max(1, len(unawaited))):
            sent = near_miss(wanted, unawaited)
            if sent is not None:
                return sent, wanted
        return None

    def unmet(self, request: bytes) -> str:
        """What an open wait still waits for, as in "waiting for ..."; "" if it is none."""
        wait = self._waits.get(request)
        if wait is None:
            return ""
        open_ = self._open(wait, {})
        missing, number = open_.missing, len(open_.missing) + open_.more
        if not number:
            return ""
        if wait.need == _LOCK:
            return f"the lock '{shown(wait.waiting.message_id)}', which {missing[0]} has"
        return f"{_wanted(wait)} from {needed(missing, open_.enough, open_.more)}{self._hints(wait, missing)}"

    def apply(self, event: Event) -> list[Outcome]:
        """Take the next event of the log; return how the requests end that it ends.

        They come in the order in which the requests were made, so a `Sent` ends with
        its own outcome. A `Reported` ends without one: nobody waits for it. An event
        whose identity is known changes nothing, and neither does a `Released` whose request is no open
        wait and none of `lent`. Raises ValueError for an event of a device that never joined, or that joins a group that has
        ended, for several ids of another wait than lava-wait, and for a `Released` with the status 0; the state is
        then as before.
        """
        outcomes = map(self.outcome, self.advance(event) or ())
        return [outcome for outcome in outcomes if outcome is not None]

    def advance(self, event: Event) -> list[bytes] | None:
        """`apply`, but return only which requests end; None if the identity is known. `outcome` says how they end.

        Raises ValueError as `apply` does.
        """
        kind, wrong = type(event), ""
        if kind in _OF_MEMBERS:
            device = event.device  # type: ignore[union-attr]
            if device in self._joined:
                device = self._joined[device]
            else:
                wrong = f"{device!r} never joined the group"
            if type(event) is Waiting and event.or_ids and event.kind is not WaitKind.WAIT:
                wrong = wrong or f"a {event.kind.value} of several ids"
        else:
            device = getattr(event, "device", "")
            if kind is Joined and self.ended:
                wrong = f"{device!r} joins a group that has ended"
            elif type(event) is Released and event.status == OK:
                wrong = "a wait is released with the status 0"
        if wrong and not self.known(event.identity):
            raise ValueError(wrong)
        if not self._known.add(event.identity, device):
            return None
        if self.failed:
            self.failed = {}
        if self._lost:
            self._lost.pop(device, None)
        if self._resting:
            self._resting.pop(device, None)
        return _FOLDS[kind](self, event, device)

    # Each of these folds the events of one kind, and returns the requests that end.

    def _found(self, event: Founded, device: str) -> list[bytes]:
        for name, role in event.members or ():
            self._enter(name, role)
            self._expected.add(name)
        self._size = event.size or 0
        if event.size is not None or event.members is not None:
            self.declared, self.complete = True, False
            self._see_whether_complete()
        return []

    def _join(self, event: Joined, device: str) -> list[bytes]:
        complete = self.complete
        self._gone.pop(device, None)
        self._joined.setdefault(device, device)
        self._expected.discard(device)
        self._enter(device, event.role)
        self._see_whether_complete()
        if complete or not self.complete:
            return []
        judged = [(wait, how) for wait in self._waits.values() if (how := self._judge(wait)) is not None]
        for wait, how in judged:
            self._end(wait, *how)
        return [wait.waiting.identity for wait, _ in judged]

    def _report(self, event: Reported, device: str) -> list[bytes]:
        return []

    def _release(self, event: Released, device: str) -> list[bytes]:
        if event.request in self._lent:
            return _in_order(self._take_back(event.request, event.status, event.reason))
        wait = self._waits.get(event.request)
        if wait is None:
            return []
        self._end(wait, event.status, event.reason)
        return [event.request]

    def _lose(self, event: Lost, device: str) -> list[bytes]:
        self._lost[device] = event
        return []

    def _finish(self, event: Ended, device: str) -> list[bytes]:
        if self.abandoned:
            self.ended = True
        return []

    def _see_whether_complete(self) -> None:
        if not self.complete and not self._expected and len(self._joined) >= self._size:
            self.complete = True

    def _enter(self, device: str, role: str) -> None:
        if device not in self._roles:
            self._roles[device] = role
            for group in (None, role):
                self._sizes[group] = self._sizes.get(group, 0) + 1

    def _leave(self, event: Left, device: str) -> list[bytes]:
        self._gone[device] = event.reason
        own = [request for request, wait in self._lent.items() if wait.waiting.device == device]
        self._departures.append(device)
        reasons = [
            (
                wait,
                "the device has ended" if wait.waiting.device == device else self._hopeless(wait, device),
            )
            for wait in self._affected(device)
        ]
        ended = []
        for wait, why in reasons:
            if why:
                # Of its own waits nobody is left to read the answer.
                self._end(wait, INTERRUPTED if wait.waiting.device == device else NO, why)
                ended.append(wait)
        for request in own:
            # (Its other waits have ended by now.)
            ended += self._take_back(request, INTERRUPTED, "the device has ended")
        for name in self.locks_of(device):
            ended += self._pass_on(name)
        return _in_order(ended)

    def _take(self, event: Taken, device: str) -> list[bytes]:
        """Note that the command has what its wait was lent; another wait of the device may go on."""
        ended = self._settle(event.request)
        was_given = event.request not in self._waits and event.request != event.identity
        if not was_given or self._known.get(event.request) != device:
            reason = "what the dispatcher has given to this command was taken back in the meantime"
            self._known[event.identity] = Outcome(event.identity, device, NO, reason)
        return [*_in_order(ended), event.identity]

    def _settle(self, request: bytes) -> list["_Wait"]:
        """Nothing is lent to this request any more; returns the waits of its device that end by that."""
        wait = self._lent.pop(request, None)
        if wait is None:
            return []
        if wait.need == _LOCK:
            return []  # it is had, as before
        message = wait.messages[0]
        if message.lent is not None:
            message.lent.discard(wait.waiting.device)
        ended = []
        for other in self._behind(wait):
            # One after the other: the next one may be lent to the first of them.
            how = self._judge(other)
            if how is not None:
                self._end(other, *how)
                ended.append(other)
        return ended

    def _behind(self, wait: "_Wait") -> list["_Wait"]:
        if wait.need == _LOCK:
            queue = self._locks[wait.waiting.message_id].queue
            return [other for waits in queue.values() for other in waits.values()]
        waits_of_message = wait.messages[0].waits
        return (
            []
            if waits_of_message is None
            else list(waits_of_message.nexts.get(wait.waiting.device, {}).values())
        )

    def _take_back(self, request: bytes, status: int, reason: str) -> list["_Wait"]:
        """What was lent to this request goes to whoever is next; returns the waits that this ends."""
        wait = self._lent[request]
        device = wait.waiting.device
        self._known[request] = Outcome(request, device, status, reason)
        if wait.need == _LOCK:
            return self._drop_claim(wait.waiting.message_id, request)
        passed = wait.messages[0].passed
        assert passed is not None
        passed[device] = self._given.pop(request)
        return self._settle(request)

    def _affected(self, device: str) -> list["_Wait"]:
        """The open waits that may end as this device has just left, each once, in the order in which they began."""
        groups = [self._of_device.get(device, {}), self._by_lack.get(device, {})]
        for whom in (None, self._roles[device]):
            for waits in self._of_whom.get(whom, {}).values():
                if self._lacks(next(iter(waits.values())), device):
                    groups.append(waits)
        here = len(self._roles) - len(self._gone)
        if self.complete:
            for number, waits_for in self._of_whom.items():
                if isinstance(number, int) and number > here:
                    groups += waits_for.values()
            if here <= 1:
                groups.append(self._of_any)
        waits = {request: wait for group in groups for request, wait in group.items()}
        return sorted(waits.values(), key=lambda wait: wait.number)

    def _rest(self, event: Resting, device: str) -> list[bytes]:
        requests = set(event.requests)
        devices = {self._waits[request].waiting.device for request in requests if request in self._waits}
        # Of one that has begun another wait meanwhile it is not true any more.
        devices -= {wait.waiting.device for request, wait in self._waits.items() if request not in requests}
        self._resting.update((name, (self._waits_so_far, event.doubt)) for name in devices)
        return []

    def _unlock(self, event: Unlocked, device: str) -> list[bytes]:
        name, holder = event.name, self.holder(event.name)
        ended: list[_Wait] = []
        if event.request:
            ended = self._drop_claim(name, event.request)
        elif holder == device:
            ended = self._pass_on(name)
        else:
            whose = "nobody has it" if holder is None else f"{holder} has it"
            reason = f"this device does not have the lock '{shown(name)}': {whose}"
            self._known[event.identity] = Outcome(event.identity, device, NO, reason)
        return [*_in_order(ended), event.identity]

    def _drop_claim(self, name: bytes, request: bytes) -> list["_Wait"]:
        """The device has the lock by this request no more, and perhaps not at all; returns the waits that this ends."""
        lock = self._locks.get(name)
        if lock is None or lock.claims.pop(request, None) is None:
            return []
        self._lent.pop(request, None)
        return [] if lock.claims else self._pass_on(name)

    def _pass_on(self, name: bytes) -> list["_Wait"]:
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
        for wait in waits:
            self._end(wait, OK)
        return waits

    def _give(self, wait: "_Wait") -> None:
        """Note what this wait, which is fulfilled, gets."""
        device, request = wait.waiting.device, wait.waiting.identity
        if wait.need == _NEXT:
            message = wait.messages[0]
            place = message.next(device)
            assert place is not None
            assert message.passed is not None
            message.passed[device] = place + 2
            self._given[request] = place
            if wait.waiting.confirms:
                if message.lent is None:
                    message.lent = set()
                message.lent.add(device)
        elif wait.need == _LOCK:
            name = wait.waiting.message_id
            lock = self._locks.setdefault(name, _Lock())
            lock.holder = device
            lock.claims[request] = wait
            self._held.setdefault(device, {})[name] = None
        if wait.waiting.confirms:
            self._lent[request] = wait

    def _send(self, event: Sent, device: str) -> list[bytes]:
        ended = self._count(self._message(event.message_id), device, event.data)
        ended.append(event.identity)
        self._note(device, event.message_id)
        return ended

    def _message(self, message_id: bytes) -> _Message:
        message = self._messages.get(message_id)
        if message is None:
            message = self._messages[message_id] = _Message()
        return message

    def _awaited(self, message_id: bytes) -> _Message:
        """The message, which somebody waits for from now on."""
        message = self._message(message_id)
        message.awaited = True
        return message

    def _met(self, message: _Message, need: _Need) -> int:
        """How many of all devices, or of a role, have sent it as often as is needed; counted from now on."""
        whom, times = need
        if isinstance(whom, str):
            if message.met_by_role is None:
                message.met_by_role = {}
                for device, (sent, _) in message.times.items():
                    met = message.met_by_role.setdefault(self._roles[device], [])
                    for number in range(1, sent + 1):
                        _note_met(met, number)
            met = message.met_by_role.get(whom, [])
        else:
            if message.met is None:
                message.met = []
                for sent, _ in message.times.values():
                    for number in range(1, sent + 1):
                        _note_met(message.met, number)
            met = message.met
        return met[times - 1] if times <= len(met) else 0

    def _note(self, device: str, message_id: bytes) -> None:
        """Keep the id as one of the newest that the device has sent."""
        recent = self._recent.setdefault(device, {})
        recent.pop(message_id, None)
        recent[message_id] = None
        if len(recent) > MAX_RECENT:
            del recent[next(iter(recent))]

    def _wait(self, event: Waiting, device: str) -> list[bytes]:
        kind = event.kind
        messages: tuple[_Message, ...] = ()
        ended: list[bytes] = []
        # lava-sync first: it is the most frequent.
        if kind is WaitKind.SYNC:
            message = self._message(event.message_id)
            message.awaited = True
            messages = (message,)
            if self._unmet and (event.message_id, device) in self._unmet:
                # Timed out, killed, rebooted: it has been announced, and this takes its place.
                self._unmet.discard((event.message_id, device))
            else:
                ended = self._count(message, device, None)
            need: _Need = (event.whom, message.times[device][1])
        elif kind is WaitKind.LOCK:
            need = _LOCK
        else:
            messages = tuple(map(self._awaited, event.ids))
            match kind:
                case WaitKind.WAIT:
                    need = _ANY_OTHER
                case WaitKind.NEXT:
                    need = _NEXT
                case WaitKind.WAIT_ALL:
                    need = (event.whom, 1)
                case _:
                    assert_never(kind)
        wait = _Wait(event, messages, need, self._waits_so_far)
        if isinstance(event.whom, tuple):
            wait.lacks = set(event.whom).difference(*(message.times for message in messages))
        self._waits_so_far += 1
        how = self._judge(wait)
        if how is None:
            self._open_wait(wait)
        else:
            self._end(wait, *how)
            ended.append(event.identity)
        return ended

    def _open_wait(self, wait: _Wait) -> None:
        """Put it where it is found when something happens that may end it."""
        device, request, (whom, times) = wait.waiting.device, wait.waiting.identity, wait.need
        self._waits[request] = wait
        of_device = self._of_device.get(device)
        if of_device is None:
            of_device = self._of_device[device] = {}
        of_device[request] = wait
        if wait.need == _LOCK:
            self._locks[wait.waiting.message_id].queue.setdefault(device, {})[request] = wait
        elif isinstance(whom, tuple):
            for name in wait.lacks:
                self._by_lack.setdefault(name, {})[request] = wait
        elif times <= 0:
            self._of_any[request] = wait
        for message in wait.messages:
            if message.waits is None:
                message.waits = _Waits()
            if wait.need == _NEXT:
                message.waits.nexts.setdefault(device, {})[request] = wait
            elif isinstance(whom, tuple):
                for name in wait.lacks:
                    message.waits.by_lack.setdefault(name, {})[request] = wait
            else:
                group = message.waits.by_need.get(wait.need)
                if group is None:
                    group = message.waits.by_need[wait.need] = {}
                    if times > 0:
                        self._of_whom.setdefault(whom, {})[wait.waiting.message_id, times] = group
                group[request] = wait

    def _close_wait(self, wait: _Wait) -> None:
        """Take it out of all these places."""
        device, request, (whom, times) = wait.waiting.device, wait.waiting.identity, wait.need
        del self._of_device[device][request]
        if wait.need == _LOCK:
            lock = self._locks[wait.waiting.message_id]
            _take(lock.queue, device, request)
            if device in lock.queue:
                # Its place is that of the next one, behind devices that have asked between the two.
                in_order = sorted(lock.queue.items(), key=lambda entry: next(iter(entry[1].values())).number)
                lock.queue = dict(in_order)
        elif isinstance(whom, tuple):
            for name in wait.lacks:
                _take(self._by_lack, name, request)
        elif times <= 0:
            del self._of_any[request]
        for message in wait.messages:
            waits = message.waits
            if waits is None:
                continue  # its last one was taken
            if wait.need == _NEXT:
                _take(waits.nexts, device, request)
            elif isinstance(whom, tuple):
                for name in wait.lacks:
                    _take(waits.by_lack, name, request)
            elif wait.need in waits.by_need:
                group = waits.by_need[wait.need]
                group.pop(request, None)
                if not group:
                    self._drop_group(waits, wait)
            if not waits:
                message.waits = None

    def _drop_group(self, waits: _Waits, wait: _Wait) -> None:
        """Forget the group of waits that need what this one needs: it is empty, or all in it are about to end."""
        del waits.by_need[wait.need]
        whom, times = wait.need
        if times > 0:
            groups = self._of_whom[whom]
            del groups[wait.waiting.message_id, times]
            if not groups:
                del self._of_whom[whom]

    def _judge(self, wait: _Wait) -> tuple[int, str] | None:
        """How the wait ends, as far as is known now: its status and the reason; None if it is open."""
        whom = wait.need[0]
        if whom is None:
            pass
        elif isinstance(whom, str) and whom not in self._sizes and self.complete:
            roles = ", ".join(shown(known) for known in self._sizes if known is not None)
            return NO, f"no device has the role '{shown(whom)}'; the roles are {roles}"
        elif isinstance(whom, tuple) and self.complete:
            unknown = next((name for name in whom if name not in self._roles), None)
            if unknown is not None:
                return (
                    NO,
                    f"no device is called '{shown(unknown)}'; `lava-group` lists them",
                )
        if self._fulfilled(wait):
            return OK, ""
        if not self._gone and wait.need[1] > 0 and not isinstance(whom, int):
            return None  # the devices that it needs are all there
        reason = self._hopeless(wait)
        return (NO, reason) if reason else None

    def _count(self, message: _Message, device: str, data: _Pairs | None) -> list[bytes]:
        """Note that `device` has sent once more, and end the waits that this fulfils.

        :param data: None: by a lava-sync.
        """
        sent, of_sync = message.times.get(device, _NEVER)
        times = sent + 1
        message.times[device] = _same(times, of_sync + (data is None))
        message.all += (device, data)
        self._messages_so_far += 1
        if times == 1 and len(message.first) < 4:
            message.first += (self._messages_so_far, device)
        met: list[tuple[str | None, int]] = []  # of all and of its role, how many have sent it so often
        if message.met is not None:
            met.append((None, _note_met(message.met, times)))
        if message.met_by_role is not None:
            role = self._roles[device]
            met.append((role, _note_met(message.met_by_role.setdefault(role, []), times)))
        waits = message.waits
        if waits is None:
            return []
        touched: list[_Wait] = []  # that may be fulfilled
        fulfilled: list[_Wait] = []
        by_need = waits.by_need
        if times == 1:
            if _ANY_OTHER in by_need:
                touched += by_need[_ANY_OTHER].values()
            if device in waits.by_lack:
                for wait in waits.by_lack.pop(device).values():
                    assert isinstance(wait.lacks, set)
                    wait.lacks.discard(device)
                    _take(self._by_lack, device, wait.waiting.identity)
                    touched.append(wait)
        if waits.nexts:
            # Of each device that waits for the next one, one wait gets this one.
            touched += [next(iter(those.values())) for name, those in waits.nexts.items() if name != device]
        for whom, number in met:
            if whom is None and (number, times) in by_need:
                touched += by_need[number, times].values()
            group = by_need.get((whom, times)) if self.complete else None
            if group is None:
                continue
            lacking = self._sizes[whom] - number
            if not lacking:
                fulfilled += group.values()
                self._drop_group(waits, fulfilled[-1])
            elif lacking == 1:
                # It can be only the one that waits.
                touched += [
                    wait for wait in group.values() if message.times_sent(wait.waiting.device) < times
                ]
        if touched:
            fulfilled += [wait for wait in touched if self._fulfilled(wait)]
        for wait in fulfilled:
            self._end(wait, OK)
        return _in_order(fulfilled) if fulfilled else []

    def _end(self, wait: _Wait, status: int, reason: str = "") -> None:
        waiting = wait.waiting
        request, device = waiting.identity, waiting.device
        if self._waits.pop(request, None) is not None:
            if self._resting:
                self._resting.pop(device, None)
            self._close_wait(wait)
        if status == OK:
            if wait.need[1] < 0 or waiting.confirms:
                self._give(wait)
            return
        lost = self._lost.get(device) if status == NO else None
        if lost is not None and lost.boots and waiting.time <= lost.time:
            # Its command is not there any more, for all that is known. (A log that failed may have the loss behind
            # what the device asked for later.)
            status, reason = INTERRUPTED, lost.reason
        if status == NO:
            self.failed[request] = waiting, reason
        if waiting.kind is WaitKind.SYNC:
            self._unmet.add((waiting.message_id, device))
        self._known[request] = Outcome(request, device, status, reason)

    def _fulfilled(self, wait: _Wait) -> bool:
        device = wait.waiting.device
        if wait.need == _ANY_OTHER:
            return any(len(message.times) > (device in message.times) for message in wait.messages)
        if wait.need == _NEXT:
            return device not in (wait.messages[0].lent or ()) and wait.messages[0].next(device) is not None
        if wait.need == _LOCK:
            return self.holder(wait.waiting.message_id) in (None, device)
        message, whom = wait.messages[0], wait.need[0]
        if isinstance(whom, tuple):
            return len(wait.lacks) == (device in wait.lacks)
        if isinstance(whom, int):
            return self._met(message, wait.need) >= whom
        if not self.complete:
            return False
        lacking = self._sizes.get(whom, 0) - self._met(message, wait.need)
        return lacking <= 1 and lacking == self._lacks(wait, device)

    def _lacks(self, wait: _Wait, device: str) -> bool:
        """Whether `device`, which may be the one that waits, has not done what is needed of all."""
        whom, times = wait.need
        if isinstance(whom, tuple):
            return device in wait.lacks
        if isinstance(whom, str) and whom != self._roles[device]:
            return False
        return wait.messages[0].times_sent(device) < times

    def _enough(self, wait: _Wait) -> int | None:
        """How many of `_lacking` are enough; None: all of them are needed."""
        if wait.need in (_ANY_OTHER, _NEXT):
            return 1
        whom = wait.need[0]
        if isinstance(whom, int):
            return whom - self._met(wait.messages[0], wait.need)
        return None

    def _lacking(self, wait: _Wait, names: Iterable[str]) -> Iterator[str]:
        """Those of the devices that have still to send, the one that waits perhaps among them."""
        if wait.need == _LOCK:
            holder = self.holder(wait.waiting.message_id)
            return iter(() if holder is None else (holder,))
        if wait.need in (_ANY_OTHER, _NEXT):
            return (name for name in names if name not in self._gone)
        lacking = (name for name in names if self._lacks(wait, name))
        if isinstance(wait.need[0], int):
            return (name for name in lacking if name not in self._gone)
        return lacking

    def _number_lacking(self, wait: _Wait) -> int:
        """How many others than the device that waits have still to send."""
        whom = wait.need[0]
        here = len(self._roles) - len(self._gone)
        if wait.need == _LOCK:
            return int(self.holder(wait.waiting.message_id) is not None)
        if wait.need in (_ANY_OTHER, _NEXT):
            return here - (wait.waiting.device not in self._gone)
        if isinstance(whom, tuple):
            number = sum(name in self._roles for name in wait.lacks)
        elif isinstance(whom, int):
            if len(self._roles) <= MAX_LOOKED_AT:
                return sum(name != wait.waiting.device for name in self._lacking(wait, self._roles))
            number = min(here, len(self._roles) - self._met(wait.messages[0], wait.need))
        else:
            number = self._sizes.get(whom, 0) - self._met(wait.messages[0], wait.need)
        return number - self._lacks(wait, wait.waiting.device)

    def _hopeless(self, wait: _Wait, leaver: str = "") -> str:
        """Why the wait, not fulfilled so far, can't be any more; "" if it can.

        :param leaver: the device that has just left, where it could be fulfilled before.
        """
        device = wait.waiting.device
        here = len(self._roles) - len(self._gone)
        if wait.need == _LOCK or (wait.need == _NEXT and device in (wait.messages[0].lent or ())):
            return ""
        if wait.need in (_ANY_OTHER, _NEXT):
            if not self.complete:
                return ""
            if len(self._roles) == 1:
                return "there is no other device in the group"
            others_here = here - (device not in self._gone)
            missing = [] if others_here else [name for name in self._some_gone() if name != device]
        elif isinstance(wait.need[0], int):
            # Each that is here has sent, or can.
            if not self.complete or here >= wait.need[0]:
                return ""
            sent = wait.messages[0].times
            if (
                here + sum(sent[name][0] >= wait.need[1] for name in sent if name in self._gone)
                >= wait.need[0]
            ):
                return ""
            if len(self._roles) < wait.need[0]:
                return f"the group has {counted(len(self._roles), 'device')}, not {wait.need[0]}"
            missing = [name for name in self._some_gone() if self._lacks(wait, name)]
        elif leaver:
            missing = [leaver] if leaver != device and self._lacks(wait, leaver) else []
        else:
            missing = [name for name in self._gone_lacking(wait) if name != device]
        if not missing:
            return ""
        more = "another " if wait.need == _NEXT and (wait.messages[0].passed or {}).get(device) else ""
        reason = f"{enumerated(missing)} ended without sending {more}{_wanted(wait)}"
        return reason + self._hints(wait, missing)

    def _some_gone(self) -> list[str]:
        """The first of the devices that have left."""
        return list(islice(self._gone, MAX_LOOKED_AT))

    def _gone_lacking(self, wait: _Wait) -> list[str]:
        """The first of the devices that have left and have not done what is needed of all."""
        if isinstance(wait.need[0], tuple):
            return [name for name in wait.need[0] if name in wait.lacks and name in self._gone]

        def lacks(name: str) -> bool:
            return name in self._gone and self._lacks(wait, name)

        # Who has done it once has done it for good.
        (message,) = wait.messages
        if message.looked is None:
            message.looked = {}
        place = message.looked.get(wait.need, 0)
        while place < len(self._departures) and not lacks(self._departures[place]):
            place += 1
        message.looked[wait.need] = place
        some = islice(self._departures, place, place + MAX_LOOKED_AT)
        return list(dict.fromkeys(name for name in some if lacks(name)))

    def _hints(self, wait: _Wait, missing: Iterable[str]) -> str:
        """What one of these devices may have sent by mistake, as the end of a sentence; mostly ""."""
        for name in islice(missing, _MAX_ASKED):
            found = self.near_miss(name, wait.waiting.ids)
            if found is not None:
                sent, wanted = found
                return f"; {name} sent '{shown(sent)}' (did you mean '{shown(wanted)}'?)"
        return ""


_FOLDS: dict[type[Event], Callable[[Coordinator, Any, str], list[bytes]]] = {
    Founded: Coordinator._found,
    Joined: Coordinator._join,
    Sent: Coordinator._send,
    Waiting: Coordinator._wait,
    Taken: Coordinator._take,
    Unlocked: Coordinator._unlock,
    Released: Coordinator._release,
    Resting: Coordinator._rest,
    Lost: Coordinator._lose,
    Left: Coordinator._leave,
    Reported: Coordinator._report,
    Ended: Coordinator._finish,
}


def _wanted(wait: _Wait) -> str:
    """The message that is waited for, and how often, as in "ended without sending ..."."""
    ids = enumerated([f"'{shown(one)}'" for one in wait.waiting.ids], "or")
    return f"{ids} {times(wait.need[1])}" if wait.need[1] > 1 else ids


def _in_order(ended: list[_Wait]) -> list[bytes]:
    """The requests of these waits in the order in which they began."""
    if len(ended) > 1:
        ended = sorted(ended, key=lambda wait: wait.number)
    return [wait.waiting.identity for wait in ended]


def _note_met(met: list[int], times: int) -> int:
    """One more device has sent it so often; returns how many have."""
    if times > len(met):
        met.append(0)
    met[times - 1] += 1
    return met[times - 1]


def _take(places: dict[Any, dict[bytes, _Wait]], key: object, request: bytes) -> None:
    """Take the wait out of its place, and the place away if it is empty."""
    waits = places.get(key)
    if waits is not None:
        waits.pop(request, None)
        if not waits:
            del places[key]
