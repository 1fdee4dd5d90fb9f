# SPDX-License-Identifier: MIT
"""`python -m bench.worstcase`: searches for what costs the dispatcher's line code the most for each byte.

A stream is a few pieces, repeated. The search mixes pieces at random, keeps what costs the most, and
changes that. Cost is work, counted and not timed, so that the same seed finds the same: bytes that are
looked at, and events. The worst are then timed, too.

    python -m bench.worstcase --rounds 3000 --seed 1
"""

from __future__ import annotations

import argparse
import importlib
import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.demultiplexer import measure
from dispatcher.line.bootsigns import BootSigns
from dispatcher.line.demultiplexer import Demultiplexer
from dispatcher.line.multinode import RequestScanner
from dispatcher.line.textsignals import Grammar, Scanner
from toolkit.wire.framing import MARKER, TERMINATOR, encode_frame, encode_line

# What a call and an event cost beside the bytes that are looked at, in bytes: on average a byte takes some 2 ns, a
# call 90, and an event, with all that the loop does for it, 1200.
CALL = 50
EVENT = 650


@dataclass(slots=True)
class Work:
    """What was done for a stream of so many bytes."""

    size: int = 0
    scanned: int = 0  # bytes that were looked at or copied
    calls: int = 0
    events: int = 0

    @property
    def for_each_byte(self) -> float:
        return (self.scanned + CALL * self.calls + EVENT * self.events) / self.size


