# SPDX-License-Identifier: MIT
"""A console on a serial port, or behind any other URL that pyserial takes: 8N1, no flow control.

Terminals and sockets are read and written by the event loop (`onloop`). What has no file descriptor to wait for,
as rfc2217, has two threads (`threads`), beside the one that pyserial has for it.
"""

import asyncio
import contextlib
import errno
import io
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import serial

from dispatcher.consoles import ConsoleError, Listener
from dispatcher.consoles.onloop import LoopConnection
from dispatcher.consoles.threads import ThreadedConnection, close_port, why

# Seconds until a reader without a file descriptor looks whether it is to end.
_READ_TIMEOUT = 0.2
# Seconds that a write may be held up where there is none.
_WRITE_TIMEOUT = 5.0
# Seconds until a terminal server has answered.
_CONNECT_TIMEOUT = 5.0
# Ports that are opened or closed at a time: that may take as long as the driver likes, and can't be interrupted.
_OPENERS = ThreadPoolExecutor(64, "port")
# A terminal server that has lost power says nothing more. The kernel asks it after so many seconds of silence,
# again after each further pause, and gives up after so many questions: 22 s in all.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 4), (socket.TCP_KEEPCNT, 3))
# Milliseconds for which what was written may stay without an answer.
_USER_TIMEOUT = 22_000
# The URLs of pyserial that reach something; others are for its own tests, or wrap these.
_NETWORK = ("socket", "rfc2217")
_WRAPPERS = ("spy", "alt", "hwgrep", "loop", "cp2110")


class SerialPort:
    """A port that pyserial opens, as a console. Raises ConsoleError for an address that no port can have."""

    lasting = True

    def __init__(self, address: str, speed: int) -> None:
        self.address = address
        self._speed = speed
        self._connection: LoopConnection | ThreadedConnection | None = None
        _check_address(address)

    async def open(self, listener: Listener) -> None:
        """Open the port. Raises ConsoleError."""
        await self.close()
        try:
            if urlsplit(self.address).scheme.lower() == "socket":
                connection = await _connect(self.address)
                self._connection = LoopConnection(connection.fileno(), connection.close, listener)
                return
            port = await asyncio.get_running_loop().run_in_executor(_OPENERS, self._open)
        except TimeoutError as error:
            raise ConsoleError(f"{self.address}: nobody has answered for {_CONNECT_TIMEOUT:.0f} s") from error
        except (OSError, ValueError) as error:
            raise ConsoleError(f"{self.address}: {_told(error)}") from error
        try:
            descriptor = port.fileno()
        except (AttributeError, io.UnsupportedOperation):
            self._connection = ThreadedConnection(port, listener, asyncio.get_running_loop(), self.address)
        else:
            # It is not closed here: a driver may first wait until all is sent.
            self._connection = LoopConnection(descriptor, lambda: _OPENERS.submit(close_port, port), listener)

    def write(self, data: bytes) -> bool:
        """Hand the bytes to the writer; False if there is no connection, or it has too many already."""
        return self._connection is not None and self._connection.write(data)

    def pause(self) -> None:
        """Deliver nothing for now. Once much is held back, nothing is read, and the sender has to wait."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Receive again."""
        if self._connection is not None:
            self._connection.resume()

    async def close(self) -> None:
        """Close the port."""
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


def _check_address(address: str) -> None:
    """Raises ConsoleError for an address that pyserial refuses without saying what is wrong with it."""
    if "://" not in address:
        with contextlib.suppress(OSError):
            mode = os.stat(address).st_mode
            if not stat.S_ISCHR(mode) or os.path.realpath(address) in ("/dev/null", "/dev/zero", "/dev/full"):
                raise ConsoleError(f"{address}: this is no serial port; name one such as /dev/ttyUSB0")
        if "/" not in address and not os.path.exists(address):
            # A device file may come later, but it has a folder in its name.
            raise ConsoleError(f"{address}: write a device file such as /dev/ttyUSB0, or exec:COMMAND")
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
            port = urlsplit(address).port
            complete = port is not None and bool(urlsplit(address).hostname)
            if port == 0:
                raise ValueError
        except ValueError:
            host = urlsplit(address).netloc.rpartition(":")[0]
            if ":" in host and not host.startswith("["):
                raise ConsoleError(
                    f"{address}: an IPv6 address needs brackets; write {scheme}://[ADDRESS]:PORT"
                ) from None
            raise ConsoleError(
                f"{address}: the port must be a number from 1 to 65535; write {scheme}://HOST:PORT"
            ) from None
        if not complete:
            raise ConsoleError(f"{address}: the port is missing; write {scheme}://HOST:PORT")


async def _connect(address: str) -> socket.socket:
    """A connection to a socket:// address. Raises OSError; of a name with several addresses, that of the last one."""
    parts = urlsplit(address)
    loop = asyncio.get_running_loop()
    failure: OSError = OSError(f"there is no address of {parts.hostname}")
    async with asyncio.timeout(_CONNECT_TIMEOUT):
        for family, kind, _, _, place in await _addresses(str(parts.hostname), parts.port or 0):
            connection = socket.socket(family, kind)
            try:
                connection.setblocking(False)
                _notice_dead_peers(connection)
                await loop.sock_connect(connection, place)
            except OSError as error:
                connection.close()
                failure = OSError(os.strerror(error.errno or 0))
            except BaseException:
                connection.close()
                raise
            else:
                return connection
    raise failure


async def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        # Without a thread, where there is nothing to look up.
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric))
    except socket.gaierror:
        return list(await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM))


def _notice_dead_peers(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)


def _told(error: Exception) -> str:
    """What is wrong, and what to do."""
    # pyserial says it twice, with the number of the error and the name of the port.
    if getattr(error, "errno", None) is None and isinstance(error.__context__, OSError):
        error = error.__context__
    number, text = getattr(error, "errno", None), why(error)
    # That of a name that nobody knows is less than 0, and its text is its own.
    reason = os.strerror(number) if number and number > 0 else getattr(error, "strerror", None) or text
    if number == errno.EACCES:
        return f"{reason}; you may have to be in the group that owns it (often dialout)"
    if number == errno.ENOENT:
        return "there is no such port"
    if "exclusively lock" in text or number == errno.EBUSY:
        return "another program has it open, end that first"
    return reason
