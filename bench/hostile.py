# SPDX-License-Identifier: MIT
"""`python -m bench.hostile`: what a device costs the dispatcher that sends what nobody should.

Each attack runs in a process of its own, on an engine with two devices. Its processor time is
set against that for the same bytes as plain output, and its memory is what the process
takes more than one that has read plain output only.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Iterator
from itertools import chain, islice, repeat
from itertools import count as count_from

from bench.puregroup import PureGroup
from toolkit.wire import packets
from toolkit.wire.framing import MARKER, encode_frame
from toolkit.wire.transfer import seal
from toolkit.wire.vocabulary import pack_request

TOKEN = 0x12345678
HELLO = encode_frame(packets.pack_packet(packets.HELLO, packets.VERSION, 1, 1, 1))
CHUNK = 4096
BAUD = 1_500_000
# The attacker's line carries so many bytes a second: a fast pty, or a socket.
SPEED = 10_000_000


def _request(sequence: int, message: bytes, total: int | None = None, offset: int = 0) -> bytes:
    fields = (TOKEN, sequence, sequence % 0xFFFF, packets.LEASE, offset, total or len(message), 1, message)
    return encode_frame(packets.pack_packet(packets.REQUEST, *fields))


def plain() -> Iterator[bytes]:
    return repeat(b"[ 12.345678] the quick brown fox jumps over the lazy dog, and so on\r\n")


def frame_starts() -> Iterator[bytes]:
    return repeat(MARKER + b"AAAA")


def escapes() -> Iterator[bytes]:
    return repeat(b"\x1b")


def cut_frames() -> Iterator[bytes]:
    frame = HELLO
    return repeat(frame[:12] + b"one\r\n" + frame[12:20] + b"two\r\n" + frame[20:-3] + b"x" + frame[-2:])


def open_requests() -> Iterator[bytes]:
    """Waits that are never fulfilled, each under an identity of its own."""
    for number in range(2, 1 << 31):
        yield _request(number, seal(pack_request(number.to_bytes(8, "big"), "wait", b"id%d" % number, None)))


def fragments() -> Iterator[bytes]:
    """Parts of large requests that never become whole."""
    for number in range(2, 1 << 31):
        yield _request(number, bytes(400), total=300_000, offset=400 * (number % 700))


def nested() -> Iterator[bytes]:
    """Arrays in arrays in arrays."""
    for number in range(2, 1 << 31):
        yield _request(number, seal(b"\x91" * 400))


def hellos() -> Iterator[bytes]:
    """A new agent each time."""
    for number in range(2, 1 << 31):
        yield encode_frame(packets.pack_packet(packets.HELLO, packets.VERSION, number, 1, number))


def signals() -> Iterator[bytes]:
    return repeat(b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=")


ATTACKS = {
    "plain output": plain,
    "beginnings of frames": frame_starts,
    "nothing but escapes": escapes,
    "cut and damaged frames": cut_frames,
    "open requests": open_requests,
    "fragments of requests": fragments,
    "nested bodies": nested,
    "hellos": hellos,
    "beginnings of signals": signals,
}


def _attack(attack: str, count: int) -> tuple[float, int, int, bool]:
    """Processor seconds, bytes, KiB of memory at the most, and whether another device was served."""
    tokens = chain([TOKEN, TOKEN], count_from(TOKEN + 1))
    group = PureGroup(lambda: next(tokens))
    group.join("attacker", "tester", 0.0)
    group.join("other", "tester", 0.0)
    for name in ("attacker", "other"):
        group.receive_data(name, HELLO, 0.0)
    assert len(group.data_to_type(0.0)) == 2
    size, held, now = 0, b"", 0.0
    began = time.process_time()
    for piece in chain(islice(ATTACKS[attack](), count), [bytes(CHUNK)]):
        held += piece
        if len(held) >= CHUNK:
            size += len(held)
            now += len(held) / SPEED
            group.receive_data("attacker", held, now)
            held = b""
            group.handle_timeout(now)
            group.data_to_type(now)
            group.output["attacker"] = b""
            group.engine.new_results()
            group.engine.notices()
    took = time.process_time() - began
    group.receive_data("other", _request(2, seal(pack_request(b"12345678", "self"))), now)
    answered = group.data_to_type(now).get("other", b"").count(b"#L1.") == 1
    return took, size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, answered


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="pieces of each (default: %(default)s)")
    count: int = parser.parse_args().count
    print(f"{count} of each\n")
    print(
        f"| what is sent | MB | time per byte, to plain output | of a processor at {BAUD} baud | MiB more | other device |"
    )
    print("|---|---|---|---|---|---|")
    base: tuple[float, int] | None = None
    for name in ATTACKS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            took, size, memory, answered = pool.apply(_attack, (name, count))
        base = base or (took / size, memory)
        ratio, more = took / size / base[0], (memory - base[1]) / 1024
        served = "served" if answered else "NOT SERVED"
        share = took / size * BAUD / 10
        print(
            f"| {name} | {size / 1e6:.0f} | {ratio:.1f} | {share:.1%} | {max(0.0, more):.0f} | {served} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
