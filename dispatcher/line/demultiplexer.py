# SPDX-License-Identifier: MIT
"""The demultiplexer: console bytes in, output and frames out, in their order.

    Output   what the device printed
    Frame    the body of a frame, and the foreign text that was found inside it
    Echo     a line of ours that a tty echoed: neither output nor news
    Damaged  a frame that can't be read, and the foreign text inside it

The `raw` bytes of all events, joined, are the input. The `text` of all events,
joined, is the device's output: what it would have been without the protocol.
Text is passed on at once; only what may yet become a frame is held back, for
at most MAX_HELD bytes and HOLD_TIME seconds (the mere beginning of a marker:
MARKER_TIME).

A kernel message may cut a frame anywhere: in its content (repair.py), in the
marker, in the terminator. The latter two are looked for with one run of whole
lines inside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dispatcher.line.repair import MAX_GUESSES, repair, salvage, without_echoes
from toolkit.wire.framing import LINE_MARKER, MARKER, MAX_LINE, TERMINATOR, decode_frame, decode_line

# A frame of 720 bytes, and a burst of kernel messages inside it.
MAX_HELD = 8192
# Seconds. 4 KiB take 4.3 s at 9600 baud.
HOLD_TIME = 5.0
# Seconds. Serial adapters deliver in batches up to 20 ms apart.
MARKER_TIME = 0.25
# Guesses a second that go into repairs: a device that sends rubbish must not cost more than
# a few hundredths of a processor.
GUESSES_PER_SECOND = 10_000.0

# The rest of an echoed line, with its CR LF.
_MAX_ECHO = MAX_LINE + 1
# The terminator with whole lines inside.
_CUT_TERMINATOR = re.compile(rb"\x1b(?!\]5282;)[^\x1b]*?\n\\")
# What a kernel message with a time stamp begins with, or may yet begin with. Without this sign
# one is not looked for behind an ESC, and behind ESC ] only if that begins no sequence of others.
_TIME_STAMP = re.compile(rb"(<\d{0,3}(\Z|>))?(\Z|\[ {0,11}(\Z|\d{1,8}(\Z|\.\d{0,6}(\Z|\]))))")
_NO_SEQUENCE = re.compile(rb"(?!\d{1,8};)[0-9A-Za-z]")


@dataclass(frozen=True, slots=True)
class Output:
    raw: bytes

    @property
    def text(self) -> bytes:
        return self.raw


@dataclass(frozen=True, slots=True)
class Frame:
    raw: bytes
    body: bytes
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class Echo:
    raw: bytes
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class Damaged:
    raw: bytes
    text: bytes


Event = Output | Frame | Echo | Damaged


class Demultiplexer:
    """One console. `now` is any clock in seconds that does not go back."""

    def __init__(self) -> None:
        self._held = b""
        self._held_since = 0.0
        self._credit = float(MAX_GUESSES)
        self._credit_since = 0.0
        self._passed = 0  # bytes that came out so far: where in the stream `_held` begins

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes in any chunking."""
        return self._take(self._held + data, [], now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        if not self._held:
            return None
        whole = self._held.startswith((MARKER, LINE_MARKER))
        return self._held_since + (HOLD_TIME if whole else MARKER_TIME)

    def handle_timeout(self, now: float) -> list[Event]:
        deadline = self.next_timeout()
        if deadline is None or now < deadline:
            return []
        # The candidate was none; what stands behind its first byte may be one.
        return self._take(self._held[1:], [Output(self._held[:1])], now)

    def flush(self) -> list[Event]:
        """The console has ended: whatever is held comes out."""
        held, self._held = self._held, b""
        if not held:
            return []
        self._passed += len(held)
        return [Output(held)]

    def _take(self, data: bytes, events: list[Event], now: float) -> list[Event]:
        before = self._passed
        was_held = bool(self._held)
        self._credit = min(MAX_GUESSES, self._credit + (now - self._credit_since) * GUESSES_PER_SECOND)
        self._credit_since = now
        self._held = self._scan(data, events)
        self._passed += sum(len(event.raw) for event in events)
        if not was_held or self._passed != before:
            # Another candidate than before: its time begins now.
            self._held_since = now
        return _joined(events)

    def _scan(self, data: bytes, events: list[Event]) -> bytes:
        """Append the events of `data`; returns the end of it that may yet become a frame."""
        position = 0
        while True:
            start = _candidate(data, position)
            if start < 0:
                break
            if start > position:
                events.append(Output(data[position:start]))
            if data.startswith(MARKER[:1], start):
                end = self._frame(data, start, events)
            else:
                end = self._echo(data, start, events)
            if end < 0:
                return data[start:]
            position = end
        if len(data) > position:
            events.append(Output(data[position:]))
        return b""

    def _frame(self, data: bytes, start: int, events: list[Event]) -> int:
        """Where the frame that begins at `start` ends; -1 while that is open."""
        content, inside = _marker_end(data, start)
        if content <= start:
            if content < start:
                return -1
            events.append(Output(data[start : start + 1]))
            return start + 1
        limit = start + MAX_HELD
        end, after, broken = _content_end(data, content, limit)
        again = data.find(MARKER, content, end if end >= 0 else limit)
        if again >= 0:
            events.append(Damaged(data[start:again], inside + salvage(data[content:again], False)))
            return again
        if end < 0:
            if len(data) < limit:
                return -1
            # No frame at all: its beginning stays what it was to the device, text.
            events.append(Output(data[start:content]))
            return content
        events.append(self._read(data[start:after], inside, data[content:end], broken))
        return after

    def _read(self, raw: bytes, inside: bytes, content: bytes, broken: bytes) -> Event:
        body = decode_frame(content)
        if body is not None:
            return Frame(raw, body, inside + broken)
        if self._credit > 0:
            body, foreign, guesses = repair(content)
            self._credit -= guesses
            if body is not None:
                return Frame(raw, body, inside + foreign + broken)
        return Damaged(raw, inside + salvage(content, True) + broken)

    @staticmethod
    def _echo(data: bytes, start: int, events: list[Event]) -> int:
        """The same for a line of ours that the tty echoes."""
        if len(data) - start < len(LINE_MARKER):
            return -1
        end = data.find(b"\n", start, start + _MAX_ECHO)
        if end < 0 and len(data) - start < _MAX_ECHO and _like_a_line(data[start:]):
            return -1
        raw = data[start : end + 1]
        if end >= 0 and raw.rfind(LINE_MARKER) == 0 and decode_line(raw) is not None:
            events.append(Echo(raw))
            return end + 1
        events.append(Output(data[start : start + 1]))
        return start + 1


_LINE_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def _like_a_line(data: bytes) -> bool:
    """Whether `data`, a marker and what follows, may be the beginning of an echoed line."""
    rest = data[len(LINE_MARKER) :].translate(None, _LINE_CHARACTERS)
    return rest in (b"", b"\r")


def _candidate(data: bytes, position: int) -> int:
    """Where something begins that is, or may become, a frame or an echoed line; -1 if nowhere."""
    while True:
        escape = data.find(MARKER[:1], position)
        echo = data.find(LINE_MARKER[:1], position, escape if escape >= 0 else len(data))
        start = escape if echo < 0 else echo
        if start < 0:
            return -1
        marker = LINE_MARKER if echo >= 0 else MARKER
        seen = data[start : start + len(marker)]
        if marker.startswith(seen) or (echo < 0 and _marker_end(data, start)[0] != start):
            return start
        position = start + 1


def _marker_end(data: bytes, start: int) -> tuple[int, bytes]:
    """Where the marker that begins at `start` ends, and the kernel message inside it.

    `start` itself if there is none; -1 if that can't be told yet.
    """
    seen = 1
    while seen < len(MARKER) and data[start + seen : start + seen + 1] == MARKER[seen : seen + 1]:
        seen += 1
    foreign = start + seen
    if seen == len(MARKER):
        return foreign, b""
    if foreign == len(data):
        return -1, b""
    if not _may_be_message(seen, data[foreign : foreign + 64]):
        return start, b""
    limit = start + MAX_HELD
    again = data.find(MARKER[:1], foreign, limit)
    stop = limit if again < 0 else again
    end = data.find(b"\n" + MARKER[seen:], foreign, stop)
    if end >= 0:
        return end + 1 + len(MARKER) - seen, without_echoes(data[foreign : end + 1])
    return (-1, b"") if again < 0 and len(data) < limit else (start, b"")


def _may_be_message(seen: int, text: bytes) -> bool:
    """Whether `text`, behind so many bytes of a marker, may be a kernel message inside that."""
    return (
        seen > len(b"\x1b]")
        or _TIME_STAMP.match(text) is not None
        or (seen > len(b"\x1b") and _NO_SEQUENCE.match(text) is not None)
    )


def _content_end(data: bytes, content: int, limit: int) -> tuple[int, int, bytes]:
    """Where the content ends, where the frame ends, and the kernel message in its terminator."""
    end = data.find(TERMINATOR, content, limit)
    cut = _CUT_TERMINATOR.search(data, content, end if end >= 0 else limit)
    if cut:
        return cut.start(), cut.end(), without_echoes(cut.group()[1:-1])
    return end, end + len(TERMINATOR), b""


def _joined(events: list[Event]) -> list[Event]:
    """The same with neighbouring Outputs made one."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Output) and isinstance(last, Output):
            joined[-1] = Output(last.raw + event.raw)
        else:
            joined.append(event)
    return joined
