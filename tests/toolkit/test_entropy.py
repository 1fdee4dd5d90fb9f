# SPDX-License-Identifier: MIT
from __future__ import annotations

import ast
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import entropy
from toolkit.entropy import random_bytes


def none_yet(size: int, flags: int = 0) -> bytes:
    assert flags & os.GRND_NONBLOCK
    raise BlockingIOError(errno.EAGAIN, "no entropy so far")


@pytest.mark.parametrize("early", [False, True])
def test_bytes_differ(early: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if early:
        monkeypatch.setattr(os, "getrandom", none_yet)
    for size in (1, 4, 8, 13):
        assert len(random_bytes(size)) == size
    seen = {random_bytes(8) for _ in range(1000)}
    assert len(seen) == 1000
    # Also in each of their halves.
    assert len({value[:4] for value in seen}) > 990 and len({value[4:] for value in seen}) > 990


def test_without_getrandom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getrandom")
    assert entropy.random_bytes(8) != entropy.random_bytes(8)


def test_nothing_else_asks_for_random_bytes() -> None:
    """os.urandom waits, and so do the modules that call it: a wait must be able to write its cache file at once."""
    toolkit = Path(entropy.__file__).parent
    for path in toolkit.rglob("*.py"):
        if path.name in ("entropy.py", "thin.py"):  # both with GRND_NONBLOCK
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.attr} if isinstance(node, ast.Attribute) else set()
            assert not names & {"urandom", "getrandom", "random", "secrets", "tempfile", "uuid"}, path


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_command_waits_for_entropy(box: Path, tmp_path: Path) -> None:
    """Neither the interpreter nor the box calls getrandom so that it may block; nobody answers here, and that is fine."""
    master, slave = os.openpty()
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-o", str(trace), "-e", "trace=getrandom", str(box), "lava-self"],
        env={
            "PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin",
            "LAVA_CONSOLE": os.ttyname(slave),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    calls = [line for line in trace.read_text().splitlines() if "getrandom(" in line]
    assert calls and all("GRND_NONBLOCK" in line for line in calls), calls
    os.close(master)
    os.close(slave)
