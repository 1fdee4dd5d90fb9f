# SPDX-License-Identifier: MIT
"""What the line code does for each byte is bounded, whatever a device sends: counted, not timed.

`python -m bench.worstcase` searches for streams that cost more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.demultiplexer import REQUESTS, SIGNALS, SIGNS, STREAMS
from bench.worstcase import READERS, work_of
from dispatcher.line.demultiplexer import Demultiplexer
from dispatcher.line.echoes import MAX_TYPED
from toolkit.wire.framing import encode_line

STREAMS_OF = {
    "demultiplexer": STREAMS,
    "text signals": SIGNALS,
    "LAVA's requests": REQUESTS,
    "boot signs": SIGNS,
}
CASES = [(reader, name) for reader, streams in STREAMS_OF.items() for name in streams]
# What an earlier search found, with what it cost before: the rest of the data was looked at again for each echo.
FOUND = {
    ("demultiplexer", "echoes and escapes"): b"#L1.AAAAAAAAAAAA.68OlYQ\n\x1b",
    ("demultiplexer", "markers, and ESC without an end"): b"\x1b]5282;" + b"\x1bA" * 40,
    ("text signals", "signals begun"): b"<LAVA_SIGNAL_",
}


def stream(reader: str, name: str, size: int) -> bytes:
    pattern = FOUND.get((reader, name)) or STREAMS_OF[reader][name]
    return (pattern * (size // len(pattern) + 1))[:size]


@pytest.mark.parametrize(("reader", "name"), [*CASES, *FOUND])
def test_the_work_for_each_byte_is_bounded(reader: str, name: str) -> None:
    """Also where more comes at once: it grows with the bytes, and not with their square."""
    work = work_of(READERS[reader], stream(reader, name, 32_768), 4096)
    assert work.scanned <= 40 * work.size
    assert work.calls <= 2 * work.size
    assert work.events <= work.size / 6
    at_once = work_of(READERS[reader], stream(reader, name, 131_072), 131_072)
    assert at_once.scanned <= 40 * at_once.size


@pytest.mark.parametrize(("reader", "name"), [*CASES, *FOUND])
def test_small_chunks_cost_a_look_at_what_is_held(reader: str, name: str) -> None:
    work = work_of(READERS[reader], stream(reader, name, 16_384), 64)
    assert work.scanned <= 800 * work.size


def test_lines_that_may_be_echoed_are_looked_for_together() -> None:
    def make() -> Callable[[bytes, float], Any]:
        demultiplexer = Demultiplexer()
        for number in range(MAX_TYPED):
            demultiplexer.type_line(encode_line(number.to_bytes(4, "big")), 0.0)
        return demultiplexer.receive_data

    plain = stream("demultiplexer", "plain output", 32_768)
    assert work_of(make, plain, 4096).scanned <= 10 * len(plain)
