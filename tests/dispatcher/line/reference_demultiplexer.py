# SPDX-License-Identifier: MIT
"""What the demultiplexer should make of a whole stream: written to be read, one byte after the other, and slow.

It shares the framing and the repair with the real one, and nothing else.
"""

from __future__ import annotations

import re

from dispatcher.line.demultiplexer import MAX_HELD, Damaged, Echo, Event, Frame, Output
from dispatcher.line.repair import MAX_LOST, MAX_WORD, repair
from toolkit.wire.framing import ALPHABET, MARKER, MAX_FRAME, TERMINATOR, decode_frame, decode_line

ESC = 0x1B
STREWN = b"\0\x11\x13"
# A time stamp, or what the data ends with if that may become one.
STAMP = re.compile(rb"(<\d{0,3}(\Z|>))?(\Z|\[ {0,11}(\Z|\d{1,8}(\Z|\.\d{0,6}(\Z|\]))))")
WHOLE_STAMP = re.compile(rb"<\d{1,3}>|\[ {0,11}\d{1,8}\.\d{6}\]")
OTHER_SEQUENCE = re.compile(rb"\d{1,8};")
BEGUN_LINE = re.compile(rb"#L1\.[A-Za-z0-9_-]{0,242}(\.([A-Za-z0-9_-]{0,5}|[A-Za-z0-9_-]{6}\r{0,2}))?")
WHOLE_LINE = re.compile(rb"#L1\.[A-Za-z0-9_-]{0,242}\.[A-Za-z0-9_-]{6}\r{0,2}\n")


class OpenAtEnd(Exception):
    """The data ends where more of it would be needed."""


def events_of(data: bytes) -> list[Event]:
    """The events of all of a console's bytes, neighbours of a kind joined."""
    events: list[Event] = []
    position = 0
    while position < len(data):
        try:
            event, end = _at(data, position)
        except OpenAtEnd:
            event, end = Output(data[position:]), len(data)
        events.append(event)
        position = end
    return joined(events)


