# SPDX-License-Identifier: MIT
"""The command around the fault model: jobs, violations, Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import soak

COMMAND = [sys.executable, str(Path(__file__).parent / "soak.py"), "--seconds", "1"]


def table(output: str) -> str:
    return output[output.index("| what |") :]


def test_any_number_of_jobs_gives_the_same_table() -> None:
    tables = set()
    for jobs in ("1", "3"):
        ran = subprocess.run(
            [*COMMAND, "--exchanges", "200", "--jobs", jobs], capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, ran.stderr
        tables.add(table(ran.stdout))
    assert len(tables) == 1
    counts = re.search(r"frames sent \| (\d+) \|", tables.pop())
    assert counts is not None
    assert int(counts[1]) >= 200


def test_ctrl_c_shows_what_there_is() -> None:
    with subprocess.Popen(
        [*COMMAND, "--exchanges", str(10**9)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        assert "rounds from seed 1" in run.stdout.readline()
        os.killpg(run.pid, signal.SIGINT)
        output, _ = run.communicate(timeout=120)
    assert run.returncode == 130
    assert "| frames sent |" in table(output)


def test_a_violation_is_told_with_what_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(world: soak.World, seconds: float, commands: float) -> None:
        world.counts["frames"] += 3
        raise AssertionError("typed into a shell")

    monkeypatch.setattr(soak.World, "run", run)
    counts, violation = soak.play(7, 60.0)
    assert violation is not None
    assert "typed into a shell" in violation
    assert "python tests/soak.py --seed 7 --exchanges 1 --seconds 60" in violation
    assert (counts["frames"], counts["violations"]) == (3, 1)
