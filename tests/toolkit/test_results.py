# SPDX-License-Identifier: MIT
"""The commands that report results, given a context: what they check, run, print and ask of the dispatcher."""

import contextlib
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from toolkit import processes
from toolkit.commands import module_name
from toolkit.wire.vocabulary import (
    LINK_FAILED,
    MAX_NAME,
    MAX_TEXT,
    NO,
    NO_DISPATCHER,
    OK,
    CommandError,
    UsageError,
)

YES: dict[str, list[Any]] = {
    operation: []
    for operation in (
        *("case-start", "case-end", "result", "set-start", "set-stop", "reference", "raise", "event"),
        *("feedback", "run-start", "run-end"),
    )
}


def run(command: str, context: Any, *arguments: str) -> int:
    module = importlib.import_module("toolkit.commands." + module_name(command))
    status: int = module.run(list(arguments), context)
    return status


def raw(argument: bytes) -> str:
    return os.fsdecode(argument)


# Results that are known

ANY_TEXT = [
    "two words",
    "a>b",
    "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=x RESULT=pass>",
    "line\nbreak",
    "=",
    "-x",
    "'\"\\$(id)`",
    "ümlaut 漢字",
    raw(b"\xff\xfe\x01\x1b[0m"),
    "x" * 10_240,
    "x" * MAX_NAME,
]


@pytest.mark.parametrize("name", ANY_TEXT, ids=repr)
def test_an_id_is_any_text(name: str, fake_context: Any) -> None:
    context = fake_context(YES)
    assert run("lava-test-case", context, name, "--result", "pass") == OK
    assert context.requests == [("result", os.fsencode(name), "pass", None, None)]
    assert context.written == b""


@pytest.mark.parametrize(
    ("arguments", "recorded"),
    [
        (["--result", "fail"], ("fail", None, None)),
        (["--result=skip"], ("skip", None, None)),
        (["--result", "unknown"], ("unknown", None, None)),
        (["--result", "PASS"], ("pass", None, None)),
        (["--result", "fail", "--result", "pass"], ("pass", None, None)),
        (["--measurement", "1.50", "--units", "MB/s", "--result", "pass"], ("pass", "1.50", b"MB/s")),
        (["--units", "a > b", "--result", "pass", "--measurement=-5"], ("pass", "-5", b"a > b")),
        (["--result", "pass", "--measurement", " 12\n"], ("pass", "12", None)),
        (["--result", "pass", "--measurement", "1e-9", "--units", ""], ("pass", "1e-9", None)),
        (["--result", "pass", "--units", raw(b"\xb5s")], ("pass", None, b"\xb5s")),
        (["--result", "pass", "--measurement", "9" * 300], ("pass", "9" * 300, None)),
    ],
)
def test_options_in_any_order(arguments: list[str], recorded: tuple[Any, ...], fake_context: Any) -> None:
    context = fake_context(YES)
    assert run("lava-test-case", context, "boot", *arguments) == OK
    assert context.requests == [("result", b"boot", *recorded)]


@pytest.mark.parametrize(
    "name_and_rest", [["--", "--shell", "--result", "pass"], ["--", "--", "--result", "pass"]]
)
def test_an_id_like_an_option_after_two_dashes(name_and_rest: list[str], fake_context: Any) -> None:
    context = fake_context(YES)
    assert run("lava-test-case", context, *name_and_rest) == OK
    assert context.requests == [("result", name_and_rest[1].encode(), "pass", None, None)]


