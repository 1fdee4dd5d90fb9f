# SPDX-License-Identifier: MIT
"""Size of the flow page, and how long Chromium takes to load it: `python -m bench.flow`."""

import heapq
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.row import Row, show
from dispatcher.group.coordinator import Coordinator
from dispatcher.group.events import Event, Joined, Left, Reported, Sent, Waiting, WaitKind
from dispatcher.report.flow import page, tables
from dispatcher.report.flow.model import Fold

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
RUNS = 5
_EVENTS_IN_A_TURN = 4.8


def events(devices: int, number: int, seed: int = 1) -> list[Event]:
    """A log of about so many events: devices that work, send, wait, sync and test, as the coordinator lets them."""
    chance = random.Random(seed)
    roles = ["server"] * max(1, devices // 25) + ["observer"] * (devices // 12)
    roles += ["client"] * (devices - len(roles))
    names = [f"{role}-{roles[:place].count(role) + 1}" for place, role in enumerate(roles)]
    log: list[Event] = [
        Joined(0.0, name, name.encode(), role) for name, role in zip(names, roles, strict=True)
    ]
    coordinator = Coordinator()
    for event in log:
        coordinator.apply(event)
    turns = max(1, round(number / devices / _EVENTS_IN_A_TURN))
    scripts = {name: _script(role, turns, chance) for name, role in zip(names, roles, strict=True)}
    due = [(chance.random(), name) for name in names]
    heapq.heapify(due)
    while due:
        now, name = heapq.heappop(due)
        act = next(scripts[name], None)
        if act is None:
            log.append(Left(now, name, b"%s left" % name.encode(), "ended with status 0"))
            coordinator.apply(log[-1])
            continue
        seconds, kind, fields = act
        request = len(log).to_bytes(8, "big")
        event = _event(now, name, request, kind, fields)
        log.append(event)
        goes_on = dict.fromkeys(outcome.device for outcome in coordinator.apply(event))
        if isinstance(event, Reported):
            goes_on[name] = None
        for device in goes_on:
            heapq.heappush(due, (now + seconds * chance.uniform(0.2, 2.0), device))
    return log


def _event(
    now: float, name: str, request: bytes, kind: WaitKind | str, fields: tuple[str | None, ...]
) -> Event:
    if isinstance(kind, WaitKind):
        return Waiting(now, name, request, kind, str(fields[0]).encode(), fields[1], None)
    if kind == "send":
        data = ((b"ipv4", f"192.168.3.{len(name)}".encode()), (b"port", b"5201"))
        return Sent(now, name, request, str(fields[0]).encode(), data)
    return Reported(now, name, request, kind, fields, 0)


def _script(
    role: str, turns: int, chance: random.Random
) -> Iterator[tuple[float, WaitKind | str, tuple[str | None, ...]]]:
    """What a device of this role does: seconds of work afterwards, what, and its fields."""
    for turn in range(1, turns + 1):
        yield 0.3, WaitKind.SYNC, (f"start-{turn}", None)
        if role == "server":
            yield 1.0, "run-start", (f"serve-{turn}", f"{turn}")
            yield 1.5, "send", (f"ready-{turn}",)
            yield 0.2, WaitKind.WAIT_ALL, (f"done-{turn}", "client")
            yield 0.1, "run-end", (f"serve-{turn}", f"{turn}", "0")
        elif role == "client":
            yield 0.5, WaitKind.WAIT_ALL, (f"ready-{turn}", "server")
            for test in range(chance.randrange(1, 4)):
                result = chance.choices(("pass", "fail", "skip", "unknown"), (90, 6, 3, 1))[0]
                yield 0.8, "result", (f"transfer-{test}", result, f"{chance.uniform(80, 95):.1f}", "Mbit/s")
            yield 0.2, "send", (f"done-{turn}",)
        else:
            yield 2.0, "result", (f"watch-{turn}", "pass", None, None)


def rows() -> Iterator[Row]:
    """Size and time for 2, 50 and 100 devices."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    for devices, number in ((2, 60), (50, 2000), (100, 6000)):
        log = events(devices, number)
        began = time.process_time()
        fold = Fold()
        for event in log:
            fold.apply(event)
        flow = fold.finish()
        data = page.document(flow, tables.table(flow), f"{devices} devices")
        seconds = time.process_time() - began
        title = f"flow page of {devices} devices, {len(log)} events"
        yield Row(f"{title}: size", len(data) / 1024, "KiB")
        yield Row(f"{title}: to make it, processor time", seconds * 1000, "ms")
        if chromium is not None:
            loads, scripts = zip(*(_load(chromium, data) for _ in range(RUNS)), strict=True)
            yield Row(f"{title}: loaded by a browser", statistics.median(loads), "ms")
            yield Row(f"{title}: its script", statistics.median(scripts), "ms")


def _load(chromium: str, data: bytes) -> tuple[int, int]:
    """Milliseconds from the start of navigation until the time line is drawn, and of those the script's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "flow.html")
        path.write_bytes(data)
        run = subprocess.run(
            [chromium, *OPTIONS, f"--user-data-dir={folder}/profile", "--dump-dom", path.as_uri()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )
    found = {
        name: int(value)
        for name, value in re.findall(r'data-(loaded|milliseconds)="(\d+)"', run.stdout[:4000].decode())
    }
    return found["loaded"], found["milliseconds"]


if __name__ == "__main__":
    show(rows())
