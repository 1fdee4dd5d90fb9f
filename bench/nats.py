# SPDX-License-Identifier: MIT
"""A group log in NATS against one in memory, and what a large lab would need: `python -m bench.nats`.

All hosts of a group run in this process, each with its own connection and its own fold; so what is
measured is the log, not consoles. Ratios are to the log in memory, in the same run. The faults are those of
`make test-cluster`, with consoles. With --documents it all goes to docs/groups-figures.md.
"""

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.lab import processor_time
from dispatcher.group.events import Event, Founded, Joined, Sent, Waiting, WaitKind
from dispatcher.group.state import GroupState
from dispatcher.grouplog import GroupLog
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.grouplog.nats.address import Address
from dispatcher.grouplog.nats.lab import open_lab
from dispatcher.grouplog.nats.log import NatsGroupLog
from tests.cluster import FAULTS, ROUND, run
from tests.dispatcher.grouplog.natsserver import NatsServer, cluster, start_all

SENDS = 300
SYNCS = 10
APPENDS = 10_000
REPLAYED = 100_000
HOSTS = 4
SPREAD = 5
IDLE_HOSTS, IDLE_SECONDS = 200, 5.0
STORED = 1000
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "groups-figures.md"

# The lab on paper.
DEVICES, DISPATCHERS, GROUPS, HOSTS_OF_GROUP = 10_000, 200, 2_000, 5
SECONDS_BETWEEN = 2.0
MAX_CONNECTIONS = 65_536


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
        await self.log.open(Founded(0.0, b"founded"), self._deliver, self._fail, print, print)
        return self

    def _deliver(self, event: Event) -> None:
        self.fulfilled += len(self.state.apply(event).ended)
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

    async def stored(self) -> int:
        """Bytes of all groups on a disk."""
        assert self._address is not None
        lab = await open_lab(self._address, create=False)
        info = await lab.api(f"STREAM.INFO.{lab.stream}")
        await lab.close()
        return int(info["state"]["bytes"])

    async def hosts(self, group: str, count: int) -> list[Host]:
        if self._address is None:
            # One host has all devices.
            return [await Host(MemoryGroupLog()).open()] * count
        return [await Host(NatsGroupLog(self._address, group)).open() for _ in range(count)]


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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
    # As a dispatcher does it: what is folded is there for good.
    gc.disable()
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
    gc.enable()
    await close([host])
    return seconds


async def spread(place: Place) -> float:
    """Seconds for the delivery of one event to one of five hosts, where one appends as fast as it can."""
    hosts = await place.hosts(place.group(), SPREAD)
    began = time.perf_counter()
    for number in range(APPENDS):
        hosts[0].log.append(Joined(0.0, f"d{number}", b"%d" % number, "r"))
        if number % 100 == 0:
            await asyncio.sleep(0)
    for host in hosts:
        await host.until(lambda host=host: host.events == APPENDS + 1)  # type: ignore[misc]
    seconds = time.perf_counter() - began
    await close(hosts)
    return seconds / (APPENDS * SPREAD)


async def measure(place: Place) -> dict[str, float]:
    """All rows, in seconds."""
    return {
        "send on one host to wake-up on another": await wake_up(place),
        "sync of 50 devices on 4 hosts, last in to last out": await sync(place, 50),
        "sync of 500 devices on 4 hosts, last in to last out": await sync(place, 500),
        APPENDS_OF_ONE: await appends(place, 1),
        APPENDS_OF_MANY: await appends(place, 100),
        DELIVERIES: await spread(place),
        "replay of 100,000 events": await replay(place),
    }


# Rows that are shown as rates.
APPENDS_OF_ONE = "appends, one group"
APPENDS_OF_MANY = "appends, 100 groups"
DELIVERIES = "deliveries, one group on 5 hosts"
_RATES = (APPENDS_OF_ONE, APPENDS_OF_MANY, DELIVERIES)


