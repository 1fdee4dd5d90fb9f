# SPDX-License-Identifier: MIT
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.wire.transfer import MAX_AHEAD, MIN_CHUNK, SEAL_SIZE, Incoming, Outgoing, seal

MESSAGE = bytes(range(256)) * 4
CHUNK = 100
WINDOW = 4


def chunks_of(message: bytes, size: int = CHUNK) -> list[tuple[int, bytes]]:
    data = seal(message)
    return [(offset, data[offset : offset + size]) for offset in range(0, len(data), size)]


def received(total: int, chunks: list[tuple[int, bytes]]) -> tuple[list[bytes], int]:
    """The messages that come out, and what the receiver has in the end."""
    incoming = Incoming(total)
    messages = [incoming.add(offset, chunk) for offset, chunk in chunks]
    return [message for message in messages if message is not None], incoming.have


CHUNKS = chunks_of(MESSAGE)
TOTAL = len(MESSAGE) + SEAL_SIZE
ORDERS = {
    "in order": (CHUNKS, [MESSAGE]),
    "backwards": (CHUNKS[::-1], [MESSAGE]),
    "the first one last": (CHUNKS[1:] + CHUNKS[:1], [MESSAGE]),
    "each one twice": ([chunk for chunk in CHUNKS for _ in range(2)], [MESSAGE, MESSAGE]),
    "one is missing": (CHUNKS[:3] + CHUNKS[4:], []),
    "cut differently the second time": (CHUNKS[:3] + chunks_of(MESSAGE, 70)[3:], [MESSAGE]),
    "all in one": (chunks_of(MESSAGE, TOTAL), [MESSAGE]),
    "byte by byte": (chunks_of(MESSAGE, 1), [MESSAGE]),
    "behind the end": ([(TOTAL - 5, b"x" * 6), *CHUNKS], [MESSAGE]),
    "far behind the end": ([(2**32 - 1, b"x"), *CHUNKS], [MESSAGE]),
    "empty chunks": ([(0, b""), (50, b""), *CHUNKS], [MESSAGE]),
}


@pytest.mark.parametrize("name", ORDERS)
def test_incoming(name: str) -> None:
    chunks, expected = ORDERS[name]
    assert received(TOTAL, chunks)[0] == expected


def test_incoming_counts_what_it_has_without_a_gap() -> None:
    incoming = Incoming(TOTAL)
    haves = []
    for offset, chunk in CHUNKS[:2] + CHUNKS[3:5] + CHUNKS[2:3]:
        incoming.add(offset, chunk)
        haves.append(incoming.have)
    assert haves == [100, 200, 200, 200, 500]


def test_a_message_that_fails_its_seal_begins_anew() -> None:
    incoming = Incoming(TOTAL)
    for offset, chunk in CHUNKS[:-1]:
        incoming.add(offset, chunk)
    assert incoming.add(CHUNKS[-1][0], b"x" * len(CHUNKS[-1][1])) is None
    assert incoming.have == 0
    assert [incoming.add(offset, chunk) for offset, chunk in CHUNKS][-1] == MESSAGE


@pytest.mark.parametrize("total", range(SEAL_SIZE))
def test_a_total_too_small_for_a_seal_is_never_whole(total: int) -> None:
    assert received(total, [(0, b"x" * total), (0, b""), (0, b"x")])[0] == []


def test_the_empty_message() -> None:
    assert received(SEAL_SIZE, chunks_of(b""))[0] == [b""]


def test_what_is_kept_of_chunks_that_came_ahead_is_bounded() -> None:
    incoming = Incoming(2**32 - 1)
    for offset in range(1, 2000):
        incoming.add(offset * 1000, bytes(500))
    assert len(incoming._ahead) == MAX_AHEAD
    assert incoming.have == 0


@given(st.integers(0, 300), st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=120)), max_size=30))
def test_any_chunks_give_a_sealed_message_or_nothing(total: int, chunks: list[tuple[int, bytes]]) -> None:
    messages, have = received(total, chunks)
    assert messages == []  # (A seal is not hit by chance.)
    assert have <= total


@given(
    st.binary(max_size=1500),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(1, 400)), max_size=40),
    st.randoms(use_true_random=False),
)
def test_any_loss_doubling_and_order_ends_in_the_message_or_in_nothing(
    message: bytes, cuts: list[tuple[int, int]], rng: random.Random
) -> None:
    data = seal(message)
    chunks = [(offset, data[offset : offset + size]) for offset, size in cuts if offset < len(data)]
    messages, have = received(len(data), chunks)
    assert set(messages) <= {message}
    # And what is there is a beginning of it: the rest, once sent, completes it.
    chunks += [(offset, data[offset : offset + 90]) for offset in range(have, len(data), 90)]
    assert received(len(data), chunks)[0][-1] == message


@given(
    st.binary(max_size=5000),
    st.integers(MIN_CHUNK, 500),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
    st.floats(0, 0.9),
)
def test_both_ends_over_a_line_that_loses(
    message: bytes, max_chunk: int, max_window: int, rng: random.Random, loss: float
) -> None:
    outgoing = Outgoing(message, max_chunk, max_window, window=1)
    incoming = Incoming(outgoing.total)
    result = None
    for turn in range(400):
        if outgoing.complete:
            break
        burst = outgoing.burst()
        assert 1 <= len(burst) <= max_window
        assert [push for _, _, push in burst] == [0] * (len(burst) - 1) + [1]
        answered = False
        for offset, chunk, push in burst:
            assert 1 <= len(chunk) <= max_chunk
            assert seal(message)[offset : offset + len(chunk)] == chunk
            if turn >= 200 or rng.random() > loss:
                result = incoming.add(offset, chunk) or result
                answered = answered or bool(push)
        if answered and (turn >= 200 or rng.random() > loss):
            outgoing.acknowledge(incoming.have)
        else:
            outgoing.lost()
    assert outgoing.complete
    assert result == message or (message == b"" and incoming.have == outgoing.total)


def test_the_sizes_follow_what_the_line_bears() -> None:
    outgoing = Outgoing(bytes(100_000), max_chunk=400, max_window=8, chunk=200, window=1)
    assert [len(chunk) for _, chunk, _ in outgoing.burst()] == [200]
    outgoing.acknowledge(200)
    assert [len(chunk) for _, chunk, _ in outgoing.burst()] == [400] * 2
    outgoing.acknowledge(1000)
    assert [len(chunk) for _, chunk, _ in outgoing.burst()] == [400] * 4
    outgoing.acknowledge(1400)  # three of the four are missing
    assert [(offset, len(chunk)) for offset, chunk, _ in outgoing.burst()] == [(1400, 200)]
    for _ in range(9):
        outgoing.lost()
    assert [(offset, len(chunk)) for offset, chunk, _ in outgoing.burst()] == [(1400, MIN_CHUNK)]


def test_nonsense_is_not_acknowledged() -> None:
    outgoing = Outgoing(bytes(96), max_chunk=50, max_window=1)
    for have in (-1, 101, 2**32 - 1):
        outgoing.acknowledge(have)
        assert outgoing.acknowledged == 0
    outgoing.acknowledge(100)
    assert outgoing.complete and outgoing.burst() == []
