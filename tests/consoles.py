# SPDX-License-Identifier: MIT
"""Real consoles for tests: ptys with shells on them, and an engine that a thread drives.

Nothing here sleeps for something to happen: `wait_for` is woken by every turn of the engine.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.puregroup import PureGroup
from dispatcher.engine import Engine
from dispatcher.group.events import Event
from dispatcher.line.session import Counters
from tests.terminal import unread
from toolkit.commands import COMMANDS

# Seconds that anything may take; only a failure takes so long.
PATIENCE = 20.0
# Seconds between looks at what gives no sign when it changes: modes, processes.
_LOOK = 0.005


class Board:
    """A device: a pty, what runs on it, and what came out of it."""

    def __init__(self, lab: Lab, name: str, directory: Path) -> None:
        self.lab = lab
        self.name = name
        self.directory = directory
        self.master, self.slave = os.openpty()
        self.path = os.ttyname(self.slave)
        self.output = b""
        self.processes: list[subprocess.Popen[bytes]] = []
        directory.mkdir()

    def start(
        self, script: str, *, shell: str = "sh", environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Run a script on this console, as its foreground."""
        # The Python that runs the tests, not a wrapper that PATH may have in its place.
        python = Path(sys.executable).resolve().parent
        variables = {
            "PATH": f"{self.lab.commands}:{python}:{os.environ['PATH']}",
            "LAVA_MULTI_NODE_CACHE": str(self.directory / "cache"),
            "LC_ALL": "C.UTF-8",
            **(environment or {}),
        }
        process = subprocess.Popen(
            ["setsid", "--ctty", shell, "-c", script],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            cwd=self.directory,
            env=variables,
        )
        self.processes.append(process)
        return process

    def run(self, script: str, **more: Mapping[str, str]) -> int:
        return self.start(script, **more).wait(PATIENCE)  # type: ignore[arg-type]

    def type(self, data: bytes) -> None:
        """What a person types."""
        os.write(self.master, data)

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def unread(self) -> int:
        """Bytes of input that nobody has read so far."""
        return unread(self.slave)

    def until_printed(self, text: str) -> None:
        self.lab.wait_for(lambda: text.encode() in self.output, f"{text!r} on {self.name}")

    def agents(self) -> list[int]:
        """The processes that serve this console."""
        return [pid for pid in self._users() if _comm(pid) == "lavabox-agent"]

    def commands(self, name: str) -> list[int]:
        """The processes of this command on this console."""
        return [pid for pid in self._users() if name in _command_line(pid) and _comm(pid) != "lavabox-agent"]

    def _users(self) -> list[int]:
        return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and self._has_open(entry)]

    def _has_open(self, pid: str) -> bool:
        folder = f"/proc/{pid}/fd"
        try:
            return any(os.readlink(f"{folder}/{fd}") == self.path for fd in os.listdir(folder))
        except OSError:
            return False

    def hang_up(self) -> None:
        with self.lab.lock:
            os.close(self.slave)
            os.close(self.master)
            self.master = self.slave = -1

    def close(self) -> None:
        for pid in self.agents():
            _kill(pid)
        for process in self.processes:
            if process.poll() is None:
                _kill(process.pid)
            process.wait(PATIENCE)
        if self.master >= 0:
            self.hang_up()


class Lab:
    """A group of boards, and its dispatcher."""

    def __init__(self, box: Path, directory: Path, members: Mapping[str, str]) -> None:
        self.commands = directory / "bin"
        self.commands.mkdir()
        for command in COMMANDS:
            (self.commands / command).symlink_to(box)
        self.lock = threading.Condition()
        self.group = PureGroup(lambda: random.getrandbits(32))
        self.boards = {name: Board(self, name, directory / name) for name in members}
        for name, role in members.items():
            self.group.join(name, role, time.monotonic())
        self.typed: list[tuple[str, bytes]] = []
        self.deaf = False  # the dispatcher does not read
        self.failure: BaseException | None = None
        self._wake, self._wakener = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for board in self.boards.values():
            board.close()
        os.write(self._wakener, b"end")
        self._thread.join(PATIENCE)
        for fd in (self._wake, self._wakener):
            os.close(fd)

    def __getitem__(self, name: str) -> Board:
        return self.boards[name]

    @property
    def engine(self) -> Engine:
        """The group of the boards."""
        return self.group.engine

    def counters(self, name: str) -> Counters:
        """What went over a board's console."""
        return self.group.channels[name].counters

    def wait_for(self, holds: Callable[[], bool], what: str) -> None:
        """Until something holds that a turn of the engine can bring about."""
        with self.lock:
            reached = self.lock.wait_for(lambda: self.failure is not None or holds(), PATIENCE)
            if self.failure is not None:
                raise self.failure
            assert reached, (
                f"did not come: {what}; output: { {b.name: b.output for b in self.boards.values()} }"
            )

    def open_waits(self) -> list[str]:
        return [wait.waiting.message_id.decode() for wait in self.engine.state.coordinator.open_waits()]

    def until_waiting(self, *message_ids: str) -> None:
        self.wait_for(lambda: sorted(self.open_waits()) == sorted(message_ids), f"waits for {message_ids}")

    def events(self, kind: type[Event]) -> list[Event]:
        with self.lock:
            return [event for event in self.group.log if isinstance(event, kind)]

    # -- the dispatcher's thread

    def _serve(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            with self.lock:
                self.failure = error
                self.lock.notify_all()

    def _turn(self) -> bool:
        masters = {} if self.deaf else {b.master: b for b in self.boards.values() if b.master >= 0}
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for master in masters:
            poll.register(master, select.POLLIN)
        deadline = self.group.next_timeout()
        # (A hung-up board does not wake the poll.)
        timeout = 0.1 if deadline is None else min(0.1, max(0.0, deadline - time.monotonic()))
        ready = poll.poll(timeout * 1000)
        with self.lock:
            now = time.monotonic()
            for fd, _ in ready:
                if fd == self._wake:
                    return False
                board = masters[fd]
                if board.master == fd and not self.deaf:
                    self.group.receive_data(board.name, self._read(fd), now)
            self.group.handle_timeout(now)
            self._drain(now)
            self.lock.notify_all()
        return True

    @staticmethod
    def _read(fd: int) -> bytes:
        try:
            return os.read(fd, 65536)
        except OSError:
            return b""

    def _drain(self, now: float) -> None:
        for name, board in self.boards.items():
            board.output += self.group.output[name]
            self.group.output[name] = b""
        for name, data in self.group.data_to_type(now).items():
            self.typed.append((name, data))
            if self.boards[name].master >= 0:
                os.write(self.boards[name].master, data)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait for what no event tells of."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"did not come: {what}"
        time.sleep(_LOOK)


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def _command_line(pid: int) -> str:
    """The last part of it with a name in: that of the shell which starts a box is its own script."""
    try:
        parts = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    return "" if parts[0].endswith(b"sh") else b" ".join(parts).decode(errors="replace")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
