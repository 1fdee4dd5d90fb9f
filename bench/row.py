# SPDX-License-Identifier: MIT
"""What the bench measures is rows: how they are shown, and what shows them."""

from collections.abc import Iterable
from dataclasses import dataclass

# Units of which more is better.
_MORE = ("MB/s", "MB/CPU s", "results")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    :param lava: the same of LAVA's own programs, where they are installed.
    """

    name: str
    value: float
    unit: str
    lava: float | None = None

    @property
    def more_is_better(self) -> bool:
        """Whether a larger value is a better one."""
        return self.unit in _MORE

    def said(self, value: float) -> str:
        """The value with its unit, in three digits or all of a whole number."""
        number = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
        return f"{number} {self.unit}".rstrip()


HEAD = "| what | | LAVA |\n|---|---|---|"


def line(row: Row) -> str:
    """A row of a Markdown table under HEAD."""
    lava = "" if row.lava is None else row.said(row.lava)
    return f"| {row.name} | {row.said(row.value)} | {lava} |"


def show(rows: Iterable[Row]) -> list[Row]:
    """Print each row as it is measured, and return them all."""
    print(HEAD)
    kept = []
    for row in rows:
        print(line(row), flush=True)
        kept.append(row)
    return kept
