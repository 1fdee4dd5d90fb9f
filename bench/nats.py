# SPDX-License-Identifier: MIT
"""A group log in NATS against one in memory: `python -m bench.nats`, as a table for docs/groups.md.

All hosts of a group run in this process, each with its own connection and its own fold; so what is
measured is the log, not consoles. Ratios are to the log in memory, in the same run.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dispatcher.group.events import Event, Founded, Joined, Sent, Waiting, WaitKind
from dispatcher.group.state import GroupState
from dispatcher.grouplog import GroupLog
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.grouplog.nats.address import Address
from dispatcher.grouplog.nats.log import NatsGroupLog
from tests.dispatcher.grouplog.natsserver import NatsServer, cluster, start_all

SENDS = 300
SYNCS = 10
APPENDS = 10_000
REPLAYED = 100_000
HOSTS = 4


class Host:
    """One dispatcher's log and fold."""

    def __init__(self, log: GroupLog) -> None:
        self.log = log
        self.state = GroupState()
        self.fulfilled = 0
        self.events = 0
        self.goal: Callable[[], bool] = lambda: False
        self.reached = asyncio.Event()

    async def open(self) -> "Host":
        await self.log.open(Founded(0.0, b"founded"), self._deliver, self._fail, print)
        return self

    def _deliver(self, event: Event) -> None:
        self.fulfilled += len(self.state.apply(event).outcomes)
        self.events += 1
        if self.goal():
            self.reached.set()

    def _fail(self, identity: bytes, why: str, /, *, may_come: bool = False) -> None:
        sys.exit(f"{identity!r} failed: {why}")

    async def until(self, goal: Callable[[], bool]) -> None:
        self.goal = goal
        while not goal():
            self.reached.clear()
            await self.reached.wait()
        self.goal = lambda: False


class Place:
    """Where logs live: `logs(group, count)` are those of so many hosts of one group."""

    def __init__(self, name: str, address: Address | None) -> None:
        self.name = name
        self.shared = address is not None
        self._address = address
        self._groups = 0

    def group(self) -> str:
        self._groups += 1
        return f"g{self._groups}"

    async def hosts(self, group: str, count: int) -> list[Host]:
        if self._address is None:
            # One host has all devices.
            return [await Host(MemoryGroupLog()).open()] * count
        return [await Host(NatsGroupLog(self._address, group)).open() for _ in range(count)]


async def close(hosts: Sequence[Host]) -> None:
    for host in dict.fromkeys(hosts):
        await host.log.close()


async def wake_up(place: Place) -> float:
    """Seconds from a send on one host to its arrival on another, the median."""
    one, two = await place.hosts(place.group(), 2)
    one.log.append(Joined(0.0, "a", b"a", "r"))
    await two.until(lambda: two.state.known(b"a"))
    times = []
    for number in range(SENDS):
        identity = b"%d" % number
        began = time.perf_counter()
        one.log.append(Sent(0.0, "a", identity, b"x", ((b"k", b"v" * 50),)))
        await two.until(lambda identity=identity: two.state.known(identity))  # type: ignore[misc]
        times.append(time.perf_counter() - began)
    await close([one, two])
    return statistics.median(times)


async def sync(place: Place, devices: int) -> float:
    """Seconds from the last device's lava-sync to the last one's release, all hosts taken, the median."""
    hosts = await place.hosts(place.group(), HOSTS)
    names = [f"d{number}" for number in range(devices)]
    for number, name in enumerate(names):
        hosts[number % HOSTS].log.append(Joined(0.0, name, name.encode(), "r"))
    for host in hosts:
        await host.until(lambda host=host: len(host.state.coordinator.members) == devices)  # type: ignore[misc]
    times = []
    for turn in range(SYNCS):
        target = devices * (turn + 1)

        def wait(number: int, turn: int = turn) -> None:
            identity = b"%d-%d" % (turn, number)
            hosts[number % HOSTS].log.append(
                Waiting(0.0, names[number], identity, WaitKind.SYNC, b"x", None, None)
            )

        for number in range(devices - 1):
            wait(number)
        for host in hosts:
            await host.until(
                lambda host=host, turn=turn: len(host.state.coordinator.waits()) == devices - 1  # type: ignore[misc]
            )
        began = time.perf_counter()
        wait(devices - 1)
        for host in hosts:
            await host.until(lambda host=host, target=target: host.fulfilled == target)  # type: ignore[misc]
        times.append(time.perf_counter() - began)
    await close(hosts)
    return statistics.median(times)


async def appends(place: Place, groups: int) -> float:
    """Seconds for one event, where all groups append as fast as they can."""
    hosts = [(await place.hosts(place.group(), 1))[0] for _ in range(groups)]
    each = APPENDS // groups
    began = time.perf_counter()
    for number in range(each):
        for host in hosts:
            host.log.append(Joined(0.0, f"d{number}", b"%d" % number, "r"))
        if number % 100 == 0:
            await asyncio.sleep(0)
    for host in hosts:
        await host.until(lambda host=host: host.events == each + 1)  # type: ignore[misc]
    seconds = time.perf_counter() - began
    await close(hosts)
    return seconds / (each * groups)


async def replay(place: Place) -> float:
    """Seconds to fold a log of 10^5 events; in memory: to fold as many."""
    group = place.group()
    (host,) = await place.hosts(group, 1)
    host.log.append(Joined(0.0, "a", b"a", "r"))
    began = time.perf_counter()
    for number in range(REPLAYED):
        host.log.append(Sent(0.0, "a", b"%d" % number, b"x-%d" % number, ((b"k", b"v" * 50),)))
        if number % 1000 == 0:
            await asyncio.sleep(0)
    await host.until(lambda: host.events == REPLAYED + 2)
    if place.shared:
        await close([host])
        began = time.perf_counter()
        (host,) = await place.hosts(group, 1)
        assert host.events == REPLAYED + 2
    seconds = time.perf_counter() - began
    await close([host])
    return seconds


async def measure(place: Place) -> dict[str, float]:
    """All rows, in seconds."""
    return {
        "send on one host to wake-up on another": await wake_up(place),
        "sync of 50 devices on 4 hosts, last in to last out": await sync(place, 50),
        "sync of 500 devices on 4 hosts, last in to last out": await sync(place, 500),
        "an append, one group": await appends(place, 1),
        "an append, 100 groups": await appends(place, 100),
        "replay of 100,000 events": await replay(place),
    }


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        columns = [("in memory", asyncio.run(measure(Place("memory", None))))]
        with NatsServer(Path(folder) / "one") as server:
            place = Place("one", Address([server.host], "lab"))
            columns.append(("one server", asyncio.run(measure(place))))
        servers = cluster(Path(folder) / "three")
        start_all(servers)
        try:
            place = Place("three", Address([server.host for server in servers], "lab"))
            columns.append(("three servers", asyncio.run(measure(place))))
        finally:
            for server in servers:
                server.kill()
    print("| |", " | ".join(name for name, _ in columns), "|\n|---|" + "---|" * len(columns))
    memory = columns[0][1]
    for row in memory:
        cells = [
            f"{values[row] * 1000:.3g} ms"
            + ("" if values is memory else f" ({values[row] / memory[row]:.0f}x)")
            for _, values in columns
        ]
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
