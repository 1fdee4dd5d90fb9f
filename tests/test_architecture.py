# SPDX-License-Identifier: MIT
"""Who may import what: read from the sources, and for pure folders from what an interpreter really imports."""

import ast
import graphlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SOURCES = [
    path
    for top in ("toolkit", "dispatcher", "tests", "bench", "build_zipapp.py")
    for path in ([ROOT / top] if top.endswith(".py") else sorted((ROOT / top).rglob("*.py")))
]
TOOLKIT = [path for path in SOURCES if path.is_relative_to(ROOT / "toolkit")]
DISPATCHER = [path for path in SOURCES if path.is_relative_to(ROOT / "dispatcher")]


def _may_import() -> dict[str, set[str]]:
    """What each folder or module of the dispatcher may import of the others: the table of CONTRIBUTING.md."""
    rows = re.findall(
        r"^\| `dispatcher/(\w+)(?:/|\.py)` \|.*\| (.*)\|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M
    )
    found = {name: set(re.findall(r"`(\w+)`", allowed)) for name, allowed in rows}
    everything = {name for name, allowed in rows if allowed.strip() != "all of these"} - {"cli", "onefile"}
    return {
        name: everything if allowed.strip() == "all of these" else found[name] for name, allowed in rows
    } | {"__main__": {"cli"}}


MAY_IMPORT = _may_import()

# Bytes, events and the time come in as arguments; bytes, events and deadlines go out. Of the dispatcher
# they import each other and what stands behind them, which does no I/O when it is imported.
PURE: dict[str, set[str]] = {
    "toolkit.wire": set(),
    "dispatcher.reportable": set(),
    "dispatcher.group": set(),
    "dispatcher.line": set(),
    "dispatcher.engine": {"dispatcher.group"},
    "dispatcher.grouplog.nats.outbox": {"dispatcher.errors", "dispatcher.group", "dispatcher.grouplog"},
    "dispatcher.grouplog.nats.follower": {"dispatcher.errors", "dispatcher.group", "dispatcher.grouplog"},
    "dispatcher.plan": {
        *("dispatcher.group", "dispatcher.jobs.model", "dispatcher.jobs.text"),
        *("dispatcher.report.flow.table", "dispatcher.view.display"),
    },
    "dispatcher.host.arrivals": set(),
    "dispatcher.host.deadwatch": {"dispatcher.engine", "dispatcher.group"},
    "dispatcher.host.hangs": {
        "dispatcher.engine",
        "dispatcher.group",
        "dispatcher.host.deadwatch",
        "dispatcher.view",
    },
    "dispatcher.host.remotewire": set(),
    "dispatcher.host.lavawire": set(),
    "dispatcher.host.lavarelay": {
        "dispatcher.group",
        "dispatcher.line.lavasignals",
        "dispatcher.line.textsignals",
    },
    "dispatcher.host.lavapoll": {"dispatcher.engine", "dispatcher.group", "dispatcher.host.lavawire"},
    "dispatcher.jobs.rules": {"dispatcher.group", "dispatcher.jobs.model"},
    "dispatcher.view.statusview": {"dispatcher.group", "dispatcher.view.display"},
    "dispatcher.report.flow.model": {"dispatcher.group", "dispatcher.view.display"},
    "dispatcher.report.flow.tables": {
        "dispatcher.group",
        "dispatcher.report.flow",
        "dispatcher.view.display",
    },
}
INPUT_OUTPUT_CLOCK_CHANCE = {
    *("asyncio", "fcntl", "io", "multiprocessing", "os", "pathlib", "posix", "pty", "queue", "random"),
    *(
        "sched",
        "secrets",
        "select",
        "selectors",
        "serial",
        "shutil",
        "signal",
        "_signal",
        "socket",
        "_socket",
    ),
    *("ssl", "subprocess", "tempfile", "termios", "threading", "time", "tty", "urllib", "uuid"),
}

