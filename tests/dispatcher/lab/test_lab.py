# SPDX-License-Identifier: MIT
"""`lavabox serve LAB.toml` as a process, with consoles that are shells with the box: what it offers, and what changes."""

import contextlib
import hashlib
import json
import os
import pty
import random
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
import tty
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import serial

from dispatcher.host.strangers import MAX_STRANGERS
from dispatcher.lab.control import call, connect
from dispatcher.lab.offers import MAX_CLIENTS
from tests.dispatcher.host.lavaclient import Job
from tests.dispatcher.lavabox_process import PATIENCE, ROOT, Lavabox, variables
from tests.dispatcher.report.test_flow_page import CHROMIUM, OPTIONS
from toolkit.commands import COMMANDS


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lava-* commands."""
    folder = tmp_path_factory.mktemp("commands")
    box = folder / "box"
    subprocess.run(
        [sys.executable, ROOT / "build_zipapp.py", "-o", box], check=True, stdout=subprocess.DEVNULL
    )
    for command in COMMANDS:
        (folder / command).symlink_to(box)
    return folder


class Served:
    """A lab that is being served: its process, and its command lines."""

    def __init__(
        self,
        directory: Path,
        text: str,
        commands: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.control = str(directory / "control")
        self.environment = {
            "PATH": f"{commands}{os.pathsep}{variables()['PATH']}",
            "LAVA_MULTI_NODE_CACHE": "cache",
            **(environment or {}),
        }
        self.file = directory / "lab.toml"
        self.text = text
        self.write(text)
        self._options = options
        self.start()

    def write(self, text: str) -> None:
        self.file.write_text(f'control = "{self.control}"\n{text}')

    def start(self) -> None:
        self.process = Lavabox(
            "serve", str(self.file), *self._options, cwd=self.directory, environment=self.environment
        )
        self.process.until("control by")

    def run(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "dispatcher", command, "--control", self.control, *rest],
            env=variables(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            **more,
        )

    def type(self, name: str, text: str, awaited: str) -> str:
        """Type to a device, and return what it prints, up to `awaited`."""
        connection, response, early = connect(self.control, {"do": "console", "device": name, "write": True})
        with connection:
            assert response == {"ok": True}
            connection.sendall(text.encode())
            return until(connection, awaited, early)

    def status(self) -> dict[str, Any]:
        status = call(self.control, {"do": "status"})["status"]
        assert isinstance(status, dict)
        return status

    def until(self, holds: Any) -> dict[str, Any]:
        """Ask for the status until it is so."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            status = self.status()
            if holds(status):
                return status
            time.sleep(0.02)
        raise AssertionError(f"did not come: {status}\n{self.process.text}")


SHELL = 'exec:PS1=\\"ready> \\" exec sh -i'


def device(name: str, role: str = "client", **more: str) -> str:
    settings = {"console": SHELL.replace('\\"', "'"), "role": role, **more}
    return f"[devices.{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in settings.items())


