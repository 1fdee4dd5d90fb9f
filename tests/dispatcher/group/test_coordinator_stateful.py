# SPDX-License-Identifier: MIT
"""The coordinator against a naive model, in both directions: nobody released early, nobody kept too long.

The model keeps nothing but the list of events, and answers each question by going
through all of it in the most obvious way.
"""

import json
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dispatcher.group.coordinator import Coordinator, OpenWait, Outcome
from dispatcher.group.events import (
    Event,
    Founded,
    Joined,
    Left,
    Lost,
    Released,
    Sent,
    Taken,
    Unlocked,
    Waiting,
    WaitKind,
    Whom,
    from_json,
    to_json,
)
from tests.dispatcher.group.play import fresh, joined, left, released

DEVICES = ["dev-a", "dev-b", "dev-c", "dev-d", "dev-e"]
ROLES = ["client", "server"]
MESSAGE_IDS = [b"x", b"\xff"]
LOCKS = [b"power", b"x"]

Request = Sent | Waiting | Taken | Unlocked


def identity(number: int) -> bytes:
    """The identity of the n-th request; like real ones they do not stand in the order of the requests."""
    return (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big")


class NaiveGroup:
    """A group by its rules, word for word; `ended` only notes what was answered before."""

    def __init__(self) -> None:
        self.log: list[Event] = []
        self.ended: dict[bytes, tuple[str, int]] = {}
        self.ended_at: dict[bytes, int] = {}
        self.repeated: set[bytes] = set()  # syncs that stand for an earlier one
        self.lent: dict[bytes, str] = {}  # fulfilled waits, and their devices, until what they got is taken

    def apply(self, event: Event) -> list[tuple[bytes, str, int, set[str]]]:
        """The requests that end: identity, device, status, and the devices to blame."""
        if any(earlier.identity == event.identity for earlier in self.log):
            return []
        if isinstance(event, Waiting) and event.kind is WaitKind.SYNC and self.came_to_nothing(event):
            self.repeated.add(event.identity)
        held = self.holder(event.name) if isinstance(event, Unlocked) else None
        self.log.append(event)
        if isinstance(event, Taken):
            self.lent.pop(event.request, None)
        for request, device in list(self.lent.items()):
            if isinstance(event, Left) and event.device == device:
                self.take_back(request, 130)
            if isinstance(event, Released) and event.request == request:
                self.take_back(request, event.status)
            if isinstance(event, Unlocked) and request not in self.claims(event.name):
                wait = next(wait for wait in self.requests() if wait.identity == request)
                if isinstance(wait, Waiting) and (wait.kind, wait.message_id) == (WaitKind.LOCK, event.name):
                    del self.lent[request]
        outcomes = []
        for request in list(self.requests()):
            if request.identity in self.ended:
                continue
            status = self.status(request)
            if isinstance(request, Unlocked):
                status = 0 if held == request.device or request.request else 1
            if isinstance(request, Taken):
                status = 0 if self.ended.get(request.request) == (request.device, 0) else 1
            blamed = set(self.left_without_sending(request)) if status == 1 else set()
            if status == 1 and isinstance(request, Unlocked):
                blamed = {held} if held else set()
            if isinstance(event, Left) and event.device == request.device:
                status, blamed = 130, set()
            if isinstance(event, Released) and event.request == request.identity:
                status = event.status
            if status == 1 and isinstance(request, Waiting) and self.seems_to_boot(request):
                status, blamed = 130, set()
            if status is not None:
                self.ended[request.identity] = (request.device, status)
                self.ended_at[request.identity] = len(self.log)
                if status == 0 and isinstance(request, Waiting) and request.confirms:
                    self.lent[request.identity] = request.device
                outcomes.append((request.identity, request.device, status, blamed))
        return outcomes

    def take_back(self, request: bytes, status: int) -> None:
        self.ended[request] = (self.lent.pop(request), status)

    def seems_to_boot(self, request: Waiting) -> bool:
        (*_, newest) = (event for event in self.log if getattr(event, "device", None) == request.device)
        return isinstance(newest, Lost) and newest.boots and request.time <= newest.time

    def members(self) -> list[tuple[str, str]]:
        members = list(self.declared().members or ())
        for event in self.log:
            if isinstance(event, Joined) and event.device not in [device for device, _ in members]:
                members.append((event.device, event.role))
        return members

    def joined(self) -> set[str]:
        return {event.device for event in self.log if isinstance(event, Joined)}

    def declared(self) -> Founded:
        assert isinstance(self.log[0], Founded)
        return self.log[0]

    def complete(self) -> bool:
        here = self.joined()
        names = {name for name, _ in self.declared().members or ()}
        return names <= here and len(here) >= (self.declared().size or 0)

    def others(self, wait: Waiting) -> list[str]:
        whom = wait.whom if wait.kind in (WaitKind.WAIT_ALL, WaitKind.SYNC) else None
        others = [(name, role) for name, role in self.members() if name != wait.device]
        if isinstance(whom, tuple):
            return [name for name, _ in others if name in whom]
        return [name for name, role in others if whom in (None, role) or isinstance(whom, int)]

    def has_left(self, device: str) -> bool:
        comings = [event for event in self.log if isinstance(event, Joined | Left) and event.device == device]
        return isinstance(comings[-1], Left) if comings else False

    def requests(self) -> Iterator[Request]:
        for event in self.log:
            if isinstance(event, Request):
                yield event

    def locked(self, name: bytes) -> tuple[str | None, set[bytes], set[bytes]]:
        """Who has the lock, the requests that were ever granted, and those by which it is held."""
        holder: str | None = None
        queue: list[Waiting] = []
        granted: set[bytes] = set()
        claims: set[bytes] = set()
        taken: set[bytes] = set()  # for good
        for event in self.log:
            if isinstance(event, Waiting) and event.kind is WaitKind.LOCK and event.message_id == name:
                queue.append(event)
                if not event.confirms:
                    taken.add(event.identity)
            if isinstance(event, Taken) and event.request in claims:
                taken.add(event.request)
            if isinstance(event, Released):
                queue = [wait for wait in queue if wait.identity != event.request]
                claims -= {event.request} - taken
            if isinstance(event, Left):
                queue = [wait for wait in queue if wait.device != event.device]
            if isinstance(event, Left) and event.device == holder:
                claims = set()
            if isinstance(event, Unlocked) and event.name == name:
                claims -= {event.request}
                if event.device == holder and not event.request:
                    claims = set()
            if not claims:
                holder = queue[0].device if queue else None
            new = {wait.identity for wait in queue if wait.device == holder}
            granted |= new
            claims |= new
            queue = [wait for wait in queue if wait.device != holder]
        return holder, granted, claims

    def claims(self, name: bytes) -> set[bytes]:
        return self.locked(name)[2]

    def holder(self, name: bytes) -> str | None:
        return self.locked(name)[0]

    def next_messages(self, wait: Waiting) -> list[Sent | Waiting]:
        """What this wait, or a later one of its device, can still be given."""
        taken = sum(
            earlier.identity != wait.identity and self.ended.get(earlier.identity) == (wait.device, 0)
            for earlier in self.requests()
            if isinstance(earlier, Waiting)
            and (earlier.kind, earlier.device, earlier.message_id)
            == (WaitKind.NEXT, wait.device, wait.message_id)
        )
        others = [message for message in self.messages(wait.message_id) if message.device != wait.device]
        return others[taken:]

    def messages(self, message_id: bytes) -> list[Sent | Waiting]:
        return [
            event
            for event in self.requests()
            if not isinstance(event, Unlocked | Taken)
            and event.message_id == message_id
            and (
                isinstance(event, Sent)
                or (event.kind is WaitKind.SYNC and event.identity not in self.repeated)
            )
        ]

    def came_to_nothing(self, sync: Waiting) -> bool:
        """Whether one of this device's syncs of this id has, since it last began one."""
        syncs = [
            event.identity
            for event in self.requests()
            if isinstance(event, Waiting)
            and (event.kind, event.device, event.message_id) == (WaitKind.SYNC, sync.device, sync.message_id)
        ]
        if not syncs:
            return False
        last = next(
            place
            for place, event in enumerate(self.log, 1)
            if isinstance(event, Waiting) and event.identity == syncs[-1]
        )
        return any(
            self.ended_at[request] >= last
            for request in syncs
            if request in self.ended and self.ended[request][1] != 0
        )

    def times_needed(self, wait: Waiting) -> int:
        if wait.kind is not WaitKind.SYNC:
            return 1
        syncs = [
            m for m in self.messages(wait.message_id) if isinstance(m, Waiting) and m.device == wait.device
        ]
        # One that stands for another is not among them: it is of that one's round.
        began = [m.identity for m in self.requests()]
        return sum(began.index(sync.identity) <= began.index(wait.identity) for sync in syncs)

    def lacking(self, wait: Waiting) -> list[str]:
        if wait.kind is WaitKind.NEXT:
            return self.others(wait)
        senders = [message.device for one in wait.ids for message in self.messages(one)]
        return [device for device in self.others(wait) if senders.count(device) < self.times_needed(wait)]

    def missing(self, wait: Waiting) -> list[str]:
        if wait.kind is WaitKind.LOCK:
            holder = self.holder(wait.message_id)
            return [holder] if holder else []
        if wait.kind in (WaitKind.WAIT, WaitKind.NEXT):
            return [device for device in self.others(wait) if not self.has_left(device)]
        if isinstance(wait.whom, int):
            return [device for device in self.lacking(wait) if not self.has_left(device)]
        return self.lacking(wait)

    def left_without_sending(self, request: Request) -> list[str]:
        if not isinstance(request, Waiting):
            return []
        if isinstance(request.whom, int) and request.whom > len(self.members()):
            return []
        if isinstance(request.whom, tuple) and self.complete() and self.unknown(request.whom):
            return self.unknown(request.whom)[:1]
        return [device for device in self.lacking(request) if self.has_left(device)]

    def unknown(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if name not in dict(self.members())]

    def status(self, request: Request) -> int | None:
        if not isinstance(request, Waiting):
            return 0
        if request.kind is WaitKind.LOCK:
            return 0 if request.identity in self.locked(request.message_id)[1] else None
        lacking = self.lacking(request)
        left = self.left_without_sending(request)
        if request.kind is WaitKind.WAIT:
            fulfilled = lacking != self.others(request)
            hopeless = left == lacking and self.complete()
        elif request.kind is WaitKind.NEXT:
            lent = any(
                isinstance(wait, Waiting)
                and (wait.kind, wait.device, wait.message_id)
                == (request.kind, request.device, request.message_id)
                for wait in self.requests()
                if wait.identity in self.lent
            )
            fulfilled = not lent and self.next_messages(request) != []
            hopeless = not lent and left == lacking and self.complete()
        elif isinstance(request.whom, int):
            able = [name for name in lacking if not self.has_left(name)]
            reached = len(self.members()) - len(lacking)
            fulfilled = reached >= request.whom
            hopeless = reached + len(able) < request.whom and self.complete()
        elif isinstance(request.whom, tuple):
            known = not self.unknown(request.whom)
            came = {message.device for message in self.messages(request.message_id)} | {request.device}
            fulfilled = came >= set(request.whom) and (known or not self.complete())
            hopeless = left != [] or (not known and self.complete())
        elif request.whom not in [None, *dict(self.members()).values()]:
            fulfilled = False
            hopeless = self.complete()
        else:
            fulfilled = lacking == [] and self.complete()
            hopeless = left != []
        return 0 if fulfilled else 1 if hopeless else None

    def data_for(self, device: str, message_id: bytes) -> list[tuple[str, bytes, bytes]]:
        sent: list[tuple[str, bytes, bytes]] = []
        for message in self.messages(message_id):
            if isinstance(message, Sent) and message.device != device:
                earlier = [key for sender, key, _ in sent if sender == message.device]
                if any(key in earlier for key, _ in message.data):
                    sent = [item for item in sent if item[0] != message.device]
                sent += [(message.device, key, value) for key, value in message.data]
        # Of a key that is twice in a message, the second one counts.
        return [
            item
            for place, item in enumerate(sent)
            if item[:2] not in [later[:2] for later in sent[place + 1 :]]
        ]


def state(coordinator: Coordinator, log: list[Event]) -> object:
    """All that can be asked of a coordinator."""
    requests = [event.identity for event in log]
    return (
        coordinator.members,
        coordinator.open_waits(),
        [(coordinator.known(r), coordinator.outcome(r), coordinator.missing(r)) for r in requests],
        [coordinator.data_for(device, message_id) for device in DEVICES for message_id in MESSAGE_IDS],
        [coordinator.holder(name) for name in LOCKS],
    )


member = st.runner().flatmap(lambda self: st.sampled_from(sorted(self.model.joined())))
request = st.runner().flatmap(lambda self: st.sampled_from(list(self.model.requests())))
message_ids = st.sampled_from(MESSAGE_IDS)
short = st.sampled_from([b"", b"k", b"l", b"\xff="])
pairs = st.lists(st.tuples(short, short), max_size=3).map(tuple)
roles = st.sampled_from([None, *ROLES, "nobody"])


class CoordinatorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.coordinator = Coordinator()
        self.model = NaiveGroup()
        self.history: list[Event] = []  # the log as it is written, with what comes twice
        self.outcomes: list[list[Outcome]] = []
        self.count = 0

    def new_request(self) -> bytes:
        self.count += 1
        return identity(self.count)

    def apply(self, event: Event) -> None:
        expected = self.model.apply(event)
        outcomes = self.coordinator.apply(event)
        self.history.append(event)
        self.outcomes.append(outcomes)
        named = [{device for device in DEVICES if device in o.reason} for o in outcomes]
        assert [(o.request, o.device, o.status, n) for o, n in zip(outcomes, named, strict=True)] == expected
        for outcome in outcomes:
            wait = next((r for r in self.model.requests() if r.identity == outcome.request), None)
            if isinstance(wait, Waiting) and wait.kind is WaitKind.NEXT and outcome.status == 0:
                given = self.model.next_messages(wait)[0]
                data = given.data if isinstance(given, Sent) else ()
                assert self.coordinator.message_for(wait) == (given.device, data)
            assert bool(outcome.reason) == (outcome.status != 0)
            assert self.coordinator.outcome(outcome.request) == outcome

    def apply_wait(
        self,
        device: str,
        kind: WaitKind,
        message_id: bytes,
        whom: Whom = None,
        *others: bytes,
        confirms: bool = False,
    ) -> None:
        request, now = self.new_request(), float(self.count)
        self.apply(
            Waiting(now, device, request, kind, message_id, whom, None, or_ids=others, confirms=confirms)
        )

    @initialize(
        devices=st.permutations(DEVICES),
        size=st.integers(1, 4),
        more=st.integers(0, 1),
        declared=st.sampled_from(["nothing", "size", "members"]),
        data=st.data(),
    )
    def begin(self, devices: list[str], size: int, more: int, declared: str, data: st.DataObject) -> None:
        roles = {device: data.draw(st.sampled_from(ROLES)) for device in devices[: size + more]}
        self.apply(
            Founded(
                0.0,
                fresh(),
                tuple(roles.items()) if declared == "members" else None,
                len(roles) if declared == "size" else None,
            )
        )
        for device in devices[:size]:
            self.join(device, roles[device])
        self.send(devices[0], b"something to repeat", ())

    @rule(device=st.sampled_from(DEVICES), role=st.sampled_from(ROLES))
    def join(self, device: str, role: str) -> None:
        self.apply(joined(device, role, float(self.count)))

    @rule(device=member)
    def leave(self, device: str) -> None:
        self.apply(left(device, time=float(self.count)))

    @rule(device=member, message_id=message_ids, data=pairs)
    def send(self, device: str, message_id: bytes, data: tuple[tuple[bytes, bytes], ...]) -> None:
        self.apply(Sent(float(self.count), device, self.new_request(), message_id, data))

    @rule(device=member, message_id=message_ids)
    def wait(self, device: str, message_id: bytes) -> None:
        self.apply_wait(device, WaitKind.WAIT, message_id)

    @rule(device=member, ids=st.permutations(MESSAGE_IDS))
    def wait_any(self, device: str, ids: list[bytes]) -> None:
        self.apply_wait(device, WaitKind.WAIT, ids[0], None, *ids[1:])

    @rule(device=member, message_id=message_ids, confirms=st.booleans())
    def wait_next(self, device: str, message_id: bytes, confirms: bool) -> None:
        self.apply_wait(device, WaitKind.NEXT, message_id, confirms=confirms)

    @rule(device=member, earlier=request)
    def take(self, device: str, earlier: Request) -> None:
        self.apply(Taken(float(self.count), device, self.new_request(), earlier.identity))

    @precondition(lambda self: self.model.lent)
    @rule(data=st.data(), goes_back=st.booleans())
    def settle(self, data: st.DataObject, goes_back: bool) -> None:
        lent = data.draw(st.sampled_from(list(self.model.lent)))
        if goes_back:
            self.apply(released(lent, 130))
        else:
            self.apply(Taken(float(self.count), self.model.lent[lent], self.new_request(), lent))

    @rule(device=member, boots=st.booleans(), late=st.booleans())
    def lose(self, device: str, boots: bool, late: bool) -> None:
        """Late: it was before all that the device has asked for, and could not be appended then."""
        self.apply(Lost(-1.0 if late else float(self.count), device, fresh(), "connection lost", boots))

    @rule(device=member, message_id=message_ids, names=st.lists(st.sampled_from(DEVICES), min_size=1))
    def wait_for_devices(self, device: str, message_id: bytes, names: list[str]) -> None:
        self.apply_wait(device, WaitKind.WAIT_ALL, message_id, tuple(dict.fromkeys(names)))

    @rule(device=member, message_id=message_ids, whom=roles | st.integers(1, 6))
    def sync_some(self, device: str, message_id: bytes, whom: Whom) -> None:
        self.apply_wait(device, WaitKind.SYNC, message_id, whom)

    @rule(device=member, name=st.sampled_from(LOCKS), confirms=st.booleans())
    def lock(self, device: str, name: bytes, confirms: bool) -> None:
        self.apply_wait(device, WaitKind.LOCK, name, confirms=confirms)

    @rule(device=member, name=st.sampled_from(LOCKS), data=st.data())
    def unlock(self, device: str, name: bytes, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from([b"", *sorted(self.model.claims(name))]))
        self.apply(Unlocked(float(self.count), device, self.new_request(), name, request))

    @rule(device=member, message_id=message_ids, role=roles)
    def wait_all(self, device: str, message_id: bytes, role: str | None) -> None:
        self.apply_wait(device, WaitKind.WAIT_ALL, message_id, role)

    @rule(device=member, message_id=message_ids)
    def sync(self, device: str, message_id: bytes) -> None:
        self.apply_wait(device, WaitKind.SYNC, message_id)

    @rule(message_id=message_ids, data=st.data())
    def all_wait(self, message_id: bytes, data: st.DataObject) -> None:
        for device in data.draw(st.permutations(sorted(self.model.joined()))):
            kind = data.draw(st.sampled_from([WaitKind.WAIT, WaitKind.WAIT_ALL]))
            self.apply_wait(device, kind, message_id, data.draw(roles))

    @rule(message_id=message_ids, data=st.data())
    def all_sync(self, message_id: bytes, data: st.DataObject) -> None:
        for device in data.draw(st.permutations(sorted(self.model.joined()))):
            self.apply_wait(device, WaitKind.SYNC, message_id)
            self.same_as_the_model()

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.apply(data.draw(st.sampled_from(self.history)))

    @rule(earlier=request, device=member, message_id=message_ids, kind=st.sampled_from([None, *WaitKind]))
    def use_an_identity_again(
        self, earlier: Request, device: str, message_id: bytes, kind: WaitKind | None
    ) -> None:
        if kind is None:
            self.apply(Sent(float(self.count), device, earlier.identity, message_id, ((b"k", b"!"),)))
        else:
            self.apply(Waiting(float(self.count), device, earlier.identity, kind, message_id, None, 1.0))

    @rule(earlier=request, status=st.sampled_from([1, 75, 130]))
    def release(self, earlier: Request, status: int) -> None:
        self.apply(released(earlier.identity, status))

    @rule()
    def release_what_is_not_known(self) -> None:
        unknown = identity(self.count + 1)  # the next request will have it
        self.apply(released(unknown))

    @rule(message_id=message_ids, kind=st.sampled_from(WaitKind), data=st.data())
    def an_event_of_a_stranger_changes_nothing(
        self, message_id: bytes, kind: WaitKind, data: st.DataObject
    ) -> None:
        declared = {name for name, _ in self.model.members()} - self.model.joined()
        name = data.draw(st.sampled_from(["stranger", *sorted(declared)]))
        events: list[Event] = [
            Sent(0.0, name, b"new", message_id, ()),
            Waiting(0.0, name, b"new", kind, message_id, None, None),
            Unlocked(0.0, name, b"new", message_id),
            left(name),
        ]
        for event in events:
            with pytest.raises(ValueError, match="never joined"):
                self.coordinator.apply(event)
        assert not self.coordinator.known(b"new")

    @invariant()
    def same_as_the_model(self) -> None:
        requests = list(self.model.requests())
        waits = [r for r in requests if isinstance(r, Waiting) and r.identity not in self.model.ended]
        assert self.coordinator.open_waits() == [OpenWait(w, self.model.missing(w)) for w in waits]
        for request in requests:
            assert self.coordinator.known(request.identity)
            outcome = self.coordinator.outcome(request.identity)
            ended = None if outcome is None else (outcome.device, outcome.status)
            assert ended == self.model.ended.get(request.identity)
            missing = self.model.missing(request) if isinstance(request, Waiting) and request in waits else []
            assert self.coordinator.missing(request.identity) == missing
        assert not self.coordinator.known(identity(self.count + 1))
        assert self.coordinator.members == self.model.members()
        assert self.coordinator.complete == (self.coordinator.awaited == "") == self.model.complete()
        assert {wait.identity: wait.device for wait in self.coordinator.lent()} == self.model.lent
        for name in LOCKS:
            assert self.coordinator.holder(name) == self.model.holder(name)
        for device in DEVICES:
            firsts = [
                message.message_id
                for message in self.model.requests()
                if not isinstance(message, Unlocked | Taken)
                and message.message_id in MESSAGE_IDS
                and message.device != device
                and message in self.model.messages(message.message_id)
            ]
            assert self.coordinator.first_there(device, MESSAGE_IDS) == next(iter(firsts), None)
            for message_id in MESSAGE_IDS:
                data = self.coordinator.data_for(device, message_id)
                assert data == self.model.data_for(device, message_id)

    def teardown(self) -> None:
        stored = [from_json(json.loads(json.dumps(to_json(event)))) for event in self.history]
        assert stored == self.history
        for events in (self.history, stored):
            again = Coordinator()
            assert [again.apply(event) for event in events] == self.outcomes
            assert state(again, self.history) == state(self.coordinator, self.history)


CoordinatorMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestCoordinatorMachine = CoordinatorMachine.TestCase
