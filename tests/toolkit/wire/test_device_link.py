# SPDX-License-Identifier: MIT
from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakeline import CALM, FakeLine, Faults
from toolkit.wire import packets
from toolkit.wire.device_link import (
    CALLED,
    CALLING,
    CANCELLING,
    CLOSED,
    DONE,
    FIRST_WINDOW,
    LINK,
    MAX_UNANSWERED,
    OPEN,
    RECEIVING,
    SENDING,
    SETTLING,
    TRANSITIONS,
    WAITING,
    DeviceLink,
)
from toolkit.wire.framing import MARKER, TERMINATOR, decode_frame, encode_line
from toolkit.wire.packets import ACK, CANCEL, FENCE, HELLO, LINK_TIMEOUT, POLL, REPLY, REQUEST, WELCOME
from toolkit.wire.timing import MAX_RTO
from toolkit.wire.transfer import seal
from toolkit.wire.vocabulary import LINK_FAILED, MAX_DATA, NO_DISPATCHER, OK, pack_reply, pack_request

LONG = 10_000.0  # seconds


def line_of(kind: int, *fields: object) -> bytes:
    return encode_line(packets.pack_packet(kind, *fields))


def packet_of(frame: bytes) -> list[object]:
    body = decode_frame(frame[len(MARKER) : -len(TERMINATOR)])
    assert body is not None
    return packets.unpack_up(body)


# -- the exchanges -----------------------------------------------------------------------------


def test_a_short_request_takes_two_frames_and_two_lines() -> None:
    line = FakeLine()
    tag = line.submit("echo", b"hello")
    assert not line.links[0].idle
    assert line.run(1, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"hello"])
    assert line.kinds() == [HELLO, REQUEST]
    assert len(line.typed) == 2
    # And a second one no HELLO.
    line.submit("echo", b"again")
    assert line.run(1, lambda: line.idle)
    assert line.kinds() == [HELLO, REQUEST, REQUEST]


def test_a_wait_polls_until_it_is_answered_and_the_answer_needs_no_poll() -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.run(packets.POLL_INTERVAL * 3 + 1)
    assert line.kinds() == [HELLO, REQUEST, POLL, POLL, POLL]
    assert line.repeats == 0
    line.release(b"done")
    assert line.run(0.1, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"done"])
    assert line.kinds()[5:] == []


def test_a_wait_of_ten_hours() -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.run(36_000)
    line.release()
    assert line.run(1, lambda: line.idle)
    assert line.reply(tag) == (OK, [])
    assert line.repeats == 0
    assert len(line.typed) < 36_000 / packets.POLL_INTERVAL + 4


SIZES = [0, 1, 130, 131, 600, 5000, MAX_DATA]


@pytest.mark.parametrize("size", SIZES)
def test_requests_and_replies_of_any_size(size: int) -> None:
    line = FakeLine()
    data = random.Random(size).randbytes(size)
    tag = line.submit("echo", data)
    assert line.run(10, lambda: line.idle)
    assert line.reply(tag) == (OK, [data])
    assert line.repeats == 0


def test_ctrl_c_tells_the_host_and_waits_for_its_word() -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.run(1)
    assert line.dispatcher.open_waits == 1
    line.links[0].cancel(tag, line.now)
    assert line.links[0].active(tag)
    assert line.run(1, lambda: line.idle)
    assert line.kinds() == [HELLO, REQUEST, CANCEL]
    assert line.dispatcher.open_waits == 0 and line.dispatcher.cancelled == ["cancelled"]
    assert line.reply(tag) is None
    assert not line.links[0].active(tag)


def test_a_command_that_was_killed_is_taken_back_and_nothing_is_typed() -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.run(1)
    typed = len(line.typed)
    line.links[0].cancel(tag, line.now, gone=True)
    # At once: a shell may be reading.
    assert line.links[0].idle and not line.links[0].listening()
    assert line.links[0].wants_no_answer
    line.run(LONG)
    assert line.kinds() == [HELLO, REQUEST, CANCEL, CANCEL]
    assert line.dispatcher.open_waits == 0 and len(line.typed) == typed
    assert not line.links[0].wants_to_send


@pytest.mark.parametrize("gone", [False, True])
def test_a_cancelled_request_that_was_never_sent_costs_nothing(gone: bool) -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.links[0].cancel(tag, line.now, gone)
    assert line.links[0].idle and not line.links[0].wants_to_send
    line.run(LONG)
    assert line.frames == []


def test_the_end_of_the_console_ends_all_requests() -> None:
    line = FakeLine()
    tags = [line.submit("wait") for _ in range(3)]
    line.run(1)
    line.links[0].abort(NO_DISPATCHER, "gone")
    assert dict(line.links[0].replies()) == {tag: pack_reply(NO_DISPATCHER, "gone") for tag in tags}
    assert line.links[0].idle and line.links[0].next_timeout() is None


