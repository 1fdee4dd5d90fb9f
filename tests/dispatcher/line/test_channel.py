# SPDX-License-Identifier: MIT
"""One console: bytes in any chunking to output, requests and results; keys and reply lines back."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.line.channel import ALARM, TYPING_TIME, Alarm, Asked, Channel, Item, Output
from dispatcher.line.session import ANSWER_HOLD, MAX_LINKS, Cancelled, Suspected
from dispatcher.line.textpatterns import Pattern
from dispatcher.line.textsignals import Malformed, Signal
from toolkit.wire import packets
from toolkit.wire.device_link import DeviceLink
from toolkit.wire.framing import MARKER, TERMINATOR, encode_frame
from toolkit.wire.vocabulary import OK, USAGE, pack_reply, pack_request, unpack_reply

IDENTITY = b"12345678"
KILL_LINE = b"\x15"


class Console:
    """A channel, and the agent of its device; the line between loses nothing and takes no time."""

    def __init__(self, position: int = 0, patterns: dict[str, Pattern] | None = None) -> None:
        tokens = itertools.count(1)
        self.channel = Channel(lambda: next(tokens), 7, position, patterns)
        self.link = DeviceLink(1, 9)
        self.now = 0.0
        self.items: list[Item] = []
        self.replies: dict[int, tuple[int, list[Any]]] = {}
        self.chunk = 10_000

    def print(self, data: bytes) -> list[Item]:
        items: list[Item] = []
        for place in range(0, len(data), self.chunk):
            items += self.channel.receive_data(data[place : place + self.chunk], self.now)
        self.items += items
        return items

    def ask(self, operation: str, *arguments: Any, identity: bytes = IDENTITY) -> int:
        tag = self.link.submit(pack_request(identity, operation, *arguments), self.now)
        self.pump()
        return tag

    def pump(self) -> None:
        while True:
            frame = self.link.next_frame(self.now)
            lines = self.channel.data_to_type(self.now)
            if frame is None and not lines:
                break
            for line in lines.split(b"\n")[:-1]:
                self.link.receive_line(line, self.now)
            if frame is not None:
                self.print(frame)
        self.replies |= {tag: unpack_reply(reply) for tag, reply in self.link.replies()}

    def of(self, kind: type) -> list[Any]:
        return [item for item in self.items if isinstance(item, kind)]

    @property
    def output(self) -> bytes:
        return b"".join(item.data for item in self.of(Output))


@pytest.fixture
def console() -> Console:
    return Console()


# -- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_request_and_its_reply(console: Console, chunk: int) -> None:
    console.chunk = chunk
    console.print(b"before\r\n")
    tag = console.ask("send", b"x", [b"k", b"v"])
    console.print(b"after")
    (asked,) = console.of(Asked)
    assert (asked.identity, asked.operation, asked.arguments) == (IDENTITY, "send", [b"x", [b"k", b"v"]])
    assert asked.position == len(b"before\r\n")
    assert console.output == b"before\r\nafter"
    console.channel.reply(asked.request, pack_reply(OK, "value"), console.now)
    console.pump()
    assert console.replies == {tag: (OK, ["value"])}


def test_what_is_printed_between_two_frames_is_one_output(console: Console) -> None:
    """Frames that can't be read, and echoes, do not part it; an alarm stands behind what was printed before it."""
    console.print(
        encode_frame(b"") + (b"a" + MARKER + b"?" + TERMINATOR) * (ALARM + 1) + b"b" + encode_frame(b"")
    )
    first, alarm, second = (item for item in console.items if isinstance(item, Output | Alarm))
    assert (first, second) == (Output(b"a?" * ALARM, 0), Output(b"a?b", 2 * ALARM))
    assert isinstance(alarm, Alarm)
    assert alarm.sentence.startswith(f"{ALARM} damaged frames")


def test_a_request_that_waits_is_acknowledged_when_it_is_recorded(console: Console) -> None:
    console.ask("wait", b"x", None)
    (asked,) = console.of(Asked)
    assert console.channel.data_to_type(console.now) == b""
    assert console.channel.next_timeout() == ANSWER_HOLD
    console.channel.accept(asked.request)
    assert console.channel.data_to_type(console.now).count(b"\n") == 1


