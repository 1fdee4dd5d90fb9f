# SPDX-License-Identifier: MIT
"""A command on a pty of its own: a simulated device, or a program that reaches a real console.

The command leads a session whose controlling terminal is the pty. It has ended when its
process has, whatever else still holds the pty open. Then its left-over processes are
killed, as if the board were switched off, and what still stands in the pty is received.
"""

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from dispatcher.consoles import ConsoleError, Listener
from dispatcher.consoles.pacer import Pacer
from dispatcher.consoles.processes import MARK_VARIABLE, death_signal, kill_all, look, send_signal

# The kernel gives a reader of a pty at most this many bytes at once.
_READ_SIZE = 4095
# Passed on at once at most.
_BATCH_SIZE = 16 * _READ_SIZE
# Bytes waiting to be typed; a device that does not read its console gets no more than that.
_TYPE_LIMIT = 256 * 1024
# At the end nothing should be left that writes. This bounds what something unkillable adds.
_DRAIN_LIMIT = 1024 * 1024
# Seconds between looks at whether a command has read its input to the end, at first and at last; and what
# ends it then.
_INPUT_PAUSE, _LAST_INPUT_PAUSE = 0.05, 30.0
_END_OF_FILE = b"\x04"
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
        echo: bool = True,
        modes: list[Any] | None = None,
        raw: bool = False,
        size: tuple[int, int] | None = None,
        baud: int | None = None,
        starter: Sequence[str] | None = None,
        dies_with_us: bool = False,
    ) -> None:
        """
        :param environment: of the command; None: this process's own.
        :param mark: a unique value for `MARK_VARIABLE`, to find left-over processes by; None: made up.
        :param tty_variable: the environment variable that is to hold the path of the command's tty.
        :param echo: whether the pty begins with echo, as every terminal does. Its other modes are those of
            every terminal, too, if `modes` does not say otherwise.
        :param modes: what the pty begins with, as from `termios.tcgetattr`.
        :param raw: whether it begins in raw mode: bytes go through as they are.
        :param size: rows and columns that it begins with.
        :param baud: both directions take the time of a serial line of this speed; None: as fast as it goes.
        :param starter: what to call with the path of the tty and the command behind. It is to run the command
            in another session, whose controlling terminal it makes the tty, and to end as the command did;
            what it has to say itself it may write to stderr. None: the command leads the session itself.
        :param dies_with_us: the kernel kills the command if this process, or the thread that has opened the
            console, ends in whatever way.
        """
        self.address = address
        self._argv = list(argv)
        self._directory = directory
        self._environment = dict(os.environ if environment is None else environment)
        self._mark = mark or secrets.token_hex(8)
        self._environment[MARK_VARIABLE] = self._mark
        self._tty_variable = tty_variable
        self._echo = echo
        self._initial_modes = modes
        self._raw = raw
        self._size = size
        self._baud = baud
        self._starter = starter
        self._dies_with_us = dies_with_us
        self._from_device = None if baud is None else Pacer(baud)
        self._to_device = None if baud is None else Pacer(baud)
        self._to_type = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._master: int | None = None
        self._slave: int | None = None
        self._receive_timer: asyncio.TimerHandle | None = None
        self._type_timer: asyncio.TimerHandle | None = None
        self._input_timer: asyncio.TimerHandle | None = None
        self._input_pause = _INPUT_PAUSE
        self._input_read = False  # when we looked last
        self._exited = asyncio.Event()
        self._winding_up: asyncio.Task[None] | None = None
        self._paused = False
        self._refused = False  # a `write` was, since when not all was written
        self._restarting: asyncio.Task[None] | None = None

    async def open(self, listener: Listener) -> None:
        """Start the command. Raises ConsoleError."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        try:
            self._master, self._slave = os.openpty()
            os.set_blocking(self._master, False)
            self._set_modes(self._slave)
            self._begin()
        except (OSError, ValueError) as error:
            # Should the command run already: closing its terminal ends it.
            self._release()
            raise ConsoleError(f"{self.address}: can't start the command: {error}") from error
        self._listen()

    def _begin(self) -> None:
        assert self._slave is not None
        self._exited.clear()
        self._process = self._start_process(os.ttyname(self._slave))
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._notice_exit)

    @property
    def pid(self) -> int | None:
        """The process that was started, as long as it is not reaped."""
        return None if self._process is None else self._process.pid

    def resize(self, rows: int, columns: int) -> None:
        """Tell the command how large the terminal is; without that it has no size, as a serial line."""
        self._size = rows, columns
        if self._master is not None:
            termios.tcsetwinsize(self._master, (rows, columns))

    @property
    def mark(self) -> str:
        """What its processes have as `MARK_VARIABLE` in their environment."""
        return self._mark

    def _set_modes(self, slave: int) -> None:
        if self._raw:
            tty.setraw(slave, termios.TCSANOW)
        modes = termios.tcgetattr(slave) if self._initial_modes is None else list(self._initial_modes)
        if self._size is not None:
            termios.tcsetwinsize(slave, self._size)
        if not self._echo:
            modes[3] &= ~termios.ECHO
        if self._baud is not None:
            modes[4] = modes[5] = _speed_constant(self._baud)
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        self._modes = termios.tcgetattr(slave)

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
            stderr=subprocess.DEVNULL if self._starter is None else self._slave,
            start_new_session=True,
            # It imports nothing and takes no lock; and there are no threads yet that could hold one.
            preexec_fn=death_signal() if self._dies_with_us else None,  # noqa: PLW1509
        )

    # Receiving

    def pause(self) -> None:
        """Read nothing for now: the command has to wait when the pty is full."""
        self._paused = True
        if self._receive_timer is not None:
            self._receive_timer.cancel()
        if self._master is not None:
            self._loop.remove_reader(self._master)

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            self._listen()

    def _listen(self) -> None:
        if self._master is not None and not self._paused:
            self._loop.add_reader(self._master, self._readable)

    def _readable(self) -> None:
        assert self._master is not None
        if self._from_device is not None:
            self._loop.remove_reader(self._master)
            self._from_device.begin(time.monotonic())
            self._receive_timer = self._loop.call_later(self._from_device.pause, self._receive_paced)
        elif data := self._read(_BATCH_SIZE):
            self._listener.received(data)

    def _receive_paced(self) -> None:
        assert self._from_device is not None and self._master is not None
        allowance = self._from_device.allowance(time.monotonic())
        data = self._read(min(allowance, _BATCH_SIZE))
        self._from_device.take(len(data))
        if data:
            self._listener.received(data)
        if len(data) < allowance:
            self._listen()
        elif not self._paused:
            self._receive_timer = self._loop.call_later(self._from_device.pause, self._receive_paced)

    def _read(self, limit: int) -> bytes:
        """What is there, at most `limit` bytes."""
        assert self._master is not None
        data = bytearray()
        while len(data) < limit:
            wanted = min(_READ_SIZE, limit - len(data))
            try:
                piece = os.read(self._master, wanted)
            except BlockingIOError:
                break
            except OSError:
                # Nothing comes any more, for good, as our own end of the tty is open.
                self._loop.remove_reader(self._master)
                break
            data += piece
            if len(piece) < wanted:
                break
        return bytes(data)

    def _drain(self) -> None:
        # A read may bring less than there is, so only one that brings nothing is the last.
        drained = 0
        while drained < _DRAIN_LIMIT and (data := self._read(_BATCH_SIZE)):
            self._listener.received(data)
            drained += len(data)

    # Typing

    def write(self, data: bytes) -> bool:
        """Type bytes; False if the command has ended, or lets too many wait already."""
        if self._master is None:
            return False
        if len(self._to_type) + len(data) > _TYPE_LIMIT:
            self._refused = True
            return False
        busy = bool(self._to_type)
        self._to_type += data
        if busy:
            return True
        if self._to_device is None:
            self._type()
        else:
            self._to_device.begin(time.monotonic())
            self._type_timer = self._loop.call_later(self._to_device.pause, self._type_paced)
        return True

    def _type(self) -> None:
        assert self._master is not None
        self._type_some(len(self._to_type))
        if self._to_type:
            self._loop.add_writer(self._master, self._type)
        else:
            self._loop.remove_writer(self._master)

    def _type_paced(self) -> None:
        assert self._to_device is not None
        now = time.monotonic()
        allowance = self._to_device.allowance(now)
        count = self._type_some(allowance)
        self._to_device.take(count)
        if count < allowance:
            # The device did not take more: time that the line stood still, and will not make up for.
            self._to_device.begin(now)
        if self._to_type:
            self._type_timer = self._loop.call_later(self._to_device.pause, self._type_paced)

    def _type_some(self, limit: int) -> int:
        assert self._master is not None
        try:
            count = os.write(self._master, self._to_type[:limit])
        except BlockingIOError:
            count = 0
        except OSError:
            # Hung up: nobody is there to read any of it.
            count = len(self._to_type)
        del self._to_type[:count]
        if self._refused and not self._to_type:
            self._refused = False
            self._loop.call_soon(self._listener.drained)
        return count

    def end_input(self) -> None:
        """Let the command read the end of its input, once it has read all that was typed.

        In raw mode a terminal has no end of file but its own. So it is given canonical mode, and the key that says so.
        As the command may set its own mode just then, this is done again, after growing pauses.
        """
        self._input_pause = _INPUT_PAUSE
        self._watch_input()

    def _watch_input(self) -> None:
        self._input_timer = self._loop.call_later(self._input_pause, self._look_at_input)

    def _look_at_input(self) -> None:
        if self._master is None or self._slave is None or self._process is None:
            return
        if self._to_type or self._unread():
            self._input_read = False
        elif not self._input_read:
            # What was written may be on its way to the other end.
            self._input_read = True
        else:
            self._input_read = False
            self._input_pause *= 2
            modes = termios.tcgetattr(self._slave)
            modes[3] |= termios.ICANON
            modes[6][termios.VEOF] = _END_OF_FILE
            # An end that was not read goes away. (TCSAFLUSH would wait for whoever reads the output.)
            termios.tcflush(self._slave, termios.TCIFLUSH)
            termios.tcsetattr(self._slave, termios.TCSANOW, modes)
            # Who waits in a read that has begun in raw mode waits for a byte. This lets the read begin anew.
            for number in (signal.SIGSTOP, signal.SIGCONT):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)
            self._loop.call_later(self._input_pause / 4, self.write, _END_OF_FILE)
        if self._input_pause < _LAST_INPUT_PAUSE:
            self._watch_input()

    def _unread(self) -> int:
        """Bytes that the command has not read."""
        assert self._slave is not None
        return int.from_bytes(fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)), sys.byteorder)

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
        if self._master is None:
            return
        if self._winding_up is None:
            self._winding_up = self._loop.create_task(self._wind_up(report=False))
        await self._winding_up

    async def _wind_up(self, report: bool) -> None:
        process = self._process
        assert process is not None
        if not self._exited.is_set():
            await self._ask_to_end(process.pid)
        status = await self._kill(process)
        self._release()
        if report:
            self._loop.call_soon(self._listener.ended, ending_in_words(status), status)

    async def _kill(self, process: "subprocess.Popen[bytes]") -> int:
        """End the process and all that belongs to it, and receive what they have written; returns its status."""
        # The process is not reaped before: until then nothing else can have its process id.
        await kill_all(lambda processes: processes.marked(self._mark, process.pid))
        status = await self._reap(process)
        self._drain()
        return status

    def _start_task(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Begin what nobody waits for: what goes wrong there is to be heard of all the same."""
        task = self._loop.create_task(work)
        task.add_done_callback(asyncio.Task.result)
        return task

    # Starting again, for consoles that do so

    def _restart(self) -> bool:
        """Kill all processes and start the command again; returns False if it ends or does so already."""
        if self._master is None or self._winding_up is not None or self._restarting is not None:
            return False
        self._restarting = self._start_task(self._start_again())
        return True

    def _give_up(self, reason: str) -> None:
        """End the command, and report it, for this reason."""
        if self._master is not None and self._winding_up is None and self._restarting is None:
            self._winding_up = self._start_task(self._end_for(reason))

    def _between(self) -> bytes:
        """What comes out of the console before the command starts again."""
        return b""

    async def _start_again(self) -> None:
        process = self._process
        assert process is not None and self._slave is not None
        await self._kill(process)
        # As after every start: what was typed is lost, and the modes are the usual ones.
        self._to_type.clear()
        termios.tcflush(self._slave, termios.TCIOFLUSH)
        termios.tcsetattr(self._slave, termios.TCSANOW, self._modes)
        self._listener.received(self._between())
        self._restarting = None
        try:
            self._begin()
        except OSError as error:
            self._release()
            self._loop.call_soon(self._listener.ended, f"could not be started again: {error}", 1)

    async def _end_for(self, reason: str) -> None:
        process = self._process
        assert process is not None
        await self._kill(process)
        self._release()
        self._loop.call_soon(self._listener.ended, reason, 1)

    async def _ask_to_end(self, group: int) -> None:
        # The processes of a starter only wait for the others.
        pids = [] if self._starter is None else (await look()).marked(self._mark, None, outside=group)
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
        for timer in (self._receive_timer, self._type_timer, self._input_timer):
            if timer is not None:
                timer.cancel()
        self._to_type.clear()
        if self._master is not None:
            self._loop.remove_reader(self._master)
            self._loop.remove_writer(self._master)
            os.close(self._master)
            self._master = None
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None


def command_console(address: str) -> PtyProcess:
    """The console that the command in `exec:COMMAND` reaches. Raises ConsoleError if there is none.

    Its terminal has normal modes, which a program such as ssh hands on to the device before it sets those
    that it needs itself; but no echo, as nobody looks at it.
    """
    command = address.removeprefix("exec:")
    if not command.strip():
        raise ConsoleError(
            f"{address}: the command is missing; write exec:COMMAND, for example 'exec:ssh board'"
        )
    return PtyProcess(address, ["/bin/sh", "-c", command], echo=False)


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


def _speed_constant(baud: int) -> int:
    """The standard speed that is nearest below; commands on the device take their time-outs from it."""
    speeds = {
        int(name[1:]): constant
        for name, constant in vars(termios).items()
        if name.startswith("B") and name[1:].isdecimal() and name != "B0"
    }
    return int(speeds[max((speed for speed in speeds if speed <= baud), default=min(speeds))])
