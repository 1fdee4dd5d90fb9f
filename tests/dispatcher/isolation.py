# SPDX-License-Identifier: MIT
"""Whether devices can be isolated on the machine that runs the tests; and a small root folder for them."""

import functools
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from dispatcher.errors import SetupError
from dispatcher.simulator.isolation import running_lab

BUSYBOX = shutil.which("busybox")


@functools.cache
def why_not() -> str:
    """Why `--isolate` is not to be had here, as lavabox itself says it; "" if it is."""
    with tempfile.TemporaryDirectory() as state:
        try:
            with running_lab(["a"], Path(state).resolve(), None, "/bin/sh", []):
                return ""
        except SetupError as error:
            return str(error)


def make_image(folder: Path, python: Path) -> None:
    """A root folder with BusyBox, this Python, and the libraries that they need."""
    assert BUSYBOX is not None
    (folder / "etc").mkdir(parents=True)
    (folder / "etc" / "issue").write_text("a small image\n")
    tools = folder / "bin"
    tools.mkdir()
    shutil.copy(BUSYBOX, tools / "busybox")
    for name in ("sh", "env", "cat", "echo", "ls", "ps", "hostname", "id"):
        (tools / name).symlink_to("busybox")
    # Where it looks for its library, beside the program.
    prefix = folder / "usr"
    (prefix / "bin").mkdir(parents=True)
    shutil.copy(python.resolve(), prefix / "bin" / "python3")
    library = Path(sysconfig.get_path("stdlib"))
    leave_out = shutil.ignore_patterns(
        "__pycache__",
        "test",
        "tests",
        "site-packages",
        "dist-packages",
        "config-*",
        "idlelib",
        "ensurepip",
        "tkinter",
    )
    shutil.copytree(library, prefix / "lib" / library.name, ignore=leave_out)
    programs = [BUSYBOX, str(python), *map(str, (prefix / "lib" / library.name / "lib-dynload").glob("*.so"))]
    for program in programs:
        listing = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        for found in re.findall(r"(/\S+)", listing):
            if (source := Path(found)).is_file() and not (target := folder / found[1:]).exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
