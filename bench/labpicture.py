# SPDX-License-Identifier: MIT
"""The picture of a lab's page in the README: `python -m bench.labpicture [FILE]`, `make picture`.

A lab of two groups is served, its devices run a test, and Chromium looks at the page while they are at it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import build_zipapp
from bench.flow import CHROMIUM, OPTIONS
from dispatcher.errors import SetupError
from dispatcher.lab.control import call, connect
from toolkit.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "lab.png"
# What is typed to each device, of a role and a group; with pauses, for there is to be something to see.
CLIENT = "sleep {}; lava-sync booted; lava-wait address; sleep 1; lava-test-case ping --result pass; lava-sync done"
SERVER = (
    "echo; sleep 2; lava-sync booted; echo all have booted; sleep 1; lava-send address ip=10.0.0.1; echo address sent; "
    "sleep 2; lava-test-case serve --result pass; echo collecting results; lava-wait-all results client"
)
DEVICES = {
    "panda01": ("client", "network", CLIENT.format(0)),
    "panda02": ("client", "network", CLIENT.format(0.7)),
    "hb01": ("server", "network", SERVER),
    "imx8-1": ("device", "boot", "lava-test-case kernel --result pass; lava-sync ready"),
    "imx8-2": (
        "device",
        "boot",
        "sleep 1; lava-test-case kernel --result fail; lava-sync ready; lava-wait more",
    ),
}
# Seconds from the beginning to the picture.
AFTER = 6.0


def take(chromium: str, picture: Path) -> None:
    """Take it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        box = build_zipapp.build(folder / "box")
        for command in COMMANDS:
            (folder / command).symlink_to(box)
        control = f"{folder}/control"
        text = f'control = "{control}"\nhttp = "127.0.0.1:0"\n[groups.network]\nsize = 3\n[groups.boot]\nsize = 2\n'
        for device, (role, group, _) in DEVICES.items():
            text += f'[devices.{device}]\nconsole = "exec:PS1=\'# \' exec sh -i"\nrole = "{role}"\ngroup = "{group}"\n'
        file = folder / "lab.toml"
        file.write_text(text)
        variables = {
            **os.environ,
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        with subprocess.Popen(
            [sys.executable, "-m", "dispatcher", "serve", str(file)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=variables,
        ) as lab:
            try:
                assert lab.stderr is not None
                address = next(line for line in lab.stderr if "is shown on" in line).split()[-1]
                while any(not device["connected"] for device in _status(control)):
                    time.sleep(0.1)
                for device, (_, _, script) in DEVICES.items():
                    connection, _, _ = connect(control, {"do": "console", "device": device, "write": True})
                    with connection:
                        connection.sendall(f"{script}\n".encode())
                time.sleep(AFTER)
                options = [
                    "--window-size=1200,1060",
                    f"--user-data-dir={folder}/profile",
                    "--hide-scrollbars",
                ]
                subprocess.run(
                    [
                        *(chromium, *OPTIONS, *options, "--virtual-time-budget=3000"),
                        *(f"--screenshot={picture}", f"{address}#device=hb01&group=network"),
                    ],
                    check=True,
                    stderr=subprocess.DEVNULL,
                )
            finally:
                lab.terminate()


def _status(control: str) -> list[dict[str, bool]]:
    try:
        return list(call(control, {"do": "status"})["status"]["devices"])
    except SetupError:
        return [{"connected": False}]


def main() -> None:
    """Take it, where there is a Chromium."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        sys.exit("bench.labpicture: there is no Chromium on this machine")
    take(chromium, Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PICTURE)


if __name__ == "__main__":
    main()
