# SPDX-License-Identifier: MIT
"""Repair of frames with foreign text inside, most often kernel messages.

A kernel message cuts into a frame at any byte, as whole lines: it ends with a
line break, and the frame goes on with its very next character. Where it begins
is not marked, but a frame has only characters of its alphabet, so in each line
the frame's part ends at the first other character, or before: with time stamps
`[   12.345678] ` exactly there, without them up to a word earlier. Each guess
is held against the frame's checksum; a wrong one passes with a chance of 2^-32,
and then still has to be a sensible packet of a living session.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice

from toolkit.wire.framing import ALPHABET, CHECK_SIZE, LINE_MARKER, MAX_FRAME, decode_frame, decode_line

# Guesses for one frame; each takes about 2 microseconds.
MAX_GUESSES = 8000
# Two messages without time stamps: how long their first words may be, together.
_MAX_WORDS = 96
# Lines that are tried at more than one place; one guess more is made for all the others.
_MAX_OPEN = 8
# So many lines cost as much as one more guess.
_LINES_A_GUESS = 16
# What links and terminal servers strew in: NUL, XON, XOFF.
_STREWN = b"\0\x11\x13"
# A line that begins like this is foreign from there: time stamp, log level, a line of ours echoed.
_SURE = b"[<#\r\n"


def repair(content: bytes) -> tuple[bytes | None, bytes, int]:
    """The body of a frame that was cut, the foreign text in it, and what it cost in guesses.

    `content` is what stood between marker and terminator. No body if no guess holds.
    """
    *whole, tail = content.split(b"\n")
    lines = [line + b"\n" for line in whole]
    if tail.translate(None, ALPHABET + _STREWN) or len(tail) > 2 * MAX_FRAME:
        return None, b"", 0
    guesses = 0
    cost = 1 + len(lines) // _LINES_A_GUESS
    for number, cuts in enumerate(islice(_guesses(lines), MAX_GUESSES // cost), start=1):
        guesses = number * cost
        parts = [line[:cut] for line, cut in zip(lines, cuts, strict=True)]
        kept = b"".join((*parts, tail)).translate(None, _STREWN)
        if CHECK_SIZE < len(kept) <= MAX_FRAME:
            body = decode_frame(kept)
            if body is not None:
                return body, _foreign(lines, cuts) + _strewn(tail), guesses
    return None, b"", guesses


def salvage(content: bytes, ended: bool) -> bytes:
    """The text in a frame that can't be repaired. What may be either is kept.

    `ended`: a terminator was found, so what comes last belongs to the frame.
    """
    *lines, tail = content.split(b"\n")
    text = b""
    for line in lines:
        cut = _alphabetic(line)
        rest = line[cut:] + b"\n"
        if not is_echo(rest):
            text += rest if rest[:1] in (b"[", b"<") else line + b"\n"
    if ended and len(content) <= MAX_FRAME + len(text) and not tail.translate(None, ALPHABET):
        return text
    return text + tail


def _foreign(lines: list[bytes], cuts: tuple[int, ...]) -> bytes:
    """What is not the frame's, but for lines that are ours and were echoed."""
    text = b""
    for line, cut in zip(lines, cuts, strict=True):
        rest = line[cut:]
        text += _strewn(line[:cut]) + (b"" if is_echo(rest) else rest)
    return text


def without_echoes(text: bytes) -> bytes:
    """Whole lines, but for those that are ours and were echoed."""
    return b"".join(line for line in text.splitlines(keepends=True) if not is_echo(line))


def is_echo(line: bytes) -> bool:
    return line.startswith(LINE_MARKER) and decode_line(line) is not None


def _strewn(part: bytes) -> bytes:
    return bytes(byte for byte in part if byte in _STREWN)


def _alphabetic(line: bytes) -> int:
    """How many characters from the beginning may belong to a frame."""
    return len(line) - len(line.lstrip(ALPHABET + _STREWN))


def _guesses(lines: list[bytes]) -> Iterator[tuple[int, ...]]:
    """Where to cut each line: likely guesses first."""
    most = [_alphabetic(line) for line in lines]
    # Of a message of several lines only the first has a part of the frame before it.
    usual = [m if i == 0 or lines[i][m] in _SURE else 0 for i, m in enumerate(most)]
    yield tuple(usual)
    open_ = [i for i, m in enumerate(most) if m][:_MAX_OPEN]
    for i in open_:
        for cut in range(most[i], -1, -1):
            if cut != usual[i]:
                yield (*usual[:i], cut, *usual[i + 1 :])
    for i, k in combinations(open_, 2):
        for words in range(_MAX_WORDS):
            for first in range(max(0, words - most[k]), min(words, most[i]) + 1):
                cuts = list(usual)
                cuts[i], cuts[k] = most[i] - first, most[k] - (words - first)
                yield tuple(cuts)
