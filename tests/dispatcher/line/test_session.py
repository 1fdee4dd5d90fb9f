# SPDX-License-Identifier: MIT
from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterator

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.line.session import (
    ABANDONED,
    ANSWER_HOLD,
    DOUBT,
    MAX_ASSEMBLING,
    MAX_BOOTS,
    MAX_CHUNK,
    MAX_KEPT_REPLIES,
    MAX_LINKS,
    MAX_NONCES,
    MAX_REQUESTS,
    RESUMED,
    STALE,
    Cancelled,
    Cleared,
    Rebooted,
    Received,
    Request,
    Session,
    SessionEvent,
    State,
    Suspected,
)
from toolkit.wire import packets
from toolkit.wire.framing import MAX_FRAME_BODY, decode_line
from toolkit.wire.packets import ACK, CANCEL, FENCE, HELLO, LEASE, POLL, REPLY, REPLY_WINDOW, REQUEST, WELCOME
from toolkit.wire.transfer import seal
from toolkit.wire.vocabulary import LINK_FAILED, MAX_REQUEST, OK, pack_reply, unpack_reply

GROUP = 77
BOOT = 1000


class Host:
    """A session, whose requests are recorded at once, and stay open but for those of `answers`."""

    def __init__(self) -> None:
        self.tokens = itertools.count(1)
        self.session = Session(lambda: next(self.tokens), GROUP)
        self.requests: list[tuple[Request, bytes]] = []
        self.cancelled: list[tuple[Request, str]] = []
        self.doubts: list[SessionEvent] = []
        self.answers: dict[bytes, bytes] = {}
        self.recording = True
        self.now = 0.0

    def frame(self, *packet: object) -> list[list[object]]:
        """What the session types for it."""
        self._carry_out(self.session.receive_frame(packets.pack_packet(*packet), self.now))  # type: ignore[arg-type]
        return self.typed()

    def receive(self, body: bytes) -> list[bytes]:
        """What the session types for this body, as lines."""
        self._carry_out(self.session.receive_frame(body, self.now))
        return self.session.lines()

    def handle_timeout(self, now: float) -> None:
        self._carry_out(self.session.handle_timeout(now))

    def _carry_out(self, events: list[SessionEvent]) -> None:
        for event in events:
            if isinstance(event, Cancelled):
                self.cancelled.append((event.request, event.reason))
            if not isinstance(event, Received):
                self.doubts += [] if isinstance(event, Cancelled) else [event]
                continue
            self.requests.append((event.request, event.message))
            if event.message in self.answers:
                self.session.reply(event.request, self.answers[event.message], self.now)
            elif self.recording:
                self.session.accept(event.request)

    def typed(self) -> list[list[object]]:
        bodies = [decode_line(line) for line in self.session.lines()]
        return [packets.unpack_down(body) for body in bodies if body is not None]


class Device:
    """An agent that can do what a good one does, and other things."""

    def __init__(self, host: Host, nonce: int = 1, boot: int = BOOT) -> None:
        self.host = host
        self.nonce = nonce
        self.boot = boot
        self.sequence = 0
        self.session = 0
        self.hello()

    def hello(self) -> None:
        self.sequence += 1
        for kind, *fields in self.host.frame(HELLO, packets.VERSION, self.nonce, self.sequence, self.boot):
            assert kind == WELCOME and fields[:3] == [packets.VERSION, self.nonce, self.sequence]
            assert fields[4] == GROUP
            self.session = fields[3]  # type: ignore[assignment]

    def send(self, kind: int, *fields: object) -> list[list[object]]:
        self.sequence += 1
        return self.host.frame(kind, self.session, self.sequence, *fields)

    def request(self, tag: int, message: bytes = b"request") -> list[list[object]]:
        data = seal(message)
        lines = []
        for offset in range(0, len(data), 400):
            chunk = data[offset : offset + 400]
            lines += self.send(REQUEST, tag, LEASE, offset, len(data), int(offset + 400 >= len(data)), chunk)
        return lines


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def device(host: Host) -> Device:
    return Device(host)


