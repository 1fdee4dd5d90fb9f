# SPDX-License-Identifier: MIT
"""A console on a serial port, or behind any other URL that pyserial takes: 8N1, no flow control.

pyserial blocks, and not all of its ports have a file descriptor to wait for (rfc2217 has
none), so each port has two threads: one opens, reads and opens again, the other writes.
"""

import asyncio
import contextlib
import io
import os
import queue
import select
import threading
from collections.abc import Callable

import serial

from dispatcher.consoles import ConsoleError, Listener

# Seconds between attempts to get a lost connection back.
RETRY_PAUSE = 3.0
# Seconds until a reader without a file descriptor looks whether it is to end.
_READ_TIMEOUT = 0.2
# Seconds that a write may be held up, by a terminal server that does not read for instance.
_WRITE_TIMEOUT = 5.0
_READ_SIZE = 64 * 1024
# Chunks on their way from the reader to the loop; more would only fill the memory.
_CHUNKS = 64
# Writes waiting for a port that takes none.
_WRITES = 1024
# Seconds that the threads get to end. A port that hangs while it is opened can't be interrupted.
_CLOSE_PATIENCE = 2.0


class SerialPort:
    """A port that pyserial opens, as a console."""

    def __init__(self, address: str, speed: int, *, retry_pause: float = RETRY_PAUSE) -> None:
        self.address = address
        self._speed = speed
        self._retry_pause = retry_pause
        self._port: serial.Serial | None = None
        self._stopping = threading.Event()
        # A byte in this pipe ends a reader that waits for a file descriptor.
        self._wake_reader, self._wake_writer = os.pipe()
        self._room = threading.Semaphore(_CHUNKS)
        self._writes: queue.Queue[bytes | None] = queue.Queue(_WRITES)
        self._threads = [
            threading.Thread(target=target, name=f"{name} {address}", daemon=True)
            for name, target in (("read", self._read_for_ever), ("write", self._write_for_ever))
        ]

    async def start(self, listener: Listener) -> None:
        """Open the port. Raises ConsoleError."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        try:
            self._port = await asyncio.to_thread(self._open)
        except (OSError, ValueError) as error:
            raise ConsoleError(f"{self.address}: {_why(error)}{_advice(error)}") from error
        for thread in self._threads:
            thread.start()

    def write(self, data: bytes) -> None:
        """Hand the bytes to the writer; they are dropped if it has too many already."""
        with contextlib.suppress(queue.Full):
            self._writes.put_nowait(data)

    async def close(self) -> None:
        """End the threads and close the port."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.write(self._wake_writer, b".")
        with contextlib.suppress(queue.Full):
            self._writes.put_nowait(None)
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        started = [thread for thread in self._threads if thread.ident is not None]
        for thread in started:
            thread.join(_CLOSE_PATIENCE)
        if not any(thread.is_alive() for thread in started):
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    def _open(self) -> serial.Serial:
        """Raises OSError (SerialException is one) or ValueError."""
        port = serial.serial_for_url(
            self.address,
            baudrate=self._speed,
            timeout=_READ_TIMEOUT,
            # rfc2217 has no time-out for writing, and refuses one. Its connection ends such a wait, too.
            write_timeout=None if self.address.lower().startswith("rfc2217:") else _WRITE_TIMEOUT,
            # A tty that somebody else reads, too, would give each of them half of it.
            exclusive=None if "://" in self.address else True,
            do_not_open=True,
        )
        # `open` calls it, and would throw away what a terminal server has sent by then.
        port.reset_input_buffer = lambda: None  # type: ignore[method-assign]
        port.open()
        return port

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        # The loop is closed when the program ends without having closed its consoles.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, callback, arguments)

    def _deliver(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if not self._stopping.is_set():
            callback(*arguments)

    # The reader's thread

    def _read_for_ever(self) -> None:
        while not self._stopping.is_set():
            port = self._port
            if port is None:
                self._open_again()
                continue
            try:
                data = _read(port, self._wake_reader)
            except (OSError, ValueError, TypeError) as error:
                # pyserial raises the odd ones when the port was closed under its feet.
                self._port = None
                _close(port)
                self._tell(self._listener.dropped, _why(error))
                continue
            if data and self._have_room():
                self._tell(self._receive, data)
        if self._port is not None:
            _close(self._port)

    def _open_again(self) -> None:
        if self._stopping.wait(self._retry_pause):
            return
        try:
            self._port = self._open()
        except (OSError, ValueError):
            return
        self._tell(self._listener.restored)

    def _have_room(self) -> bool:
        while not self._room.acquire(timeout=_READ_TIMEOUT):
            if self._stopping.is_set():
                return False
        return True

    def _receive(self, data: bytes) -> None:
        self._room.release()
        self._listener.received(data)

    # The writer's thread

    def _write_for_ever(self) -> None:
        while (data := self._writes.get()) is not None and not self._stopping.is_set():
            port = self._port
            if port is None:
                continue
            # What goes wrong here, the reader notices as well, and is the one to deal with it.
            with contextlib.suppress(OSError, ValueError, TypeError):
                port.write(data)


def _read(port: serial.Serial, wake: int) -> bytes:
    """What comes next; nothing if `wake` is readable, or nothing came for a while. Raises OSError."""
    try:
        descriptor = port.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return bytes(port.read(1) + port.read(port.in_waiting))
    # Not port.read: of a socket it can't say how much there is, and would read it byte by byte.
    ready, _, _ = select.select([descriptor, wake], [], [])
    if descriptor not in ready:
        return b""
    try:
        data = os.read(descriptor, _READ_SIZE)
    except BlockingIOError:
        return b""
    if not data:
        raise ConnectionError("the other end closed the connection")
    return data


def _close(port: serial.Serial) -> None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        port.close()


def _why(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _advice(error: Exception) -> str:
    text = str(error)
    number = getattr(error, "errno", None)
    if number == 13 or "Permission denied" in text:
        return "; you may have to be in the group that owns it (often dialout)"
    if "exclusively lock" in text:
        return "; another program has it open, end that first"
    return ""