def test_lines_of_other_links_are_taken_for_ours_and_do_nothing() -> None:
    line = FakeLine()
    line.submit("wait")
    line.run(1)
    link = line.links[0]
    before = link.next_timeout()
    session = packets.unpack_down(line.typed[0][1])[4]
    others = [
        line_of(WELCOME, 1, 12345, 1, 99, 99),
        line_of(ACK, session ^ 1, 2, 1, 0),
        line_of(FENCE, session ^ 1, 2, 1),
        line_of(REPLY, session, 2, 77, 0, 6, 1, seal(pack_reply(OK))),
        encode_line(b"no packet"),
        encode_line(b""),
    ]
    for other in others:
        assert link.receive_line(other, line.now)
    assert link.replies() == [] and link.next_timeout() == before
    for foreign in (b"", b"ls", b"# comment", b"#L1.", others[0][:-5]):
        assert not link.receive_line(foreign, line.now)


# -- the table ---------------------------------------------------------------------------------


class InState:
    """A link whose one request is in a given state, and what can happen to it."""

    SESSION, GROUP = 5, 6

    def __init__(self, state: str) -> None:
        self.now = 50.0
        self.link = DeviceLink(1, 2)
        self.tag = self.link.submit(pack_request(bytes(8), "echo", bytes(1200)), self.now)
        self.reply = seal(pack_reply(OK, bytes(300)))
        self.request = self.link._requests[self.tag]
        self.send()
        self.down(WELCOME, packets.VERSION, 1, self.sequence, self.SESSION, self.GROUP)
        self.send()
        getattr(self, "reach_" + state.lower())()
        assert self.state == state

    @property
    def state(self) -> str:
        return self.request.state

    @property
    def sequence(self) -> int:
        return self.link._sequence

    def send(self) -> None:
        while self.link.next_frame(self.now) is not None:
            pass

    def down(self, kind: int, *fields: object) -> None:
        self.now += 0.01
        self.link.receive_line(line_of(kind, *fields), self.now)

    def of_request(self, kind: int, *fields: object, answers: int | None = None) -> None:
        newest = self.sequence if answers is None else answers
        self.down(kind, self.SESSION, newest, self.tag, *fields)

    # What leads to each state.

    def reach_sending(self) -> None:
        pass

    def reach_waiting(self) -> None:
        self.all_acknowledged()

    def reach_receiving(self) -> None:
        self.all_acknowledged()
        self.part_of_reply()

    def reach_settling(self) -> None:
        # The answer to a poll is still to come.
        self.all_acknowledged()
        self.time_out()
        self.send()
        self.whole_reply(answers=self.sequence - 1)

    def reach_cancelling(self) -> None:
        self.cancel()

    # What happens, each under the name that the table has for it.

    def part_acknowledged(self) -> None:
        self.of_request(ACK, 400)

    def all_acknowledged(self) -> None:
        self.of_request(ACK, self.request.outgoing.total)

    def part_of_reply(self) -> None:
        self.of_request(REPLY, 0, len(self.reply), 1, self.reply[:100])

    def whole_reply(self, answers: int | None = None) -> None:
        for offset in range(0, len(self.reply), 100):
            chunk = self.reply[offset : offset + 100]
            self.of_request(REPLY, offset, len(self.reply), 0, chunk, answers=answers)

    def fence(self) -> None:
        self.of_request(FENCE)

    def cancel(self) -> None:
        self.link.cancel(self.tag, self.now)

    def link_failed(self) -> None:
        self.link.abort(LINK_FAILED, "failed")

    def time_out(self) -> None:
        self.send()
        deadline = self.link.next_timeout()
        assert deadline is not None
        self.now = deadline
        self.link.handle_timeout(self.now)

    def gave_up(self) -> None:
        for _ in range(20):
            if self.state == DONE:
                return
            self.time_out()

    def welcome(self) -> None:
        for _ in range(20):
            if self.link._state in (CALLING, CALLED) or self.state == DONE:
                break
            self.time_out()
        self.send()
        self.down(WELCOME, packets.VERSION, 1, self.sequence, self.SESSION + 1, self.GROUP)

    def answer_lost(self) -> None:
        if self.state == WAITING:
            self.time_out()
        self.send()
        self.link.answer_lost()

    def settled(self) -> None:
        self.down(FENCE, self.SESSION, self.sequence, 999)


EVENTS = {
    "part acknowledged": InState.part_acknowledged,
    "all acknowledged": InState.all_acknowledged,
    "part of reply": InState.part_of_reply,
    "whole reply": InState.whole_reply,
    "fence": InState.fence,
    "cancel": InState.cancel,
    "time-out": InState.time_out,
    "link failed": InState.link_failed,
    "settled": InState.settled,
    "answer lost": InState.answer_lost,
}
STATES = [SENDING, WAITING, RECEIVING, SETTLING, CANCELLING]
# What also happens: a line that is an answer settles what was to be answered.
ALSO_SETTLES = {"part acknowledged", "all acknowledged", "part of reply", "whole reply", "fence"}