def message_of(lines: list[list[object]]) -> bytes:
    """The message in a burst of REPLY lines that hold all of it."""
    data = b""
    for kind, _, _, _, offset, total, push, chunk in lines:
        assert kind == REPLY and offset == len(data) and isinstance(chunk, bytes)
        data += chunk
        assert push == int(len(data) == total)
    assert seal(data[:-4]) == data
    return data[:-4]


# -- one request -------------------------------------------------------------------------------


def test_a_request_that_is_answered_at_once(host: Host, device: Device) -> None:
    host.answers[b"request"] = b"reply"
    lines = device.request(1)
    assert message_of(lines) == b"reply"
    assert lines[0][1:4] == [device.session, device.sequence, 1]


def test_a_request_that_has_to_wait_is_acknowledged_and_answered_later(host: Host, device: Device) -> None:
    assert device.request(1) == [[ACK, device.session, device.sequence, 1, len(seal(b"request"))]]
    ((request, message),) = host.requests
    assert message == b"request" and request.state is State.OPEN
    host.session.reply(request, b"reply", 1.0)
    assert message_of(host.typed()) == b"reply"
    # Once: nothing comes by itself after that.
    host.session.reply(request, b"other", 1.0)
    host.handle_timeout(1000.0)
    assert host.typed() == []


def test_the_answer_waits_until_the_request_is_recorded(host: Host, device: Device) -> None:
    host.recording = False
    assert device.request(1) == []
    ((request, _),) = host.requests
    assert host.session.next_timeout() == ANSWER_HOLD
    host.session.accept(request)
    assert host.typed() == [[ACK, device.session, device.sequence, 1, len(seal(b"request"))]]
    # Once.
    host.session.accept(request)
    host.handle_timeout(ANSWER_HOLD)
    assert host.typed() == []
    assert host.session.next_timeout() == ABANDONED


def test_a_reply_that_comes_soon_is_the_only_line(host: Host, device: Device) -> None:
    host.recording = False
    assert device.request(1) == []
    ((request, _),) = host.requests
    host.session.reply(request, b"reply", ANSWER_HOLD / 2)
    assert message_of(host.typed()) == b"reply"
    host.handle_timeout(ANSWER_HOLD)
    assert host.typed() == []


def test_a_request_that_takes_long_to_record_is_acknowledged(host: Host, device: Device) -> None:
    """A device that has no answer would repeat the frame."""
    host.recording = False
    device.request(1)
    host.handle_timeout(ANSWER_HOLD - 0.001)
    assert host.typed() == []
    host.handle_timeout(ANSWER_HOLD)
    assert host.typed() == [[ACK, device.session, device.sequence, 1, len(seal(b"request"))]]


def test_a_poll_meanwhile_is_answered_at_once_and_for_both(host: Host, device: Device) -> None:
    host.recording = False
    device.request(1)
    assert device.send(POLL, 1, LEASE, 0) == [[ACK, device.session, 3, 1, len(seal(b"request"))]]
    host.handle_timeout(ANSWER_HOLD)
    host.session.accept(host.requests[0][0])
    assert host.typed() == []


def test_nothing_is_typed_for_a_frame_of_what_was_cancelled_meanwhile(host: Host, device: Device) -> None:
    host.recording = False
    device.request(1)
    ((request, _),) = host.requests
    assert device.send(CANCEL, 1, 0) == []
    host.session.accept(request)
    host.session.reply(request, b"reply", 0.0)
    host.handle_timeout(ANSWER_HOLD)
    assert host.typed() == []


def test_after_a_sign_of_a_crash_nothing_is_typed_until_the_device_asks(host: Host, device: Device) -> None:
    device.request(1)
    host.recording = False
    device.request(2)
    for request, _ in host.requests:
        host.session.end_leases(host.now)
        host.session.accept(request)
        host.session.reply(request, b"reply", 0.0)
    host.handle_timeout(1.0)
    assert host.typed() == []
    assert message_of(device.send(POLL, 2, LEASE, 0)) == b"reply"


