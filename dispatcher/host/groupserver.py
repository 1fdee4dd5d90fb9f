# SPDX-License-Identifier: MIT
"""The other end of `remote`: groups behind a unix socket, for devices whose consoles are in other processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from dispatcher.grouplog import GroupLogError
from dispatcher.host.groups import Groups, HostedGroup, Member
from dispatcher.host.listening import listen_on
from dispatcher.host.remotewire import MAX_HELLO, MAX_UNSENT, PATIENCE, TO_GROUP, VERSION, Decoder, encode
from dispatcher.host.strangers import Strangers
from toolkit.wire.vocabulary import ProtocolError

# Seconds for which a lost connection may come back before its waits are given up: as long as the other end tries.
LAPSE = PATIENCE
# Seconds that a connection gets to say hello.
HELLO_TIMEOUT = 10.0
# Requests of one connection that are open at a time; a console has fewer.
MAX_OPEN = 4096


class GroupServer:
    """Serves groups on a socket.

    :param notice: is told what an operator should see.
    """

    def __init__(self, groups: Groups, notice: Callable[[str], object]) -> None:
        self.groups = groups
        self.notice = notice
        self.by_console: dict[str, set[Connection]] = {}
        self.all: set[Connection] = set()
        # As many as there are consoles may come at once, when this process was started again.
        self.strangers = Strangers(2048)
        self._server: asyncio.Server | None = None
        self._path = ""
        groups.renewed.append(self._renewed)

    async def open(self, path: str, mode: int = 0o660) -> None:
        """Listen. Raises SetupError.

        :param mode: the permissions of the socket.
        """
        listener = listen_on(path, mode)
        self._path = path
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Connection(self), sock=listener, backlog=1024)

    async def close(self) -> None:
        """End all connections; the other ends try again."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        for connection in list(self.all):
            connection.drop()

    def _renewed(self, former: HostedGroup) -> None:
        """Let those connect again whose group has begun anew."""
        for connection in list(self.all):
            if connection.member is not None and connection.member.hosted is former:
                connection.drop()