# CPython 3.6 lacks them, or they make every command slow: test_imports.py measures nothing that
# is imported late, as the agent is.
NOT_ON_DEVICES = {
    *("__future__", "argparse", "asyncio", "base64", "collections", "contextlib", "dataclasses", "datetime"),
    *("enum", "functools", "getopt", "json", "logging", "pathlib", "random", "re", "shutil", "signal"),
    *("socket", "subprocess", "tempfile", "threading", "traceback", "typing"),
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of what the file imports when it runs: of `from a import b`, `a.b`."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in _running(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is below it, without what only type checkers see."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield from _running(child)


def top(name: str) -> str:
    return name.partition(".")[0]


def test_toolkit_needs_itself_msgpack_and_the_standard_library() -> None:
    allowed = {"toolkit", "msgpack"} | (sys.stdlib_module_names - NOT_ON_DEVICES)
    assert {(path, name) for path in TOOLKIT for name in imports(path) if top(name) not in allowed} == set()


def test_dispatcher_takes_from_toolkit_only_the_wire() -> None:
    taken = {(path, name) for path in DISPATCHER for name in imports(path) if top(name) == "toolkit"}
    assert {name for _, name in taken if not name.startswith("toolkit.wire.")} <= {"toolkit.VERSION"}, taken


def room(path: Path) -> str:
    """The folder or module of the dispatcher that a source belongs to."""
    return path.relative_to(ROOT / "dispatcher").with_suffix("").parts[0]


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_folders_import_just_what_the_table_says(name: str) -> None:
    taken = {
        imported.split(".")[1]: str(path.relative_to(ROOT))
        for path in DISPATCHER
        if room(path) == name
        for imported in imports(path)
        if imported.startswith("dispatcher.")
    }
    taken.pop(name, None)
    assert {other: path for other, path in taken.items() if other not in MAY_IMPORT[name]} == {}
    # Nothing is allowed that nobody needs. `commands` may take what it likes, and `cli` finds it by name.
    assert name in ("commands", "cli") or set(taken) == MAY_IMPORT[name]


def test_there_is_no_circle_between_folders() -> None:
    assert set(MAY_IMPORT) == {room(path) for path in DISPATCHER} - {"__init__"}
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())  # Raises CycleError.


@pytest.mark.parametrize("sources", [DISPATCHER, TOOLKIT], ids=["dispatcher", "toolkit"])
def test_there_is_no_circle_between_modules(sources: list[Path]) -> None:
    """Late imports count. (That commands are found by name, in both, does not.)"""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources
    }
    # `from a import b`: of the module a, unless b is one.
    graph = {
        name: {taken if taken in modules else taken.rpartition(".")[0] for taken in imports(path)} - {name}
        for name, path in modules.items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())


# Imports a module with all below it. Prints, for each of our modules that were loaded, what it has
# imported itself: what the standard library imports for its own use does not count.
IMPORT = """
import builtins, importlib, json, pkgutil, sys

original, imported = builtins.__import__, {}

def noting(name, globals=None, locals=None, names=(), level=0):
    who = (globals or {}).get("__name__", "")
    if who.partition(".")[0] in ("dispatcher", "toolkit") and not level:
        imported.setdefault(who, []).append(name)
    return original(name, globals, locals, names, level)

sys.path.insert(0, sys.argv[1])
builtins.__import__ = noting
module = importlib.import_module(sys.argv[2])
if hasattr(module, "__path__"):
    for found in pkgutil.walk_packages(module.__path__, module.__name__ + "."):
        importlib.import_module(found.name)
builtins.__import__ = original
ours = [name for name in sys.modules if name.partition(".")[0] in ("dispatcher", "toolkit")]
print(json.dumps({name: imported.get(name, []) for name in ours}))
"""


def is_below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(folder + ".")