def test_chunks_are_answered_when_they_ask_for_it(device: Device) -> None:
    data = seal(bytes(100))
    total = len(data)
    ack = [ACK, device.session]
    assert device.send(REQUEST, 1, LEASE, 0, total, 0, data[:20]) == []
    assert device.send(REQUEST, 1, LEASE, 40, total, 1, data[40:60]) == [[*ack, device.sequence, 1, 20]]
    assert device.send(REQUEST, 1, LEASE, 20, total, 0, data[20:40]) == []
    assert device.send(POLL, 1, LEASE, 0) == [[*ack, device.sequence, 1, 60]]
    # All is there: answered without being asked.
    assert device.send(REQUEST, 1, LEASE, 60, total, 0, data[60:]) == [[*ack, device.sequence, 1, total]]


def test_a_repeated_request_is_carried_out_once(host: Host, device: Device) -> None:
    host.answers[b"request"] = b"reply"
    assert [message_of(device.request(1)) for _ in range(3)] == [b"reply"] * 3
    assert len(host.requests) == 1


def test_the_same_request_over_another_link_is_handed_on_again(host: Host, device: Device) -> None:
    other = Device(host, nonce=2)
    device.request(1)
    other.request(1)
    assert [message for _, message in host.requests] == [b"request", b"request"]