def test_a_request_that_makes_no_sense_is_refused(console: Console) -> None:
    tag = console.link.submit(b"\xc1", console.now)
    console.pump()
    assert console.of(Asked) == []
    status, (sentence,) = console.replies[tag]
    assert status == USAGE
    assert sentence.startswith("the dispatcher refused the request: ")


def test_a_command_that_is_cancelled(console: Console) -> None:
    tag = console.ask("wait", b"x", None)
    console.link.cancel(tag, console.now)
    console.pump()
    (asked,) = console.of(Asked)
    assert console.of(Cancelled) == [Cancelled(asked.request, "cancelled")]


# -- keys ------------------------------------------------------------------------------------------


def answered(console: Console) -> bytes:
    """Keys and the line that answers a request."""
    (asked,) = console.of(Asked)[-1:]
    console.channel.reply(asked.request, pack_reply(OK), console.now)
    return console.channel.data_to_type(console.now)


def test_keys_are_typed_unchanged_and_at_once(console: Console) -> None:
    data = bytes(range(256))
    console.channel.receive_keys(data[:100], 0.0)
    console.channel.receive_keys(data[100:], 0.0)
    assert console.channel.data_to_type(0.0) == data
    assert console.channel.data_to_type(0.0) == b""


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\x03", b"\x04", b"\x15", b"\x1a", b"\x1c"])
def test_a_reply_waits_for_the_end_of_a_line_that_somebody_types(console: Console, end: bytes) -> None:
    console.ask("self")
    console.channel.receive_keys(b"ls", console.now)
    assert answered(console) == b"ls"
    console.channel.receive_keys(b" -l", console.now)
    assert console.channel.data_to_type(console.now) == b" -l"
    console.channel.receive_keys(end, console.now)
    typed = console.channel.data_to_type(console.now)
    assert typed.startswith(end + KILL_LINE)
    assert typed.endswith(b"\n")


def test_a_line_that_nobody_ends_holds_replies_back_for_a_while_only(console: Console) -> None:
    console.ask("self")
    console.channel.receive_keys(b"l", 0.0)
    console.channel.receive_keys(b"s", 4.0)
    answered(console)
    due = console.channel.next_timeout()
    assert due == 4.0 + TYPING_TIME
    assert console.channel.handle_timeout(due - 0.1) == []
    assert console.channel.data_to_type(due - 0.1) == b""
    console.channel.handle_timeout(due)
    assert console.channel.data_to_type(due).startswith(KILL_LINE)


def test_no_keys_are_no_line(console: Console) -> None:
    console.ask("self")
    console.channel.receive_keys(b"", 0.0)
    assert answered(console).startswith(KILL_LINE)


# -- output ----------------------------------------------------------------------------------------


def test_what_is_held_back_comes_out_in_time_or_at_the_end(console: Console) -> None:
    console.print(b"x" + MARKER + b"AAAA")
    assert console.output == b"x"
    console.items += console.channel.handle_timeout(console.channel.next_timeout() or 0.0)
    assert console.output == b"x" + MARKER + b"AAAA"
    for end in (console.channel.interrupt, console.channel.close):
        console.print(b"y" + MARKER[:4])
        console.items += end(console.now)
        assert console.output.endswith(b"y" + MARKER[:4])
    assert console.channel.next_timeout() is None


def test_positions_go_on_from_what_the_log_holds() -> None:
    console = Console(position=1000)
    console.print(b"hello\r\n")
    console.print(b"again")
    assert [(item.position, item.data) for item in console.of(Output)] == [
        (1000, b"hello\r\n"),
        (1007, b"again"),
    ]
    assert console.channel.position == 1012


@pytest.mark.parametrize("chunk", [1, 5, 10_000])
def test_a_request_stands_where_its_frame_was_cut_into(chunk: int) -> None:
    console = Console()
    console.print(b"before\r\n")
    console.ask("self")
    frame = console.link
    frame.submit(pack_request(b"identity", "case-start", b"x"), console.now)
    data = frame.next_frame(console.now) or b""
    message = b"[   12.345678] usb 1-1: new\r\n"
    console.chunk = chunk
    console.print(data[:40] + message + data[40:])
    assert console.output == b"before\r\n" + message
    assert console.of(Asked)[-1].position == len(console.output)