def test_the_table_is_closed_and_leads_to_the_end() -> None:
    assert list(TRANSITIONS) == STATES
    # An event that is missing in a state, or misspelt, is a KeyError.
    assert all(set(row) == {*EVENTS, "welcome", "gave up"} for row in TRANSITIONS.values())
    reached = {SENDING}
    for _ in STATES:
        reached |= {state for known in reached for state in TRANSITIONS.get(known, {}).values() if state}
    assert reached == {*STATES, DONE}
    assert all(row["link failed"] == DONE for row in TRANSITIONS.values())


def test_the_table_of_the_link_is_closed_and_leads_back() -> None:
    assert list(LINK) == [CLOSED, CALLING, CALLED, OPEN]
    assert len({tuple(row) for row in LINK.values()}) == 1
    assert {state for row in LINK.values() for state in row.values() if state} == set(LINK)
    assert all(row["close"] == CLOSED for state, row in LINK.items() if state != CLOSED)


@pytest.mark.parametrize("misspelt", ["ack", ""])
def test_a_misspelt_event_is_an_error(misspelt: str) -> None:
    case = InState(SENDING)
    with pytest.raises(KeyError):
        case.link._step(case.request, misspelt)
    with pytest.raises(KeyError):
        case.link._advance(misspelt)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_each_event_in_each_state(state: str, event: str) -> None:
    case = InState(state)
    EVENTS[event](case)
    expected = TRANSITIONS[state][event] or state
    if event == "whole reply":
        # All that was sent is answered by it.
        expected = DONE if expected == SETTLING else expected
    if state == SETTLING and event in ALSO_SETTLES:
        expected = DONE
    assert case.state == expected
    replies = case.link.replies()
    if expected == DONE and state != CANCELLING:
        failed = event == "link failed" and state != SETTLING
        reply = pack_reply(LINK_FAILED, "failed") if failed else case.reply[:-4]
        assert replies == [(case.tag, reply)]
        assert case.tag not in case.link._requests
    else:
        assert replies == []
    case.send()
    assert (case.link.next_timeout() is None) == (case.state == DONE), "nothing would ever happen again"


@pytest.mark.parametrize("state", [SENDING, WAITING, RECEIVING])
def test_a_new_session_begins_each_request_anew(state: str) -> None:
    case = InState(state)
    case.welcome()
    assert case.state == TRANSITIONS[state]["welcome"] == SENDING
    frame = case.link.next_frame(case.now)
    assert frame is not None
    assert packet_of(frame)[:7] == [
        REQUEST,
        case.SESSION + 1,
        case.sequence,
        case.tag,
        packets.LEASE,
        0,
        case.request.outgoing.total,
    ]


def test_a_reply_that_is_whole_survives_a_new_session() -> None:
    case = InState(SETTLING)
    case.link._call("silence")
    case.send()
    case.down(WELCOME, packets.VERSION, 1, case.sequence, case.SESSION + 1, case.GROUP + 1)
    assert case.state == TRANSITIONS[SETTLING]["welcome"] == DONE
    assert case.link.replies() == [(case.tag, case.reply[:-4])]


def test_a_cancelled_request_is_given_up_at_last() -> None:
    case = InState(CANCELLING)
    case.gave_up()
    assert case.state == DONE
    assert case.link.idle and case.link.replies() == []


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*EVENTS, "welcome"]), max_size=12), st.sampled_from(STATES))
@example(["time-out", "time-out", "time-out", "time-out", "cancel"], "SENDING")
def test_any_sequence_of_events_ends(events: list[str], state: str) -> None:
    case = InState(state)
    for event in events:
        before = case.state
        if before == DONE:
            break
        if event == "time-out":
            case.time_out()
        elif event == "welcome":
            case.welcome()
        else:
            EVENTS[event](case)
        case.send()
    # (What is cancelled while the agent says hello is dropped as it is.)
    while case.state != DONE and case.tag in case.link._requests:
        case.send()
        deadline = case.link.next_timeout()
        assert deadline is not None and deadline < case.now + LINK_TIMEOUT
        case.now = max(case.now, deadline)
        case.link.handle_timeout(case.now)
    assert len(case.link.replies()) <= 1


# -- time ----------------------------------------------------------------------------------------

SLOW_LINES = {
    "9600 baud": {"baud": 9600, "speed": 960.0, "buffered": True},
    "115200 baud": {"baud": 115200, "speed": 11520.0, "buffered": True},
    "9600 baud behind a pty": {"baud": 38400, "speed": 960.0},
    "2400 baud behind a pty": {"baud": 0, "speed": 240.0},
    "a terminal server that takes 50 ms": {"baud": 38400, "latency": 0.05},
    "a pty": {"baud": 38400, "latency": 0.0002},
}


