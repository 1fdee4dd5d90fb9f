# SPDX-License-Identifier: MIT
"""A command on a pty of its own: a simulated device, or a program that reaches a real console.

The command leads a session whose controlling terminal is the pty. It has ended when its
process has, whatever else still holds the pty open. Then its left-over processes are
killed, as if the board were switched off, and what still stands in the pty is received.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from dispatcher.consoles import ConsoleError, Listener
from dispatcher.consoles.endofinput import EndOfInput
from dispatcher.consoles.processes import MARK_VARIABLE, death_signal, kill_all, look, send_signal
from dispatcher.consoles.pseudoterminal import PseudoTerminal, Settings

# Seconds that a command which is told to end gets to clean up.
_GRACE = 1.0
# A session leader without a terminal gets the first one that it opens by name.
_OPEN_TTY = ("/bin/sh", "-c", 'tty=$1; shift; exec "$@" <>"$tty" >&0 2>&0', "sh")


class PtyProcess:
    """A command on a pty, as a console."""

    lasting = False  # what has ended is not started again

    def __init__(
        self,
        address: str,
        argv: Sequence[str],
        *,
        directory: str | None = None,
        environment: Mapping[str, str] | None = None,
        mark: str | None = None,
        tty_variable: str | None = None,
        settings: Settings | None = None,
        size: tuple[int, int] | None = None,
        starter: Sequence[str] | None = None,
        dies_with_us: bool = False,
    ) -> None:
        """
        :param environment: of the command; None: this process's own.
        :param mark: a unique value for `MARK_VARIABLE`, to find left-over processes by; None: made up.
        :param tty_variable: the environment variable that is to hold the path of the command's tty.
        :param settings: how the pty begins; None: as every terminal does.
        :param size: rows and columns that it begins with.
        :param starter: what to call with the path of the tty and the command behind. It is to run the command
            in another session, whose controlling terminal it makes the tty, and to end as the command did;
            what it has to say itself it may write to stderr. None: the command leads the session itself.
        :param dies_with_us: the kernel kills the command if this process, or the thread that has opened the
            console, ends in whatever way.
        """
        self.address = address
        # What its processes have as MARK_VARIABLE in their environment.
        self.mark = mark or secrets.token_hex(8)
        self._argv = list(argv)
        self._directory = directory
        self._environment = dict(os.environ if environment is None else environment)
        self._environment[MARK_VARIABLE] = self.mark
        self._tty_variable = tty_variable
        self._starter = starter
        self._dies_with_us = dies_with_us
        self._terminal = PseudoTerminal(settings or Settings(), size)
        self._end_of_input: EndOfInput | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._exited = asyncio.Event()
        self._winding_up: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None

    async def open(self, listener: Listener) -> None:
        """Start the command. Raises ConsoleError."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        try:
            self._terminal.open(listener)
            self._begin()
        except (OSError, ValueError) as error:
            # Should the command run already: closing its terminal ends it.
            self._release()
            raise ConsoleError(f"{self.address}: can't start the command: {error}") from error
        self._terminal.listen()

    def _begin(self) -> None:
        self._exited.clear()
        self._process = self._start_process(os.ttyname(self._terminal.slave))
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._notice_exit)

    @property
    def pid(self) -> int | None:
        """The process that was started, as long as it is not reaped."""
        return None if self._process is None else self._process.pid

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command how large the terminal is; without that it has no size, as a serial line."""
        self._terminal.resize(rows, columns)

    def pause(self) -> None:
        """Read nothing for now: the command has to wait when the pty is full."""
        self._terminal.pause()

    def resume(self) -> None:
        """Read again."""
        self._terminal.resume()

    def write(self, data: bytes) -> bool:
        """Type bytes; False if the command has ended, or lets too many wait already."""
        return self._terminal.write(data)

    def end_input(self) -> None:
        """Let the command read the end of its input, once it has read all that was typed."""
        if self._process is not None and self._end_of_input is None:
            self._end_of_input = EndOfInput(self._terminal, self._process.pid)

    def _start_process(self, path: str) -> "subprocess.Popen[bytes]":
        environment = self._environment
        if self._tty_variable is not None:
            environment = {**environment, self._tty_variable: path}
        return subprocess.Popen(
            [*(self._starter or _OPEN_TTY), path, *self._argv],
            cwd=self._directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if self._starter is None else self._terminal.slave,
            start_new_session=True,
            # It imports nothing and takes no lock; and there are no threads yet that could hold one.
            preexec_fn=death_signal() if self._dies_with_us else None,  # noqa: PLW1509
        )

    # Ending

    def _notice_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._exited.set()
        if self._winding_up is None and self._restarting is None:
            self._winding_up = self._start_task(self._wind_up(report=True))

    async def close(self) -> None:
        """Let the command end, or make it, with all that it started."""
        if self._restarting is not None:
            await self._restarting
        if not self._terminal.is_open:
            return
        if self._winding_up is None:
            self._winding_up = self._loop.create_task(self._wind_up(report=False))
        await self._winding_up

    async def _wind_up(self, report: bool) -> None:
        if not self._exited.is_set():
            await self._ask_to_end()
        status = await self._kill()
        if report:
            self._finish(ending_in_words(status), status)
        else:
            self._release()

    async def _kill(self) -> int:
        """End the process and all that belongs to it, and receive what they have written; returns its status."""
        process = self._process
        assert process is not None
        # The process is not reaped before: until then nothing else can have its process id.
        await kill_all(lambda processes: processes.marked(self.mark, process.pid))
        status = await self._reap(process)
        self._terminal.drain()
        return status

    def _finish(self, reason: str, status: int) -> None:
        """Let go of the terminal, and tell the listener."""
        self._release()
        self._loop.call_soon(self._listener.ended, reason, status)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Begin what nobody waits for: what goes wrong there is to be heard of all the same."""
        task = self._loop.create_task(work)
        task.add_done_callback(asyncio.Task.result)
        return task

    # Starting again, for consoles that do so

    def _restart(self) -> bool:
        """Kill all processes and start the command again; returns False if it ends or does so already."""
        if not self._terminal.is_open or self._winding_up is not None or self._restarting is not None:
            return False
        self._restarting = self._start_task(self._start_again())
        return True

    def _give_up(self, reason: str) -> None:
        """End the command, and report it, for this reason."""
        if self._terminal.is_open and self._winding_up is None and self._restarting is None:
            self._winding_up = self._start_task(self._end_for(reason))

    def _between(self) -> bytes:
        """What comes out of the console before the command starts again."""
        return b""

    async def _start_again(self) -> None:
        await self._kill()
        # As after every start.
        self._terminal.reset()
        self._listener.received(self._between())
        self._restarting = None
        try:
            self._begin()
        except OSError as error:
            self._finish(f"could not be started again: {error}", 1)

    async def _end_for(self, reason: str) -> None:
        await self._kill()
        self._finish(reason, 1)

    async def _ask_to_end(self) -> None:
        assert self._process is not None
        group = self._process.pid
        # The processes of a starter only wait for the others.
        pids = [] if self._starter is None else (await look()).marked(self.mark, None, outside=group)
        # A stopped process would not notice without SIGCONT.
        for number in (signal.SIGTERM, signal.SIGCONT):
            if self._starter is not None:
                send_signal(pids, number)
            else:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._exited.wait(), _GRACE)

    async def _reap(self, process: "subprocess.Popen[bytes]") -> int:
        try:
            await asyncio.wait_for(self._exited.wait(), _GRACE)
            return process.wait()
        except TimeoutError:
            # It hangs in the kernel, or belongs to another user. More than hang up on it can't be done.
            return -signal.SIGKILL
        finally:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._process = None

    def _release(self) -> None:
        if self._end_of_input is not None:
            self._end_of_input.cancel()
        self._terminal.close()


def command_console(address: str) -> PtyProcess:
    """The console that the command in `exec:COMMAND` reaches. Raises ConsoleError if there is none.

    Its terminal has normal modes, which a program such as ssh hands on to the device before it sets those
    that it needs itself. Of one that sets none it does not echo what is typed, as the device does that.
    """
    command = address.removeprefix("exec:")
    if not command.strip():
        raise ConsoleError(
            f"{address}: the command is missing; write exec:COMMAND, for example 'exec:ssh board'"
        )
    return PtyProcess(address, ["/bin/sh", "-c", command], settings=Settings(echo=False))


def ending_in_words(status: int) -> str:
    """How a process with this status ended, as a clause."""
    if status < 0:
        return f"was killed by {_signal_name(-status)}"
    hint = {126: "can't be executed", 127: "not found"}.get(status)
    if hint is None and status > 128:
        # What a shell says of a command that was killed.
        hint = _signal_name(status - 128)
    return f"ended with status {status}" + (f" ({hint})" if hint else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}" if number <= signal.SIGRTMAX else ""