# -- results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 10_000])
def test_text_signals_are_found_and_stay_in_the_output(chunk: int) -> None:
    console = Console(position=10)
    console.chunk = chunk
    text = b"x<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=raw RESULT=PASS>\r\n<LAVA_SIGNAL_X y>\r\n"
    console.print(text)
    (signal,), (malformed,) = console.of(Signal), console.of(Malformed)
    assert (signal.kind, signal.fields, signal.offset) == ("result", ("raw", "pass", None, None), 11)
    assert malformed.offset == 10 + text.index(b"<LAVA_SIGNAL_X")
    assert console.output == text


def test_output_that_ends_in_a_signal(console: Console) -> None:
    console.print(b"<LAVA_SIGNAL_STARTTC x")
    (malformed,) = (item for item in console.channel.close(1.0) if isinstance(item, Malformed))
    assert malformed.reason == "the output ended inside it"


def test_a_runs_own_pattern() -> None:
    console = Console(patterns={"u1": Pattern(r"(?P<test_case_id>\w+): (?P<result>PASS|FAIL)")})
    console.print(b"early: PASS\r\n")
    console.ask("run-start", b"other", b"u2", identity=b"identit0")
    console.print(b"other: PASS\r\n")
    console.ask("run-end", b"other", b"u2", 0, identity=b"identit1")
    console.ask("run-start", b"smoke", b"u1", identity=b"identit2")
    console.print(b"one: PASS\r\ntwo: FAIL")
    # Its last line has no end, and belongs to the run all the same: it comes before the request.
    console.ask("run-end", b"smoke", b"u1", 0, identity=b"identit3")
    console.print(b"late: PASS\r\n")
    assert [item.fields[:2] for item in console.of(Signal)] == [("one", "pass"), ("two", "fail")]
    kinds = [
        item.operation if isinstance(item, Asked) else item.kind
        for item in console.items
        if isinstance(item, Asked | Signal)
    ]
    assert kinds == ["run-start", "run-end", "run-start", "result", "result", "run-end"]


def test_the_last_line_of_a_console_that_ends() -> None:
    console = Console(patterns={"u1": Pattern(r"(?P<test_case_id>\w+): (?P<result>PASS|FAIL)")})
    console.ask("run-start", b"smoke", b"u1")
    console.print(b"one: PASS")
    assert [item.fields[:2] for item in console.channel.close(1.0) if isinstance(item, Signal)] == [
        ("one", "pass")
    ]


# -- trouble ---------------------------------------------------------------------------------------


def test_an_operator_is_told_of_frames_that_make_no_sense(console: Console) -> None:
    for number in range(1, 100 * ALARM + 1):
        alarms = [item for item in console.print(encode_frame(b"\xc0")) if isinstance(item, Alarm)]
        assert len(alarms) == (number in (ALARM, 10 * ALARM, 100 * ALARM)), number
        for alarm in alarms:
            assert alarm.sentence.startswith(f"{number} frames from this console were invalid")
    assert console.channel.counters.refused == 100 * ALARM