@dataclass(frozen=True, slots=True)
class Idle:
    """What one host of one group costs three servers when nothing happens: a connection, a consumer, a heartbeat.

    :param cpu: seconds of all servers a second.
    :param memory: bytes of all servers.
    """

    cpu: float
    memory: float


async def idle(place: Place, servers: Sequence[NatsServer]) -> Idle:
    """Have many hosts, and wait."""
    pids = [server.pid for server in servers]

    async def cpu() -> float:
        before = sum(map(processor_time, pids))
        await asyncio.sleep(IDLE_SECONDS)
        return (sum(map(processor_time, pids)) - before) / IDLE_SECONDS

    without, memory = await cpu(), sum(map(_memory, pids))
    hosts = [(await place.hosts(place.group(), 1))[0] for _ in range(IDLE_HOSTS)]
    found = Idle(
        max(0.0, await cpu() - without) / IDLE_HOSTS, max(0, sum(map(_memory, pids)) - memory) / IDLE_HOSTS
    )
    await close(hosts)
    return found


def _memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything of one run.

    :param columns: by place, the rows in seconds; the log in memory first.
    :param stored: bytes of an event on the disk of a server.
    :param faults: seconds until all devices have come through two rounds more.
    """

    columns: Mapping[str, Mapping[str, float]]
    idle: Idle
    stored: float
    faults: Mapping[str, float]


def measured(faults: Sequence[str]) -> Measured:
    """Measure it all; takes minutes."""
    columns = {"in memory": asyncio.run(measure(Place("memory", None)))}
    with tempfile.TemporaryDirectory() as folder:
        with NatsServer(Path(folder) / "one") as server:
            columns["one server"] = asyncio.run(measure(Place("one", Address([server.host], "lab"))))
        servers = cluster(Path(folder) / "three", settings="")
        start_all(servers)
        try:
            place = Place("three", Address([server.host for server in servers], "lab"))
            columns["three servers"] = asyncio.run(measure(place))
            rest = asyncio.run(idle(place, servers))
            stored = asyncio.run(_stored(place))
        finally:
            for server in servers:
                server.kill()
    return Measured(columns, rest, stored, run(list(faults)) if faults else {})


async def _stored(place: Place) -> float:
    """Bytes on a disk of an event that is a message of its own."""
    (host,) = await place.hosts(place.group(), 1)
    host.log.append(Joined(0.0, "a", b"a", "r"))
    await host.until(lambda: host.events == 2)
    before = await place.stored()
    for number in range(STORED):
        host.log.append(Sent(0.0, "a", b"%016d" % number, b"x", ((b"k", b"v" * 50),)))
        await host.until(lambda number=number: host.events == number + 3)  # type: ignore[misc]
    await close([host])
    return (await place.stored() - before) / STORED


def table(found: Measured) -> str:
    """The rows, with ratios to the log in memory."""
    names = list(found.columns)
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    memory = found.columns[names[0]]
    for row in memory:
        cells = []
        for name in names:
            seconds, ratio = found.columns[name][row], found.columns[name][row] / memory[row]
            said = f"{1 / seconds:,.0f}/s" if row in _RATES else f"{seconds * 1000:.3g} ms"
            if name != names[0]:
                said += f" ({1 / ratio:.2g} of it)" if row in _RATES else f" ({ratio:.3g} x)"
            cells.append(said)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plan(found: Measured) -> str:
    """What a lab of 10,000 devices needs, beside what was measured."""
    three = found.columns["three servers"]
    events = DEVICES / SECONDS_BETWEEN
    followers = GROUPS * HOSTS_OF_GROUP
    needs = [
        (
            "events",
            f"{DEVICES:,} devices with one in {SECONDS_BETWEEN:g} s, each a message of its own: {events:,.0f}/s",
            f"{1 / three[APPENDS_OF_MANY]:,.0f}/s appended by 100 groups",
            events * three[APPENDS_OF_MANY],
        ),
        (
            "deliveries",
            f"each event to {HOSTS_OF_GROUP} hosts: {events * HOSTS_OF_GROUP:,.0f}/s",
            f"{1 / three[DELIVERIES]:,.0f}/s, with the five hosts in one process",
            events * HOSTS_OF_GROUP * three[DELIVERIES],
        ),
        (
            "heartbeats",
            f"{GROUPS:,} groups on {HOSTS_OF_GROUP} hosts: {followers:,} consumers, each with one a second: "
            f"{followers * found.idle.cpu:.1f} cores",
            f"{found.idle.cpu * 1e6:,.0f} us of the servers' CPU a second for each; there are {os.cpu_count()} cores",
            followers * found.idle.cpu / (os.cpu_count() or 1),
        ),
        (
            "connections",
            f"one for each group of a host: {followers:,}",
            f"{MAX_CONNECTIONS:,} on each of three servers, as they are set by default",
            followers / (3 * MAX_CONNECTIONS),
        ),
        (
            "memory",
            f"{followers * found.idle.memory / 2**20:,.0f} MiB for connections and consumers",
            f"{found.idle.memory / 1024:,.0f} KiB of all servers for each; there are {_machine_memory() / 2**30:.0f} GiB",
            followers * found.idle.memory / _machine_memory(),
        ),
    ]
    needs.sort(key=lambda need: need[3], reverse=True)
    lines = ["| | needed | measured on this machine | share |", "|---|---|---|---|"]
    lines += [f"| {what} | {needed} | {had} | {share:.0%} |" for what, needed, had, share in needs]
    first, second = needs[0], needs[1]
    a_day = events * found.stored * 86_400 / 1e9
    lines += [
        "",
        f"**It breaks first at {first[0]}** ({first[3]:.0%} of what this machine has shown), then at {second[0]} ({second[3]:.0%}).",
        f"An event takes {found.stored:.0f} bytes on each disk: {a_day:,.0f} GB a day if all devices are always busy, so groups have to",
        "be removed (`--purge-after 1d`), and `max_bytes` set, which ends in clear errors and not in a full disk.",
    ]
    return "\n".join(lines)


def document(found: Measured) -> str:
    """The file of docs/."""
    faults = "\n".join(f"| {name} | {seconds:.1f} |" for name, seconds in found.faults.items())
    return f"""\
