#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds the box: one executable file with all lava-* commands, for devices.

    python3 build_zipapp.py [-o FILE] [--python PROGRAM]
    python3 build_zipapp.py --host [-o FILE]

The file is a few lines of /bin/sh, which start Python on the file itself, and a
zip archive behind them, in this order:

    __main__.py       where each command begins
    __main__.bytecode the same, compiled
    long.py           where those go on that find no agent
    inflate.py        for Pythons without zlib
    version           magic number and name of the Python that the bytecode is for, and a hash of the source
    importer.bytecode what imports the modules, compiled
    usages            the help texts of all commands, and of the box
    bytecode/front    modules, compiled: those that most commands need
    bytecode/rest     ... and all others
    source.py         looks for what an agent has compiled, for every other Python from 3.6 on
    importer.py       these three as source
    source/front
    source/rest
    LICENSE

The first five are not compressed. Modules are a dict {path: source or code}, in the form
of `marshal`, and help texts a dict {command: text}. `python3 FILE` works too, but starts
more slowly.

With --python the bytecode is for that Python, there is no source, and the box runs
on no other version of Python: it says so.

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
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TOOLKIT = ROOT / "toolkit"
DEFAULT_OUTPUT = Path("build", "lavabox")
HOST_OUTPUT = Path("build", "lavabox-host")

# What zip files know of dates begins here.
EPOCH = (1980, 1, 1, 0, 0, 0)

# What has to be read before anything can be inflated.
NOT_COMPRESSED = ("__main__.py", "__main__.bytecode", "long.py", "inflate.py", "version")

# Where the modules are that a command needs which starts an agent, or finds its arguments wrong: all others have to be
# inflated, and made code of, for the few commands that need them.
FRONT = (
    *("toolkit/__init__", "toolkit/cli", "toolkit/context", "toolkit/arguments", "toolkit/reports"),
    *(
        "toolkit/call",
        "toolkit/thin",
        "toolkit/errand",
        "toolkit/client",
        "toolkit/cache",
        "toolkit/console",
        "toolkit/meeting",
    ),
    *("toolkit/agent", "toolkit/entropy", "toolkit/foreground", "toolkit/wire/", "msgpack"),
    *("toolkit/commands/__init__", "toolkit/commands/lava_self", "toolkit/commands/lava_role"),
    *("toolkit/commands/lava_group", "toolkit/commands/lava_send", "toolkit/commands/lava_sync"),
    *("toolkit/commands/lava_wait.", "toolkit/commands/lava_wait_all", "toolkit/commands/lava_test_case."),
    *("toolkit/commands/lava_test_set", "toolkit/commands/lava_test_reference"),
)

# What marshal has written in this version, every Python 3 reads.
MARSHAL_VERSION = 2

# PATH first, then where python3 mostly is: PATH may be empty. Python must not look at the
# environment (-E -s; -I, which is short for it, Python 2 does not know) nor for installed packages
# (-S) nor in the current directory. A CR at the end of the variable is dropped, as of all words. `exec` is the last that the shell reads: the archive follows.
HEADER = """\
#!/bin/sh
# lavabox: the lava-* commands of a test device, and a zip archive that holds them.
for python in "${LAVABOX_PYTHON%%\r}" python3 /usr/bin/python3 /usr/local/bin/python3 /bin/python3; do
    command -v "$python" >/dev/null 2>&1 && exec "$python" -E -s -S -c '%s' "$0" "$@"
    [ -z "$LAVABOX_PYTHON" ] || break
done
echo "${0##*/}: needs Python 3.6 or later, and there is no" \\
    "${LAVABOX_PYTHON:-python3 in PATH, /usr/bin, /usr/local/bin or /bin}: LAVABOX_PYTHON=PROGRAM names another" >&2
exit 127
"""

