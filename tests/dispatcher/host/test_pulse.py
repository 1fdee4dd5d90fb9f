# SPDX-License-Identifier: MIT
"""A dispatcher that was stopped for a while: what it reads then may be old."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dispatcher.host import pulse
from dispatcher.host.attachment import Attachment
from dispatcher.host.pulse import STOPPED, Pulse
from toolkit.wire import packets
from toolkit.wire.framing import encode_frame


class FakeConsole:
    """Keeps what is typed to it."""

    lasting = True

    def __init__(self) -> None:
        self.typed = b""

    def write(self, data: bytes) -> bool:
        self.typed += data
        return True


class FakeGroup:
    """A group that is asked for nothing."""

    number = 1

    def attach(self, attachment: Attachment, role: str) -> None: ...

    def wake(self, attachment: Attachment) -> None:
        attachment.flush(0.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_listeners_are_told_once_that_the_process_was_stopped() -> None:
    async def body() -> None:
        clock, told = Clock(), list[str]()
        watched = Pulse(asyncio.get_running_loop(), clock)
        one, other = lambda: told.append("one"), lambda: told.append("other")
        watched.listen(one)
        watched.listen(other)
        clock.now += STOPPED
        watched.look()
        assert told == []
        clock.now += STOPPED + 0.1
        watched.look()
        watched.look()
        assert told == ["one", "other"]
        watched.forget(one)
        clock.now += 60.0
        watched.look()
        assert told == ["one", "other", "other"]
        watched.forget(other)

    asyncio.run(body())


def test_the_event_loop_looks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "BEAT", 0.001)

    async def body() -> None:
        clock, told = Clock(), asyncio.Event()
        watched = Pulse(asyncio.get_running_loop(), clock)
        watched.listen(told.set)
        clock.now += 60.0
        await told.wait()
        watched.forget(told.set)

    asyncio.run(asyncio.wait_for(body(), 20.0))


def test_what_lay_on_the_console_while_the_dispatcher_was_stopped_is_not_answered() -> None:
    def hello(sequence: int) -> bytes:
        return encode_frame(packets.pack_packet(packets.HELLO, packets.VERSION, 7, sequence, 1))

    async def body() -> None:
        clock, console = Clock(), FakeConsole()
        loop = asyncio.get_running_loop()
        pulse._pulses[loop] = Pulse(loop, clock)
        group: Any = FakeGroup()
        attachment = Attachment("d", "r", console, group, [], token=lambda: 5)  # type: ignore[arg-type]
        attachment.received(hello(1))
        assert console.typed.count(b"#L1.") == 1
        clock.now += 60.0
        attachment.received(hello(2) + hello(3))
        assert console.typed.count(b"#L1.") == 1

    asyncio.run(body())
