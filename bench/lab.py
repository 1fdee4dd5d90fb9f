# SPDX-License-Identifier: MIT
"""A lab in one process, and LAVA's coordinator protocol: `python -m bench.lab [consoles ...]`.

Beside lava-coordinator, where that is installed (bench/lavaprograms.py).
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench import lavaprograms
from bench.row import Row
from dispatcher.errors import SetupError
from dispatcher.lab.control import call
from tests.dispatcher.grouplog.natsserver import free_ports
from toolkit.wire.device_link import DeviceLink
from toolkit.wire.vocabulary import pack_request

CLIENTS = (1, 10, 50, 200, 1000)
# Requests of all clients together, and for the rows, which have LAVA's side too: it takes the longest with 50 clients.
REQUESTS = 1000
ROW_CLIENTS, ROW_REQUESTS = (1, 50), 500
# Seconds that an idle lab is looked at.
IDLE = 10.0
# How often lava-self is asked.
ASKED = 200
# Consoles of the labs that are measured.
LABS = (500, 1000)
TICK = os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Bytes of a process that no other shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def processor_time(pid: int) -> float:
    """Seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


# Consoles


class Board(asyncio.Protocol):
    """A console on a TCP port: silent, or printing without end."""

    def __init__(self, boards: "list[Board]") -> None:
        self._boards = boards
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.writable = asyncio.Event()
        self.writable.set()
        self._boards.append(self)

    def data_received(self, data: bytes) -> None:
        self.received.put_nowait(data)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def flood(self) -> None:
        """Print as much as is taken."""
        line = b"0123456789 abcdefghijklmnopqrstuvwxyz\r\n" * 200
        while True:
            await self.writable.wait()
            self.transport.write(line)
            await asyncio.sleep(0)


async def ask_self(board: Board, count: int) -> list[float]:
    """Ask `lava-self` over a console, one after the other; returns the seconds of each."""
    times = []
    now = asyncio.get_running_loop().time
    link = DeviceLink(random.getrandbits(32), 1)
    rest = b""
    for _ in range(count):
        began = now()
        link.submit(pack_request(os.urandom(8), "self"), began)
        while not link.replies():
            while (frame := link.next_frame(now())) is not None:
                board.transport.write(frame)
            rest += await board.received.get()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                link.receive_line(line + b"\n", now())
        times.append(now() - began)
    return sorted(times)


def lab_file(folder: Path, ports: "list[int]") -> Path:
    lines = [f'control = "{folder}/control"\nlog-dir = "{folder}/logs"\n']
    for number, port in enumerate(ports):
        lines.append(
            f'[devices.d{number}]\nconsole = "socket://127.0.0.1:{port}"\ngroup = "g{number // 10}"\n'
        )
    path = folder / "lab.toml"
    path.write_text("".join(lines))
    return path


def served(path: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "dispatcher", "serve", str(path)],
        stderr=path.with_name("stderr").open("wb"),
        cwd=Path(__file__).parent.parent,
    )


async def connected(control: str, count: int) -> None:
    while True:
        try:
            status = await asyncio.to_thread(call, control, {"do": "status"})
        except SetupError:
            await asyncio.sleep(0.2)
            continue
        if sum(device["connected"] for device in status["status"]["devices"]) == count:
            return
        await asyncio.sleep(0.5)


