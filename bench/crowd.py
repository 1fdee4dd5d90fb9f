# SPDX-License-Identifier: MIT
"""Very many commands at once, on one device: how many of them do not end well."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import build_zipapp
from bench.row import Row

COMMANDS = 1000
_SCRIPT = """
for i in $(seq {count}); do (lava-self >/dev/null 2>&1 || echo "failed $?") & done
wait
"""


def rows() -> Iterator[Row]:
    """How many fail."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        box = build_zipapp.build(folder / "lavabox")
        run = [
            sys.executable,
            "-m",
            "dispatcher",
            "sim",
            "--box",
            str(box),
            "--log-dir",
            str(folder / "logs"),
        ]
        run += ["--device", f"d:t={_SCRIPT.format(count=COMMANDS)}"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
        failed = (folder / "logs" / "d.log").read_bytes().count(b"failed ")
    yield Row(f"{COMMANDS} commands at once on one device, that fail", failed, "")
