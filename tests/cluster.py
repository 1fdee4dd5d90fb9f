# SPDX-License-Identifier: MIT
"""Twenty devices behind four dispatchers on three servers, and everything that may happen to those.

Each device sends a message, waits for those of all others, counts them, and meets all others in a
lava-sync, round after round. A fault is over when all devices have come through a whole new round.
At the end no command has failed that was not told to, and no event is missing or counts twice.

    python -m tests.cluster [FAULT ...]
"""

import asyncio
import contextlib
import json
import os
import pty
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from dispatcher.group.events import Event, Founded, Sent, Waiting
from dispatcher.group.state import GroupState
from dispatcher.grouplog.nats.address import Address
from dispatcher.grouplog.nats.lab import Lab, Unavailable
from dispatcher.grouplog.nats.log import NatsGroupLog
from tests.dispatcher.grouplog.natsserver import NatsServer, cluster, start_all
from tests.dispatcher.grouplog.proxy import Proxy
from tests.dispatcher.lavabox_process import ROOT, Lavabox

HOSTS, DEVICES_EACH = 4, 5
STREAM = "lavabox-lab"
# Seconds that a fault may take from its beginning or, where it has one, from its end.
LIMIT = 60.0

SCRIPT = """\
stty sane
try() {
    until "$@"; do
        status=$?
        [ $status = 75 ] || [ $status = 69 ] || { echo "FAILED with $status: $*"; exit 1; }
        echo "again: $*"; sleep 0.3
    done
}
until [ -e go ]; do sleep 0.1; done
i=1
while ! { [ -e last ] && [ $i -gt $(cat last) ]; }; do
    try lava-send m-$i from=$NAME-$i
    try lava-wait-all m-$i
    count=$(sort -u $LAVA_MULTI_NODE_CACHE | wc -l)
    [ $count = $OTHERS ] || { echo "FAILED: $count messages in round $i"; exit 1; }
    try lava-sync s-$i
    echo "round $i is over"
    i=$((i + 1))
done
echo "ended"
"""


class Device:
    """A script on a pty, which a dispatcher reaches by TCP, as behind a terminal server."""

    def __init__(self, name: str, folder: Path, commands: Path, others: int) -> None:
        self.name, self.round, self.text, self.ended = name, 0, b"", False
        self.connected = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "-c", "/bin/sh", "-c", SCRIPT],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
                "NAME": name,
                "OTHERS": str(others),
                "LAVA_CONSOLE": os.ttyname(slave),
                "LAVA_MULTI_NODE_CACHE": str(folder / f"{name}.cache"),
            },
        )
        os.close(slave)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        selector.register(self._master, selectors.EVENT_READ)
        connection: socket.socket | None = None
        while True:
            for key, _ in selector.select():
                if key.fileobj is self._listener:
                    if connection is not None:
                        selector.unregister(connection)
                        connection.close()
                    connection, _ = self._listener.accept()
                    self.connected.set()
                    selector.register(connection, selectors.EVENT_READ)
                elif key.fileobj == self._master:
                    try:
                        data = os.read(self._master, 65536)
                    except OSError:
                        self.ended = True
                        return
                    self._note(data)
                    if connection is not None:
                        with contextlib.suppress(OSError):
                            connection.sendall(data)
                elif connection is not None and key.fileobj is connection:
                    data = b""
                    with contextlib.suppress(OSError):
                        data = connection.recv(65536)
                    if data:
                        os.write(self._master, data)
                    else:
                        selector.unregister(connection)
                        connection.close()
                        connection = None

    def _note(self, data: bytes) -> None:
        self.text += data
        end = self.text.rfind(b" is over")
        begin = self.text.rfind(b"round ", 0, end)
        if 0 <= begin < end and (digits := self.text[begin + 6 : end]).isdigit():
            self.round = int(digits)