@pytest.mark.parametrize(("count", "size"), [(1, 20), (1, 20_000), (16, 20), (16, 1500)])
@pytest.mark.parametrize("name", SLOW_LINES)
def test_a_line_without_faults_sees_no_frame_twice(name: str, count: int, size: int) -> None:
    line = FakeLine(**SLOW_LINES[name])  # type: ignore[arg-type]
    for _ in range(count):
        line.submit("echo", bytes(size))
    assert line.run(LONG, lambda: line.idle)
    assert {status for status, _ in line.replies.values()} == {OK}
    kinds = Counter(line.kinds())
    # Before anything was measured, a HELLO that takes a second on its way is sent again.
    assert kinds[HELLO] <= (3 if line.speed < 960 else 1)
    assert line.repeats == 0
    # And a slow line is used: it carries each byte once each way, and little else.
    carried = count * size * 4 / 3 / line.speed
    assert (
        line.now - 100
        < 2.2 * carried
        + 20 * count * (line.latency + 150 / line.speed)
        + 40 * line.latency
        + 2 * size / 499 * line.latency
    )


def test_waiting_commands_on_a_slow_line_poll_without_repeats() -> None:
    line = FakeLine(baud=38400, speed=960.0)
    for _ in range(16):
        line.submit("wait")
    line.run(300)
    assert line.repeats == 0
    line.release(bytes(500))
    assert line.run(60, lambda: line.idle)
    assert [status for status, _ in line.replies.values()] == [OK] * 16
    assert line.repeats <= 16


LOSSES = {
    "the request": ("lose_frame", REQUEST),
    "its acknowledgement": ("lose_line", ACK),
    "the HELLO": ("lose_frame", HELLO),
    "the WELCOME": ("lose_line", WELCOME),
    "the first line of the reply": ("lose_line", REPLY),
}


@pytest.mark.parametrize("operation", ["echo", "wait"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_pty_recovers_a_lost_frame_in_a_few_hundred_milliseconds(name: str, operation: str) -> None:
    line = FakeLine(baud=38400)
    where, kind = LOSSES[name]
    lost: list[bytes] = []

    def lose(body: bytes) -> bool:
        if body and msgpack.unpackb(body)[0] == kind and not lost:
            lost.append(body)
            return True
        return False

    setattr(line, where, lose)
    tag = line.submit(operation, bytes(300))
    if operation == "wait":
        line.at(line.now + 1.5, line.release)
    assert line.run(LONG, lambda: line.idle)
    assert line.reply(tag) is not None
    if (name, operation) == ("the first line of the reply", "wait"):
        # Typed unasked; the device does not know of it before it polls.
        assert line.now - 101.5 < packets.POLL_INTERVAL + 0.5
    else:
        assert line.now - 100 - (1.5 if operation == "wait" else 0) < 0.5
    assert bool(lost) or (name, operation) in [("its acknowledgement", "echo")]


def test_a_lost_burst_of_many_requests_makes_no_new_hello() -> None:
    line = FakeLine(baud=38400)
    for _ in range(16):
        line.submit("wait")
    line.run(1)
    end = line.now + packets.POLL_INTERVAL
    line.lose_frame = lambda body: line.now < end
    line.run(3 * packets.POLL_INTERVAL)
    assert Counter(line.kinds())[HELLO] == 1


def test_little_is_on_the_line_before_it_has_shown_what_it_carries() -> None:
    link = DeviceLink(1, 2)
    for _ in range(40):
        link.submit(pack_request(bytes(8), "echo", bytes(5000)), 0.0)
    frame = link.next_frame(0.0)
    assert frame is not None
    link.receive_line(line_of(WELCOME, packets.VERSION, 1, 1, 5, 6), 0.01)
    sent = []
    while link.wants_to_send:
        frame = link.next_frame(0.01)
        assert frame is not None
        sent.append(len(frame))
    assert MAX_UNANSWERED == 2048 and sum(sent) <= MAX_UNANSWERED + 720
    assert link.next_frame(0.01) is None


@pytest.mark.parametrize("gone", [False, True])
def test_a_long_request_that_is_cancelled_holds_nobody_up(gone: bool) -> None:
    line = FakeLine()
    link = line.new_link()
    long = line.submit("echo", bytes(20_000))
    assert line.run(1, lambda: len(line.frames) > 20)
    # A burst of it is lost, and never asked for again.
    line.lose_frame = lambda body: True
    line.run(0.1)
    assert link._timing.unanswered > MAX_UNANSWERED
    tag = line.submit("echo", b"short")
    link.cancel(long, line.now, gone)
    while link.wants_to_send:
        link.next_frame(line.now)
    line.lose_frame = lambda body: False
    assert line.run(3, lambda: line.reply(tag) is not None)


@pytest.mark.parametrize("event", ["all acknowledged", "cancel"])
def test_what_ends_the_sending_ends_the_burst(event: str) -> None:
    """The host may have all of a request before the last frame of a burst is out."""
    case = InState(SENDING)
    case.of_request(ACK, 498)
    # Two frames are due; one of them goes out.
    assert case.link.next_frame(case.now) is not None and case.request.burst
    EVENTS[event](case)
    case.send()
    assert case.link.next_timeout() is not None
    case.time_out()
    case.send()
    assert case.link.next_timeout() is not None, "its answer would be waited for, for ever"


def test_a_short_request_gets_its_turn_beside_long_ones() -> None:
    line = FakeLine(baud=9600, speed=960.0, buffered=True)
    for _ in range(3):
        line.submit("echo", bytes(20_000))
    line.run(30)
    tag = line.submit("echo", b"short")
    # Each of the others may finish a burst of eight frames before.
    assert line.run(3 * 8 * 720 / line.speed, lambda: line.reply(tag) is not None)


def test_no_dispatcher_is_told_in_seconds() -> None:
    line = FakeLine()
    line.lose_frame = lambda body: True
    tags = [line.submit("echo"), line.submit("wait")]
    assert line.run(LONG, lambda: line.idle)
    assert 5 <= line.now - 100 <= 8
    for tag in tags:
        assert line.reply(tag) == (NO_DISPATCHER, ["no dispatcher answers on this console"])
    assert set(line.kinds()) == {HELLO} and len(line.frames) <= 5
    # A dispatcher that comes later is found.
    line.lose_frame = lambda body: False
    tag = line.submit("echo", 5)
    assert line.run(1, lambda: line.idle)
    assert line.reply(tag) == (OK, [5])


def test_no_dispatcher_on_a_slow_line_is_told_later() -> None:
    line = FakeLine(baud=9600, speed=960.0, buffered=True)
    line.lose_frame = lambda body: True
    line.submit("echo")
    assert line.run(LONG, lambda: line.idle)
    assert 13 <= line.now - 100 <= 13 + MAX_RTO


@pytest.mark.parametrize("operation", ["echo", "wait"])
def test_a_dispatcher_that_falls_silent_is_given_up(operation: str) -> None:
    line = FakeLine()
    line.lose_frame = lambda body: msgpack.unpackb(body)[0] != HELLO or line.now > 101
    tag = line.submit(operation)
    assert line.run(LONG, lambda: line.idle)
    status, values = line.reply(tag) or (None, None)
    assert status == LINK_FAILED and values == ["the dispatcher has not answered for 60 seconds"]
    assert LINK_TIMEOUT <= line.now - 100 < LINK_TIMEOUT + 3 + MAX_RTO


def test_a_dispatcher_that_is_away_for_less_is_waited_for() -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.run(1)
    end = line.now + LINK_TIMEOUT - 2 * MAX_RTO
    line.lose_frame = lambda body: line.now < end
    line.run(end - line.now + MAX_RTO + 1)
    line.release(b"here")
    assert line.run(1, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"here"])


def test_a_restarted_dispatcher_that_kept_the_log_goes_on() -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.run(12)
    line.restart_dispatcher()
    line.run(12)
    line.release(b"here")
    assert line.run(1, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"here"])
    assert max(line.dispatcher.carried_out.values()) == 1


