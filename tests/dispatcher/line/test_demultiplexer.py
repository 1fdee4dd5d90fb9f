# SPDX-License-Identifier: MIT
from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.line.demultiplexer import (
    GUESSES_PER_SECOND,
    HOLD_TIME,
    MARKER_TIME,
    MAX_HELD,
    Damaged,
    Demultiplexer,
    Echo,
    Event,
    Frame,
    Output,
)
from dispatcher.line.repair import MAX_GUESSES, repair
from tests.dispatcher.line.reference_demultiplexer import events_of, joined
from toolkit.wire import packets
from toolkit.wire.framing import MARKER, MAX_FRAME_BODY, MAX_LINE_BODY, TERMINATOR, encode_frame, encode_line

BODY = bytes(range(60))
FRAME = encode_frame(BODY)
LONG_BODY = random.Random(1).randbytes(MAX_FRAME_BODY)
LONG_FRAME = encode_frame(LONG_BODY)
ECHO = encode_line(BODY)[1:-1] + b"\r\n"
STAMPED = b"[  139.416569] usb 1-1: new device\r\n"
PLAIN = b"usb 1-1: new device\r\n"
LEVEL = b"<12>[    8.538962] noise 5\r\n"


def demultiplexed(chunks: list[bytes]) -> list[Event]:
    demultiplexer = Demultiplexer()
    events: list[Event] = []
    for chunk in chunks:
        events += demultiplexer.receive_data(chunk, 0.0)
        assert len(demultiplexer._held) <= MAX_HELD
    return joined(events + demultiplexer.flush())


def text_of(events: list[Event]) -> bytes:
    return b"".join(event.text for event in events)


def bodies_of(events: list[Event]) -> list[bytes]:
    return [event.body for event in events if isinstance(event, Frame)]


def cut(data: bytes, *insertions: tuple[int, bytes]) -> bytes:
    for position, text in sorted(insertions, reverse=True):
        data = data[:position] + text + data[position:]
    return data


# What comes, which bodies are in it, and what the device's output is.
CASES: dict[str, tuple[bytes, list[bytes], bytes]] = {
    "nothing": (b"", [], b""),
    "text": (b"hello\r\nworld", [], b"hello\r\nworld"),
    "any bytes": (bytes(range(256)), [], bytes(range(256))),
    "a frame": (FRAME, [BODY], b""),
    "an empty frame": (encode_frame(b""), [b""], b""),
    "the longest frame": (LONG_FRAME, [LONG_BODY], b""),
    "frames among text": (b"a" + FRAME + b"b" + FRAME + b"c", [BODY, BODY], b"abc"),
    "frames back to back": (FRAME * 3, [BODY] * 3, b""),
    "half a frame at the end": (b"x" + FRAME[:30], [], b"x" + FRAME[:30]),
    "half a frame, and a whole one": (FRAME[:30] + FRAME, [BODY], FRAME[7:30]),
    "a marker, and a frame": (MARKER + FRAME, [BODY], b""),
    "many markers": (MARKER * 50 + FRAME, [BODY], b""),
    "a terminator alone": (TERMINATOR + b"x", [], TERMINATOR + b"x"),
    "two terminators": (FRAME + TERMINATOR, [BODY], TERMINATOR),
    "an OSC of others": (b"\x1b]0;title\x07\x1b]52;c;aGk=\x1b\\", [], b"\x1b]0;title\x07\x1b]52;c;aGk=\x1b\\"),
    "colours": (b"\x1b[1;31mred\x1b[0m " + FRAME, [BODY], b"\x1b[1;31mred\x1b[0m "),
    "an echo": (b"$ " + ECHO + b"$ ", [], b"$ $ "),
    "an echo that ends in LF": (ECHO[:-2] + b"\n", [], b""),
    "the longest echo": (encode_line(bytes(MAX_LINE_BODY))[1:-1] + b"\r\n", [], b""),
    "a frame in an echo": (ECHO[:20] + FRAME + ECHO[20:], [BODY], ECHO),
    "half an echo": (ECHO[:20] + b"\r\nx", [], ECHO[:20] + b"\r\nx"),
    "a damaged echo": (ECHO[:10] + b"!" + ECHO[10:], [], ECHO[:10] + b"!" + ECHO[10:]),
    "a comment": (b"# comment\r\n#L1.\r\n#L1. x\r\n", [], b"# comment\r\n#L1.\r\n#L1. x\r\n"),
    "a message with a time stamp": (cut(FRAME, (20, STAMPED)), [BODY], STAMPED),
    "a message with a level": (cut(FRAME, (20, LEVEL)), [BODY], LEVEL),
    "a message without": (cut(FRAME, (20, PLAIN)), [BODY], PLAIN),
    "several messages": (cut(LONG_FRAME, *((p, STAMPED) for p in range(9, 700, 90))), [LONG_BODY], STAMPED * 8),
    "a message of several lines": (cut(FRAME, (33, STAMPED * 3)), [BODY], STAMPED * 3),
    "an echo inside": (cut(FRAME, (33, ECHO)), [BODY], b""),
    "XON and XOFF inside": (cut(FRAME, (20, b"\x13"), (25, b"\x11")), [BODY], b"\x13\x11"),
    "an endless frame": (b"a" + MARKER + b"A" * 2 * MAX_HELD + b"b", [], b"a" + MARKER + b"A" * 2 * MAX_HELD + b"b"),
}  # fmt: skip


