# SPDX-License-Identifier: MIT
"""What a command imports decides how soon it starts; and every command is in the table."""

import importlib
import subprocess
from pathlib import Path

import pytest

import toolkit.commands
from tests.frombox import IMPORTER
from toolkit.commands import COMMANDS, module_name

# Each costs milliseconds, more than all of a command. `signal` imports enum.
SLOW = {
    *("argparse", "asyncio", "base64", "collections", "contextlib", "dataclasses", "datetime", "decimal"),
    *("enum", "functools", "getopt", "importlib.util", "inspect", "json", "logging", "pathlib", "random"),
    *("re", "shutil", "signal", "site", "socket", "subprocess", "tempfile", "textwrap", "threading"),
    *("traceback", "typing"),
}

# Each in a process of its own that begins with what all have. Prints a line for each, in their order.
START = (
    IMPORTER
    + """
import posix, toolkit.cli, toolkit.client, toolkit.agent
for module in sys.argv[2:]:
    child = posix.fork()
    if not child:
        __import__(module)
        print(*sys.modules, flush=True)
        posix._exit(0)
    if posix.waitpid(child, 0)[1]:
        sys.exit(module)
"""
)


def test_a_command_imports_nothing_slow(box: Path, interpreter: Path) -> None:
    modules = ["toolkit.commands." + module_name(command) for command in COMMANDS]
    started = subprocess.run(
        [interpreter, "-I", "-S", "-c", START, box, *modules], capture_output=True, text=True, check=True
    )
    for module, line in zip(modules, started.stdout.splitlines(), strict=True):
        imported = set(line.split())
        assert imported & {*SLOW, *modules} == {module}


def test_the_table_is_the_directory() -> None:
    (directory,) = toolkit.commands.__path__
    modules = {path.stem for path in Path(directory).glob("*.py")} - {"__init__"}
    assert modules == set(map(module_name, COMMANDS))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_made_of_usage_and_run(command: str) -> None:
    module = importlib.import_module("toolkit.commands." + module_name(command))
    assert isinstance(module.USAGE, str)
    assert callable(module.run)
    assert module.__doc__.startswith(f"{command}: ")