WRONG = [
    ("lava-test-case", []),
    ("lava-test-case", ["--"]),
    ("lava-test-case", ["", "--result", "pass"]),
    ("lava-test-case", ["boot"]),
    ("lava-test-case", ["--result", "pass", "boot"]),
    ("lava-test-case", ["--shell", "true"]),
    ("lava-test-case", ["boot", "--status", "pass"]),
    ("lava-test-case", ["boot", "--result"]),
    ("lava-test-case", ["boot", "--result", ""]),
    ("lava-test-case", ["boot", "--result", "Pass"]),
    ("lava-test-case", ["boot", "--result", "passed"]),
    ("lava-test-case", ["boot", "--result", " pass"]),
    ("lava-test-case", ["boot", "--units", "s"]),
    ("lava-test-case", ["boot", "pass", "--result", "pass"]),
    ("lava-test-case", ["boot", "--result", "pass", "--shell", "true"]),
    ("lava-test-case", ["boot", "--shell"]),
    ("lava-test-case", ["boot", "--shell", ""]),
    ("lava-test-case", ["x" * (MAX_NAME + 1), "--result", "pass"]),
    ("lava-test-case", ["x" * (MAX_NAME + 1), "--shell", "true"]),
    ("lava-test-case", ["boot", "--result", "pass", "--units", "x" * (MAX_NAME + 1)]),
    *(
        ("lava-test-case", ["boot", "--result", "pass", "--measurement", number])
        for number in (
            "",
            "fast",
            "1,5",
            "nan",
            "inf",
            "-inf",
            "1e999",
            "0x10",
            "1_0",
            "1 0",
            "٣",
            "1" * 20_000,
            "0" * 20_000,
        )
    ),
    ("lava-test-set", []),
    ("lava-test-set", ["begin", "x"]),
    ("lava-test-set", ["start"]),
    ("lava-test-set", ["start", ""]),
    ("lava-test-set", ["start", "x" * (MAX_NAME + 1)]),
    ("lava-test-reference", []),
    ("lava-test-reference", ["boot", "--result", "pass"]),
    ("lava-test-reference", ["boot", "--reference", "http://h"]),
    ("lava-test-reference", ["boot", "--result", "good", "--reference", "http://h"]),
    ("lava-test-reference", ["boot", "--result", "pass", "--reference", ""]),
    ("lava-test-reference", ["", "--result", "pass", "--reference", "http://h"]),
    ("lava-test-reference", ["boot", "--result", "pass", "--reference", "x" * (MAX_TEXT + 1)]),
    ("lava-test-raise", []),
    ("lava-test-raise", ["--"]),
    ("lava-test-raise", [""]),
    ("lava-test-raise", ["x" * (MAX_TEXT + 1)]),
    ("lava-test-event", ["two", "words"]),
    ("lava-test-feedback", []),
    ("lava-test-feedback", ["other"]),
    ("lava-test-feedback", ["--namespace"]),
]


@pytest.mark.parametrize(
    ("command", "arguments"), WRONG, ids=[f"{command} {' '.join(rest)[:60]!r}" for command, rest in WRONG]
)
def test_wrong_arguments_are_refused_before_anything_is_recorded(
    command: str, arguments: list[str], fake_context: Any
) -> None:
    context = fake_context(YES)
    with pytest.raises(UsageError) as caught:
        run(command, context, *arguments)
    assert caught.value.status == 2
    assert len(caught.value.text) < 300
    assert context.requests == []
    assert context.written == b""


# --output


def test_output_is_printed_byte_for_byte_between_the_marks(tmp_path: Path, fake_context: Any) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "log").write_bytes(content)
    context = fake_context(YES)
    arguments = ["boot", "--output", str(tmp_path / "log"), "--result", "pass", "--units", "s"]
    assert run("lava-test-case", context, *arguments) == OK
    assert context.requests == [
        ("case-start", b"boot"),
        ("case-end", b"boot"),
        ("result", b"boot", "pass", None, b"s"),
    ]
    assert context.written == content


def test_output_comes_after_the_first_mark(tmp_path: Path, fake_context: Any) -> None:
    (tmp_path / "log").write_bytes(b"text")
    context = fake_context({**YES, "case-start": CommandError(NO_DISPATCHER, "none")})
    with pytest.raises(CommandError):
        run("lava-test-case", context, "boot", "--result", "pass", "--output", str(tmp_path / "log"))
    assert context.written == b""


@pytest.mark.parametrize("name", ["missing", ".", "log/below", "", "fifo", "link"])
def test_a_result_counts_without_an_output_file_too(name: str, tmp_path: Path, fake_context: Any) -> None:
    (tmp_path / "log").touch()
    (tmp_path / "link").symlink_to("missing")
    os.mkfifo(tmp_path / "fifo")
    if name == "fifo":
        os.chown(tmp_path / "fifo", 1234, 1234)
    context = fake_context(YES)
    path = str(tmp_path / name) if name else ""
    assert run("lava-test-case", context, "boot", "--result", "pass", "--output", path) == OK
    assert context.requests == [("result", b"boot", "pass", None, None)]
    assert "recorded without output" in context.warnings[0]