class Connection(asyncio.Protocol):
    """One device of one process."""

    def __init__(self, server: GroupServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder(TO_GROUP, MAX_HELLO)
        self._transport: asyncio.Transport
        self._hello: asyncio.Task[None] | None = None
        self._early: list[tuple[str, list[Any]]] = []  # what came together with hello
        self.member: Member | None = None
        self.console = self.job = ""
        self._incarnation = b""
        self._open: dict[int, _Ask] = {}
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.all.add(self)
        self._server.strangers.add(self)
        self._patience = self._loop.call_later(HELLO_TIMEOUT, self.drop)

    def data_received(self, data: bytes) -> None:
        try:
            for kind, fields in self._decoder.receive_data(data):
                self._take(kind, fields)
        except (ProtocolError, ValueError) as error:
            self._complain(str(error))

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def drop(self) -> None:
        """Give the connection up."""
        self._transport.abort()
        self._end()

    def send(self, kind: str, *fields: object) -> None:
        """Say something to the other end."""
        if self._over:
            return
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self.drop()
            return
        self._transport.write(encode(kind, *fields))

    def _complain(self, sentence: str) -> None:
        name = self.member.name if self.member is not None else "somebody"
        self._server.notice(f"the connection of {name} is closed: {sentence}")
        self.drop()

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._patience.cancel()
        self._server.all.discard(self)
        self._server.strangers.remove(self)
        if self.member is None:
            return
        self.member.connections -= 1
        of_console = self._server.by_console[self.console]
        of_console.discard(self)
        if not of_console:
            del self._server.by_console[self.console]
        # Whoever asks the same again, on another connection, waits for it as well by then.
        if self._open:
            self._loop.call_later(LAPSE, self._give_up)

    def _give_up(self) -> None:
        assert self.member is not None
        engine = self.member.hosted.engine
        for ask in self._open.values():
            engine.cancel(ask, "the connection to its console was lost", self._loop.time())
        self._open.clear()
        self.member.hosted.group.wake()

    def _take(self, kind: str, fields: list[Any]) -> None:
        if self._over:
            return
        if kind == "hello":
            if self._hello is not None:
                raise ProtocolError("hello is said twice")
            # While the group is opened nothing more is taken.
            self._transport.pause_reading()
            self._hello = self._loop.create_task(self._greet(*fields))
            self._hello.add_done_callback(asyncio.Task.result)
        elif self._hello is None:
            raise ProtocolError(f"{kind} comes before hello")
        elif self.member is None:
            self._early.append((kind, fields))
        else:
            self._carry_out(self.member, kind, fields)

    async def _greet(
        self,
        version: int,
        name: str,
        size: int | None,
        device: str,
        role: str,
        console: str,
        job: str,
        incarnation: bytes,
    ) -> None:
        try:
            if version != VERSION:
                raise ValueError(f"this coordinator speaks version {VERSION} of its protocol, not {version}")
            self._check_console(device, name, console, job)
            hosted = await self._server.groups.get(name, size)
            if self._over:
                return
            self._check_console(device, name, console, job)
            member = hosted.member(device, role, console, self._loop.time())
        except GroupLogError as error:
            # It may be better soon.
            self.send("unavailable", str(error)[:1000])
            self._transport.close()
            return
        except ValueError as error:
            self.send("refused", str(error)[:1000])
            self._transport.close()
            return
        self._patience.cancel()
        self.console, self.job, self._incarnation = console, job, incarnation
        self._server.by_console.setdefault(console, set()).add(self)
        member.connections += 1
        member.console = console
        self.member = member
        self._server.strangers.remove(self)
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self.send("welcome", VERSION, hosted.group.number)
        early, self._early = self._early, []
        try:
            for kind, fields in early:
                self._carry_out(member, kind, fields)
        except (ProtocolError, ValueError) as error:
            self._complain(str(error))

    def _check_console(self, device: str, group: str, console: str, job: str) -> None:
        """Raises ValueError if another job has the console, or the device has another console."""
        for other in self._server.by_console.get(console, ()):
            if other.job != job:
                raise ValueError(
                    f"the console {console} is held by job {other.job}, so job {job} can't have it"
                )
        hosted = self._server.groups.groups.get(group)
        member = None if hosted is None else hosted.members.get(device)
        if member is not None and member.connections and member.console != console:
            raise ValueError(f"{device} is in the group {group} already, on the console {member.console}")

    def _carry_out(self, member: Member, kind: str, fields: list[Any]) -> None:
        now = self._loop.time()
        engine = member.hosted.engine
        member.hosted.used = now
        match kind:
            case "ask":
                number, identity, operation, arguments, position = fields
                if len(self._open) >= MAX_OPEN or number in self._open:
                    raise ProtocolError("too many requests are open, or one is asked twice")
                ask = self._open[number] = _Ask(self, number)
                engine.request(member.name, ask, identity, operation, arguments, position, now)
            case "cancel":
                number, reason = fields
                if (open_ask := self._open.pop(number, None)) is not None:
                    engine.cancel(open_ask, reason, now)
            case "report":
                serial, report_kind, texts, position = fields
                values = tuple(
                    text if text is None else text.decode("utf-8", "surrogateescape") for text in texts
                )
                identity = self._incarnation + serial.to_bytes(8, "big") + member.name.encode()
                engine.report(member.name, report_kind, values, position, now, identity)
                member.after_turn(lambda: self.send("noted", serial))
            case "heard":
                engine.heard = now
            case "lose":
                engine.lose(member.name, fields[0], now, boots=fields[1])
            case "regain":
                engine.regain(member.name, now)
            case "reboot":
                engine.reboot(member.name, fields[0], now)
            case "leave":
                # Not as long as there is another hook of it.
                if member.connections == 1:
                    member.hosted.leave_soon(member, fields[0], now)
        member.hosted.group.wake()

    def answered(self, number: int, reply: bytes | None) -> None:
        """Pass an answer on."""
        if reply is not None:
            self._open.pop(number, None)
        self.send("answer", number, reply)


class _Ask:
    """A request of a connection, as the engine holds it."""

    __slots__ = ("_connection", "_number")

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self._number = number

    def __call__(self, reply: bytes | None) -> None:
        self._connection.answered(self._number, reply)
