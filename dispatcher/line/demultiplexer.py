# SPDX-License-Identifier: MIT
"""The demultiplexer: console bytes in, output and frames out, in their order.

    Output   what the device printed
    Frame    the body of a frame, and the foreign text that was found inside it
    Echo     a line of ours that a tty echoed, or a piece of one: neither output nor news
    Damaged  frames that can't be read, and the foreign text inside them

The `raw` bytes of all events, joined, are the input. The `text` of all events,
joined, is the device's output: what it would have been without the protocol.
Text is passed on at once; only what may yet become a frame or an echo is held
back, for at most MAX_HELD bytes and HOLD_TIME seconds (the mere beginning of a
marker, and a piece of an echo: MARKER_TIME).

A kernel message may cut a frame anywhere: in its content (repair.py), in the
marker, in the terminator. The latter two are looked for with one run of whole
lines inside.

What a device sends costs a bounded time for each byte: each candidate is decided
by patterns that look no further than the next ESC, and what is short enough to
come by the thousand (markers in a row, empty frames) is taken in one piece.
"""

from __future__ import annotations

import re

from msgspec import Struct

from dispatcher.line.echoes import Echoes, common_size
from dispatcher.line.repair import MAX_GUESSES, is_kernels, repair, salvage, without_echoes
from toolkit.wire.framing import CHECK_SIZE, LINE_MARKER, MARKER, MAX_FRAME, TERMINATOR, decode_frame

# A frame of 720 bytes, and a burst of kernel messages inside it.
MAX_HELD = 8192
# Seconds. 4 KiB take 4.3 s at 9600 baud.
HOLD_TIME = 5.0
# Seconds. Serial adapters deliver in batches up to 20 ms apart.
MARKER_TIME = 0.25
# Guesses a second that go into repairs: a device that sends rubbish must not cost more than
# a few hundredths of a processor.
GUESSES_PER_SECOND = 20_000.0

_ESCAPE = MARKER[:1]
_MARKER_SIZE, _TERMINATOR_SIZE = len(MARKER), len(TERMINATOR)
# Where no terminator of a frame begins any more, behind its own beginning.
_NO_STOP = MAX_HELD - _TERMINATOR_SIZE + 1
_LINE_FEED = 0x0A
# What a kernel message with a time stamp begins with, or may yet begin with. Without this sign
# one is not looked for behind an ESC, and behind ESC ] only if that begins no sequence of others.
_WITHOUT_LEVEL = rb"(?:\Z|\[ {0,11}+(?:\Z|\d{1,8}+(?:\Z|\.\d{0,6}+(?:\Z|\]))))"
_TIME_STAMP = rb"(?:<\d{0,3}+(?:\Z|>%b)|%b)" % (_WITHOUT_LEVEL, _WITHOUT_LEVEL)
_NO_SEQUENCE = rb"(?!\d{1,8};)[0-9A-Za-z]"


def _rest_of_marker(seen: int) -> bytes:
    """A pattern for what may stand behind so many bytes of a marker; a group takes part if the data ends in it."""
    if seen == len(MARKER):
        return b""
    following = re.escape(MARKER[seen : seen + 1])
    message = {1: b"(?=%b)" % _TIME_STAMP, 2: b"(?=%b|%b)" % (_TIME_STAMP, _NO_SEQUENCE)}.get(seen, b"")
    cut = rb"%b(?:[^\x1b]*?\n%b|[^\x1b]*\Z())" % (message, re.escape(MARKER[seen:]))
    # Nothing begins with one ESC behind another, and they may come by the thousand.
    return b"(?:%b%b|(?![%b\x1b])%b)" % (following, _rest_of_marker(seen + 1), following, cut)


# A marker, with or without lines inside, or what may yet become one.
_MARKER = re.compile(_ESCAPE + _rest_of_marker(1))
# Frames in a row with nothing inside that is not of their alphabet.
_FRAMES = re.compile(rb"(?>(?:\x1b\]5282;[A-Za-z0-9_-]{%d,%d}+\x1b\\)+)" % (CHECK_SIZE, MAX_FRAME))
_AROUND = _MARKER_SIZE + _TERMINATOR_SIZE
_CONTENTS, _BETWEEN = slice(_MARKER_SIZE, -_TERMINATOR_SIZE), TERMINATOR + MARKER
# The ways in which a frame ends: its terminator, another frame's marker, a terminator with lines inside.
_END = re.compile(rb"\x1b(?:\\|(\]5282;)|[^\x1b]*?\n\\)")
# Frames that are broken off soon by the marker of another, and those without room for a check, in a row.
_JUNK = re.compile(
    rb"(?:\x1b\]5282;(?:[\w-]{0,5}\x1b\\"
    rb"|[^\x1b]{0,64}+(?>(?:\x1b(?!\\|\]5282;|[^\x1b]*?\n\\)[^\x1b]{0,16}+){0,32})(?=\x1b\]5282;)))+",
    re.ASCII,
)
_EMPTY = re.compile(rb"\x1b\]5282;[\w-]{0,5}\x1b\\", re.ASCII)
# The first ESC in a frame that stands where a character of the frame may.
_FIRST_ESCAPE = re.compile(rb"(?:\A|\n)[A-Za-z0-9_\0\x11\x13-]*+(\x1b)")


