# SPDX-License-Identifier: MIT
"""`lavabox hook` as whoever starts it sees it: real ptys, real pipes, real programs behind it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatcher.commands.hook import keeps_frames
from tests.dispatcher.lavabox_process import PATIENCE, ROOT, variables

HOOK = [sys.executable, "-m", "dispatcher", "hook"]


class Driver:
    """Starts a hook on a pty, as LAVA's dispatcher does, and works with it.

    :param job: the folder of a job of LAVA, which starts the hook.
    """

    def __init__(
        self,
        *arguments: str,
        size: tuple[int, int] = (24, 80),
        job: Path | None = None,
        **environment: str,
    ) -> None:
        self.master, self.slave = os.openpty()
        termios.tcsetwinsize(self.slave, size)
        with contextlib.ExitStack() as stack:
            stdout: Any = self.slave
            above: list[str] = []
            if job is not None:
                stdout = stack.enter_context((job / "stdout").open("wb"))
                above = ["sh", "-c", '(exec "$@" >&2); exit $?', "sh"]
            self.process = subprocess.Popen(
                [*above, *HOOK, *arguments],
                stdin=self.slave,
                stdout=stdout,
                stderr=self.slave,
                start_new_session=True,
                env=variables(**environment),
                cwd=ROOT,
            )
        self.seen = b""

    def until(self, text: bytes) -> bytes:
        """Read until this has come; returns what came up to its end, and forgets it."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} has not come, but {self.seen!r}"
            self.seen += os.read(self.master, 65536)
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def type(self, data: bytes) -> None:
        os.write(self.master, data)

    def end(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def hook() -> Iterator[Callable[..., Driver]]:
    drivers: list[Driver] = []

    def start(*arguments: str, **options: Any) -> Driver:
        drivers.append(Driver(*arguments, **options))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


def gone(pid: int) -> bool:
    """Whether the process has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def piped(*arguments: str, data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a hook on pipes."""
    return subprocess.run(
        [*HOOK, *arguments],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env=variables(**environment),
        cwd=ROOT,
    )


# -- it is the command ----------------------------------------------------------------------------


def test_bytes_go_both_ways_unchanged_on_a_pty(hook):
    everything = bytes(range(256)) * 8
    driver = hook("--", "sh", "-c", "stty raw -echo; echo ready; head -c 2048 | od -An -v -tx1; cat")
    driver.until(b"ready\n")
    driver.type(everything)
    seen = b""
    while len(re.sub(rb"\s", b"", seen)) < 2 * len(everything):
        seen += driver.until(b"\n")
    assert bytes.fromhex(seen.decode()) == everything
    driver.type(everything)
    assert driver.until(everything[-256:] + everything[:0]) == everything[:256]


def test_bytes_go_both_ways_unchanged_on_pipes():
    # Half of a frame among them, which the end of the output lets out.
    data = bytes(range(256)) * 300 + b"\x1b]5282;half"
    assert piped("--", "cat", data=data).stdout == data


def test_what_has_no_line_end_comes_at_once(hook):
    driver = hook("--", "sh", "-c", "printf 'login: '; read name; printf 'Password: '; read word")
    driver.until(b"login: ")
    driver.type(b"root\r")
    driver.until(b"Password: ")
    driver.type(b"x\r")
    assert driver.end() == 0


def test_the_command_finds_the_terminal_that_the_hook_was_started_on(hook):
    driver = hook("--", "sh", "-c", "tty; stty -a; stty size; echo end", size=(33, 101))
    shown = driver.until(b"\r\nend\r\n")
    assert b"33 101\r\n" in shown
    assert b" echo " in shown and b" icanon " in shown
    assert os.ttyname(driver.slave).encode() not in shown.splitlines()


def test_a_new_window_size_reaches_the_command(hook):
    driver = hook("--", sys.executable, "-c", RESIZED)
    driver.until(b"ready")
    termios.tcsetwinsize(driver.slave, (50, 132))
    # The kernel tells only who has it as the controlling terminal.
    driver.process.send_signal(signal.SIGWINCH)
    driver.until(b"50 132")


RESIZED = """
import os, signal
signal.signal(signal.SIGWINCH, lambda *_: None)
print("ready", flush=True)
while os.get_terminal_size(0).lines != 50:
    signal.sigtimedwait([signal.SIGWINCH], 0.05)
print(*reversed(os.get_terminal_size(0)), flush=True)
"""


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -15 $$", -15)]
)
def test_it_ends_as_the_command_does(script, status):
    assert piped("--", "sh", "-c", script).returncode == status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_gives_its_terminal_back_where_it_is_ended_at_its_start(number):
    """The terminal is raw before the rest of it is imported."""
    program = "import os; from dispatcher import cli; cli._run = lambda argv: os.kill(os.getpid(), %d); exit(cli.main(['hook']))"
    master, slave = os.openpty()
    try:
        before = termios.tcgetattr(slave)
        done = subprocess.run([sys.executable, "-c", program % number], stdin=slave, check=False)
        assert (done.returncode, termios.tcgetattr(slave)) == (128 + number, before)
    finally:
        os.close(master)
        os.close(slave)


