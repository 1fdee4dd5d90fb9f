# SPDX-License-Identifier: MIT
"""Repair of frames with foreign text inside, most often kernel messages.

A kernel message cuts into a frame at any byte, as whole lines: it ends with a
line break, and the frame goes on with its very next character. Where it begins
is not marked, but a frame has only characters of its alphabet, so in each line
the frame's part ends at the first other character, or before: with time stamps
`[   12.345678] ` exactly there, without them up to a word earlier.

Likely guesses are held against the frame's checksum one by one. Where several
messages have no time stamp there are too many for that. Then the length helps,
which the frame's own beginning tells, and the checksum is met in the middle: it
is linear, so each way to cut the first half of the lines asks for one checksum
of the second half, and one of one length.

A wrong guess passes with a chance of 2^-32, and then still has to be a sensible
packet of a living session.
"""

from __future__ import annotations

import binascii
import math
import re
import zlib
from collections.abc import Iterator
from functools import partial

from toolkit.wire import packets
from toolkit.wire.framing import (
    ALPHABET,
    CHECK_SIZE,
    LINE_MARKER,
    MARKER,
    MAX_FRAME,
    UP_SEED,
    decode_frame,
    decode_line,
)

# Guesses for one frame; each takes a microsecond or less.
MAX_GUESSES = 20_000
# Lines that are cut at more than one place; the others are taken as they seem.
MAX_OPEN = 8
# So many lines cost as much as one more guess.
_LINES_A_GUESS = 16
# The most that is the first word of a message rather than a frame's.
_SHORT = 13
# Ways to cut one half of the lines.
_MAX_HALF = 5000
# No message of a kernel begins with a longer word.
MAX_WORD = 128
# So many bytes a frame may have lost, and still nothing of a message in it is taken for the frame's.
MAX_LOST = 32
# Characters that tell how long the frame is: all of it but the chunk, and the chunk's length.
_HEAD = (packets.OVERHEAD * 4 + 2) // 3
# What links and terminal servers strew in: NUL, XON, XOFF.
_STREWN = b"\0\x11\x13"
_NOT_STREWN = bytes(range(256)).translate(None, _STREWN)
_FRAME_CHARACTERS = ALPHABET + _STREWN
# A line that begins like this is foreign from there: time stamp, log level, a line of ours echoed.
_SURE = b"[<#\r\n"
# The sizes of msgpack's numbers, and those of its binary strings' lengths.
_NUMBERS = {0xCC: 2, 0xCD: 3, 0xCE: 5}
_LENGTHS = {0xC4: 1, 0xC5: 2}
_ZEROS = bytes(MAX_FRAME)

# Whether bytes are in others is asked of a number, or of `find`: `in` takes longer for bytes.
_LINE_FEED, _BRACKET, _ANGLE = b"\n[<"