numbers = st.integers(0, 3)
console_data = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(encode_frame),
    st.builds(
        lambda n, s: encode_frame(packets.pack_packet(packets.HELLO, 1, n, s, 1)), numbers, st.integers(0, 50)
    ),
    st.builds(
        lambda s, t, k: encode_frame(
            packets.pack_packet(k, 1, s, t, *((15, 0) if k == packets.POLL else (1,)))
        ),
        st.integers(1, 60),
        numbers,
        st.sampled_from([packets.POLL, packets.CANCEL]),
    ),
    st.just(b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=x RESULT=pass>\n"),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(console_data, max_size=30), st.integers(1, 50))
def test_any_bytes_in_any_chunks_give_the_same(pieces: list[bytes], size: int) -> None:
    whole, cut = Console(), Console()
    cut.chunk = size
    for data in pieces:
        typed = []
        for console in (whole, cut):
            console.print(data)
            typed.append(console.channel.data_to_type(0.0))
        assert typed[0] == typed[1]
    for console in (whole, cut):
        console.items += console.channel.close(1.0)
        assert len(console.channel._session._links) <= 2 * MAX_LINKS
    assert whole.output == cut.output
    assert whole.channel.counters == cut.channel.counters
    assert whole.of(Signal) == cut.of(Signal)
    assert whole.of(Malformed) == cut.of(Malformed)
    # Whoever spoke nonsense may yet speak sense.
    whole.link = DeviceLink(99, 1)
    whole.ask("self")
    assert whole.of(Asked)[-1].operation == "self"


# -- devices without the box -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_requests_of_lavas_own_scripts(console: Console, chunk: int) -> None:
    console.chunk = chunk
    text = b"<LAVA_MULTI_NODE> <LAVA_SEND hello ip=10.0.0.1>\r\n<LAVA_MULTI_NODE> <LAVA_WAIT ready>\r\n"
    console.print(text)
    send, wait = console.of(Asked)
    assert (send.operation, send.arguments, send.position) == ("send", [b"hello", [b"ip", b"10.0.0.1"]], 0)
    assert (wait.operation, wait.arguments) == ("wait", [b"ready", None])
    assert len({send.identity, wait.identity}) == 2
    assert console.output == text
    assert console.channel.reply(send.request, pack_reply(OK), 0.0) == []
    console.channel.accept(wait.request)
    assert console.channel.data_to_type(0.0) == b""
    values = [["a", b"k", b"v", b"l", b"w"], ["b", b"k", b"x"]]
    assert console.channel.reply(wait.request, pack_reply(OK, *values), 0.0) == []
    assert console.channel.data_to_type(0.0) == b"\x15# <LAVA_WAIT_COMPLETE 1:k=v 1:l=w 2:k=x>\n"


def test_what_lavas_script_would_change_is_left_out_and_told(console: Console) -> None:
    console.print(b"<LAVA_MULTI_NODE> <LAVA_WAIT_ALL x>\n")
    (asked,) = console.of(Asked)
    reply = pack_reply(OK, ["a", b"k", b"*", b"l", b"w"])
    (alarm,) = console.channel.reply(asked.request, reply, 0.0)
    assert "the values of k" in alarm.sentence
    assert console.channel.data_to_type(0.0) == b"\x15# <LAVA_WAIT_ALL_COMPLETE 1:l=w>\n"


def test_a_wait_of_lavas_script_that_fails_is_answered_and_told(console: Console) -> None:
    console.print(b"<LAVA_MULTI_NODE> <LAVA_SYNC x>\n")
    (asked,) = console.of(Asked)
    (alarm,) = console.channel.reply(asked.request, pack_reply(1, "b ended"), 0.0)
    assert "b ended" in alarm.sentence
    assert console.channel.data_to_type(0.0) == b"\x15# <LAVA_SYNC_COMPLETE nack>\n"


def test_a_message_of_lavas_script_that_fails_is_told(console: Console) -> None:
    console.print(b"<LAVA_MULTI_NODE> <LAVA_SEND x>\n")
    (asked,) = console.of(Asked)
    (alarm,) = console.channel.reply(asked.request, pack_reply(75, "the disk is full"), 0.0)
    assert "a message failed" in alarm.sentence and "the disk is full" in alarm.sentence
    assert console.channel.data_to_type(0.0) == b""


def test_a_device_with_the_box_asks_by_frames_only(console: Console) -> None:
    console.ask("self")
    console.print(b"an old log: <LAVA_MULTI_NODE> <LAVA_SEND hello>\n")
    assert [asked.operation for asked in console.of(Asked)] == ["self"]


# -- signs of a boot -------------------------------------------------------------------------------


def test_nothing_is_typed_after_a_sign_of_a_boot_until_the_device_asks(console: Console) -> None:
    console.ask("wait", b"x", None)
    (asked,) = console.of(Asked)
    console.channel.accept(asked.request)
    console.pump()
    console.print(b"\r\nU-Boot 2024.01 (Jan 08 2024)\r\n")
    console.channel.reply(asked.request, pack_reply(OK), console.now)
    assert console.channel.data_to_type(console.now) == b""
    console.now += packets.POLL_INTERVAL
    console.link.handle_timeout(console.now)
    console.pump()
    assert list(console.replies.values()) == [(OK, [])]


def test_what_a_device_reported_before_it_crashed_comes_before_the_sign(console: Console) -> None:
    console.ask("wait", b"x", None)
    (asked,) = console.of(Asked)
    console.channel.accept(asked.request)
    console.pump()
    damaged = MARKER + b"Zm9vYmFyYmF6" + TERMINATOR
    printed = b"<LAVA_SIGNAL_TESTEVENT up>\r\n" + damaged + b"\r\nU-Boot 2024.01 (Jan 08 2024)\r\n"
    items = console.channel.receive_data(printed, console.now)
    assert [type(item) for item in items] == [Output, Signal, Suspected]
