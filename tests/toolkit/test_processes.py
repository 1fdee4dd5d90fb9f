# SPDX-License-Identifier: MIT
"""Other programs: how they are started and found, and how they have ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import processes


@pytest.mark.parametrize(
    ("command", "status"), [("exit 0", 0), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
)
def test_status_is_that_of_a_shell(command: str, status: int) -> None:
    assert processes.run(["/bin/sh", "-c", command], {}) == status


@pytest.mark.parametrize(("program", "status"), [("/nowhere/x", 127), ("nowhere", 127), ("/etc", 126)])
def test_what_cannot_be_run_is_named(program: str, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert processes.run([program, "x"], {"PATH": "/bin"}) == status
    assert capfd.readouterr().err.startswith(program + ": ")


def test_folder_and_environment(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert processes.run(["/bin/sh", "-c", "pwd; echo $A"], {"A": "1 2"}, str(tmp_path)) == 0
    assert capfd.readouterr().out == f"{tmp_path}\n1 2\n"


def test_a_folder_that_is_not_there_ends_the_child_only(capfd: pytest.CaptureFixture[str]) -> None:
    assert processes.run(["/bin/true"], {}, "/nowhere") == 126
    assert capfd.readouterr().err == "/bin/true: No such file or directory\n"


def test_signals_that_python_ignores_are_as_usual() -> None:
    _, output = processes.output_of(["/bin/grep", "SigIgn", "/proc/self/status"], {})
    ignored = int(output.split()[1], 16)
    assert not ignored & (1 << 12 | 1 << 24)  # SIGPIPE, SIGXFSZ


def test_output_of(capfd: pytest.CaptureFixture[str]) -> None:
    command = "head -c 200000 /dev/zero; echo >&2 said; exit 3"
    assert processes.output_of(["/bin/sh", "-c", command], {}) == (3, bytes(200_000))
    assert capfd.readouterr() == ("", "said\n")


def test_no_descriptor_of_ours_is_passed_on(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w"):
        _, output = processes.output_of(["/bin/ls", "/proc/self/fd"], {})
    # 3 is that of the listing. A test runner may itself have inherited more.
    inherited = {name for name in os.listdir("/proc/self/fd") if _is_inheritable(int(name))}
    assert set(output.decode().split()) <= {"0", "1", "2", "3"} | inherited


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:
        return False


def test_find(tmp_path: Path) -> None:
    for folder, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").touch(mode)
        (tmp_path / folder / "tool").chmod(mode)
    (tmp_path / "directory" / "tool").mkdir(parents=True)
    path = ":".join(str(tmp_path / folder) for folder in ("directory", "missing", "a", "b", "c"))
    assert processes.find("tool", {"PATH": path}) == str(tmp_path / "b" / "tool")
    assert processes.find("other", {"PATH": path}) is None
    assert processes.find("sh", {}) is not None


def test_the_status_is_had_where_the_end_of_children_is_ignored() -> None:
    """As some programs leave it to those that they start."""
    code = (
        "import sys; from toolkit import processes; sys.exit(processes.run(['/bin/sh', '-c', 'exit 3'], {}))"
    )
    before = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", before, sys.executable, "-c", code]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60).returncode == 3
