# SPDX-License-Identifier: MIT
"""A tmux session with a window for each device.

    tmux client on the user's terminal -- tmux server -- window.py -- socket -- console of a device

The server is one of our own, with no configuration file: nothing of the user's own sessions is seen
or changed, and its keys are those of `terminal`. It works inside of another tmux, too.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from dispatcher.consoles.processes import MARK_VARIABLE
from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.errors import SetupError
from dispatcher.view.interactive import ConsoleDisplay, Keyboard, on_a_line, window

_SESSION = "lavabox"
# Bytes that a window which shows nothing lets wait, until more is left out.
_MOST_WAITING = 1024 * 1024
# Seconds that the client gets to go once there is no server any more.
_PATIENCE = 5.0
_OPTIONS = (
    ("set-option", "-g", "prefix", "C-]"),
    ("bind-key", "C-]", "send-prefix"),
    ("bind-key", "q", "detach-client"),
    ("set-option", "-g", "remain-on-exit", "on"),
    ("set-option", "-g", "status-left", " "),
    ("set-option", "-g", "status-right", " Ctrl-] n: next device, Ctrl-] q: leave "),
    ("set-option", "-g", "status-right-length", "60"),
    ("set-option", "-g", "automatic-rename", "off"),
    ("set-option", "-g", "allow-rename", "off"),
    ("set-option", "-g", "escape-time", "10"),
    # A program that types is quicker than a person, and no paste.
    ("set-option", "-g", "assume-paste-time", "0"),
)


class TmuxDisplay(ConsoleDisplay):
    """Shows each device in a window of tmux."""

    def __init__(
        self,
        write: Callable[[str], object],
        devices: Sequence[str],
        *,
        colour: bool,
        chosen: str,
        tmux: str,
        state: Path,
    ) -> None:
        """
        :param tmux: the program.
        :param state: the run's own folder.
        """
        super().__init__(write, devices, colour=colour, chosen=chosen)
        self._folder = state / "tmux"
        self._tmux = [tmux, "-S", str(self._folder / "tmux"), "-f", os.devnull]
        self._environment = {name: value for name, value in os.environ.items() if name != "TMUX"}
        # So that its processes, of which tmux makes orphans, are taken for no device's.
        self._environment[MARK_VARIABLE] = f"{state}.tmux"
        self._windows: dict[str, asyncio.StreamWriter] = {}
        self._servers: list[asyncio.Server] = []
        self._client: subprocess.Popen[bytes] | None = None
        self._later: list[Callable[[], None]] = []
        self._open = False

    # As a terminal of the run

    async def open(self, keyboards: Mapping[str, Keyboard], leave: Callable[[], None]) -> None:
        """Start tmux. Raises SetupError."""
        self._loop = asyncio.get_running_loop()
        self._leave = leave
        self._folder.mkdir(mode=0o700)
        self._open = True
        sys.stdout.flush()
        try:
            for number, name in enumerate(self._devices):
                serve = partial(self._serve, name, keyboards[name])
                server = await asyncio.start_unix_server(serve, self._socket(number))
                self._servers.append(server)
            size = os.get_terminal_size(1)
            for number, name in enumerate(self._devices):
                program = [sys.executable, "-I", window.__file__, self._socket(number)]
                title = re.sub(r"[^\w.+-]", "?", name)
                if number == 0:
                    where = [
                        "new-session",
                        "-d",
                        "-s",
                        _SESSION,
                        "-x",
                        str(size.columns),
                        "-y",
                        str(size.lines),
                    ]
                    await self._call(*where, "-n", title, *program)
                    for option in _OPTIONS:
                        await self._call(*option)
                else:
                    await self._call("new-window", "-d", "-n", title, *program)
            await self._call("select-window", "-t", f"{_SESSION}:{self._devices.index(self._chosen)}")
            self._client = subprocess.Popen(
                [*self._tmux, "attach-session", "-t", _SESSION], env=self._environment
            )
            self._pidfd = os.pidfd_open(self._client.pid)
        except OSError as error:
            raise SetupError(
                f"--interactive: tmux can't be used ({error}); it works without it, too"
            ) from error
        self._loop.add_reader(self._pidfd, self._notice_end)

    def _socket(self, number: int) -> str:
        return str(self._folder / str(number))

    async def _call(self, *arguments: str) -> None:
        # (Of a subprocess, the runner might take the status away.)
        process = await asyncio.to_thread(
            subprocess.run,
            [*self._tmux, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if process.stderr.strip():
            raise OSError(process.stderr.strip())

    def _notice_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._leave()

    async def close(self) -> None:
        """End tmux, which gives the terminal back."""
        if not self._open:
            return
        self._open = False
        for server in self._servers:
            server.close()
        with contextlib.suppress(OSError):
            await self._call("kill-server")
        if self._client is not None:
            self._loop.remove_reader(self._pidfd)
            try:
                await asyncio.to_thread(self._client.wait, _PATIENCE)
            except subprocess.TimeoutExpired:
                self._client.kill()
            os.close(self._pidfd)
        for say in self._later:
            say()

    async def _serve(
        self, name: str, keyboard: Keyboard, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(self._backlogs[name].take())
        self._windows[name] = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, length = window.HEAD.unpack(await reader.readexactly(window.HEAD.size))
                data = await reader.readexactly(length)
                if kind == window.KEYS:
                    keyboard.type(data)
                elif isinstance(keyboard.console, PtyProcess):
                    keyboard.console.resize(*window.SIZE.unpack(data))
        self._windows.pop(name, None)
        writer.close()

    # As a display

    def output(self, device: str, data: bytes, now: float) -> None:
        """Show the bytes in the device's window."""
        writer = self._windows.get(device)
        if writer is None:
            self._backlogs[device].add(data)
        elif writer.transport.get_write_buffer_size() < _MOST_WAITING:
            writer.write(data)

    def notice(self, device: str, sentence: str, *, bad: bool = False) -> None:
        """Say something about a device, in its window; and again at the end, for this one is closed then."""
        if self._open:
            self.output(device, on_a_line(sentence), 0.0)
            self._later.append(partial(super().notice, device, sentence))
        else:
            super().notice(device, sentence, bad=bad)

    def message(self, sentence: str) -> None:
        """Say something that is not about one device: in all windows."""
        if self._open:
            for device in self._devices:
                self.output(device, on_a_line(sentence), 0.0)
            self._later.append(partial(super().message, sentence))
        else:
            super().message(sentence)
