# SPDX-License-Identifier: MIT
"""A group in another process, reached over a unix socket, as the attachment of one device sees it.

    Attachment --Asked, Cancelled, Found--> RemoteGroup ==socket==> GroupServer --> Group
    Attachment <--answers------------------ RemoteGroup <==socket== GroupServer <-- Group

A connection that is lost is tried again, and what is open is asked again: requests and reports have
identities, so nothing is carried out twice. The messages stand in `remotewire`, the other end in
`groupserver`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatcher.engine import Answer
from dispatcher.errors import SetupError
from dispatcher.host.remotewire import FROM_GROUP, MAX_UNSENT, PATIENCE, VERSION, Decoder, encode
from dispatcher.line.channel import Asked
from dispatcher.line.session import Request
from dispatcher.line.textsignals import Found
from toolkit.wire.vocabulary import LINK_FAILED, ProtocolError, pack_reply

if TYPE_CHECKING:
    from dispatcher.host.attachment import Attachment

# Seconds before a lost connection is tried again; twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
# Seconds that the other end gets to take a connection and to say welcome.
HELLO_TIMEOUT = 10.0
# Reports that are kept until the group has noted them.
MAX_REPORTS = 10_000
# Seconds between two messages that the device prints.
HEARD_PAUSE = 1.0


class GroupUnreachable(SetupError):
    """Nobody listens on the socket, or it may not be opened."""


class GroupRefused(SetupError):
    """The other end does not take the device into the group; the text says why."""


@dataclass(frozen=True, slots=True)
class Card:
    """Who a device is.

    :param group: the name of its group, which begins when its first device comes.
    :param device: its name in the group; under LAVA the id of its job.
    :param console: what is unique among the consoles of the lab; under LAVA the device's host name.
    :param job: whoever has the console now. A console has connections of one job at a time.
    :param size: how many devices the group is to have, if that is known.
    """

    group: str
    device: str
    role: str
    console: str
    job: str
    size: int | None = None


class RemoteGroup:
    """The membership of one device. Call `open`, then give it to one `Attachment`; call `close` at the end.

    :param path: of the socket.
    :param incarnation: 8 random bytes.
    :param notice: is told when the connection is lost, and when it is back.
    """

    def __init__(
        self,
        path: str,
        card: Card,
        incarnation: bytes,
        notice: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        self.path = path
        self.card = card
        self._incarnation = incarnation
        self._notice = notice
        self._number: int | None = None
        self._attachment: Attachment | None = None
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._down = ""  # why requests can't be asked, as a sentence
        self._counter = 0
        self._open: dict[int, Asked] = {}
        self._numbers: dict[object, int] = {}
        self._serial = 0
        self._reports: dict[int, bytes] = {}  # those that are not noted
        self._left: str | None = None
        self._lost: bytes | None = None  # the message that says why there is no connection to the device
        self._rebooted: bytes | None = None  # the message that says that it has rebooted, until it is sent
        self._heard = -HEARD_PAUSE
        self._answers: list[Answer] = []
        self._awake = False

    async def open(self) -> None:
        """Connect for the first time. Raises GroupUnreachable or GroupRefused."""
        self._loop = asyncio.get_running_loop()
        await self._connect()
        self._keeper = self._loop.create_task(self._keep())

    async def close(self) -> None:
        """End the connection, with what was said on it; the device stays in its group unless it was detached."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._connection is not None:
            await self._connection.finish()

    # What the attachment calls

    @property
    def number(self) -> int:
        """32 bits that name the group; `open` has to be called first."""
        assert self._number is not None, "open has to be called first"
        return self._number

    def attach(self, attachment: Attachment, role: str) -> None:
        """The device's console is here. Raises ValueError if it is another device than the card's."""
        if (attachment.name, role) != (self.card.device, self.card.role) or self._attachment is not None:
            raise ValueError(f"this connection is for {self.card.device}:{self.card.role} alone")
        self._attachment = attachment

    def detach(self, attachment: Attachment, reason: str) -> None:
        """The device will never send again; `reason` is a clause."""
        self._attachment = None
        self._left = reason
        self._send(encode("leave", reason))

    def lose(self, attachment: Attachment, reason: str, *, boots: bool = False) -> None:
        """There is no connection to the device, or it boots; `reason` is a clause."""
        self._lost = encode("lose", reason, boots)
        self._send(self._lost)

    def regain(self, attachment: Attachment) -> None:
        """There is a connection again."""
        self._lost = None
        self._send(encode("regain"))

    def reboot(self, attachment: Attachment, reason: str) -> None:
        """None of the device's commands is there any more; `reason` is a clause."""
        self._rebooted = encode("reboot", reason)
        self._tell_of_reboot()

    def request(self, device: str, asked: Asked, now: float) -> None:
        """Ask the group; `Attachment.answer` follows."""
        if self._down:
            self._answers.append(self._failure(asked.request, self._down))
            self._wake()
            return
        self._counter += 1
        self._open[self._counter] = asked
        self._numbers[asked.request] = self._counter
        self._ask(self._counter, asked)

    def cancel(self, request: Request, reason: str, now: float) -> None:
        """Nobody waits for this answer any more."""
        number = self._numbers.pop(request, None)
        if number is not None:
            del self._open[number]
            self._send(encode("cancel", number, reason))

    def report(self, device: str, found: Found, now: float) -> None:
        """Note what the device reports by text."""
        fields = [
            value if value is None else value.encode("utf-8", "surrogateescape") for value in found.fields
        ]
        self._serial += 1
        message = encode("report", self._serial, found.kind, fields, found.offset)
        if len(self._reports) == MAX_REPORTS:
            self._notice(f"{MAX_REPORTS} reports wait for the group; further ones are lost")
        if len(self._reports) <= MAX_REPORTS:
            self._reports[self._serial] = message
        self._send(message)

    def hear(self, now: float) -> None:
        """The device has printed something."""
        if now - self._heard >= HEARD_PAUSE:
            self._heard = now
            self._send(encode("heard"))

    def wake(self, attachment: Attachment) -> None:
        """Call `Attachment.flush` in this turn of the loop."""
        self._wake()

    # Inside

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._awake = False
        answers, self._answers = self._answers, []
        attachment = self._attachment
        if attachment is None:
            return
        now = self._loop.time()
        for answer in answers:
            attachment.answer(answer, now)
        attachment.flush(now)

    def _ask(self, number: int, asked: Asked) -> None:
        self._send(encode("ask", number, asked.identity, asked.operation, asked.arguments, asked.position))

    def _tell_of_reboot(self) -> None:
        if self._rebooted is not None and self._send(self._rebooted):
            self._rebooted = None

    def _send(self, message: bytes) -> bool:
        """Returns whether there is a connection, and it took the message."""
        return self._connection is not None and self._connection.send(message)

    def _failure(self, request: object, sentence: str) -> Answer:
        return Answer(self.card.device, request, pack_reply(LINK_FAILED, sentence))

    def _fail(self, sentence: str) -> None:
        """All that is open ends, and so does what comes, until there is a connection again."""
        self._down = sentence
        self._notice(sentence)
        self._answers += [self._failure(asked.request, sentence) for asked in self._open.values()]
        self._open.clear()
        self._numbers.clear()
        self._wake()

    async def _keep(self) -> None:
        """Connect again, whenever the connection is lost, until the group refuses the device."""
        while True:
            assert self._connection is not None
            # The future outlives this task: `close` waits for it, too.
            reason = await asyncio.shield(self._connection.lost)
            self._connection = None
            self._notice(f"the connection to the group ({self.path}) is lost: {reason}; trying again")
            since, pause = self._loop.time(), FIRST_PAUSE
            while self._connection is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    await self._connect()
                except GroupRefused as error:
                    self._fail(str(error))
                    return
                except GroupUnreachable as error:
                    if not self._down and self._loop.time() - since > PATIENCE:
                        self._fail(f"the group can't be reached: {error}")

    async def _connect(self) -> None:
        connection = _Connection(self)
        try:
            async with asyncio.timeout(HELLO_TIMEOUT):
                await self._loop.create_unix_connection(lambda: connection, self.path)
                card = self.card
                connection.send(
                    encode(
                        *("hello", VERSION, card.group, card.size, card.device, card.role),
                        *(card.console, card.job, self._incarnation),
                    )
                )
                number = await connection.greeted
        except TimeoutError:
            connection.drop("it does not answer")
            raise GroupUnreachable(f"{self.path}: the program that listens there does not answer") from None
        except OSError as error:
            raise GroupUnreachable(f"{self.path}: {error.strerror or error}") from error
        except BaseException:
            connection.drop("it was given up")
            raise
        if self._number is not None and number != self._number:
            connection.drop("the group is another one")
            raise GroupRefused(
                "the group has begun again, and its earlier messages are lost; "
                "with --group-log they survive a restart of the coordinator"
            )
        if self._number is not None:
            self._notice("the connection to the group is back")
        self._number = number
        self._connection = connection
        self._down = ""
        # Before what its commands have asked since.
        self._tell_of_reboot()
        for message in self._reports.values():
            connection.send(message)
        for open_number, asked in self._open.items():
            self._ask(open_number, asked)
        if self._lost is not None:
            connection.send(self._lost)
        if self._left is not None:
            connection.send(encode("leave", self._left))

    def received(self, kind: str, fields: list[object]) -> None:
        """A message of the group, after its welcome."""
        if kind == "noted":
            self._reports.pop(fields[0], None)  # type: ignore[call-overload]
            return
        number, reply = fields
        assert isinstance(number, int) and isinstance(reply, bytes | None)
        asked = self._open.get(number)
        if asked is None:
            return
        if reply is not None:
            del self._open[number]
            del self._numbers[asked.request]
        self._answers.append(Answer(self.card.device, asked.request, reply))
        self._wake()


