# SPDX-License-Identifier: MIT
"""A clean console for other tools: what the device prints without the protocol, as a TCP port or a terminal.

Each client is a tap of the device's attachment, and what it writes is typed to the device. One that does not read
what it gets is cut off, or, where that can't be done, loses it: nobody else notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import termios
import tty
from typing import Protocol

from dispatcher.host import attachment

# Bytes that wait for a client, above which the console waits for it, for HOLD seconds; then it is taken for one that
# does not read.
MAX_UNREAD = 1024 * 1024
HOLD = 1.0
# Clients of the ports of one device at a time; further ones are turned away.
MAX_CLIENTS = 100
# How a browser begins, which any page can make connect to a port of this machine: what it sends then is chosen by that
# page, and would be typed to the device. (HTTP; TLS.)
_BROWSER = re.compile(rb"(?:[A-Z]+ (?:/|[a-z]+:|\*)|PRI \*|\x16\x03)")
_MAX_UNREAD_TERMINAL = 64 * 1024
_READ_SIZE = 4096

_IAC, _SB, _SE = 255, 250, 240
_WILL, _DONT = 251, 254
# WILL ECHO, WILL SUPPRESS-GO-AHEAD, DO SUPPRESS-GO-AHEAD, WILL BINARY, DO BINARY: keys one by one, all eight bits.
_TELNET_HELLO = bytes((_IAC, 251, 1, _IAC, 251, 3, _IAC, 253, 3, _IAC, 251, 0, _IAC, 253, 0))


class Device(Protocol):
    """What a client looks at and types to."""

    taps: set[Tap]

    def type(self, data: bytes) -> bool:
        """Type to the device. False: it can't take that yet; `Tap.room` follows."""

    def hold(self, client: Client) -> None:
        """Read nothing of the device until `let_go`; the client is dropped if that takes too long."""

    def let_go(self, client: Client) -> None:
        """The client does not need the device to be held any more."""


class Tap(attachment.Tap, Protocol):
    """One that types to the device as well."""

    def room(self) -> None:
        """What could not be typed may be tried again."""


class Client(asyncio.Protocol):
    """One connection to a clean console.

    :param writes: whether what it sends is typed to the device.
    :param telnet: whether it speaks telnet.
    :param port: whether it came by a port, which anybody may reach.
    """

    def __init__(self, device: Device, *, writes: bool, telnet: bool = False, port: bool = False) -> None:
        self._device = device
        self._writes = writes
        self._telnet = TelnetReader() if telnet else None
        self.port = port
        self._spoken = False
        self._untyped = b""  # what the device can't take yet
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        others = sum(isinstance(tap, Client) and tap.port for tap in self._device.taps)
        if self.port and others >= MAX_CLIENTS:
            transport.abort()
            return
        transport.set_write_buffer_limits(MAX_UNREAD)
        if self._telnet is not None:
            transport.write(_TELNET_HELLO)
        self._device.taps.add(self)

    def data_received(self, data: bytes) -> None:
        if self.port and not self._spoken and _BROWSER.match(data):
            self.drop()
            return
        self._spoken = True
        if self._telnet is not None:
            data = self._telnet.receive_data(data)
        if data and self._writes and not self._device.type(data):
            self._untyped = data
            self._transport.pause_reading()

    def room(self) -> None:
        """Type what had to wait."""
        if self._untyped and self._device.type(self._untyped):
            self._untyped = b""
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._device.taps.discard(self)
        self._device.let_go(self)

    def pause_writing(self) -> None:
        """Too much waits for the client."""
        self._device.hold(self)

    def resume_writing(self) -> None:
        """It has read that."""
        self._device.let_go(self)

    def output(self, data: bytes, now: float) -> None:
        """Pass output on."""
        if self._telnet is not None:
            data = data.replace(b"\xff", b"\xff\xff")
        self._transport.write(data)

    def notice(self, sentence: str) -> None:
        """It is no output."""

    def drop(self) -> None:
        """End the connection."""
        self._device.taps.discard(self)
        self._device.let_go(self)
        self._transport.abort()


