# SPDX-License-Identifier: MIT
"""No console keeps the others waiting: what one turn of the loop does for each is bounded, and counted here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.puregroup import Nobody
from dispatcher.consoles import Listener
from dispatcher.engine import Engine
from dispatcher.group.events import Event, Founded, Reported
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.host import arrivals
from dispatcher.host.arrivals import LARGEST_SLICE, SMALLEST_SLICE
from dispatcher.host.attachment import MOST_ITEMS, Attachment
from dispatcher.host.group import Group

RESULT = b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a RESULT=pass>\n"
COUNT = 1000


class FakeConsole:
    """Brings what it is told to, and notes whether it is read."""

    address, lasting = "fake", False

    def __init__(self) -> None:
        self.paused = False

    async def open(self, listener: Listener) -> None: ...

    def write(self, data: bytes) -> bool:
        return True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    async def close(self) -> None: ...


class Screen:
    """Takes the output."""

    def __init__(self) -> None:
        self.data = b""
        self.sizes: list[int] = []

    def output(self, data: bytes, now: float) -> None:
        self.data += data
        self.sizes.append(len(data))

    def notice(self, sentence: str) -> None: ...


class Device:
    """An attachment of a group, and what comes of it."""

    def __init__(self, group: Group, name: str) -> None:
        self.console = FakeConsole()
        self.screen = Screen()
        self.attachment = Attachment(name, "t", self.console, group, [self.screen], token=lambda: 1)

    async def until_read(self) -> None:
        while self.console.paused:
            await asyncio.sleep(0)


@asynccontextmanager
async def devices(count: int = 1) -> AsyncIterator[tuple[list[Device], list[Event]]]:
    events: list[Event] = []
    group = Group(Engine(b"host 001"), MemoryGroupLog(), Nobody(), [events.append])
    await group.open(Founded(0.0, b"founded"))
    yield [Device(group, f"d{number}") for number in range(count)], events
    await group.close()


def results(events: list[Event]) -> int:
    return sum(isinstance(event, Reported) for event in events)


def test_results_are_carried_out_a_few_in_each_turn() -> None:
    async def body() -> None:
        async with devices() as ((device,), events):
            device.attachment.received(RESULT * COUNT)
            assert device.console.paused
            before = results(events)
            while device.console.paused:
                await asyncio.sleep(0)
                assert results(events) - before <= 2 * MOST_ITEMS
                before = results(events)
            await asyncio.sleep(0)
            assert results(events) == COUNT
            assert device.screen.data == RESULT * COUNT

    asyncio.run(body())


def test_another_console_is_heard_meanwhile() -> None:
    async def body() -> None:
        async with devices(2) as ((hostile, other), events):
            hostile.attachment.received(RESULT * COUNT)
            other.attachment.received(b"<LAVA_SIGNAL_TESTEVENT here>\n")
            await asyncio.sleep(0)
            assert any(isinstance(event, Reported) and event.device == "d1" for event in events)
            assert results(events) < COUNT / 2
            await hostile.until_read()

    asyncio.run(body())


def test_output_that_takes_long_is_read_in_small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"y\r\n" * 100_000

    async def body() -> None:
        async with devices() as ((device,), _):
            monkeypatch.setattr(arrivals, "SLICE_TIME", 0.0)
            device.attachment.received(text)
            await device.until_read()
            assert device.screen.sizes[-2] == SMALLEST_SLICE
            monkeypatch.setattr(arrivals, "SLICE_TIME", float("inf"))
            device.attachment.received(text)
            await device.until_read()
            assert max(device.screen.sizes) == LARGEST_SLICE
            assert device.screen.data == 2 * text

    asyncio.run(body())


def test_it_rests_while_whoever_looks_cannot_keep_up() -> None:
    async def body() -> None:
        async with devices() as ((device,), events):
            device.attachment.received(RESULT * COUNT)
            device.attachment.pause()
            for _ in range(3):
                await asyncio.sleep(0)
            before = results(events)
            assert before < COUNT
            for _ in range(10):
                await asyncio.sleep(0)
            assert results(events) == before
            device.attachment.resume()
            while results(events) < COUNT:
                await asyncio.sleep(0)
            assert not device.console.paused

    asyncio.run(body())


@pytest.mark.parametrize("how", ["lost", "ended", "closed"])
def test_at_the_end_nothing_is_left_behind(how: str) -> None:
    async def body() -> None:
        async with devices() as ((device,), events):
            device.attachment.received(RESULT * COUNT + b"unfinished")
            if how == "lost":
                device.attachment.lost("gone")
            elif how == "ended":
                device.attachment.ended("ended with status 0", 0)
            else:
                await device.attachment.close()
            assert device.screen.data == RESULT * COUNT + b"unfinished"
            await asyncio.sleep(0)
            assert results(events) == COUNT

    asyncio.run(body())


def test_a_connection_that_comes_after_the_end_is_closed() -> None:
    class SlowConsole(FakeConsole):
        lasting = True

        def __init__(self) -> None:
            super().__init__()
            self.opening = asyncio.Event()
            self.answered = asyncio.Event()
            self.is_open = False

        async def open(self, listener: Listener) -> None:
            self.opening.set()
            await self.answered.wait()
            self.is_open = True

        async def close(self) -> None:
            self.is_open = False

    async def body() -> None:
        async with devices() as ((device,), _):
            attached = device.attachment
            console = attached.console = SlowConsole()
            running = asyncio.create_task(attached.run())
            await console.opening.wait()
            await attached.close("removed")
            console.answered.set()
            await running
            assert not console.is_open and not attached.connected

    asyncio.run(body())