class _Connection(asyncio.Protocol):
    """One connection, until it is lost."""

    def __init__(self, group: RemoteGroup) -> None:
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[int] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self._group = group
        self._decoder = Decoder(FROM_GROUP)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, message: bytes) -> bool:
        """Returns whether it was taken."""
        if self._transport is None or self.lost.done():
            return False
        if self._transport.get_write_buffer_size() > MAX_UNSENT:
            self.drop("the other end reads nothing")
            return False
        self._transport.write(message)
        return True

    def data_received(self, data: bytes) -> None:
        try:
            for kind, fields in self._decoder.receive_data(data):
                self._take(kind, fields)
        except ProtocolError as error:
            self.drop(f"it has sent an invalid message: {error}")

    def _take(self, kind: str, fields: list[object]) -> None:
        if self.greeted.done():
            if kind not in ("answer", "noted"):
                raise ProtocolError(f"{kind} comes too late")
            self._group.received(kind, fields)
        elif kind == "refused":
            self.greeted.set_exception(GroupRefused(str(fields[0])))
        elif kind == "unavailable":
            self.greeted.set_exception(GroupUnreachable(str(fields[0])))
        elif kind == "welcome":
            assert isinstance(fields[1], int)
            self.greeted.set_result(fields[1])
        else:
            raise ProtocolError(f"{kind} comes too early")

    def connection_lost(self, error: Exception | None) -> None:
        self._end("the other end closed it" if error is None else str(error))

    def drop(self, reason: str) -> None:
        """Give it up."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    async def finish(self) -> None:
        """Close it, once all that was sent is written."""
        if self._transport is not None:
            self._transport.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.lost), HELLO_TIMEOUT)

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionResetError(0, reason))
            # Whoever waited may have gone.
            self.greeted.exception()