def test_output_may_come_through_a_pipe(fake_context: Any) -> None:
    """As with `--output <(dmesg)`."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"text")
    os.close(write_end)
    context = fake_context(YES)
    path = f"/dev/fd/{read_end}"
    assert run("lava-test-case", context, "boot", "--result", "pass", "--output", path) == OK
    assert context.written == b"text"
    os.close(read_end)


# --shell


@pytest.mark.parametrize(
    ("command", "result", "printed"),
    [
        (["true"], "pass", ""),
        (["false"], "fail", ""),
        (["exit 0"], "pass", ""),
        (["exit 3"], "fail", ""),
        (["exit", "3"], "fail", ""),
        (["kill -KILL $$"], "fail", ""),
        (["kill -INT $$"], "fail", ""),
        (["echo 'a  b' | tr a-z A-Z; cd / && pwd"], "pass", "A  B\n/\n"),
        (["printf", "%s,", "a  b", "", "*", "$HOME", "c\nd", "'"], "pass", "a  b,,*,$HOME,c\nd,',"),
        (["cd", "/"], "pass", ""),
        (["test", "-d", "/nowhere"], "fail", ""),
        (["echo $TEST_CASE_ID"], "pass", "boot it\n"),
        (["sh", "-c", 'echo "$TEST_CASE_ID"'], "pass", "boot it\n"),
        (["yes | head -n 1"], "pass", "y\n"),
        (["--help"], "fail", ""),
        (["/nowhere/program"], "fail", ""),
        (["/nowhere/program", "x"], "fail", ""),
        (["/etc", "x"], "fail", ""),
    ],
)
def test_a_test_has_passed_if_its_exit_status_is_0(
    command: list[str], result: str, printed: str, fake_context: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    context = fake_context(YES, os.environ)
    assert run("lava-test-case", context, "boot it", "--shell", *command) == OK
    assert context.requests == [
        ("case-start", b"boot it"),
        ("case-end", b"boot it"),
        ("result", b"boot it", result, None, None),
    ]
    captured = capfd.readouterr()
    assert captured.out == printed
    if "program" in str(command):
        assert "/nowhere/program" in captured.err


@pytest.mark.parametrize("status", [NO_DISPATCHER, LINK_FAILED])
def test_a_test_is_not_run_if_its_result_cannot_be_recorded(
    status: int, tmp_path: Path, fake_context: Any
) -> None:
    context = fake_context({"case-start": CommandError(status, "no")})
    with pytest.raises(CommandError) as caught:
        run("lava-test-case", context, "boot", "--shell", f"touch {tmp_path}/run")
    assert caught.value.status == status
    assert not (tmp_path / "run").exists()


def test_a_result_that_is_not_recorded_is_no_success(fake_context: Any) -> None:
    context = fake_context({**YES, "result": CommandError(LINK_FAILED, "the line is cut")})
    with pytest.raises(CommandError) as caught:
        run("lava-test-case", context, "boot", "--shell", "true")
    assert caught.value.status == LINK_FAILED


# Run as a process: a context that only remembers what was asked.
PROCESS = """
import sys
from toolkit import cli, context

def request(self, *request):
    with open(sys.argv[1], "a") as file:
        print(*request, file=file)
    return []

