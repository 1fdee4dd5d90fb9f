# SPDX-License-Identifier: MIT
"""`python -m bench.demultiplexer`: what the dispatcher's pure line code makes of a second of processor time.

Megabytes of console output per second of one processor, in memory, for output as it is, and for the worst
that is known. Each row's input is one pattern, repeated, and read in chunks.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from dispatcher.line.bootsigns import BootSigns
from dispatcher.line.demultiplexer import Demultiplexer
from dispatcher.line.multinode import RequestScanner
from dispatcher.line.textsignals import Scanner
from toolkit.wire import packets
from toolkit.wire.framing import MARKER, TERMINATOR, encode_frame, encode_line

CHUNK = 65536
# Seconds of stream time pass as if the console carried so many bytes a second.
SPEED = 10_000_000
SIZE = 2_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One measured row: megabytes for a second of processor time."""

    what: str
    name: str
    megabytes_per_second: float


def _text(size: int) -> bytes:
    line = b"[   12.345678] the quick brown fox jumps over the lazy dog, and so on\r\n"
    return (line * (size // len(line) + 1))[:size]


def _frame(size: int) -> bytes:
    """A request's frame with so many bytes of message."""
    head = (packets.REQUEST, 0x12345678, 77, 3, packets.LEASE, 0, size, 1)
    return encode_frame(packets.pack_packet(*head, random.Random(size).randbytes(size)))


FRAME = _frame(42)
_ANSI = b"\x1b[1;31mred\x1b[0m and \x1b[32mgreen\x1b[0m \x1b[2K\x1b]0;title\x07 text $ "
_SHELL = b"# a comment\nif [ $# -gt 0 ]; then echo ${x#y}; fi  # and '#1'\n"
_STAMP = b"[   12.345678] "
_ECHO = encode_line(bytes(20))[1:-1] + b"\r\n"

# The pattern that is repeated.
STREAMS: dict[str, bytes] = {
    "plain output": _text(4096),
    "one frame in 4 KiB": _text(4096 - len(FRAME)) + FRAME,
    "one frame in 200 bytes": _text(200 - len(FRAME)) + FRAME,
    "output rich in ANSI sequences": _ANSI,
    "shell text with '#'": _SHELL,
    "'#' only": b"#",
    "ESC only": b"\x1b",
    "the shortest frames": encode_frame(packets.pack_packet(packets.CANCEL, 1, 1, 1, 0)),
    "markers only": MARKER,
    "markers and a character": MARKER + b"A",
    "markers and line feeds": MARKER + b"\n",
    "a marker, and line feeds only": MARKER + b"\n" * 700,
    "markers and '[', line feed": MARKER + b"[\n",
    "empty frames": MARKER + TERMINATOR,
    "damaged short frames": MARKER + b"A" * 20 + TERMINATOR,
    "markers cut by line feeds": b"\x1b]52\n",
    "markers cut by time stamps": b"\x1b" + _STAMP,
    "terminators cut by line feeds": MARKER + b"A" * 40 + b"\x1b\n",
    "'#L1.' only": b"#L1.",
    "damaged echoes": _ECHO[:9] + b"x" + _ECHO[10:],
    "echoes": _ECHO,
    "lines that may be repairs": MARKER + b"word\n" * 140 + b"AAAA" + TERMINATOR,
    "long lines that may be repairs": MARKER + (b"A" * 200 + b"\n") * 3 + b"A" * 90 + TERMINATOR,
    "messages of one character": FRAME[:30] + b"x\n" * 100 + FRAME[30:-3] + b"x" + TERMINATOR,
}

SIGNALS: dict[str, bytes] = {
    "plain output": _text(4096),
    "results in the output": _text(400) + b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a RESULT=pass>\r\n",
    "'[' behind a signal": b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=" + b"[" * 8000,
    "'[ ' behind a signal": b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=" + b"[ " * 4000,
    "signals cut at once": b"<" + _STAMP + b"x\n",
    "signals cut in the marker": b"<LAVA_SIG" + _STAMP + b"x\nNAL_",
    "signals begun in signals": b"<LAVA_SIGNAL_TESTCASE ",
    "'<' only": b"<",
    "'<' in a signal": b"<LAVA_SIGNAL_TESTCASE " + b"<" * 8000,
    "short malformed signals": b"<LAVA_SIGNAL_X>",
}

REQUESTS: dict[str, bytes] = {
    "plain output": _text(4096),
    "requests in the output": _text(400) + b"<LAVA_MULTI_NODE> <LAVA_SEND ready ip=10.0.0.1>\r\n",
    "'<' only": b"<",
    "markers only": b"<LAVA_MULTI_NODE> <LAVA_",
}

SIGNS: dict[str, bytes] = {
    "plain output": _text(4096),
    "the signs themselves": b"\nLinux version 6.1",
    "line feeds": b"\n",
    "brackets": b"[    0.0",
}


def measure(feed: Callable[[bytes, float], object], pattern: bytes, chunk: int = CHUNK) -> float:
    """Megabytes per second of processor time; `feed` takes a chunk and the time of the stream."""
    data = pattern * (SIZE // len(pattern) + 1)
    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    took, now, size = 0.0, 0.0, 0
    for piece in chunks:
        now += len(piece) / SPEED
        began = time.process_time_ns()
        feed(piece, now)
        took += (time.process_time_ns() - began) / 1e9
        size += len(piece)
        if took > 1.0:
            break
    return size / 1e6 / took


def rows(chunk: int = CHUNK) -> list[Row]:
    """All rows, measured now."""

    def fed(kind: str) -> Callable[[bytes, float], object]:
        if kind == "demultiplexer":
            return Demultiplexer().receive_data
        if kind == "boot signs":
            signs = BootSigns()
            return lambda data, now: signs.receive_data(data)
        scanner = Scanner() if kind == "text signals" else RequestScanner()
        return lambda data, now: scanner.receive_data(data)

    return [
        Row(kind, name, max(measure(fed(kind), pattern, chunk) for _ in range(3)))
        for kind, streams in (
            ("demultiplexer", STREAMS),
            ("text signals", SIGNALS),
            ("LAVA's requests", REQUESTS),
            ("boot signs", SIGNS),
        )
        for name, pattern in streams.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.demultiplexer", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="a list of objects instead of a table")
    parser.add_argument("--chunk", type=int, default=CHUNK, help="bytes read at once (default: %(default)s)")
    arguments = parser.parse_args()
    measured = rows(arguments.chunk)
    if arguments.json:
        print(json.dumps([asdict(row) for row in measured], indent=1))
        return
    print("| what | input | MB per second of processor time |\n|---|---|---|")
    for row in measured:
        print(
            f"| {row.what} | {row.name} | {row.megabytes_per_second:.{0 if row.megabytes_per_second > 10 else 1}f} |"
        )


if __name__ == "__main__":
    main()
