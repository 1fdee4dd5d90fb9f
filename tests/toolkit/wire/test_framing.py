# SPDX-License-Identifier: MIT
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.wire.framing import (
    ALPHABET,
    CHECK_SIZE,
    DOWN_SEED,
    LINE_KILL,
    LINE_MARKER,
    MARKER,
    MAX_FRAME,
    MAX_FRAME_BODY,
    MAX_LINE,
    MAX_LINE_BODY,
    TERMINATOR,
    UP_SEED,
    check,
    decode_frame,
    decode_line,
    encode_frame,
    encode_line,
)

frame_bodies = st.binary(max_size=MAX_FRAME_BODY)
line_bodies = st.binary(max_size=MAX_LINE_BODY)


def content(frame: bytes) -> bytes:
    assert frame.startswith(MARKER) and frame.endswith(TERMINATOR)
    return frame[len(MARKER) : -len(TERMINATOR)]


# Bodies, and what stands for them on the line.
VECTORS = {
    "empty": (b"", b"\x1b]5282;gf23rw\x1b\\", b"\x15#L1..b_PWgw\n"),
    "one byte": (b"\0", b"\x1b]5282;AA1foaSQ\x1b\\", b"\x15#L1.AA.1n7OJw\n"),
    "two bytes": (b"\xff\xfe", b"\x1b]5282;__4Ppqpsw\x1b\\", b"\x15#L1.__4.lJNhOA\n"),
    "text": (b"hello", b"\x1b]5282;aGVsbG84y0sCA\x1b\\", b"\x15#L1.aGVsbG8.oQgrdQ\n"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    body, frame, line = VECTORS[name]
    assert encode_frame(body) == frame
    assert encode_line(body) == line
    assert decode_frame(content(frame)) == body
    assert decode_line(line) == body


def test_the_checksum_is_the_crc32_of_the_characters_after_the_direction() -> None:
    frame = content(encode_frame(b"hello"))
    text, seal = frame[:-CHECK_SIZE], frame[-CHECK_SIZE:]
    value = 0
    for character in seal:
        value = value << 6 | ALPHABET.index(character)
    assert value >> 4 == zlib.crc32(b"L1>" + text)


@given(frame_bodies)
def test_frames_round_trip(body: bytes) -> None:
    frame = encode_frame(body)
    assert len(frame) <= MAX_FRAME
    assert not content(frame).translate(None, ALPHABET)
    assert decode_frame(content(frame)) == body


@given(line_bodies)
def test_lines_round_trip(body: bytes) -> None:
    line = encode_line(body)
    assert len(line) <= MAX_LINE
    assert line.startswith(LINE_KILL + LINE_MARKER) and line.endswith(b"\n")
    assert decode_line(line) == body


def test_the_largest_bodies_fill_frame_and_line() -> None:
    assert (
        len(encode_frame(bytes(MAX_FRAME_BODY + 1))) > MAX_FRAME >= len(encode_frame(bytes(MAX_FRAME_BODY)))
    )
    assert len(encode_line(bytes(MAX_LINE_BODY + 1))) > MAX_LINE >= len(encode_line(bytes(MAX_LINE_BODY)))


@settings(max_examples=300)
@given(frame_bodies, st.data())
def test_no_change_of_a_byte_makes_another_frame(body: bytes, data: st.DataObject) -> None:
    frame = content(encode_frame(body))
    position = data.draw(st.integers(0, len(frame) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != frame[position]))
    assert decode_frame(frame[:position] + bytes((other,)) + frame[position + 1 :]) is None


@settings(max_examples=300)
@given(line_bodies, st.data())
def test_no_change_of_a_byte_makes_another_line(body: bytes, data: st.DataObject) -> None:
    line = encode_line(body)
    # (The ^U and the line's end are the tty's.)
    position = data.draw(st.integers(1, len(line) - 2))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != line[position]))
    assert decode_line(line[:position] + bytes((other,)) + line[position + 1 :]) is None


def test_every_change_of_every_byte_of_a_short_frame_and_line() -> None:
    frame, line = content(encode_frame(b"\x01\x02")), encode_line(b"\x01\x02")
    for value in range(256):
        for position in range(len(frame)):
            changed = frame[:position] + bytes((value,)) + frame[position + 1 :]
            assert decode_frame(changed) is None or changed == frame
        for position in range(1, len(line) - 1):
            changed = line[:position] + bytes((value,)) + line[position + 1 :]
            assert decode_line(changed) is None or changed == line


@given(frame_bodies, st.integers(0, MAX_FRAME), st.integers(0, 8))
def test_no_missing_or_doubled_part_makes_another_frame(body: bytes, position: int, count: int) -> None:
    frame = content(encode_frame(body))
    part = frame[position : position + count]
    for changed in (frame[:position] + frame[position + count :], frame[:position] + part + frame[position:]):
        assert changed == frame or decode_frame(changed) is None


@given(st.binary(max_size=64) | st.text(alphabet=ALPHABET.decode(), max_size=64).map(str.encode))
def test_whatever_comes_nothing_raises(data: bytes) -> None:
    decode_frame(data)
    decode_line(data)
    decode_line(LINE_MARKER + data)


@given(frame_bodies)
def test_neither_direction_passes_for_the_other(body: bytes) -> None:
    frame, line = encode_frame(body[:MAX_LINE_BODY]), encode_line(body[:MAX_LINE_BODY])
    text, _, seal = line[len(LINE_KILL + LINE_MARKER) : -1].partition(b".")
    assert decode_frame(text + seal) is None
    text, seal = content(frame)[:-CHECK_SIZE], content(frame)[-CHECK_SIZE:]
    assert decode_line(LINE_MARKER + text + b"." + seal) is None


LINES = {
    "as typed": (b"\x15#L1.aGVsbG8.oQgrdQ\n", b"hello"),
    "as a tty hands it over": (b"#L1.aGVsbG8.oQgrdQ\n", b"hello"),
    "without its end": (b"#L1.aGVsbG8.oQgrdQ", b"hello"),
    "with CR LF": (b"#L1.aGVsbG8.oQgrdQ\r\n", b"hello"),
    "behind something typed, no line editing": (b"ls -\x15#L1.aGVsbG8.oQgrdQ\n", b"hello"),
    "behind half of one of ours": (b"#L1.aGVs#L1.aGVsbG8.oQgrdQ\n", b"hello"),
    "something behind it": (b"#L1.aGVsbG8.oQgrdQ x\n", None),
    "no marker": (b"aGVsbG8.oQgrdQ\n", None),
    "no dot": (b"#L1.aGVsbG8oQgrdQ\n", None),
    "two dots": (b"#L1.aGVsbG8..oQgrdQ\n", None),
    "no checksum": (b"#L1.aGVsbG8.\n", None),
    "padded": (b"#L1.aGVsbG8=.oQgrdQ\n", None),
    "empty": (b"", None),
}


@pytest.mark.parametrize("name", LINES)
def test_input_lines(name: str) -> None:
    line, body = LINES[name]
    assert decode_line(line) == body


@pytest.mark.parametrize("text", [b"A", b"AAAAA", b"AB", b"AAB", b"AA==", b"A+", b"A/", b"A A"])
def test_there_is_one_way_only_to_write_a_body(text: bytes) -> None:
    # Even with the right checksum.
    assert decode_frame(text + check(text, UP_SEED)) is None
    assert decode_line(LINE_MARKER + text + b"." + check(text, DOWN_SEED)) is None
