# SPDX-License-Identifier: MIT
"""docs/commands.md: that it has every command, and none that there is not."""

import re
from pathlib import Path

from toolkit.commands import COMMANDS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


def test_every_command_has_its_row() -> None:
    first_cells = [line.split("|")[1] for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    named = {name for cell in first_cells for name in re.findall(r"lava-[a-z0-9-]+", cell)}
    assert named == set(COMMANDS)
