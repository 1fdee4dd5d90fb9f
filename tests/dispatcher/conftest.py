# SPDX-License-Identifier: MIT
"""For the tests of the host side."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dispatcher.simulating import Simulator


@pytest.fixture
def sim(tmp_path: Path, box: Path) -> Iterator[Simulator]:
    """The simulator. It has to leave nothing behind."""
    folder, temporary = tmp_path / "here", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    yield Simulator(folder, box, temporary)
    assert list(temporary.iterdir()) == []