class Counted(bytes):
    """Bytes that count what is looked at; what is cut from them counts on."""

    work: ClassVar[Work] = Work()

    @classmethod
    def note(cls, size: int) -> None:
        cls.work.calls += 1
        cls.work.scanned += max(0, size)

    def __getitem__(self, key: Any) -> Any:
        part = bytes.__getitem__(self, key)
        if isinstance(part, int):
            return part
        self.note(len(part))
        return Counted(part)

    def __add__(self, other: Any) -> Counted:
        self.note(len(self) + len(other))
        return Counted(bytes.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        if isinstance(other, bytearray):
            return NotImplemented
        self.note(len(self) + len(other))
        return Counted(other + bytes(self))

    def __contains__(self, part: Any) -> bool:
        return self.find(bytes([part]) if isinstance(part, int) else part) >= 0

    def find(self, part: Any, start: Any = 0, end: Any = None) -> int:
        end = len(self) if end is None else min(end, len(self))
        found = bytes.find(self, part, start, end)
        self.note((end if found < 0 else found + len(part)) - start)
        return found

    def rfind(self, part: Any, start: Any = 0, end: Any = None) -> int:
        end = len(self) if end is None else min(end, len(self))
        found = bytes.rfind(self, part, start, end)
        self.note(end - (start if found < 0 else found))
        return found

    def split(self, *args: Any) -> Any:
        self.note(len(self))
        parts = [Counted(part) for part in bytes.split(self, *args)]
        self.work.calls += len(parts)
        return parts

    def translate(self, *args: Any) -> Any:
        self.note(len(self))
        return Counted(bytes.translate(self, *args))

    def replace(self, *args: Any) -> Any:
        self.note(len(self))
        return Counted(bytes.replace(self, *args))

    def lstrip(self, *args: Any) -> Any:
        stripped = bytes.lstrip(self, *args)
        self.note(len(self) - len(stripped))
        return Counted(stripped)


class CountedPattern:
    """A pattern that counts how far it looks: from where it begins to the end of what it finds."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.pattern = pattern.pattern

    def _count(self, match: re.Match[bytes] | None, data: bytes, start: int, end: int) -> Any:
        end = min(end, len(data))
        Counted.note((end if match is None else match.end()) - start)
        return match

    def search(self, data: bytes, start: int = 0, end: int = 1 << 60) -> Any:
        return self._count(self._pattern.search(data, start, end), data, start, end)

    def match(self, data: bytes, start: int = 0, end: int = 1 << 60) -> Any:
        match = self._pattern.match(data, start, end)
        return self._count(match, data, start, start if match is None else end)

    def finditer(self, data: bytes, start: int = 0, end: int = 1 << 60) -> Iterator[Any]:
        for match in self._pattern.finditer(data, start, end):
            Counted.note(match.end() - start)
            start = match.end()
            yield match
        Counted.note(min(end, len(data)) - start)

    def split(self, data: bytes) -> list[bytes]:
        Counted.note(len(data))
        return [Counted(part) for part in self._pattern.split(data)]

    def findall(self, data: bytes) -> list[bytes]:
        Counted.note(len(data))
        return self._pattern.findall(data)

    def sub(self, replacement: Any, data: bytes) -> bytes:
        Counted.note(len(data))
        return Counted(self._pattern.sub(replacement, data))


MODULES = ("demultiplexer", "echoes", "repair", "textsignals", "multinode", "bootsigns")


@contextmanager
def counting() -> Iterator[Work]:
    """Meanwhile the line code counts its work, for data that is `Counted`."""
    work = Counted.work = Work()
    kept: list[tuple[Any, str, Any]] = []
    for name in MODULES:
        module = importlib.import_module(f"dispatcher.line.{name}")
        grammars = [value for value in vars(module).values() if isinstance(value, Grammar)]
        for place in (module, *grammars):
            for key, value in list(vars(place).items()):
                counted = _counted(value)
                if counted is not value:
                    kept.append((place, key, value))
                    setattr(place, key, counted)
    try:
        yield work
    finally:
        for place, key, value in reversed(kept):
            setattr(place, key, value)


def _counted(value: Any) -> Any:
    """The same with patterns that count."""
    if isinstance(value, re.Pattern):
        return CountedPattern(value)
    if isinstance(value, tuple) and any(_counted(item) is not item for item in value):
        return tuple(_counted(item) for item in value)
    return value


def _demultiplexer() -> Callable[[bytes, float], Any]:
    """Without guesses: they are not bounded for each byte, but for each second (GUESSES_PER_SECOND)."""
    demultiplexer = Demultiplexer()
    demultiplexer._credit = -math.inf
    return demultiplexer.receive_data


def _scanner(make: Callable[[], Any]) -> Callable[[], Callable[[bytes, float], Any]]:
    def feed() -> Callable[[bytes, float], Any]:
        scanner = make()
        return lambda data, now: scanner.receive_data(data)

    return feed


READERS: dict[str, Callable[[], Callable[[bytes, float], Any]]] = {
    "demultiplexer": _demultiplexer,
    "text signals": _scanner(Scanner),
    "LAVA's requests": _scanner(RequestScanner),
    "boot signs": _scanner(BootSigns),
}

# What streams are made of: all that the readers look for, whole and in part, and what is none of it.
PIECES = (
    *(
        MARKER,
        MARKER[:1],
        MARKER[:2],
        MARKER[:3],
        MARKER[:6],
        TERMINATOR,
        b"]",
        b"5282;",
        b"\n82;",
        b"\\",
        b"\n\\",
    ),
    *(
        b"#",
        b"#L1",
        b"#L1.",
        b".",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"A",
        b"x y",
        b"word\n",
        b"A" * 60,
        b"A" * 250,
        b"1",
    ),
    *(b"[", b"<", b">", b"[ ", b"[ 1", b"[    1.", b"[    1.234567] ", b"[    0.0", b"<12>", b"<1"),
    *(b"<LAVA_SIGNAL_", b"<LAVA_SIG", b"TESTCASE ", b"TEST_CASE_ID=a ", b"RESULT=pass>"),
    *(
        b"<LAVA_MULTI_NODE> <LAVA_",
        b"SEND a b=c>",
        b"\nLinux version ",
        b"\nU-Boot ",
        b"\x1b[1m",
        b"\x1b]0;t\x07",
    ),
    *(encode_frame(b""), encode_frame(bytes(40)), encode_frame(bytes(40))[:-4], encode_frame(bytes(40))[10:]),
    *(encode_line(bytes(9))[1:], encode_line(bytes(9))[1:-4]),
)
# Bytes of a stream that are read to find out what they cost.
SIZE = 20_000


def work_of(make: Callable[[], Callable[[bytes, float], Any]], stream: bytes, chunk: int) -> Work:
    """What a reader does for these bytes."""
    with counting() as work:
        feed = make()
        for position in range(0, len(stream), chunk):
            work.events += len(feed(Counted(stream[position : position + chunk]), position / 1e6))
        work.size = len(stream)
    return work


def repeated(pieces: tuple[bytes, ...], size: int = SIZE) -> bytes:
    pattern = b"".join(b"%b" % piece for piece in pieces)
    return (pattern * (size // len(pattern) + 1))[:size]


def search(reader: str, rounds: int, seed: int, chunk: int = 4096) -> list[tuple[float, tuple[bytes, ...]]]:
    """The streams that cost the most that were found, the worst first: work for each byte, and the pieces."""
    randomness = random.Random(seed)
    best: list[tuple[float, tuple[bytes, ...]]] = []
    for _ in range(rounds):
        if best and randomness.random() < 0.7:
            pieces = list(randomness.choice(best)[1])
            place = randomness.randrange(len(pieces))
            match randomness.randrange(3):
                case 0:
                    pieces[place] = randomness.choice(PIECES)
                case 1:
                    pieces.insert(place, randomness.choice(PIECES))
                case 2 if len(pieces) > 1:
                    del pieces[place]
            chosen = tuple(pieces)
        else:
            chosen = tuple(randomness.choice(PIECES) for _ in range(randomness.randrange(1, 6)))
        cost = work_of(READERS[reader], repeated(chosen), chunk).for_each_byte
        if all(chosen != known for _, known in best):
            best = sorted([*best, (cost, chosen)], key=lambda item: -item[0])[:20]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.worstcase", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=1000, help="streams for each reader (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chunk", type=int, default=4096, help="bytes read at once (default: %(default)s)")
    arguments = parser.parse_args()
    print(
        "| reader | pieces, repeated | work for each byte | MB per second of processor time |\n|---|---|---|---|"
    )
    for reader, make in READERS.items():
        for cost, pieces in search(reader, arguments.rounds, arguments.seed, arguments.chunk)[:5]:
            speed = measure(make(), b"".join(pieces), arguments.chunk)
            print(f"| {reader} | `{b''.join(pieces)!r:.100}` | {cost:.1f} | {speed:.1f} |", flush=True)


if __name__ == "__main__":
    main()