async def measure_lab(count: int) -> dict[str, float]:
    boards: list[Board] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Board(boards), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    figures: dict[str, float] = {}
    base = 0
    for consoles in (1, count):
        with tempfile.TemporaryDirectory() as folder:
            path = lab_file(Path(folder), [port] * consoles)
            process = served(path)
            try:
                await connected(f"{folder}/control", consoles)
                await asyncio.sleep(2)
                taken = memory(process.pid)
                if consoles == 1:
                    base = taken
                else:
                    figures["KiB a console"] = (taken - base) / (consoles - 1) / 1024
                    before = processor_time(process.pid)
                    await asyncio.sleep(IDLE)
                    figures["idle, % of a processor"] = 100 * (processor_time(process.pid) - before) / IDLE
                    for name, floods in (("quiet", False), ("beside a flood", True)):
                        flood = loop.create_task(boards[0].flood()) if floods else None
                        times = await asyncio.wait_for(ask_self(boards[-1], ASKED), 120)
                        figures[f"p50 {name}, ms"] = 1000 * times[ASKED // 2]
                        figures[f"p99 {name}, ms"] = 1000 * times[ASKED * 99 // 100]
                        if flood is not None:
                            flood.cancel()
            finally:
                stderr = path.with_name("stderr")
                said = stderr.read_bytes().count(b"\n")
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(process.wait)
                figures["end, seconds"] = time.monotonic() - began
                figures["lines on stderr at the end"] = stderr.read_bytes().count(b"\n") - said
        boards.clear()
    server.close()
    return figures


def rows() -> Iterator[Row]:
    """A lab of many consoles on TCP ports, ten to a group."""
    for count in LABS:
        figures = asyncio.run(measure_lab(count))
        for what, (key, unit) in {
            "memory for each": ("KiB a console", "KiB"),
            "idle": ("idle, % of a processor", "% of a processor"),
            "`lava-self` on the line: median": ("p50 quiet, ms", "ms"),
            "`lava-self` on the line: 99th percentile": ("p99 quiet, ms", "ms"),
            "`lava-self` beside a flood: median": ("p50 beside a flood, ms", "ms"),
            "`lava-self` beside a flood: 99th percentile": ("p99 beside a flood, ms", "ms"),
            "end of `serve`": ("end, seconds", "s"),
            "end of `serve`, on stderr": ("lines on stderr at the end", "lines"),
        }.items():
            yield Row(f"{count} consoles in one process, {what}", figures[key], unit)


# LAVA's protocol


@contextmanager
def coordinator() -> Iterator[int]:
    """`lavabox coordinator`, and its port for LAVA's protocol."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dispatcher", "coordinator"]
        command += ["--socket", f"{folder}/socket", "--lava", f"127.0.0.1:{port}"]
        with lavaprograms.serving(command, port, {**os.environ, "PYTHONPATH": str(lavaprograms.ROOT)}):
            yield port


async def one_request(port: int, request: dict[str, Any]) -> str:
    body = json.dumps(request).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"%08X" % len(body) + body)
        writer.write_eof()
        answer = await reader.read()
        if not answer:
            raise ConnectionError("no answer")
        return str(json.loads(answer[8:])["response"])
    finally:
        writer.close()


class Requests(NamedTuple):
    """What came of the requests of some clients: those answered in a second, failures, and milliseconds."""

    rate: float
    failures: int
    median: float
    slowest: float


def ours(clients: int, requests: int) -> Requests:
    """Requests to `lavabox coordinator`."""
    with coordinator() as port:
        return asyncio.run(measure_requests(port, clients, requests))


def of_lava(clients: int, requests: int) -> Requests | None:
    """Requests to lava-coordinator, where that is installed."""
    with tempfile.TemporaryDirectory() as folder, lavaprograms.coordinator(Path(folder), 1) as configured:
        return None if configured is None else asyncio.run(measure_requests(configured[1], clients, requests))


def request_rows() -> Iterator[Row]:
    """Requests of LAVA's protocol, each on a connection of its own."""
    for clients in ROW_CLIENTS:
        here, lava = ours(clients, ROW_REQUESTS), of_lava(clients, ROW_REQUESTS)
        title = f"a coordinator with {clients} client{'s' if clients > 1 else ''}"
        for place, (what, unit) in enumerate(
            (
                ("answers", "requests/s"),
                (f"of {ROW_REQUESTS} requests without an answer", "requests"),
                ("a request, median", "ms"),
                ("a request, 99th percentile", "ms"),
            )
        ):
            yield Row(f"{title}: {what}", here[place], unit, None if lava is None else lava[place])


async def measure_requests(port: int, clients: int, requests: int) -> Requests:
    """Requests to a port, in turn from each of so many clients at a time."""
    head = {"group_name": f"g{clients}", "role": "r", "hostname": "h", "group_size": clients}
    times: list[float] = []
    failures = 0

    async def client(number: int) -> None:
        nonlocal failures
        for turn in range(max(1, requests // clients)):
            request = {
                **head,
                "request": "lava_send" if turn else "group_data",
                "client_name": str(number),
                "messageID": f"m{turn}",
                "message": {"k": "v"},
            }
            began = time.monotonic()
            try:
                await asyncio.wait_for(one_request(port, request), 30)
            except (OSError, TimeoutError, ValueError):
                failures += 1
            times.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(clients)))
    seconds = time.monotonic() - began
    times.sort()
    median, slowest = (1000 * times[int(len(times) * part)] for part in (0.5, 0.99))
    return Requests((len(times) - failures) / seconds, failures, median, slowest)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("consoles", nargs="*", type=int, default=LABS)
    arguments = parser.parse_args()
    print(f"{'LAVA protocol':22} {'clients':>8} {'answers/s':>11} {'failed':>7} {'p99 ms':>9}")
    for name, measure in (("lavabox coordinator", ours), ("lava-coordinator", of_lava)):
        for clients in CLIENTS:
            found = measure(clients, REQUESTS)
            if found is not None:
                print(
                    f"{name:22} {clients:8} {found.rate:11.0f} {found.failures:7} {found.slowest:9.1f}",
                    flush=True,
                )
    for count in arguments.consoles:
        figures = asyncio.run(measure_lab(count))
        print(
            f"{count} consoles: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
