# SPDX-License-Identifier: MIT
"""Consoles in a program of your own, by asyncio: the lava-* commands of the devices are answered, their output is yours.

async with Consoles() as consoles:
    board = await consoles.open("socket://localhost:7001", "panda01", "client")
    await board.until(b"login: ")
    await board.type(b"root\n")
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from dispatcher.consoles import ConsoleError
from dispatcher.consoles.opening import open_console
from dispatcher.host.attachment import Attachment
from dispatcher.host.groups import GroupLogs, Groups, HostedGroup
from dispatcher.names import check_name

# Bytes of output that nobody has asked for, above which the device has to wait.
_MAX_UNREAD = 1024 * 1024


def _print(sentence: str) -> None:
    print(sentence, file=sys.stderr)


class Consoles:
    """A group of devices, in memory, for as long as the block of `async with` lasts; then call `open`.

    :param size: how many devices the group is to have; commands that need all of them wait until then. None: those that
        are there.
    :param notice: takes sentences for an operator.
    """

    def __init__(self, size: int | None = None, notice: Callable[[str], object] = _print) -> None:
        self._size = size
        self._notice = notice
        self._groups = Groups(GroupLogs(None), notice)
        self._open: list[DeviceConsole] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for console in self._open:
            await console.close()
        await self._groups.close()

    async def open(
        self, address: str, name: str = "device", role: str = "device", speed: int = 115200
    ) -> DeviceConsole:
        """Begin to connect to a console; a connection that is lost is tried again.

        Raises ConsoleError for an address that can be none, UsageError for a name that can't be one, and ValueError if
        the device is in the group already.

        :param address: a device file, socket://HOST:PORT, rfc2217://HOST:PORT, or exec:COMMAND, which /bin/sh runs.
        :param speed: baud, of a serial port.
        """
        check_name("device", name)
        check_name("role", role)
        group = await self._groups.get("group", self._size)
        console = DeviceConsole(name, role, address, speed, group, self._notice)
        self._open.append(console)
        return console


class DeviceConsole:
    """One console; made by `Consoles.open`."""

    def __init__(
        self,
        name: str,
        role: str,
        address: str,
        speed: int,
        group: HostedGroup,
        notice: Callable[[str], object],
    ) -> None:
        self.name = name
        self.role = role
        self._notice = notice
        self._unread = bytearray()
        self._news = asyncio.Event()  # output, a connection, room for what is typed, or the end
        self._over = ""  # why nothing more will come
        self._waited_for = False
        self._connected = False  # whether it was at least once
        self._attachment = Attachment(
            *(name, role, open_console(address, speed), group.group, [self]),
            token=lambda: secrets.randbits(32),
            room=self._note_room,
            ended=lambda reason, status: self._end(reason),
        )
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def read(self) -> bytes:
        """What the device has printed since the last call, once there is anything. Raises EOFError at its end."""
        await self._until(lambda: bool(self._unread))
        return self._take(len(self._unread))

    async def until(self, text: bytes) -> bytes:
        """What the device prints up to this text, with it, when that has come. Raises EOFError if it never will."""
        await self._until(lambda: text in self._unread)
        return self._take(self._unread.index(text) + len(text))

    async def type(self, data: bytes) -> None:
        """Type to the device, when there is a connection and its console takes that. Raises EOFError if it never will.

        What is typed while a connection is lost is lost as well.
        """
        await self._happens(lambda: self._connected and not self._over and self._attachment.type(data))

    async def close(self, reason: str = "is not needed any more") -> None:
        """End the console; the device leaves its group. May be called twice.

        :param reason: a clause, which others who wait for the device are told.
        """
        await self._attachment.close(reason)
        await self._running
        self._end("it was closed")

    # What the attachment calls

    def output(self, data: bytes, now: float) -> None:
        """Keep what the device printed."""
        self._unread += data
        self._news.set()
        if len(self._unread) > _MAX_UNREAD and not self._waited_for:
            self._attachment.pause()

    def notice(self, sentence: str) -> None:
        """Hand on what there is to say about the console."""
        self._notice(f"{self.name}: {sentence}")

    # Inside

    async def _run(self) -> None:
        try:
            await self._attachment.run()
        except ConsoleError as error:
            self._end(str(error))

    def _end(self, reason: str) -> None:
        self._over = self._over or reason
        self._news.set()

    def _note_room(self) -> None:
        # There is room only once there was a connection.
        self._connected = True
        self._news.set()

    async def _until(self, holds: Callable[[], bool]) -> None:
        """As long as output is waited for, the device may print."""
        self._waited_for = True
        self._attachment.resume()
        try:
            await self._happens(holds)
        finally:
            self._waited_for = False

    async def _happens(self, holds: Callable[[], bool]) -> None:
        while not holds():
            if self._over:
                raise EOFError(f"{self.name}: {self._over}")
            self._news.clear()
            await self._news.wait()

    def _take(self, size: int) -> bytes:
        taken = bytes(self._unread[:size])
        del self._unread[:size]
        return taken
