# SPDX-License-Identifier: MIT
"""The box from outside: built the same each time, and started in every way, by every Python there is."""

import ast
import marshal
import os
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from importlib import import_module
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

import pytest

import build_zipapp
from build_zipapp import BuildError
from tests.frombox import IMPORTER
from toolkit import VERSION
from toolkit.commands import COMMANDS, module_name

ROOT = Path(build_zipapp.__file__).parent
NAMES = sorted(COMMANDS)
LIST = "".join(name + "\n" for name in NAMES)

IMPORT_ALL = (
    IMPORTER
    + """
if sys.argv[2] == "without zlib":
    sys.modules["zlib"] = None
for name in sys.argv[3:]:
    module = __import__(name, fromlist=["x"])
    assert module.__spec__.origin.startswith(sys.argv[1] + "/"), module.__spec__
"""
)

ODD = """
import os, sys
if sys.argv[1:] == ["interrupted"]:
    raise KeyboardInterrupt
def main(argv, box, identity):
    os.chdir("/")
    import toolkit.late
    print(box.path, argv, file=sys.stderr)
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
    for name in ("build_zipapp.py", "LICENSE"):
        shutil.copy(ROOT / name, copy)
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


def modules(box: Path, kind: str) -> dict[str, Any]:
    """Path and content of the modules that are there in one of the forms, "source" or "bytecode"."""
    contents = archive(box)
    groups = [marshal.loads(contents[f"{kind}/{name}"]) for name in ("front", "rest")]
    assert not groups[0].keys() & groups[1].keys()
    return {**groups[0], **groups[1]}


def test_contents(box: Path) -> None:
    own = {
        f"toolkit/{path.relative_to(ROOT / 'toolkit').as_posix()}"
        for path in (ROOT / "toolkit").rglob("*.py")
        if path.parent.name != "zipapp"
    }
    assert modules(box, "source").keys() == modules(box, "bytecode").keys() == own | {"msgpack.py"}
    assert archive(box)["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    magic, tag, _ = archive(box)["version"].decode().split()
    assert (magic, tag) == (MAGIC_NUMBER.hex(), sys.implementation.cache_tag)


def test_size(box: Path) -> None:
    assert box.stat().st_size <= 160 * 1024


def test_every_line_keeps_its_number_and_means_the_same(box: Path) -> None:
    """Left out is what only type checkers read, and the help texts."""
    for name, source in modules(box, "source").items():
        path = ROOT / "toolkit/zipapp" / name
        original = ast.parse((path if path.exists() else ROOT / name).read_text())
        gone = ["TYPE_CHECKING"] + ["USAGE"] * (not name.startswith("toolkit/wire/"))
        original.body = [node for node in original.body if not is_named(node, gone)]
        left, right = (
            [
                (node.lineno, ast.dump(node))
                for node in ast.walk(tree)
                if isinstance(node, ast.Call | ast.Assign | ast.Return)
            ]
            for tree in (original, ast.parse(source))
        )
        assert left == right, name


def is_named(node: ast.stmt, names: list[str]) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id in names
    return (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in names
    )


def test_help_texts_are_those_of_the_commands(box: Path) -> None:
    texts = marshal.loads(archive(box)["usages"])
    of_commands = {name: import_module(f"toolkit.commands.{module_name(name)}").USAGE for name in COMMANDS}
    assert texts == {"lavabox": import_module("toolkit.box").USAGE, **of_commands}


def test_bytecode_says_only_where_in_the_box_it_is_from(box: Path) -> None:
    for name, code in modules(box, "bytecode").items():
        assert code.co_filename == name


def test_bytecode_for_another_python(box: Path, interpreter: Path, tmp_path: Path) -> None:
    """It is small, and starts there; with any other one it says what is wrong."""
    single = build_zipapp.build(tmp_path / "single", str(interpreter))
    assert single.stat().st_size <= 100 * 1024
    said = run(interpreter, "-I", "-S", single, "--version")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.endswith("; this is one\n")
    other = run(sys.executable, "-I", "-S", single, "lava-self", "--help")
    same = run(interpreter, "-I", "-S", single, "lava-self", "--help")
    assert same.stdout.startswith("usage: lava-self")
    magic, _, build = archive(single)["version"].decode().split()
    # What tells versions of the box apart is not for which Python they are.
    assert build == archive(box)["version"].decode().split()[2]
    if magic != MAGIC_NUMBER.hex():
        assert (other.returncode, other.stdout) == (127, "")
        assert other.stderr.startswith("lavabox: this one is for ")


def test_a_python_to_build_for_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot run /nowhere/python3"):
        build_zipapp.build(tmp_path / "box", "/nowhere/python3")
    with pytest.raises(BuildError, match="compiles nothing"):
        build_zipapp.build(tmp_path / "box", "/bin/false")
    assert list(tmp_path.iterdir()) == []


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
    monkeypatch.setattr(build_zipapp, "TOOLKIT", tmp_path / "toolkit")
    shutil.copytree(ROOT / "toolkit" / "zipapp", tmp_path / "toolkit" / "zipapp")
    with pytest.raises(BuildError, match="does not start"):
        build_zipapp.build(path)
    assert path.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "toolkit"]


def test_a_name_that_begins_like_a_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="lava-box"):
        build_zipapp.build(tmp_path / "lava-box")


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


@pytest.mark.parametrize("zlib", ["with zlib", "without zlib"])
def test_every_module_is_imported_from_the_box(zlib: str, box: Path, interpreter: Path) -> None:
    names = [
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in modules(box, "source")
    ]
    imported = run(interpreter, "-I", "-S", "-c", IMPORT_ALL, box, zlib, *names)
    assert (imported.returncode, imported.stderr) == (0, "")


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
    script.write_text(
        build_zipapp.header().replace(
            "/usr/bin/python3 /usr/local/bin/python3 /bin/python3", "/nowhere/python3"
        )
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
    for value in ("python3.x", "python3.x\r"):
        listed = run("/bin/sh", box, "--list", env={"PATH": str(tmp_path), "LAVABOX_PYTHON": value})
        assert listed.stdout == LIST
    # One that is not there is not replaced by another.
    started = run(box, "--list", env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LAVABOX_PYTHON": "python3.y"})
    assert (started.returncode, started.stdout) == (127, "")
    assert "and there is no python3.y: LAVABOX_PYTHON=PROGRAM names another" in started.stderr


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


@pytest.fixture
def other_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box whose only command does odd things."""
    toolkit = tmp_path / "source" / "toolkit"
    shutil.copytree(ROOT / "toolkit" / "zipapp", toolkit / "zipapp")
    for name, text in (("__init__", ""), ("late", ""), ("cli", ODD), ("thin", "")):
        (toolkit / f"{name}.py").write_text(text)
    monkeypatch.setattr(build_zipapp, "TOOLKIT", toolkit)
    return build_zipapp.build(tmp_path / "box")


def test_interrupted_while_it_starts(other_box: Path) -> None:
    started = run(other_box, "interrupted")
    assert (started.returncode, started.stderr) == (-signal.SIGINT, "")


def test_modules_are_found_after_the_directory_has_changed(other_box: Path) -> None:
    expected = (0, f"{other_box.parent}/./box ['./box', 'changes']\n")
    for way in ([], [sys.executable]):
        started = run(*way, "./box", "changes", cwd=other_box.parent)
        assert (started.returncode, started.stderr) == expected
