# SPDX-License-Identifier: MIT
"""Size of the zipapp, bytes on the wire, processor time of a command, time of a sync."""

import os
import pty
import random
import re
import resource
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import build_zipapp
from bench import startup
from bench.puregroup import PureGroup
from dispatcher.consoles.processes import become_subreaper
from dispatcher.line.demultiplexer import Demultiplexer, Frame
from toolkit.agent import LINGER

RUNS = 12


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

    def processor_time(self, command: str, pause: float = 0.0) -> float:
        """Seconds of CPU of everything that a command starts, its agent included."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.run(command)
        time.sleep(pause)
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    break
            except ChildProcessError:
                break
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _wire(bench: Bench) -> None:
    print("\nBytes on the wire, frames up and lines down, agent's greeting included / not:\n")
    print("| command | up | down | both | without greeting |")
    print("|---|---|---|---|---|")
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
        print(f"| {title} | {up} | {down} | {up + down} | {bare} |")


def _cpu(bench: Bench) -> None:
    python = str(bench.bin / "python3")
    bare, cold, warm = [], [], []
    for _ in range(RUNS):
        bare.append(bench.processor_time(f"exec {python} -I -S -c pass"))
        cold.append(bench.processor_time("exec lava-self >/dev/null"))
        warm.append(
            (bench.processor_time("for i in 1 2 3 4 5; do lava-self; done >/dev/null") - cold[-1]) / 4
        )
    base = statistics.median(bare)
    print(f"\nProcessor time of `lava-self` over a pty, {RUNS} runs, its agent's included:\n")
    print("| | median | ratio to `python3 -I -S -c pass` |")
    print("|---|---|---|")
    for title, times in (
        ("bare `python3 -I -S -c pass`", bare),
        ("`lava-self`, starting the agent", cold),
        ("`lava-self`, the agent being there", warm),
    ):
        print(
            f"| {title} | {statistics.median(times) * 1000:.1f} ms | {statistics.median(times) / base:.2f} |"
        )


_SYNC = """
i=0
while [ $i -lt 5 ]; do
    lava-sync before$i; echo "enter $i $(date +%s.%N)"; lava-sync it$i; echo "leave $i $(date +%s.%N)"
    i=$((i+1))
done
"""


def _sync(bench: Bench, folder: Path) -> None:
    print(
        "\nFrom the last device entering a `lava-sync` to the last one leaving it, both command starts included:\n"
    )
    print("| devices | median of 5 |")
    print("|---|---|")
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
        print(f"| {count} | {statistics.median(spans) * 1000:.0f} ms |")


def main() -> None:
    become_subreaper()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(folder)
        print(f"Size of the zipapp: {bench.box.stat().st_size} bytes.")
        _wire(bench)
        _cpu(bench)
        _sync(bench, folder)
        startup.measure(bench.bin, bench.environ)
        time.sleep(LINGER)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
