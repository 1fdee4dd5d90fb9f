# SPDX-License-Identifier: MIT
"""Groups by name: what is told of those that go on for months."""

import asyncio
import errno
from pathlib import Path

import pytest

from dispatcher.grouplog import GroupLogError
from dispatcher.host import groups as module
from dispatcher.host.groups import GroupLogs, Groups


def test_a_device_whose_share_of_the_log_runs_out_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)

    async def story() -> list[str]:
        told: list[str] = []
        groups = Groups(GroupLogs(None), told.append)
        hosted = await groups.get("lab", None)
        hosted.kept = True
        hosted.member("panda01", "client", "panda01", 0.0)
        for number in range(9):
            await groups.tidy_up(100.0 * number)
            assert len(told) == (hosted.engine.state.bytes_of("panda01") >= 8000)
            for event in ("one", "two"):
                hosted.engine.report("panda01", "event", (event,), number, float(number))
            hosted.group.wake()
            await asyncio.sleep(0)
        await groups.close()
        return told

    (sentence,) = asyncio.run(story())
    assert sentence.startswith("lab: panda01 has used 8") and "End the group" in sentence


def test_who_comes_to_a_group_that_has_ended_begins_a_new_one(tmp_path: Path) -> None:
    """Its log is put away, also where the process has ended before that."""

    async def turn(groups: Groups) -> int:
        hosted = await groups.get("lab", 1)
        hosted.kept = True
        member = hosted.member("panda01", "client", "panda01", 0.0)
        await asyncio.sleep(0)
        assert hosted.engine.state.coordinator.gone_because("panda01") is None
        hosted.leave(member, "was removed")
        await asyncio.sleep(0)
        assert hosted.engine.state.coordinator.ended
        return hosted.group.number

    async def story() -> None:
        told: list[str] = []
        groups = Groups(GroupLogs(tmp_path), told.append)
        numbers = {await turn(groups), await turn(groups)}
        assert told == ["the group lab has ended: all of its devices have left"]
        await groups.close()
        groups = Groups(GroupLogs(tmp_path), told.append)
        await groups.open()
        numbers.add(await turn(groups))
        await groups.close()
        assert len(numbers) == 3 and told[1:] == told[:1]
        assert len(list(tmp_path.glob("ended/*.jsonl"))) == 2

    asyncio.run(story())


def test_a_group_that_has_ended_and_can_t_be_put_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def story() -> None:
        groups = Groups(GroupLogs(tmp_path), [].append)
        hosted = await groups.get("lab", 1)
        hosted.leave(hosted.member("panda01", "client", "panda01", 0.0), "was removed")
        await asyncio.sleep(0)
        monkeypatch.setattr(groups._logs, "end", full)
        for _ in range(2):
            with pytest.raises(
                GroupLogError, match=r"the log of the group lab can't be archived: .*No space left"
            ):
                await groups.get("lab", 1)
        await groups.close()

    asyncio.run(story())
