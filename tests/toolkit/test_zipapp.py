# SPDX-License-Identifier: MIT
"""The box from outside: built the same each time, and started in every way, by every Python there is."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import build_zipapp
from build_zipapp import BuildError
from toolkit import VERSION
from toolkit.commands import COMMANDS

ROOT = Path(build_zipapp.__file__).parent
NAMES = sorted(COMMANDS)
LIST = "".join(name + "\n" for name in NAMES)

# Anything that a packet may hold, and a little that it must not.
PACK = """
import sys
sys.path.insert(0, sys.argv[1])
import msgpack
value = [0, -1, 2**32, 2**63, -2**40, None, True, False, 1.5, [[]], {"k": [1]}]
value += [b"", bytes(range(256)), "", "\\u20ac" * 300, "x" * 70000]
assert msgpack.unpackb(msgpack.packb(value)) == value
for broken in (b"", b"\\xc1", b"\\x92\\x01", b"\\x01\\x01", b"\\xa1\\xff"):
    try:
        msgpack.unpackb(broken)
    except (ValueError, msgpack.UnpackException):
        pass
    else:
        raise AssertionError(broken)
extension = msgpack.unpackb(b"\\x92\\xd4\\x05A\\xd6\\xff\\x00\\x00\\x00\\x01")
assert [type(item).__name__ for item in extension] == ["ExtType", "Timestamp"]
assert sys.modules.get("msgpack.fallback") and "datetime" not in sys.modules
print("packed")
"""

IMPORT_ALL = """
import sys, zipimport
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    module = __import__(name, fromlist=["x"])
    assert module.__file__.startswith(sys.argv[1]), module.__file__
print(sys.modules["toolkit.cli"].__file__)
"""

CHANGES_DIRECTORY = """
import os, sys
def main(argv, box):
    os.chdir("/")
    import toolkit.late
    print(box, argv, file=sys.stderr)
    return 0
