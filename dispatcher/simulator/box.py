# SPDX-License-Identifier: MIT
"""The box on the simulated devices: the zipapp, and a folder with a link for each of its commands."""

import os
import subprocess
import sys
from pathlib import Path

from dispatcher.errors import SetupError
from dispatcher.simulator.isolation import POWER

# What a simulated device has in place of the programs that would reboot this machine.
REBOOT = """\
#!/bin/sh
# Reboots the simulated device that it runs on: lavabox does so when it reads this.
case ${1-} in
    -h | --help)
        echo "usage: ${0##*/}"
        echo
        echo "Reboot this simulated device: its processes are killed, and its command is started again,"
        echo "with the number of the boot in LAVABOX_BOOT."
        exit
        ;;
esac
power=${LAVABOX_POWER:-@POWER@}
if [ ! -p "$power" ]; then
    echo "${0##*/}: this is no simulated device, or LAVABOX_POWER was taken out of the environment" >&2
    exit 69
fi
echo reboot >"$power" || exit 75
# (Not a stand-in of the device.)
while :; do command -p sleep 1000; done
"""
_REBOOTERS = ("lava-reboot", "reboot")


def install_box(box: Path | None, state: Path) -> Path:
    """Make a folder in `state` with links to the box's commands, and `lava-reboot`; return it. Raises SetupError.

    :param box: the zipapp; None: built from this source tree.
    """
    if box is None:
        box = build_box(state / "lavabox")
    elif not box.is_file() or not os.access(box, os.X_OK):
        raise SetupError(f"--box {box}: no such executable file; `make build` makes one, build/lavabox")
    folder = state / "bin"
    folder.mkdir()
    try:
        done = subprocess.run(
            [box.absolute(), "--install", "-s", folder],
            # The devices' own may be one that this machine has not.
            env={**os.environ, "LAVABOX_PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise SetupError(f"{box} can't be run: {error}") from error
    if done.returncode != 0:
        raise SetupError(f"`{box} --install` ended with status {done.returncode}: {done.stderr.strip()}")
    for name in _REBOOTERS:
        program = folder / name
        program.write_text(REBOOT.replace("@POWER@", POWER))
        program.chmod(0o755)
    return folder


def build_box(path: Path) -> Path:
    """Build the box into a file, and return its path. Raises SetupError."""
    from build_zipapp import BuildError, build

    try:
        return build(path)
    except OSError as error:
        raise SetupError(f"the box can't be built as {path}: {error.strerror or error}") from error
    except (BuildError, subprocess.CalledProcessError) as error:
        raise SetupError(f"the box can't be built: {error}") from error
