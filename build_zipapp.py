#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds the box: one executable file with all lava-* commands, for devices.

    python3 build_zipapp.py [-o FILE] [--python PROGRAM]
    python3 build_zipapp.py --host [-o FILE]

The file is a few lines of /bin/sh, which start Python on the file itself, and a
zip archive behind them, in this order:

    __main__.py       where each command begins
    importer.py       what imports the modules
    __main__.bytecode both compiled
    importer.bytecode
    inflate.py        for Pythons without zlib
    version           magic number and name of the Python that the bytecode is for, and a hash of the source
    bytecode/front    modules, compiled: those that any command needs to say what it is
    bytecode/rest     ... and all others
    source/front      the same as source, for every other Python from 3.6 on
    source/rest
    LICENSE

The first six are not compressed. Modules are a dict {path: content}, in the form
of `marshal`. `python3 FILE` works too, but starts more slowly.

With --python the bytecode is for that Python, there is no source, and the box runs
on no other version of Python.

With --host it builds the program of the host instead, `lavabox` in one file, with the packages that it needs as they
are installed here. It runs on this version of Python and this kind of machine: dispatcher/onefile.py.

The same tree and Python make the same bytes: names are sorted, dates and modes
fixed, and nothing says where the tree lay.
"""

import argparse
import ast
import importlib.machinery
import importlib.metadata
import io
import marshal
import os
import re
import subprocess
import sys
import tempfile
import tokenize
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TOOLKIT = ROOT / "toolkit"
DEFAULT_OUTPUT = Path("build", "lavabox")
HOST_OUTPUT = Path("build", "lavabox-host")

# What zip files know of dates begins here.
EPOCH = (1980, 1, 1, 0, 0, 0)

# What has to be read before anything can be inflated.
NOT_COMPRESSED = (
    *("__main__.py", "__main__.bytecode", "importer.py", "importer.bytecode"),
    *("inflate.py", "version"),
)

# Where the modules are that a command needs to say what it is: for the rest, to inflate it takes a tenth
# of the time that the bare interpreter takes to start.
FRONT = (
    *("toolkit/__init__", "toolkit/cli", "toolkit/context", "toolkit/arguments", "toolkit/reports"),
    *("toolkit/thin", "toolkit/commands/", "toolkit/wire/__init__", "toolkit/wire/vocabulary"),
)

# What marshal has written in this version, every Python 3 reads.
MARSHAL_VERSION = 2

# PATH first, then where python3 mostly is: PATH may be empty. Python must not look at the
# environment (-E -s; -I, which is short for it, Python 2 does not know) nor for installed packages
# (-S) nor in the current directory. `exec` is the last that the shell reads: the archive follows.
HEADER = """\
#!/bin/sh
# lavabox: the lava-* commands of a test device, and a zip archive that holds them.
for python in "$LAVABOX_PYTHON" python3 /usr/bin/python3 /usr/local/bin/python3 /bin/python3; do
    command -v "$python" >/dev/null 2>&1 && exec "$python" -E -s -S -c '%s' "$0" "$@"
done
echo "${0##*/}: needs Python 3.6 or later, and there is no python3 in PATH, /usr/bin, /usr/local/bin or /bin:" \\
    "LAVABOX_PYTHON=PROGRAM names another" >&2
exit 127
"""

# Run by the Python that the bytecode is for, and in a process of its own: marshal writes what is
# shared with the rest of a process in another way, so that the bytes would depend on what else the
# builder has imported. Columns (3.11 and later) take a fifth of the room, and serve nobody; line
# numbers (3.10 and later) another seventh: whoever has to know them runs the source.
COMPILE = """
import marshal, sys
from importlib.util import MAGIC_NUMBER
if sys.version_info < (3, 6) or sys.implementation.name != "cpython":
    sys.exit("this is no CPython, 3.6 or later: " + sys.version)
def lean(code):
    inner = [lean(item) if hasattr(item, "co_code") else item for item in code.co_consts]
    return code.replace(co_linetable=b"", co_consts=tuple(inner))
sources = marshal.loads(sys.stdin.buffer.read())
codes = {}
for path in sorted(sources):
    code = compile(sources[path], path, "exec", 0, True, 2)
    if sys.version_info >= (3, 10):
        code = lean(code)
    codes[path] = marshal.dumps(code)
sys.stdout.buffer.write(marshal.dumps((MAGIC_NUMBER, sys.implementation.cache_tag, codes), %d))
"""


# What Python is started with. Any Python reads it, from 2.7 on. The archive's first entry is __main__.py, as it is;
# further on it is compiled, behind a mark, for one version of Python.
START = r"""
import sys
sys.path[:1] = []
del sys.argv[0]
if sys.version_info < (3, 6):
    sys.stderr.write("%s: needs Python 3.6 or later, and %s is %s: LAVABOX_PYTHON=PROGRAM names another\n"
        % (sys.argv[0].split("/")[-1], sys.executable, sys.version.split()[0]))
    sys.exit(127)