class Lab3:
    """Three servers, dispatchers and devices.

    :param box: the commands of the devices.
    """

    def __init__(self, folder: Path, box: Path, hosts: int = HOSTS, devices_each: int = DEVICES_EACH) -> None:
        self.folder = folder
        self._hosts, self._devices_each = hosts, devices_each
        number_of_all = hosts * devices_each
        self.servers = cluster(folder / "servers")
        start_all(self.servers)
        self.address = Address([server.host for server in self.servers], "lab")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.proxies = [self.call(Proxy(server.port).__aenter__()) for server in self.servers]
        commands = folder / "commands"
        commands.mkdir()
        subprocess.run([box, "--install", "-s", commands], check=True)
        self.devices = [
            Device(f"d{number}", folder, commands, number_of_all - 1) for number in range(number_of_all)
        ]
        (folder / "members").write_text("".join(f"{device.name}:board\n" for device in self.devices))
        (folder / "late").mkdir()
        (folder / "late" / "sitecustomize.py").write_text(
            "import time\nreal = time.time\ntime.time = lambda: real() + 3600\n"
        )
        self.hosts: list[Lavabox] = [self.dispatcher(number) for number in range(hosts)]
        for device in self.devices:
            assert device.connected.wait(LIMIT), self.situation()
        (folder / "go").touch()

    def call(self, coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LIMIT)  # type: ignore[arg-type]

    def dispatcher(self, number: int) -> Lavabox:
        """The last one is reached through proxies, the first one's clock is an hour off."""
        last = number == self._hosts - 1
        ports = [proxy.port for proxy in self.proxies] if last else [server.port for server in self.servers]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        own = self.devices[number * self._devices_each : (number + 1) * self._devices_each]
        consoles = [
            text for one in own for text in ("--console", f"{one.name}:board=socket://127.0.0.1:{one.port}")
        ]
        late = {"PYTHONPATH": f"{self.folder / 'late'}{os.pathsep}{ROOT}"} if number == 0 else {}
        return Lavabox(
            *("serve", "--group-log", f"nats://{hosts}/lab", "--group", "g", "--members", "members"),
            *("--grace", "0", *consoles),
            cwd=self.folder,
            environment=late,
        )

    def leader(self) -> NatsServer:
        """The server that leads the stream."""
        name = self.ask(f"STREAM.INFO.{STREAM}")["cluster"]["leader"]
        return self.servers[int(name[1:])]

    def ask(self, name: str, body: dict[str, object] | None = None) -> dict:
        async def asked() -> dict:
            lab = Lab(self.address)
            await lab.connect()
            try:
                return await lab.api(name, body)
            finally:
                await lab.close()

        until = time.monotonic() + LIMIT
        while True:
            try:
                return asyncio.run(asked())
            except Unavailable:
                assert time.monotonic() < until
                time.sleep(0.1)

    def update(self, **settings: object) -> None:
        configuration = self.ask(f"STREAM.INFO.{STREAM}")["config"]
        self.ask(f"STREAM.UPDATE.{STREAM}", {**configuration, **settings})

    def rounds(self, count: int) -> float:
        """Wait until all devices have come so many rounds further than the first has now; returns the seconds."""
        began = time.monotonic()
        goal = max(device.round for device in self.devices) + count
        while min(device.round for device in self.devices) < goal:
            self.check()
            assert time.monotonic() < began + LIMIT, f"it stands still:\n{self.situation()}"
            time.sleep(0.02)
        return time.monotonic() - began

    def check(self) -> None:
        for device in self.devices:
            assert b"FAILED" not in device.text, self.situation()

    def situation(self) -> str:
        lines = [f"{device.name}: round {device.round}: {device.text[-200:]!r}" for device in self.devices]
        for number, host in enumerate(self.hosts):
            host.drain()
            lines.append(f"dispatcher {number}: {host.text[-1500:]}")
        return "\n".join(lines)

    def finish(self) -> None:
        """Let the devices end, some rounds later."""
        (self.folder / "last.new").write_text(str(max(device.round for device in self.devices) + 2))
        (self.folder / "last.new").rename(self.folder / "last")
        until = time.monotonic() + LIMIT
        while not all(device.ended for device in self.devices):
            self.check()
            assert time.monotonic() < until, self.situation()
            time.sleep(0.05)

    def close(self) -> None:
        for host in self.hosts:
            host.interrupt()
        for device in self.devices:
            device.process.kill()
        for server in self.servers:
            server.go_on()
            server.kill()


# What each does; its time counts from when it ends.
def server_killed(lab: Lab3) -> Iterator[None]:
    server = next(server for server in lab.servers if server is not lab.leader())
    server.kill()
    yield
    server.start()


def leader_killed(lab: Lab3) -> Iterator[None]:
    server = lab.leader()
    server.kill()
    yield
    server.start()


def leader_paused(lab: Lab3) -> Iterator[None]:
    server = lab.leader()
    server.pause()
    yield
    server.go_on()


