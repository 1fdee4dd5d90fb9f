# SPDX-License-Identifier: MIT
"""The host's lavabox as one file, run by a Python that has no packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import build_zipapp
from tests.dispatcher.lavabox_process import PATIENCE

BARE = [sys.executable, "-I", "-S"]


@pytest.fixture(scope="module")
def host_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_zipapp.build_host(tmp_path_factory.mktemp("host") / "lavabox-host")


def run(host_file: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BARE, host_file, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=cache,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "XDG_CACHE_HOME": str(cache)},
        timeout=PATIENCE,
    )


def test_it_unpacks_itself_once_and_is_lavabox(host_file, tmp_path):
    done = run(host_file, tmp_path, "hook", "--", "echo", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")
    (folder,) = (tmp_path / "lavabox").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    # The box for the devices is built of what is in it.
    done = run(host_file, tmp_path, "sim", "--device", "a:x=lava-sync e", "--device", "b:y=lava-sync e")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "lavabox").iterdir()) == [folder]
    with subprocess.Popen(
        [*BARE, host_file, "coordinator", "--lava", "127.0.0.1:0", f"--socket={tmp_path}/socket"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"XDG_CACHE_HOME": str(tmp_path)},
    ) as coordinator:
        assert coordinator.stdout is not None
        assert "LAVA's dispatchers connect to 127.0.0.1" in coordinator.stdout.readline()
        coordinator.terminate()


def test_a_cache_that_others_can_write_to_is_not_trusted(host_file, tmp_path):
    (tmp_path / "lavabox").mkdir()
    (tmp_path / "lavabox").chmod(0o777)
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [*BARE, host_file, "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={"XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")},
    )
    assert done.stdout.startswith("lavabox ")
    assert list((tmp_path / "lavabox").iterdir()) == []
    (folder,) = (tmp_path / "tmp").iterdir()
    assert folder.name == f"lavabox-{os.geteuid()}"


def test_another_python_is_told_which_one_it_is_for(host_file, tmp_path, monkeypatch, capsys):
    from dispatcher import onefile

    monkeypatch.setattr(onefile, "TAG", ".cpython-399.so")
    assert onefile.main() == 127
    assert ".cpython-399.so" in capsys.readouterr().err