context.Context.request = request
sys.exit(cli.main(["lava-test-case", *sys.argv[2:]]))
"""


class Started:
    """lava-test-case in a process group of its own."""

    def __init__(self, asked: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self._asked = asked
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, asked, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
            env=env,
            cwd=Path(processes.__file__).parent.parent,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def asked(self) -> list[str]:
        return self._asked.read_text().splitlines() if self._asked.exists() else []


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    started: list[Started] = []

    def begin(*arguments: str, **more: Any) -> Started:
        started.append(Started(tmp_path / "asked", *arguments, **more))
        return started[-1]

    yield begin
    for one in started:
        with suppress(ProcessLookupError):
            # The test that it runs, too, which may have been left behind.
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate()


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_ctrl_c_ends_the_test_and_the_command(start: Any) -> None:
    started = start("boot", "--shell", "echo $$; exec sleep 1000")
    pid = int(started.line())
    os.killpg(started.process.pid, signal.SIGINT)
    assert started.process.wait(30) == -signal.SIGINT
    assert not running(pid)
    assert started.asked() == ["case-start b'boot'"]


def test_after_ctrl_c_the_test_may_clean_up(start: Any) -> None:
    clean_up = "trap 'sleep 0.3; echo clean; exit 0' INT; echo ready; while :; do sleep 0.05; done"
    started = start("boot", "--shell", clean_up)
    assert started.line() == "ready\n"
    os.killpg(started.process.pid, signal.SIGINT)
    assert started.line() == "clean\n"
    assert started.process.wait(30) == -signal.SIGINT
    assert started.asked() == ["case-start b'boot'"]


def test_a_test_that_ignores_ctrl_c_is_ended(start: Any) -> None:
    started = start("boot", "--shell", "trap '' INT TERM; echo $$; while :; do sleep 0.05; done")
    pid = int(started.line())
    begin = time.monotonic()
    os.killpg(started.process.pid, signal.SIGINT)
    assert started.process.wait(30) == -signal.SIGINT
    assert time.monotonic() - begin >= 2 * processes.GRACE
    assert not running(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_ends_the_test(number: signal.Signals, start: Any) -> None:
    started = start("boot", "--shell", "echo $$; exec sleep 1000")
    pid = int(started.line())
    started.process.send_signal(number)
    assert started.process.wait(30) == 128 + number
    assert not running(pid)
    assert started.asked() == ["case-start b'boot'"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["after fork", "before waitpid"])
def test_told_to_end_in_a_bad_moment(
    moment: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []
    fork, waitpid = os.fork, os.waitpid

    def be_told() -> None:
        # (Another thread, of those that the test has and the command has not, must not get it.)
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    def fork_and_be_told() -> int:
        pid = fork()
        if pid:
            pids.append(pid)
            if moment == "after fork":
                be_told()
        return pid

    def be_told_and_wait(pid: int, options: int) -> tuple[int, int]:
        if moment == "before waitpid":
            # In C, a signal that comes after Python has looked for one, and before the system call.
            monkeypatch.setattr(os, "waitpid", waitpid)
            with contextlib.suppress(BaseException):
                be_told()
        return waitpid(pid, options)

    def end(number: int, frame: object) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "fork", fork_and_be_told)
    monkeypatch.setattr(os, "waitpid", be_told_and_wait)
    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            processes.run(["sleep", "1000"], os.environ)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not running(pids[0])
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_program_is_started_with_nothing_blocked() -> None:
    assert processes.run(["sh", "-c", "grep -q '^SigBlk:[[:space:]]*0*$' /proc/self/status"], os.environ) == 0


def test_a_test_reads_what_the_command_could_read(start: Any) -> None:
    started = start("boot", "--shell", "read line; echo $line")
    started.process.stdin.write("typed\n")
    started.process.stdin.flush()
    assert started.line() == "typed\n"
    assert started.process.wait(30) == 0


def test_a_result_that_is_known_reads_nothing(start: Any) -> None:
    started = start("boot", "--result", "pass")
    assert started.process.wait(30) == 0
    assert started.asked() == ["result b'boot' pass None None"]


def test_the_test_has_the_callers_environment_and_nothing_else(start: Any) -> None:
    started = start("boot", "--shell", "env", env={"PATH": os.environ["PATH"], "A": "b c"})
    lines = set(started.process.communicate()[0].splitlines())
    assert {line for line in lines if not re.match("(PWD|SHLVL|OLDPWD|_)=", line)} == {
        "A=b c",
        "PATH=" + os.environ["PATH"],
        "TEST_CASE_ID=boot",
    }


@pytest.mark.parametrize("value", ["C.UTF-8", "POSIX"])
def test_a_locale_of_the_caller_stays(value: str, start: Any) -> None:
    started = start("boot", "--shell", "echo $LC_CTYPE", env={"PATH": os.environ["PATH"], "LC_CTYPE": value})
    assert started.line() == value + "\n"


def test_output_that_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("text")
    arguments = [sys.executable, "-c", PROCESS, tmp_path / "asked", "boot", "--result", "pass"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*arguments, "--output", tmp_path / "log"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(processes.__file__).parent.parent,
        )
    assert done.returncode == 1
    assert "failed: " in done.stderr and "No space left" in done.stderr
    assert (tmp_path / "asked").read_text() == "case-start b'boot'\n"


# The others


@pytest.mark.parametrize(
    ("command", "arguments", "asked", "status"),
    [
        ("lava-test-set", ["start", "net work"], ("set-start", b"net work"), OK),
        ("lava-test-set", ["start", "--", "-x"], ("set-start", b"-x"), OK),
        ("lava-test-set", ["start", "two", "words"], ("set-start", b"two"), OK),
        ("lava-test-set", ["stop"], ("set-stop",), OK),
        ("lava-test-set", ["stop", "network", "x"], ("set-stop",), OK),
        (
            "lava-test-reference",
            ["boot up", "--reference", "http://h/?a b&c=<d>", "--result", "skip"],
            ("reference", b"boot up", "skip", b"http://h/?a b&c=<d>"),
            OK,
        ),
        ("lava-test-raise", ["no", "disk  here"], ("raise", b"no disk  here"), NO),
        ("lava-test-raise", ["--", "--help"], ("raise", b"--help"), NO),
        ("lava-test-raise", ["-x", "--y"], ("raise", b"-x --y"), NO),
        ("lava-test-raise", ["x" * MAX_TEXT], ("raise", b"x" * MAX_TEXT), NO),
        ("lava-test-event", ["a > b\nc"], ("event", b"a > b\nc"), OK),
        ("lava-test-event", ["--", "-x"], ("event", b"-x"), OK),
        ("lava-test-event", ["--now"], ("event", b"--now"), OK),
        ("lava-test-event", ["x", ""], ("event", b"x"), OK),
        ("lava-test-feedback", ["--namespace", "other one"], ("feedback", b"other one"), OK),
        ("lava-test-feedback", ["--namespace=o"], ("feedback", b"o"), OK),
    ],
)
def test_reports(
    command: str, arguments: list[str], asked: tuple[Any, ...], status: int, fake_context: Any
) -> None:
    context = fake_context(YES)
    assert run(command, context, *arguments) == status
    assert context.requests == [asked]
    assert context.written == b""


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("lava-test-set", ["start", "x"]),
        ("lava-test-set", ["stop"]),
        ("lava-test-raise", ["x"]),
        ("lava-test-event", ["x"]),
    ],
)
@pytest.mark.parametrize("status", [NO_DISPATCHER, LINK_FAILED])
def test_a_refusal_is_the_exit_status(
    command: str, arguments: list[str], status: int, fake_context: Any
) -> None:
    context = fake_context({operation: CommandError(status, "no") for operation in YES})
    with pytest.raises(CommandError) as caught:
        run(command, context, *arguments)
    assert caught.value.status == status


def test_a_set_in_another_one_takes_its_place(fake_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = fake_context(YES)
    replies: list[list[Any] | CommandError] = [CommandError(NO, "a test set is open already: a"), [], []]

    def request(operation: str, *arguments: object) -> list[Any]:
        context.requests.append((operation, *arguments))
        reply = replies.pop(0)
        if isinstance(reply, CommandError):
            raise reply
        return reply

    monkeypatch.setattr(context, "request", request)
    assert run("lava-test-set", context, "start", "b") == OK
    assert context.requests == [("set-start", b"b"), ("set-stop",), ("set-start", b"b")]
    assert context.warnings == ["a test set is open already: a"]


def test_a_stop_without_a_set_is_warned_of(fake_context: Any) -> None:
    context = fake_context({"set-stop": CommandError(NO, "no test set is open")})
    assert run("lava-test-set", context, "stop") == OK
    assert context.warnings == ["no test set is open"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("lava-test-event", []),
        ("lava-test-event", [""]),
        ("lava-test-feedback", ["--namespace", ""]),
    ],
)
def test_what_says_nothing_sends_nothing(command: str, arguments: list[str], fake_context: Any) -> None:
    context = fake_context()
    assert run(command, context, *arguments) == OK
    assert len(context.warnings) == 1


def test_a_script_with_carriage_returns_is_named(tmp_path: Path, fake_context: Any) -> None:
    script = tmp_path / "test.sh"
    script.write_bytes(b"#!/bin/sh\r\ntrue\r\n")
    script.chmod(0o755)
    context = fake_context(YES, {"PATH": os.environ["PATH"]})
    assert run("lava-test-case", context, "boot", "--shell", str(script)) == OK
    assert context.requests[-1] == ("result", b"boot", "fail", None, None)
    assert "CR LF" in context.warnings[0] and "'/bin/sh\\r'" in context.warnings[0]
