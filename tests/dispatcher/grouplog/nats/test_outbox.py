# SPDX-License-Identifier: MIT
"""The outbox: whatever becomes of messages, no event is forgotten, and the order of one host holds."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dispatcher.grouplog.nats.outbox import MAX_BYTES, PATIENCE, Message, Outbox


def filled(*lines: bytes) -> Outbox:
    outbox = Outbox()
    for line in lines:
        outbox.append(line[:8], line, 0.0)
    return outbox


def test_what_comes_while_a_message_is_under_way_goes_into_the_next() -> None:
    outbox = filled(b"a")
    first = outbox.message()
    assert first is not None and first.payload == b"a"
    outbox.append(b"b", b"b", 0.0)
    outbox.append(b"c", b"c", 0.0)
    assert outbox.message() == first
    outbox.accepted(first, 7, 6)
    second = outbox.message()
    assert second is not None and second.payload == b"b\nc"
    assert not outbox.empty
    for identity in (b"a", b"b", b"c"):
        outbox.came_back(identity)
    assert outbox.empty and outbox.message() is None


def test_a_message_is_no_larger_than_it_may_be_unless_one_event_is() -> None:
    half = MAX_BYTES // 2
    outbox = filled(b"a" * half, b"b" * half, b"c" * 9, bytes(MAX_BYTES + 1))
    sizes = []
    while (message := outbox.message()) is not None:
        sizes.append(len(message.payload))
        outbox.accepted(message, 1, 0)
    assert sizes == [half, half + 10, MAX_BYTES + 1]


def test_of_several_events_that_are_refused_each_travels_alone() -> None:
    outbox = filled(b"a", b"b")
    message = outbox.message()
    assert message is not None
    outbox.append(b"c", b"c", 0.0)
    outbox.append(b"d", b"d", 0.0)
    assert outbox.refused(message) == []
    payloads = []
    while (following := outbox.message()) is not None:
        payloads.append(following.payload)
        if following.payload == b"a":
            assert outbox.refused(following) == [b"a"]
            assert outbox.refused(following) == []
        else:
            outbox.accepted(following, 1, 0)
    assert payloads == [b"a", b"b", b"c\nd"]


def test_what_comes_too_late_is_given_up_and_the_rest_is_another_message() -> None:
    outbox = filled(b"a")
    outbox.append(b"b", b"b", 5.0)
    message = outbox.message()
    assert outbox.next_timeout() == PATIENCE
    assert outbox.expire(PATIENCE - 1) == []
    assert outbox.expire(PATIENCE) == [b"a"]
    rest = outbox.message()
    assert message is not None and rest is not None
    assert rest.payload == b"b" and rest.identity != message.identity
    # The answer to the former says nothing of this one.
    outbox.accepted(message, 3, 2)
    assert outbox.message() == rest
    outbox.append(b"c", b"c", 6.0)
    assert outbox.expire(PATIENCE + 6) == [b"b", b"c"]
    assert outbox.empty and outbox.next_timeout() is None


def test_an_event_that_had_come_already_is_not_waited_for() -> None:
    outbox = filled(b"a")
    message = outbox.message()
    assert message is not None
    outbox.accepted(message, sequence=4, last=9)
    assert outbox.empty


class Servers(RuleBasedStateMachine):
    """Messages are lost, doubled and late in every way; the log drops what it knows, as the fold does."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.now = 0.0
        self.asked: list[bytes] = []
        self.failed: list[bytes] = []
        self.log: list[bytes] = []  # first occurrences
        self.delivered = 0
        self.in_the_net: list[Message] = []

    @rule()
    def append(self) -> None:
        identity = b"%d" % len(self.asked)
        self.asked.append(identity)
        self.outbox.append(identity, identity, self.now)

    def store(self, message: Message) -> None:
        self.log += [line for line in message.payload.split(b"\n") if line not in self.log]

    @rule(stored=st.booleans(), answered=st.booleans(), late=st.booleans())
    def publish(self, stored: bool, answered: bool, late: bool) -> None:
        message = self.outbox.message()
        if message is None:
            return
        if late:
            self.in_the_net.append(message)
        if stored:
            self.store(message)
            if answered:
                self.outbox.accepted(message, len(self.log), self.delivered)

    @rule()
    def refuse(self) -> None:
        message = self.outbox.message()
        lines = [] if message is None else message.payload.split(b"\n")
        if message is not None and not any(line in self.log for line in lines):
            self.in_the_net = [late for late in self.in_the_net if late != message]
            self.failed += self.outbox.refused(message)

    @rule()
    def arrive_late(self) -> None:
        if self.in_the_net:
            self.store(self.in_the_net.pop(0))

    @rule(count=st.integers(1, 3))
    def deliver(self, count: int) -> None:
        for identity in self.log[self.delivered : self.delivered + count]:
            self.outbox.came_back(identity)
            self.delivered += 1

    @rule(seconds=st.sampled_from([0.1, PATIENCE / 2, PATIENCE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.failed += self.outbox.expire(self.now)

    @invariant()
    def the_order_holds(self) -> None:
        # What was given up may be in the log all the same, and then late.
        kept = [int(identity) for identity in self.log if identity not in self.failed]
        assert kept == sorted(kept)

    def teardown(self) -> None:
        while (message := self.outbox.message()) is not None:
            self.store(message)
            self.outbox.accepted(message, len(self.log), self.delivered)
        for identity in self.log[self.delivered :]:
            self.outbox.came_back(identity)
        assert self.outbox.empty
        assert set(self.asked) == set(self.log) | set(self.failed)


Servers.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestServers = Servers.TestCase