@pytest.mark.parametrize("chunking", ["whole", "byte by byte", "halves"])
@pytest.mark.parametrize("name", CASES)
def test_cases(name: str, chunking: str) -> None:
    data, bodies, text = CASES[name]
    size = {"whole": len(data) or 1, "byte by byte": 1, "halves": len(data) // 2 or 1}[chunking]
    events = demultiplexed([data[i : i + size] for i in range(0, len(data), size)])
    assert b"".join(event.raw for event in events) == data
    assert bodies_of(events) == bodies
    assert text_of(events) == text


@pytest.mark.parametrize(
    "message", [STAMPED, LEVEL, PLAIN, PLAIN * 3], ids=["stamped", "level", "plain", "lines"]
)
def test_a_message_anywhere_in_a_frame(message: bytes) -> None:
    """At every byte, the first of the marker and the last of the terminator included."""
    unrepaired = []
    for position in range(1, len(FRAME)):
        events = demultiplexed([b"a" + cut(FRAME, (position, message)) + b"b"])
        if bodies_of(events) == [BODY]:
            assert text_of(events) == b"a" + message + b"b"
        else:
            unrepaired.append(position)
    # Without a time stamp a message behind ESC can't be told from other output.
    assert unrepaired == ([] if message in (STAMPED, LEVEL) else [1])


COLOURED = b"[   12.345678] systemd[1]: \x1b[1mStarted\x1b[0m Getty.\r\n"


@pytest.mark.parametrize(
    "message",
    [
        COLOURED,
        STAMPED + b"\x1b   12.345678] of a damaged stamp\r\n",
        STAMPED + b"ab\x1b[1m \r\n" + PLAIN,
        PLAIN + b"\x1b[1m \r\n",
    ],
    ids=["colours", "in a second line", "in the middle", "without a stamp"],
)
@pytest.mark.parametrize("before", [b"", STAMPED, COLOURED], ids=["only", "second", "second with colours"])
def test_a_message_with_escapes_may_cut_a_terminator(message: bytes, before: bytes) -> None:
    """The ESC of the terminator is the one before the message: both the frame and the output are whole."""
    frame = cut(FRAME, (20, before), (len(FRAME) - 1, message))
    events = demultiplexed([b"a", frame, b"z"])
    assert (text_of(events), bodies_of(events)) == (b"a" + before + message + b"z", [BODY])


def test_a_message_with_escapes_may_come_before_a_cut_terminator() -> None:
    coloured = b"\x1b[1mStarted\r\n"
    frame = cut(FRAME, (len(FRAME) - 2, coloured), (len(FRAME) - 1, STAMPED))
    events = demultiplexed([b"a", frame, b"z"])
    assert (text_of(events), bodies_of(events)) == (b"a" + coloured + STAMPED + b"z", [BODY])


def test_an_echo_anywhere_in_a_frame_is_no_output() -> None:
    # Not right behind the first byte of a marker: that is a frame only if what follows has a time stamp.
    for cut in range(3, len(FRAME)):
        events = demultiplexed([b"a", FRAME[:cut] + ECHO + FRAME[cut:], b"z"])
        assert (text_of(events), bodies_of(events)) == (b"az", [BODY]), cut


def test_an_echo_in_a_damaged_frame_is_no_output() -> None:
    damaged = FRAME[:20] + b"x" + FRAME[21:]
    for cut in range(len(MARKER), len(FRAME) - len(TERMINATOR)):
        events = demultiplexed([b"a", damaged[:cut] + ECHO + damaged[cut:], b"z"])
        assert (text_of(events), bodies_of(events)) == (b"az", []), cut


def test_a_frame_of_the_right_length_is_no_output_whatever_has_become_of_its_bytes() -> None:
    """What it begins with tells its length; bytes that are flipped are still the frame's."""
    frame = encode_frame(packets.pack_packet(packets.REQUEST, 0x12345678, 2, 1, 15, 0, 90, 1, bytes(90)))
    for place in range(len(MARKER) + 60, len(frame) - len(TERMINATOR)):
        (event,) = demultiplexed([frame[:place] + b" " + frame[place + 1 :]])
        assert event == Damaged(event.raw, b""), place
    # One byte more may be anything.
    (event,) = demultiplexed([frame[:80] + b"a b" + frame[82:]])
    assert event.text == frame[len(MARKER) : 80] + b"a b" + frame[82 : -len(TERMINATOR)]


def test_a_damaged_frame_is_counted_and_the_message_in_it_comes_out() -> None:
    damaged = FRAME[:30] + b"A" + FRAME[31:]
    (event,) = demultiplexed([cut(damaged, (40, STAMPED))])
    assert isinstance(event, Damaged)
    assert event.text == STAMPED


# -- chunks ----------------------------------------------------------------------------------------

frames = st.binary(max_size=MAX_FRAME_BODY).map(encode_frame)
lines = st.binary(max_size=MAX_LINE_BODY).map(encode_line)
text = st.text(alphabet="abc XYZ019-_.#;[]<>\\\x1b\r\n\x07\x15\0\x13", max_size=30).map(str.encode)
messages = st.sampled_from([STAMPED, LEVEL, PLAIN, PLAIN + STAMPED, b"\r\n", b"Oops\n"])
markers = st.sampled_from(
    [MARKER, TERMINATOR, MARKER[:3], MARKER[:-1], b"\x1b", b"#L1.", b"#L1", b"#", b"\n\\", b"\x15", b"5282;"]
)


def parts_of(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda data, a, b: data[a % len(data) :][: b % len(data) + 1], whole, st.integers(0), st.integers(0)
    )


def cut_frames() -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda frame, where, text: cut(frame, (where % len(frame), text)),
        frames,
        st.integers(0),
        messages | lines,
    )