@pytest.mark.parametrize("folder", PURE)
def test_pure_folders_load_nothing_that_does_input_or_output(folder: str) -> None:
    command = [sys.executable, "-I", "-c", IMPORT, str(ROOT), folder]
    loaded: dict[str, list[str]] = json.loads(subprocess.check_output(command, text=True))
    assert folder in loaded
    allowed = (folder, "toolkit.wire", "dispatcher.reportable", *PURE[folder])
    packages = [f"{name}." for name in allowed]
    for name, imported in loaded.items():
        is_package_above = any(package.startswith(name + ".") for package in packages)
        assert name == "toolkit" or is_package_above or any(is_below(name, each) for each in allowed), name
        assert set(map(top, imported)) & INPUT_OUTPUT_CLOCK_CHANCE == set(), name


def test_pure_modules_call_nothing_that_does_input_or_output() -> None:
    for path in SOURCES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not any(is_below(name, folder) for folder in PURE):
            continue
        called = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert called & {"open", "print", "input", "__import__"} == set(), path
        # Also what would only be imported when it is needed.
        assert set(map(top, imports(path))) & INPUT_OUTPUT_CLOCK_CHANCE == set(), path


def test_every_source_names_its_licence_and_says_what_it_is() -> None:
    for path in SOURCES:
        text = path.read_text()
        lines = [line for line in text.splitlines()[:2] if not line.startswith("#!")]
        assert not text or lines[0] == "# SPDX-License-Identifier: MIT", path
        if text and not path.is_relative_to(ROOT / "tests"):
            assert ast.get_docstring(ast.parse(text)), path


# What opens files otherwise than by `dispatcher.files`, and which.
OPEN_FILES = {
    **dict.fromkeys(
        ("consoles/processes", "simulator/judge", "simulator/privatetmp", "host/lavajob"), "/proc"
    ),
    "simulator/isolation": "/proc, and what it has made",
    "simulator/device": "a named pipe that it has made",
    "host/standardstreams": "/proc/self/fd",
    **dict.fromkeys(("report/flow/page", "lab/http"), "the package's own"),
    "grouplog/file": "what is open already",
    "jobs/clone": "what it has made, new files",
    "jobs/repositories": "regular files of a list, new files",
    "cli": "/dev/null",
    "files": "",
}


def opens_a_file(call: ast.Call) -> bool:
    if ast.unparse(call.func) in ("open", "os.open", "io.open"):
        return True
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    has_text = any(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in call.args)
    return method in ("read_text", "read_bytes") or (method == "open" and has_text)


def test_files_are_opened_in_one_way() -> None:
    """Anything else would wait for a named pipe, or read a file of any size."""
    opening = {
        str(path.relative_to(ROOT / "dispatcher").with_suffix(""))
        for path in DISPATCHER
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and opens_a_file(node)
    }
    assert opening - OPEN_FILES.keys() == set()


def test_no_pattern_repeats_a_group_possessively() -> None:
    """Before 3.11.5, as on Debian 12, Python goes on at a wrong place behind `(...)*+` where the last repeat fails.

    `(?>(...)*)` means the same, and is matched right (https://github.com/python/cpython/issues/106052).
    """
    group = re.compile(r"\)(?:[*+?]|\{[^{}]*\})\+")
    assert group.search(r"(?:ab?c)*+") and not group.search(r"(?>(?:ab?c)*)[ab]*+")
    assert [str(path) for path in SOURCES if path != Path(__file__) and group.search(path.read_text())] == []


def test_the_largest_folder_says_where_everything_is() -> None:
    folder = ROOT / "dispatcher" / "host"
    told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules - set(re.findall(r"\w+", told)) == set()


def test_what_the_design_names_is_there() -> None:
    """The way of a request and of an event, function by function, is told by names that can go out of date."""
    told = re.findall(r"`([A-Z]\w+)\.(\w+)`", (ROOT / "docs" / "design.md").read_text())
    members = {
        node.name: {
            part.name for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for path in DISPATCHER
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    assert told and [name for name in told if name[1] not in members.get(name[0], ())] == []