class TelnetReader:
    """Takes telnet's commands out of what a client sends. No I/O."""

    def __init__(self) -> None:
        self._state = b""  # the command that is not whole
        self._after_return = False

    def receive_data(self, data: bytes) -> bytes:
        """What was typed."""
        typed = bytearray()
        for byte in data:
            if self._state:
                self._go_on(byte, typed)
            elif byte == _IAC:
                self._state = bytes((byte,))
            elif byte in b"\0\n" and self._after_return:
                # A return key is CR NUL, or CR LF.
                pass
            else:
                typed.append(byte)
            self._after_return = byte == 0x0D
        return bytes(typed)

    def _go_on(self, byte: int, typed: bytearray) -> None:
        command = self._state[1:2]
        if not command:
            if byte == _IAC:
                typed.append(byte)
            self._state = self._state + bytes((byte,)) if byte == _SB or _WILL <= byte <= _DONT else b""
        elif command[0] != _SB or (self._state[2:] == b"\xff" and byte == _SE):
            self._state = b""
        else:
            # Of a negotiation only the last byte counts.
            self._state = bytes((_IAC, _SB, byte))


class TerminalLink:
    """A terminal that shows the clean console, and a link to it."""

    def __init__(self, device: Device, path: str) -> None:
        """Raises OSError."""
        self._device = device
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._unread = bytearray()
        self._untyped = b""
        self._master, self._slave = os.openpty()
        try:
            tty.setraw(self._slave, termios.TCSANOW)
            os.set_blocking(self._master, False)
            temporary = f"{path}.new"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            os.symlink(os.ttyname(self._slave), temporary)
            if os.path.lexists(path) and not os.path.islink(path):
                os.unlink(temporary)
                raise FileExistsError(0, f"{path} is there, and is no link")
            os.replace(temporary, path)
        except OSError:
            os.close(self._master)
            os.close(self._slave)
            raise
        self._target = os.ttyname(self._slave)
        self._loop.add_reader(self._master, self._readable)
        device.taps.add(self)

    def close(self) -> None:
        """Take it away."""
        self._device.taps.discard(self)
        self._loop.remove_reader(self._master)
        self._loop.remove_writer(self._master)
        os.close(self._master)
        os.close(self._slave)
        with contextlib.suppress(OSError):
            if os.readlink(self._path) == self._target:
                os.unlink(self._path)

    def output(self, data: bytes, now: float) -> None:
        """Write it, or keep it for whoever reads the terminal next: the newest, if that is much."""
        waits = bool(self._unread)
        self._unread += data
        if len(self._unread) > _MAX_UNREAD_TERMINAL:
            del self._unread[: -_MAX_UNREAD_TERMINAL // 2]
        if not waits:
            self._writable()

    def notice(self, sentence: str) -> None:
        """It is no output."""

    def _readable(self) -> None:
        with contextlib.suppress(OSError):
            data = os.read(self._master, _READ_SIZE)
            if not self._device.type(data):
                self._untyped = data
                self._loop.remove_reader(self._master)

    def room(self) -> None:
        """Type what had to wait."""
        if self._untyped and self._device.type(self._untyped):
            self._untyped = b""
            self._loop.add_reader(self._master, self._readable)

    def _writable(self) -> None:
        with contextlib.suppress(OSError):
            del self._unread[: os.write(self._master, self._unread)]
        if self._unread:
            self._loop.add_writer(self._master, self._writable)
        else:
            self._loop.remove_writer(self._master)


class Offers:
    """The ports and the terminal that a device's console is offered as."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._servers: list[asyncio.Server] = []
        self._link: TerminalLink | None = None

    async def open_port(self, host: str, port: int, *, writes: bool, telnet: bool) -> int:
        """Offer the console on a TCP port; returns its number. Raises OSError."""
        device = self._device
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Client(device, writes=writes, telnet=telnet, port=True), host, port
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def open_terminal(self, path: str) -> None:
        """Offer it as a terminal. Raises OSError."""
        self._link = TerminalLink(self._device, path)

    def close(self) -> None:
        """Take the offers back, and end their clients."""
        for server in self._servers:
            server.close()
        if self._link is not None:
            self._link.close()
        for tap in list(self._device.taps):
            if isinstance(tap, Client):
                tap.drop()