# A dataclass would take three times as long to make, and five times if it is frozen. These hold no other objects
# than bytes, so the garbage collector need not know of them.


class Output(Struct, frozen=True, gc=False):
    raw: bytes

    @property
    def text(self) -> bytes:
        return self.raw


class Frame(Struct, frozen=True, gc=False):
    raw: bytes
    body: bytes
    text: bytes = b""


class Echo(Struct, frozen=True, gc=False):
    raw: bytes
    text: bytes = b""


class Damaged(Struct, frozen=True, gc=False):
    raw: bytes
    text: bytes


Event = Output | Frame | Echo | Damaged


class Demultiplexer:
    """One console. `now` is any clock in seconds that does not go back."""

    def __init__(self) -> None:
        self._held = b""
        self._held_since = 0.0
        self._searched = 0  # how much of `_held`, where that is a frame, has no end of it
        self._credit = float(MAX_GUESSES)
        self._credit_since = 0.0
        self._echoes = Echoes()
        self._fresh = True  # whether an echo may go on where what is held begins

    def type_line(self, line: bytes, now: float) -> None:
        """Tell of a line that is typed to the device now, as `encode_line` made it.

        Then what comes back of it, also if that is a part of it, is an Echo and no output (echoes.py).
        """
        self._echoes.type_line(line, now)

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes in any chunking."""
        if not self._held:
            self._held_since = now
            return self._take(data, 0, now)
        return self._take(self._held + data, 0, now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        if not self._held:
            return None
        whole = self._held.startswith(MARKER if self._echoes.awaited else (MARKER, LINE_MARKER))
        return self._held_since + (HOLD_TIME if whole else MARKER_TIME)

    def handle_timeout(self, now: float) -> list[Event]:
        deadline = self.next_timeout()
        if deadline is None or now < deadline:
            return []
        if self._held.startswith(_ESCAPE):
            # The candidate was none; what stands behind its first byte may be one.
            return self._take(self._held, 1, now)
        return self._take(self._held, 0, now, final=True)

    def flush(self) -> list[Event]:
        """The console has ended: whatever is held comes out."""
        held, self._held = self._held, b""
        return [Output(held)] if held else []

    def _take(self, data: bytes, position: int, now: float, *, final: bool = False) -> list[Event]:
        """The events of `data`, in which no candidate begins before `position`.

        :param final: no more comes for now, so that an echo at its end goes no further.
        """
        if self._credit < MAX_GUESSES:
            self._credit = min(MAX_GUESSES, self._credit + (now - self._credit_since) * GUESSES_PER_SECOND)
        self._credit_since = now
        if self._echoes.awaited:
            self._echoes.forget_old(now)
        events: list[Event] = []
        held = self._scan(data, position, events, final)
        self._held = data[held:]
        if held:
            # Another candidate than before: its time begins now.
            self._held_since = now
        return events

    def _scan(self, data: bytes, position: int, events: list[Event], final: bool) -> int:
        """Append the events of `data`; returns where that begins which may yet become a frame or an echo."""
        size = len(data)
        text = 0  # where the output begins that has no event yet
        searched, self._searched = 0 if position else self._searched, 0
        marker = content = -2  # where the next candidate begins, and its marker ends; -1 if there is none
        comment = -1  # where the next line of ours may begin
        fresh = self._fresh and position == 0
        awaited = self._echoes.awaited
        while True:
            if marker < position and marker != -1:
                marker = data.find(_ESCAPE, position)
                content = marker + _MARKER_SIZE
                if marker >= 0 and not data.startswith(MARKER, marker):
                    marker, content = _find_marker(data, marker)
            if comment < position and (comment := data.find(LINE_MARKER[:1], position)) < 0:
                comment = size
            limit = size if marker < 0 else marker
            if comment < limit or awaited:
                echo = self._echoes.find(data, position, limit, fresh=fresh, final=final)
                if echo is not None:
                    start, end = echo
                    if end < 0:
                        break
                    if start > text:
                        events.append(Output(data[text:start]))
                    events.append(Echo(data[start:end]))
                    self._echoes.take(events[-1].raw)
                    awaited = self._echoes.awaited
                    text = position = end
                    searched, fresh = 0, True
                    continue
            start = marker
            if start < 0:
                nowhere = final or (comment == size and not awaited)
                start = size if nowhere else self._echoes.beginning(data, position)
                break
            stop = data.find(_ESCAPE, content, start + _NO_STOP)
            ended = content - start == _MARKER_SIZE and data.startswith(TERMINATOR, stop)
            if ended and (start > text or not data.startswith(MARKER, stop + _TERMINATOR_SIZE)):
                # As nearly all are: one by itself, and whole.
                body = decode_frame(data[content:stop]) if stop - content >= CHECK_SIZE else None
                if body is not None:
                    if start > text:
                        events.append(Output(data[text:start]))
                    text = position = stop + _TERMINATOR_SIZE
                    events.append(Frame(data[start:text], body))
                    searched, fresh = 0, True
                    continue
            elif ended and (frames := _FRAMES.match(data, start)):
                text = position = frames.end()
                _read_frames(frames.group(), events)
                searched, fresh = 0, not isinstance(events[-1], Damaged)
                continue
            event, end = self._frame(data, start, content, max(searched, stop) if stop >= 0 else -1, ended)
            searched = 0
            if end < 0:
                break
            position = end
            if event is not None:
                if start > text:
                    events.append(Output(data[text:start]))
                events.append(event)
                text = end
            fresh = (event is not None and not isinstance(event, Damaged)) or data[end - 1] == _LINE_FEED
        if start > text:
            events.append(Output(data[text:start]))
        if start > position:
            fresh = data[start - 1] == _LINE_FEED
        self._fresh = fresh
        return start

    def _frame(
        self, data: bytes, start: int, content: int, stop: int, ended: bool
    ) -> tuple[Event | None, int]:
        """The frame whose marker ends at `content`, and where it ends: -1 while that is open.

        None where it is no frame: then only its marker is done with.

        :param stop: it does not end before that; -1 if there is no ESC in it.
        :param ended: that is a terminator, and what stands before it is not whole.
        """
        if content < 0:
            return None, -1
        after, another = stop + _TERMINATOR_SIZE, False
        if not ended:
            limit = start + MAX_HELD
            end = _END.search(data, stop, limit) if stop >= 0 else None
            if end is None:
                if len(data) >= limit:
                    # No frame at all: its beginning stays what it was to the device, text.
                    return None, content
                last = data.rfind(_ESCAPE, content)
                self._searched = (len(data) if last < 0 else last) - start
                return None, -1
            stop, after = end.span()
            another = end.lastindex is not None
        whole = content - start == _MARKER_SIZE
        readable = not another and stop - content >= CHECK_SIZE
        if whole and not readable and (ended or another) and (junk := _JUNK.match(data, start)):
            raw = junk.group()
            return Damaged(raw, salvage(_EMPTY.sub(b"", raw)[_MARKER_SIZE:], False)), junk.end()
        frame = data[content:stop]
        inside = b"" if whole else _inside_marker(data[start:content])
        if another:
            return Damaged(data[start:stop], inside + salvage(frame, False)), stop
        broken = data[stop + 1 : after - 1]
        if broken:
            broken = without_echoes(broken)
        # Where lines stand in the terminator, its first character may also be that of a sequence in the output.
        certain = not broken or is_kernels(broken)
        body, foreign = None, b""
        if readable and not certain and (escape := _FIRST_ESCAPE.search(frame)) and self._credit > 0:
            # This one may be the message's, as colours have it; then the terminator begins before the message.
            body, foreign = self._read(frame[: escape.start(1)])
            if body is not None:
                broken = without_echoes(data[content + escape.end() : after - 1])
        if readable and body is None:
            body, foreign = self._read(frame, tried=ended)
        if body is None:
            rest = broken if certain else data[stop : stop + 1] + broken + data[after - 1 : after]
            return Damaged(data[start:after], inside + salvage(frame, certain) + rest), after
        return Frame(data[start:after], body, inside + foreign + broken), after

    def _read(self, frame: bytes, *, tried: bool = False) -> tuple[bytes | None, bytes]:
        """The body of a frame, if it is whole or can be repaired, and the foreign text in it.

        :param tried: it is not whole.
        """
        body = None if tried or _LINE_FEED in frame else decode_frame(frame)
        if body is not None or self._credit <= 0:
            return body, b""
        body, foreign, guesses = repair(frame)
        self._credit -= guesses
        return body, foreign


def _read_frames(frames: bytes, events: list[Event]) -> None:
    """Append the events of frames in a row; those that are damaged become one."""
    start = end = 0
    for content in frames[_CONTENTS].split(_BETWEEN):
        begin = end
        end += len(content) + _AROUND
        body = decode_frame(content)
        if body is None:
            continue
        if start < begin:
            events.append(Damaged(frames[start:begin], b""))
        events.append(Frame(frames[begin:end], body))
        start = end
    if start < end:
        events.append(Damaged(frames[start:], b""))


def _find_marker(data: bytes, position: int) -> tuple[int, int]:
    """Where a marker begins and ends, which is -1 where the data ends in it; both are -1 if there is none."""
    match = _MARKER.search(data, position)
    while match is not None:
        start, content = match.span()
        if match.lastindex is not None:
            if content - start < MAX_HELD:
                return start, -1
        elif content - start <= MAX_HELD:
            return start, content
        match = _MARKER.search(data, start + 1)
    return -1, -1


def _inside_marker(marker: bytes) -> bytes:
    """The kernel message that stands inside."""
    seen = common_size(marker, MARKER)
    return without_echoes(marker[seen : len(marker) - len(MARKER) + seen])
