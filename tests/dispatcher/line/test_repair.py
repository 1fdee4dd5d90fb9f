# SPDX-License-Identifier: MIT
from __future__ import annotations

import random

import pytest

from dispatcher.line.repair import MAX_GUESSES, MAX_LOST, repair, salvage
from toolkit.wire import packets
from toolkit.wire.framing import ALPHABET, MARKER, TERMINATOR, encode_frame

WORDS = (
    b"usb 1-1: new device\r\n",
    b"EXT4-fs (sda1): mounted\r\n",
    b"random: crng init done\r\n",
    b"noise 6\r\n",
)


def request(size: int, seed: int = 1) -> tuple[bytes, bytes]:
    """The body of a request with so many bytes of message, and what stands between marker and terminator."""
    chunk = random.Random(seed).randbytes(size)
    body = packets.pack_packet(packets.REQUEST, 0x89ABCDEF, 70_000, 3, packets.LEASE, 0, size, 1, chunk)
    return body, encode_frame(body)[len(MARKER) : -len(TERMINATOR)]


def cut(content: bytes, places: list[int], messages: list[bytes]) -> bytes:
    for place, message in sorted(zip(places, messages, strict=True), reverse=True):
        content = content[:place] + message + content[place:]
    return content


@pytest.mark.parametrize("number", range(1, 7))
def test_messages_without_time_stamps(number: int) -> None:
    """A frame that lost no byte is put together again, though nothing says where the messages begin."""
    for seed in range(12):
        randomness = random.Random(seed)
        body, content = request(randomness.choice((300, 480)), seed)
        places = sorted(randomness.sample(range(50, len(content) - 6), number))
        messages = [randomness.choice(WORDS) for _ in places]
        read, foreign, guesses = repair(cut(content, places, messages))
        assert read == body, (seed, places)
        assert foreign == b"".join(messages), seed
        assert guesses <= MAX_GUESSES


def test_two_messages_in_the_head() -> None:
    """The beginning tells the length, also where it is cut itself."""
    body, content = request(300)
    for first in (1, 9, 25, 40):
        read, foreign, _ = repair(cut(content, [first, 200], [WORDS[0], WORDS[3]]))
        assert (read, foreign) == (body, WORDS[0] + WORDS[3]), first


def test_a_message_of_several_lines_among_others() -> None:
    body, content = request(400)
    oops = b"Oops\r\nCode: 12 34\r\nModules linked in\r\n"
    read, foreign, _ = repair(cut(content, [100, 200, 300], [WORDS[0], oops, WORDS[2]]))
    assert (read, foreign) == (body, WORDS[0] + oops + WORDS[2])


@pytest.mark.parametrize("order", [(0, 4, 1), (0, 1, 4), (4, 0, 4, 1, 4), (0, 4, 4, 1, 4, 2, 4)])
def test_messages_with_and_without_time_stamps(order: tuple[int, ...]) -> None:
    """Where one has a time stamp is nothing to guess, and its line has a part of the frame all the same."""
    body, content = request(480)
    messages = [(*WORDS, b"[   12.345678] usb 1-1: new\r\n")[number] for number in order]
    places = [60 + 80 * number for number in range(len(order))]
    read, foreign, _ = repair(cut(content, places, messages))
    assert (read, foreign) == (body, b"".join(messages))


def test_a_frame_that_lost_a_byte_stays_unread() -> None:
    for seed in range(20):
        _, content = request(400, seed)
        damaged = cut(content[:70] + content[71:], [100, 200, 300], list(WORDS[:3]))
        body, foreign, guesses = repair(damaged)
        assert (body, foreign) == (None, b"")
        assert guesses <= 2 * MAX_GUESSES


def test_a_message_in_the_check() -> None:
    body, content = request(400)
    for words in (b"noise 1\r\n", b"noise-%s 1\r\n" % (b"a" * 70)):
        read, foreign, _ = repair(cut(content, [200, len(content) - 2], [words, WORDS[3]]))
        assert (read, foreign) == (body, words + WORDS[3])


def test_messages_in_the_head_and_the_check() -> None:
    """One message in each is read; more at such a place may be too many, but raise nothing."""
    for seed in range(100):
        randomness = random.Random(seed)
        body, content = request(randomness.choice((20, 300)), seed)
        size = len(content)
        head, check = range(1, 30), range(size - 7, size)
        parts = [head, check, *([head, range(30, size - 7), check][: seed % 4])]
        places = [randomness.choice(part) for part in parts]
        messages = [randomness.choice(WORDS) for _ in places]
        read, foreign, _ = repair(cut(content, places, messages))
        if len(parts) == 2:
            assert (read, foreign) == (body, b"".join(messages)), (seed, places)
        assert read in (body, None), (seed, places)


def test_long_words_among_others() -> None:
    body, content = request(400)
    long = b"000012-noise-%s\r\n" % ALPHABET
    oops = b"noise 1: a b\r\nnoise 1 second\r\nnoise 1 third\r\n"
    for messages in ([oops, WORDS[1], long], [long, oops, WORDS[0]]):
        read, foreign, _ = repair(cut(content, [100, 180, 300], messages))
        assert (read, foreign) == (body, b"".join(messages))


def test_what_can_only_be_the_frames_is_no_output() -> None:
    """Of a frame that can't be read, too; and nothing is missing of the messages, even if some bytes are."""
    rng = random.Random(1)
    for number in range(1, 9):
        _, content = request(400, number)
        places = sorted(rng.sample(range(50, len(content) - 8), number))
        messages = [rng.choice((*WORDS, b"%s.\r\n" % ALPHABET, b"[    1.234567] x\r\n")) for _ in places]
        for lost in (0, 1, MAX_LOST):
            damaged = cut(content, places, messages)[:-8] + content[-8:]
            damaged = damaged[:45] + damaged[45 + lost :] if places[0] > 45 + lost else damaged
            text = salvage(damaged, True)
            lines = text.splitlines(keepends=True)
            wanted = b"".join(messages).splitlines(keepends=True)
            assert [line[-len(w) :] for line, w in zip(lines, wanted, strict=True)] == wanted
            words = sum(len(m) - len(m.lstrip(ALPHABET)) for m in messages)
            assert all(len(line) - len(w) <= words + MAX_LOST for line, w in zip(lines, wanted, strict=True))


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\rX", b"?"])
def test_a_line_feed_that_is_lost_or_changed_costs_no_text(end: bytes) -> None:
    """Then what the frame goes on with stands in no line of its own, but it is not lost."""
    _, content = request(60)
    place = len(content) - MAX_LOST - 6
    damaged = content[:place] + b"noise Trace: up\r\n0x7f usb" + end + content[place:]
    assert b"noise Trace: up\r\n0x7f usb" in salvage(damaged, True)
