# SPDX-License-Identifier: MIT
"""The table of others' jobs; the jobs themselves are run by hand, from clones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.real_jobs import CASES, ROOT, STAND_INS, Case, differences

PING = next(case for case in CASES if case.name == "ping")


def _device(name: str, *results: str, status: int = 0) -> dict[str, object]:
    return {
        "name": name,
        "results": [{"id": "ping", "result": result} for result in results],
        "runs": [{"name": "0_ping", "status": status, "ended_early": False}],
        "malformed_signals": {"count": 0},
    }


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stand_ins_are_there(case: Case) -> None:
    assert all(os.access(STAND_INS / name, os.X_OK) for name in case.stand_ins)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_goes_wrong_is_explained(case: Case) -> None:
    assert bool(case.failing or case.failing_runs) == bool(case.why) == (case.status != 0)


def test_as_expected() -> None:
    assert differences(PING, {"devices": [_device("server-1"), _device("client-1", "pass")]}, 0) == []


@pytest.mark.parametrize(
    ("devices", "status", "wrong"),
    [
        ([_device("server-1")], 0, "devices ['server-1']"),
        ([_device("server-1"), _device("client-1")], 0, "client-1: {} instead of (1, 0)"),
        ([_device("server-1"), _device("client-1", "fail")], 1, "client-1: ping failed"),
        ([_device("server-1"), _device("client-1", "pass", "skip")], 0, "'skip': 1"),
        ([_device("server-1", status=2), _device("client-1", "pass")], 0, "run 0_ping ended with status 2"),
        ([_device("server-1"), _device("client-1", "pass")], 1, "exit status 1 instead of 0"),
    ],
)
def test_differences_are_told(devices: list[dict[str, object]], status: int, wrong: str) -> None:
    assert wrong in "; ".join(differences(PING, {"devices": devices}, status))


def test_missing_clone_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.real_jobs", "--clones", tmp_path, "second-job"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"git clone https://github.com/Linaro/lava.git {tmp_path}/Linaro-lava" in done.stderr