def flipped(data: bytes, position: int, bit: int) -> bytes:
    position %= len(data)
    return data[:position] + bytes((data[position] ^ 1 << bit,)) + data[position + 1 :]


pieces = st.one_of(
    text,
    frames,
    lines,
    messages,
    markers,
    parts_of(frames),
    parts_of(lines),
    cut_frames(),
    st.builds(flipped, frames, st.integers(0), st.integers(0, 7)),
    lines.map(lambda line: line[1:-1] + b"\r\n"),
    st.binary(max_size=30),
    st.just(b"A" * 3000),
)
soups = st.lists(pieces, max_size=12).map(b"".join)


@settings(max_examples=200, deadline=None)
@example(soup=MARKER + b"A" * (MAX_HELD - len(MARKER)) + FRAME, cuts=[7, MAX_HELD - 1, MAX_HELD])
@example(soup=b"\x1b]52" + STAMPED + FRAME, cuts=[4, 10, 41])
@given(soup=soups, cuts=st.lists(st.integers(0, 5000), max_size=30))
def test_any_chunking_gives_the_same(soup: bytes, cuts: list[int]) -> None:
    whole = demultiplexed([soup])
    assert b"".join(event.raw for event in whole) == soup
    edges = [0, *sorted(c for c in cuts if c < len(soup)), len(soup)]
    assert demultiplexed([soup[a:b] for a, b in itertools.pairwise(edges)]) == whole
    if len(soup) < 1500:
        assert demultiplexed([bytes((byte,)) for byte in soup]) == whole


ATOMS = [
    *(
        b"\x1b",
        b"]",
        b"5282;",
        b"\x1b]",
        b"\x1b]5",
        b"\x1b]52",
        b"\x1b]528",
        b"\x1b]5282",
        MARKER,
        TERMINATOR,
        b"\\",
    ),
    *(
        b"\n",
        b"\r\n",
        b"\n\\",
        b"\n]5282;",
        b"\n82;",
        b"\n2;",
        b"\n5282;",
        b"#",
        b"#L1",
        b"#L1.",
        b".",
        b"AAAAAA",
    ),
    *(
        b"A",
        b"-_",
        STAMPED,
        LEVEL,
        PLAIN,
        b"\x1b[1m \r\n",
        b"<6>[ 1.2",
        b"[",
        b"<",
        b"x y\n",
        b" ",
        b"\0",
        b"\x13",
        b"word\n",
        b"A" * 250,
    ),
    *(LONG_FRAME, FRAME, ECHO, encode_frame(b""), encode_line(b"")[1:-1] + b"\r\r\n"),
]