def test_it_gives_its_terminal_back(hook):
    driver = hook("--", "sh", "-c", "echo on; read x")
    before = termios.tcgetattr(driver.slave)
    driver.until(b"on\r\n")
    during = termios.tcgetattr(driver.slave)
    assert before[3] & termios.ICANON or not during[3] & termios.ICANON
    assert not during[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    driver.type(b"\r")
    assert driver.end() == 0
    assert (
        termios.tcgetattr(driver.slave)[3] & (termios.ECHO | termios.ICANON) == termios.ECHO | termios.ICANON
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_reach_the_command(hook, number):
    driver = hook(
        "--",
        "sh",
        "-c",
        f"trap 'echo caught; exit 5' {number.name[3:]}; echo on; while :; do sleep 0.05; done",
    )
    driver.until(b"on\r\n")
    driver.process.send_signal(number)
    driver.until(b"caught\r\n")
    assert driver.end() == 5


def test_the_end_of_the_input_reaches_a_command_in_raw_mode():
    process = subprocess.Popen(
        [*HOOK, "--", "sh", "-c", "stty raw -echo; echo ready; wc -c"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables(),
        cwd=ROOT,
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"x" * 5000)
    process.stdin.close()
    assert process.stdout.read().split() == [b"5000"]
    assert process.wait(PATIENCE) == 0


def test_much_that_is_typed_waits_for_a_command_that_reads_slowly():
    data = os.urandom(3_000_000)
    done = piped("--", "sh", "-c", "sleep 0.5; cksum", data=data)
    expected = subprocess.run(["cksum"], input=data, capture_output=True, check=True).stdout
    assert done.stdout == expected


def test_much_output_waits_for_whoever_reads_slowly(tmp_path):
    process = subprocess.Popen(
        [*HOOK, "--", "sh", "-c", f"head -c 20000000 /dev/zero; echo done > {tmp_path}/done"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=variables(),
        cwd=ROOT,
    )
    assert process.stdout is not None
    first = process.stdout.read(1)
    assert not (tmp_path / "done").exists()
    rest = process.stdout.read()
    assert first + rest == bytes(20_000_000)
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_start_is_told(command, status):
    done = piped("--", command)
    assert done.returncode == status
    assert command.encode() in done.stderr


def test_usage():
    for arguments in (
        (),
        ("--serial", "/dev/ttyX", "--", "x"),
        ("--group-log", "x", "--coordinator", "y", "--", "true"),
    ):
        assert piped(*arguments).returncode == 2


# -- nothing is left ------------------------------------------------------------------------------

STUBBORN = "import os, signal, time; signal.signal(signal.SIGHUP, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(1000)"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_with_its_group_it_leaves_no_child_that_ignores_the_hang_up(hook, number):
    driver = hook("--", sys.executable, "-c", STUBBORN)
    pid = int(driver.until(b"\n"))
    os.killpg(driver.process.pid, number)
    assert driver.end() == -number
    wait_for(lambda: gone(pid), "the command is still there")


def test_when_its_terminal_goes_the_command_ends(hook):
    driver = hook("--", sys.executable, "-c", STUBBORN)
    pid = int(driver.until(b"\n"))
    os.close(driver.slave)
    os.close(driver.master)
    assert driver.end() == -signal.SIGHUP
    wait_for(lambda: gone(pid), "the command is still there")
    driver.master, driver.slave = os.openpty()


def test_when_nobody_reads_its_pipe_the_command_ends():
    process = subprocess.Popen(
        [*HOOK, "--", "yes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables(), cwd=ROOT
    )
    assert process.stdout is not None and process.stdin is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(PATIENCE) == -signal.SIGHUP
    process.stdin.close()


# -- ports ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def terminal_server(work: Callable[[socket.socket], object]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                work(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"
        thread.join(PATIENCE)


def test_a_port_instead_of_a_command(hook):
    def echo(connection: socket.socket) -> None:
        connection.sendall(b"=> ")
        connection.sendall(connection.recv(100)[::-1])

    with terminal_server(echo) as url:
        driver = hook("--serial", url)
        driver.until(b"=> ")
        driver.type(b"\x1dabc")
        driver.until(b"cba\x1d")
        driver.until(b"lost")
        assert driver.end() == 1


def test_a_port_of_another_speed_is_told(hook):
    with terminal_server(lambda connection: connection.sendall(b"\xff\xfe\x00\xe0" * 200 + b"\n")) as url:
        driver = hook("--serial", url)
        driver.until(b"lavabox: this prints no text; is the speed of its port wrong?\r\n")
        assert driver.end() == 1


def test_a_port_that_is_not_there_is_told():
    done = piped("--serial", "/dev/no-such-port")
    assert done.returncode == 1
    assert b"/dev/no-such-port" in done.stderr


# -- the device's commands ------------------------------------------------------------------------


@pytest.fixture
def commands(box: Path, tmp_path: Path) -> str:
    """Shell text that puts the box's commands into PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    subprocess.run([box, "--install", "-s", folder], check=True, stdout=subprocess.DEVNULL)
    return f"PATH={folder}:$PATH; unset LAVA_CONSOLE;"


def test_frames_are_taken_out_and_answered(commands):
    done = piped(
        *("--name", "panda01", "--role", "client", "--", "sh", "-c"),
        f"{commands} lava-self; lava-role; lava-send x a=b; lava-sync y; echo $?",
    )
    assert done.stdout.replace(b"\r", b"").split() == [b"panda01", b"client", b"0"]


def test_reports_come_out_as_signals_of_lava_inside_of_a_run(commands):
    script = f"""{commands}
        lava-test-case early --result pass
        echo '<LAVA_SIGNAL_STARTRUN 0_smoke u1>'
        lava-test-case 'a b' --result fail --measurement 1.5 --units MB/s
        printf half; lava-test-set start s; echo
        lava-sync y
        echo '<LAVA_SIGNAL_ENDRUN 0_smoke u1>'
        lava-test-case late --result pass"""
    done = piped("--signals", "--", "sh", "-c", script)
    assert done.stdout.replace(b"\r", b"").splitlines() == [
        b"<LAVA_SIGNAL_STARTRUN 0_smoke u1>",
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a%20b RESULT=fail MEASUREMENT=1.5 UNITS=MB/s>",
        b"half",
        b"<LAVA_SIGNAL_TESTSET START s>",
        b"",
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=multinode-sync-y RESULT=pass>",
        b"<LAVA_SIGNAL_ENDRUN 0_smoke u1>",
    ]


def test_without_a_job_of_lava_there_are_no_signals(commands):
    script = f"{commands} echo '<LAVA_SIGNAL_STARTRUN 0_smoke u1>'; lava-test-case a --result pass; echo end"
    done = piped("--", "sh", "-c", script)
    assert done.stdout.replace(b"\r", b"").splitlines() == [b"<LAVA_SIGNAL_STARTRUN 0_smoke u1>", b"end"]


def test_no_reply_is_typed_into_a_line_that_the_other_side_has_begun(hook, commands, tmp_path):
    """What LAVA types character by character stays whole, and the reply follows behind its end."""
    script = f"""{commands}
        mkfifo {tmp_path}/go; stty -echo
        (read x < {tmp_path}/go; lava-self > {tmp_path}/self; echo answered) &
        echo on; head -n 1 > {tmp_path}/typed; echo typed; wait"""
    driver = hook("--name", "panda01", "--", "bash", "-c", script)
    driver.until(b"on\r\n")
    driver.type(b"half")
    (tmp_path / "go").write_text("go\n")
    driver.type(b" a line\r")
    driver.until(b"typed\r\n")
    assert (tmp_path / "typed").read_text() == "half a line\n"


# -- who the device is ----------------------------------------------------------------------------

JOB = """\
job_name: test
protocols:
  lava-multinode:
    target_group: 1f9c
    role: server
    roles: {'12': client, '13': server}
    group_size: 2
    sub_id: '12.1'
"""


def started_by_lava(folder: Path, job: str, *arguments: str, script: str, job_id: str = "13") -> str:
    """What a hook prints whose parent's standard output is JOBDIR/stdout, on a pty of its own."""
    (folder / "job.yaml").write_text(job)
    (folder / "device.yaml").write_text("hostname: board-07\nsome: !include other\n")
    parent = (
        "import pty, sys, subprocess, os\n"
        "done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True)\n"
        "sys.stderr.buffer.write(done.stdout + done.stderr)\n"
    )
    with (folder / "stdout").open("wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-c", parent, *HOOK, *arguments, "--", "sh", "-c", script],
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=variables(LAVA_JOB_ID=job_id),
            cwd=ROOT,
            timeout=PATIENCE,
            check=True,
        )
    return done.stderr.decode().replace("\r", "")


def test_who_it_is_comes_from_the_job_of_lava(tmp_path, commands):
    assert started_by_lava(tmp_path, JOB, script=f"{commands} lava-self; lava-role").split() == [
        "13",
        "server",
    ]


def test_options_override_the_job_of_lava(tmp_path, commands):
    shown = started_by_lava(
        tmp_path, JOB, "--name", "panda01", "--role", "client", script=f"{commands} lava-self; lava-role"
    )
    assert shown.split() == ["panda01", "client"]


def test_under_lava_a_device_stays_in_its_group_when_its_console_ends(tmp_path):
    """LAVA connects again. Without LAVA it has ended."""
    log = tmp_path / "log"
    started_by_lava(tmp_path, JOB, "--group-log", str(log), script="true")
    assert '"joined"' in log.read_text() and '"left"' not in log.read_text()
    log.unlink()
    assert piped("--group-log", str(log), "--", "true").returncode == 0
    assert '"left"' in log.read_text()


def test_under_lava_signals_are_written(tmp_path, commands):
    script = f"{commands} echo '<LAVA_SIGNAL_STARTRUN 0_x u>'; lava-test-case a --result pass"
    assert "RESULT=pass>" in started_by_lava(tmp_path, "job_name: single\n", script=script)


# -- programs that reach a console -----------------------------------------------------------------


@pytest.fixture
def board(box: Path, commands: str, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Offers a board by socat, at an address of socat's; returns what socat has said of it."""
    script = tmp_path / "board"
    script.write_text(
        f"#!/bin/bash\n{commands}\nstty -echo\nread go; lava-self; lava-sync end; echo over $?\nsleep 60\n"
    )
    script.chmod(0o755)
    started: list[subprocess.Popen[str]] = []

    def offer(address: str) -> str:
        process = subprocess.Popen(
            ["socat", "-d", "-d", address, f"EXEC:{script},pty,setsid,ctty,stderr"],
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        return next(line for line in process.stderr if "listening on" in line or "PTY is" in line)

    yield offer
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("program", ["telnet", "socat", "picocom"])
def test_a_program_that_reaches_a_console(hook, board, program):
    if shutil.which(program) is None or shutil.which("socat") is None:
        pytest.skip(f"needs {program} and socat")
    if program == "picocom":
        command = ["picocom", board("PTY,raw,echo=0").split()[-1]]
    else:
        port = re.findall(r":(\d+)", board("TCP-LISTEN:0,bind=127.0.0.1"))[-1]
        command = (
            ["telnet", "127.0.0.1", port] if program == "telnet" else ["socat", "-", f"TCP:127.0.0.1:{port}"]
        )
    driver = hook("--name", "panda01", "--", *command)
    # Each drops what is typed before.
    if program != "socat":
        driver.until({"telnet": b"Escape character is", "picocom": b"Terminal ready"}[program])
    driver.type(b"go\r" if program != "socat" else b"go\n")
    assert b"\x1b]5282" not in driver.until(b"panda01") + driver.until(b"over 0")


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("tmux attach", "tmux"),
        ("/usr/bin/minicom -D /dev/ttyUSB0", "minicom"),
        ("ssh -tt lab screen /dev/ttyUSB0 115200", "screen"),
        ("ssh screen picocom /dev/ttyUSB0", None),
        ("telnet localhost 7001", None),
        ("", None),
    ],
)
def test_programs_that_keep_frames_are_known(command, program):
    assert keeps_frames(command.split()) == program


def test_a_program_that_keeps_frames_is_told_of(tmp_path):
    (tmp_path / "tmux").write_text("#!/bin/sh\necho on\n")
    (tmp_path / "tmux").chmod(0o755)
    done = piped("--", str(tmp_path / "tmux"))
    assert (done.returncode, done.stdout) == (0, b"on\n")
    assert b"tmux drops the frames of the lava-* commands" in done.stderr


# -- the box in the place of the shell that LAVA's runner starts ------------------------------------

RUN_SH = """\
set -e
export TESTRUN_ID=0_two
cd {folder}
UUID=`cat uuid`
echo "<LAVA_SIGNAL_STARTRUN $TESTRUN_ID $UUID>"
lava-test-case 'a b' --result pass
echo shell $SHELL $1
{step}
echo "<LAVA_SIGNAL_ENDRUN $TESTRUN_ID $UUID>"
"""


def lava_definition(tmp_path: Path, step: str) -> Path:
    """The run.sh of a definition as LAVA's overlay has it, in which commands of LAVA's own would fail."""
    folder = tmp_path / "lava-13" / "0" / "tests" / "0_two"
    folder.mkdir(parents=True)
    (folder / "uuid").write_text("13_1.2.3\n")
    (folder / "run.sh").write_text(RUN_SH.format(folder=folder, step=step))
    (tmp_path / "lava-13" / "bin").mkdir()
    (tmp_path / "lava-13" / "bin" / "lava-test-shell").write_text("#!/bin/bash\n\nset +x\n")
    return folder / "run.sh"


@pytest.mark.parametrize(
    ("step", "end"),
    [
        (":", [b"<LAVA_SIGNAL_ENDRUN 0_two 13_1.2.3>", b"status 0"]),
        # LAVA records a run that has no end as failed.
        ("false", [b"status 1"]),
    ],
)
def test_the_box_is_the_shell_of_lavas_runner(tmp_path, box, step, end):
    script = lava_definition(tmp_path, step)
    command = f"unset LAVA_CONSOLE; SHELL={box}; export SHELL; ${{SHELL}} -e {script} one; echo status $?"
    done = piped("--signals", "--", "sh", "-c", command)
    assert done.stdout.replace(b"\r", b"").splitlines() == [
        b"<LAVA_SIGNAL_STARTRUN 0_two 13_1.2.3>",
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a%20b RESULT=pass>",
        b"shell /bin/bash one",
        *end,
    ]


def test_without_a_dispatcher_the_box_is_a_shell_and_no_more(tmp_path, box):
    script = lava_definition(tmp_path, ":")
    (tmp_path / "lava-test-case").write_text("#!/bin/sh\necho LAVA: $1\n")
    (tmp_path / "lava-test-case").chmod(0o755)
    done = subprocess.run(
        [box, "-e", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LAVA_CONSOLE": "off", "SHELL": str(box)},
        capture_output=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        b"<LAVA_SIGNAL_STARTRUN 0_two 13_1.2.3>",
        b"LAVA: a b",
        b"shell /bin/bash",
        b"<LAVA_SIGNAL_ENDRUN 0_two 13_1.2.3>",
    ]
    assert b"is run as it is" in done.stderr
    for arguments, shown in ((["-c", "echo $0 $1", "x", "y"], b"x y\n"), (["-e", "-c", "echo z"], b"z\n")):
        assert subprocess.run([box, *arguments], capture_output=True, check=True).stdout == shown


# -- where only LAVA's own coordinator is there ----------------------------------------------------


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The folder of a job of LAVA."""
    folder = tmp_path / "13"
    folder.mkdir()
    (folder / "job.yaml").write_text(JOB)
    (folder / "device.yaml").write_text("hostname: board-07\n")
    return folder


def test_requests_are_handed_on_to_lava_and_its_typed_answers_are_replies(hook, commands, job, tmp_path):
    cache = tmp_path / "cache"
    script = f"""{commands} export LAVA_MULTI_NODE_CACHE={cache}
        lava-send early; echo early $?
        echo '<LAVA_SIGNAL_STARTRUN 0_x u1>'
        lava-role list; lava-send ready server-ip='a  b' port=80; echo sent $?
        lava-wait go; echo went $?; cat {cache}
        printf prompt; lava-sync end; echo synced $?
        lava-lock x; echo locked $?
        lava-wait-all ready nobody; echo waited $?
        head -n 1; echo '<LAVA_SIGNAL_ENDRUN 0_x u1>'"""
    driver = hook("--coordinator", "lava", "--", "bash", "-c", script, job=job, LAVA_JOB_ID="13")
    assert b"only in a test run" in driver.until(b"early 1\r\n")
    assert driver.until(b"sent 0\r\n").splitlines()[1:] == [
        b"client",
        b"server",
        b"<LAVA_MULTI_NODE> <LAVA_SEND ready __server_2Dip=__a_20_20b port=80>",
        b"sent 0",
    ]
    driver.until(b"<LAVA_MULTI_NODE> <LAVA_WAIT go>\r\n")
    driver.type(b"<LAVA_WAIT_COMPLETE 12:")
    driver.type(b"__a_2Db=__1_202>\n\n")
    driver.type(b"\n")
    assert driver.until(b"went 0\r\na-b=1 2\r\n").count(b"LAVA") == 0
    assert driver.until(b"<LAVA_MULTI_NODE> <LAVA_SYNC end>\r\n").startswith(b"prompt\r\n<LAVA")
    driver.type(b"<LAVA_SYNC_COMPLETE>\n\n\n")
    assert b"multinode" not in driver.until(b"synced 0\r\n")  # LAVA records it itself
    assert b"lavabox coordinator" in driver.until(b"locked 1\r\n")
    # LAVA knows nothing of what failed here.
    assert b"TEST_CASE_ID=multinode-wait_all-ready RESULT=fail" in driver.until(b"waited 1\r\n")
    driver.type(b"<LAVA_SYNC_COMPLETE>\r")
    driver.until(b"<LAVA_SYNC_COMPLETE>")
    driver.until(b"<LAVA_SIGNAL_ENDRUN 0_x u1>")
    assert driver.end() == 0


def test_a_job_without_a_group_has_nothing_to_hand_on():
    done = piped("--coordinator", "lava", "--", "true")
    assert done.returncode == 2
    assert b"MultiNode job of LAVA" in done.stderr


# -- groups of several hooks ----------------------------------------------------------------------


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "coordinator")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "dispatcher", "coordinator"),
            *("--lava", "", "--socket", path, "--group-log", tmp_path / "groups"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=variables(),
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert b"hooks connect to" in process.stdout.readline()
    yield path
    process.terminate()
    process.communicate(timeout=PATIENCE)


def test_hooks_meet_in_a_group_of_a_coordinator(tmp_path, hook, commands, coordinator):
    cache = tmp_path / "cache"  # the usual one is every other test's, too
    common = ("--coordinator", coordinator, "--group", "g")
    wait = f"export LAVA_MULTI_NODE_CACHE={cache}; {commands} lava-wait x; cat {cache}; echo got $?"
    send = f"echo here; until [ -e {tmp_path}/go ]; do sleep 0.1; done; {commands} lava-send x key='a  b'; echo sent $?"
    second = hook(*common, "--name", "b", "--role", "server", "--", "bash", "-c", send)
    # In a group of one, which nobody has declared, a wait would fail at once.
    second.until(b"here")
    first = hook(*common, "--name", "a", "--role", "client", "--", "bash", "-c", wait)
    (tmp_path / "go").touch()
    second.until(b"sent 0")
    assert b"key=a  b" in first.until(b"got 0")
    assert (first.end(), second.end()) == (0, 0)


CRASHING_BOARD = """
import os, signal, subprocess, sys, termios, tty
console = os.ttyname(0)
modes = termios.tcgetattr(0)
for number, sign in enumerate(sys.argv[2:]):
    command = subprocess.Popen(["lava-wait", f"go{number}"])
    open(sys.argv[1]).close()
    # The agent first: it would tell that its command is gone.
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fds = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            if console in fds and open(f"/proc/{pid}/comm").read() == "lavabox-agent\\n":
                os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
    command.kill()
    tty.setraw(0)
    os.write(1, eval(sign))
    # The answer to the command's request may still come.
    typed = b""
    while not typed.endswith(b"begin\\r"):
        typed += os.read(0, 1000)
    os.write(1, b"begun\\r\\n")
    typed = b""
    for end in (b"one\\r", b"two\\r"):
        while not typed.endswith(end):
            typed += os.read(0, 1000)
        os.write(1, b"typed %a\\r\\n" % typed)
    termios.tcsetattr(0, termios.TCSADRAIN, modes)
    print("got", number, subprocess.call(["lava-wait", f"go{number}"]), flush=True)
"""
SIGNS = (
    b"\r\nU-Boot 2024.01 (Jan 08 2024)\r\n\r\nHit any key to stop autoboot:  5 ",
    b"\r\n[    0.000000] Booting\r\n",
)


def test_a_reply_never_stops_an_autoboot(tmp_path, hook, commands, coordinator):
    """The board crashes while a command waits, its boot loader counts down, and then the message comes."""
    common = ("--coordinator", coordinator, "--group", "g", "--name")
    send = f"{commands} stty -echo; echo here; while read n; do lava-send go$n; echo sent $n; done"
    other = hook(*common, "b", "--", "bash", "-c", send)
    other.until(b"here")
    board = tmp_path / "board.py"
    board.write_text(CRASHING_BOARD)
    crash = tmp_path / "crash"
    os.mkfifo(crash)
    words = ("bash", "-c", f'{commands} exec "$@"', "bash", sys.executable, board, crash, *map(repr, SIGNS))
    driver = hook(*common, "a", "--", *words, LAVA_MULTI_NODE_CACHE=str(tmp_path / "cache"))
    log = tmp_path / "groups" / "g.jsonl"

    def until_logged(text: str, times: int) -> None:
        wait_for(lambda: log.read_text().count(text) == times, f"{text} is {times} times in the group's log")

    for number, sign in enumerate(SIGNS):
        until_logged('"waiting"', 2 * number + 1)
        crash.write_bytes(b"")
        driver.until(sign)
        driver.type(b"begin\r")
        driver.until(b"begun\r\n")
        other.type(b"%d\r" % number)
        other.until(b"sent %d\r\n" % number)
        # After the second turn the hook has also taken what its coordinator had to say.
        driver.type(b"one\r")
        driver.until(rb"typed b'one\r'")
        driver.type(b"two\r")
        driver.until(rb"typed b'one\rtwo\r'")
        driver.until(b"got %d 0" % number)


def test_a_second_hook_of_a_job_is_normal_and_one_of_another_job_is_refused(
    tmp_path, hook, commands, coordinator
):
    by_job = {}
    for job in ("13", "14"):
        by_job[job] = tmp_path / job
        by_job[job].mkdir()
    holder = (
        "import os, sys, subprocess\n"
        "process = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "process.stdout.readline()\n"
        "sys.stderr.write('holds\\n'); sys.stderr.flush()\n"
        "sys.stdin.read(); process.stdin.close(); process.wait()\n"
    )
    for folder in by_job.values():
        (folder / "job.yaml").write_text(JOB)
        (folder / "device.yaml").write_text("hostname: board-07\n")
    with (by_job["13"] / "stdout").open("wb") as stdout:
        first = subprocess.Popen(
            [
                sys.executable,
                "-c",
                holder,
                *HOOK,
                "--coordinator",
                coordinator,
                "--",
                "sh",
                "-c",
                "echo on; cat",
            ],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=variables(LAVA_JOB_ID="13"),
            cwd=ROOT,
        )
    assert first.stderr is not None and first.stdin is not None
    assert first.stderr.readline() == b"holds\n"
    again = started_by_lava(by_job["13"], JOB, "--coordinator", coordinator, script=f"{commands} lava-self")
    assert again.split() == ["13"]
    other = started_by_lava(by_job["14"], JOB, "--coordinator", coordinator, script="echo on", job_id="14")
    assert "board-07" in other and "13" in other and "on\n" not in other
    first.stdin.close()
    assert first.wait(PATIENCE) == 0
    first.stderr.close()