def test_a_restarted_dispatcher_that_lost_the_log_ends_the_waits() -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.run(12)
    line.restart_dispatcher(group=8)
    assert line.run(12, lambda: line.idle)
    assert line.reply(tag) == (
        LINK_FAILED,
        ["the dispatcher was restarted, and has lost the group's messages"],
    )
    # A command that comes now has nothing to miss.
    tag = line.submit("echo", 1)
    assert line.run(12, lambda: line.idle)
    assert line.reply(tag) == (OK, [1])


def test_a_dispatcher_of_another_version_is_told_apart() -> None:
    link = DeviceLink(1, 2)
    tag = link.submit(pack_request(bytes(8), "self"), 0.0)
    link.next_frame(0.0)
    link.receive_line(line_of(WELCOME, 2, 1, 1, 5, 6), 0.1)
    ((replied, reply),) = link.replies()
    assert replied == tag
    assert reply == pack_reply(
        NO_DISPATCHER,
        "the dispatcher speaks version 2 of the protocol, this box version 1: use matching versions",
    )
    assert link.idle and link.next_timeout() is None and not link.wants_to_send


@pytest.mark.parametrize("after", [0.0, 0.3, 1.0, 4.0])
def test_ctrl_c_without_a_dispatcher_frees_the_console_soon(after: float) -> None:
    line = FakeLine()
    line.lose_frame = lambda body: True
    tag = line.submit("wait")
    line.run(after)
    line.links[0].cancel(tag, line.now)
    start = line.now
    assert line.run(LONG, lambda: line.idle)
    assert line.now - start <= 1.0