import marshal, posix
from _frozen_importlib_external import MAGIC_NUMBER
try:
    file = posix.open(sys.argv[0], posix.O_RDONLY)
    data = posix.read(file, 16384)
    posix.close(file)
    at = data.find(MAGIC_NUMBER + b"__main__") + 12
    if at > 12:
        exec(marshal.loads(data[at:]))
    at = data.index(b"\0\0__main__.py") + 13
    exec(data[at : data.index(b"PK\3\4", at)])
except KeyboardInterrupt:
    posix._exit(130)
"""


class BuildError(Exception):
    """The box cannot be built; the text says why, and what to do."""


def build(output: Path, python: str | None = None) -> Path:
    """Write the box to `output`, in the place of what is there, and return that path.

    :param python: the program that the box is for alone; None: for this Python, and for all others.

    Raises BuildError, or OSError where the file cannot be written.
    """
    if output.name.startswith("lava-"):
        raise BuildError(f"{output.name} would pass for a command, whose names begin with lava-")
    sources = _sources()
    magic, tag, codes = _bytecode(sources, python or sys.executable)
    entries = [
        ("__main__.py", sources["__main__.py"]),
        ("importer.py", sources["importer.py"]),
        ("__main__.bytecode", magic + b"__main__" + codes.pop("__main__.py")),
        ("importer.bytecode", magic + b"importer" + codes.pop("importer.py")),
        ("inflate.py", _stripped(_read("zipapp/inflate.py"))),
        ("version", f"{magic.hex()} {tag} {_build(sources)}".encode()),
        *_streams("bytecode", codes),
    ]
    if python is None:
        entries += _streams("source", sources)
    entries.append(("LICENSE", _licence()))
    output.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(header().encode())
            with zipfile.ZipFile(file, "w") as archive:
                for path, content in entries:
                    archive.writestr(_entry(path), content, compresslevel=9)
        new.chmod(0o755)
        _check(new, python or sys.executable)
        new.replace(output)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return output


def build_host(output: Path) -> Path:
    """Write the program of the host to `output`, in the place of what is there, and return that path.

    Raises BuildError, or OSError where the file cannot be written.
    """
    entries = dict(_installed())
    for top in ("toolkit", "dispatcher"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                entries[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    entries |= {"build_zipapp.py": Path(__file__).read_bytes(), "LICENSE": _licence()}
    digest = sha256(b"".join(name.encode() + entries[name] for name in sorted(entries))).hexdigest()[:16]
    start = entries["dispatcher/onefile.py"]
    for variable, value in (("BUILD", digest), ("TAG", importlib.machinery.EXTENSION_SUFFIXES[0])):
        start = re.sub(rf'(?m)^{variable} = ""'.encode(), f'{variable} = "{value}"'.encode(), start)
    entries["__main__.py"] = start
    output.parent.mkdir(parents=True, exist_ok=True)
    new = output.with_name(f".{output.name}.new")
    with new.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            for name in sorted(entries):
                archive.writestr(_entry(name), entries[name], compresslevel=6)
    new.chmod(0o755)
    return new.replace(output)


def _installed() -> Iterator[tuple[str, bytes]]:
    """The files of the packages that the host's program needs, by their paths. Raises BuildError."""
    locked = (ROOT / "requirements" / "run.txt").read_text()
    for name, marker in re.findall(r"(?m)^([\w.-]+)==\S+( ;)?", locked):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            if marker:
                continue  # for other versions of Python
            raise BuildError(f"{name} is not installed: `make host` builds with all that is needed") from None
        for file in files:
            path = file.as_posix()
            if not path.startswith("..") and file.suffix != ".pyc":
                yield path, file.read_binary()


def _licence() -> bytes:
    """Ours: it stands beside this file in the source tree, and with the package's own data where it is installed."""
    path = ROOT / "LICENSE"
    if not path.exists():
        files = importlib.metadata.files("lavabox") or []
        path = Path(next(file for file in files if file.name == "LICENSE").locate())
    return path.read_bytes()


def header() -> str:
    """The lines of /bin/sh before the archive."""
    return HEADER % START


def _read(path: str) -> bytes:
    return (TOOLKIT / path).read_bytes()


