# SPDX-License-Identifier: MIT
"""Runs the box and the dispatcher under a real kernel: `python -m tests.kernel`.

Two guests boot Debian's kernel in qemu, by software emulation, as two devices of one group,
and `lavabox serve` reads their serial consoles. While the kernel prints messages into
whatever stands there, the multi-device examples run, and much else; every answer, every
byte of output and every kernel message is checked.

It needs Debian, or something that is made of its packages, and no root. All files stand in
build/kernel: the image, which is kept, and of each run the logs and what the lines carried.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernel import image
from tests.kernel.figures import Figures, check_messages, check_traces, count_echoes, count_frames, table
from tests.kernel.guest import QEMU, Guest, GuestError
from tests.kernel.line import Line
from tests.kernel.play import (
    judge,
    power_cycle,
    report_results,
    restart_dispatcher,
    run_session,
    use_shell,
    wait_in_background,
)
from tests.kernel.serve import Serve

FOLDER = Path("build", "kernel")
NAMES = ("server-1", "client-1")
# What has to be there, and the package that has it.
TOOLS = {QEMU: "qemu-system-x86", "apt-get": "apt", "dpkg-deb": "dpkg", "tar": "tar"}
# Where nothing tells the beginning of a kernel message, not every frame that it cuts can be repaired.
STAMPS_OFF = "printk.time=0"
QUIET = r"@@ kernel messages (\d+)\r\n"
MISSING = 2


@dataclass(frozen=True)
class Run:
    """One run: what the guests and their lines are like."""

    name: str
    title: str
    noise: float  # seconds between kernel messages
    arguments: str = ""  # of the kernel
    processors: int = 1
    baud: int | None = 115200
    overrun: bool = False  # whether input is lost that a guest does not take in time
    syncs: int = 100
    size: int = 20000  # bytes of the largest message
    shells: tuple[str, ...] = ()  # that commands are killed under
    background: tuple[str, ...] = ()  # at whose prompts waits are in the background
    results: int = 0  # that each guest reports
    trouble: bool = False  # whether the dispatcher is killed, and a guest switched off


RUNS = (
    Run("stamped", "time stamps", noise=0.05, shells=("bash --norc", "busybox sh")),
    Run("unstamped", "no time stamps", noise=0.05, arguments=STAMPS_OFF, syncs=20, trouble=True),
    Run(
        "overrun",
        "input lost while the kernel prints",
        noise=0.1,
        overrun=True,
        syncs=20,
        size=4000,
        shells=("bash --norc --noediting", "dash"),
    ),
    Run(
        "background",
        "waits in the background of prompts",
        noise=0.05,
        syncs=0,
        background=("bash --norc", "bash --norc --noediting", "dash", "busybox sh"),
    ),
    Run("results", "1000 results, 50 kernel messages a second", noise=0.02, results=500),
)
# The last takes as long as all the others.
USUAL = ("stamped", "unstamped", "overrun", "background")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.kernel", description=__doc__.partition("\n")[0])
    parser.add_argument("--kernel", default=image.KERNEL, metavar="PACKAGE", help="default: %(default)s")
    parser.add_argument(
        "--run", action="append", choices=[run.name for run in RUNS], help=f"default: {', '.join(USUAL)}"
    )
    arguments = parser.parse_args()
    if not provide_tools():
        return MISSING
    began = time.monotonic()
    try:
        with stopwatch("for kernel and image"):
            FOLDER.mkdir(parents=True, exist_ok=True)
            kernel = image.kernel_image(FOLDER, arguments.kernel)
            initramfs = image.guest_image(FOLDER, image.base_image(FOLDER))
    except image.ImageError as error:
        print(f"tests.kernel: {error}", file=sys.stderr)
        return MISSING
    runs = [run for run in RUNS if run.name in (arguments.run or USUAL)]
    results = [asyncio.run(perform(run, kernel, initramfs)) for run in runs]
    print(f"{time.monotonic() - began:.0f} s in all, with {kernel.name}\n\n{table(results)}", flush=True)
    errors = [f"{figures.title}: {error}" for figures in results for error in figures.errors]
    for error in errors:
        print(f"tests.kernel: {error}", file=sys.stderr)
    return 1 if errors else 0


def provide_tools() -> bool:
    """Whether all tools are there. Installs them only for root, and only in CI."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if not missing:
        return True
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.environ.get("CI") != "true" or os.geteuid() != 0:
        print(
            f"tests.kernel needs more of Debian's packages: apt-get install {' '.join(missing)}",
            file=sys.stderr,
        )
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], install):
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return True