def dispatcher_cut_off(lab: Lab3) -> Iterator[None]:
    lab.update(duplicate_window=100_000_000)
    for proxy in lab.proxies:
        proxy.deaf = True
    time.sleep(2)
    for proxy in lab.proxies:
        lab._loop.call_soon_threadsafe(proxy.cut)
    time.sleep(3)
    for proxy in lab.proxies:
        lab._loop.call_soon_threadsafe(proxy.heal)
    yield


def dispatcher_killed(lab: Lab3) -> Iterator[None]:
    lab.hosts[1].interrupt(signal.SIGKILL)
    lab.hosts[1].finish()
    lab.hosts[1] = lab.dispatcher(1)
    yield


def dispatcher_paused(lab: Lab3) -> Iterator[None]:
    lab.hosts[2].interrupt(signal.SIGSTOP)
    time.sleep(5)
    lab.hosts[2].interrupt(signal.SIGCONT)
    yield


def all_servers_restarted(lab: Lab3) -> Iterator[None]:
    for server in lab.servers:
        server.kill()
    start_all(lab.servers)
    yield


def stream_full(lab: Lab3) -> Iterator[None]:
    lab.update(max_msgs=lab.ask(f"STREAM.INFO.{STREAM}")["state"]["messages"])
    until = time.monotonic() + LIMIT
    while not any(b"again: " in device.text for device in lab.devices):
        assert time.monotonic() < until, lab.situation()
        time.sleep(0.05)
    lab.update(max_msgs=-1)
    yield


ROUND = "a round without a fault"
FAULTS: dict[str, Callable[[Lab3], Iterator[None]]] = {
    "a server killed": server_killed,
    "the stream's leader killed": leader_killed,
    "the stream's leader paused": leader_paused,
    "a dispatcher cut off, longer than the window": dispatcher_cut_off,
    "a dispatcher killed and started again": dispatcher_killed,
    "a dispatcher paused for 5 s": dispatcher_paused,
    "all servers killed and started again": all_servers_restarted,
    "the stream at its limit": stream_full,
}


def check_log(lab: Lab3) -> str:
    """Read the log once more from its beginning: everything is there once."""
    events: list[Event] = []

    async def read() -> None:
        log = NatsGroupLog(lab.address, "g")
        await log.open(Founded(0.0, b"x"), events.append, print, print, print)
        await log.close()

    asyncio.run(read())
    state = GroupState()
    requests: Counter[tuple[str, bytes, str]] = Counter()
    for event in events:
        if isinstance(event, Sent | Waiting) and not state.known(event.identity):
            kind = event.kind.value if isinstance(event, Waiting) else "lava-send"
            requests[event.device, event.message_id, kind] += 1
        state.apply(event)
    last = int((lab.folder / "last").read_text())
    for device in lab.devices:
        for number in range(1, last + 1):
            for what, kind in (
                (f"m-{number}", "lava-send"),
                (f"m-{number}", "lava-wait-all"),
                (f"s-{number}", "lava-sync"),
            ):
                count = requests.pop((device.name, what.encode(), kind), 0)
                again = sum(device.text.count(f"again: {kind} {what}{end}".encode()) for end in "\r ")
                assert 1 <= count <= 1 + again, (
                    f"{device.name}: {kind} {what}: {count} times, {again} repeated"
                )
    assert not requests, f"nobody asked for {requests}"
    return f"{len(events)} events, {len(events) - state.changes} of them twice, {last} rounds"


def run(names: list[str]) -> dict[str, float]:
    """Recovery times of faults, in seconds."""
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="lavabox-cluster-") as folder:
        lab = Lab3(Path(folder), ROOT / "build" / "lavabox")
        try:
            lab.rounds(1)
            times[ROUND] = lab.rounds(1)
            print(f"{ROUND:50} {times[ROUND]:6.1f} s", flush=True)
            for name in names:
                lab.rounds(1)
                steps = FAULTS[name](lab)
                next(steps)
                times[name] = lab.rounds(2)
                print(f"{name:50} {times[name]:6.1f} s", flush=True)
                for _ in steps:
                    pass
                lab.rounds(1)
            lab.finish()
            print(check_log(lab))
        finally:
            lab.close()
    return times


if __name__ == "__main__":
    result = run(sys.argv[1:] or list(FAULTS))
    (ROOT / "build" / "cluster.json").write_text(json.dumps(result))
    sys.exit(max(result.values()) > 20)
