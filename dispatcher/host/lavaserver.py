# SPDX-License-Identifier: MIT
"""LAVA's coordinator protocol on a TCP port, for the groups that also hooked devices are in."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from dispatcher.errors import SetupError
from dispatcher.group.events import Event, Founded, Sent, Waiting
from dispatcher.grouplog import GroupLogError
from dispatcher.host.groups import Groups, HostedGroup
from dispatcher.host.lavapoll import NACK, LavaClients, replays
from dispatcher.host.lavawire import LavaDecoder, LavaRequest, encode_response
from dispatcher.host.listening import address_text
from toolkit.wire.vocabulary import ProtocolError

# Seconds for a connection from its beginning to its end; LAVA's dispatchers wait 60.
PATIENCE = 30.0
# Connections at a time; the one that has been there longest makes place.
MAX_CONNECTIONS = 2048
# Connections that are taken in one turn of the loop.
_AT_ONCE = 64
# Seconds without new ones after one that could not be taken.
_PAUSE = 1.0
_READ_SIZE = 64 * 1024


class LavaServer:
    """Answers LAVA's dispatchers. To be made before the groups are opened, as it reads their logs.

    :param notice: is told what an operator should see.
    """

    def __init__(self, groups: Groups, notice: Callable[[str], object]) -> None:
        self.groups = groups
        self.connections: dict[LavaConnection, None] = {}  # the oldest first
        self._notice = notice
        self._clients: dict[str, LavaClients] = {}
        self._replayed: dict[str, list[Sent | Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._short = False  # of descriptors, as has been told
        self._refusal = ""  # what was told last of a group that could not be begun
        groups.readers.append(self._read)

    async def open(self, host: str, port: int) -> int:
        """Listen, once the groups are open; returns the port. Raises SetupError."""
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._listener = socket.create_server(
                address[:2], family=family, backlog=MAX_CONNECTIONS, reuse_port=False
            )
        except OSError as error:
            raise SetupError(
                f"can't listen on {address_text(host, port)} for LAVA's protocol: {error.strerror or error}; "
                "is a lava-coordinator running?"
            ) from error
        self._listener.setblocking(False)
        self._listen()
        return int(self._listener.getsockname()[1])

    def _listen(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Take the connections that are there, but not so many that the consoles have to wait."""
        assert self._listener is not None
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                loop.call_later(_PAUSE, self._listen)
                if not self._short:
                    self._notice(f"no connection of LAVA's can be taken for now: {error.strerror or error}")
                self._short = True
                return
            self._short = False
            LavaConnection(self, connection)
            if len(self.connections) > MAX_CONNECTIONS:
                next(iter(self.connections)).drop()

    async def close(self) -> None:
        """End all connections; the dispatchers ask again."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for connection in list(self.connections):
            connection.drop()

    def _read(self, name: str, event: Event) -> None:
        """Keep what a log holds already, while its group is opened, until a client comes to it."""
        if name not in self.groups.groups:
            if isinstance(event, Founded):
                self._replayed.pop(name, None)
            elif replays(event):
                self._replayed.setdefault(name, []).append(event)

    def _of_group(self, name: str) -> LavaClients:
        hosted = self.groups.groups[name]
        clients = self._clients.get(name)
        if clients is None or clients.engine is not hosted.engine:
            # Groups that have ended are forgotten with the first new one.
            self._clients = {known: of for known, of in self._clients.items() if known in self.groups.groups}
            clients = self._clients[name] = LavaClients(hosted.engine, os.urandom)
            for event in self._replayed.pop(name, ()):
                clients.replay(event)
        return clients

    def carry_out(self, request: LavaRequest, answer: Callable[[bytes], object]) -> None:
        """Carry out a request; `answer` is called with the response, now or later."""
        hosted = self.groups.there(request.group)
        try:
            if hosted is not None:
                self._carry_out(hosted, request, answer)
            elif request.size is None or request.kind == "clear_group":
                raise ProtocolError(f"there is no group {request.group!r:.80}")
            else:
                self._begin(self._carry_out_in_new_group(request, answer))
        except ProtocolError:
            answer(NACK)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(asyncio.Task.result)

    async def _carry_out_in_new_group(self, request: LavaRequest, answer: Callable[[bytes], object]) -> None:
        try:
            hosted = await self.groups.get(request.group, request.size)
            self._carry_out(hosted, request, answer)
        except ProtocolError:
            answer(NACK)
        except (ValueError, GroupLogError) as error:
            sentence = f"{request.group}: {error}"
            if sentence != self._refusal:
                # Clients ask again and again.
                self._refusal = sentence
                self._notice(sentence)
            answer(NACK)

    def _carry_out(
        self, hosted: HostedGroup, request: LavaRequest, answer: Callable[[bytes], object]
    ) -> None:
        """Raises ProtocolError if it is to be answered with a nack."""
        now = asyncio.get_running_loop().time()
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
            hosted.leave_soon(member, "has ended its job", now)
            clients.forget(request.client, now)
            if hosted.all_done:
                self._begin(self._end(request.group, hosted, answer))
            else:
                answer(encode_response("ack"))
        elif clients.ask(request, answer, now):
            member.after_turn(lambda: answer(clients.look(request)))
        hosted.group.wake()

    async def _end(self, name: str, hosted: HostedGroup, answer: Callable[[bytes], object]) -> None:
        # Somebody else may have ended it, or have come to it, by now.
        if self.groups.groups.get(name) is hosted and hosted.all_done:
            await self.groups.end(name, "all of its jobs have ended")
        # Not before: what is asked after that answer finds no group.
        answer(encode_response("ack"))


class LavaConnection:
    """One request, and its response. No transport of asyncio's: most are over within one turn of the loop."""

    def __init__(self, server: LavaServer, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._server = server
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._decoder: LavaDecoder | None = LavaDecoder()
        self._unsent = b""
        self._watched = False  # whether the loop looks at the socket
        server.connections[self] = None
        self._patience = self._loop.call_later(PATIENCE, self.drop)
        # Most of what is asked is there already.
        self._readable()
        if self._decoder is not None and self in server.connections:
            self._watched = True
            self._loop.add_reader(connection, self._readable)

    def drop(self) -> None:
        """End the connection."""
        if self in self._server.connections:
            del self._server.connections[self]
            self._patience.cancel()
            self._look_away()
            self._socket.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        assert self._decoder is not None
        try:
            request = self._decoder.receive_data(data)
        except ProtocolError:
            self._decoder = None
            self._look_away()
            self._answer(NACK)
            return
        except ValueError:
            self.drop()
            return
        if request is not None and request.kind != "complete":
            # Dispatchers close their half before they read the response, so the end of that says nothing.
            self._decoder = None
            self._look_away()
            self._server.carry_out(request, self._answer)
        elif request is not None or not data:
            # Nothing is asked, or nothing that makes a whole request will come.
            self.drop()

    def _look_away(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)

    def _answer(self, response: bytes) -> None:
        if self in self._server.connections:
            self._unsent = response
            self._send()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.drop()
            return
        if self._unsent:
            self._watched = True
            self._loop.add_writer(self._socket, self._send)
        else:
            self.drop()