def test_ctrl_c_while_the_dispatcher_is_away_frees_the_console_soon() -> None:
    line = FakeLine()
    tags = [line.submit("wait"), line.submit("wait")]
    line.run(1)
    line.lose_frame = lambda body: True
    line.links[0].cancel(tags[0], line.now)
    line.run(20)
    line.links[0].cancel(tags[1], line.now)
    start = line.now
    assert line.run(LONG, lambda: line.idle)
    assert line.now - start <= 2.0


# -- a console that others read too --------------------------------------------------------------


@pytest.mark.parametrize("name", SLOW_LINES)
def test_nothing_is_typed_while_somebody_else_reads(name: str) -> None:
    line = FakeLine(**SLOW_LINES[name])  # type: ignore[arg-type]
    link = line.new_link()
    link.attend(False)
    tag = line.submit("wait")
    listened = 0.0
    for _ in range(3000):
        before = link.listening()
        line.run(0.01)
        listened += 0.01 * before
    line.release(b"done")
    assert not line.down, "typed unasked"
    assert line.run(3 * packets.UNATTENDED_POLL_INTERVAL, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"done"])
    assert line.strays == 0 and line.repeats == 0
    # And the shell has the console most of the time.
    assert listened < (10 if line.speed > 300 else 25)


def test_who_comes_to_the_foreground_is_told_at_once_again() -> None:
    line = FakeLine()
    link = line.new_link()
    link.attend(False)
    tag = line.submit("wait")
    line.run(7)
    link.attend(True)
    line.run(7)
    line.release(b"done")
    assert line.run(0.1, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"done"])


def test_who_goes_to_the_background_takes_the_lease_back() -> None:
    line = FakeLine()
    tag = line.submit("wait")
    line.run(1)
    line.links[0].attend(False)
    line.run(0.1)
    assert not line.links[0].listening()
    line.release(b"done")
    assert not line.down
    assert line.run(3 * packets.UNATTENDED_POLL_INTERVAL, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"done"]) and line.strays == 0


def test_an_agent_that_was_stopped_for_minutes_asks_again() -> None:
    """Its clock may have jumped as well: the host has given the wait up by then."""
    line = FakeLine()
    tag = line.submit("wait")
    line.run(3)
    line.now += 600
    line.host_turn()
    assert line.dispatcher.cancelled == ["its command has stopped asking"]
    line.dispatcher.asked.clear()  # on this link it comes again
    line.run(3)
    assert line.dispatcher.open_waits == 1
    line.release(b"done")
    assert line.run(1, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"done"])


def test_answers_that_somebody_else_has_read_are_asked_for_again() -> None:
    line = FakeLine()
    link = line.new_link()
    link.attend(False)
    lost: list[bytes] = []
    line.lose_line = lambda body: len(lost) < 4 and not lost.append(body)  # type: ignore[func-returns-value]
    tag = line.submit("echo", b"hello")
    for number in range(1, 5):
        assert line.run(1, lambda number=number: len(lost) == number)  # type: ignore[misc]
        link.answer_lost()
        assert link.listening()
    assert line.run(1, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"hello"])


def test_a_wait_that_rests_is_kept_by_the_host_which_types_nothing() -> None:
    line = FakeLine()
    link = line.new_link()
    tag = line.submit("wait")
    line.run(1)
    link.attend(False)
    frame = link.next_frame(line.now)  # takes the lease back
    assert frame is not None and packet_of(frame)[0] == POLL
    line._receive_frame(frame)
    line.run(1)
    typed = len(line.typed)
    for _ in range(20):
        link.answer_lost()
        link.keep()
        while link.wants_no_answer:
            kept = link.next_frame(line.now)
            assert kept is not None and packet_of(kept)[0] == REQUEST
            line._receive_frame(kept)
        line.now += 30
        line.session.handle_timeout(line.now)
    assert line.dispatcher.open_waits == 1 and len(line.typed) == typed
    line.release(b"done")
    assert len(line.typed) == typed
    link.attend(True)
    assert line.run(1, lambda: line.idle)
    assert line.reply(tag) == (OK, [b"done"])


@pytest.mark.parametrize("state", [SENDING, WAITING, RECEIVING])
def test_a_refused_request_is_taken_back(state: str) -> None:
    case = InState(state)
    case.link.refuse(case.tag, NO_DISPATCHER, "busy")
    assert case.link.replies() == [(case.tag, pack_reply(NO_DISPATCHER, "busy"))]
    assert case.link.accepted(case.tag) is False and case.link.idle
    for _ in range(2):
        frame = case.link.next_frame(case.now)
        assert frame is not None
        assert packet_of(frame) == [CANCEL, case.SESSION, case.sequence, case.tag, 0]
    assert not case.link.wants_to_send
    case.link.refuse(case.tag, NO_DISPATCHER, "busy")
    assert case.link.replies() == []


# -- faults --------------------------------------------------------------------------------------

rates = st.sampled_from([0.0, 0.02, 0.1, 0.3])
faults = st.builds(Faults, drop=rates, double=rates, damage=rates, overtake=rates)
requests = st.lists(
    st.tuples(st.sampled_from(["echo", "echo", "wait"]), st.sampled_from([0, 1, 100, 700, 3000])),
    min_size=1,
    max_size=16,
)


