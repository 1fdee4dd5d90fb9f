# SPDX-License-Identifier: MIT
"""LAVA's coordinator protocol on a TCP port, for the groups that also hooked devices are in."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from dispatcher.errors import SetupError
from dispatcher.group.events import Event
from dispatcher.grouplog import GroupLogError
from dispatcher.host.groups import Groups
from dispatcher.host.lavapoll import NACK, LavaClients
from dispatcher.host.lavawire import LavaDecoder, LavaRequest, encode_response
from toolkit.wire.vocabulary import ProtocolError

# Seconds for a connection from its beginning to its end; LAVA's dispatchers wait 60.
PATIENCE = 30.0
# Connections at a time; the one that has been there longest makes place.
MAX_CONNECTIONS = 2048
# Seconds after its clear_group in which a job may yet ask something: LAVA also sends one when a wait times out.
LINGER = 10.0


class LavaServer:
    """Answers LAVA's dispatchers.

    :param notice: is told what an operator should see.
    """

    def __init__(self, groups: Groups, notice: Callable[[str], object]) -> None:
        self.groups = groups
        self.connections: dict[LavaConnection, None] = {}  # the oldest first
        self.requests = 0
        self.refused = 0
        self._notice = notice
        self._clients: dict[str, LavaClients] = {}
        self._replayed: dict[str, list[Event]] = {}
        self._server: asyncio.Server | None = None
        groups.readers.append(self._read)

    async def open(self, host: str, port: int) -> int:
        """Listen, once the groups are open; returns the port. Raises SetupError."""
        for name, events in self._replayed.items():
            clients = self._of_group(name)
            for event in events:
                clients.replay(event)
        self._replayed.clear()
        self.groups.readers.remove(self._read)
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: LavaConnection(self), host, port, backlog=MAX_CONNECTIONS, reuse_address=True
            )
        except OSError as error:
            raise SetupError(
                f"can't listen on {host}:{port} for LAVA's protocol: {error.strerror or error}; "
                "is a lava-coordinator running?"
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """End all connections; the dispatchers ask again."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.drop()

    def _read(self, name: str, event: Event) -> None:
        """Events that the logs hold already."""
        self._replayed.setdefault(name, []).append(event)

    def _of_group(self, name: str) -> LavaClients:
        hosted = self.groups.groups[name]
        clients = self._clients.get(name)
        if clients is None or clients.engine is not hosted.engine:
            # Groups that have ended are forgotten with the first new one.
            self._clients = {known: of for known, of in self._clients.items() if known in self.groups.groups}
            clients = self._clients[name] = LavaClients(hosted.engine, os.urandom)
        return clients

    async def carry_out(self, request: LavaRequest, answer: Callable[[bytes], object]) -> None:
        """Carry out a request, and answer it. Raises ProtocolError if it is to be answered with a nack."""
        self.requests += 1
        now = asyncio.get_running_loop().time()
        hosted = self.groups.groups.get(request.group)
        if hosted is None:
            if request.size is None or request.kind == "clear_group":
                raise ProtocolError(f"there is no group {request.group!r:.80}")
            try:
                hosted = await self.groups.get(request.group, request.size)
            except (ValueError, GroupLogError) as error:
                self._notice(str(error))
                raise ProtocolError(str(error)) from error
        # A client keeps the role that it came with, whatever it says later.
        role = hosted.role(request.client) or request.role
        if not role:
            raise ProtocolError("role is missing")
        try:
            member = hosted.member(request.client, role, request.hostname or request.client, now)
        except ValueError as error:
            self._notice(f"{request.group}: {error}")
            raise ProtocolError(str(error)) from error
        clients = self._of_group(request.group)
        if request.kind == "clear_group":
            member.closing = now + LINGER
            clients.gone(request.client, now)
            answer(encode_response("ack"))
            if hosted.all_done:
                await self.groups.end(request.group, "all of its jobs have ended")
        elif clients.ask(request, answer, now):
            member.after_turn(lambda: answer(clients.look(request)))
        hosted.group.wake()


class LavaConnection(asyncio.Protocol):
    """One request, and its response."""

    def __init__(self, server: LavaServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._decoder: LavaDecoder | None = LavaDecoder()
        self._transport: asyncio.Transport
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connections = self._server.connections
        connections[self] = None
        self._patience = self._loop.call_later(PATIENCE, self.drop)
        if len(connections) > MAX_CONNECTIONS:
            next(iter(connections)).drop()

    def data_received(self, data: bytes) -> None:
        if self._decoder is None:
            return
        try:
            request = self._decoder.receive_data(data)
        except ProtocolError:
            self._decoder = None
            self._refuse()
            return
        except ValueError:
            self._server.refused += 1
            self.drop()
            return
        if request is None:
            return
        self._decoder = None
        if request.kind == "complete":
            self._transport.close()
            return
        self._work = self._loop.create_task(self._carry_out(request))
        self._work.add_done_callback(asyncio.Task.result)

    def eof_received(self) -> bool:
        """LAVA's dispatchers close their half before they read; without a whole request nothing is left to say."""
        return self._decoder is None

    def connection_lost(self, error: Exception | None) -> None:
        self._patience.cancel()
        self._server.connections.pop(self, None)

    def drop(self) -> None:
        """Give the connection up."""
        self._server.connections.pop(self, None)
        self._transport.abort()

    async def _carry_out(self, request: LavaRequest) -> None:
        try:
            await self._server.carry_out(request, self._answer)
        except ProtocolError:
            self._refuse()

    def _refuse(self) -> None:
        self._server.refused += 1
        self._answer(NACK)

    def _answer(self, response: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(response)
            self._transport.close()


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT", "[HOST]:PORT" or "PORT". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) < 65536) or not host:
        raise ValueError(f"{text!r}: write HOST:PORT, for example 127.0.0.1:3079")
    if not colon:
        return host, int(port)
    try:
        socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"{text}: {error.strerror}") from error
    return host, int(port)
