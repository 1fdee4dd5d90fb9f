# SPDX-License-Identifier: MIT
"""Echoes: what comes back from a console of the lines that were typed into it.

A tty whose echo is on, or a shell's line editor, repeats what is typed. A whole line of
ours shows itself by its check. Where modes change while a line comes in, only a part of
it is echoed; and where the kernel prints meanwhile, its messages stand between the parts.
Those are known by the lines that were typed last: a part is an echo if it has the
beginning of such a line, or the end of it, or if it goes on, at the beginning of a line of
output or behind a frame, where the part before it has ended.
"""

from __future__ import annotations

import re
from bisect import bisect

from toolkit.wire.framing import ALPHABET, CHECK_SIZE, DOWN_SEED, LINE_KILL, LINE_MARKER, MAX_LINE, check

# So many typed lines are remembered, for so many seconds.
MAX_TYPED = 64
ECHO_TIME = 15.0
# How much of a line makes a part of it certain. At its end the dot and the check, 32 bits of checksum; at its
# beginning the marker and what tells its kind; where it goes on 24 random bits. In front of a kernel's time
# stamp less is enough.
END_SIZE = 1 + CHECK_SIZE
BEGINNING_SIZE = len(LINE_MARKER) + 3
REST_SIZE = 4
_CUT_BEGINNING = LINE_MARKER[:2]
_CUT = re.compile(re.escape(_CUT_BEGINNING))

# A line of ours as a tty echoes it, or what may yet become one: then it is not the group of the seal that comes last.
_SEAL = 3
_LINE = re.compile(
    rb"#L1\.([A-Za-z0-9_-]{0,%d}+)(?:\Z()|\.(?:([A-Za-z0-9_-]{6})\r{0,2}(?:\n|\Z())|[A-Za-z0-9_-]{0,5}\Z()))"
    % (MAX_LINE - len(LINE_KILL + LINE_MARKER + b".\n") - CHECK_SIZE)
)
# What the end of a line looks like, where that is no break.
_LINE_END = re.compile(rb"\.[A-Za-z0-9_-]{%d}" % CHECK_SIZE)
_IN_LINES = LINE_MARKER + ALPHABET
_LINE_BREAK = re.compile(rb"\r{0,2}(?:\n|\Z())")
# Of a kernel message, or what may yet become one.
_STAMP = re.compile(rb"(?:<\d{0,3}(?:\Z|>))?(?:\Z()|\[ {0,11}(?:\Z()|\d{1,8}(?:\Z()|\.\d{0,6}(?:\Z()|\]))))")