NOT_WELCOMED = (NO_DISPATCHER, ["no dispatcher answers on this console"])


def check_a_bad_line(
    seed: int, bad: Faults, wanted: list[tuple[str, int]], cancelled: frozenset[int], **line_is: object
) -> None:
    """Commands begin, and some are cancelled, on a bad line that is good from 30 s on.

    All this is checked, beside what FakeLine checks at every step: each request is carried out once; each
    command that was not cancelled gets the one right reply (or, where five HELLOs in a row were lost, is
    told that there is no dispatcher, and then it was not carried out); all have ended 90 s after the
    faults; from then on nothing is typed any more, whatever the host has to say.
    """
    line = FakeLine(seed, bad, **line_is)  # type: ignore[arg-type]
    expected: dict[int, tuple[int, list[object]]] = {}

    def begin(number: int, operation: str, size: int) -> None:
        data = random.Random(number).randbytes(size)
        tag = line.submit(operation, data)
        if number in cancelled:
            later = line.now + line.random.random() * 3
            line.at(later, lambda: line.links[0].cancel(tag, line.now, number % 2 == 0))
        else:
            expected[tag] = (OK, [data] if operation == "echo" else [b"released"])

    for number, (operation, size) in enumerate(wanted):
        line.at(100 + line.random.random() * 10, lambda n=number, o=operation, s=size: begin(n, o, s))  # type: ignore[misc]
    for time in range(110, 160, 7):
        line.at(time, lambda: line.release(b"released"))
    for time in range(103, 140, 9):
        attended = line.random.random() < 0.5
        line.at(time, lambda attended=attended: line.links and line.links[0].attend(attended))  # type: ignore[misc]
    line.run(30)
    line.faults = CALM
    line.run(30)
    line.release(b"released")
    assert line.run(60, lambda: line.idle), "no progress"
    replies = {tag: reply for (_, tag), reply in line.replies.items()}
    refused = {tag for tag in expected if replies.get(tag) == NOT_WELCOMED}
    assert {tag: replies.get(tag) for tag in expected} == expected | dict.fromkeys(refused, NOT_WELCOMED)
    assert len(line.dispatcher.carried_out) <= len(wanted) - len(refused)
    assert not refused or bad.drop + bad.damage + bad.overtake >= 0.1
    assert max(line.dispatcher.carried_out.values(), default=1) == 1
    typed = len(line.typed)
    line.run(packets.LEASE)
    line.release(b"too late")
    line.run(LONG)
    assert len(line.typed) == typed
    assert line.session.next_timeout() is None, "the host still keeps a wait"


@settings(max_examples=60, deadline=None)
@example(seed=0, bad=Faults(drop=0.3), wanted=[("echo", 3000)] * 16, cancelled=frozenset())
@example(
    seed=1, bad=Faults(overtake=0.3, double=0.3), wanted=[("wait", 700)] * 16, cancelled=frozenset({1, 2, 3})
)
@given(
    seed=st.integers(0, 2**32),
    bad=faults,
    wanted=requests,
    cancelled=st.frozensets(st.integers(0, 15), max_size=4),
)
def test_a_line_that_loses_doubles_damages_and_overtakes(
    seed: int, bad: Faults, wanted: list[tuple[str, int]], cancelled: frozenset[int]
) -> None:
    check_a_bad_line(seed, bad, wanted, cancelled)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    bad=faults,
    wanted=st.lists(st.sampled_from([("echo", 300), ("wait", 10)]), min_size=1, max_size=4),
)
def test_a_slow_line_with_faults(seed: int, bad: Faults, wanted: list[tuple[str, int]]) -> None:
    check_a_bad_line(seed, bad, wanted, frozenset(), baud=9600, speed=960.0, buffered=True)


@pytest.mark.parametrize("seed", range(3))
def test_16_requests_of_64_kib_on_a_bad_line(seed: int) -> None:
    line = FakeLine(seed, Faults(drop=0.01, double=0.01, damage=0.01, overtake=0.001))
    data = {
        line.submit("echo", line.random.randbytes(size)): size for size in [MAX_DATA, 0, 4096, 40_000] * 4
    }
    assert line.run(600, lambda: line.idle)
    assert {tag: len(values[0]) for (_, tag), (_, values) in line.replies.items()} == data  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), bad=faults)
def test_two_links_on_one_line(seed: int, bad: Faults) -> None:
    """Two users' agents; each has its own session, and no line of one moves the other."""
    line = FakeLine(seed, bad)
    links = [line.new_link(), line.new_link()]
    tags = [[line.submit("echo", who, number, link=links[who]) for number in range(4)] for who in range(2)]
    line.run(20)
    line.faults = CALM
    assert line.run(90, lambda: line.idle)
    for who in range(2):
        replies = [line.reply(tag, link=who) for tag in tags[who]]
        assert replies in ([(OK, [who, number]) for number in range(4)], [NOT_WELCOMED] * 4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), bad=faults)