async def perform(run: Run, kernel: Path, initramfs: Path) -> Figures:
    """One run; prints how long its parts took."""
    folder = FOLDER / run.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    figures = Figures(run.title)
    print(f"{run.title}:", flush=True)
    guests: list[Guest] = []
    try:
        async with bench(run, folder, kernel, initramfs) as (serve, server, client):
            guests += [server, client]
            try:
                await play(run, folder, figures, serve, server, client)
            finally:
                for guest in (server, client):
                    figures.overrun += guest.line.lost
                    count_frames(figures, guest.line.received)
    except GuestError as error:
        figures.lose(str(error))
    if figures.leaked and STAMPS_OFF not in run.arguments:
        figures.lose(f"{figures.leaked} frames, or parts of them, came out as output")
    for guest in guests:
        log = (folder / f"{guest.name}.log").read_bytes()
        count_echoes(figures, bytes(guest.line.typed), log)
        for error in check_traces(log):
            figures.lose(f"{guest.name}: {error}")
    return figures


@contextmanager
def stopwatch(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"  {time.monotonic() - began:5.1f} s  {what}", flush=True)


@asynccontextmanager
async def bench(
    run: Run, folder: Path, kernel: Path, initramfs: Path
) -> AsyncIterator[tuple[Serve, Guest, Guest]]:
    """A dispatcher, and two guests at their prompts."""
    async with AsyncExitStack() as stack:
        lines = {name: Line(folder / f"{name}.raw", run.baud, run.overrun) for name in NAMES}
        for line in lines.values():
            await line.start()
            stack.push_async_callback(line.close)
        serve = Serve(folder, lines)
        stack.push_async_callback(serve.close)
        await serve.start()
        guests = [Guest(name, line, folder / f"{name}.log") for name, line in lines.items()]
        with stopwatch("until both guests are up"):
            for guest in guests:
                arguments = f"{run.arguments} guest.noise={run.noise} guest.shell=dash"
                await guest.start(kernel, initramfs, run.processors, arguments)
                stack.push_async_callback(guest.close)
            for guest in guests:
                await guest.expect("ready> ")
        yield serve, guests[0], guests[1]


async def play(run: Run, folder: Path, figures: Figures, serve: Serve, server: Guest, client: Guest) -> None:
    """Everything that the guests do."""
    transcripts = []
    if run.results:
        with stopwatch(f"{2 * run.results} results"):
            await report_results(figures, (server, client), run.results, serve.group_log)
    elif run.syncs:
        with stopwatch(
            f"the examples, {run.syncs} syncs, {run.size} bytes at once, several commands at once"
        ):
            transcripts = await run_session(figures, (server, client), run.syncs, run.size)
    for shell in run.shells:
        with stopwatch(f"{shell}: commands killed and interrupted"):
            await use_shell(figures, client, server, shell, serve.group_log)
    for shell in run.background:
        with stopwatch(f"{shell}: waits in the background"):
            await wait_in_background(figures, client, shell)
    counts = [int((await guest.run("sh quiet.sh", QUIET))[1]) for guest in (server, client)]
    # Not before both are quiet: this takes a while, and nobody reads the lines meanwhile.
    for transcript in transcripts:
        judge(figures, transcript)
    for guest, count in zip((server, client), counts, strict=True):
        figures.messages += count
        for error in check_messages((folder / f"{guest.name}.log").read_bytes(), count):
            figures.lose(f"{guest.name}: {error}")
    if run.trouble:
        with stopwatch("the dispatcher killed while a command waits"):
            await restart_dispatcher(figures, client, server, serve)
        with stopwatch("a guest switched off and on while a command waits"):
            await power_cycle(figures, client, server, serve.group_log)
    for guest in (server, client):
        guest.line.type("exit\r")
        await guest.wait_for_end()


if __name__ == "__main__":
    sys.exit(main())
