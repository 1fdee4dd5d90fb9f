# SPDX-License-Identifier: MIT
"""What the tests of the device side share: a fake context, the box, and every Python that the machine has."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.terminal import Terminal
from toolkit.context import Context
from toolkit.wire.vocabulary import CommandError

# Minor versions of CPython 3 to look for.
OLDEST, NEWEST = 6, 30
SAY_VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.executable, sys.implementation.name)"


class FakeContext:
    """What a command is given to work with; `replies` are the dispatcher's, by operation."""

    def __init__(
        self,
        replies: Mapping[str, list[Any] | CommandError] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.environ = environ or {}
        self.replies = replies or {}
        self.requests: list[tuple[Any, ...]] = []
        self.written = b""
        self.warnings: list[str] = []
        self.taken: list[bytes] = []  # what was printed when something borrowed was taken

    def write(self, data: bytes | str) -> None:
        self.written += data if isinstance(data, bytes) else data.encode()

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def complain(self, text: str) -> None:
        self.warnings.append(text)

    replace = Context.replace
    need_device = Context.need_device

    def request(self, operation: str, *arguments: object) -> list[Any]:
        self.requests.append((operation, *arguments))
        reply = self.replies[operation]
        if isinstance(reply, CommandError):
            raise reply
        return reply

    borrow = request

    def take(self) -> None:
        if "taken" in self.replies:
            self.request("taken")
        self.taken.append(self.written)


@pytest.fixture
def fake_context() -> type[FakeContext]:
    return FakeContext


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "interpreter" in metafunc.fixturenames:
        found = interpreters()
        if not found:
            raise pytest.UsageError("there is no CPython, 3.6 or later, to run the box on")
        metafunc.parametrize("interpreter", found.values(), ids=found.keys())
        metafunc.config.run_on = list(found)  # type: ignore[attr-defined]


@cache
def interpreters() -> dict[str, Path]:
    """Every CPython from 3.6 on that is here, by version: in PATH, of pyenv, and the one that runs."""
    found: dict[tuple[int, ...], Path] = {}
    for candidate in _candidates():
        said = subprocess.run(
            [candidate, "-I", "-c", SAY_VERSION],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        if said.returncode == 0:
            version, executable, implementation = said.stdout.split(maxsplit=2)
            number = tuple(map(int, version.split(".")))
            if implementation.strip() == "cpython" and number >= (3, OLDEST):
                found.setdefault(number, Path(executable).resolve())
    return {".".join(map(str, number)): found[number] for number in sorted(found)}


def _candidates() -> list[str]:
    names = ["python3"] + [f"python3.{minor}" for minor in range(OLDEST, NEWEST)]
    candidates = [sys.executable, *filter(None, map(shutil.which, names))]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
        # Its wrappers take long, and start what is listed here.
        candidates = [candidate for candidate in candidates if Path(candidate).parent != Path(root, "shims")]
        candidates += map(str, Path(root, "versions").glob("*/bin/python3"))
    return [candidate for candidate in candidates if os.access(candidate, os.X_OK)]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()
