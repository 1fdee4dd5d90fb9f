# SPDX-License-Identifier: MIT
"""Times before lines: one for each line, however its bytes come."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.view.timestamps import StampedLines, Timestamps, of_day, universal


def test_lines_that_are_shown() -> None:
    shown: list[str] = []
    now = datetime(2026, 3, 1, 15, 4, 5, 678000).timestamp()
    stamps = Timestamps(shown.append, lambda: now)
    stamps.write("one\ntwo\x0b\n")
    stamps.write("\n")
    stamps.on = False
    stamps.write("table\n")
    assert shown == ["15:04:05.678 one\n15:04:05.678 two\x0b\n", "15:04:05.678 \n", "table\n"]
    assert of_day(now) == "15:04:05.678"


def test_date_and_time_for_files() -> None:
    assert universal(0.25) == "1970-01-01T00:00:00.250Z"


def test_a_line_has_the_time_of_its_first_byte() -> None:
    times = iter([0.0, 1.0, 2.0, 3.0])
    lines = StampedLines(lambda: next(times))
    pieces = [lines.stamped(data) for data in (b"on", b"e\ntw", b"o\n", b"three\n")]
    stamp = b"1970-01-01T00:00:0%d.000Z "
    assert b"".join(pieces) == stamp % 0 + b"one\n" + stamp % 1 + b"two\n" + stamp % 3 + b"three\n"


@given(st.lists(st.text("ab\n\r", max_size=6).map(str.encode)))
def test_without_the_stamps_it_is_the_same(pieces: list[bytes]) -> None:
    lines = StampedLines(lambda: 0.0)
    text = b"".join(lines.stamped(piece) for piece in pieces)
    stamp = b"1970-01-01T00:00:00.000Z "
    whole = b"".join(pieces)
    assert text.replace(stamp, b"") == whole
    assert text.count(stamp) == whole.count(b"\n") + bool(whole.rpartition(b"\n")[2])
