# SPDX-License-Identifier: MIT
"""Servers that hold the logs of groups, which are away, break, or lose one when a test wants it."""

from __future__ import annotations

from dispatcher.group.events import Event, Founded
from dispatcher.grouplog import Broken, Deliver, Failed, GroupLog, GroupLogError, Notice


class Servers:
    """Their logs are in `logs`, by group; `log` is for `GroupLogs`."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Event]] = {}
        self.open: list[ServerLog] = []
        self.opened = self.refused = 0
        self.up = True

    def log(self, name: str) -> GroupLog:
        return ServerLog(self, name)

    def break_all(self, sentence: str) -> None:
        for log in list(self.open):
            log.broken(GroupLogError(sentence))


class ServerLog:
    """A log on them."""

    def __init__(self, servers: Servers, name: str) -> None:
        self.servers, self.name = servers, name

    async def open(
        self, founded: Founded, deliver: Deliver, failed: Failed, notice: Notice, broken: Broken
    ) -> None:
        if not self.servers.up:
            self.servers.refused += 1
            raise GroupLogError("no server can be reached")
        self.deliver, self.failed, self.broken = deliver, failed, broken
        for event in self.servers.logs.setdefault(self.name, [founded]):
            deliver(event)
        self.servers.open.append(self)
        self.servers.opened += 1

    def append(self, event: Event) -> None:
        if self.name not in self.servers.logs:
            self.failed(event.identity, "it is gone")
            return
        self.servers.logs[self.name].append(event)
        self.deliver(event)

    async def close(self) -> None:
        self.servers.open.remove(self)
