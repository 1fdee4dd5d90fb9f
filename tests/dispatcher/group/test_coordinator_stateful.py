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
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dispatcher.group.coordinator import Coordinator, OpenWait, Outcome
from dispatcher.group.events import Event, Joined, Left, Released, Sent, Waiting, WaitKind, from_json, to_json

DEVICES = ["dev-a", "dev-b", "dev-c", "dev-d", "dev-e"]
ROLES = ["client", "server"]
MESSAGE_IDS = [b"x", b"\xff"]


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

    def apply(self, event: Event) -> list[tuple[bytes, str, int, set[str]]]:
        """The requests that end: identity, device, status, and the devices to blame."""
        if isinstance(event, Waiting) and event.kind is WaitKind.SYNC and self.came_to_nothing(event):
            self.repeated.add(event.request)
        self.log.append(event)
        outcomes = []
        for request in list(self.requests()):
            if request.request in self.ended:
                continue
            status = self.status(request)
            blamed = set(self.left_without_sending(request)) if status == 1 else set()
            if isinstance(event, Left) and event.device == request.device:
                status, blamed = 1, set()
            if isinstance(event, Released) and event.request == request.request:
                status = event.status
            if status is not None:
                self.ended[request.request] = (request.device, status)
                self.ended_at[request.request] = len(self.log)
                outcomes.append((request.request, request.device, status, blamed))
        return outcomes

    def members(self) -> list[tuple[str, str]]:
        members: list[tuple[str, str]] = []
        for event in self.log:
            if isinstance(event, Joined) and event.device not in [device for device, _ in members]:
                members.append((event.device, event.role))
        return members

    def others(self, wait: Waiting) -> list[str]:
        role = wait.role if wait.kind is WaitKind.WAIT_ALL else None
        return [name for name, its in self.members() if name != wait.device and role in (None, its)]

    def has_left(self, device: str) -> bool:
        comings = [event for event in self.log if isinstance(event, Joined | Left) and event.device == device]
        return isinstance(comings[-1], Left)

    def requests(self) -> Iterator[Sent | Waiting]:
        seen = set()
        for event in self.log:
            if isinstance(event, Sent | Waiting) and event.request not in seen:
                seen.add(event.request)
                yield event

    def messages(self, message_id: bytes) -> list[Sent | Waiting]:
        return [
            event
            for event in self.requests()
            if event.message_id == message_id
            and (
                isinstance(event, Sent)
                or (event.kind is WaitKind.SYNC and event.request not in self.repeated)
            )
        ]

    def came_to_nothing(self, sync: Waiting) -> bool:
        """Whether one of this device's syncs of this id has, since it last began one."""
        requests = [event.request for event in self.log if isinstance(event, Sent | Waiting)]
        syncs = [
            event.request
            for event in self.requests()
            if isinstance(event, Waiting)
            and (event.kind, event.device, event.message_id) == (WaitKind.SYNC, sync.device, sync.message_id)
        ]
        if not syncs or sync.request in requests:
            return False
        last = next(
            place
            for place, event in enumerate(self.log, 1)
            if isinstance(event, Waiting) and event.request == syncs[-1]
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
        began = [m.request for m in self.requests()]
        return sum(began.index(sync.request) <= began.index(wait.request) for sync in syncs)

    def lacking(self, wait: Waiting) -> list[str]:
        senders = [message.device for message in self.messages(wait.message_id)]
        return [device for device in self.others(wait) if senders.count(device) < self.times_needed(wait)]

    def missing(self, wait: Waiting) -> list[str]:
        if wait.kind is WaitKind.WAIT:
            return [device for device in self.others(wait) if not self.has_left(device)]
        return self.lacking(wait)

    def left_without_sending(self, request: Sent | Waiting) -> list[str]:
        if isinstance(request, Sent):
            return []
        return [device for device in self.lacking(request) if self.has_left(device)]

    def status(self, request: Sent | Waiting) -> int | None:
        if isinstance(request, Sent):
            return 0
        lacking = self.lacking(request)
        left = self.left_without_sending(request)
        if request.kind is WaitKind.WAIT:
            fulfilled = lacking != self.others(request)
            hopeless = left == lacking
        elif request.kind is WaitKind.WAIT_ALL and request.role not in [None, *dict(self.members()).values()]:
            fulfilled = False
            hopeless = True
        else:
            fulfilled = lacking == []
            hopeless = left != []
        return 0 if fulfilled else 1 if hopeless else None

    def data_for(self, device: str, message_id: bytes) -> list[tuple[str, bytes, bytes]]:
        sent = [
            (message.device, key, value)
            for message in self.messages(message_id)
            if isinstance(message, Sent) and message.device != device
            for key, value in message.data
        ]
        return [
            (sender, key, value)
            for place, (sender, key, value) in enumerate(sent)
            if (sender, key) not in [(later[0], later[1]) for later in sent[place + 1 :]]
        ]


def state(coordinator: Coordinator, log: list[Event]) -> object:
    """All that can be asked of a coordinator."""
    requests = [event.request for event in log if isinstance(event, Sent | Waiting | Released)]
    return (
        coordinator.members,
        coordinator.open_waits(),
        [(coordinator.known(r), coordinator.outcome(r), coordinator.missing(r)) for r in requests],
        [coordinator.data_for(device, message_id) for device in DEVICES for message_id in MESSAGE_IDS],
    )


member = st.runner().flatmap(lambda self: st.sampled_from([device for device, _ in self.model.members()]))
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
        self.outcomes: list[list[Outcome]] = []
        self.count = 0

    def new_request(self) -> bytes:
        self.count += 1
        return identity(self.count)

    def apply(self, event: Event) -> None:
        expected = self.model.apply(event)
        outcomes = self.coordinator.apply(event)
        self.outcomes.append(outcomes)
        named = [{device for device in DEVICES if device in o.reason} for o in outcomes]
        assert [(o.request, o.device, o.status, n) for o, n in zip(outcomes, named, strict=True)] == expected
        for outcome in outcomes:
            assert bool(outcome.reason) == (outcome.status != 0)
            assert self.coordinator.outcome(outcome.request) is outcome

    def apply_wait(self, device: str, kind: WaitKind, message_id: bytes, role: str | None = None) -> None:
        self.apply(Waiting(float(self.count), device, self.new_request(), kind, message_id, role, None))

    @initialize(devices=st.permutations(DEVICES), size=st.integers(1, 4), data=st.data())
    def begin(self, devices: list[str], size: int, data: st.DataObject) -> None:
        for device in devices[:size]:
            self.join(device, data.draw(st.sampled_from(ROLES)))
        self.send(devices[0], b"something to repeat", ())

    @rule(device=st.sampled_from(DEVICES), role=st.sampled_from(ROLES))
    def join(self, device: str, role: str) -> None:
        self.apply(Joined(float(self.count), device, role))

    @rule(device=member)
    def leave(self, device: str) -> None:
        self.apply(Left(float(self.count), device, "its script ended"))

    @rule(device=member, message_id=message_ids, data=pairs)
    def send(self, device: str, message_id: bytes, data: tuple[tuple[bytes, bytes], ...]) -> None:
        self.apply(Sent(float(self.count), device, self.new_request(), message_id, data))

    @rule(device=member, message_id=message_ids)
    def wait(self, device: str, message_id: bytes) -> None:
        self.apply_wait(device, WaitKind.WAIT, message_id)

    @rule(device=member, message_id=message_ids, role=roles)
    def wait_all(self, device: str, message_id: bytes, role: str | None) -> None:
        self.apply_wait(device, WaitKind.WAIT_ALL, message_id, role)

    @rule(device=member, message_id=message_ids)
    def sync(self, device: str, message_id: bytes) -> None:
        self.apply_wait(device, WaitKind.SYNC, message_id)

    @rule(message_id=message_ids, data=st.data())
    def all_wait(self, message_id: bytes, data: st.DataObject) -> None:
        for device, _ in data.draw(st.permutations(self.model.members())):
            kind = data.draw(st.sampled_from([WaitKind.WAIT, WaitKind.WAIT_ALL]))
            self.apply_wait(device, kind, message_id, data.draw(roles))

    @rule(message_id=message_ids, data=st.data())
    def all_sync(self, message_id: bytes, data: st.DataObject) -> None:
        for device, _ in data.draw(st.permutations(self.model.members())):
            self.apply_wait(device, WaitKind.SYNC, message_id)
            self.same_as_the_model()

    @rule(event=request)
    def repeat(self, event: Event) -> None:
        self.apply(event)

    @rule(earlier=request, device=member, message_id=message_ids, kind=st.sampled_from([None, *WaitKind]))
    def use_an_identity_again(
        self, earlier: Sent | Waiting, device: str, message_id: bytes, kind: WaitKind | None
    ) -> None:
        if kind is None:
            self.apply(Sent(float(self.count), device, earlier.request, message_id, ((b"k", b"!"),)))
        else:
            self.apply(Waiting(float(self.count), device, earlier.request, kind, message_id, None, 1.0))

    @rule(earlier=request, status=st.sampled_from([1, 75, 130]))
    def release(self, earlier: Sent | Waiting, status: int) -> None:
        self.apply(Released(float(self.count), earlier.request, status, "timed out"))

    @rule()
    def release_what_is_not_known(self) -> None:
        unknown = identity(self.count + 1)  # the next request will have it
        self.apply(Released(float(self.count), unknown, 1, "timed out"))

    @rule(message_id=message_ids, kind=st.sampled_from(WaitKind))
    def an_event_of_a_stranger_changes_nothing(self, message_id: bytes, kind: WaitKind) -> None:
        events: list[Event] = [
            Sent(0.0, "stranger", b"new", message_id, ()),
            Waiting(0.0, "stranger", b"new", kind, message_id, None, None),
            Left(0.0, "stranger", "died"),
        ]
        for event in events:
            with pytest.raises(ValueError, match="never joined"):
                self.coordinator.apply(event)
        assert not self.coordinator.known(b"new")

    @invariant()
    def same_as_the_model(self) -> None:
        requests = list(self.model.requests())
        waits = [r for r in requests if isinstance(r, Waiting) and r.request not in self.model.ended]
        assert self.coordinator.open_waits() == [OpenWait(w, self.model.missing(w)) for w in waits]
        for request in requests:
            assert self.coordinator.known(request.request)
            outcome = self.coordinator.outcome(request.request)
            ended = None if outcome is None else (outcome.device, outcome.status)
            assert ended == self.model.ended.get(request.request)
            missing = self.model.missing(request) if request in waits else []
            assert self.coordinator.missing(request.request) == missing
        assert not self.coordinator.known(identity(self.count + 1))
        assert self.coordinator.members == self.model.members()
        for device in DEVICES:
            for message_id in MESSAGE_IDS:
                data = self.coordinator.data_for(device, message_id)
                assert data == self.model.data_for(device, message_id)

    def teardown(self) -> None:
        log = self.model.log
        stored = [from_json(json.loads(json.dumps(to_json(event)))) for event in log]
        assert stored == log
        for events in (log, stored):
            again = Coordinator()
            assert [again.apply(event) for event in events] == self.outcomes
            assert state(again, log) == state(self.coordinator, log)


CoordinatorMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCoordinatorMachine = CoordinatorMachine.TestCase
