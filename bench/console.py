# SPDX-License-Identifier: MIT
"""The output of a console, from the pty to the log and the screen; and a command beside a flood.

A device prints a file with `cat`. What is measured is everything from the pty on: console, channel, log,
display. The floor is a program that only reads the pty into a file. A command is measured on its device,
from its start to its end, while others send without end: plain text, and the worst that is known. On a busy machine
that says more of the machine, so there is also what one turn of the loop costs that serves all of these others.

LAVA's side is its dispatcher (bench/lavaprograms.py): it reads the console by pexpect, looks for signals and requests, and
logs each line in YAML, and shows nothing.
"""

import asyncio
import os
import pty
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import build_zipapp
from bench import lavaprograms
from bench.puregroup import Nobody
from bench.row import Row
from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.engine import Engine
from dispatcher.group.events import Founded
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.host.attachment import Attachment
from dispatcher.host.consolelog import ConsoleLogs
from dispatcher.host.group import Group
from dispatcher.view.display import Display

# Bytes that the device prints.
SIZE = 40_000_000
# And for LAVA, which takes longer.
LAVA_SIZE = 4_000_000
# Commands beside a flood, and who floods.
COMMANDS = 15
NEIGHBOURS = 4
# Seconds before the turns of the loop are looked at, and as long as they are.
SETTLING, LOOKING = 1.0, 3.0
FLOODS = {
    "plain text": b"the quick brown fox jumps over a lazy dog, and so on\n",
    "markers only": b"\x1b]5282;",
    "malformed signals": b"<LAVA_SIGNAL_X>",
}

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "so", "on")


def rows() -> Iterator[Row]:
    """Megabytes that come in a second, and what a command takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text"
        text.write_bytes(_text(SIZE))
        yield Row("a pty, read into a file and nothing else", _floor(text), "MB/s")
        for what, shown in (("logged", None), ("logged and shown", folder / "shown")):
            wall, cpu = asyncio.run(_watch(text, ConsoleLogs(folder / "logs", ["d"], keep=False), shown))
            theirs = _lava(folder) if shown is None else None
            lava = (None, None) if theirs is None else theirs
            yield Row(f"a console demultiplexed, {what}", SIZE / 1e6 / wall, "MB/s", lava[0])
            yield Row(f"the same, {what}", SIZE / 1e6 / cpu, "MB/CPU s", lava[1])
        box = build_zipapp.build(folder / "lavabox")
        for what, flood in (("quiet", None), *FLOODS.items()):
            times = _beside(folder, box, flood)
            for how, seconds in (("median", statistics.median(times)), ("longest", max(times))):
                yield Row(f"`lava-self` beside {NEIGHBOURS} consoles, {what}: {how}", seconds * 1000, "ms")
        for what, flood in FLOODS.items():
            turns = asyncio.run(_turns(folder, flood))
            for how, seconds in (("median", statistics.median(turns)), ("longest", max(turns))):
                title = f"a turn of the loop with {NEIGHBOURS} consoles, {what}: {how}, processor time"
                yield Row(title, seconds * 1000, "ms")


def _text(size: int) -> bytes:
    """Lines of a kernel log."""
    chance = random.Random(1)
    lines = [
        f"[{chance.uniform(0, 1000):12.6f}] {' '.join(chance.choices(_WORDS, k=chance.randint(2, 14)))}\n"
        for _ in range(10_000)
    ]
    block = "".join(lines).encode()
    return (block * (size // len(block) + 1))[:size]


def _floor(text: Path) -> float:
    """Megabytes per second."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("cat", ["cat", str(text)])
    began = time.monotonic()
    with open(text.with_name("copy"), "wb", buffering=0) as file:
        while True:
            try:
                file.write(os.read(fd, 65536))
            except OSError:
                break
    took = time.monotonic() - began
    os.waitpid(pid, 0)
    os.close(fd)
    return SIZE / 1e6 / took


def _lava(folder: Path) -> tuple[float, float] | None:
    """Megabytes in a second, and in one of processor time, that LAVA's dispatcher reads and logs."""
    text = folder / "lava-text"
    text.write_bytes(_text(LAVA_SIZE))
    outcomes = lavaprograms.run(folder / "lava", {"d": f"cat {text}"}, 0.1)
    if outcomes is None:
        return None
    return LAVA_SIZE / 1e6 / outcomes["d"].seconds, LAVA_SIZE / 1e6 / outcomes["d"].processor


