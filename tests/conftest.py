# SPDX-License-Identifier: MIT
"""For all tests: a loaded machine is no failure; and what the box was run on is said, also by several processes."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


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
