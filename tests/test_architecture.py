# SPDX-License-Identifier: MIT
"""Who may import what. The rules are in docs/design.md; here the sources are read, not run."""

import ast
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

# Bytes, events and the time come in as arguments; bytes, events and deadlines go out.
PURE = [
    *sorted((ROOT / "toolkit" / "wire").rglob("*.py")),
    *(
        path
        for folder in ("line", "group", "plan")
        for path in sorted((ROOT / "dispatcher" / folder).rglob("*.py"))
    ),
    *(
        ROOT / "dispatcher" / f"{name}.py"
        for name in (
            *("engine", "host/deadwatch", "host/rules", "host/remotewire", "host/lavawire", "host/lavapoll"),
            *("jobs/text", "jobs/source", "view/statusview"),
            *(f"report/flow/{module}" for module in ("model", "words", "table", "tables")),
        )
    ),
]
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


def sources(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT)) for path in paths])


@sources(TOOLKIT)
def test_toolkit_needs_itself_msgpack_and_the_standard_library(path: Path) -> None:
    tops = set(map(top, imports(path)))
    assert tops <= {"toolkit", "msgpack"} | (sys.stdlib_module_names - NOT_ON_DEVICES)


@sources(DISPATCHER)
def test_dispatcher_takes_from_toolkit_only_the_wire(path: Path) -> None:
    taken = {name for name in imports(path) if top(name) == "toolkit"}
    assert {name for name in taken if not name.startswith("toolkit.wire.")} <= {"toolkit.VERSION"}


@sources(PURE)
def test_pure_modules_do_no_input_or_output(path: Path) -> None:
    assert set(map(top, imports(path))) & INPUT_OUTPUT_CLOCK_CHANCE == set()
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"open", "print", "input", "__import__"} == set()


@sources([path for path in SOURCES if path.read_bytes()])
def test_every_source_names_its_licence_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    assert lines[1 if lines[0].startswith("#!") else 0] == "# SPDX-License-Identifier: MIT"
    assert path.is_relative_to(ROOT / "tests") or ast.get_docstring(ast.parse(text))
