# SPDX-License-Identifier: MIT
"""`lavabox serve`, whole: boards behind a serial line, a socket and a command, which talk to each other."""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.commands.serve import parse_consoles
from dispatcher.errors import UsageError
from dispatcher.group.events import Event, Founded, Joined, Reported, Waiting, WaitKind, to_json
from tests.dispatcher.lavabox_process import PATIENCE, Lavabox, variables


@pytest.fixture(scope="module")
def commands(box: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lava-* commands."""
    folder = tmp_path_factory.mktemp("commands")
    subprocess.run([box, "--install", "-s", folder], check=True)
    # For the box to be started by.
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    return folder


class Board:
    """A device: a shell on a tty, whose other end is copied to and from a line."""

    def __init__(self, command: str, commands: Path, caches: Path) -> None:
        self._master, slave = pty.openpty()
        caches.mkdir()
        environment = {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "LAVA_CONSOLE": os.ttyname(slave),
            "LAVA_MULTI_NODE_CACHE": str(caches / "cache"),
        }
        self._command = command
        self._environment = environment
        self._slave = slave
        self._wake_reader, self._wake_writer = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def run(self, line: int) -> None:
        """Start the shell, connected to the line."""
        self._thread = threading.Thread(target=self._copy, args=(line,), daemon=True)
        self._thread.start()
        self._process = subprocess.Popen(
            ["setsid", "/bin/sh", "-c", self._command],
            env=self._environment,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
        )

    def _copy(self, line: int) -> None:
        ends = {line: self._master, self._master: line}
        while True:
            ready, _, _ = select.select([*ends, self._wake_reader], [], [])
            if self._wake_reader in ready:
                return
            for end in ready:
                try:
                    data = os.read(end, 4096)
                    os.write(ends[end], data)
                except OSError:
                    return
                if not data:
                    return

    def stop(self) -> None:
        if self._process is not None:
            self._process.wait(PATIENCE)
        os.write(self._wake_writer, b".")
        if self._thread is not None:
            self._thread.join(PATIENCE)
        for descriptor in (self._master, self._slave, self._wake_reader, self._wake_writer):
            os.close(descriptor)


@pytest.fixture
def serial_line() -> Iterator[tuple[int, str]]:
    """The device's end, and the name that serve opens."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(slave)
    os.close(master)


def test_three_kinds_of_consoles(commands: Path, tmp_path: Path, serial_line: tuple[int, str]) -> None:
    line, path = serial_line
    script = (
        "lava-send {0} k=$(lava-self); "
        "for id in one two three; do [ $id = {0} ] || lava-wait $id; done; lava-sync x"
    )
    log = "; cat $LAVA_MULTI_NODE_CACHE; printf 'the end of %s\\n' $(lava-role)"
    boards = [Board(script.format(number) + log, commands, tmp_path / number) for number in ("one", "two")]
    exec_script = tmp_path / "run.sh"
    exec_script.write_text(
        "stty sane\n"
        f"export LAVA_CONSOLE=$(tty) PATH={commands}:$PATH LAVA_MULTI_NODE_CACHE={tmp_path}/cache\n"
        + script.format("three")
        + log
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Lavabox(
            "serve",
            *("--console", f"panda01:client={path}"),
            *("--console", f"hb01:server=socket://127.0.0.1:{listener.getsockname()[1]}"),
            *("--console", f"vm:other=exec:sh {exec_script}"),
            *("--log-dir", "logs"),
            cwd=tmp_path,
        ) as process,
    ):
        connection, _ = listener.accept()
        with connection:
            boards[0].run(line)
            boards[1].run(connection.fileno())
            process.until_all(
                "end of client", "end of server", "end of other", "vm      ! ended with status 0"
            )
            process.interrupt()
            assert process.finish() == 0
            for board in boards:
                board.stop()
    assert "panda01 | the end of client\n" in process.text
    assert "hb01    | the end of server\n" in process.text
    assert process.text.endswith("  s\n") or process.text.rstrip().endswith(" s")
    for name, role, result in (
        ("panda01", "client", "connected"),
        ("hb01", "server", "connected"),
        ("vm", "other", "succeeded"),
    ):
        assert f"\n{name:<7}  {role:<6}  {result:<9}  " in process.text
    assert (tmp_path / "logs" / "panda01.log").read_bytes() == b"the end of client\r\n"
    assert (tmp_path / "logs" / "vm.log").read_bytes() == b"the end of other\r\n"


def test_connection_is_lost_and_comes_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"socket://127.0.0.1:{listener.getsockname()[1]}"
        with Lavabox("serve", "--console", f"a:b={address}", cwd=tmp_path) as process:
            connection, _ = listener.accept()
            connection.sendall(b"no line end")
            # It is shown as it is.
            process.until("a | no line end")
            connection.close()
            process.until("a ! connection lost (the other end closed the connection); trying again")
            connection, _ = listener.accept()
            process.until("a ! connected again")
            connection.sendall(b"and on\n")
            process.until("and on")
            process.interrupt(signal.SIGTERM)
            assert process.finish() == 0
            connection.close()


def test_the_live_status_says_that_a_connection_is_lost(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"socket://127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher", "serve", "--console", f"a:b={address}"],
            cwd=tmp_path,
            env=variables(TERM="xterm", CI=""),
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        text = b""

        def until(wanted: bytes) -> None:
            nonlocal text
            while wanted not in text:
                assert select.select([master], [], [], PATIENCE)[0], text
                text += os.read(master, 4096)

        connection, _ = listener.accept()
        until(b"a  running")
        connection.close()
        listener.close()
        until(b"a  offline    connection lost (the other end closed the connection)")
        process.send_signal(signal.SIGTERM)
        # What it writes now, the terminal has room for.
        assert process.wait(PATIENCE) == 0
    os.close(master)


def test_all_commands_have_ended(tmp_path: Path) -> None:
    with Lavabox(
        *("serve", "--console", "a:x=exec:echo hello", "--console", "b:x=exec:exit 3"), cwd=tmp_path
    ) as process:
        assert process.finish() == 1
    assert "a | hello\n" in process.text
    assert "b ! ended with status 3\n" in process.text


def test_logs_go_on(tmp_path: Path) -> None:
    for _ in range(2):
        with Lavabox(
            *("serve", "--console", "a:x=exec:echo hello", "--log-dir", "logs"), cwd=tmp_path
        ) as process:
            assert process.finish() == 0
    assert (tmp_path / "logs" / "a.log").read_bytes() == b"hello\r\nhello\r\n"


def test_group_goes_on(commands: Path, tmp_path: Path) -> None:
    """A dispatcher that is started again has what was sent before."""
    setup = (
        f"export LAVA_CONSOLE=$(tty) PATH={commands}:$PATH LAVA_MULTI_NODE_CACHE={tmp_path}/cache; stty sane"
    )
    (tmp_path / "send.sh").write_text(f"{setup}; lava-send x k=v")
    (tmp_path / "wait.sh").write_text(f"{setup}; lava-wait x; cat {tmp_path}/cache")
    for consoles in (["a:r=exec:sh send.sh", "b:r=exec:true"], ["b:r=exec:sh wait.sh"]):
        options = [argument for console in consoles for argument in ("--console", console)]
        with Lavabox("serve", *options, "--group-log", "group.jsonl", cwd=tmp_path) as process:
            assert process.finish() == 0
    assert "b | k=v\n" in process.text


# Restarted on an old log


def old_log(folder: Path, *events: Event) -> None:
    """A log whose group has a server and a client, and these events."""
    began = time.time() - 1000.0
    whole = (
        Founded(began, b"founded"),
        Joined(began, "old", b"j1", "server"),
        Joined(began, "a", b"j2", "client"),
        *events,
    )
    (folder / "group.log").write_text("".join(json.dumps(to_json(event)) + "\n" for event in whole))


def open_wait(device: str, timeout: float | None = None) -> Waiting:
    identity = device.encode().ljust(8, b"-")
    return Waiting(time.time() - 900.0, device, identity, WaitKind.WAIT, b"never", None, timeout)


def test_results_and_waits_of_a_device_that_is_not_there_now(tmp_path: Path) -> None:
    """The log knows it, the command line does not: it is told of, and nothing falls over."""
    failed = Reported(time.time() - 800.0, "old", b"r" * 8, "result", ("x", "fail", None, None), 0)
    old_log(tmp_path, failed, open_wait("old"), open_wait("a"))
    consoles = ("--console", "a:client=exec:sleep 1000", "--group-log", "group.log")
    options = ("--grace", "0.5", "--fail-dead-ends", "--junit", "junit.xml")
    with Lavabox("serve", *consoles, *options, cwd=tmp_path) as process:
        process.until("lavabox: the group goes on where its log ends: 2 devices")
        process.until("lavabox: dead end: old and a have waited 15 min")
        process.until("a = fail  multinode-wait-never")
        process.interrupt()
        assert process.finish() == 0
    assert "Traceback" not in process.text
    # The other result is of long ago, and so no news.
    assert process.text.count("= fail") == 1
    events = [json.loads(line) for line in (tmp_path / "group.log").read_text().splitlines()]
    released = [event for event in events if event["type"] == "released"]
    assert {event["status"] for event in released} == {1}
    assert len(released) == 2
    assert 'hostname="old"' in (tmp_path / "junit.xml").read_text()


def test_a_changed_role_is_refused(tmp_path: Path) -> None:
    old_log(tmp_path)
    consoles = ("--console", "b:x=exec:echo ran", "--console", "a:server=exec:echo ran")
    with Lavabox("serve", *consoles, "--group-log", "group.log", cwd=tmp_path) as process:
        assert process.finish() == 1
    told = "lavabox serve: a has the role 'client' in this group, not 'server'; "
    assert told + "change that, or name a new file with --group-log\n" in process.text
    assert "| ran" not in process.text


def test_a_wait_whose_time_is_over_ends_without_a_byte_from_a_console(tmp_path: Path) -> None:
    old_log(tmp_path, open_wait("a", timeout=60.0))
    consoles = ("--console", "a:client=exec:sleep 1000", "--group-log", "group.log")
    with Lavabox("serve", *consoles, cwd=tmp_path) as process:
        process.until("lavabox: the group goes on where its log ends: 2 devices")
        while "released" not in (tmp_path / "group.log").read_text():
            time.sleep(0.01)
        process.interrupt()
        assert process.finish() == 0
    (released,) = [
        event
        for event in map(json.loads, (tmp_path / "group.log").read_text().splitlines())
        if event["type"] == "released"
    ]
    assert released["status"] == 1
    assert released["reason"].startswith("timed out waiting for 'never' from old")


REFUSED = {
    "no console": ((), 2, "lavabox serve: there is no console"),
    "no role": (("--console", "a=/dev/null"), 2, "write NAME:ROLE=URL"),
    "no address": (("--console", "a:b="), 2, "write NAME:ROLE=URL"),
    "a name": (("--console", "a/:b=loop://"), 2, "can't have '/' in it"),
    "twice": (("--console", "a:b=loop://", "--console", "a:c=loop://"), 2, "two devices are called a"),
    "a console twice": (
        ("--console", "a:b=/dev/ttyS77", "--console", "c:d=/dev/../dev/ttyS77"),
        2,
        "a has this console already",
    ),
    "a speed": (("--speed", "0", "--console", "a:b=loop://"), 2, "--speed 0"),
    "no such protocol": (("--console", "a:b=nosuch://"), 1, "there is no nosuch://"),
    "no command": (("--console", "a:b=exec:"), 1, "the command is missing"),
    "a port that is no terminal": (("--console", "a:b=/dev/null"), 1, "lavabox serve: /dev/null: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    arguments, expected, message = REFUSED[name]
    with Lavabox("serve", *arguments, cwd=tmp_path) as process:
        status = process.finish()
    assert (status, message in process.text) == (expected, True), process.text
    assert "Traceback" not in process.text


@pytest.mark.parametrize("address", ["/dev/nosuch", "socket://127.0.0.1:1"])
def test_one_console_that_can_not_be_opened_leaves_the_others_alone(address: str, tmp_path: Path) -> None:
    with Lavabox(
        *("serve", "--console", f"b:x={address}", "--console", "a:x=exec:echo hello; sleep 1000"),
        cwd=tmp_path,
    ) as process:
        process.until_all(f"b ! {address}: ", "trying again", "a | hello")
        process.interrupt()
        assert process.finish() == 0
    assert "\nb       x     not connected  " in process.text


def test_a_console_that_has_no_connection_when_the_time_is_over(tmp_path: Path) -> None:
    with Lavabox("serve", "--timeout", "0.5", "--console", "a:x=/dev/nosuch", cwd=tmp_path) as process:
        assert process.finish() == 1
    assert "a ! has no connection to its console\n" in process.text


def test_console_that_comes_later(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    with Lavabox("serve", "--console", f"a:x=socket://127.0.0.1:{port}", cwd=tmp_path) as process:
        process.until("trying again")
        with socket.create_server(("127.0.0.1", port)) as listener:
            connection, _ = listener.accept()
            connection.sendall(b"here\r\n")
            process.until("a ! connected\n")
            process.until("a | here")
            connection.close()
            process.until("a ! connection lost (the other end closed the connection); trying again")
            connection, _ = listener.accept()
            process.until("a ! connected again")
            connection.close()
        process.interrupt()
        assert process.finish() == 0


def test_address_may_hold_anything() -> None:
    (device,) = parse_consoles(["a:b=exec:x='1' y=2; z"], 9600)
    assert (device.name, device.role, device.console.address) == ("a", "b", "exec:x='1' y=2; z")
    with pytest.raises(UsageError):
        parse_consoles(["a:b:c=loop://"], 9600)


# Silence


def waiting_for_each_other(commands: Path, folder: Path) -> list[str]:
    setup = (
        f"export LAVA_CONSOLE=$(tty) PATH={commands}:$PATH LAVA_MULTI_NODE_CACHE={folder}/cache; stty sane"
    )
    (folder / "a.sh").write_text(f"{setup}; lava-wait x; echo status $?; lava-send y")
    (folder / "b.sh").write_text(f"{setup}; lava-wait y || echo status $?")
    return ["--console", "a:r=exec:sh a.sh", "--console", "b:r=exec:sh b.sh"]


def test_a_dead_end_is_told_after_a_while(commands: Path, tmp_path: Path) -> None:
    consoles = waiting_for_each_other(commands, tmp_path)
    with Lavabox("serve", "--grace", "2", *consoles, cwd=tmp_path) as process:
        process.until("lavabox: dead end: ")
        process.until("lavabox: So a and b wait for each other")
        process.interrupt()
        assert process.finish() == 0
    assert "a never sent 'y' and waits itself in `lava-wait x`" in process.text
    assert "status" not in process.text
    assert process.text.count("dead end") == 1


def test_a_dead_end_fails_if_it_is_to(commands: Path, tmp_path: Path) -> None:
    consoles = waiting_for_each_other(commands, tmp_path)
    with Lavabox("serve", "--grace", "2", "--fail-dead-ends", *consoles, cwd=tmp_path) as process:
        process.until_all("a | status 1", "b | status 1")
        assert process.finish() == 1
    assert "a | lava-wait: dead end: b never sent 'x' and waits itself in `lava-wait y`\n" in process.text
    assert "  1 failed result, after a dead end  " in process.text


@pytest.mark.parametrize(
    "arguments", [("--grace", "-1"), ("--grace", "nan"), ("--grace", "0", "--fail-dead-ends")]
)
def test_grace_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with Lavabox("serve", "--console", "a:b=loop://", *arguments, cwd=tmp_path) as process:
        assert process.finish() == 2
    assert "--grace" in process.text


def test_it_ends_after_its_time(tmp_path: Path) -> None:
    arguments = ("serve", "--timeout", "0.5s", "--console", "a:x=exec:exec sleep 1000")
    with Lavabox(*arguments, cwd=tmp_path) as process:
        assert process.finish() == 0
    assert "lavabox: timed out: the run was ended after 0.5 s\na ! is still running" in process.text
