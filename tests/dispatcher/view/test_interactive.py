# SPDX-License-Identifier: MIT
"""`lavabox sim --interactive`, as a person at a terminal has it."""

import fcntl
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.view.interactive.backlog import Backlog
from dispatcher.view.interactive.escapekeys import EscapeKeys
from tests.dispatcher.isolation import why_not
from tests.dispatcher.lavabox_process import PATIENCE, Lavabox, variables

ESCAPE = b"\x1d"
ALONE, TMUX = "dumb", "xterm"  # the TERM with which tmux is not used, and with which it is
WAYS = [
    ALONE,
    pytest.param(TMUX, marks=pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")),
]


class Person:
    """Somebody at a terminal that `lavabox sim --interactive` runs on."""

    def __init__(self, folder: Path, box: Path, term: str, arguments: tuple[str, ...]) -> None:
        self.master, self.slave = os.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(self.slave)
        # As under a shell: the terminal is the controlling one, and tells when its size changes.
        self.process = subprocess.Popen(
            [
                *("setsid", "--ctty", sys.executable, "-m", "dispatcher", "sim", "--box", str(box)),
                *("--timeout", "50", *arguments),
            ],
            cwd=folder,
            env=variables(TMPDIR=str(folder.parent / "t"), TERM=term),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
        )
        self.text = ""
        self._seen = 0

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until something new on the screen matches."""
        end = time.monotonic() + PATIENCE
        while (match := re.compile(pattern).search(self.text, self._seen)) is None:
            ready, _, _ = select.select([self.master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{pattern!r} did not come:\n{self.text}"
            self.text += os.read(self.master, 65536).decode(errors="replace")
        self._seen = match.end()
        return match

    def run(self, command: str, pattern: str) -> re.Match[str]:
        self.press(command.encode() + b"\r")
        return self.until(pattern)

    def finish(self) -> int:
        """The exit status, once the terminal has been found as it was."""
        self.until("device +role +result")
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.05)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        os.close(self.slave)
        os.close(self.master)


class Room:
    """Where people sit down."""

    def __init__(self, folder: Path, box: Path) -> None:
        self.folder = folder
        self.box = box

    def person(self, term: str, *arguments: str) -> Person:
        return Person(self.folder, self.box, term, arguments)


@pytest.fixture
def room(tmp_path: Path, box: Path) -> Iterator[Room]:
    # (The path of a socket has to be short.)
    folder, temporary = tmp_path / "here", tmp_path / "t"
    folder.mkdir()
    temporary.mkdir()
    yield Room(folder, box)
    assert list(temporary.iterdir()) == []


TWO_SHELLS = ("--interactive", "--role", "a", "--role", "b")


@pytest.mark.parametrize("term", WAYS)
@pytest.mark.parametrize("shell", ["bash", "dash", "busybox sh"])
def test_one_waits_and_the_other_sends(room: Room, term: str, shell: str) -> None:
    if shutil.which(shell.split(maxsplit=1)[0]) is None:
        pytest.skip(f"{shell} is not installed")
    with room.person(term, *TWO_SHELLS, "--shell", shell) as person:
        person.until("a-1# ")
        person.press(b"lava-wait x; echo answer''ed $?\r")
        person.press(ESCAPE + b"n")
        person.until("b-1# ")
        person.run("lava-send x k=v; echo se''nt $?", "sent 0")
        person.press(ESCAPE + b"n")
        person.until("answered 0")
        person.run(
            "lava-role list | tr '\\n' .; cat /tmp/lava_multi_node_cache.txt; tty", r"a\.b\.k=v\s+/dev/pts"
        )
        person.press(ESCAPE + b"q")
        assert person.finish() == 0
    assert "\x1b]" not in person.text.replace("\x1b]0;", "") or term == TMUX


@pytest.mark.parametrize("term", WAYS)
def test_ctrl_c_is_for_the_device(room: Room, term: str) -> None:
    with room.person(term, *TWO_SHELLS) as person:
        person.until("a-1# ")
        # Said by what is to be interrupted: a shell that is just about to start it may miss the signal.
        person.run("sh -c 'echo g\"\"o; exec sleep 1000'", "go")
        person.press(b"\x03")
        person.until("a-1# ")
        person.run("echo ali''ve", "alive")
        person.run("sh -c 'echo wai\"\"ting; exec lava-wait never'", "waiting")
        person.press(b"\x03")
        person.until("a-1# ")
        person.run("echo aga''in", "again")
        person.press(ESCAPE + b"q")
        assert person.finish() == 0


@pytest.mark.parametrize("term", WAYS)
def test_it_ends_with_the_last_shell(room: Room, term: str) -> None:
    with room.person(term, *TWO_SHELLS) as person:
        person.until("a-1# ")
        person.run("exit 3", "ended with status 3")
        person.press(ESCAPE + b"n")
        person.until("b-1# ")
        person.press(b"exit\r")
        assert person.finish() == 0
    assert re.search(r"a-1\b.*ended with status 3.*\r\nb-1", person.text)


@pytest.mark.parametrize("term", WAYS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_tidily(room: Room, term: str, number: signal.Signals) -> None:
    with room.person(term, *TWO_SHELLS) as person:
        person.until("a-1# ")
        os.kill(person.process.pid, number)
        assert person.finish() == 128 + number


@pytest.mark.parametrize("term", WAYS)
def test_the_size_of_the_terminal(room: Room, term: str) -> None:
    with room.person(term, *TWO_SHELLS) as person:
        person.until("a-1# ")
        rows = 30 if term == ALONE else 29
        # tmux takes the line of its status away a moment after the window was made.
        until_size = "until [ \"$(stty size)\" = '{} {}' ]; do sleep 0.05; done; echo {}''ed"
        person.run(until_size.format(rows, 100, "siz"), "sized")
        person.resize(rows + 10 + (term != ALONE), 90)
        person.run(until_size.format(rows + 10, 90, "resiz"), "resized")
        person.press(ESCAPE + b"q")
        assert person.finish() == 0


@pytest.mark.parametrize("term", WAYS)
def test_a_shell_beside_commands(room: Room, term: str) -> None:
    arguments = ("--interactive", "b-1", "--role", "a=lava-wait x; echo $HOME; exit 4", "--role", "b=not-run")
    with room.person(term, *arguments) as person:
        person.until("b-1# ")
        person.press(b"lava-send x\r")
        person.press(ESCAPE + b"n")
        person.until("ended with status 4")
        person.press(ESCAPE + b"q")
        # A command that fails is a failure, interactive or not.
        assert person.finish() == 1
    assert "not-run" not in person.text


@pytest.mark.parametrize("term", WAYS)
def test_a_dead_end_of_others(room: Room, term: str) -> None:
    waits = ("--role", "a=lava-wait-all x b; exit 4", "--role", "b=lava-wait-all y a; exit 4")
    with room.person(term, "--interactive", "c-1", "--role", "c", *waits) as person:
        person.until("dead end: ")
        # With tmux, how a device ended is shown in its own window.
        person.press(ESCAPE + b"n")
        person.until("ended with status 4")
        person.press(ESCAPE + b"q")
        assert person.finish() == 1


def test_escape_key_says_what_there_is(room: Room) -> None:
    with room.person(ALONE, "--interactive", "--role", "a") as person:
        person.until("Ctrl-] q: leave")
        person.until("a-1# ")
        person.press(ESCAPE + b"x")
        person.until("Ctrl-] q: leave")
        person.press(b"cat -v\r" + ESCAPE + ESCAPE + b"\r")
        person.until(r"\^\]\s+\^\]")
        person.press(ESCAPE + b"q")
        assert person.finish() == 0


def test_time_out(room: Room) -> None:
    with room.person(ALONE, "--interactive", "--timeout", "3", "--role", "a") as person:
        person.until("timed out: the run was ended")
        assert person.finish() == 1


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")
def test_isolated(room: Room) -> None:
    with room.person(ALONE, *TWO_SHELLS, "--isolate", "--shell", "bash") as person:
        person.until("a-1# ")
        person.run("hostname; sleep 1000 & jobs", "a-1\r\n[^#]*Running")
        assert "no job control" not in person.text
        person.press(ESCAPE + b"q")
        assert person.finish() == 0


def test_refused(room: Room, box: Path) -> None:
    with Lavabox("sim", "--box", str(box), *TWO_SHELLS, cwd=room.folder) as process:
        assert process.finish() == 2
    assert "--interactive needs a terminal as stdin and stdout" in process.text
    with room.person(ALONE, "--interactive", "c", "--role", "a", "--role", "b") as person:
        person.until("--interactive c: there is no such device; there are a-1, b-1")
        assert person.process.wait(PATIENCE) == 2


# What is typed, and what waits


def test_keys() -> None:
    keys = EscapeKeys(ord(ESCAPE))
    assert keys.receive(b"ab\x03" + ESCAPE + b"ncd" + ESCAPE) == [b"ab\x03", ord("n"), b"cd"]
    assert keys.receive(b"q" + ESCAPE + ESCAPE + ESCAPE + b"z") == [ord("q"), ESCAPE, ord("z")]


@given(st.lists(st.binary(max_size=4)))
def test_keys_in_any_chunking(chunks: list[bytes]) -> None:
    def joined(items: list[bytes | int]) -> list[bytes | int]:
        found: list[bytes | int] = []
        for item in items:
            if found and isinstance(item, bytes) and isinstance(found[-1], bytes):
                found[-1] += item
            else:
                found.append(item)
        return found

    keys = EscapeKeys(ord(ESCAPE))
    pieces = [item for chunk in chunks for item in keys.receive(chunk)]
    assert joined(pieces) == joined(EscapeKeys(ord(ESCAPE)).receive(b"".join(chunks)))


def test_backlog_forgets_whole_lines() -> None:
    backlog = Backlog()
    for number in range(20000):
        backlog.add(b"line %d\n" % number)
    data = backlog.take()
    assert re.fullmatch(rb"(line \d+\n)+", data)
    assert len(data) < 65536
    assert data.endswith(b"line 19999\n")
    assert backlog.take() == b""
