# SPDX-License-Identifier: MIT
"""An open port of pyserial's that has no file descriptor to wait for: one thread reads it, another one writes."""

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable

import serial

from dispatcher.consoles import Listener

# Seconds until a reader looks whether it is to end.
_LOOK = 0.2
# Bytes on their way from the reader to the loop, without the last chunk. If the loop can't keep up, the rest waits on
# the line: all that is on the way here delays the answers to what comes behind it.
_ON_THE_WAY = 64 * 1024
# Writes waiting for a port that takes none.
_WRITES = 1024
# Seconds that the threads get to end.
_CLOSE_PATIENCE = 2.0


class ThreadedConnection:
    """A port and its two threads, until it is lost or closed.

    :param port: with a time-out for reading.
    """

    def __init__(
        self, port: serial.Serial, listener: Listener, loop: asyncio.AbstractEventLoop, address: str
    ) -> None:
        self._paused = False
        self._port = port
        self._listener = listener
        self._loop = loop
        self._stopping = threading.Event()
        self._room = threading.Condition()
        self._on_the_way = 0  # bytes
        self._held: deque[bytes] = deque()  # what came while paused
        self._writes: queue.Queue[bytes | None] = queue.Queue(_WRITES)
        self._refused = False
        self._threads = [
            threading.Thread(target=target, name=f"{name} {address}", daemon=True)
            for name, target in (("read", self._read_until_lost), ("write", self._write_until_lost))
        ]
        for thread in self._threads:
            thread.start()

    def write(self, data: bytes) -> bool:
        """Hand the bytes to the writer; False if it has too many already."""
        try:
            self._writes.put_nowait(data)
        except queue.Full:
            self._refused = True
            return False
        return True

    def pause(self) -> None:
        """Deliver nothing for now. Once much is held back, nothing is read, and the sender has to wait."""
        self._paused = True

    def resume(self) -> None:
        """Receive again."""
        self._paused = False
        while self._held and not self._paused:
            self._receive(self._held.popleft())

    async def close(self) -> None:
        """End the threads and close the port."""
        self._stop()
        await asyncio.to_thread(self._join)

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            with contextlib.suppress(queue.Full):
                self._writes.put_nowait(None)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(_CLOSE_PATIENCE)

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        # The loop is closed when the program ends without having closed its consoles.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, callback, arguments)

    def _deliver(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if not self._stopping.is_set():
            callback(*arguments)

    # The reader's thread

    def _read_until_lost(self) -> None:
        while not self._stopping.is_set():
            try:
                data = bytes(self._port.read(1) + self._port.read(self._port.in_waiting))
            except (OSError, ValueError, TypeError) as error:
                # pyserial raises other kinds of errors, too, when the port is closed meanwhile.
                self._tell(self._lose, why(error))
                break
            if data and self._have_room():
                with self._room:
                    self._on_the_way += len(data)
                self._tell(self._receive_or_hold, data)
        close_port(self._port)

    def _lose(self, reason: str) -> None:
        self.resume()
        self._stop()
        self._listener.lost(reason)

    def _have_room(self) -> bool:
        with self._room:
            while self._on_the_way >= _ON_THE_WAY:
                if self._stopping.is_set():
                    return False
                self._room.wait(_LOOK)
        return True

    def _receive_or_hold(self, data: bytes) -> None:
        if self._paused:
            self._held.append(data)
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        with self._room:
            self._on_the_way -= len(data)
            self._room.notify()
        self._listener.received(data)

    # The writer's thread

    def _write_until_lost(self) -> None:
        while (data := self._writes.get()) is not None and not self._stopping.is_set():
            # The reader meets the same error, and reports it.
            with contextlib.suppress(OSError, ValueError, TypeError):
                self._port.write(data)
            if self._refused and self._writes.empty():
                self._refused = False
                self._tell(self._listener.drained)


def close_port(port: serial.Serial) -> None:
    """Close it, whatever pyserial says."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        port.close()


def why(error: Exception) -> str:
    """What the error says, or at least its name."""
    return str(error).strip() or type(error).__name__