def adversarial(seed: int) -> bytes:
    """A stream of pieces that nearly are what the demultiplexer looks for."""
    randomness = random.Random(seed)
    parts = []
    for _ in range(randomness.randrange(1, 25)):
        part = randomness.choice(ATOMS)
        if randomness.random() < 0.2:
            frame = encode_frame(randomness.randbytes(randomness.choice((0, 3, 20, 100))))
            place = randomness.randrange(len(frame))
            part = frame[:place] + randomness.choice(ATOMS) + frame[place + randomness.randrange(2) :]
        if randomness.random() < 0.01:
            part *= MAX_HELD // len(part)
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        # A sequence in the output, and later a line that begins with a backslash.
        (b"word\x1b[1m\r\nnext\r\n\\", b"A" * 40 + b"word\x1b[1m\r\nnext\r\n\\"),
        (b"\x1b[   12.345678] message\r\n\\", b"[   12.345678] message\r\n"),
    ],
)
def test_an_escape_behind_an_unreadable_frame_is_output_where_it_may_be(printed: bytes, text: bytes) -> None:
    (event,) = demultiplexed([MARKER + b"A" * 40 + printed])
    assert event.text == text


@pytest.mark.parametrize("first", range(0, 1200, 100))
def test_as_the_reference(first: int) -> None:
    """Whole, and in chunks, the events are those of a reader that goes through it byte by byte."""
    for seed in range(first, first + 100):
        data = adversarial(seed)
        expected = events_of(data)
        assert b"".join(event.raw for event in expected) == data
        assert demultiplexed([data]) == expected, seed
        randomness = random.Random(seed)
        edges = [0, *sorted(randomness.randrange(len(data) + 1) for _ in range(8)), len(data)]
        assert demultiplexed([data[a:b] for a, b in itertools.pairwise(edges)]) == expected, seed


@settings(max_examples=100, deadline=None)
@given(soup=soups)
def test_any_soup_as_the_reference(soup: bytes) -> None:
    assert demultiplexed([soup]) == events_of(soup)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(pieces, st.sampled_from([0.0, 0.01, MARKER_TIME, 1.0, HOLD_TIME, 30.0])), max_size=12)
)
def test_nothing_is_held_back_for_long_or_lost(arrivals: list[tuple[bytes, float]]) -> None:
    """Every byte comes out, in order, and not later than HOLD_TIME after it came."""
    demultiplexer = Demultiplexer()
    came: list[float] = []
    sent, passed = b"", b""
    now = 0.0

    def note(events: list[Event]) -> None:
        nonlocal passed
        passed += b"".join(event.raw for event in events)
        assert sent.startswith(passed)
        assert len(sent) - len(passed) <= MAX_HELD
        if len(passed) < len(sent):
            assert now <= came[len(passed)] + HOLD_TIME

    for data, pause in [*arrivals, (b"", 1000.0)]:
        sent += data
        came += [now] * len(data)
        note(demultiplexer.receive_data(data, now))
        later = now + pause
        while (deadline := demultiplexer.next_timeout()) is not None and deadline <= later:
            now = max(now, deadline)
            note(demultiplexer.handle_timeout(now))
        now = later
    assert passed == sent
    assert demultiplexer.flush() == []


@settings(max_examples=150, deadline=None)
@given(
    st.binary(min_size=1, max_size=MAX_FRAME_BODY),
    st.lists(st.tuples(st.integers(0), st.sampled_from([STAMPED, LEVEL])), max_size=6),
    st.sampled_from([b"", b"$ ", b"a\r\n"]),
)
def test_stamped_messages_in_the_content_never_cost_a_frame(
    body: bytes, cuts: list[tuple[int, bytes]], before: bytes
) -> None:
    frame = encode_frame(body)
    inside = [(len(MARKER) + where % (len(frame) - len(MARKER) - 1), text) for where, text in cuts]
    events = demultiplexed([before + cut(frame, *inside) + b"after"])
    assert bodies_of(events) == [body]
    # (Messages at one place change their order in `cut`.)
    assert sorted(text_of(events)) == sorted(before + b"".join(text for _, text in inside) + b"after")


