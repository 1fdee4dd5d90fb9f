#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds the box: one executable file with all lava-* commands, for devices.

    python3 build_zipapp.py [-o FILE]

The file is a few lines of /bin/sh, which start Python on the file itself, and a
zip archive behind them: `toolkit`, and the part of msgpack that is pure Python.
`python3 FILE` works too, but starts more slowly.

Each module is there as source and, beside it, as bytecode of the Python that
builds: the same Python on a device starts the sooner for it, any other takes
the source. The same tree, Python and msgpack make the same bytes: names are
sorted, dates and modes fixed, and nothing says where the tree lay.
"""

import argparse
import importlib.metadata
import importlib.util
import marshal
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TOOLKIT = Path(__file__).resolve().parent / "toolkit"
DEFAULT_OUTPUT = Path("build", "lavabox")

# What zip files know of dates begins here.
EPOCH = (1980, 1, 1, 0, 0, 0)

# Of bytecode that is told from its source by a hash, which nobody need compare (PEP 552).
UNCHECKED_HASH = 1

# PATH first, then where python3 mostly is: PATH may be empty. Python must not look at the
# environment (-E -s; -I, which is short for it, Python 2 does not know) nor for installed packages
# (-S) nor in the current directory. What finds a Python too old to read the rest is read by every
# Python. `exec` is the last that the shell reads: the archive follows.
HEADER = """\
#!/bin/sh
# lavabox: the lava-* commands of a test device, and a zip archive that holds them.
for python in "$LAVABOX_PYTHON" python3 /usr/bin/python3 /usr/local/bin/python3 /bin/python3; do
    command -v "$python" >/dev/null 2>&1 && exec "$python" -E -s -S -c '
import sys
sys.path[:1] = []
if sys.version_info < (3, 6):
    sys.stderr.write("%%s: needs Python 3.6 or later, and %%s is %%s: LAVABOX_PYTHON=PROGRAM names another\\n"
        %% (sys.argv[2].split("/")[-1], sys.executable, sys.version.split()[0]))
    sys.exit(127)
exec(sys.argv.pop(1))
' '%s' "$0" "$@"
done
echo "${0##*/}: needs Python 3.6 or later, and there is no python3 in PATH, /usr/bin, /usr/local/bin or /bin:" \\
    "LAVABOX_PYTHON=PROGRAM names another" >&2
exit 127
"""

# The path is made absolute, since modules are still imported after somebody has changed the
# directory. _exit: to take the interpreter apart costs a tenth of a short command's time. All
# answers are written unbuffered.
START = """
import posix, sys
box = sys.argv[1]
if box[0] != "/":
    box = posix.getcwd() + "/" + box
sys.path.insert(0, box)
try:
    from toolkit.cli import main
    status = main(sys.argv[1:], box)
except KeyboardInterrupt:
    status = 130
try:
    sys.stderr.flush()
except OSError:
    pass
posix._exit(status)
"""

# Run in a process of its own: marshal writes what is shared with the rest of the process in
# another way, so that the bytes would depend on what else the builder has imported.
COMPILE = """
import marshal, sys
sources = marshal.load(sys.stdin.buffer)
codes = [compile(source, name, "exec", dont_inherit=True, optimize=0) for name, source in sources]
marshal.dump([marshal.dumps(code) for code in codes], sys.stdout.buffer)
"""


class BuildError(Exception):
    """The box cannot be built; the text says why, and what to do."""


def build(output: Path) -> Path:
    """Write the box to `output`, in the place of what is there, and return that path.

    Raises BuildError, or OSError where the file cannot be written.
    """
    if output.name.startswith("lava-"):
        raise BuildError(f"{output.name} would pass for a command, whose names begin with lava-")
    sources = _toolkit_sources()
    msgpack_sources, msgpack_licence = _msgpack_files()
    sources = {**msgpack_sources, **sources}
    files = {**sources, **_bytecode(sources), **msgpack_licence}
    output.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write((HEADER % START).encode())
            with zipfile.ZipFile(file, "w") as archive:
                for path in sorted(files):
                    archive.writestr(_entry(path), files[path], compresslevel=9)
        new.chmod(0o755)
        _check(new)
        new.replace(output)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return output


def _toolkit_sources() -> dict[str, bytes]:
    """Path in the archive, and content. What is in toolkit/zipapp/ lies at the archive's root."""
    sources = {}
    for path in TOOLKIT.rglob("*.py"):
        folder, *rest = path.relative_to(TOOLKIT).parts
        name = "/".join(rest) if folder == "zipapp" else "/".join(["toolkit", folder, *rest])
        sources[name] = path.read_bytes()
    return sources


def _msgpack_files() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The pure-Python modules of the msgpack that is installed here, and its licence."""
    spec = importlib.util.find_spec("msgpack")
    if spec is None or spec.origin is None:
        raise BuildError(
            f"{sys.executable} has no msgpack, whose modules go into the box: "
            "`make build` gets it, or `python3 -m pip install msgpack` in a virtual environment"
        )
    sources = {f"msgpack/{path.name}": path.read_bytes() for path in Path(spec.origin).parent.glob("*.py")}
    installed = importlib.metadata.files("msgpack") or []
    licences = [path for path in installed if path.name.startswith(("COPYING", "LICENSE"))]
    if not licences:
        raise BuildError("this msgpack lacks its licence text: install it from the package index")
    return sources, {f"msgpack/{path.name}": path.read_binary() for path in licences}


def _bytecode(sources: dict[str, bytes]) -> dict[str, bytes]:
    """A .pyc for each .py."""
    names = sorted(sources)
    compiler = subprocess.run(
        [sys.executable, "-I", "-S", "-c", COMPILE],
        input=marshal.dumps([(name, sources[name]) for name in names]),
        stdout=subprocess.PIPE,
        check=True,
    )
    head = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH.to_bytes(4, "little")
    return {
        f"{name}c": head + importlib.util.source_hash(sources[name]) + code
        for name, code in zip(names, marshal.loads(compiler.stdout), strict=True)
    }


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix
    entry.external_attr = 0o100644 << 16
    return entry


def _check(box: Path) -> None:
    """Start it: a msgpack whose modules our front does not fit must not get to a device."""
    started = subprocess.run(
        [sys.executable, "-I", "-S", str(box), "--version"], capture_output=True, text=True, check=False
    )
    if started.returncode:
        raise BuildError(f"the box does not start with this msgpack:\n{started.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the box: one file with all lava-* commands.")
    parser.add_argument("-o", type=Path, default=DEFAULT_OUTPUT, metavar="FILE", help="default: %(default)s")
    output = parser.parse_args().o
    try:
        build(output)
    except (BuildError, OSError) as error:
        print(f"build_zipapp: {error}", file=sys.stderr)
        return 1
    print(f"{output}: {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