def test_what_was_recorded_and_comes_again_does_nothing(seed: int, bad: Faults) -> None:
    line = FakeLine(seed, bad)
    for number in range(6):
        line.submit("echo" if number % 2 else "wait", bytes(number * 300))
    line.at(110, line.release)
    line.run(30)
    line.faults = CALM
    line.run(30)
    line.release()
    assert line.run(60, lambda: line.idle)
    carried_out, typed = line.dispatcher.carried_out.copy(), len(line.typed)
    counters = line.session.counters
    frames, replayed = counters.frames, counters.replayed
    for body in line.received[: line.random.randrange(len(line.received) + 1)]:
        line.session.receive_frame(body, line.now + 1000)
    assert line.session.lines() == [] and len(line.typed) == typed
    assert line.dispatcher.carried_out == carried_out
    assert counters.replayed - replayed == counters.frames - frames


# -- hostile lines -------------------------------------------------------------------------------

numbers = st.integers(-2, 2**33) | st.sampled_from([0, 1, 2, 5, 6, 2**32 - 1]) | st.booleans() | st.none()


def down_packets(session: int) -> st.SearchStrategy[bytes]:
    answers, tags, sizes = st.integers(0, 20), st.integers(0, 4), st.integers(0, 400)
    return st.one_of(
        st.binary(max_size=60),
        st.lists(numbers | st.binary(max_size=40), max_size=8).map(msgpack.packb),
        st.builds(lambda a, t, h: packets.pack_packet(ACK, session, a, t, h), answers, tags, sizes),
        st.builds(
            lambda a, t, o, n, p, c: packets.pack_packet(REPLY, session, a, t, o, n, p, c),
            answers, tags, sizes, sizes, st.integers(0, 1), st.binary(max_size=100),
        ),
        st.builds(lambda a, t: packets.pack_packet(FENCE, session, a, t), answers, tags),
        st.builds(lambda a, s, g: packets.pack_packet(WELCOME, 1, 1, a, s, g), answers, st.integers(5, 6), st.integers(6, 7)),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(down_packets(5), max_size=40), st.integers(0, 3))
def test_no_line_breaks_the_link(bodies: list[bytes], count: int) -> None:
    link = DeviceLink(1, 2)
    now = 0.0
    for number in range(count):
        link.submit(pack_request(bytes(8), "echo", bytes(number * 200)), now)
    for body in [packets.pack_packet(WELCOME, 1, 1, 1, 5, 6), *bodies]:
        now += 0.05
        link.receive_line(encode_line(body), now)
        while link.wants_to_send:
            assert link.next_frame(now) is not None
        deadline = link.next_timeout()
        if deadline is not None and deadline <= now:
            link.handle_timeout(now)
    link.replies()
    # Whatever it was told, it comes to an end.
    for _ in range(1000):
        while link.wants_to_send:
            link.next_frame(now)
        deadline = link.next_timeout()
        if deadline is None:
            break
        now = max(now, deadline)
        link.handle_timeout(now)
    assert link.idle and not link.wants_to_send


def test_tags_come_again_without_hitting_one_in_use() -> None:
    link = DeviceLink(1, 2)
    first = link.submit(pack_request(bytes(8), "wait"), 0.0)
    for _ in range(0x10000):
        tag = link.submit(b"x", 0.0)
        assert tag != first and 0 < tag <= 0xFFFF
        link.cancel(tag, 0.0)


def test_the_first_burst_is_one_frame() -> None:
    assert FIRST_WINDOW == 1


def recording(line: FakeLine) -> Callable[[], list[bytes]]:
    return lambda: line.frames


def test_a_lease_that_was_on_its_way_is_taken_back() -> None:
    """The request gave a lease; before it is acknowledged, somebody else begins to read the console."""
    line = FakeLine()
    line.submit("wait")
    while packets.REQUEST not in line.kinds():
        line.run(0.0001)
    line.links[0].attend(False)
    assert line.run(1.0, until=lambda: line.dispatcher.open_waits == 1 and packets.POLL in line.kinds())
    line.run(0.05)
    # From now on nothing is typed but answers, and nothing while the agent does not listen.
    line.release("x")
    assert line.run(2 * packets.UNATTENDED_POLL_INTERVAL, until=lambda: line.idle)
    assert line.strays == 0


def test_a_long_reply_is_read_to_its_end_beside_another_reader() -> None:
    line = FakeLine(baud=9600, speed=960.0)
    tag = line.submit("wait")
    line.links[0].attend(False)
    assert line.run(5.0, until=lambda: line.dispatcher.open_waits == 1)
    line.release(b"v" * 3000)
    assert line.run(60.0, until=lambda: line.idle)
    assert line.reply(tag) is not None
    assert line.strays == 0
