# SPDX-License-Identifier: MIT
"""A serial line between a guest and its dispatcher, with somebody beside it who looks on and may type.

    qemu's UART <--socket pair--> Line <--TCP--> lavabox serve

The line may take the time of a slow one, and lose input that the guest's UART has no room
for: qemu holds such bytes back, a real UART drops them.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

# What a UART holds.
_FIFO = 16
# Bytes of a line that takes no time, at once.
_READ_SIZE = 65536
# The least that Linux grants, and room for some pieces of FIFO size. (The other way the guest needs room:
# a kernel that waits longer than 10 ms for its UART goes on writing, and loses what it writes.)
_SMALL_BUFFER = 4608


class Line:
    """The line of one guest.

    :param capture: the file for all that the guest sends.
    :param baud: None: it takes no time.
    :param overrun: whether input is lost that the guest does not take in time.
    """

    def __init__(self, capture: Path, baud: int | None, overrun: bool) -> None:
        self.received: list[tuple[float, bytes]] = []  # when, and what
        self.typed = bytearray()  # by the dispatcher
        self.lost = 0  # bytes towards the guest
        self._baud = baud
        self._overrun = overrun
        self._capture = capture.open("wb")
        self._typed: asyncio.Queue[bytes] = asyncio.Queue()
        self._dispatcher: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._disconnected = asyncio.Event()
        self._guest, other = socket.socketpair()
        self._guest.setblocking(False)
        self._guest.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL_BUFFER)
        self.guest_end = other.detach()  # a file descriptor

    async def start(self) -> None:
        """Listen for the dispatcher, on `port`."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._up = asyncio.create_task(self._carry_up())
        self._down = asyncio.create_task(self._carry_down())
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def wait_for_dispatcher(self) -> None:
        await self._connected.wait()

    async def wait_for_no_dispatcher(self) -> None:
        await self._disconnected.wait()

    def type(self, keys: str) -> None:
        """Type as a person does who shares the line with the dispatcher."""
        self._typed.put_nowait(keys.encode())

    async def wait_for_end(self) -> None:
        """Wait until all that a guest, which is gone, has sent is passed on. Raises OSError."""
        os.close(self.guest_end)
        self.guest_end = -1
        await self._up

    async def close(self) -> None:
        """Cut the line."""
        for task in (self._up, self._down):
            task.cancel()
        await asyncio.gather(self._up, self._down, return_exceptions=True)
        self._server.close()
        self._guest.close()
        self._capture.close()
        if self.guest_end >= 0:
            os.close(self.guest_end)

    async def _carry_up(self) -> None:
        size = _READ_SIZE if self._baud is None else _FIFO
        pace = _pace(self._baud)
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._guest, size):
            self._capture.write(data)
            self.received.append((loop.time(), data))
            await pace(len(data))
            await self._connected.wait()
            assert self._dispatcher is not None
            self._dispatcher.write(data)
            # What one that is killed had not read is lost, as it is when a real one is killed.
            with contextlib.suppress(ConnectionError):
                await self._dispatcher.drain()

    async def _carry_down(self) -> None:
        pace = _pace(self._baud)
        while True:
            data = await self._typed.get()
            size = len(data) if self._baud is None else _FIFO
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                await pace(len(piece))
                await self._send(piece)

    async def _send(self, piece: bytes) -> None:
        if not self._overrun:
            await asyncio.get_running_loop().sock_sendall(self._guest, piece)
            return
        try:
            sent = self._guest.send(piece)
        except BlockingIOError:
            sent = 0
        self.lost += len(piece) - sent

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._dispatcher = writer
        self._disconnected.clear()
        self._connected.set()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_READ_SIZE):
                self.typed += data
                self._typed.put_nowait(data)
        self._connected.clear()
        self._disconnected.set()
        writer.close()


def _pace(baud: int | None) -> Callable[[int], Coroutine[None, None, None]]:
    """A function that returns when so many bytes, behind those before them, have had their time: 8N1."""
    free_at = 0.0

    async def pace(count: int) -> None:
        nonlocal free_at
        if baud is None:
            return
        now = asyncio.get_running_loop().time()
        free_at = max(now, free_at) + count * 10 / baud
        await asyncio.sleep(free_at - now)

    return pace