def joined(events: list[Event]) -> list[Event]:
    """Neighbouring outputs made one, and neighbouring damaged frames: where they are cut says nothing."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, Output) and isinstance(last, Output):
            result[-1] = Output(last.raw + event.raw)
        elif isinstance(event, Damaged) and isinstance(last, Damaged):
            result[-1] = Damaged(last.raw + event.raw, last.text + event.text)
        else:
            result.append(event)
    return result


def _at(data: bytes, start: int) -> tuple[Event, int]:
    """The event that begins here, and where it ends."""
    if data[start] == ESC:
        content = _marker(data, start)
        if content is not None:
            return _frame(data, start, content)
    if data.startswith(b"#L1.", start):
        if BEGUN_LINE.fullmatch(data, start):
            raise OpenAtEnd
        line = WHOLE_LINE.match(data, start)
        if line and decode_line(line.group()) is not None:
            return Echo(line.group()), line.end()
    return Output(data[start : start + 1]), start + 1


def _marker(data: bytes, start: int) -> int | None:
    """Where the marker that begins at `start` ends; None if there is none."""
    seen = 1
    while seen < len(MARKER) and data[start + seen : start + seen + 1] == MARKER[seen : seen + 1]:
        seen += 1
    position = start + seen
    if seen == len(MARKER):
        return position
    stamped = STAMP.match(data, position) is not None
    letter = re.compile(rb"[0-9A-Za-z]").match(data, position) and not OTHER_SEQUENCE.match(data, position)
    if position < len(data) and not (stamped or seen > 2 or (seen == 2 and letter)):
        return None
    end = position
    while end < len(data) and end - start < MAX_HELD and data[end] != ESC:
        end += 1
        rest = MARKER[seen:]
        if (
            data[end - 1 : end] == b"\n"
            and data.startswith(rest, end)
            and end + len(rest) - start <= MAX_HELD
        ):
            return end + len(rest)
    if end == len(data) and end - start < MAX_HELD:
        raise OpenAtEnd
    return None


def _frame(data: bytes, start: int, content: int) -> tuple[Event, int]:
    marker = data[start:content]
    inside = b""
    if marker != MARKER:
        seen = next(n for n in range(7, 0, -1) if marker.startswith(MARKER[:n]))
        inside = _lines_without_echoes(marker[seen : len(marker) - (7 - seen)])
    limit = start + MAX_HELD
    for position in range(content, min(len(data), limit)):
        if data[position] != ESC:
            continue
        if data.startswith(MARKER, position) and position + len(MARKER) <= limit:
            text = inside + _text(data[content:position], False)
            return Damaged(data[start:position], text), position
        end = _terminator(data, position, limit)
        if end is not None:
            broken = _lines_without_echoes(data[position + 1 : end - 1])
            first = _first_escape(data, content, position)
            if broken and not WHOLE_STAMP.match(broken) and first < position:
                # An ESC of a message in the terminator, if the frame is whole before the first one.
                body, foreign = _read(data[content:first])
                if body is not None:
                    broken = _lines_without_echoes(data[first + 1 : end - 1])
                    return Frame(data[start:end], body, inside + foreign + broken), end
            body, foreign = _read(data[content:position])
            if body is not None:
                return Frame(data[start:end], body, inside + foreign + broken), end
            # It may be no terminator, if that is cut, and not certainly by the kernel.
            certain = not broken or WHOLE_STAMP.match(broken)
            rest = broken if certain else b"\x1b" + broken + b"\\"
            return Damaged(data[start:end], inside + _text(data[content:position], bool(certain)) + rest), end
    if len(data) < limit:
        raise OpenAtEnd
    return Output(marker), content


def _read(content: bytes) -> tuple[bytes | None, bytes]:
    body = decode_frame(content)
    return (body, b"") if body is not None else repair(content)[:2]


def _first_escape(data: bytes, start: int, end: int) -> int:
    """Where the first ESC stands that has only characters of the frame before it in its line; `end` if none has."""
    foreign = False
    for position in range(start, end):
        if data[position] == ESC and not foreign:
            return position
        foreign = data[position] != 0x0A and (foreign or data[position] not in ALPHABET + STREWN)
    return end


def _terminator(data: bytes, start: int, limit: int) -> int | None:
    """Where the terminator ends that begins here, perhaps with whole lines inside."""
    if data.startswith(TERMINATOR, start):
        return start + 2 if start + 2 <= limit else None
    for position in range(start + 1, min(len(data), limit)):
        if data[position] == ESC:
            return None
        if data.startswith(b"\n\\", position):
            return position + 2 if position + 2 <= limit else None
    return None


def _lines_without_echoes(text: bytes) -> bytes:
    lines = text.splitlines(keepends=True)
    return b"".join(
        line for line in lines if not (line.startswith(b"#L1.") and decode_line(line) is not None)
    )


def _text(content: bytes, ended: bool) -> bytes:
    """What of a damaged frame is, or may be, output."""
    if ended and b"\n" not in content:
        if not content.strip(ALPHABET) and len(content) <= MAX_FRAME:
            return b""
        return b"" if _length(content) == len(content) else content
    *lines, tail = content.split(b"\n")
    text = b""
    runs = [len(line) - len(line.lstrip(ALPHABET + STREWN)) for line in (*lines, tail)]
    longest = MAX_WORD
    length = _length(content[: runs[0]]) if ended and runs[0] >= 40 else None
    if length is not None:
        # What may be the frame's, line feeds that were lost or changed included.
        pieces = re.finditer(rb"[A-Za-z0-9_\0\x11\x13-]+", content)
        frames = sum(
            len(piece.group())
            for piece in pieces
            if content[max(0, piece.start() - 1) : piece.start()] in (b"", b"\r", b"\n")
            or len(piece.group()) >= MAX_LOST // 2
        )
        if frames - length + MAX_LOST >= 0:
            longest = min(longest, frames - length + MAX_LOST)
    for line in [*(line + b"\n" for line in lines), tail]:
        cut = len(line) - len(line.lstrip(ALPHABET + STREWN))
        rest = (
            line[cut:]
            if WHOLE_STAMP.match(line, cut)
            else line[max(0, cut - longest) if cut > MAX_LOST else 0 :]
        )
        echo = re.compile(rb"#L1\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{6}\r{0,2}\n").search(rest)
        if echo and decode_line(echo.group()) is not None:
            before = rest[: echo.start()]
            rest = before if before.strip(ALPHABET + STREWN) else b""
        if line is tail and ended and not rest.strip(ALPHABET) and len(rest) <= MAX_FRAME:
            rest = b""
        text += rest
    return text


def _length(content: bytes) -> int | None:
    from dispatcher.line.repair import _length

    return _length(content)
