# SPDX-License-Identifier: MIT
"""A TCP proxy between a dispatcher and a server, which can be told to lose things."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards connections to a port of the loopback interface."""

    def __init__(self, target: int) -> None:
        self.deaf = False  # what the server says does not arrive
        self._target = target
        self._up = True
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End all connections, and let none in."""
        self._up = False
        for writer in self._writers:
            writer.close()

    def heal(self) -> None:
        """All is well again."""
        self._up, self.deaf = True, False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._up:
            writer.close()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, far_writer}
        await asyncio.gather(
            self._carry(reader, far_writer, from_server=False),
            self._carry(far_reader, writer, from_server=True),
        )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not (self.deaf and from_server):
                    writer.write(data)
        writer.close()
