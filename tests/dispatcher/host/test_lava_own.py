# SPDX-License-Identifier: MIT
"""LAVA's own tests of its coordinator, against ours over TCP. LAVABOX_LAVA_SOURCE names a checkout of LAVA; without it
there is nothing to run.

Their class under test is replaced by one that only passes on, over TCP, what the tests ask of it.
"""

import importlib.util
import json
import os
import sys
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dispatcher.host.coordinator_process import Coordinator
from tests.dispatcher.host.lavaclient import exchange, packed

TESTS = (
    Path(os.environ.get("LAVABOX_LAVA_SOURCE", "/nowhere")) / "tests" / "lava_coordinator" / "test_poller.py"
)
# There were 18 in 2026.07.
FEWEST = 18

pytestmark = pytest.mark.skipif(not TESTS.is_file(), reason="LAVABOX_LAVA_SOURCE names no checkout of LAVA")


class Passer:
    """What the tests take for LAVA's coordinator."""

    port = 0
    rpc_delay = 2
    blocksize = 4096
    host = "localhost"
    conn: Any

    def __init__(self) -> None:
        self.group: dict[str, Any] = {"group": "", "clients": {}}
        self._cleared = 0

    def _ask(self, request: dict[str, Any]) -> bytes:
        return exchange(self.port, packed(**request))

    def dataReceived(self, request: dict[str, Any]) -> None:
        answer = self._ask(request)
        self.conn.send(answer[:8])
        self.conn.send(answer[8:])
        self.conn.close()

    def _updateData(self, request: dict[str, Any]) -> str | None:
        answer = json.loads(self._ask({"request": "group_data", **request})[8:])
        if answer["response"] == "nack":
            return None
        if self.group["group"] != request["group_name"]:
            self.group = {"group": request["group_name"], "clients": {}}
            self._cleared = 0
        self.group["clients"][request["client_name"]] = request["role"]
        return str(request["client_name"])

    def _clearGroupData(self, request: dict[str, Any]) -> None:
        clients = list(self.group["clients"].items())
        client, role = clients[self._cleared]
        self.dataReceived(
            {
                "request": "clear_group",
                "client_name": client,
                "role": role,
                "hostname": "localhost",
                **request,
            }
        )
        self._cleared += 1
        if self._cleared == len(clients):
            self.group = {"group": "", "clients": {}}


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    with Coordinator(tmp_path) as coordinator:
        yield coordinator


def test_lavas_own_tests_pass(coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    Passer.port = coordinator.port
    package, module = types.ModuleType("lava"), types.ModuleType("lava.coordinator")
    module.LavaCoordinator = type("LavaCoordinator", (Passer,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lava", package)
    monkeypatch.setitem(sys.modules, "lava.coordinator", module)
    spec = importlib.util.spec_from_file_location("lavas_test_poller", TESTS)
    assert spec is not None and spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    # Theirs calls the constructor above its own base class, and so none that sets anything.
    tests = unittest.TestLoader().loadTestsFromModule(theirs)
    result = unittest.TestResult()
    original = theirs.TestCoordinator.__init__

    def begin(self: Any) -> None:
        Passer.__init__(self)
        original(self)

    monkeypatch.setattr(theirs.TestCoordinator, "__init__", begin)
    tests.run(result)
    assert [text for _, text in result.errors + result.failures] == []
    assert result.testsRun >= FEWEST
