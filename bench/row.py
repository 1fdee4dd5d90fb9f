# SPDX-License-Identifier: MIT
"""What the bench measures is rows: how they are shown, and what shows them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Units of which more is better.
_MORE = ("MB/s", "MB/CPU s", "requests/s", "results")


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

    def gain(self, before: "Row") -> float:
        """How many times as good as before; 1 where both are 0."""
        better, worse = (self.value, before.value) if self.more_is_better else (before.value, self.value)
        if better == worse:
            return 1.0
        return better / worse if worse else math.inf

    def said(self, value: float) -> str:
        """The value with its unit, in three digits or all of a whole number."""
        number = f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
        return f"{number} {self.unit}".rstrip()


# What is a gain of less is a loss that counts.
WORSE = 1 / 1.1


def compared(before: Row, after: Row) -> str:
    """A row of a Markdown table: what, before, after, how many times as good, and a word where that is a loss."""
    gain = after.gain(before)
    word = "worse" if gain < WORSE else ""
    return (
        f"| {after.name} | {before.said(before.value)} | {after.said(after.value)} | {gain:.2f} x | {word} |"
    )


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