# Figures of groups on servers

Written by `python -m bench.nats --documents`, in one run on {os.cpu_count()} cores that hosts and servers share, load
average {os.getloadavg()[1]:.1f}; `sync_interval: always` everywhere. Ratios are to the log in memory. What it means:
[groups.md](groups.md).

## The log

All hosts are in one process; an event is folded on each.

{table(found)}

## Faults

Seconds until all of 20 devices behind 4 dispatchers on 3 servers have come through two whole new rounds of send, wait
and sync (`make test-cluster`; a round takes about {found.faults.get(ROUND, 0.0):.0f} s there). One dispatcher's clock is an hour off.

| fault | seconds |
|---|---|
{faults}

## 10,000 devices on paper

Nobody has run this: {DISPATCHERS} dispatchers with {DEVICES // DISPATCHERS} devices each, {GROUPS:,} groups of {DEVICES // GROUPS} devices, three servers. The shares
are of one machine that runs all three servers and the hosts; a server on a machine of its own has more.

{plan(found)}

What to do then: fewer hosts for a group, a longer heartbeat (`HEARTBEAT` in `dispatcher/grouplog/nats/follower.py`; a lost
message is then noticed later), one connection for all groups of a process, servers with more cores, a second lab on
servers of its own.
"""


def main() -> None:
    """Print the document, or write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.nats", description="Measure groups on servers.")
    parser.add_argument("--documents", action="store_true", help="write docs/groups-figures.md")
    parser.add_argument("--no-faults", action="store_true", help="leave out the faults, which take 3 minutes")
    arguments = parser.parse_args()
    if arguments.documents and arguments.no_faults:
        parser.error("the document needs the faults")
    text = document(measured(() if arguments.no_faults else tuple(FAULTS)))
    if arguments.documents:
        DOCUMENT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
