# SPDX-License-Identifier: MIT
"""Echoes: what comes back from a console of the lines that were typed into it.

A tty whose echo is on, or a shell's line editor, repeats what is typed. A whole line of
ours shows itself by its check. Where modes change while a line comes in, only a part of
it is echoed; that is known by the lines that were typed last: a part is an echo if it has
the end of such a line, or the beginning of it.
"""

from __future__ import annotations

import re

from toolkit.wire.framing import CHECK_SIZE, DOWN_SEED, LINE_KILL, LINE_MARKER, MAX_LINE, check

# So many typed lines are remembered, for so many seconds.
MAX_TYPED = 8
ECHO_TIME = 5.0
# How much of a line makes a part of it certain. At its end the dot and the check, 32 bits of checksum;
# at its beginning the marker, the type and the session's token, 32 random bits.
END_SIZE = 1 + CHECK_SIZE
BEGINNING_SIZE = len(LINE_MARKER) + 12

# A line of ours as a tty echoes it, or what may yet become one: then it is not the group of the seal that comes last.
_SEAL = 3
_LINE = re.compile(
    rb"#L1\.([\w-]{0,%d}+)(?:\Z()|\.(?:([\w-]{6})\r{0,2}(?:\n|\Z())|[\w-]{0,5}\Z()))"
    % (MAX_LINE - len(LINE_KILL + LINE_MARKER + b".\n") - CHECK_SIZE),
    re.ASCII,
)
_LINE_BREAK = re.compile(rb"\r{0,2}(?:\n|\Z())")


class Echoes:
    """Those of one console. `now` is any clock in seconds that does not go back."""

    def __init__(self) -> None:
        # What may yet be echoed of each line, and until when.
        self._typed: list[tuple[float, bytes]] = []

    def type_line(self, line: bytes, now: float) -> None:
        """A line, as `encode_line` made it, is typed now."""
        line = line[line.find(LINE_MARKER) :].rstrip(b"\n")
        self._typed = [*self._typed[1 - MAX_TYPED :], (now + ECHO_TIME, line)]

    def forget_old(self, now: float) -> None:
        if self._typed and self._typed[0][0] < now:
            self._typed = [typed for typed in self._typed if typed[0] >= now]

    def forget(self, echo: bytes) -> None:
        """This has come; no part of it will come again."""
        if not self._typed:
            return
        echo = echo.rstrip(b"\r\n")
        rest = (
            (until, line[common_size(echo, line) :])
            for until, line in self._typed
            if not echo.endswith(line[-END_SIZE:])
        )
        self._typed = [(until, line) for until, line in rest if len(line) >= END_SIZE]

    def find(self, data: bytes, position: int, limit: int) -> tuple[int, int] | None:
        """Where the first echo between `position` and `limit` begins and ends; the end is -1 while that is open."""
        first = None
        if data.find(LINE_MARKER[:1], position, limit) >= 0:
            first = _find_line(data, position, limit)
        for _, line in self._typed:
            for found in (
                _find_end(data, position, limit, line),
                _find_beginning(data, position, limit, line),
            ):
                if found is not None and (first is None or found[0] < first[0]):
                    first = found
        return first

    def beginning(self, data: bytes, position: int) -> int:
        """Where at the end of `data` something begins that may become an echo; its size if nowhere."""
        size = next((n for n in (3, 2, 1) if data.endswith(LINE_MARKER[:n], position)), 0)
        for _, line in self._typed:
            while size < len(data) - position and data[len(data) - size - 1 :] in line:
                size += 1
        return len(data) - size


def _find_line(data: bytes, position: int, limit: int) -> tuple[int, int] | None:
    """A whole line."""
    match = _LINE.search(data, position, limit)
    while match is not None:
        text, seal = match.group(1, _SEAL)
        if match.lastindex != _SEAL:
            return (match.start(), -1) if limit == len(data) else None
        if seal == check(text, DOWN_SEED):
            return match.span()
        match = _LINE.search(data, match.end(), limit)
    return None


def _find_end(data: bytes, position: int, limit: int, line: bytes) -> tuple[int, int] | None:
    """The end of this line, and as much of it as stands before that."""
    found = data.find(line[-END_SIZE:], position, limit)
    if found < 0:
        return None
    end = found + END_SIZE
    size = common_size(data[position:end][: -len(line) - 1 : -1], line[::-1])
    match = _LINE_BREAK.match(data, end, limit)
    if match is not None:
        end = -1 if match.lastindex is not None and limit == len(data) else match.end()
    return found + END_SIZE - size, end


def _find_beginning(data: bytes, position: int, limit: int, line: bytes) -> tuple[int, int] | None:
    """The beginning of this line, and as much of it as stands behind that."""
    found = data.find(line[:BEGINNING_SIZE], position, limit) if line.startswith(LINE_MARKER) else -1
    if found < 0:
        return None
    end = found + common_size(data[found:limit], line)
    return found, -1 if end == len(data) else end


def common_size(one: bytes, other: bytes) -> int:
    """How many bytes at the beginning of both are the same."""
    size = 0
    for size, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return size
    return min(len(one), len(other))
