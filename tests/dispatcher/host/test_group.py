# SPDX-License-Identifier: MIT
"""A group on its host: what it keeps for good does not hold up the garbage collector."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.puregroup import Nobody
from dispatcher.engine import Engine
from dispatcher.group.events import Event, Founded, Joined, Sent
from dispatcher.grouplog.file import FileGroupLog
from dispatcher.host import group
from dispatcher.host.group import Group
from dispatcher.report.flow.model import Fold

EVENTS = 500


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """What is frozen here is not lost to the collector for the other tests."""
    gc.collect()
    yield
    gc.unfreeze()


def events() -> list[Event]:
    """Messages that all are kept, each with containers of its own."""
    return [
        Joined(0.0, "d", b"joined", "t"),
        *(Sent(0.0, "d", b"%d" % number, b"id%d" % number, ((b"k", b"v"),)) for number in range(EVENTS)),
    ]


async def opened(path: Path) -> tuple[Group, FileGroupLog]:
    log = FileGroupLog(path)
    of_log = Group(Engine(b"host 001"), log, Nobody(), [])
    await of_log.open(Founded(0.0, b"founded"))
    return of_log, log


def test_what_a_group_keeps_is_frozen_from_time_to_time_and_after_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "SETTLE_AFTER", 100)

    async def body() -> None:
        of_log, log = await opened(tmp_path / "log")
        for event in events():
            log.append(event)
        assert gc.get_freeze_count() > EVENTS
        await of_log.close()
        gc.unfreeze()
        of_log, _ = await opened(tmp_path / "log")
        assert gc.get_freeze_count() > EVENTS
        assert gc.isenabled()
        await of_log.close()

    asyncio.run(body())


def test_an_event_that_can_not_be_in_the_log_there_or_stands_there_twice_is_given_to_no_reader(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        read: list[Event] = []
        flow, log = Fold(), FileGroupLog(tmp_path / "log")
        of_log = Group(Engine(b"host 001"), log, Nobody(), [flow.apply, read.append])
        await of_log.open(Founded(0.0, b"founded"))
        for event in (Sent(0.0, "stranger", b"s", b"id", ()), *events(), *events()):
            log.append(event)
        await of_log.close()
        assert list(flow.flow.devices) == ["d"]
        assert read[1:] == list(events())

    asyncio.run(body())