class Echoes:
    """Those of one console. `now` is any clock in seconds that does not go back."""

    def __init__(self) -> None:
        self.awaited = False  # whether there are lines that may be echoed
        # What may yet be echoed, and until when.
        self._typed: list[tuple[float, bytes]] = []
        # The same lines by their ends, and in the order of their beginnings.
        self._ends: dict[bytes, bytes] = {}
        self._sorted: list[bytes] = []
        # What may follow on the part that came last: it may be one of several lines.
        self._rests: list[bytes] = []

    def type_line(self, line: bytes, now: float) -> None:
        """A line, as `encode_line` made it, is typed now."""
        marker = line.find(LINE_MARKER)
        if marker >= 0:
            self._await([*self._typed[1 - MAX_TYPED :], (now + ECHO_TIME, line[marker:].rstrip(b"\n"))])

    def forget_old(self, now: float) -> None:
        if self._typed and self._typed[0][0] < now:
            self._await([typed for typed in self._typed if typed[0] >= now])
            if not self._typed:
                self._rests = []

    def take(self, echo: bytes) -> None:
        """This, which `find` has found, is no output; so what follows on it is none either."""
        if not self._typed:
            return
        echo = echo.rstrip(b"\r\n")
        come = self._ends.get(echo[-END_SIZE:])
        if come is not None:
            # No part of it will come again.
            number = [line for _, line in self._typed].index(come)
            self._await(self._typed[:number] + self._typed[number + 1 :])
            self._rests = []
            return
        whole = (line for _, line in self._typed) if echo.startswith(_CUT_BEGINNING) else self._rests
        self._rests = [line[len(echo) :] for line in whole if line.startswith(echo) and line != echo]

    def find(
        self, data: bytes, position: int, limit: int, *, fresh: bool, final: bool = False
    ) -> tuple[int, int] | None:
        """Where the first echo between `position` and `limit` begins and ends; the end is -1 while that is open.

        :param fresh: whether a part may go on at `position`, as a line of output begins there, or a frame or an
            echo ends.
        :param final: no more comes for now: nothing is open.
        """
        # One byte is looked for ten times as fast as two, and two by a pattern three times as fast as by `find`.
        first = data.find(_CUT_BEGINNING[:1], position, limit)
        if not self._typed:
            return _find_line(data, first, limit, final) if first >= 0 else None
        found = []
        if first >= 0 and _CUT.search(data, first, limit) is not None:
            found.append(_find_line(data, position, limit, final))
            found.append(self._find_beginning(data, position, limit, final))
        found.append(self._find_end(data, position, limit, final))
        found += [_find_rest(data, position, limit, rest, fresh, final) for rest in self._rests]
        # Of those that begin at one place the longest, or one that may become that.
        return min(
            (each for each in found if each is not None),
            key=lambda each: (each[0], each[1] >= 0, -each[1]),
            default=None,
        )

    def beginning(self, data: bytes, position: int) -> int:
        """Where at the end of `data` something begins that may become an echo; its size if nowhere."""
        if data[-1:] not in _IN_LINES:
            return len(data)
        size = next((n for n in (3, 2, 1) if data.endswith(LINE_MARKER[:n], position)), 0)
        for _, line in self._typed:
            while size < len(data) - position and data[len(data) - size - 1 :] in line:
                size += 1
        return len(data) - size

    def _find_beginning(self, data: bytes, position: int, limit: int, final: bool) -> tuple[int, int] | None:
        found = data.find(_CUT_BEGINNING, position, limit)
        while found >= 0:
            part = data[found : min(limit, found + MAX_LINE)]
            # The line that has most in common is one of those that it would stand between.
            place = bisect(self._sorted, part)
            size = max(common_size(part, line) for line in self._sorted[max(0, place - 1) : place + 1])
            end = _end(data, limit, found + size, size >= BEGINNING_SIZE, final)
            if end is not None:
                return found, end
            found = data.find(_CUT_BEGINNING, found + 1, limit)
        return None

    def _find_end(self, data: bytes, position: int, limit: int, final: bool) -> tuple[int, int] | None:
        """The end of a line, and as much of it as stands before that."""
        for match in _LINE_END.finditer(data, position, limit):
            line = self._ends.get(match.group())
            if line is not None:
                end = match.end()
                size = common_size(data[max(position, end - len(line)) : end][::-1], line[::-1])
                return end - size, _behind_break(data, limit, end, final)
        return None

    def _await(self, typed: list[tuple[float, bytes]]) -> None:
        self._typed = typed
        self.awaited = bool(typed)
        self._ends = {line[-END_SIZE:]: line for _, line in typed}
        self._sorted = sorted(self._ends.values())


def _end(data: bytes, limit: int, end: int, enough: bool, final: bool) -> int | None:
    """Where a part that goes to `end` ends: -1 if more of it may come; None if it is too short to be one."""
    if end == len(data) == limit and not final:
        return -1
    if enough:
        return end
    stamp = _STAMP.match(data, end, limit)
    if stamp is None or stamp.end() == end:
        return None
    if stamp.lastindex is None:
        return end
    return -1 if limit == len(data) and not final else None


def _find_line(data: bytes, position: int, limit: int, final: bool) -> tuple[int, int] | None:
    """A whole line."""
    match = _LINE.search(data, position, limit)
    while match is not None:
        text, seal = match.group(1, _SEAL)
        if match.lastindex != _SEAL and not final:
            return (match.start(), -1) if limit == len(data) else None
        if seal is not None and seal == check(text, DOWN_SEED):
            return match.span()
        match = _LINE.search(data, match.start() + 1, limit)
    return None


def _find_rest(
    data: bytes, position: int, limit: int, rest: bytes, fresh: bool, final: bool
) -> tuple[int, int] | None:
    """What follows on a part: at `position` if that is fresh, or at the beginning of a line."""
    found = position if fresh else data.find(b"\n" + rest[:1], position, limit) + 1
    while found > 0 or fresh:
        fresh = False
        size = common_size(data[found : min(limit, found + MAX_LINE)], rest)
        if size == len(rest) and (match := _LINE_BREAK.match(data, found + size, limit)) is not None:
            if match.lastindex is None or final or limit < len(data):
                return found, match.end()
            return found, -1
        if size:
            end = _end(data, limit, found + size, size >= REST_SIZE, final)
            if end is not None:
                return found, end
        found = data.find(b"\n" + rest[:1], found, limit) + 1
    return None


def _behind_break(data: bytes, limit: int, end: int, final: bool) -> int:
    """Where the line break ends that stands at `end`, if one does; -1 if it may yet come."""
    match = _LINE_BREAK.match(data, end, limit)
    if match is None:
        return end
    return -1 if match.lastindex is not None and limit == len(data) and not final else match.end()


def common_size(one: bytes, other: bytes) -> int:
    """How many bytes at the beginning of both are the same."""
    size = min(len(one), len(other))
    differing = int.from_bytes(one[:size], "big") ^ int.from_bytes(other[:size], "big")
    return size - (differing.bit_length() + 7) // 8
