# SPDX-License-Identifier: MIT
"""A flow table, as text for a terminal and as Markdown.

The table is neutral: it may tell what happened or what is expected. Its texts may come from
devices, so they are made harmless here, whatever they hold.

    +--------+-----------------+-----------------------------+
    | time   | server          | client (2 devices)          |
    +========+=================+=============================+
    | 0.00 s | lava-sync start | lava-sync start (0.2 s)     |
    +--------+-----------------+-----------------------------+
    | 0.21 s | ...             | lava-wait-all ready (0.3 s) |
    +--------+-----------------+-----------------------------+
    | 0.52 s | lava-send ready |                             |
    +--------+-----------------+-----------------------------+
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from dispatcher.group.events import readable
from dispatcher.view.display import harmless

# Columns of a terminal that a column of the table has at least, if it needs them.
_NARROWEST = 16
# Lines of one cell; what is longer is cut.
_MOST_LINES = 8
# Characters of one text that are looked at: a message may carry 64 KiB.
_MOST_CHARACTERS = 500


class Kind(Enum):
    """What a device does in a row."""

    CALL = "call"  # the text says what
    BLOCKED = "blocked"  # in a call that stands further up: drawn as a blank cell
    RUNNING = "running"  # between two calls
    ABSENT = "absent"  # not in the group yet, or any more
    NOTHING = "nothing"  # nobody knows, or there is nothing to tell: blank as well


_SHOWN = {Kind.BLOCKED: "", Kind.RUNNING: "...", Kind.ABSENT: "-", Kind.NOTHING: ""}

LEGEND = "Blank: blocked. ...: running. -: not in the group."


@dataclass(frozen=True, slots=True)
class Cell:
    """What one column says in one row; `note` is what there is to add, such as how long it took.

    `bad` marks what needs attention: a failed test, a wait that failed.
    """

    kind: Kind
    text: str = ""
    note: str = ""
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A device, or a role; `detail` is what there is to add: "2 devices"."""

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One cell for each column; `head` says when, or is empty."""

    cells: tuple[Cell, ...]
    head: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A flow table.

    :param head: what the heads of the rows are, "time" for example; empty if they have none.
    :param remarks: sentences that stand below it.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    head: str = ""
    remarks: tuple[str, ...] = ()


def text(table: Table, width: int) -> str:
    """The table in at most `width` terminal columns, if that can be; side by side where it can't.

    Each part is a grid table as reStructuredText has it. Ends in a newline.
    """
    lines = [[clean(line) for line in _line(table, row)] for row in (None, *table.rows)]
    heads = 1 if table.head else 0
    parts = []
    for columns in _parts(lines, heads, width):
        parts.append(
            _grid([[*line[:heads], *(line[heads + column] for column in columns)] for line in lines], width)
        )
    remarks = ["\n".join(_wrapped(clean(remark), width)) + "\n" for remark in table.remarks]
    return "\n".join([*parts, *remarks])


def markdown(table: Table) -> str:
    """The table as GitHub and its like read it. Ends in a newline."""
    heads = [table.head] if table.head else []
    lines = [_piped([*heads, *(_code(clean(headed(column))) for column in table.columns)])]
    lines.append(_piped(["---"] * (len(heads) + len(table.columns))))
    for row in table.rows:
        first = [_escaped(clean(row.head))] if heads else []
        lines.append(_piped([*first, *map(_marked, row.cells)]))
    for remark in table.remarks:
        lines += ["", _escaped(clean(remark))]
    return "\n".join(lines) + "\n"


def shown(cell: Cell) -> str:
    """The text of a cell, with its note in parentheses."""
    told = cell.text if cell.kind is Kind.CALL else _SHOWN[cell.kind]
    return f"{told} ({cell.note})" if cell.note else told


# Text


def _parts(lines: Sequence[Sequence[str]], heads: int, width: int) -> Iterator[list[int]]:
    """The columns behind the `heads` first ones, parted so that each part fits."""
    natural = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    head = max((len(line[0]) for line in lines[1:]), default=0) + 3 if heads else 0
    narrow = [min(_NARROWEST, own) + 3 for own in natural[heads:]]
    number = len(narrow)
    for parts in range(1, number + 1):
        size = -(-number // parts)
        chunks = [list(range(first, min(first + size, number))) for first in range(0, number, size)]
        if all(head + 1 + sum(narrow[column] for column in chunk) <= width for chunk in chunks):
            break
    else:
        chunks = [[column] for column in range(number)]
    yield from chunks


def _line(table: Table, row: Row | None) -> list[str]:
    """The texts of one row, or of the table's head."""
    if row is None:
        return [*([table.head] if table.head else []), *map(headed, table.columns)]
    return [*([row.head] if table.head else []), *map(shown, row.cells)]


def _grid(lines: Sequence[Sequence[str]], width: int) -> str:
    widths = _fitted([max(map(_width, column)) for column in zip(*lines, strict=True)], width)
    rule = "+".join(["", *("-" * (own + 2) for own in widths), ""])
    out = [rule]
    for number, line in enumerate(lines):
        cells = [_cell(cell, own) for cell, own in zip(line, widths, strict=True)]
        for place in range(max(map(len, cells))):
            texts = [cell[place] if place < len(cell) else "" for cell in cells]
            padded = [told + " " * (own - _width(told)) for told, own in zip(texts, widths, strict=True)]
            out.append(f"| {' | '.join(padded)} |")
        out.append(rule if number else rule.replace("-", "="))
    return "\n".join(out) + "\n"


def _fitted(natural: list[int], width: int) -> list[int]:
    """Widths of the columns: the widest give way until all fit."""
    widths = [max(1, own) for own in natural]
    while sum(widths) + 3 * len(widths) + 1 > width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def _wrapped(line: str, width: int) -> list[str]:
    """The text in lines of at most `width` terminal columns."""
    lines, current = [], ""
    for word in line.split(" "):
        joined = f"{current} {word}" if current else word
        if _width(joined) > width and current:
            lines.append(current)
            joined = word
        while _width(joined) > width > 1:
            end = next(n for n in range(len(joined), 0, -1) if _width(joined[:n]) <= width)
            lines.append(joined[:end])
            joined = joined[end:]
        current = joined
    lines.append(current)
    return lines


def _cell(line: str, width: int) -> list[str]:
    lines = _wrapped(line, width)
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1 :] = ["..."[:width]]
    return lines


def _width(line: str) -> int:
    """Columns that a terminal takes for it."""
    if line.isascii():
        return len(line)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in line
    )


# Markdown


def _marked(cell: Cell) -> str:
    if cell.kind is not Kind.CALL:
        return shown(cell)
    told = _code(clean(cell.text))
    if cell.bad:
        told = f"**{told}**"
    return f"{told} ({_escaped(clean(cell.note))})" if cell.note else told


def _code(line: str) -> str:
    """A code span: the one place where nothing but a backtick, and a pipe in a table, means anything."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    inner = line.replace("|", "\\|")
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{inner}{space}{fence}" if line.strip() else ""


def _escaped(line: str) -> str:
    """Text in which nothing means anything to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&$])", r"\\\1", line)


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# Both


def headed(column: Column) -> str:
    """The name of a column, with its detail in parentheses."""
    return f"{column.name} ({column.detail})" if column.detail else column.name


def clean(line: str) -> str:
    """The text in one line, without anything that a terminal obeys."""
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[:_MOST_CHARACTERS]}..."
    return harmless(readable(line), colour=False).replace("\t", " ")
