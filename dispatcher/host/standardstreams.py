# SPDX-License-Identifier: MIT
"""This process's own standard input and output as two streams of bytes: a terminal, pipes, sockets or files."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable

INPUT, OUTPUT = 0, 1
# Read at once, and written at once.
_READ_SIZE = 16 * 1024
_WRITE_SIZE = 64 * 1024
# Bytes that wait for whoever reads our output: when there are more, `full` is told.
HIGH_WATER = 256 * 1024


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
        self._input = _Stream(INPUT, os.O_RDONLY)
        self._output = _Stream(OUTPUT, os.O_WRONLY)
        self._held = b""  # of the input: what could not be taken
        self._waiting = bytearray()
        self._is_full = False
        self._is_broken = False
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
        if self._is_broken or not data:
            return
        busy = bool(self._waiting)
        self._waiting += data
        if not busy:
            self._idle.clear()
            self._write_some()
        if len(self._waiting) > HIGH_WATER and not self._is_full:
            self._is_full = True
            self._full(True)

    async def close(self, patience: float) -> None:
        """Write what waits, for so many seconds at most, and let go."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), patience)
        for stream in (self._input, self._output):
            stream.close(self._loop)

    def _listen(self) -> None:
        if not self._input.watch_reading(self._loop, self._readable):
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
            self._input.unwatch_reading(self._loop)
            self._ended(True)
            return False
        if not data:
            self._input.unwatch_reading(self._loop)
            self._ended(self._input.is_terminal)
            return False
        self._pass_on(data)
        return not self._held

    def _pass_on(self, data: bytes) -> None:
        if not self._received(data):
            self._held = data
            self._input.unwatch_reading(self._loop)

    def _write_some(self) -> None:
        try:
            count = self._output.write(self._waiting[:_WRITE_SIZE])
        except BlockingIOError:
            count = 0
        except OSError:
            self._is_broken = True
            self._waiting.clear()
            self._loop.call_soon(self._broken)
            count = 0
        del self._waiting[:count]
        if self._waiting:
            if not self._output.watch_writing(self._loop, self._write_some):
                self._loop.call_soon(self._write_some)
            return
        self._output.unwatch_writing(self._loop)
        self._idle.set()
        if self._is_full:
            self._is_full = False
            self._full(False)


class _Stream:
    """One of the two, without waiting."""

    def __init__(self, number: int, flags: int) -> None:
        self._socket: socket.socket | None = None
        self._descriptor = number
        self._own = False
        self.is_terminal = os.isatty(number)
        self._watched = False
        self._written = False
        self.closed = False
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode):
            return  # it never keeps anybody waiting, and opened anew it would begin anew
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

    def watch_reading(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
        """False if this is nothing that one could wait for."""
        try:
            loop.add_reader(self._descriptor, callback)
        except PermissionError:
            return False
        self._watched = True
        return True

    def unwatch_reading(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._watched:
            loop.remove_reader(self._descriptor)
            self._watched = False

    def watch_writing(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
        """False if this is nothing that one could wait for."""
        if not self._written:
            try:
                loop.add_writer(self._descriptor, callback)
            except PermissionError:
                return False
            self._written = True
        return True

    def unwatch_writing(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._written:
            loop.remove_writer(self._descriptor)
            self._written = False

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        self.unwatch_reading(loop)
        self.unwatch_writing(loop)
        self.closed = True
        if self._socket is not None:
            self._socket.close()
        elif self._own:
            os.close(self._descriptor)