# Run by the Python that the bytecode is for, and in a process of its own: marshal writes what is
# shared with the rest of a process in another way, so that the bytes would depend on what else the
# builder has imported. Columns (3.11 and later) take a fifth of the room, and serve nobody; line
# numbers (3.10 and later) another seventh, with the first one of each function: whoever has to know them
# runs the source. Modules of a group are written as one, so that what they have in common stands there once.
# A method has its own name alone, without that of its class (3.11 and later): it is found by the file, and
# another hundredth. What a function calls its variables, but for its arguments, nobody reads: two hundredths.
COMPILE = """
import marshal, sys
from importlib.util import MAGIC_NUMBER
if sys.version_info < (3, 6) or sys.implementation.name != "cpython":
    sys.exit("this is no CPython, 3.6 or later: " + sys.version)
def lean(code):
    if sys.version_info < (3, 10):
        return code
    inner = [lean(item) if hasattr(item, "co_code") else item for item in code.co_consts]
    arguments = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    names = code.co_varnames[:arguments] + ("_",) * (code.co_nlocals - arguments)
    less = {"co_linetable": b"", "co_firstlineno": 1, "co_consts": tuple(inner), "co_varnames": names}
    if sys.version_info >= (3, 11):
        less["co_qualname"] = code.co_name
    return code.replace(**less)
def compiled(group):
    return {path: lean(compile(group[path], path, "exec", 0, True, 2)) for path in sorted(group)}
alone, groups = marshal.loads(sys.stdin.buffer.read())
found = {name: marshal.dumps(code) for name, code in compiled(alone).items()}
found.update([(name, marshal.dumps(compiled(groups[name]))) for name in sorted(groups)])
sys.stdout.buffer.write(marshal.dumps((MAGIC_NUMBER, sys.implementation.cache_tag, found), %d))
"""

# Prints the help texts of all commands, and of the box itself.
USAGES = """
import marshal, sys
sys.path.insert(0, sys.argv[1])
found = {}
for name in sys.argv[2:]:
    module = __import__("toolkit." + name, fromlist=["USAGE"])
    found["lavabox" if name == "box" else name[len("commands."):].replace("_", "-")] = module.USAGE
sys.stdout.buffer.write(marshal.dumps(found, %d))
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


# What stands in the place of __main__.py in a box for one Python.
ALONE = r"""
import marshal, sys
from _frozen_importlib_external import MAGIC_NUMBER
with open(sys.argv[0], "rb") as file:
    data = file.read(16384)
at = data.find(MAGIC_NUMBER + b"__main__") + 12
if at > 12:
    exec(marshal.loads(data[at:]))
sys.stderr.write("lavabox: this one is for %s alone, and python3 is %%s: take one that is built for it, or for all\n"
    %% sys.implementation.cache_tag)
sys.exit(127)
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
    begin, groups = _sources()
    build = _build(begin, groups)
    begin["__main__.py"] = re.sub(rb"(?m)^BUILD = .*", f'BUILD = b"{build}"'.encode(), begin["__main__.py"])
    if python is not None:
        del groups["rest"]["toolkit/bytecode.py"]  # for what runs from source
    magic, tag, codes = _bytecode(begin, groups, python or sys.executable)
    entries = [
        ("__main__.py", begin["__main__.py"] if python is None else (ALONE % tag).encode()),
        ("__main__.bytecode", magic + b"__main__" + codes["__main__.py"]),
        ("long.py", _stripped(_read("zipapp/long.py"))),
        ("inflate.py", _stripped(_read("zipapp/inflate.py"))),
        ("version", f"{magic.hex()} {tag} {build}".encode()),
        ("importer.bytecode", codes["importer.py"]),
        ("usages", _usages()),
        *[(f"bytecode/{name}", codes[name]) for name in groups],
    ]
    if python is None:
        entries += [(name, begin[name]) for name in ("source.py", "importer.py")]
        entries += [
            (f"source/{name}", marshal.dumps(group, MARSHAL_VERSION)) for name, group in groups.items()
        ]
    entries.append(("LICENSE", _licence()))
    return _write(output, header(), entries, 9, lambda new: _check(new, python or sys.executable))


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
    return _write(output, "#!/usr/bin/env python3\n", sorted(entries.items()), 6, lambda new: None)


def _write(
    output: Path, head: str, entries: list[tuple[str, bytes]], level: int, check: Callable[[Path], None]
) -> Path:
    """Write an executable archive to `output`, in the place of what is there, once `check` has let it pass."""
    output.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(head.encode())
            with zipfile.ZipFile(file, "w") as archive:
                for path, content in entries:
                    archive.writestr(_entry(path), content, compresslevel=level)
        new.chmod(0o755)
        check(new)
        return new.replace(output)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


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


