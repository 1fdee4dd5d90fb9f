# SPDX-License-Identifier: MIT
"""Any history of appends, repetitions, and ends and beginnings of hosts: all see one log, and lose nothing of it."""

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dispatcher.group.events import Event, Founded, Joined, Left, Sent
from dispatcher.group.state import GroupState
from dispatcher.grouplog import GroupLog
from dispatcher.grouplog.file import FileGroupLog
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.grouplog.nats.address import parse_address
from dispatcher.grouplog.nats.log import NatsGroupLog
from tests.dispatcher.grouplog.natsserver import PATIENCE, url

NAMES = ["a", "b", "c"]
_groups = itertools.count()


class _Host:
    def __init__(self, log: GroupLog) -> None:
        self.log = log
        self.state = GroupState()
        self.order: list[Event] = []
        self.failed: list[bytes] = []

    def deliver(self, event: Event) -> None:
        if not self.state.known(event.identity):
            self.order.append(event)
        self.state.apply(event)


class Logs(RuleBasedStateMachine):
    """What every kind of log promises; subclasses say which."""

    hosts_at_once = 1
    lasting = True

    def make(self) -> GroupLog:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.group = f"g{next(_groups)}"
        self.loop = asyncio.new_event_loop()
        self.hosts: list[_Host] = []
        self.appended: list[Event] = []
        self.founded = False

    def run(self, work: object) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await work  # type: ignore[misc]

        self.loop.run_until_complete(bounded())

    @initialize()
    def begin(self) -> None:
        for _ in range(self.hosts_at_once):
            self.open()
        for name in NAMES:
            self.append(Joined(0.0, name, name.encode(), "r"), 0)
        self.settle()

    def open(self) -> None:
        host = _Host(self.make())
        identity = b"%d founds" % len(self.hosts)
        self.run(
            host.log.open(
                Founded(0.0, identity),
                host.deliver,
                lambda one, _, may_come=False: host.failed.append(one),
                print,
                print,
            )
        )
        self.hosts.append(host)

    def append(self, event: Event, place: int) -> None:
        self.appended.append(event)
        self.hosts[place % len(self.hosts)].log.append(event)

    @rule(place=st.integers(0, 1), name=st.sampled_from(NAMES), count=st.integers(1, 5))
    def send(self, place: int, name: str, count: int) -> None:
        for _ in range(count):
            self.append(Sent(1.0, name, b"%d" % len(self.appended), b"x", ((b"k", b"v"),)), place)

    @rule(place=st.integers(0, 1), name=st.sampled_from(NAMES))
    def leave_and_come_back(self, place: int, name: str) -> None:
        self.append(Left(1.0, name, b"%d" % len(self.appended), "ended"), place)
        self.append(Joined(1.0, name, b"%d" % len(self.appended), "r"), place)

    @rule(place=st.integers(0, 1), data=st.data())
    def repeat(self, place: int, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.appended))
        self.hosts[place % len(self.hosts)].log.append(event)

    @rule()
    def settle(self) -> None:
        async def settled() -> None:
            wanted = {event.identity for event in self.appended}
            while not all(wanted <= {event.identity for event in host.order} for host in self.hosts):
                await asyncio.sleep(0.001)

        self.run(settled())
        orders = [host.order for host in self.hosts]
        assert all(order == orders[0] for order in orders)
        assert len(orders[0]) == len(self.appended) + 1
        assert isinstance(orders[0][0], Founded)

    @rule(place=st.integers(0, 1))
    def begin_again(self, place: int) -> None:
        if self.lasting:
            place %= len(self.hosts)
            self.run(self.hosts[place].log.close())
            del self.hosts[place]
            self.open()

    @invariant()
    def nothing_fails(self) -> None:
        assert not any(host.failed for host in self.hosts)

    def teardown(self) -> None:
        try:
            if self.hosts:
                self.settle()
            for host in self.hosts:
                self.run(host.log.close())
            leftovers = asyncio.all_tasks(self.loop)
            assert leftovers == set()
        finally:
            self.loop.close()
            shutil.rmtree(self.folder)


class MemoryLogs(Logs):
    lasting = False

    def make(self) -> GroupLog:
        return MemoryGroupLog()


class FileLogs(Logs):
    def make(self) -> GroupLog:
        return FileGroupLog(self.folder / "group.log")


class NatsLogs(Logs):
    hosts_at_once = 2

    def make(self) -> GroupLog:
        return NatsGroupLog(parse_address(url(self.folder))[0], self.group)


for machine, examples in ((MemoryLogs, 30), (FileLogs, 30), (NatsLogs, 15)):
    machine.TestCase.settings = settings(max_examples=examples, stateful_step_count=20, deadline=None)
TestMemoryLogs = MemoryLogs.TestCase
TestFileLogs = FileLogs.TestCase
TestNatsLogs = NatsLogs.TestCase