@pytest.fixture
def served(tmp_path: Path, commands: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    port = socket.socket()
    port.bind(("127.0.0.1", 0))
    number = port.getsockname()[1]
    port.close()
    text = 'log-dir = "logs"\ngroup-log = "groups"\n[groups.lab]\nsize = 2\n'
    text += device("one", tcp=f"127.0.0.1:{number}", pty=str(tmp_path / "terminal")) + device("two", "server")
    lab = Served(tmp_path, text, commands, "--http", "127.0.0.1:0")
    lab.port = number  # type: ignore[attr-defined]
    try:
        yield lab
    finally:
        # Perhaps it was started again.
        lab.process.__exit__(None, None, None)


def until(connection: socket.socket, text: str, seen: bytes = b"") -> str:
    connection.settimeout(PATIENCE)
    while text.encode() not in seen:
        data = connection.recv(65536)
        assert data, seen
        # Only the newest of a flood: this is to be a client that keeps up.
        seen = seen[-4096:] + data
    return seen.decode(errors="replace")


def test_commands_are_answered_and_a_person_types_meanwhile(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as one:  # type: ignore[attr-defined]
        one.sendall(b"lava-sync both && echo passed-$((40+2))\n")
        status = served.until(lambda status: any(d["waits"] for d in status["devices"]))
        (waits,) = [d["waits"] for d in status["devices"] if d["name"] == "one"]
        assert waits[0]["command"] == "lava-sync both" and waits[0]["for"] == ["two"]
        text = served.run("status").stdout
        told = json.loads(served.run("status", "--json").stdout)
        assert told["devices"][0]["waits"][0]["for"] == ["two"] and told["groups"][0]["name"] == "lab"
        assert "lava-sync both for two" in text and "group lab: 2 devices" in text
        typed = served.type("two", "lava-sync both; lava-self; echo all-$((40+2))\n", "all-42")
        assert "two" in typed and "\x1b]5282" not in typed
        seen = until(one, "passed-42")
        assert "\x1b]5282" not in seen
    log = (served.directory / "logs" / "one.log").read_text()
    assert "passed-42" in log and "5282" not in log
    stamped = (served.directory / "logs" / "one.time.log").read_text()
    assert "Z" not in stamped and any(
        line[:2] == "20" and "passed-42" in line for line in stamped.splitlines()
    )


def test_a_restart_of_a_device_and_of_the_lab_keeps_its_waits(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as one:  # type: ignore[attr-defined]
        one.sendall(b"lava-send ready k=v && echo sent-$((40+2))\n")
        until(one, "sent-42")
    assert served.run("ctl", "restart", "one").returncode == 0
    served.process.interrupt(signal.SIGTERM)
    assert served.process.finish() == 0
    served.start()
    served.type("two", "lava-wait ready; cat $LAVA_MULTI_NODE_CACHE\n", "k=v")
    assert "k=v" in (served.directory / "logs" / "two.log").read_text()


def test_devices_are_added_removed_and_groups_ended(served: Served) -> None:
    assert served.run("ctl", "add", "three", "console=exec:cat", "role=client", "group=more").returncode == 0
    assert [d["name"] for d in served.status()["devices"]] == ["one", "two", "three"]
    again = served.run("ctl", "add", "three", "console=exec:cat")
    assert again.returncode == 1 and "three is in the lab already" in again.stderr
    bad = served.run("ctl", "add", "four", "console=exec:cat", "spede=9600")
    assert bad.returncode == 1 and "did you mean 'speed'?" in bad.stderr
    assert served.run("ctl", "remove", "three").returncode == 0
    assert served.run("ctl", "remove", "three").returncode == 1
    assert served.run("ctl", "end-group", "lab").returncode == 0
    status = served.until(lambda status: all(d["connected"] for d in status["devices"]))
    assert sorted(d["name"] for d in status["devices"]) == ["one", "two"]
    assert len(list((served.directory / "groups" / "ended").iterdir())) == 1
    assert served.run("ctl", "end-group", "nowhere").returncode == 1
    assert served.run("ctl", "remove").returncode == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_dead_end_is_told_and_may_fail(tmp_path: Path, commands: Path, fails: bool) -> None:
    text = f"grace = 0.5\nfail-dead-ends = {str(fails).lower()}\n[groups.lab]\nsize = 2\n"
    lab = Served(tmp_path, text + device("one") + device("two", "server"), commands)
    with lab.process:
        lab.type("two", "echo begun-$((40+2)); lava-wait never; echo two-$?\n", "begun-42")
        # The other one may yet send.
        lab.until(lambda status: any(d["waits"] for d in status["devices"]))
        assert lab.status()["groups"][0]["dead_end"] == []
        script = "echo begun-$((40+2)); lava-wait nothing; echo one-$?-$((40+2))\n"
        lab.type("one", script, "one-1-42" if fails else "begun-42")
        lab.process.until_all("lab: dead end: ")
        if not fails:
            status = lab.status()["groups"][0]
            assert (
                status["dead_end"][0].startswith("dead end: ") and "lava-wait never" in status["dead_end"][0]
            )
            assert "dead end: " in lab.run("status").stdout
        lab.process.interrupt(signal.SIGTERM)
        assert lab.process.finish() == 0


def test_the_file_is_read_again_on_sighup(served: Served) -> None:
    served.write(served.text + device("three", group="more"))
    os.kill(served.process.pid, signal.SIGHUP)
    served.process.until("again: 3 consoles")
    served.write(served.text.replace("console", "consle", 1))
    os.kill(served.process.pid, signal.SIGHUP)
    served.process.until("the lab was not changed")
    assert "did you mean 'console'?" in served.process.text
    served.write(served.text)
    assert served.run("ctl", "reload").returncode == 0
    assert sorted(d["name"] for d in served.status()["devices"]) == ["one", "two"]


def test_a_client_that_does_not_read_disturbs_nobody(served: Served) -> None:
    with (
        socket.create_connection(("127.0.0.1", served.port)) as deaf,  # type: ignore[attr-defined]
        socket.create_connection(("127.0.0.1", served.port)) as one,  # type: ignore[attr-defined]
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(b"yes 0123456789012345678901234567890123456789 | head -c 20000000; echo over-$((40+2))\n")
        until(one, "over-42")
        one.sendall(b"lava-self\n")
        until(one, "one\r\n")
        served.until(lambda status: any(d["clients"] == 2 for d in status["devices"]))


def gone(connection: socket.socket) -> bool:
    """Whether the other end closes it."""
    connection.settimeout(PATIENCE)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def test_what_a_page_elsewhere_makes_a_browser_send_is_not_typed(served: Served) -> None:
    for begin in (b"POST /a HTTP/1.1\r\n\r\n", b"GET http://a/ HTTP/1.1\r\n", b"\x16\x03\x01\x02\0\x01"):
        with socket.create_connection(("127.0.0.1", served.port)) as page:  # type: ignore[attr-defined]
            page.sendall(begin + b"\necho typed-$((40+2))\n")
            assert gone(page)
    with socket.create_connection(("127.0.0.1", served.port)) as one:  # type: ignore[attr-defined]
        one.sendall(b"GET; echo over-$((40+2))\n")
        assert "typed" not in until(one, "over-42")
    assert "typed" not in (served.directory / "logs" / "one.log").read_text()


def test_connections_that_say_nothing_keep_nobody_out(served: Served) -> None:
    page(served, "healthz")
    http = urllib.parse.urlsplit(served.process.text.split("the lab is shown on ")[1].split()[0])
    number = MAX_STRANGERS + 10
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            stranger = stack.enter_context(socket.socket(socket.AF_UNIX))
            stranger.connect(served.control)
        assert served.run("status").returncode == 0
        for _ in range(number):
            stack.enter_context(socket.create_connection((http.hostname, http.port)))
        assert page(served, "healthz") == "ok\n"
        first = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))  # type: ignore[attr-defined]
        served.until(lambda status: any(d["clients"] == 2 for d in status["devices"]))
        for _ in range(MAX_CLIENTS + 10):
            last = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))  # type: ignore[attr-defined]
        assert gone(last)
        first.sendall(b"echo still-$((40+2))\n")
        until(first, "still-42")
        served.type("one", "echo person-$((40+2))\n", "person-42")