def _sources() -> dict[str, bytes]:
    """Path that a module is imported by, and content, stripped."""
    sources = {name: _read(f"zipapp/{name}") for name in ("importer.py", "msgpack.py")}
    for path in TOOLKIT.rglob("*.py"):
        inside = path.relative_to(TOOLKIT)
        if inside.parts[0] != "zipapp":
            sources[f"toolkit/{inside.as_posix()}"] = path.read_bytes()
    stripped = {path: _stripped(source) for path, source in sources.items()}
    build = f'BUILD = b"{_build(stripped)}"'.encode()
    stripped["__main__.py"] = re.sub(rb"(?m)^BUILD = .*", build, _stripped(_read("zipapp/__main__.py")))
    return stripped


def _build(sources: dict[str, bytes]) -> str:
    """What tells this version of the box from others, whichever Python they are built for."""
    hashed = [path.encode() + sources[path] for path in sorted(sources) if path != "__main__.py"]
    return sha256(b"".join(hashed)).hexdigest()[:16]


def _stripped(source: bytes) -> bytes:
    """The source without comments, docstrings and annotations; every line keeps its number."""
    lines = source.decode().splitlines()
    # From where to where, as (line, column), and what comes there instead.
    gone: list[tuple[tuple[int, int], tuple[int, int], str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source.decode()).readline):
        if token.type == tokenize.COMMENT:
            gone.append((token.start, token.end, ""))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            text = node.body[0]
            alone = len(node.body) == 1 and not isinstance(node, ast.Module)
            gone.append(((text.lineno, text.col_offset), _end(text), "pass" if alone else ""))
        if isinstance(node, ast.arg) and node.annotation:
            gone.append(((node.lineno, node.col_offset + len(node.arg)), _end(node), ""))
        if isinstance(node, ast.FunctionDef) and node.returns:
            number = node.returns.lineno
            start = lines[number - 1].rindex("->", 0, node.returns.col_offset)
            gone.append(((number, start), _end(node.returns), ""))
    # From the last one to the first, as each moves what follows it in its line.
    for (first, start), (last, stop), instead in sorted(gone, reverse=True):
        lines[first - 1] = lines[first - 1][:start] + instead + lines[last - 1][stop:]
        lines[first:last] = [""] * (last - first)
    return ("\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n").encode()


def _end(node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _bytecode(sources: dict[str, bytes], python: str) -> tuple[bytes, str, dict[str, bytes]]:
    """Magic number and name of a Python, and what it makes of the sources."""
    try:
        compiler = subprocess.run(
            [*(python, "-I", "-S", "-X", "no_debug_ranges", "-c"), COMPILE % MARSHAL_VERSION],
            input=marshal.dumps(sources, MARSHAL_VERSION),
            capture_output=True,
            check=True,
        )
    except OSError as error:
        raise BuildError(f"cannot run {python}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{python} compiles nothing: {error.stderr.decode().strip()}") from error
    magic, tag, codes = marshal.loads(compiler.stdout)
    return magic, tag, codes


def _streams(kind: str, modules: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """The two entries for all modules in one of the forms."""
    streams: dict[str, dict[str, bytes]] = {"front": {}, "rest": {}}
    for path in sorted(modules.keys() - {"__main__.py", "importer.py"}):
        streams["front" if path.startswith(FRONT) else "rest"][path] = modules[path]
    return [(f"{kind}/{name}", marshal.dumps(stream, MARSHAL_VERSION)) for name, stream in streams.items()]


def _entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, EPOCH)
    entry.compress_type = zipfile.ZIP_STORED if path in NOT_COMPRESSED else zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix
    entry.external_attr = 0o100644 << 16
    return entry


def _check(box: Path, python: str) -> None:
    """Start it: what does not start must not get to a device."""
    started = subprocess.run(
        [python, "-I", "-S", str(box), "--version"], capture_output=True, text=True, check=False
    )
    if started.returncode:
        raise BuildError(f"the box does not start:\n{started.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the box: one file with all lava-* commands.")
    parser.add_argument(
        "-o", type=Path, metavar="FILE", help=f"default: {DEFAULT_OUTPUT}; with --host {HOST_OUTPUT}"
    )
    parser.add_argument(
        "--host", action="store_true", help="build the program of the host instead, in one file"
    )
    parser.add_argument(
        "--python",
        metavar="PROGRAM",
        help="build a smaller box, for this Python alone, such as python3.9 (default: for this one and all others)",
    )
    options = parser.parse_args()
    if options.host and options.python:
        parser.error("--host builds for the Python that runs this")
    output = options.o or (HOST_OUTPUT if options.host else DEFAULT_OUTPUT)
    try:
        if options.host:
            build_host(output)
        else:
            build(output, options.python)
    except (BuildError, OSError) as error:
        print(f"build_zipapp: {error}", file=sys.stderr)
        return 1
    print(f"{output}: {output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
