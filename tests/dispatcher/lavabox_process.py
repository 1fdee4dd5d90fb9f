# SPDX-License-Identifier: MIT
"""`lavabox sim` and `lavabox serve` as processes of their own, for tests."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
# Seconds that anything may take; only a failure takes so long.
PATIENCE = 60


def variables(**more: str) -> dict[str, str]:
    """The environment for `lavabox`."""
    imports = os.environ.get("PYTHONPATH")
    # The Python that runs the tests, not a wrapper that PATH may have in its place, which takes long.
    path = f"{Path(sys.executable).resolve().parent}{os.pathsep}{os.environ['PATH']}"
    python_path = f"{ROOT}{os.pathsep}{imports}" if imports else str(ROOT)
    return {**os.environ, "PATH": path, "PYTHONPATH": python_path, "NO_COLOR": "", **more}


class Lavabox:
    """A `lavabox` process in a process group of its own, and what it prints."""

    def __init__(self, *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher", *arguments],
            cwd=cwd,
            env=variables(**environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="surrogateescape",
            process_group=0,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def until(self, text: str, times: int = 1) -> None:
        """Wait for `times` lines that hold the text."""
        while times:
            line = self._next_line()
            assert line, f"{text!r} did not come:\n{self.text}"
            times -= text in line

    def until_all(self, *texts: str) -> None:
        """Wait until all these texts have come, in whatever order."""
        while missing := [text for text in texts if text not in self.text]:
            assert self._next_line(), f"{missing} did not come:\n{self.text}"

    def drain(self) -> None:
        """Take what has come, into `text`."""
        while not self._lines.empty():
            self._next_line()

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal to the process group, as the terminal does for Ctrl-C."""
        os.killpg(self._process.pid, number)

    def finish(self) -> int:
        """Wait for the end; returns the exit status."""
        while self._next_line():
            pass
        return self._process.wait(PATIENCE)

    def _next_line(self) -> str | None:
        try:
            line = self._lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise TimeoutError(f"nothing came any more after:\n{self.text}") from None
        self.text += line or ""
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(PATIENCE)


def processes_with(argument: str) -> list[int]:
    """The live processes that have this among their arguments."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                arguments = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argument.encode() in arguments:
                found.append(int(entry))
    return found