"""


def archive(box: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(box) as file:
        assert file.testzip() is None
        return {entry.filename: file.read(entry) for entry in file.infolist()}


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        **options,
    )


# The file


def test_building_twice_gives_the_same_bytes(box: Path, tmp_path: Path) -> None:
    """In this process and in one of its own, here and from a copy of the tree, in another locale."""
    expected = box.read_bytes()
    assert build_zipapp.build(tmp_path / "again").read_bytes() == expected
    copy = tmp_path / "deep" / "copy"
    copy.mkdir(parents=True)
    shutil.copy(ROOT / "build_zipapp.py", copy)
    shutil.copytree(ROOT / "toolkit", copy / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    environ = {**os.environ, "PYTHONHASHSEED": "1", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}
    built = run(sys.executable, "build_zipapp.py", cwd=copy, env=environ)
    assert built.returncode == 0, built.stderr
    assert (copy / "build" / "lavabox").read_bytes() == expected


def test_nothing_in_it_says_where_it_was_built(box: Path) -> None:
    for name, content in archive(box).items():
        for folder in (ROOT, box.parent, Path.home(), Path(sys.prefix)):
            assert len(folder.parts) < 2 or os.fsencode(folder) not in content, name


def test_contents(box: Path) -> None:
    contents = archive(box)
    modules = {
        "toolkit/" + path.relative_to(ROOT / "toolkit").as_posix()
        for path in (ROOT / "toolkit").rglob("*.py")
    }
    own = {name for name in modules if not name.startswith("toolkit/zipapp/")}
    sources = (
        own
        | {"__main__.py"}
        | {f"msgpack/{name}.py" for name in ("__init__", "exceptions", "ext", "fallback")}
    )
    assert sources <= contents.keys()
    licences = {name for name in contents if name.startswith("msgpack/") and ".py" not in name}
    assert b"INADA Naoki" in b"".join(contents[name] for name in licences)
    assert contents.keys() == sources | {name + "c" for name in sources} | licences
    assert list(contents) == sorted(contents)


def test_msgpacks_packing_is_its_own(box: Path) -> None:
    spec = importlib.util.find_spec("msgpack")
    assert spec is not None and spec.origin is not None
    contents = archive(box)
    for name in ("fallback.py", "exceptions.py"):
        assert contents[f"msgpack/{name}"] == Path(spec.origin).with_name(name).read_bytes()


def test_bytecode_is_taken_unchecked(box: Path) -> None:
    contents = archive(box)
    for name, content in contents.items():
        if name.endswith(".pyc"):
            assert content[:4] == importlib.util.MAGIC_NUMBER
            assert content[4:8] == b"\x01\0\0\0"
            assert content[8:16] == importlib.util.source_hash(contents[name[:-1]])


def test_the_file_is_replaced_whole_and_executable(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "box"
    path.parent.mkdir()
    path.write_text("old")
    with path.open() as reader:
        build_zipapp.build(path)
        assert reader.read() == "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert list(path.parent.iterdir()) == [path]


def test_a_build_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "box"
    path.write_text("old")
    monkeypatch.setattr(build_zipapp, "TOOLKIT", tmp_path / "nothing")
    with pytest.raises(BuildError, match="does not start"):
        build_zipapp.build(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_begins_like_a_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="lava-box"):
        build_zipapp.build(tmp_path / "lava-box")


def test_without_msgpack_it_says_what_to_do(tmp_path: Path) -> None:
    result = run(sys.executable, "-I", "-S", ROOT / "build_zipapp.py", "-o", tmp_path / "box")
    assert result.returncode == 1
    assert result.stderr.startswith("build_zipapp: ")
    assert "pip install msgpack" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(sys.executable, ROOT / "build_zipapp.py", "-o", tmp_path / "file" / "box")
    assert result.returncode == 1
    assert result.stderr.startswith("build_zipapp: ")
    assert "Traceback" not in result.stderr


# Every Python there is


@pytest.fixture
def path_of(interpreter: Path, tmp_path: Path) -> Path:
    """A folder for PATH whose python3 is the interpreter, and writes down that it was used."""
    folder = tmp_path / "path"
    folder.mkdir()
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\necho used >>"{tmp_path}/used"\nexec "{interpreter}" "$@"\n')
    python.chmod(0o755)
    return folder


def times_used(folder: Path) -> int:
    used = folder.parent / "used"
    return len(used.read_text().splitlines()) if used.exists() else 0


def test_lists_helps_and_refuses(box: Path, path_of: Path) -> None:
    environ = {"PATH": str(path_of)}
    assert run(box, "--list", env=environ).stdout == LIST
    for name in NAMES:
        helped = run(box, name, "--help", env=environ)
        assert (helped.returncode, helped.stderr) == (0, "")
        assert helped.stdout.startswith("usage: ") and name in helped.stdout.partition("\n")[0]
    unknown = run(box, "lava-nope", env=environ)
    assert unknown.returncode == 127
    assert "lava-nope" in unknown.stderr and "lavabox --list" in unknown.stderr
    assert times_used(path_of) == len(NAMES) + 2


def test_starts_in_every_way(box: Path, path_of: Path, interpreter: Path, tmp_path: Path) -> None:
    environ = {"PATH": f"{path_of}:{tmp_path}"}
    (tmp_path / "lava-send").symlink_to(box)
    expected = (0, f"lava-send (lavabox) {VERSION}\n", "")
    ways = [
        [box, "lava-send"],
        [tmp_path / "lava-send"],
        ["./lava-send"],
        ["/usr/bin/env", "lava-send"],
        ["/bin/sh", "lava-send"],
        [interpreter, box, "lava-send"],
        [interpreter, "lava-send"],
        [interpreter, "-I", "-S", "-OO", "./lava-send"],
    ]
    for way in ways:
        started = run(*way, "--version", env=environ, cwd=tmp_path)
        assert (started.returncode, started.stdout, started.stderr) == expected, way
    assert times_used(path_of) == 5


def test_refuses_wrong_use_without_a_traceback(box: Path, path_of: Path) -> None:
    refused = run(box, "lava-send", os.fsdecode(b"caf\xe9 \xff"), env={"PATH": str(path_of), "LC_ALL": "C"})
    assert refused.returncode == 2
    assert refused.stderr.startswith("lava-send: ")
    assert "usage: lava-send" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_msgpack_in_the_box_packs_and_unpacks(box: Path, interpreter: Path) -> None:
    packed = run(interpreter, "-I", "-S", "-c", PACK, box)
    assert (packed.returncode, packed.stdout, packed.stderr) == (0, "packed\n", "")


def test_every_module_is_imported_from_the_box(box: Path, interpreter: Path) -> None:
    paths = [
        name for name in archive(box) if name.startswith(("toolkit/", "msgpack/")) and name.endswith(".py")
    ]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in paths]
    imported = run(interpreter, "-I", "-S", "-c", IMPORT_ALL, box, *modules)
    assert imported.returncode == 0, imported.stderr
    magic = run(interpreter, "-c", "import importlib.util as u; print(u.MAGIC_NUMBER)").stdout
    suffix = ".pyc" if magic == f"{importlib.util.MAGIC_NUMBER!r}\n" else ".py"
    assert imported.stdout == f"{box}/toolkit/cli{suffix}\n"


# Other surroundings


def has_fixed_python() -> bool:
    return any(os.access(f"{folder}/python3", os.X_OK) for folder in ("/usr/bin", "/usr/local/bin", "/bin"))


@pytest.mark.skipif(not has_fixed_python(), reason="python3 is in none of the places that are looked at")
@pytest.mark.parametrize("environ", [{}, {"PATH": ""}, {"PATH": "/nowhere"}], ids=["none", "empty", "wrong"])
def test_needs_no_path(environ: dict[str, str], box: Path) -> None:
    listed = run(box, "--list", env=environ)
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, LIST, "")


@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox", "mksh", "zsh"])
def test_any_shell_reads_the_header(shell: str, box: Path) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    listed = run(*([path, "sh"] if shell == "busybox" else [path]), box, "--list")
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, LIST, "")


def test_a_folder_that_nobody_may_write(box: Path, tmp_path: Path) -> None:
    copy = tmp_path / "read-only" / "lavabox"
    copy.parent.mkdir()
    shutil.copy(box, copy)
    copy.chmod(0o555)
    copy.parent.chmod(0o555)
    try:
        listed = run(copy, "--list", cwd=copy.parent)
        assert (listed.returncode, listed.stdout, listed.stderr) == (0, LIST, "")
        assert list(copy.parent.iterdir()) == [copy]
    finally:
        copy.parent.chmod(0o755)


def test_foreign_modules_and_settings_are_not_looked_at(box: Path, tmp_path: Path) -> None:
    for name in ("os.py", "toolkit.py", "msgpack.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('foreign')\n")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "x", "PYTHONHOME": "/nowhere"}
    listed = run(box, "--list", env=environ, cwd=tmp_path)
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, LIST, "")


def test_without_python_it_says_so(tmp_path: Path) -> None:
    script = tmp_path / "lava-send"
    header = build_zipapp.HEADER % build_zipapp.START
    script.write_text(
        header.replace("/usr/bin/python3 /usr/local/bin/python3 /bin/python3", "/nowhere/python3")
    )
    script.chmod(0o755)
    started = run(script, "ready", env={"PATH": "/nowhere"})
    assert started.returncode == 127
    assert started.stderr.startswith("lava-send: needs Python 3.6 or later, and there is no python3 in PATH")
    assert started.stderr.count("\n") == 1 and "LAVABOX_PYTHON=PROGRAM" in started.stderr


@pytest.mark.parametrize("version", ["3.5.9", "2.7.18"])
def test_a_python_that_is_too_old_is_named(version: str, box: Path, tmp_path: Path) -> None:
    """A real one, where this machine has it, else one that only says so."""
    real = Path.home() / ".pyenv" / "versions" / version / "bin" / "python"
    if real.exists():
        (tmp_path / "python3").symlink_to(real)
    else:
        pretend = tmp_path / "python3"
        said = ", ".join(version.split("."))
        code = f"import sys; sys.version_info = ({said}); sys.version = '{version}'; exec(sys.argv.pop(1))"
        pretend.write_text(f'#!/bin/sh\nshift 4\nexec "{sys.executable}" -E -s -S -c "{code}" "$@"\n')
        pretend.chmod(0o755)
    (tmp_path / "lava-send").symlink_to(box)
    started = run(tmp_path / "lava-send", "ready", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert started.returncode == 127
    assert started.stderr.startswith("lava-send: needs Python 3.6 or later, and ")
    assert version in started.stderr and started.stderr.count("\n") == 1


def test_a_variable_names_the_interpreter(box: Path, interpreter: Path, tmp_path: Path) -> None:
    environ = {"PATH": "/nowhere", "LAVABOX_PYTHON": str(interpreter)}
    listed = run("/bin/sh", box, "--list", env=environ)
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, LIST, "")
    (tmp_path / "python3.x").symlink_to(interpreter)
    listed = run("/bin/sh", box, "--list", env={"PATH": str(tmp_path), "LAVABOX_PYTHON": "python3.x"})
    assert listed.stdout == LIST


@pytest.mark.parametrize(
    ("module", "package"), [("termios", "python3-io"), ("_socket", "python3-io"), ("fcntl", "python3-fcntl")]
)
def test_a_module_that_is_missing_is_named(module: str, package: str, box: Path, interpreter: Path) -> None:
    """As in Debian's python3-minimal and Yocto's python3-core."""
    without = f"import sys; sys.modules[{module!r}] = None; sys.argv[:1] = []; exec(sys.argv.pop(0))"
    text = build_zipapp.START
    started = run(interpreter, "-I", "-S", "-c", without, text, "-c", box, "lava-group", env={"PATH": "/bin"})
    assert started.returncode == 127, started.stderr
    assert f"lacks the module {module}: " in started.stderr and package in started.stderr
    assert started.stderr.count("\n") == 1


def start_with(before: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the header starts, with something done before it."""
    return run(sys.executable, "-I", "-S", "-c", before + build_zipapp.START, *arguments, cwd=cwd)


def test_interrupted_while_it_starts(tmp_path: Path) -> None:
    (tmp_path / "toolkit").mkdir()
    (tmp_path / "toolkit" / "__init__.py").touch()
    (tmp_path / "toolkit" / "cli.py").write_text("raise KeyboardInterrupt\n")
    started = start_with("", tmp_path, "lava-send")
    assert (started.returncode, started.stderr) == (130, "")


def test_modules_are_found_after_the_directory_has_changed(tmp_path: Path) -> None:
    (tmp_path / "toolkit").mkdir()
    for name in ("__init__.py", "late.py"):
        (tmp_path / "toolkit" / name).touch()
    (tmp_path / "toolkit" / "cli.py").write_text(CHANGES_DIRECTORY)
    started = start_with("", ".", "lava-send", cwd=tmp_path)
    assert (started.returncode, started.stderr) == (0, f"{tmp_path}/. ['.', 'lava-send']\n")