@settings(max_examples=100, deadline=None)
@given(soups)
def test_no_frame_is_invented(soup: bytes) -> None:
    """Whatever is read was sent: with a flipped bit in each piece there is no frame at all."""
    allowed = set()
    for position in range(len(soup)):
        if soup.startswith(MARKER, position):
            end = soup.find(TERMINATOR, position)
            if end >= 0:
                allowed.add(soup[position:end])
    for event in demultiplexed([soup]):
        if isinstance(event, Frame):
            content = encode_frame(event.body)[len(MARKER) : -len(TERMINATOR)]
            # Its characters are all there, in this order.
            remaining = iter(event.raw)
            assert all(character in remaining for character in content)
        if isinstance(event, Echo):
            assert event.raw.startswith(b"#L1.")


def test_the_times_are_those_stated() -> None:
    for data, hold in (
        (b"x\x1b", MARKER_TIME),
        (b"x" + MARKER[:-1], MARKER_TIME),
        (b"x#L", MARKER_TIME),
        (FRAME[:20], HOLD_TIME),
        (ECHO[:20], HOLD_TIME),
    ):
        demultiplexer = Demultiplexer()
        text = data[:1] if data[:1] == b"x" else b""
        assert text_of(demultiplexer.receive_data(data, 10.0)) == text
        assert demultiplexer.next_timeout() == 10.0 + hold
        assert demultiplexer.handle_timeout(10.0 + hold - 0.001) == []
        assert text_of(demultiplexer.handle_timeout(10.0 + hold)) == data[len(text) :]
        assert demultiplexer.next_timeout() is None


def test_a_frame_that_comes_slowly_is_read() -> None:
    """720 bytes at 1200 baud take 6 s; the time is that of the frame's slowest acceptable line."""
    demultiplexer = Demultiplexer()
    events: list[Event] = []
    for number, byte in enumerate(LONG_FRAME):
        now = number / 150
        if (deadline := demultiplexer.next_timeout()) is not None and deadline <= now:
            events += demultiplexer.handle_timeout(now)
        events += demultiplexer.receive_data(bytes((byte,)), now)
    assert bodies_of(events) == [LONG_BODY]


HOSTILE = {
    "frame starts": MARKER,
    "half markers": MARKER[:5],
    "markers cut by lines": b"\x1b]52\n",
    "frames of line breaks": MARKER + b"\n" * 700 + TERMINATOR,
    "frames of words": MARKER + b"word\n" * 140 + b"AAAA" + TERMINATOR,
    "frames of long words": MARKER + (b"A" * 200 + b"\n") * 3 + b"A" * 90 + TERMINATOR,
    "endless content": b"A",
    "escapes": b"\x1b",
    "time stamps": b"\x1b[  1.0",
    "terminators cut by lines": MARKER + b"A" * 40 + b"\x1b\n",
    "echoes": b"#L1.",
    "half echoes": b"#L1.AAAAAAAAAAAAAAA\n",
}


@pytest.mark.parametrize("size", [1, 64, 4096])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_costs_little(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses for a second of a fast serial line's bytes (1.5 Mbaud), in pieces of any size."""
    spent = 0

    def counted(content: bytes) -> tuple[bytes | None, bytes, int]:
        nonlocal spent
        result = repair(content)
        spent += result[2]
        return result

    monkeypatch.setattr("dispatcher.line.demultiplexer.repair", counted)
    total = 150_000 if size > 1 else 20_000
    data = (MARKER if name == "endless content" else b"") + HOSTILE[name] * (total // len(HOSTILE[name]) + 1)
    demultiplexer = Demultiplexer()
    for position in range(0, total, size):
        demultiplexer.receive_data(data[position : position + size], position / 150_000)
        assert len(demultiplexer._held) <= MAX_HELD
    assert spent <= 2 * MAX_GUESSES + GUESSES_PER_SECOND


def test_damaged_frames_in_a_row_are_one_event() -> None:
    good, bad = encode_frame(b"body"), MARKER + b"A" * 20 + TERMINATOR
    demultiplexer = Demultiplexer()
    events = demultiplexer.receive_data(b"x" + good + bad + bad + good + b"y", 0.0)
    assert events == [
        Output(b"x"),
        Frame(good, b"body"),
        Damaged(bad + bad, b""),
        Frame(good, b"body"),
        Output(b"y"),
    ]
