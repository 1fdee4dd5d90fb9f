# SPDX-License-Identifier: MIT
"""lava-background-process-start and -stop: real processes, which start others and hide."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dispatcher.lavabox_process import processes_with
from toolkit import background
from toolkit.commands import lava_background_process_start as start_command
from toolkit.commands import lava_background_process_stop as stop_command
from toolkit.wire.vocabulary import MAX_DATA, NO, OK, CommandError, UsageError

PATIENCE = 30


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "GRACE", 1.0)


@pytest.fixture
def context(tmp_path: Path, fake_context: Any) -> Iterator[Any]:
    context = fake_context({}, {**os.environ, "LAVA_RESULT_DIR": str(tmp_path)})
    yield context
    for folder in (tmp_path / "results").glob("*"):
        for pid in background._members((folder / "mark").read_text()) if (folder / "mark").exists() else []:
            os.kill(pid, signal.SIGKILL)


def start(context: Any, command: str, name: str = "load") -> int:
    return start_command.run([name, "--cmd", command], context)


def stop(context: Any, name: str = "load") -> int:
    return stop_command.run([name], context)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def output(tmp_path: Path, name: str = "load") -> str:
    return (tmp_path / "results" / name / "output").read_text()


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_it_runs_once_and_is_ended(context: Any, tmp_path: Path) -> None:
    assert start(context, "echo $$; exec sleep 1000") == OK
    until(lambda: output(tmp_path) != "")
    pid = int(output(tmp_path))
    assert (tmp_path / "results" / "load" / "pid").read_text() == f"{pid}\n"
    time.sleep(1.2)  # LAVA's has started a second one by now
    assert output(tmp_path) == f"{pid}\n"
    assert running(pid)
    assert stop(context) == OK
    assert not running(pid)
    assert context.written == f"{pid}\n".encode()
    assert context.warnings == []


@pytest.mark.parametrize(
    "command",
    [
        "sleep 1000 & sleep 1000 & wait",
        "sleep 1000 & exit",
        "setsid sleep 1000 & setsid sh -c 'sleep 1000; true' & wait",
        "(setsid sleep 1000 &) ; exit",
        "env -i sleep 1000 & wait",
        "trap '' TERM; while :; do sleep 0.1; done",
        "trap 'setsid sleep 1000 & exit' TERM; while :; do sleep 0.1; done",
    ],
)
def test_all_that_it_has_started_is_ended(command: str, context: Any, tmp_path: Path) -> None:
    seconds = str(100_000 + os.getpid())
    assert start(context, f"echo ready; {command.replace('1000', seconds)}") == OK
    until(lambda: output(tmp_path) == "ready\n")
    if not command.startswith("trap"):
        until(lambda: processes_with(seconds) != [])
    assert stop(context) == OK
    assert processes_with(seconds) == []
    assert context.warnings == []


def test_what_is_started_at_the_last_moment_is_told_too(
    context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "GRACE", float(PATIENCE))
    command = "trap 'setsid sleep 1000 & exit' TERM; echo ready; while :; do sleep 0.1; done"
    assert start(context, command) == OK
    until(lambda: output(tmp_path) == "ready\n")
    begin = time.monotonic()
    assert stop(context) == OK
    assert time.monotonic() - begin < PATIENCE / 2


def test_others_are_left_alone(context: Any) -> None:
    assert start(context, "exec sleep 1000", "a") == OK
    assert start(context, "exec sleep 1000", "b") == OK
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as bystander:
        assert stop(context, "a") == OK
        assert bystander.poll() is None
        bystander.kill()
    assert stop(context, "b") == OK
    assert context.warnings == []


def test_what_has_ended_by_itself_is_said(context: Any, tmp_path: Path) -> None:
    assert start(context, "echo out; echo err >&2") == OK
    until(lambda: output(tmp_path) == "out\nerr\n")
    until(lambda: not background._members((tmp_path / "results" / "load" / "mark").read_text()))
    assert stop(context) == OK
    assert context.warnings == ["it had ended before"]
    assert context.written == b"out\nerr\n"


def test_of_much_output_the_end_is_printed(context: Any, tmp_path: Path) -> None:
    command = "head -c 100000 /dev/zero | tr '\\0' x; echo end"
    assert start(context, command) == OK
    until(lambda: output(tmp_path).endswith("end\n"))
    assert stop(context) == OK
    assert context.written == b"x" * (MAX_DATA - 4) + b"end\n"


def test_stop_without_start(context: Any) -> None:
    assert stop(context) == OK
    assert context.warnings == ["it has not been started, or has been stopped already"]


def test_stop_twice(context: Any) -> None:
    assert start(context, "exec sleep 1000") == OK
    assert stop(context) == OK
    assert stop(context) == OK
    assert context.warnings == ["it has not been started, or has been stopped already"]


def test_start_while_it_runs_and_after_it_has_ended(context: Any, tmp_path: Path) -> None:
    assert start(context, "echo $$; exec sleep 1000") == OK
    until(lambda: output(tmp_path) != "")
    first = int(output(tmp_path))
    assert start(context, "exec sleep 1000") == OK
    assert not running(first)
    assert "has been ended" in context.warnings[0]
    assert stop(context) == OK
    assert start(context, "echo third") == OK
    until(lambda: output(tmp_path) == "third\n")
    assert start(context, "echo fourth") == OK
    until(lambda: output(tmp_path) == "fourth\n")


def test_a_mark_from_before_a_reboot_is_none(context: Any, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "load"
    folder.mkdir(parents=True)
    (folder / "mark").write_text(f"{os.getppid()} 1 00000000-0000-0000-0000-000000000000")
    assert stop(context) == OK
    assert "has not been started" in context.warnings[0]
    assert start(context, "exec sleep 1000") == OK


def test_a_number_that_another_process_has_by_now_is_not_its_own(context: Any, tmp_path: Path) -> None:
    assert start(context, "true") == OK
    mark = tmp_path / "results" / "load" / "mark"
    _, _, boot = mark.read_text().split()
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as bystander:
        mark.write_text(f"{bystander.pid} 1 {boot}")
        assert stop(context) == OK
        assert bystander.poll() is None
        bystander.kill()
    assert context.warnings == ["it had ended before"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--cmd", "true"],
        ["load", "--cmd"],
        ["load", "--cmd", "sleep", "5"],
        ["load", "--command", "true"],
        ["", "--cmd", "true"],
        [".", "--cmd", "true"],
        ["..", "--cmd", "true"],
        ["a//b", "--cmd", "true"],
        ["a/../b", "--cmd", "true"],
    ],
)
def test_wrong_arguments_of_start(arguments: list[str], context: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        start_command.run(arguments, context)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["../x"], [""], ["--all"]])
def test_wrong_arguments_of_stop(arguments: list[str], context: Any) -> None:
    with pytest.raises(UsageError):
        stop_command.run(arguments, context)


@pytest.mark.parametrize("name", ["two words", "-", "ümlaut", "x" * 200, "a\nb", "a/b"])
def test_names(name: str, context: Any, tmp_path: Path) -> None:
    assert start_command.run([name, "--cmd", "echo done"], context) == OK
    until(lambda: output(tmp_path, name) == "done\n")
    assert stop_command.run([name], context) == OK


def test_surplus_and_missing_words_are_warned_of(context: Any, tmp_path: Path) -> None:
    assert start_command.run(["load"], context) == OK
    assert start_command.run(["load", "--cmd", ""], context) == OK
    assert not (tmp_path / "results").exists()
    assert start(context, "exec sleep 1000") == OK
    assert stop_command.run(["load", "other"], context) == OK
    assert len(context.warnings) == 3


def test_a_fork_bomb_is_ended(context: Any, tmp_path: Path) -> None:
    """Its processes replace each other faster than they can be ended one by one."""
    # A process that ends as soon as it has started its successor.
    bomb = tmp_path / "bomb"
    bomb.write_text(f"trap '' TERM\nsh {bomb} &\n")
    assert start(context, f"for i in 1 2 3 4; do sh {bomb} & done") == OK
    mark = (tmp_path / "results" / "load" / "mark").read_text()
    assert stop(context) == OK
    assert background._members(mark) == []


def test_a_folder_that_cannot_be_made(context: Any, tmp_path: Path) -> None:
    (tmp_path / "results").touch()
    with pytest.raises(CommandError, match="cannot run it in the folder") as caught:
        start(context, "true")
    assert caught.value.status == NO


def test_a_file_that_cannot_be_written(context: Any, tmp_path: Path) -> None:
    """The new process says so, and is not begun."""
    (tmp_path / "results" / "load" / "output").mkdir(parents=True)
    with pytest.raises(CommandError, match="output"):
        start(context, f"touch {tmp_path}/begun")
    assert not (tmp_path / "begun").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="to give a folder away takes root")
def test_a_folder_of_another_user_is_not_used(context: Any, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    os.chown(tmp_path / "results", 1234, 1234)
    with pytest.raises(CommandError, match=r"belongs to user 1234"):
        start(context, "true")


COMMAND = """
import sys
from toolkit import background, cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_nothing_of_the_caller_is_held(tmp_path: Path) -> None:
    """`x=$(lava-background-process-start ...)` goes on at once, whatever descriptor its pipe has."""
    environ = {**os.environ, "LAVA_RESULT_DIR": str(tmp_path)}
    root = Path(background.__file__).parent.parent
    lava = [sys.executable, "-c", COMMAND]
    shell = 'x=$("$@" 2>&1 3>&1 4>&1); echo "[$x] $?"'
    begin = [*lava, "lava-background-process-start", "load", "--cmd", "ls -l /proc/self/fd; exec sleep 1000"]
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *begin],
        capture_output=True,
        text=True,
        env=environ,
        cwd=root,
        timeout=PATIENCE,
    )
    assert done.stdout == "[] 0\n"
    until(lambda: "output" in output(tmp_path))
    time.sleep(0.1)
    listed = output(tmp_path).splitlines()[1:]
    assert {line.split()[8] for line in listed} == {"0", "1", "2", "3"}
    assert [line for line in listed if "pipe" in line or "/dev/pts" in line] == []
    ended = subprocess.run(
        [*lava, "lava-background-process-stop", "load"], capture_output=True, text=True, env=environ, cwd=root
    )
    assert ended.returncode == 0


def test_its_terminal_is_not_the_callers(context: Any, tmp_path: Path) -> None:
    """So Ctrl-C does not end it, and it gets no signal when the terminal is hung up."""
    assert start(context, "exec cut -d ' ' -f 4-8 /proc/self/stat") == OK
    until(lambda: output(tmp_path) != "")
    _, group, session, terminal, _ = output(tmp_path).split()
    assert group == session == (tmp_path / "results" / "load" / "pid").read_text().strip()
    assert terminal == "0"


def test_without_a_result_folder(fake_context: Any) -> None:
    folder = Path(f"/tmp/lava_background_processes.{os.geteuid()}")
    name = f"test-{os.getpid()}"
    context = fake_context({}, {"PATH": os.environ["PATH"]})
    try:
        assert start_command.run([name, "--cmd", "echo done"], context) == OK
        until(lambda: (folder / name / "output").read_text() == "done\n")
        assert stop_command.run([name], context) == OK
    finally:
        for path in (folder / name).glob("*"):
            path.unlink()
        (folder / name).rmdir()
