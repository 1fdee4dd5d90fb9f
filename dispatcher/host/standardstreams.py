# SPDX-License-Identifier: MIT
"""This process's own standard input and output as two streams of bytes: a terminal, pipes, sockets or files."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable
from enum import Enum

INPUT, OUTPUT = 0, 1
# Bytes that one call reads, and writes, at most.
_READ_SIZE = 16 * 1024
_WRITE_SIZE = 64 * 1024
# Bytes that may wait to be written; `full` is called when there are more.
HIGH_WATER = 256 * 1024


class _Output(Enum):
    """How the output is."""

    FLOWING = "takes more"
    FULL = "too much waits to be written, and `full` was told"
    BROKEN = "nobody reads it any more"


class StandardStreams:
    """Standard input and output in the event loop. Neither ever blocks it.

    Others may have the same terminal or pipe, so its flags are left alone: it is opened once more where that
    is possible.

    :param received: gets what is read; it returns False if it can take no more until `resume` is called, and then
        gets the same bytes again.
    :param ended: is called at the end of the input, with whether the terminal is gone.
    :param full: is called with True when too much waits to be written, with False when all of it is.
    :param broken: is called when nobody reads the output any more.
    """

    def __init__(
        self,
        received: Callable[[bytes], bool],
        ended: Callable[[bool], object],
        full: Callable[[bool], object],
        broken: Callable[[], object],
    ) -> None:
        self._received = received
        self._ended = ended
        self._full = full
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._input = _Stream(INPUT, self._loop)
        self._output = _Stream(OUTPUT, self._loop)
        self._held = b""  # input that `received` did not take
        self._waiting = bytearray()  # output that is not written yet
        self._state = _Output.FLOWING
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Begin to read."""
        self._listen()

    def resume(self) -> None:
        """Whoever is told can take more."""
        if self._held:
            data, self._held = self._held, b""
            self._pass_on(data)
            if not self._held:
                self._listen()

    def write(self, data: bytes) -> None:
        """Write it, now or as soon as it goes."""
        if self._state is _Output.BROKEN or not data:
            return
        busy = bool(self._waiting)
        self._waiting += data
        if not busy:
            self._idle.clear()
            self._write_some()
        if len(self._waiting) > HIGH_WATER and self._state is _Output.FLOWING:
            self._state = _Output.FULL
            self._full(True)

    async def close(self, patience: float) -> None:
        """Write what waits, for so many seconds at most, and let go."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), patience)
        for stream in (self._input, self._output):
            stream.close()

    def _listen(self) -> None:
        if not self._input.watch(self._readable):
            # A file, or /dev/null: there is always something to read, be it the end.
            self._loop.call_soon(self._readable_file)

    def _readable_file(self) -> None:
        if not self._input.closed and self._readable():
            self._loop.call_soon(self._readable_file)

    def _readable(self) -> bool:
        try:
            data = self._input.read(_READ_SIZE)
        except BlockingIOError:
            return True
        except OSError:
            self._input.unwatch()
            self._ended(True)
            return False
        if not data:
            self._input.unwatch()
            self._ended(self._input.is_terminal)
            return False
        self._pass_on(data)
        return not self._held

    def _pass_on(self, data: bytes) -> None:
        if not self._received(data):
            self._held = data
            self._input.unwatch()

    def _write_some(self) -> None:
        state = _Output.FLOWING
        try:
            del self._waiting[: self._output.write(self._waiting[:_WRITE_SIZE])]
        except BlockingIOError:
            pass
        except OSError:
            state = _Output.BROKEN
            self._waiting.clear()
            self._loop.call_soon(self._broken)
        if self._waiting:
            if not self._output.watch(self._write_some):
                self._loop.call_soon(self._write_some)
            return
        was, self._state = self._state, state
        self._output.unwatch()
        self._idle.set()
        if was is _Output.FULL:
            self._full(False)


class _Stream:
    """INPUT or OUTPUT, read or written without waiting."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        if number == INPUT:
            flags, self._add, self._remove = os.O_RDONLY, loop.add_reader, loop.remove_reader
        else:
            flags, self._add, self._remove = os.O_WRONLY, loop.add_writer, loop.remove_writer
        self._socket: socket.socket | None = None
        self._descriptor = number
        self._own = False  # opened here
        self.is_terminal = os.isatty(number)
        self._watched = False
        self.closed = False
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode):
            return  # it never blocks, and a new descriptor would begin at its start
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(number))
            self._descriptor = self._socket.fileno()
            return
        with contextlib.suppress(OSError):
            path = os.ttyname(number) if self.is_terminal else f"/proc/self/fd/{number}"
            self._descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
            self._own = True

    def read(self, size: int) -> bytes:
        if self._socket is not None:
            return self._socket.recv(size, socket.MSG_DONTWAIT)
        return os.read(self._descriptor, size)

    def write(self, data: bytes | bytearray) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        return os.write(self._descriptor, data)

    def watch(self, callback: Callable[[], object]) -> bool:
        """Call `callback` whenever it is ready; False if it can't be waited for: it is always ready then."""
        if not self._watched:
            try:
                self._add(self._descriptor, callback)
            except PermissionError:
                return False
            self._watched = True
        return True

    def unwatch(self) -> None:
        if self._watched:
            self._remove(self._descriptor)
            self._watched = False

    def close(self) -> None:
        self.unwatch()
        self.closed = True
        if self._socket is not None:
            self._socket.close()
        elif self._own:
            os.close(self._descriptor)
