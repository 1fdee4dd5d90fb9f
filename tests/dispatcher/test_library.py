# SPDX-License-Identifier: MIT
"""Consoles in somebody's own program: real commands on ptys."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from dispatcher.consoles import ConsoleError
from dispatcher.library import Consoles

# Seconds that anything may take; only a failure takes so long.
PATIENCE = 60.0


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, PATIENCE))


def test_devices_of_one_group(box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("lava-send", "lava-wait", "lava-group"):
        (tmp_path / command).symlink_to(box)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LAVA_MULTI_NODE_CACHE", str(tmp_path / "cache"))

    async def story() -> None:
        async with Consoles(2) as consoles:
            one = await consoles.open(
                "exec:lava-wait go; cat $LAVA_MULTI_NODE_CACHE; read x", "one", "server"
            )
            two = await consoles.open("exec:read x; lava-group; lava-send go k=v; read x", "two", "client")
            await two.type(b"\n")
            assert b"one\tserver\r\ntwo\tclient\r\n" in await two.until(b"client\r\n")
            assert await one.until(b"k=v\r\n") == b"k=v\r\n"
            with pytest.raises(ValueError, match="one is in the group already"):
                await consoles.open("exec:true", "one", "server")

    run(story())


def test_a_device_that_was_alone_comes_back(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its group has ended with it: it begins a new one."""
    (tmp_path / "lava-group").symlink_to(box)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    async def story() -> None:
        async with Consoles(1) as consoles:
            for _ in range(2):
                one = await consoles.open("exec:lava-group --state; read x", "one")
                assert b"running" in await one.until(b"\n")
                await one.close()
                await asyncio.sleep(0)

    run(story())
    assert "has ended: all of its devices have left" in capsys.readouterr().err


def test_ends_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        async with Consoles() as consoles:
            with pytest.raises(ConsoleError):
                await consoles.open("nosuch://x")
            one = await consoles.open("exec:echo some; exit 3", "one")
            assert await one.until(b"so") == b"so"
            assert await one.read() == b"me\r\n"
            with pytest.raises(EOFError, match=r"one: .*status 3"):
                await one.until(b"more")
            with pytest.raises(EOFError, match=r"one: .*status 3"):
                await one.type(b"more\n")
            two = await consoles.open("exec:cat", "two")
            await two.close()
            with pytest.raises(EOFError, match="two: it was closed"):
                await two.read()

    run(story())


def test_a_device_waits_for_a_program_that_reads_nothing() -> None:
    async def story() -> None:
        async with Consoles() as consoles:
            one = await consoles.open("exec:head -c 5000000 /dev/zero; echo; echo all; read x", "one")
            # Twice as much would have come by the time in which this one says all that it has to say.
            two = await consoles.open("exec:head -c 900000 /dev/zero; echo; echo all; read x", "two")
            while len(two._unread) < 900_000 or len(one._unread) < 1_000_000:
                await asyncio.sleep(0.01)
            assert len(one._unread) < 2_000_000
            assert len(await one.until(b"all\r\n")) == 5_000_007

    run(story())


def test_more_is_typed_at_once_than_a_terminal_holds() -> None:
    async def story() -> None:
        async with Consoles() as consoles:
            one = await consoles.open("exec:stty raw -echo; echo ready; head -c 300003 | wc -c; read x")
            await one.until(b"ready")
            await one.type(b"x" * 300_000)
            await one.type(b"yyy")
            await one.until(b"300003")

    run(story())