def test_what_a_client_sends_faster_than_the_console_takes_it_is_not_lost(
    tmp_path: Path, commands: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    data = random.Random(1).randbytes(1_500_000)
    text = device("one", tcp=f"127.0.0.1:{address[1]}")
    text = text.replace(
        SHELL.replace('\\"', "'"), f"exec:stty raw; echo ready; head -c {len(data)} | sha256sum; exec cat"
    )
    lab = Served(tmp_path, text, commands)
    with lab.process:
        with socket.create_connection(address) as client:
            lab.until(lambda status: status["devices"][0]["printed"])
            threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
            until(client, hashlib.sha256(data).hexdigest())
        lab.process.interrupt(signal.SIGTERM)
        assert lab.process.finish() == 0


def test_the_terminal_is_the_console(served: Served) -> None:
    terminal = os.open(served.directory / "terminal", os.O_RDWR | os.O_NOCTTY)
    os.write(terminal, b"echo typed-$((40+2))\n")
    seen = b""
    while b"typed-42" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    served.process.interrupt(signal.SIGTERM)
    assert served.process.finish() == 0
    assert not os.path.lexists(served.directory / "terminal")


@pytest.mark.parametrize("program", ["minicom -D", "picocom"])
def test_programs_on_the_terminal(served: Served, program: str) -> None:
    """They draw terminals of their own, through which no frame would pass: here there are none."""
    name = program.split(maxsplit=1)[0]
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 200))
    # They lock it by its last name alone.
    terminal = served.directory / f"terminal-{os.getpid()}"
    terminal.symlink_to("terminal")
    process = subprocess.Popen(
        ["setsid", "--ctty", *program.split(), str(terminal)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=variables(TERM="vt100"),
    )
    seen = b""

    def until(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            ready, _, _ = select.select([master], [], [], PATIENCE)
            assert ready, seen
            seen += os.read(master, 65536)

    try:
        # What comes before it has set its terminal up is lost.
        until({"minicom": b"Press", "picocom": b"Terminal ready"}[name])
        served.type("one", "echo is-$((40+2))\n", "is-42")
        until(b"is-42")
        os.write(master, b"lava-self; echo told-$((40+2))\r")
        until(b"told-42")
        assert b"5282" not in seen
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(master)
        os.close(slave)


def test_a_command_that_ends_is_started_again(served: Served) -> None:
    served.type("one", "echo bye-$((40+2)); exit\n", "bye-42")
    served.process.until("trying again")
    served.process.until("connected again")


class Board:
    """A shell behind a TCP port, which outlives whoever is connected to it."""

    def __init__(self, commands: Path, folder: Path) -> None:
        self._master, slave = pty.openpty()
        modes = termios.tcgetattr(slave)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        self._shell = subprocess.Popen(
            ["setsid", "-c", "sh", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**variables(), "PATH": f"{commands}{os.pathsep}{variables()['PATH']}", "PS1": "ready> "},
        )
        os.close(slave)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection: socket.socket | None = None
        while not self._over.is_set():
            wanted = [self._listener] if connection is None else [self._listener, connection, self._master]
            for ready in select.select(wanted, [], [], 0.1)[0]:
                if ready is self._listener:
                    # As terminal servers do, once nobody is there any more.
                    connection = self._listener.accept()[0]
                elif ready is self._master and connection is not None:
                    with contextlib.suppress(OSError):
                        connection.sendall(os.read(self._master, 4096))
                elif ready is connection and connection is not None:
                    data = b""
                    with contextlib.suppress(OSError):
                        data = connection.recv(4096)
                    if data:
                        os.write(self._master, data)
                    else:
                        connection.close()
                        connection = None
                        break

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()
        self._shell.kill()
        self._shell.wait()
        os.close(self._master)


def test_a_wait_outlives_a_lab_that_is_killed_and_a_file_that_changes(tmp_path: Path, commands: Path) -> None:
    boards = [Board(commands, tmp_path) for _ in range(2)]
    text = 'group-log = "groups"\nlog-dir = "logs"\n[groups.lab]\nsize = 2\n'
    text += "".join(
        f'[devices.{name}]\nconsole = "socket://127.0.0.1:{board.port}"\nrole = "{name}"\n'
        for name, board in zip(("one", "two"), boards, strict=True)
    )
    lab = Served(tmp_path, text, commands)
    try:
        lab.type("one", "echo begun-$((40+2)); lava-wait go; echo got-$?-$((40+2))\n", "begun-42")
        lab.until(lambda status: status["devices"][0]["waits"])
        lab.process.interrupt(signal.SIGKILL)
        lab.process.finish()
        lab.start()
        lab.until(lambda status: all(device["connected"] for device in status["devices"]))
        # The console of the device that waits is opened anew.
        lab.write(text.replace('role = "one"\n', 'role = "one"\nspeed = 9600\n'))
        os.kill(lab.process.pid, signal.SIGHUP)
        lab.process.until("again: 2 consoles")
        lab.until(lambda status: all(device["connected"] for device in status["devices"]))
        connection, response, early = connect(lab.control, {"do": "console", "device": "one", "write": False})
        with connection:
            assert response == {"ok": True}
            lab.type("two", "lava-send go && echo sent-$((40+2))\n", "sent-42")
            until(connection, "got-0-42", early)
        lab.process.interrupt(signal.SIGTERM)
        assert lab.process.finish() == 0
    finally:
        lab.process.__exit__(None, None, None)
        for board in boards:
            board.close()


def test_systemd_is_told_what_the_lab_does(tmp_path: Path, commands: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        lab = Served(
            tmp_path, device("one"), commands, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}
        )
        with lab.process:
            assert systemd.recv(100) == b"READY=1"
            os.kill(lab.process.pid, signal.SIGHUP)
            assert (systemd.recv(100), systemd.recv(100)) == (b"RELOADING=1", b"READY=1")
            lab.process.interrupt(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert lab.process.finish() == 0


def test_several_look_and_only_those_type_who_may(served: Served) -> None:
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    changed = device("two", "server", watch=f"127.0.0.1:{ports[0]}", telnet=f"127.0.0.1:{ports[1]}")
    served.write(served.text.replace(device("two", "server"), changed))
    assert served.run("ctl", "reload").returncode == 0
    with (
        socket.create_connection(("127.0.0.1", ports[0])) as watcher,
        socket.create_connection(("127.0.0.1", ports[1])) as first,
        socket.create_connection(("127.0.0.1", ports[1])) as second,
    ):
        watcher.sendall(b"echo watcher-$((40+2))\n")
        # Telnet's hello: then it is there.
        for telnet in (first, second):
            assert telnet.recv(3) == bytes((255, 251, 1))
        served.until(lambda status: status["devices"][1]["clients"] == 3)
        second.sendall(b"printf 'second-%s\\377\\n' $((40+2))\r\0")
        assert "second-42" in until(watcher, "second-42")
        for telnet in (first, second):
            telnet.settimeout(PATIENCE)
            seen = b""
            while b"second-42\xff\xff" not in seen:
                seen += telnet.recv(4096)
            assert b"watcher-42" not in seen


def shown_on(served: Served) -> str:
    served.process.until_all("the lab is shown on")
    return served.process.text.split("the lab is shown on ")[1].split()[0]


def page(served: Served, path: str, **headers: str) -> str:
    request = urllib.request.Request(shown_on(served) + path, headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def send_to_page(served: Served, data: bytes) -> bytes:
    """What comes back for these bytes, until the end."""
    host, _, port = shown_on(served).removeprefix("http://").rstrip("/").rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(data)
        with connection.makefile("rb") as file:
            return file.read()


def test_the_pages(served: Served) -> None:
    assert page(served, "healthz") == "ok\n"
    served.until(lambda status: all(d["connected"] for d in status["devices"]))
    metrics = page(served, "metrics")
    assert 'lavabox_device_connected{device="one",group="lab",role="client"} 1\n' in metrics
    assert '# TYPE lavabox_group_waits gauge\nlavabox_group_waits{group="lab"} 0\n' in metrics
    assert json.loads(page(served, "status.json"))["groups"][0]["name"] == "lab"
    served.type("one", "printf '<b>%s</b>\\n' bold\n", "<b>bold</b>")
    assert "<b>bold</b>" in page(served, "devices/one/tail")
    assert "<!DOCTYPE html>" in page(served, "groups/lab/flow")
    for path, headers, status in (
        ("nowhere", {}, 404),
        ("devices/nobody/tail", {}, 404),
        ("groups/none/flow", {}, 404),
        ("status.json", {"Host": "lab.example.org"}, 403),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            page(served, path, **headers)
        assert caught.value.code == status
    for request in (
        b"GET /" + bytes(9000),
        b"GET /%s HTTP/1.1\r\n" % (9000 * b"x"),
        b"GET / HTTP/1.1\r\nx\r\n\r\n",
    ):
        assert send_to_page(served, request).startswith(b"HTTP/1.0 400")
    # Whoever reaches the port can't fill the log.
    assert served.run("ctl", "reload").returncode == 0
    served.process.until("again: 2 consoles")
    assert "Traceback" not in served.process.text


def test_the_page_shows_the_lab_in_a_browser(served: Served, tmp_path: Path) -> None:
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        pytest.skip("no chromium")
    served.until(lambda status: all(d["connected"] for d in status["devices"]))
    page(served, "healthz")
    base = served.process.text.split("the lab is shown on ")[1].split()[0]
    shown = subprocess.run(
        [
            *(chromium, *OPTIONS, f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=4000"),
            *("--dump-dom", base),
        ],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    ).stdout
    assert "<td>one</td><td>client</td><td>lab</td><td" in shown and "as of" in shown
    # The time line is as high as what it has drawn.
    found = re.search('src="groups/lab/flow" style="height: ([0-9]+)', shown)
    assert found and int(found[1]) > 150, shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lgo-dir = "x"\n', "line 1: a lab knows no 'lgo-dir'; did you mean 'log-dir'?"),
        (
            '[devices.a]\nconsole = "exec:sh"\n\n  spede = 9600\n',
            "line 4: devices.a knows no 'spede'; did you",
        ),
        ("[devices.a]\nrole = 'x'\n", "line 1: a has no console"),
        ("[devices.a]\nconsole = 'exec:sh'\nspeed = 'fast'\n", "line 3: devices.a.speed is a positive whole"),
        ("grace = '5m'\n", "line 1: grace is a number of seconds, not '5m'"),
        ("purge-after = '30d'\n", "line 1: purge-after is a number of days, not '30d'"),
        ("fail-dead-ends = 1\n", "line 1: fail-dead-ends is true or false"),
        ("[groups.lab]\nsize = 0\n", "line 2: groups.lab.size is a positive"),
        (
            "[devices.a]\nconsole = 'x'\ntcp='1'\n[devices.b]\nconsole='y'\ntcp='1'\n",
            "line 6: a has the tcp 1",
        ),
        ("[devices.'a b']\nconsole = 'x'\n", "line 1: the name of a device can't have ' ' in it"),
        ("devices = 1\n", "line 1: devices is a table"),
        ("[devices\n", "at line 1"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "lab.toml").write_text(text)
    with Lavabox("serve", "lab.toml", cwd=tmp_path) as lavabox:
        assert lavabox.finish() == 2
        assert "lab.toml" in lavabox.text and said in lavabox.text


def test_a_console_that_can_not_be_is_left_out_and_said(tmp_path: Path, commands: Path) -> None:
    text = device("good") + "[devices.bad]\nconsole = 'ssh://somewhere'\n"
    lab = Served(tmp_path, text, commands)
    with lab.process:
        assert "bad is left out: ssh://somewhere: ssh is reached by its program" in lab.process.text
        status = lab.run("status")
        assert status.returncode == 1 and "ssh is reached by its program" in status.stdout
        lab.process.interrupt(signal.SIGTERM)
        assert lab.process.finish() == 0


def test_ports_that_are_missing_busy_vanish_or_have_another_speed_are_said(
    tmp_path: Path, commands: Path
) -> None:
    pairs = [os.openpty() for _ in range(3)]
    for _, slave in pairs:
        tty.setraw(slave)
    (garbage, of_garbage), (vanishing, of_vanishing), (busy, of_busy) = pairs
    text = "".join(
        f'[devices.{name}]\nconsole = "{port}"\n'
        for name, port in (
            ("garbage", os.ttyname(of_garbage)),
            ("vanishing", os.ttyname(of_vanishing)),
            ("busy", os.ttyname(of_busy)),
            ("missing", "/dev/nonexistent"),
            ("silent", "socket://127.0.0.1:1"),
            ("nothing", "exec:/nonexistent/command"),
        )
    )
    with serial.Serial(os.ttyname(of_busy), exclusive=True):
        lab = Served(tmp_path, text + device("good"), commands)
        with lab.process:
            lab.process.until_all(
                "missing: /dev/nonexistent: there is no such port; trying again",
                f"busy: {os.ttyname(of_busy)}: another program has it open, end that first; trying again",
                "silent: socket://127.0.0.1:1: Connection refused; trying again",
                "nothing: connection lost (the command ended with status 127 (not found)); trying again",
            )
            os.write(garbage, b"\xff\xfe\x00\xe0" * 200)
            lab.process.until_all("garbage: this prints no text; is the speed of its port wrong")
            lab.until(lambda status: status["devices"][1]["connected"])
            os.close(vanishing)
            os.close(of_vanishing)
            lab.process.until_all("vanishing: connection lost (")
            assert "good" in lab.type("good", "lava-self; echo and-$((40+2))\n", "and-42")
            lab.process.interrupt(signal.SIGTERM)
            assert lab.process.finish() == 0
    for descriptor in (garbage, of_garbage, busy, of_busy):
        os.close(descriptor)


def test_a_job_of_lava_is_in_the_group_of_a_served_device(tmp_path: Path, commands: Path) -> None:
    text = 'lava = "127.0.0.1:0"\n[groups.g]\nsize = 2\n' + device("one", group="g")
    lab = Served(tmp_path, text, commands)
    with lab.process:
        port = int(lab.process.text.split("connect to 127.0.0.1 port ")[1].split()[0])
        job = Job(port, "g", "12", "server")
        assert job.poll("group_data")["roles"] == {"one": "client", "12": "server"}
        assert job.send("ready", k="v") == {"response": "ack"}
        lab.type("one", "lava-wait ready; cat $LAVA_MULTI_NODE_CACHE\n", "k=v")
        assert "board-12" in lab.run("status").stdout
        lab.process.interrupt(signal.SIGTERM)
        assert lab.process.finish() == 0


def test_the_escape_key_leaves_and_is_typed_when_pressed_twice(served: Served) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatcher", "console", "--control", served.control, "one", "--escape", "^A"],
        env=variables(),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    while b"leaves" not in seen:
        seen += os.read(master, 4096)
    os.write(master, b"echo seen-$((40+2))\r")
    while b"seen-42" not in seen:
        seen += os.read(master, 4096)
    os.write(master, b"\x01q")
    assert process.wait(PATIENCE) == 0
    os.close(master)
