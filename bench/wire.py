# SPDX-License-Identifier: MIT
"""Bytes on the wire for a command, and the time of a sync; on real ptys, with the built box."""

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
        yield from _bytes(bench)
        yield from _sync(bench, folder)
        # An agent that is still there would find its folder gone.
        time.sleep(LINGER)


def _bytes(bench: Bench) -> Iterator[Row]:
    greeting = [
        2 * one - two
        for one, two in zip(bench.run("lava-self"), bench.run("lava-self; lava-self"), strict=True)
    ]
    big = "v" * 4096
    for title, agents, shares, commands in (
        ("`lava-self`", 1, 1, ["lava-self"]),
        ("`lava-send id k=v`", 1, 1, ["lava-send id k=v"]),
        ("`lava-sync id` of two devices, for each", 2, 2, ["lava-sync id", "lava-sync id"]),
        ("`lava-send id k=` and 4 KiB", 1, 1, [f"lava-send id k={big}"]),
        ("`lava-wait id` that gets 4 KiB, and that send", 2, 1, [f"lava-send id k={big}", "lava-wait id"]),
    ):
        up, down = (count // shares for count in bench.run(*commands))
        bare = up + down - agents // shares * sum(greeting)
        yield Row(f"{title}: frames up {up}, lines down {down}, together", up + down, "bytes")
        yield Row(f"{title}: without the agent's greeting", bare, "bytes")


_SYNC = """
i=0
while [ $i -lt 5 ]; do
    lava-sync before$i; echo "enter $i $(date +%s.%N)"; lava-sync it$i; echo "leave $i $(date +%s.%N)"
    i=$((i+1))
done
"""


def _sync(bench: Bench, folder: Path) -> Iterator[Row]:
    """Both command starts included."""
    lavabox = [sys.executable, "-m", "dispatcher", "sim", "--box", str(bench.box)]
    environ = {**os.environ, "PATH": f"{bench.bin}:{os.environ['PATH']}"}
    for count in (2, 10, 50):
        logs = folder / f"logs{count}"
        run = [*lavabox, "--log-dir", str(logs), "--role", f"node*{count}={_SYNC}"]
        subprocess.run(run, check=True, env=environ, stdout=subprocess.DEVNULL)
        text = "".join(path.read_text() for path in logs.glob("*.log"))
        spans = []
        for number in range(5):
            times = {
                word: [float(t) for t in re.findall(rf"^{word} {number} ([\d.]+)", text, re.MULTILINE)]
                for word in ("enter", "leave")
            }
            spans.append(max(times["leave"]) - max(times["enter"]))
        title = f"`lava-sync` of {count} devices, from the last in to the last out"
        yield Row(title, statistics.median(spans) * 1000, "ms")