class _Tap:
    """What a run does with output (host/terminalrun.py)."""

    def __init__(self, logs: ConsoleLogs, display: Display | None) -> None:
        self._logs = logs
        self._display = display
        self.first: float | None = None

    def output(self, data: bytes, now: float) -> None:
        if self.first is None:
            self.first = now
            self.first_cpu = time.process_time()
        self._logs.write("d", data)
        if self._display is not None:
            self._display.output("d", data, now)

    def notice(self, sentence: str) -> None: ...


async def _watch(text: Path, logs: ConsoleLogs, shown: Path | None) -> tuple[float, float]:
    """Seconds from the first output to the end, and seconds of processor time."""
    loop = asyncio.get_running_loop()
    group = Group(Engine(b"bench 01"), MemoryGroupLog(), Nobody(), [])
    await group.open(Founded(0.0, b"founded"))
    ended: asyncio.Future[tuple[float, float]] = loop.create_future()
    with open(os.devnull if shown is None else shown, "w") as screen:
        tap = _Tap(logs, None if shown is None else Display(screen.write, ["d"], colour=False))
        console = PtyProcess("d", ["/bin/sh", "-c", f"cat {text}; printf over"])
        attachment = Attachment(
            "d",
            "t",
            console,
            group,
            [tap],
            token=lambda: 1,
            ended=lambda reason, status: ended.set_result((loop.time(), time.process_time())),
        )
        await attachment.run()
        wall, cpu = await ended
        await group.close()
        logs.close()
    assert tap.first is not None
    return wall - tap.first, cpu - tap.first_cpu


_COMMANDS = """
for i in $(seq {count}); do
    began=$(date +%s%N); lava-self >/dev/null; echo "took $(($(date +%s%N) - began)) ns"
done
touch {over}
"""


def _beside(folder: Path, box: Path, flood: bytes | None) -> list[float]:
    """Seconds that each of some commands takes, on one device of several."""
    block, over, logs, commands = folder / "block", folder / "over", folder / "beside", folder / "bin"
    # The devices' Python is this one, and no script that looks for one.
    commands.mkdir(exist_ok=True)
    python = commands / "python3"
    if not python.is_symlink():
        python.symlink_to(Path(sys.executable).resolve())
    environ = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    block.write_bytes((flood or b"") * 1000)
    over.unlink(missing_ok=True)
    neighbour = f"until [ -e {over} ]; do {'sleep 0.1' if flood is None else f'cat {block}'}; done"
    run = [
        sys.executable,
        "-m",
        "dispatcher",
        "sim",
        "--box",
        str(box),
        "--shared-tmp",
        "--log-dir",
        str(logs),
    ]
    for number in range(NEIGHBOURS):
        run += ["--device", f"n{number}:t={neighbour}"]
    run += ["--device", f"d:t={_COMMANDS.format(count=COMMANDS, over=over)}"]
    subprocess.run(run, check=True, env=environ, stdout=subprocess.DEVNULL)
    return [int(took) / 1e9 for took in re.findall(rb"took (\d+) ns", (logs / "d.log").read_bytes())]


async def _turns(folder: Path, flood: bytes) -> list[float]:
    """Seconds of processor time that each turn of the loop takes."""
    block = folder / "block"
    block.write_bytes(flood * 1000)
    group = Group(Engine(b"bench 01"), MemoryGroupLog(), Nobody(), [])
    await group.open(Founded(0.0, b"founded"))
    logs = ConsoleLogs(folder / "turns", ["d"], keep=False)
    attachments, running = [], []
    for number in range(NEIGHBOURS):
        console = PtyProcess("d", ["/bin/sh", "-c", f"while :; do cat {block} {block} {block}; done"])
        attachment = Attachment(f"d{number}", "t", console, group, [_Tap(logs, None)], token=lambda: 1)
        attachments.append(attachment)
        running.append(asyncio.create_task(attachment.run()))
    # Until the consoles have found their pace.
    await asyncio.sleep(SETTLING)
    turns, end = [], time.monotonic() + LOOKING
    while time.monotonic() < end:
        began = time.process_time()
        await asyncio.sleep(0)
        turns.append(time.process_time() - began)
        await asyncio.sleep(0.0001)
    for attachment in attachments:
        await attachment.close()
    for task in running:
        await task
    await group.close()
    logs.close()
    return turns
