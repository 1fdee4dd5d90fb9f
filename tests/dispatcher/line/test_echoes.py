# SPDX-License-Identifier: MIT
"""Parts of typed lines that come back."""

from __future__ import annotations

import random

import pytest

from dispatcher.line.demultiplexer import MARKER_TIME, Demultiplexer, Echo, Event, Frame
from dispatcher.line.echoes import BEGINNING_SIZE, ECHO_TIME, END_SIZE, MAX_TYPED
from tests.dispatcher.line.reference_demultiplexer import joined
from toolkit.wire import packets
from toolkit.wire.framing import encode_frame, encode_line

LINE = encode_line(
    packets.pack_packet(packets.REPLY, 0x89ABCDEF, 9, 1, 0, 90, 1, random.Random(1).randbytes(90))
)
SHOWN = LINE[1:-1]


def read(chunks: list[bytes], *lines: bytes, now: float = 1.0) -> list[Event]:
    demultiplexer = Demultiplexer()
    for line in lines or (LINE,):
        demultiplexer.type_line(line, 0.0)
    events: list[Event] = []
    for chunk in chunks:
        events += demultiplexer.receive_data(chunk, now)
    return joined(events + demultiplexer.flush())


def text_of(events: list[Event]) -> bytes:
    return b"".join(event.text for event in events)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_end_of_a_line_is_no_output(chunk: int) -> None:
    """A tty whose echo is turned on in the middle of the line."""
    for start in range(len(SHOWN) - END_SIZE + 1):
        data = b"root@panda:~# " + SHOWN[start:] + b"\r\nroot@panda:~# "
        events = read([data[i : i + chunk] for i in range(0, len(data), chunk)])
        assert text_of(events) == b"root@panda:~# root@panda:~# ", start
        assert [event.raw for event in events if isinstance(event, Echo)] == [SHOWN[start:] + b"\r\n"]


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_beginning_of_a_line_is_no_output(chunk: int) -> None:
    """A tty whose echo is turned off in the middle of the line."""
    for end in range(BEGINNING_SIZE, len(SHOWN)):
        data = b"$ " + SHOWN[:end] + b" $ "
        events = read([data[i : i + chunk] for i in range(0, len(data), chunk)])
        assert text_of(events) == b"$  $ ", end


def test_both_ends_of_a_line_with_output_between() -> None:
    data = b"a" + SHOWN[:40] + b" hello\r\n" + SHOWN[60:] + b"\r\nb"
    assert text_of(read([data])) == b"a hello\r\nb"


def test_what_may_be_output_is_kept() -> None:
    for data in (
        SHOWN[-END_SIZE + 1 :] + b"\r\n",
        SHOWN[: BEGINNING_SIZE - 1] + b"\r\n",
        SHOWN[30:80] + b"\r\n",
        b"A" * 100 + b"\r\n",
    ):
        assert text_of(read([b"x ", data])) == b"x " + data


def test_an_echo_is_taken_out_once() -> None:
    piece = SHOWN[-20:] + b"\r\n"
    assert text_of(read([piece, piece])) == piece


def test_only_what_was_typed_lately() -> None:
    piece = SHOWN[-20:] + b"\r\n"
    assert text_of(read([piece], now=ECHO_TIME)) == b""
    assert text_of(read([piece], now=ECHO_TIME + 0.1)) == piece
    others = [encode_line(bytes([number])) for number in range(MAX_TYPED)]
    assert text_of(read([piece], LINE, *others[1:])) == b""
    assert text_of(read([piece], LINE, *others)) == piece


def test_output_that_only_begins_like_a_line_comes_out_soon() -> None:
    demultiplexer = Demultiplexer()
    demultiplexer.type_line(LINE, 0.0)
    assert demultiplexer.receive_data(SHOWN[50:51], 1.0) == []
    deadline = demultiplexer.next_timeout()
    assert deadline is not None and deadline == 1.0 + MARKER_TIME
    assert text_of(demultiplexer.handle_timeout(deadline)) == SHOWN[50:51]


def test_frames_among_echoes_are_read() -> None:
    frame = encode_frame(b"hello!")
    events = read([SHOWN[40:] + b"\r\n" + frame + b"$ "])
    assert [event.body for event in events if isinstance(event, Frame)] == [b"hello!"]
    assert text_of(events) == b"$ "


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("message", [b"[   12.345678] usb 1-1: new device\r\n", b"<6>[    1.000000] a\r\n"])
def test_a_kernel_message_in_a_line(message: bytes, chunk: int) -> None:
    """What comes behind it goes on where the line was cut; what is left of the marker in front of it says nothing."""
    for start in range(2, len(SHOWN) - 3, 5):
        for end in range(start + 1, len(SHOWN) - 1, 7):
            cut = SHOWN[:start] + message + SHOWN[start:end] + message + SHOWN[end:]
            data = b"a\r\n" + cut + b"\r\n$ "
            events = read([data[i : i + chunk] for i in range(0, len(data), chunk)])
            assert text_of(events) == b"a\r\n" + 2 * message + b"$ ", (start, end)


def test_lines_that_are_cut_and_follow_each_other() -> None:
    """All of them are replies of one session, and begin alike."""
    lines = [
        encode_line(packets.pack_packet(packets.REPLY, 0x89ABCDEF, 9 + n, 1, 0, 90, 1, bytes([n]) * 90))
        for n in range(20)
    ]
    message = b"[   12.345678] usb\r\n"
    data = b"".join(line[1:30] + message + line[30:60] + message + line[60:-1] + b"\r\n" for line in lines)
    assert text_of(read([data], *lines)) == 40 * message
    torn = b"".join(line[1:9] + message + line[9:30] for line in lines)
    assert text_of(read([torn + b"$ "], *lines)) == 20 * message + b"$ "


def test_a_part_with_nothing_behind_it_is_no_output() -> None:
    """As where modes have changed, and the device says nothing more."""
    for piece in (SHOWN[:20], SHOWN[-20:]):
        demultiplexer = Demultiplexer()
        demultiplexer.type_line(LINE, 0.0)
        events = demultiplexer.receive_data(b"$ " + piece, 1.0)
        while (deadline := demultiplexer.next_timeout()) is not None:
            events += demultiplexer.handle_timeout(deadline)
        assert text_of(events) == b"$ "


def test_other_lines_to_the_device_are_not_remembered() -> None:
    data = b"<lava_send_ack>\r\nhello\r\n"
    assert text_of(read([data], b"<lava_send_ack>\n")) == data
