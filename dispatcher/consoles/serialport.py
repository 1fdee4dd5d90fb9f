# SPDX-License-Identifier: MIT
"""A console on a serial port, or behind any other URL that pyserial takes: 8N1, no flow control.

pyserial blocks, and not all of its ports have a file descriptor to wait for (rfc2217 has
none), so each connection has two threads: one reads, the other writes.
"""

import asyncio
import contextlib
import io
import os
import queue
import select
import socket
import stat
import threading
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

import serial

from dispatcher.consoles import ConsoleError, Listener

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
# A terminal server that has lost power says nothing more. The kernel asks it after so many seconds of silence,
# again after each further pause, and gives up after so many questions: 22 s in all.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 4), (socket.TCP_KEEPCNT, 3))
# Milliseconds for which what was written may stay without an answer.
_USER_TIMEOUT = 22_000
# The URLs of pyserial that reach something; others are for its own tests, or wrap these.
_NETWORK = ("socket", "rfc2217")
_WRAPPERS = ("spy", "alt", "hwgrep", "loop", "cp2110")


class SerialPort:
    """A port that pyserial opens, as a console. Raises ConsoleError for an address that can be none."""

    lasting = True

    def __init__(self, address: str, speed: int) -> None:
        self.address = address
        self._speed = speed
        self._connection: _Connection | None = None
        _check_address(address)

    async def open(self, listener: Listener) -> None:
        """Open the port. Raises ConsoleError."""
        await self.close()
        try:
            port = await asyncio.to_thread(self._open)
        except (OSError, ValueError) as error:
            raise ConsoleError(f"{self.address}: {_why(error)}{_advice(error)}") from error
        self._connection = _Connection(port, listener, asyncio.get_running_loop(), self.address)

    def write(self, data: bytes) -> bool:
        """Hand the bytes to the writer; False if there is no connection, or it has too many already."""
        return self._connection is not None and self._connection.write(data)

    def pause(self) -> None:
        """Hold back what comes, and let the line wait once that is much."""
        if self._connection is not None:
            self._connection.paused = True

    def resume(self) -> None:
        """Receive again."""
        if self._connection is not None:
            self._connection.resume()

    async def close(self) -> None:
        """End the threads and close the port."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

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
        connection = getattr(port, "_socket", None)
        if isinstance(connection, socket.socket):
            _notice_dead_peers(connection)
        return port


class _Connection:
    """An open port and its two threads, until it is lost or closed."""

    def __init__(
        self, port: serial.Serial, listener: Listener, loop: asyncio.AbstractEventLoop, address: str
    ) -> None:
        self.paused = False
        self._port = port
        self._listener = listener
        self._loop = loop
        self._stopping = threading.Event()
        # A byte in this pipe ends a reader that waits for a file descriptor.
        self._wake_reader, self._wake_writer = os.pipe()
        self._room = threading.Semaphore(_CHUNKS)
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
        try:
            self._writes.put_nowait(data)
        except queue.Full:
            self._refused = True
            return False
        return True

    def resume(self) -> None:
        self.paused = False
        while self._held and not self.paused:
            self._receive(self._held.popleft())

    async def close(self) -> None:
        self._stop()
        await asyncio.to_thread(self._join)

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            os.write(self._wake_writer, b".")
            with contextlib.suppress(queue.Full):
                self._writes.put_nowait(None)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(_CLOSE_PATIENCE)
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self._wake_reader)
            os.close(self._wake_writer)

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
                data = _read(self._port, self._wake_reader)
            except (OSError, ValueError, TypeError) as error:
                # pyserial raises the odd ones when the port was closed under its feet.
                self._tell(self._lose, _why(error))
                break
            if data and self._have_room():
                self._tell(self._receive_or_hold, data)
        _close(self._port)

    def _lose(self, reason: str) -> None:
        self.resume()
        self._stop()
        self._listener.lost(reason)

    def _have_room(self) -> bool:
        while not self._room.acquire(timeout=_READ_TIMEOUT):
            if self._stopping.is_set():
                return False
        return True

    def _receive_or_hold(self, data: bytes) -> None:
        if self.paused:
            self._held.append(data)
        else:
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        self._room.release()
        self._listener.received(data)

    # The writer's thread

    def _write_until_lost(self) -> None:
        while (data := self._writes.get()) is not None and not self._stopping.is_set():
            # What goes wrong here, the reader notices as well, and is the one to deal with it.
            with contextlib.suppress(OSError, ValueError, TypeError):
                self._port.write(data)
            if self._refused and self._writes.empty():
                self._refused = False
                self._tell(self._listener.drained)


def _check_address(address: str) -> None:
    """Raises ConsoleError for what pyserial would not open, and would say so in words that help nobody."""
    if "://" not in address:
        with contextlib.suppress(OSError):
            mode = os.stat(address).st_mode
            if not stat.S_ISCHR(mode) or os.path.realpath(address) in ("/dev/null", "/dev/zero", "/dev/full"):
                raise ConsoleError(f"{address}: this is no serial port; name one such as /dev/ttyUSB0")
        return
    scheme = address.partition(":")[0].lower()
    if scheme in ("telnet", "ssh"):
        raise ConsoleError(
            f"{address}: {scheme} is reached by its program; write 'exec:{scheme} HOST', "
            "or socket://HOST:PORT for a plain TCP connection"
        )
    if scheme not in (*_NETWORK, *_WRAPPERS):
        raise ConsoleError(
            f"{address}: there is no {scheme}://; write socket://HOST:PORT, rfc2217://HOST:PORT, exec:COMMAND, "
            "or a device file"
        )
    if scheme in _NETWORK:
        try:
            complete = urlsplit(address).port is not None and bool(urlsplit(address).hostname)
        except ValueError:
            raise ConsoleError(
                f"{address}: the port must be a number up to 65535; write {scheme}://HOST:PORT"
            ) from None
        if not complete:
            raise ConsoleError(f"{address}: the port is missing; write {scheme}://HOST:PORT")


def _notice_dead_peers(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)


def _read(port: serial.Serial, wake: int) -> bytes:
    """What comes next; nothing if `wake` is readable, or nothing came for a while. Raises OSError."""
    try:
        descriptor = port.fileno()
    except (AttributeError, io.UnsupportedOperation):
        return bytes(port.read(1) + port.read(port.in_waiting))
    # Not port.read: of a socket it can't say how much there is, and would read it byte by byte.
    # Not select: it knows no more than 1024 descriptors.
    waiting = select.poll()
    for number in (descriptor, wake):
        waiting.register(number, select.POLLIN)
    if descriptor not in dict(waiting.poll()):
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
