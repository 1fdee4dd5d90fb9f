# SPDX-License-Identifier: MIT
"""A group of very many events: what its log takes to read again, and what it takes in memory.

Ten devices meet in syncs, send messages and report results. A file log is written, and a dispatcher is started
on it in a process of its own. What is stated is for a million events, from a log of EVENTS.
"""

import asyncio
import gc
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.puregroup import Nobody
from bench.row import Row
from dispatcher.engine import Engine
from dispatcher.group.events import Event, Founded, Joined, Reported, Sent, Waiting, WaitKind
from dispatcher.grouplog import to_line
from dispatcher.grouplog.file import FileGroupLog
from dispatcher.host.group import Group

EVENTS = 200_000
DEVICES = [f"d{number}" for number in range(10)]


def rows() -> Iterator[Row]:
    """Seconds, MB and pauses."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "log")
        with path.open("wb") as file:
            for event in events(EVENTS):
                file.write(to_line(event) + b"\n")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, size, at_start, later = pool.apply(_replay, (path,))
    scale = 1_000_000 / EVENTS
    yield Row("a log of a million events: start, processor time", seconds * scale, "s")
    yield Row("a log of a million events: memory", size / 1e6 * scale, "MB")
    yield Row(f"longest pause for garbage while {EVENTS} events are read", at_start * 1000, "ms")
    yield Row(f"longest pause for garbage in {EVENTS // 4} events after that", later * 1000, "ms")


def events(number: int) -> Iterator[Event]:
    """A log of so many events, and some more."""
    chance = random.Random(2)
    yield Founded(0.0, b"founded")
    for name in DEVICES:
        yield Joined(1.0, name, name.encode(), "peer")
    for turn in range(number // (2 * len(DEVICES))):
        yield from _turn(2.0 + turn, turn, chance)


def _turn(now: float, turn: int, chance: random.Random) -> Iterator[Event]:
    for name in DEVICES:
        identity = chance.randbytes(8) + name.encode()
        yield Waiting(now, name, identity, WaitKind.SYNC, b"round%d" % turn, None, None, False, turn * 50)
    for name in DEVICES[::2]:
        pairs = ((b"ip", b"10.0.0.1"),)
        yield Sent(now, name, chance.randbytes(8) + name.encode(), b"ready%d" % turn, pairs)
        fields = (f"case{turn}", "pass", "1.5", "s")
        yield Reported(now, name, chance.randbytes(8) + name.encode(), "result", fields, turn * 50)


class _Pauses:
    """The longest run of the garbage collector."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: object) -> None:
        if phase == "start":
            self._began = time.process_time()
        else:
            self.longest = max(self.longest, time.process_time() - self._began)


def _replay(path: Path) -> tuple[float, int, float, float]:
    """Seconds of processor time, bytes of memory, and the longest pauses: while it is read, and afterwards."""

    async def replay() -> tuple[float, int, float, float]:
        pauses = _Pauses()
        log = FileGroupLog(path)
        group = Group(Engine(b"bench 01"), log, Nobody(), [])
        before, began = _memory(), time.process_time()
        await group.open(Founded(0.0, b"other"))
        took, size, at_start = time.process_time() - began, _memory() - before, pauses.longest
        pauses.longest = 0.0
        chance = random.Random(3)
        for turn in range(EVENTS // 4 // (2 * len(DEVICES))):
            for event in _turn(1e6 + turn, EVENTS + turn, chance):
                log.append(event)
            # The group takes its turn.
            await asyncio.sleep(0)
        await group.close()
        return took, size, at_start, pauses.longest

    return asyncio.run(replay())


def _memory() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
