# SPDX-License-Identifier: MIT
"""Faults of simulated lines: what a specification may say, and what becomes of bytes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import UsageError
from dispatcher.simulator.faults import (
    LONGEST_PAUSE,
    PATIENCE,
    Faults,
    FaultyLine,
    KernelLog,
    in_words,
    parse_faults,
)

STAMPED = re.compile(rb"\[ *\d+\.\d{6}\] [^\r\n]+\r\n")


def line(faults: Faults, *, kernel: bool = False, seed: str = "7") -> FaultyLine:
    return FaultyLine(faults, seed, KernelLog("k", faults.stamps) if kernel else None, 0.0)


def test_a_specification() -> None:
    assert parse_faults("printk=20,drop=1e-4,stamps=0,delay=.5") == Faults(20.0, False, 1e-4, delay=0.5)
    assert parse_faults("flip=0") == Faults()


def test_faults_in_words_are_a_specification() -> None:
    faults = Faults(printk=2.5, stamps=False, drop=1e-4, flip=1e-5, double=0.1, delay=0.3, reboot=0.2)
    assert parse_faults(in_words(faults)) == faults


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no fault ''"),
        ("dorp=1", "no fault 'dorp'; there are printk, stamps, drop, flip, double, delay, reboot"),
        ("printk=20,", "no fault ''"),
        ("drop", "drop: it must be a probability"),
        ("drop=", "drop=: it must be a probability"),
        ("drop=2", "drop=2: it must be a probability"),
        ("flip=-1", "flip=-1: it must be a probability"),
        ("double=nan", "double=nan: it must be a probability"),
        ("printk=inf", "printk=inf: it must be a number of kernel lines a second"),
        ("stamps=0.5", "stamps=0.5: it must be 1"),
        ("delay=11", "delay=11: it must be a number of pauses a second"),
        ("drop=1e-4,drop=1e-4", "drop is given twice"),
        ("drop=0.5,flip=0.4,double=0.2", "drop, flip, double must not be more than 1 together"),
    ],
)
def test_what_is_wrong_with_a_specification_is_told(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(complaint)}|^there is {re.escape(complaint)}"):
        parse_faults(text)


@given(st.lists(st.binary(max_size=50)))
def test_a_line_without_faults_changes_nothing(chunks: list[bytes]) -> None:
    clean = line(Faults(), kernel=True)
    assert [clean.receive_data(chunk, 1.0) for chunk in chunks] == chunks
    assert clean.next_timeout() is None
    assert clean.flush() == b""


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=30),
    step=st.sampled_from([0.0, 0.01, 0.1]),
    stamps=st.booleans(),
    delay=st.sampled_from([0.0, 3.0]),
    seed=st.integers(0, 1000),
)
def test_kernel_lines_are_whole_and_take_nothing_away(
    chunks: list[bytes], step: float, stamps: bool, delay: float, seed: int
) -> None:
    faulty = line(Faults(printk=50, stamps=stamps, delay=delay), kernel=True, seed=str(seed))
    chunks = [chunk.translate(bytes(byte % 10 for byte in range(256))) for chunk in chunks]
    out = b""
    for number, chunk in enumerate(chunks, start=1):
        out += faulty.receive_data(chunk, number * step)
    out += faulty.flush()
    said = KernelLog("k", stamps)
    data = b"".join(chunks)
    while b"\n" in out:
        text = said.next_line(0.0).partition(b"] ")[2] if stamps else said.next_line(0.0)
        before, found, out = out.partition(text)
        assert found
        if stamps:
            before, stamp = before[:-15], before[-15:]
            assert STAMPED.fullmatch(stamp + text)
        assert data.startswith(before)
        data = data[len(before) :]
    assert out == data


def test_kernel_lines_cut_what_is_written_in_any_place() -> None:
    faulty = line(Faults(printk=100), kernel=True)
    frame = b"F" * 40
    places = set()
    for number in range(1, 1000):
        text = faulty.receive_data(frame, number / 10)
        assert STAMPED.sub(b"", text) == frame
        places.add(text.find(b"["))
    assert places >= set(range(41))


def test_kernel_lines_come_without_anything_to_cut_as_well() -> None:
    faulty = line(Faults(printk=10), kernel=True)
    out = b""
    for _ in range(1000):
        time = faulty.next_timeout()
        assert time is not None
        assert faulty.handle_timeout(time - PATIENCE / 2) == b""
        out += faulty.handle_timeout(time)
    assert 1000 <= out.count(b"\n") < 2500
    assert 80 < time < 250
    assert STAMPED.sub(b"", out) == b""


@pytest.mark.parametrize("chunk", [1, 100, 100_000])
def test_bytes_suffer_as_often_as_wished_in_any_chunking(chunk: int) -> None:
    data = bytes(200_000)

    def out(**faults: float) -> bytes:
        faulty = line(Faults(**faults))  # type: ignore[arg-type]
        return b"".join(
            faulty.receive_data(data[start : start + chunk], 0.0) for start in range(0, len(data), chunk)
        )

    assert 150 < len(data) - len(out(drop=1e-3)) < 250
    assert 150 < len(out(double=1e-3)) - len(data) < 250
    flipped = out(flip=1e-3)
    assert len(flipped) == len(data)
    assert 150 < len(data) - flipped.count(0) < 250
    assert {byte for byte in flipped if byte} == {1 << bit for bit in range(8)}


def test_every_byte_may_suffer() -> None:
    assert line(Faults(drop=1.0)).receive_data(b"abc", 0.0) == b""
    assert line(Faults(double=1.0)).receive_data(b"abc", 0.0) == b"aabbcc"


def test_the_same_seed_does_the_same() -> None:
    faults = Faults(printk=30, drop=0.01, flip=0.01, double=0.01, delay=1.0)

    def outs(seed: str) -> list[bytes]:
        faulty = line(faults, kernel=True, seed=seed)
        return [faulty.receive_data(b"some text\n" * 5, number / 50) for number in range(200)]

    assert outs("1") == outs("1")
    assert outs("1") != outs("2")


def test_pauses_hold_bytes_back_and_lose_none() -> None:
    faulty = line(Faults(delay=2.0))
    data = bytes(range(256)) * 4
    out = b""
    held = 0
    for number, byte in enumerate(data):
        now = number / 50
        if (due := faulty.next_timeout()) is not None:
            assert due <= now + LONGEST_PAUSE
            if due <= now:
                out += faulty.handle_timeout(now)
        out += faulty.receive_data(bytes((byte,)), now)
        held += len(out) <= number
    assert held > 100
    assert out + faulty.flush() == data
