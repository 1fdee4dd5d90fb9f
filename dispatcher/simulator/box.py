# SPDX-License-Identifier: MIT
"""The box on the simulated devices: the zipapp, and a folder with a link for each of its commands."""

import os
import subprocess
from pathlib import Path

from dispatcher.errors import SetupError


def install_box(box: Path | None, state: Path) -> Path:
    """Make a folder in `state` with links to the box's commands; return it. Raises SetupError.

    :param box: the zipapp; None: built from this source tree.
    """
    if box is None:
        box = _build(state / "lavabox")
    elif not box.is_file() or not os.access(box, os.X_OK):
        raise SetupError(
            f"--box {box}: there is no such executable file; `python3 build_zipapp.py` makes one"
        )
    folder = state / "bin"
    folder.mkdir()
    try:
        done = subprocess.run(
            [box.absolute(), "--install", "-s", folder],
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
    return folder


def _build(path: Path) -> Path:
    try:
        from build_zipapp import BuildError, build
    except ImportError:
        # From an installed package, without its source tree.
        raise SetupError("the box can't be built here; name one with --box FILE") from None
    try:
        return build(path)
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"the box can't be built ({error}); mend that, or name one with --box FILE"
        ) from error