# Only a kernel message begins like this.
_STAMP = re.compile(rb"<\d{1,3}>|\[ {0,11}\d{1,8}\.\d{6}\]")
_BEFORE_STAMP = tuple(
    (re.compile(rb"%b[A-Za-z0-9_\0\x11\x13-]++(?=%b)" % (re.escape(begin), _STAMP.pattern)), begin)
    for begin in (b"\n", MARKER)
)
_SHORTEST = len(b"A<1>")  # that this can be
# What is longer at the beginning of a line than a word, if the frame has lost nothing.
_LONG = tuple(
    (re.compile(rb"%b([A-Za-z0-9_\0\x11\x13-]{%d,}+)" % (re.escape(begin), MAX_LOST + 1)), begin)
    for begin in (b"\n", MARKER)
)
# What may be the frame's: a run at the beginning of a line, or a long one: the line feed before it may be lost or changed.
_RUN = re.compile(rb"(?<![^\r\n])[A-Za-z0-9_\0\x11\x13-]+|[A-Za-z0-9_\0\x11\x13-]{%d,}" % (MAX_LOST // 2))
_LINE = re.compile(rb"#L1\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{6}\r{0,2}\n")


def repair(content: bytes) -> tuple[bytes | None, bytes, int]:
    """The body of a frame that was cut, the foreign text in it, and what it cost in guesses.

    `content` is what stood between marker and terminator. No body if no guess holds.
    """
    if not content.translate(None, ALPHABET):
        return None, b"", 0
    *whole, tail = content.split(b"\n")
    if tail.translate(None, _FRAME_CHARACTERS):
        return None, b"", 0
    strewn, tail = _strewn(tail), tail.translate(None, _STREWN)
    if len(tail) > MAX_FRAME:
        return None, b"", 0
    lines = [line + b"\n" for line in whole]
    cost = 1 + len(lines) // _LINES_A_GUESS
    guesses = cost
    most = [_alphabetic(line) for line in lines]
    # Of a message of several lines only the first has a part of the frame before it.
    usual = [m if i == 0 or lines[i][m] in _SURE else 0 for i, m in enumerate(most)]
    body = _read(lines, usual, tail)
    if body is not None:
        return body, _foreign(lines, usual) + strewn, guesses
    loose = [i for i, m in enumerate(most) if m and not _STAMP.match(lines[i], m)]
    loose = sorted(sorted(loose, key=lambda i: -most[i])[:MAX_OPEN])
    for cuts, tried in _guesses(lines, most, usual, loose, tail):
        guesses += tried * cost
        if guesses > MAX_GUESSES:
            break
        if cuts is not None and (body := _read(lines, cuts, tail)) is not None:
            return body, _foreign(lines, cuts) + strewn, guesses
    return None, b"", guesses


def salvage(content: bytes, ended: bool) -> bytes:
    """The text in a frame that can't be repaired. What may be text is kept.

    `content` is what stands behind its marker: also several frames, with the markers of all but the first.

    :param ended: a terminator was found, so what comes last belongs to the frame.
    """
    if ended and _LINE_FEED not in content:
        if len(content) <= MAX_FRAME and not content.translate(None, ALPHABET):
            return b""
        # Bytes have changed, but none was lost, and none has come in.
        return b"" if len(content) > CHECK_SIZE and len(content) == _length(content) else content
    damaged = MARKER + content
    if len(content) >= _SHORTEST and (_BRACKET in content or _ANGLE in content):
        for pattern, replacement in _BEFORE_STAMP:
            damaged = pattern.sub(replacement, damaged)
    if len(content) > MAX_LOST:
        longest = _longest_word(content) if ended else MAX_WORD
        for pattern, replacement in _LONG:
            damaged = pattern.sub(partial(_end_of_run, replacement, longest), damaged)
    if ended:
        last = damaged.rfind(b"\n") + 1
        if len(damaged) - last <= MAX_FRAME and not damaged[last:].translate(None, ALPHABET):
            damaged = damaged[:last]
    if damaged.find(LINE_MARKER) < 0:
        return damaged.replace(MARKER, b"")
    return b"".join(map(_without_lines, damaged.split(MARKER)))


def _end_of_run(begin: bytes, longest: int, match: re.Match[bytes]) -> bytes:
    return begin + match[1][max(0, len(match[1]) - longest) :]


def _longest_word(content: bytes) -> int:
    """How long the word may be that a message in a frame begins with, behind what is the frame's."""
    first = content[: _alphabetic(content)]
    size = _length(first) if len(first) >= _HEAD else None
    longest = sum(map(len, _RUN.findall(content))) - size + MAX_LOST if size is not None else -1
    return longest if 0 <= longest < MAX_WORD else MAX_WORD


def _without_lines(content: bytes) -> bytes:
    """Without lines of ours that were echoed, and the parts of a frame before them."""
    kept, position = [], 0
    for match in _LINE.finditer(content):
        if decode_line(match.group()) is None:
            continue
        begin = max(content.rfind(b"\n", position, match.start()) + 1, position)
        is_frame = not content[begin : match.start()].translate(None, _FRAME_CHARACTERS)
        kept.append(content[position : begin if is_frame else match.start()])
        position = match.end()
    return b"".join((*kept, content[position:]))


def without_echoes(text: bytes) -> bytes:
    """Whole lines, but for those that are ours and were echoed."""
    if text.find(LINE_MARKER) < 0:
        return text
    return b"".join(line for line in text.splitlines(keepends=True) if not is_echo(line))


def is_kernels(text: bytes) -> bool:
    """Whether it begins as only a kernel message does."""
    return _STAMP.match(text) is not None


def is_echo(line: bytes) -> bool:
    return line.startswith(LINE_MARKER) and decode_line(line) is not None


def _read(lines: list[bytes], cuts: list[int], tail: bytes) -> bytes | None:
    parts = [line[:cut] for line, cut in zip(lines, cuts, strict=True)]
    kept = b"".join((*parts, tail)).translate(None, _STREWN)
    return decode_frame(kept) if CHECK_SIZE < len(kept) <= MAX_FRAME else None


def _foreign(lines: list[bytes], cuts: list[int]) -> bytes:
    """What is not the frame's, but for lines that are ours and were echoed."""
    text = b""
    for line, cut in zip(lines, cuts, strict=True):
        rest = line[cut:]
        text += _strewn(line[:cut]) + (b"" if is_echo(rest) else rest)
    return text


def _strewn(part: bytes) -> bytes:
    return part.translate(None, _NOT_STREWN)


def _alphabetic(line: bytes) -> int:
    """How many characters from the beginning may belong to a frame."""
    return len(line) - len(line.lstrip(_FRAME_CHARACTERS))


def _guesses(
    lines: list[bytes], most: list[int], usual: list[int], loose: list[int], tail: bytes
) -> Iterator[tuple[list[int] | None, int]]:
    """Where to cut each line, and what it cost to find that: a guess each for one line, then all of them together.

    None where the checksum tells that a guess does not hold.
    """
    parts = [line[:cut].translate(None, _STREWN) for line, cut in zip(lines, usual, strict=True)]
    for i in loose:
        seed = zlib.crc32(b"".join(parts[:i]), UP_SEED)
        behind = b"".join((*parts[i + 1 :], tail))
        # Of a check that this line has a part of nothing is known. What is too long does not hold anyway.
        wanted = _value(behind[-CHECK_SIZE:]) if len(behind) >= CHECK_SIZE else None
        text = behind[:-CHECK_SIZE][:MAX_FRAME]
        for cut in range(most[i], -1, -1):
            if cut == usual[i]:
                continue
            value = zlib.crc32(text, zlib.crc32(lines[i][:cut].translate(None, _STREWN), seed))
            yield ([*usual[:i], cut, *usual[i + 1 :]] if wanted in (None, value) else None), 1
    # Where little could be the frame's, mostly nothing is.
    likely = [i for i in loose if most[i] > _SHORT or i == loose[0]]
    for open_lines in [likely, loose] if len(likely) < len(loose) else [loose]:
        if len(open_lines) > 1:
            yield from _together(lines, most, usual, open_lines, tail)


def _together(
    lines: list[bytes], most: list[int], usual: list[int], loose: list[int], tail: bytes
) -> Iterator[tuple[list[int] | None, int]]:
    """Where to cut all the loose lines, and what it cost to find that."""
    first = loose[0]
    head = b"".join(line[:cut] for line, cut in zip(lines[:first], usual[:first], strict=True))
    for cut in range(most[first], -1, -1):
        begun = (head + lines[first][:cut]).translate(None, _STREWN)
        if len(begun) >= _HEAD:
            # The length is the same wherever this line is cut, as long as the head stands before it.
            yield from _fitting(lines, most, usual, loose, tail, _length(begun))
            return
        second = lines[loose[1]][: most[loose[1]]] if loose[1] == first + 1 else b""
        size = _length((begun + second).translate(None, _STREWN))
        fixed = [*usual[:first], cut, *usual[first + 1 :]]
        yield from _fitting(lines, most, fixed, loose[1:], tail, size)


def _fitting(
    lines: list[bytes], most: list[int], usual: list[int], loose: list[int], tail: bytes, size: int | None
) -> Iterator[tuple[list[int] | None, int]]:
    """Ways to cut the loose lines that fit the length of the frame and its checksum."""
    if size is None or not loose:
        return
    # The frame's part of each line, were it as long as it can be; what it is longer by are the words of messages.
    parts = [line[: most[i] if i in loose else usual[i]] for i, line in enumerate(lines)]
    words = len(b"".join((*parts, tail)).translate(None, _STREWN)) - size
    if words < 0:
        return
    if len(tail) >= CHECK_SIZE:
        yield from _meetings(lines, most, usual, loose, tail, words)
        return
    # The last message stands in the check.
    last = loose[-1]
    for word in range(min(words, most[last]) + 1):
        cut = most[last] - word
        check = b"".join((lines[last][:cut], *parts[last + 1 :], tail)).translate(None, _STREWN)
        if len(check) < CHECK_SIZE:
            return
        rest = _meetings(lines[:last], most, usual, loose[:-1], check, words - word)
        for cuts, cost in rest:
            yield None if cuts is None else [*cuts, cut, *usual[last + 1 :]], cost


def _meetings(
    lines: list[bytes], most: list[int], usual: list[int], loose: list[int], tail: bytes, words: int
) -> Iterator[tuple[list[int] | None, int]]:
    """Ways to cut the loose lines that fit the checksum: what they lose by that has so many characters together."""
    half = min(
        range(1, len(loose) + 1), key=lambda i: _estimate(loose[:i], loose[i:], most, words), default=0
    )
    middle = loose[half] if half < len(loose) else len(lines)
    left = _ways(lines[:middle], most, usual, loose[:half], UP_SEED, words)
    behind = [i - middle for i in loose[half:]]
    right = _ways(lines[middle:], most[middle:], usual[middle:], behind, 0, words)
    wanted, text = _value(tail[-CHECK_SIZE:]), tail[:-CHECK_SIZE]
    # By the characters lost, and the checksum that has to stand before: that of nothing else is linear.
    found = {(lost, length, wanted ^ zlib.crc32(text, value)): cuts for lost, length, value, cuts in right}
    yield None, len(left) + len(right)
    lengths = {(lost, length) for lost, length, _ in found}
    by_lost: dict[int, list[int]] = {}
    for lost, length in lengths:
        by_lost.setdefault(lost, []).append(length)
    for lost, _, value, cuts in left:
        for length in by_lost.get(words - lost, ()):
            zeros = _ZEROS[: length + len(text)]
            others = found.get((words - lost, length, zlib.crc32(zeros, value) ^ zlib.crc32(zeros)))
            if others is not None:
                yield cuts + others, 1


def _estimate(left: list[int], right: list[int], most: list[int], words: int) -> int:
    """How many ways the half has that has more of them, if there is no limit."""
    return max(
        min(math.prod(min(most[i], words) + 2 for i in half), math.comb(words + len(half), len(half)))
        for half in (left, right)
    )


def _ways(
    lines: list[bytes], most: list[int], usual: list[int], loose: list[int], seed: int, words: int
) -> list[tuple[int, int, int, list[int]]]:
    """Ways to cut these lines, and so to lose `words` characters at most.

    Of each how many are lost, how long the parts of the frame are, the checksum of those, and the cuts.
    """
    longest = words
    if loose and _estimate(loose, [], most, words) > _MAX_HALF:
        longest = int(_MAX_HALF ** (1 / len(loose))) - 2
    ways: list[tuple[int, int, int, list[int]]] = [(0, 0, seed, [])]
    fixed, between = b"", []  # what lines that are not loose have of the frame, and their cuts
    for i, line in enumerate(lines):
        if i not in loose:
            fixed += line[: usual[i]].translate(None, _STREWN)
            between.append(usual[i])
            continue
        full = len(line[: most[i]].translate(None, _STREWN))
        places = sorted({0, *range(max(0, most[i] - longest), most[i] + 1)})
        parts = [(line[:place].translate(None, _STREWN), [*between, place]) for place in places]
        sizes = [(max(0, full - len(part)), fixed + part, more) for part, more in parts]
        ways = [
            (lost + less, length + len(part), zlib.crc32(part, value), cuts + more)
            for lost, length, value, cuts in ways
            for less, part, more in sizes
            if lost + less <= words
        ]
        fixed, between = b"", []
    return [
        (lost, length + len(fixed), zlib.crc32(fixed, value), cuts + between)
        for lost, length, value, cuts in ways
    ]


def _value(check: bytes) -> int:
    """The checksum that these six characters stand for."""
    return int.from_bytes(binascii.a2b_base64(check.translate(_FROM_URL) + b"=="), "big")


def _length(content: bytes) -> int | None:
    """How long the content of a frame is, as its beginning tells; None if that is no packet's."""
    head = content[: min(len(content), _HEAD + 3) // 4 * 4]
    if head.translate(None, ALPHABET):
        return None
    body = binascii.a2b_base64(head.translate(_FROM_URL))
    fields = packets.UP_FIELDS.get(body[1]) if len(body) > 1 else None
    if fields is None or body[0] != 0x90 + len(fields) + 1:
        return None
    position = 2
    for name in fields:
        kind = body[position] if position < len(body) else 0xFF
        if name == "chunk":
            size = _LENGTHS.get(kind)
            if size is None or position + size >= len(body):
                return None
            position += 1 + size + int.from_bytes(body[position + 1 : position + 1 + size], "big")
        elif kind < 0x80:
            position += 1
        elif kind in _NUMBERS:
            position += _NUMBERS[kind]
        else:
            return None
    return (position * 4 + 2) // 3 + CHECK_SIZE


_FROM_URL = bytes.maketrans(b"-_", b"+/")
