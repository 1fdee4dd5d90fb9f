# SPDX-License-Identifier: MIT
"""The examples do what their README files say, by the command that stands there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dispatcher.lab.config import parse_lab
from tests.dispatcher.isolation import why_not
from tests.dispatcher.lavabox_process import PATIENCE, ROOT, Lavabox, variables

# What is among the output of each.
EXAMPLES = {
    "1-client-server": [r"client-1 \| The free disk space on server is \d\S*\n"],
    "2-iperf": [r"client-1 \| .*bits?/s"],
    "3-variable-clients": [
        r"server-1 \| server started for 3 clients\n",
        r"client-3 \| client-3 talks to server-1\n",
        r"server-1 \| all clients are done\n",
    ],
    "4-peer-to-peer": [
        r"peer-1 \| peer-1 asks peer-2: data of peer-2\n",
        r"peer-3 \| peer-3 asks peer-1: data",
    ],
    "5-network": [
        r"client-1 \| database has (10\.\d+\.0\.2)\n",
        r"client-1 \| hello to 10\.\d+\.0\.3\n",
        r"client-2 \| hello to 10\.\d+\.0\.4\n",
    ],
    "jobs": [
        r"transfer.yaml, line \d+: deploy and boot are not carried out",
        r"client-2 = pass  transfer \[\d\S* s\]",
        r"guest-3 = pass  round-2",
        r"client-1  0_fetch  -       2     0 ",
    ],
    "flow-table": [r"client-2   \| using server-1 server-2\n", r"observer-1 \| all have finished\n"],
}


def test_all_examples_are_here() -> None:
    assert {path.parent.name for path in (ROOT / "examples").glob("*/README.md")} == EXAMPLES.keys() | {
        *("lava", "labgrid", "library")
    }


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("options", [(), ("--shared-tmp",)], ids=["", "shared-tmp"])
def test_example(name: str, options: tuple[str, ...], box: Path) -> None:
    isolated = "--isolate" in (ROOT / "examples" / name / "README.md").read_text()
    if isolated and (reason := why_not()):
        pytest.skip(reason)
    if isolated and options:
        # They would exclude each other.
        options = ("--baud", "115200")
    folder = ROOT / "examples" / name
    readme = (folder / "README.md").read_text()
    assert readme.count("\n") == 3
    commands = re.findall(r"`lavabox sim (.*?)`", readme)
    assert commands
    arguments = ("--box", str(box), "--timeout", "60", *options)
    text = ""
    for command in commands:
        with Lavabox("sim", *arguments, *shlex.split(command), cwd=folder) as process:
            assert process.finish() == 0, process.text
        text += process.text
    for pattern in EXAMPLES[name]:
        assert re.search(pattern, text), text


# A device that says so when it is ready, and then is a shell.
BOARD = "echo ready; PS1= exec sh -i"


@pytest.mark.parametrize(
    ("script", "address"), [("own_asyncio.py", [f"exec:{BOARD}"]), ("own_pexpect.py", ["sh", "-c", BOARD])]
)
def test_a_console_in_a_program_of_ones_own(
    script: str, address: list[str], box: Path, tmp_path: Path
) -> None:
    for command in ("lava-send", "lava-self"):
        (tmp_path / command).symlink_to(box)
    (tmp_path / "lavabox").write_text(f'#!/bin/sh\nexec {sys.executable} -m dispatcher "$@"\n')
    (tmp_path / "lavabox").chmod(0o755)
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / "library" / script, *address],
        env={**variables(), "PATH": f"{tmp_path}{os.pathsep}{variables()['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (run.returncode, run.stdout.strip()) == (0, "sent by board"), run.stderr


def test_the_configurations_of_labgrid_are_what_they_say(box: Path, tmp_path: Path) -> None:
    """labgrid itself is not installed for that: it brings much along."""
    folder = ROOT / "examples" / "labgrid"
    served, hooked = (
        yaml.safe_load((folder / name).read_text())["targets"]["main"]
        for name in ("served.yaml", "hooked.yaml")
    )
    port = served["resources"]["NetworkSerialPort"]
    device = parse_lab((folder / "lab.toml").read_text(), "lab.toml").devices["panda01"]
    assert device.tcp == f"{port['host']}:{port['port']}" and port["protocol"] == "raw"
    program, *arguments = shlex.split(hooked["drivers"]["ExternalConsoleDriver"]["cmd"])
    assert program == "lavabox"
    # On pipes, as labgrid has it, with another command than telnet.
    (tmp_path / "lava-self").symlink_to(box)
    run = subprocess.run(
        [sys.executable, "-m", "dispatcher", *arguments[: arguments.index("--") + 1], tmp_path / "lava-self"],
        env=variables(),
        stdin=subprocess.PIPE,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (run.returncode, run.stdout.strip()) == (0, b"panda01"), run.stderr
