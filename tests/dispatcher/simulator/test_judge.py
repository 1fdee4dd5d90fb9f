# SPDX-License-Identifier: MIT
"""What is told of the processes of simulated devices."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.consoles.processes import become_subreaper, reap_orphans
from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.simulator.judge import Leader, doings
from tests.dispatcher.grouplog.natsserver import end_common
from tests.dispatcher.lavabox_process import PATIENCE, variables


@pytest.fixture(autouse=True)
def alone() -> None:
    """No process of other tests is below this one."""
    end_common()


class Nobody:
    """Listens to a console without taking note of anything."""

    def received(self, data: bytes) -> None: ...

    def drained(self) -> None: ...

    def lost(self, reason: str) -> None: ...

    def rebooted(self) -> None: ...

    def ended(self, reason: str, status: int) -> None: ...


DOINGS = {
    "a program": ("sleep 1234; true", "runs `sleep 1234`"),
    "a shell that reads": (
        "read x; true",
        "runs `/bin/sh -c read x; true`, which waits for something to be typed",
    ),
    "from the terminal": (
        "read x </dev/tty; true",
        "runs `/bin/sh -c read x </dev/tty; true`, which waits for something to be typed",
    ),
    "the newest program": ("sleep 1233 & sh -c 'exec sleep 1234'; true", "runs `sleep 1234`"),
    "a command of the box": (
        "exec python3 -E -s -S -c 'import time; time.sleep(1000)' /bin/lava-wait y z",
        "runs `lava-wait y z`",
    ),
    "a long command": ("sleep 1000 " + "0 " * 50 + "; true", f"runs `sleep 1000 {'0 ' * 23}...`"),
}


@pytest.mark.parametrize("name", DOINGS)
def test_what_a_device_does(name: str) -> None:
    command, expected = DOINGS[name]

    async def body() -> None:
        console = PtyProcess("test", ["/bin/sh", "-c", command])
        await console.open(Nobody())
        assert console.pid is not None
        leaders = {"a": Leader(console.pid, console.mark)}
        try:
            async with asyncio.timeout(PATIENCE):
                # (It takes a moment to begin.)
                while (found := doings(leaders)) != {"a": expected}:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(found) from None
        finally:
            await console.close()

    become_subreaper()
    asyncio.run(body())
    reap_orphans([])


QUICK = """
import sys
from dispatcher.host import deadwatch
from dispatcher.view import statusview
deadwatch.BUSY_AFTER = statusview.FIRST_SILENCE = 0.5
from dispatcher.cli import main
sys.exit(main())
"""


def test_silence_is_told_of_where_nobody_waits(box: Path, tmp_path: Path) -> None:
    line = first_line_with(
        "nothing has happened", box, tmp_path, "--role", "a=read x", "--role", "b=sleep 1000; true"
    )
    assert re.search(
        r": a-1 runs .*`, which waits for something to be typed; b-1 runs `sleep 1000`\n", line
    ), line


def test_a_server_that_hides_a_dead_end_is_named(box: Path, tmp_path: Path) -> None:
    server = f"{sys.executable} -c 'import socket; socket.create_server((\"127.0.0.1\", 0)).accept()' & "
    line = first_line_with(
        "perhaps", box, tmp_path, "--role", f"a={server} lava-wait x", "--role", "b=lava-wait y"
    )
    assert re.search(
        r"perhaps a dead end: .*`lava-wait .* But a-1 has `.*socket.*` \(process \d+\), which may do something yet\. "
        r"The waits go on\n",
        line,
    ), line


def first_line_with(words: str, box: Path, folder: Path, *arguments: str) -> str:
    """The first line with these words that a simulation prints, which is then stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", QUICK, "sim", "--box", str(box), "--timeout", "50", *arguments],
        cwd=folder,
        env=variables(PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = next((line for line in process.stdout if words in line or "is over" in line), "")
    process.terminate()
    assert process.wait(PATIENCE) == 143
    process.stdout.close()
    return line