def _sources() -> tuple[dict[str, bytes], dict[str, dict[str, bytes]]]:
    """What each command begins with, and the groups of modules: path that each is imported by, and content, stripped."""
    begin = {name: _stripped(_read(f"zipapp/{name}")) for name in ("__main__.py", "importer.py", "source.py")}
    groups: dict[str, dict[str, bytes]] = {"front": {}, "rest": {}}
    sources = {"msgpack.py": _read("zipapp/msgpack.py")}
    for path in TOOLKIT.rglob("*.py"):
        inside = path.relative_to(TOOLKIT)
        if inside.parts[0] != "zipapp":
            sources[f"toolkit/{inside.as_posix()}"] = path.read_bytes()
    for name in sorted(sources):
        gone = None if name.startswith("toolkit/wire/") else "USAGE"  # which is an exit status there
        groups["front" if name.startswith(FRONT) else "rest"][name] = _stripped(sources[name], gone)
    return begin, groups


def _usages() -> bytes:
    """The help texts of all commands, which stand in the box once, and not in the modules."""
    paths = [*TOOLKIT.glob("box.py"), *TOOLKIT.glob("commands/lava_*.py")]
    names = sorted(".".join(path.relative_to(TOOLKIT).with_suffix("").parts) for path in paths)
    asked = [*(sys.executable, "-I", "-S", "-B", "-c"), USAGES % MARSHAL_VERSION, str(TOOLKIT.parent), *names]
    said = subprocess.run(asked, capture_output=True, check=False)
    if said.returncode:
        raise BuildError(f"a command has no help text:\n{said.stderr.decode()}")
    return said.stdout


def _build(begin: dict[str, bytes], groups: dict[str, dict[str, bytes]]) -> str:
    """What tells this version of the box from others, whichever Python they are built for."""
    sources = {**begin, **groups["front"], **groups["rest"]}
    return sha256(b"".join([path.encode() + sources[path] for path in sorted(sources)])).hexdigest()[:16]


def _stripped(source: bytes, without: str | None = None) -> bytes:
    """The source without comments, docstrings, annotations, and what is for type checkers; every line keeps its number.

    :param without: a name whose assignment is left out, too.
    """
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
        if _is_named(node, "TYPE_CHECKING") or (without and _is_named(node, without)):
            assert isinstance(node, ast.stmt)
            gone.append(((node.lineno, node.col_offset), _end(node), ""))
        if isinstance(node, ast.FunctionDef) and node.returns:
            number = node.returns.lineno
            start = lines[number - 1].rindex("->", 0, node.returns.col_offset)
            gone.append(((number, start), _end(node.returns), ""))
    # From the last one to the first, as each moves what follows it in its line.
    for (first, start), (last, stop), instead in sorted(gone, reverse=True):
        lines[first - 1] = lines[first - 1][:start] + instead + lines[last - 1][stop:]
        lines[first:last] = [""] * (last - first)
    return _indented("\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n").encode()


def _is_named(node: ast.AST, name: str) -> bool:
    """Whether this gives that variable its value, or is an `if` that asks for it."""
    if isinstance(node, ast.Assign):
        return [name] == [target.id for target in node.targets if isinstance(target, ast.Name)]
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == name


def _indented(source: str) -> str:
    """With one space for each step."""
    depth = 0
    depths: dict[int, int] = {}  # of each line
    kept: set[int] = set()  # lines that begin in the middle of a text
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        depth += (token.type == tokenize.INDENT) - (token.type == tokenize.DEDENT)
        if token.type not in (tokenize.INDENT, tokenize.DEDENT):
            depths.setdefault(token.start[0], depth)
        if token.type == tokenize.STRING:
            kept.update(range(token.start[0] + 1, token.end[0] + 1))
    lines = source.split("\n")
    for number, line in enumerate(lines, 1):
        if number not in kept and line:
            lines[number - 1] = " " * depths.get(number, 0) + line.lstrip()
    return "\n".join(lines)


def _end(node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _bytecode(
    begin: dict[str, bytes], groups: dict[str, dict[str, bytes]], python: str
) -> tuple[bytes, str, dict[str, bytes]]:
    """Magic number and name of a Python, and what it makes of the sources, by path and by name of the group."""
    try:
        compiler = subprocess.run(
            [*(python, "-I", "-S", "-X", "no_debug_ranges", "-c"), COMPILE % MARSHAL_VERSION],
            input=marshal.dumps((begin, groups), MARSHAL_VERSION),
            capture_output=True,
            check=True,
        )
    except OSError as error:
        raise BuildError(f"cannot run {python}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{python} compiles nothing: {error.stderr.decode().strip()}") from error
    magic, tag, codes = marshal.loads(compiler.stdout)
    return magic, tag, codes


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