def test_a_long_reply_comes_as_it_is_asked_for(host: Host, device: Device) -> None:
    reply = bytes(range(256)) * 40
    host.answers[b"request"] = reply
    lines = device.request(1)
    data = b""
    bursts = 0
    while True:
        bursts += 1
        assert len(lines) <= REPLY_WINDOW
        for line in lines:
            assert line[0] == REPLY and line[4] == len(data) and line[5] == len(reply) + 4
            data += line[7]  # type: ignore[operator]
        assert [line[6] for line in lines] == [0] * (len(lines) - 1) + [1]
        if len(data) == len(reply) + 4:
            break
        lines = device.send(POLL, 1, LEASE, len(data))
    assert data == seal(reply)
    assert bursts == -(-len(data) // (REPLY_WINDOW * MAX_CHUNK))
    # A poll that crossed the last of it gets a word, no reply.
    assert device.send(POLL, 1, LEASE, len(data)) == [
        [ACK, device.session, device.sequence, 1, len(seal(b"request"))]
    ]
    # And one that has lost everything gets it all again, in less at a time.
    assert len(device.send(POLL, 1, LEASE, 0)) == 1


def test_a_poll_for_an_unknown_request_says_so(device: Device) -> None:
    assert device.send(POLL, 9, LEASE, 0) == [[ACK, device.session, device.sequence, 9, 0]]


@pytest.mark.parametrize("push", [0, 1])
@pytest.mark.parametrize("state", State)
def test_cancelling(host: Host, device: Device, state: State, push: int) -> None:
    if state is State.ANSWERED:
        host.answers[b"request"] = b"reply"
    if state is State.ASSEMBLING:
        device.send(REQUEST, 1, LEASE, 0, 100, 1, bytes(50))
    else:
        device.request(1)
    for _ in range(2):
        expected = [[FENCE, device.session, device.sequence + 1, 1]] if push else []
        assert device.send(CANCEL, 1, push) == expected
    assert [reason for _, reason in host.cancelled] == ([] if state is State.ASSEMBLING else ["cancelled"])
    # No line for it will follow.
    for request, _ in host.requests:
        host.session.reply(request, b"late", 0.0)
    assert host.typed() == []


def test_a_request_that_a_cancel_has_overtaken_does_not_come_back(host: Host, device: Device) -> None:
    data = seal(b"request")
    late = (REQUEST, device.session, device.sequence + 1, 1, LEASE, 0, len(data), 1, data)
    device.sequence += 1
    device.send(CANCEL, 1, 1)
    assert host.frame(*late) == []
    assert host.requests == []


# -- leases --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lease", [0, 1, LEASE, 127])
@pytest.mark.parametrize("polled", [None, 0, LEASE + 20])
def test_a_reply_is_typed_within_the_lease_only(
    host: Host, device: Device, polled: int | None, lease: int
) -> None:
    data = seal(b"request")
    device.send(REQUEST, 1, lease if polled is None else LEASE, 0, len(data), 1, data)
    if polled is not None:
        # The newest frame counts.
        host.now = polled
        device.send(POLL, 1, lease, 0)
    ((request, _),) = host.requests
    for late in (lease - 0.1, lease, lease + 30):
        other = copy.copy(request)
        host.session.reply(other, b"reply", host.now + late)
        typed = host.typed()
        if late < lease:
            assert message_of(typed) == b"reply"
        else:
            assert typed == []
    # It is kept for the one who asks.
    host.session.reply(request, b"reply", host.now + lease)
    assert host.typed() == []
    assert message_of(device.send(POLL, 1, 0, 0)) == b"reply"


def test_a_lease_is_of_one_request_only(host: Host, device: Device) -> None:
    device.request(1)
    host.now = LEASE
    device.request(2, b"other")
    device.send(POLL, 2, LEASE, 0)
    host.session.reply(host.requests[0][0], b"reply", host.now)
    assert host.typed() == []


def test_a_command_that_asks_no_more_is_given_up(host: Host, device: Device) -> None:
    device.request(1)
    host.now = 10.0
    device.request(2, b"other")
    assert host.session.next_timeout() == ABANDONED
    host.handle_timeout(ABANDONED - 0.1)
    assert host.cancelled == []
    host.handle_timeout(ABANDONED)
    assert [(request.tag, reason) for request, reason in host.cancelled] == [
        (1, "its command has stopped asking")
    ]
    assert host.session.next_timeout() == ABANDONED + 10
    assert host.typed() == []
    # Should it come back all the same, it has to send it again.
    assert device.send(POLL, 1, LEASE, 0)[0][0] == ACK


# -- who may speak -------------------------------------------------------------------------------


def test_frames_of_no_session_do_nothing_but_count(host: Host, device: Device) -> None:
    for kind, fields in ((REQUEST, (1, 15, 0, 4, 1, b"abcd")), (POLL, (1, 15, 0)), (CANCEL, (1, 1))):
        assert host.frame(kind, device.session + 1, 50, *fields) == []
    assert host.session.counters.replayed == 3 and host.session.counters.frames == 4
    assert host.requests == []


def test_a_log_of_everything_that_is_replayed_does_nothing(host: Host) -> None:
    log: list[bytes] = []
    receive = host.session.receive_frame

    for boot in range(3):
        for agent in range(3):
            device = Device(host, nonce=boot * 10 + agent, boot=BOOT + boot)
            log.append(packets.pack_packet(HELLO, packets.VERSION, device.nonce, 1, device.boot))
            for tag in range(1, 4):
                data = seal(b"m%d" % tag)
                for packet in (
                    (REQUEST, device.session, device.sequence + 1, tag, LEASE, 0, len(data), 1, data),
                    (POLL, device.session, device.sequence + 2, tag, LEASE, 0),
                    (CANCEL, device.session, device.sequence + 3, tag, 1),
                )[: tag + 1]:
                    device.sequence += 1
                    log.append(packets.pack_packet(*packet))  # type: ignore[arg-type]
                    receive(log[-1], 0.0)
            host.typed()
    requests, cancelled = len(host.requests), len(host.cancelled)
    before = host.session.counters.replayed
    for body in log * 2:
        receive(body, 1.0)
        assert host.typed() == []
    assert host.session.counters.replayed - before == 2 * len(log)
    assert (len(host.requests), len(host.cancelled)) == (requests, cancelled)


def test_a_new_boot_ends_what_the_old_one_began(host: Host, device: Device) -> None:
    device.request(1)
    fresh = Device(host, nonce=2, boot=BOOT + 1)
    # The HELLO alone may come out of an old log.
    assert host.cancelled == []
    fresh.request(1, b"other")
    assert [(request.link.boot, reason) for request, reason in host.cancelled] == [
        (BOOT, "the device rebooted")
    ]
    # Also what no request is open of any more, the lock of a COMMAND, is over: the group is told, once.
    assert host.doubts == [Rebooted("the device rebooted")]
    fresh.request(2, b"another")
    assert len(host.doubts) == 1
    host.session.reply(host.requests[0][0], b"reply", 0.0)
    assert host.typed() == []
    # The old boot is over: its agents are not answered.
    assert device.send(POLL, 1, LEASE, 0) == []
    old, device.session = device.session, 0
    device.hello()
    assert device.session == 0 and old != 0
    assert len(fresh.send(POLL, 1, LEASE, 0)) == 1


def test_an_unknown_boot_is_no_reboot(host: Host, device: Device) -> None:
    """Without /proc an agent can't tell the boot: in a chroot, say, beside others that can."""
    nowhere = Device(host, nonce=2, boot=0)
    for _ in range(3):
        assert device.request(1) and nowhere.request(1)
        for each in (device, nowhere):
            each.session = 0
            each.hello()
            assert each.session
    assert host.cancelled == host.doubts == []


def test_of_a_reboot_beside_an_unknown_boot_the_group_is_not_told(host: Host, device: Device) -> None:
    """It would end what the commands of that boot wait for, too, which may be of the new one."""
    nowhere = Device(host, nonce=2, boot=0)
    assert device.request(1) and nowhere.request(1)
    assert Device(host, nonce=3, boot=BOOT + 1).request(1)
    assert [request.link.boot for request, _ in host.cancelled] == [BOOT]
    assert host.doubts == []


def test_two_links_do_not_touch_each_other(host: Host, device: Device) -> None:
    other = Device(host, nonce=2)
    device.request(1, b"mine")
    other.request(1, b"theirs")
    other.send(CANCEL, 1, 1)
    assert [message for request, message in host.requests if request.state is State.OPEN] == [b"mine"]
    host.session.reply(host.requests[0][0], b"reply", 0.0)
    assert [line[1] for line in host.typed()] == [device.session]


def test_an_agent_keeps_its_session_and_gets_a_new_one_when_that_is_gone(host: Host, device: Device) -> None:
    first = device.session
    device.hello()
    assert device.session == first
    for nonce in range(100, 100 + MAX_LINKS):
        Device(host, nonce=nonce)
    device.hello()
    assert device.session != first


# -- bounds --------------------------------------------------------------------------------------


def test_links_are_bounded_and_a_replay_of_hellos_ends_none_with_requests(host: Host, device: Device) -> None:
    device.request(1)
    for nonce in range(2, 500):
        Device(host, nonce=nonce)
        assert len(host.session._links) <= 1 + MAX_LINKS
    assert host.cancelled == []
    assert len(device.send(POLL, 1, LEASE, 0)) == 1
    for nonce in range(500, 500 + MAX_LINKS):
        Device(host, nonce=nonce).request(1, b"n%d" % nonce)
    assert [(request.tag, reason) for request, reason in host.cancelled] == [
        (1, "the device has too many links")
    ]


def test_a_link_whose_replies_are_not_taken_yet_outlives_those_of_killed_agents(host: Host) -> None:
    killed = [Device(host, nonce=nonce) for nonce in range(1, 1 + MAX_LINKS)]
    for each in killed:
        each.request(1, b"n%d" % each.nonce)
    living = Device(host, nonce=100)
    host.answers[b"request"] = pack_reply(OK, b"reply")
    living.request(1)
    for nonce in range(101, 100 + MAX_LINKS):
        Device(host, nonce=nonce).request(1, b"n%d" % nonce)
    assert len(living.send(POLL, 1, LEASE, 0)) == 1
    assert [request.link.token for request, _ in host.cancelled] == [each.session for each in killed]


def test_what_is_remembered_of_agents_and_boots_is_bounded(host: Host) -> None:
    for nonce in range(MAX_NONCES + 300):
        Device(host, nonce=nonce, boot=BOOT + nonce).send(POLL, 1, LEASE, 0)
    assert len(host.session._nonces) == MAX_NONCES
    assert len(host.session._boots) <= MAX_BOOTS + 1


def refusals(lines: list[list[object]]) -> int:
    count = 0
    for line in lines:
        if line[0] == REPLY:
            status, values = unpack_reply(message_of([line]))
            assert status == LINK_FAILED
            assert values == ["this device has too many open requests"]
            count += 1
    return count


def test_open_requests_are_bounded(host: Host, device: Device) -> None:
    refused = sum(refusals(device.request(tag, b"%d" % tag)) for tag in range(1, 1001))
    assert refused == 1000 - MAX_REQUESTS == host.session.counters.overflow
    assert len(host.requests) == MAX_REQUESTS
    # When one ends, there is room for another.
    device.send(CANCEL, 1, 1)
    assert refusals(device.request(2000)) == 0


def test_requests_in_the_making_are_bounded(host: Host) -> None:
    refused = 0
    for nonce in range(1, 5):
        device = Device(host, nonce=nonce)
        for tag in range(1, 20):
            refused += refusals(device.send(REQUEST, tag, LEASE, 0, MAX_REQUEST, 1, bytes(400)))
    kept = sum(r.total for link in host.session._links.values() for r in link.requests.values())
    assert kept <= MAX_ASSEMBLING
    assert refused == 4 * 19 - MAX_ASSEMBLING // MAX_REQUEST


@pytest.mark.parametrize("total", [MAX_REQUEST + 5, 2**31, 2**32 - 1])
def test_a_request_too_large_is_refused_once_for_a_burst(host: Host, device: Device, total: int) -> None:
    lines = []
    for offset in range(0, 1600, 400):
        lines += device.send(REQUEST, 1, LEASE, offset, total, int(offset == 1200), bytes(400))
    assert refusals(lines) == 1 == len(lines)
    assert host.session.counters.overflow == 4


def test_replies_that_are_kept_are_bounded(host: Host, device: Device) -> None:
    reply = bytes(100_000)
    for tag in range(1, 300):
        message = b"%d" % tag
        host.answers[message] = reply if tag < 150 else b"small"
        device.request(tag, message)
        kept = [
            r.outgoing.total
            for link in host.session._links.values()
            for r in link.requests.values()
            if r.outgoing
        ]
        assert sum(kept) <= MAX_KEPT_REPLIES + 4 * len(kept)
        assert len(kept) <= MAX_REQUESTS // 2
        assert host.session._kept_bytes == sum(kept) - 4 * len(kept)
    # One that is no longer kept has to be sent again, and its identity is known then.
    assert device.send(POLL, 1, LEASE, 0) == [[ACK, device.session, device.sequence, 1, 0]]


def test_a_tag_that_is_used_for_another_request_begins_anew(host: Host, device: Device) -> None:
    device.send(REQUEST, 1, LEASE, 0, 100, 1, bytes(50))
    host.answers[b"request"] = b"reply"
    assert message_of(device.request(1)) == b"reply"


# -- anything at all -----------------------------------------------------------------------------

numbers = st.sampled_from([0, 1, 2, 3, 4, 255, 256, 65535, 65536, 2**31, 2**32 - 1]) | st.integers(
    -5, 2**64 - 1
)
anything = st.recursive(
    numbers | st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.binary(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
small = st.integers(0, 6)
sessions = st.integers(0, 4)
sequences = st.integers(1, 400)
sensible = st.one_of(
    st.builds(lambda n, s, b: [HELLO, 1, n, s, b], st.integers(1, 40), sequences, st.integers(0, 3)),
    st.builds(
        lambda k, s, t, o, n, p, c: [REQUEST, k, s, t, 15, o, n, p, c],
        sessions, sequences, small, st.integers(0, 90), st.integers(0, 90), st.integers(0, 1), st.binary(max_size=90),
    ),
    st.builds(lambda k, s, t: [REQUEST, k, s, t, 15, 0, 11, 1, seal(b"request")], sessions, sequences, small),
    st.builds(lambda k, s, t, h: [POLL, k, s, t, 15, h], sessions, sequences, small, st.integers(0, 99)),
    st.builds(lambda k, s, t: [CANCEL, k, s, t, 1], sessions, sequences, small),
)  # fmt: skip
bodies = (
    sensible.map(msgpack.packb)
    | st.lists(anything, max_size=9).map(msgpack.packb)
    | anything.map(msgpack.packb)
    | st.binary(max_size=MAX_FRAME_BODY)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(bodies, max_size=40), st.booleans())
def test_no_body_breaks_the_session_or_makes_it_talk(frames: list[bytes], answered: bool) -> None:
    host = Host()
    device = Device(host)
    if answered:
        host.answers[b"request"] = pack_reply(OK, bytes(2000))
    counters = host.session.counters
    for number, body in enumerate([packets.pack_packet(POLL, device.session, 2, 1, LEASE, 0), *frames]):
        before = counters.replayed + counters.refused
        host.now = number * 3.0
        lines = host.receive(body)
        assert len(lines) <= REPLY_WINDOW
        assert not lines or counters.replayed + counters.refused == before
        if number % 7 == 6 and host.requests:
            host.session.reply(host.requests[-1][0], b"reply", number * 3.0)
            host.session.lines()
        host.handle_timeout(number * 3.0)
        assert host.session.lines() == []
    assert counters.frames == len(frames) + 2
    assert len(host.session._links) <= 2 * MAX_LINKS


def hostile_frames() -> Iterator[bytes]:
    """A device that opens as much as it can of everything."""
    for number in range(6000):
        yield packets.pack_packet(HELLO, 1, number, 1 + number // 100, number % 200)
        for tag in range(3):
            yield packets.pack_packet(
                REQUEST, 1 + number % 40, number + 2, tag + number, LEASE, 0, 5000, 0, bytes(480)
            )


def test_memory_is_bounded_whatever_a_device_sends() -> None:
    host = Host()

    def size_of(value: object) -> int:
        size = sys.getsizeof(value)
        if isinstance(value, dict):
            size += sum(size_of(key) + size_of(item) for key, item in value.items())
        elif isinstance(value, list | tuple):
            size += sum(map(size_of, value))
        return size

    for body in hostile_frames():
        host.session.receive_frame(body, 0.0)
        host.session.lines()
    requests = [request for link in host.session._links.values() for request in link.requests.values()]
    assert len(requests) <= MAX_REQUESTS
    held = sum(r.incoming.have + size_of(r.incoming._ahead) for r in requests)
    assert held + size_of(dict(host.session._nonces)) + size_of(host.session._boots) < 4 * 1024 * 1024


def test_after_a_sign_of_a_crash_a_wait_that_is_silent_is_given_up_soon(host: Host, device: Device) -> None:
    host.recording = False
    device.request(1)
    device.request(2)
    ((first, _), (_, _)) = host.requests
    assert host.session.end_leases(0.0) == [Suspected()]
    assert host.session.end_leases(0.0) == []
    for _ in range(2):
        device.send(POLL, 2, LEASE, 0)
    assert host.doubts == [Cleared()]
    events = host.session.handle_timeout(DOUBT)
    assert events == [Cancelled(first, "the device crashed or booted anew")]
    assert host.session.next_timeout() == ABANDONED


def test_what_is_read_after_the_host_was_stopped_is_carried_out_and_not_answered(
    host: Host, device: Device
) -> None:
    host.answers[b"new"] = b"reply"
    device.request(1)
    host.now = 100.0
    host.session.went_on(host.now)
    device.hello()
    for _ in range(20):
        assert device.send(POLL, 1, LEASE, 0) == []
    assert device.request(2, b"new") == device.send(CANCEL, 3, 1) == []
    assert [message for _, message in host.requests] == [b"request", b"new"]
    host.now += STALE
    host.handle_timeout(host.now)
    host.session.reply(host.requests[0][0], b"late", host.now)
    assert host.typed() == []
    # Who is there asks again.
    assert message_of(device.send(POLL, 1, LEASE, 0)) == b"late"
    assert message_of(device.send(POLL, 2, LEASE, 0)) == b"reply"


def test_a_wait_whose_command_ended_while_the_host_was_stopped_is_given_up_soon(
    host: Host, device: Device
) -> None:
    device.request(1)
    device.request(2)
    host.now = 10 * ABANDONED
    host.session.went_on(host.now)
    device.send(POLL, 1, LEASE, 0)
    host.now += STALE
    device.send(POLL, 2, LEASE, 0)
    host.handle_timeout(host.now + RESUMED)
    assert [(request.tag, reason) for request, reason in host.cancelled] == [
        (1, "its command has stopped asking")
    ]


def test_of_what_is_asked_at_once_the_newest_is_answered(host: Host, device: Device) -> None:
    device.request(1)
    device.request(2)
    for tag in (1, 1, 2, 1, 2):
        device.sequence += 1
        host.session.receive_frame(
            packets.pack_packet(POLL, device.session, device.sequence, tag, LEASE, 0), 0.0
        )
    total = len(seal(b"request"))
    assert host.typed() == [
        [ACK, device.session, device.sequence - 1, 1, total],
        [ACK, device.session, device.sequence, 2, total],
    ]
    assert host.session.counters.lines == 5
