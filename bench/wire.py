# SPDX-License-Identifier: MIT
"""Bytes on the wire for a command, and the time of a sync; on real ptys, with the built box.

LAVA's side: its own commands on such ptys, handled by its dispatcher and its coordinator (bench/lavaprograms.py).
"""

import os
import pty
import random
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import build_zipapp
from bench import lavaprograms
from bench.puregroup import PureGroup
from bench.row import Row
from dispatcher.consoles.processes import become_subreaper
from dispatcher.line.demultiplexer import Demultiplexer, Frame
from toolkit.agent import LINGER


class Bench:
    """Two devices on real ptys, with the built zipapp and the engine."""

    def __init__(self, folder: Path) -> None:
        self.box = build_zipapp.build(folder / "lavabox")
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "python3").symlink_to(Path(sys.executable).resolve())
        self.environ = {"PATH": f"{self.bin}:/usr/bin:/bin", "LAVA_MULTI_NODE_CACHE": str(folder / "cache")}
        subprocess.run([self.box, "--install", "-s", self.bin], check=True, env=self.environ)

    def run(self, *commands: str) -> tuple[int, int]:
        """Run a shell command on a device each; returns the bytes of frames and of typed lines."""
        group = PureGroup(lambda: random.getrandbits(32))
        devices = {}
        demultiplexers = {}
        up = down = 0
        for number, command in enumerate(commands):
            name = f"panda{number:02}"
            group.join(name, "client", time.monotonic())
            pid, fd = pty.fork()
            if pid == 0:
                os.execve("/bin/sh", ["sh", "-c", command], self.environ)
            devices[name] = (pid, fd)
            demultiplexers[name] = Demultiplexer()
        running = dict(devices)
        while running:
            ready, _, _ = select.select([fd for _, fd in running.values()], [], [], 0.2)
            now = time.monotonic()
            for name, (_, fd) in list(running.items()):
                if fd not in ready:
                    continue
                try:
                    data = os.read(fd, 65536)
                except OSError:
                    del running[name]  # the shell and the agent have ended
                    continue
                events = demultiplexers[name].receive_data(data, now)
                up += sum(len(event.raw) for event in events if isinstance(event, Frame))
                group.receive_data(name, data, now)
            group.handle_timeout(now)
            for name, data in group.data_to_type(now).items():
                down += len(data)
                os.write(devices[name][1], data)
        for pid, fd in devices.values():
            os.waitpid(pid, 0)
            os.close(fd)
        return up, down


def rows() -> Iterator[Row]:
    """Bytes for some commands, and milliseconds for a sync."""
    become_subreaper()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(folder)
        yield from _bytes(bench, folder)
        yield from _sync(bench, folder)
        # An agent that is still there would find its folder gone.
        time.sleep(LINGER)


# Seconds between two polls of LAVA's dispatcher where that does not matter; it takes no less.
_SHORT_DELAY = 0.1


def _bytes(bench: Bench, folder: Path) -> Iterator[Row]:
    greeting = [
        2 * one - two
        for one, two in zip(bench.run("lava-self"), bench.run("lava-self; lava-self"), strict=True)
    ]
    short, long = "v" * 2048, "v" * 4096
    for number, (title, agents, shares, requests, commands) in enumerate(
        (
            ("`lava-self`", 1, 1, 0, ["lava-self"]),
            ("`lava-send id k=v`", 1, 1, 1, ["lava-send id k=v"]),
            ("`lava-sync id` of two devices, for each", 2, 2, 2, ["lava-sync id", "lava-sync id"]),
            ("`lava-send id k=` and 2 KiB", 1, 1, 1, [f"lava-send id k={short}"]),
            ("`lava-wait id` that gets 2 KiB, and that send", 2, 1, 2, [f"lava-send id k={short}", "lava-wait id"]),
            ("`lava-send id k=` and 4 KiB", 1, 1, 1, [f"lava-send id k={long}"]),
            ("`lava-wait id` that gets 4 KiB, and that send", 2, 1, None, [f"lava-send id k={long}", "lava-wait id"]),
        )
    ):  # fmt: skip
        up, down = (count // shares for count in bench.run(*commands))
        bare = up + down - agents // shares * sum(greeting)
        lava = None if requests is None else _lava_bytes(folder / f"lava{number}", commands, requests)
        if lava is not None:
            lava /= shares
        yield Row(f"{title}: frames up {up}, lines down {down}, together", up + down, "bytes", lava)
        yield Row(f"{title}: without the agent's greeting", bare, "bytes", lava)


def _lava_bytes(folder: Path, commands: list[str], requests: int) -> float | None:
    """What LAVA's commands print and what is typed to them; None where it has not got all of the requests.

    (It looks for a request in the last 4000 characters. Who waits for one that is longer waits for ever.)
    """
    outcomes = lavaprograms.run(folder, {f"panda{n:02}": c for n, c in enumerate(commands)}, _SHORT_DELAY)
    if outcomes is None or sum(outcome.requests for outcome in outcomes.values()) != requests:
        return None
    return sum(outcome.up + outcome.down for outcome in outcomes.values())


_SYNC = """
i=0
while [ $i -lt {rounds} ]; do
    lava-sync before$i; echo "enter $i $(date +%s.%N)"; lava-sync it$i; echo "leave $i $(date +%s.%N)"
    i=$((i+1))
done
"""
# LAVA's take two polls each, of three seconds.
_ROUNDS, _LAVA_ROUNDS = 5, 2


def _sync(bench: Bench, folder: Path) -> Iterator[Row]:
    """Both command starts included."""
    lavabox = [sys.executable, "-m", "dispatcher", "sim", "--box", str(bench.box)]
    environ = {**os.environ, "PATH": f"{bench.bin}:{os.environ['PATH']}"}
    delay = lavaprograms.poll_delay()
    for count in (2, 10, 50):
        logs = folder / f"logs{count}"
        role = f"node*{count}={_SYNC.format(rounds=_ROUNDS)}"
        run = [*lavabox, "--log-dir", str(logs), "--role", role]
        subprocess.run(run, check=True, env=environ, stdout=subprocess.DEVNULL)
        took = _span("".join(path.read_text() for path in logs.glob("*.log")), _ROUNDS)
        lava = None
        if delay is not None:
            devices = {f"node-{number}": _SYNC.format(rounds=_LAVA_ROUNDS) for number in range(count)}
            outcomes = lavaprograms.run(folder / f"lava-sync{count}", devices, delay)
            if outcomes is not None:
                lava = _span("".join(outcome.log for outcome in outcomes.values()), _LAVA_ROUNDS)
        title = f"`lava-sync` of {count} devices, from the last in to the last out"
        yield Row(title, took, "ms", lava)


def _span(text: str, rounds: int) -> float:
    """Milliseconds from the last "enter" to the last "leave", the median of all rounds."""
    spans = []
    for number in range(rounds):
        times = {
            word: [float(t) for t in re.findall(rf"^{word} {number} ([\d.]+)", text, re.MULTILINE)]
            for word in ("enter", "leave")
        }
        spans.append(max(times["leave"]) - max(times["enter"]))
    return statistics.median(spans) * 1000
