# SPDX-License-Identifier: MIT
"""Hosts with engines that share one group log, in virtual time, without consoles.

`Lab` asks what devices would ask, over nothing: `Asked` holds the answers. The log delivers each
event at once, unless it is told to hold them, or to fail.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from dispatcher.engine import Engine
from dispatcher.group.configuration import Configuration
from dispatcher.group.events import Event, Founded
from dispatcher.group.results import Case, Counts
from toolkit.wire.vocabulary import unpack_reply

EPOCH = 1_000_000.0
MEMBERS = {"server-1": "server", "client-1": "client", "client-2": "client"}


class SharedLog:
    """The log of a group. What is appended stands in `queue` first."""

    def __init__(self, events: list[Event] | None = None) -> None:
        self.events: list[Event] = [Founded(EPOCH, b"founded")] if events is None else events
        self.queue: list[tuple[Host, Event]] = []
        self.holding = False
        self.failure = ""  # why nothing can be appended

    def deliver(self, hosts: list[Host], number: int | None = None) -> None:
        """Take the oldest events of the queue into the log, or let them fail."""
        taken, self.queue = self.queue[:number], self.queue[len(self.queue) if number is None else number :]
        for host, event in taken:
            if self.failure:
                host.engine.append_failed(event.identity, self.failure, host.lab.now)
                continue
            self.events.append(event)
            for each in hosts:
                each.engine.receive_event(event, each.lab.now)


@dataclass(eq=False)
class Asked:
    """A request of a device."""

    device: str
    identity: bytes
    accepted: int = 0  # how often it was said that the reply will follow
    replies: list[tuple[int, list[Any]]] = field(default_factory=list)

    @property
    def reply(self) -> tuple[int, list[Any]] | None:
        """The reply, None as long as there is none."""
        assert len(self.replies) <= 1, "answered twice"
        return self.replies[0] if self.replies else None


class Host:
    """One host: an engine with the devices whose consoles are there."""

    def __init__(self, lab: Lab, name: bytes, configuration: Configuration | None = None) -> None:
        self.lab = lab
        self.engine = Engine(name, EPOCH, configuration)
        self.notices: list[tuple[str | None, str]] = []
        self.results: list[tuple[Case, Counts]] = []
        for event in lab.log.events:
            self.engine.receive_event(event, lab.now)
        self.drain()

    def drain(self) -> bool:
        """Carry out what the engine wants; returns whether that was anything."""
        self.notices += self.engine.notices()
        self.results += self.engine.new_results()
        answers, events = self.engine.answers(), self.engine.events_to_append()
        for answer in answers:
            assert isinstance(answer.request, Asked)
            assert answer.request.device == answer.device
            if answer.reply is None:
                assert not answer.request.replies
                answer.request.accepted += 1
            else:
                answer.request.replies.append(unpack_reply(answer.reply))
        self.lab.log.queue += ((self, event) for event in events)
        return bool(answers or events)


class Lab:
    """A group of devices, on one host unless `add_host` is called."""

    def __init__(
        self,
        members: dict[str, str] | None = None,
        *,
        log: list[Event] | None = None,
        configuration: Configuration | None = None,
        seed: int = 1,
    ) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.log = SharedLog(log)
        self.hosts: list[Host] = []
        self.host_of: dict[str, Host] = {}
        self.add_host(MEMBERS if members is None else members, configuration)

    def add_host(self, members: dict[str, str], configuration: Configuration | None = None) -> Host:
        """One more host, with the consoles of these devices."""
        host = Host(self, self.random.randbytes(8), configuration)
        self.hosts.append(host)
        for name, role in members.items():
            self.join(host, name, role)
        return host

    def join(self, host: Host, name: str, role: str) -> None:
        host.engine.join(name, role, self.now)
        self.host_of[name] = host
        self.turn()

    def leave(self, device: str, reason: str = "ended with status 0") -> None:
        self.host_of.pop(device).engine.leave(device, reason, self.now)
        self.turn()

    @property
    def engine(self) -> Engine:
        """That of the first host."""
        return self.hosts[0].engine

    @property
    def notices(self) -> list[tuple[str | None, str]]:
        """What the operator of the first host has seen."""
        return self.hosts[0].notices

    def ask(
        self, device: str, operation: str, *arguments: Any, identity: bytes = b"", position: int = 0
    ) -> Asked:
        """Send a request; each has another identity if none is given."""
        asked = Asked(device, identity or self.random.randbytes(8))
        self.host_of[device].engine.request(
            device, asked, asked.identity, operation, list(arguments), position, self.now
        )
        self.turn()
        return asked

    def answer(
        self, device: str, operation: str, *arguments: Any, **more: Any
    ) -> tuple[int, list[Any]] | None:
        """The reply that comes at once, if one does."""
        return self.ask(device, operation, *arguments, **more).reply

    def cancel(self, asked: Asked, reason: str = "cancelled") -> None:
        self.host_of[asked.device].engine.cancel(asked, reason, self.now)
        self.turn()

    def report(self, device: str, kind: str, *fields: str | None, position: int = 0) -> None:
        """What a text signal of the device says."""
        self.host_of[device].engine.report(device, kind, fields, position, self.now)
        self.turn()

    def turn(self) -> None:
        """Let everything happen that can happen now."""
        while any([host.drain() for host in self.hosts]):
            if not self.log.holding:
                self.log.deliver(self.hosts)

    def deliver(self, number: int | None = None) -> None:
        """Let the log take so many of the events that it holds; None: all, and what comes of them."""
        self.log.deliver(self.hosts, number)
        self.turn()
        while number is None and self.log.queue:
            self.log.deliver(self.hosts)
            self.turn()

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            times = [host.engine.next_timeout() for host in self.hosts]
            time = min((time for time in times if time is not None), default=end)
            self.now = max(self.now, min(time, end))
            if time > end:
                return
            for host in self.hosts:
                host.engine.handle_timeout(self.now)
            self.turn()
            if time == end:
                return

    def open_waits(self) -> list[bytes]:
        return [wait.message_id for wait in self.engine.state.coordinator.waits()]

    def events(self, kind: type) -> list[Any]:
        return [event for event in self.log.events if isinstance(event, kind)]
