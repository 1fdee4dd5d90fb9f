# SPDX-License-Identifier: MIT
"""For all tests: a loaded machine is no failure; how the run was started makes no difference; what the box
was run on is said, also by several processes; and the box, and two boards with it."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import build_zipapp
from tests.consoles import Board, Lab

# `--hypothesis-profile=search`: other examples each time, and those first that failed before.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples each time, so that a run tells of the change alone.
settings.register_profile("same", settings.get_profile("search"), derandomize=True)
settings.load_profile("same")


def _start_afresh() -> None:
    """What a program inherits becomes what it is at a login, for the tests and all that they start."""
    # Of `nohup`: a handler that does nothing keeps that, and is not inherited by other programs.
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)
    # Of `make test &` in a script.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o022)
    for name in [name for name in os.environ if name.startswith(("LAVA_", "GIT_", "LC_"))]:
        del os.environ[name]
    # Hundreds of tests start `lavabox`, and each would compile its sources; what it prints is seen as a user sees it.
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        os.environ.pop(name, None)
    sys.dont_write_bytecode = False
    os.environ |= {
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "HOME": os.environ.get("HOME") or os.path.expanduser("~"),
    }


_start_afresh()


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zipapp, built from this tree."""
    return build_zipapp.build(tmp_path_factory.mktemp("box") / "lavabox")


@pytest.fixture
def lab(box: Path, tmp_path: Path) -> Iterator[Lab]:
    """Two boards: `a` is the server, `b` the client."""
    with Lab(box, tmp_path, {"a": "server", "b": "client"}) as lab:
        yield lab


@pytest.fixture
def board(lab: Lab) -> Board:
    """The server."""
    return lab["a"]


def pytest_configure(config: Any) -> None:
    config.run_on = []  # versions of Python; noted by tests/toolkit/conftest.py


def pytest_sessionfinish(session: Any) -> None:
    # One of several processes of pytest-xdist tells the one that reports.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["run_on"] = session.config.run_on


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.run_on = node.config.run_on or getattr(node, "workeroutput", {}).get("run_on", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: Any) -> None:
    if config.run_on:
        terminalreporter.write_line(f"The box was run on CPython {', '.join(config.run_on)}.")
