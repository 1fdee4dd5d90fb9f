# SPDX-License-Identifier: MIT
"""The flow table of an expected run: a column for each role, or device, a row for each round."""

import re
from dataclasses import replace

from dispatcher.group.wording import enumerated
from dispatcher.plan.calls import Unread, Work
from dispatcher.plan.expected import Expected, Step
from dispatcher.report.flow.table import Cell, Column, Kind, Row, Table

# Stands for the name of each device of a column.
_SELF = "$(lava-self)"
# Unread files that are named.
_MOST_UNREAD = 5


def expected_table(expected: Expected, by: str = "role") -> Table:
    """The table; `by` is "role" or "device".

    By role, devices of a role that do not all do the same have a column for each of the things they do.
    """
    roles = [program.role for program in expected.programs]
    alike: dict[tuple[str, object], list[str]] = {}
    for program in sorted(expected.programs, key=lambda program: roles.index(program.role)):
        same: object = program.device if by == "device" else tuple(_lane(expected, program.device, _SELF))
        alike.setdefault((program.role, same), []).append(program.device)
    columns, lanes = [], []
    for (role, _), devices in alike.items():
        columns.append(_column(role, devices, roles.count(role), by))
        lanes.append(_lane(expected, devices[0], _SELF if len(devices) > 1 else devices[0]))
    rows = [Row(cells) for cells in zip(*lanes, strict=True)]
    return Table(tuple(columns), tuple(filter(_tells, rows)), remarks=tuple(_remarks(expected)))


def _column(role: str, devices: list[str], of_role: int, by: str) -> Column:
    if by == "device" or (len(devices) == 1 and of_role > 1):
        return Column(devices[0], role)
    if len(devices) < of_role:
        return Column(role, f"{len(devices)} of {of_role} devices: {enumerated(devices)}")
    return Column(role, f"{of_role} devices" if of_role > 1 else "")


def _tells(row: Row) -> bool:
    return any(cell.kind is Kind.CALL for cell in row.cells)


def _lane(expected: Expected, device: str, shown_as: str) -> list[Cell]:
    """The column of one device; `shown_as` stands for its name in the calls."""
    cells = [Cell(Kind.NOTHING)] * expected.rounds
    name = re.compile(rf"(?<![\w.]){re.escape(device)}(?![\w.])")
    for step in expected.steps[device]:
        cell = _cell(step)
        cells[step.round] = replace(cell, text=name.sub(lambda _: shown_as, cell.text))
        for number in range(step.round + 1, min(step.round + 1 + step.rounds, expected.rounds)):
            cells[number] = Cell(Kind.BLOCKED)
    return cells


def _cell(step: Step) -> Cell:
    item = step.item
    if isinstance(item, Work):
        return Cell(Kind.CALL, item.text)
    notes = []
    if not step.ended:
        notes.append("stays blocked")
    elif step.failed:
        notes.append("fails")
    if item.refused:
        notes.append("refused")
    if item.perhaps:
        notes.append("perhaps")
    if item.repeatedly:
        notes.append("repeatedly")
    if item.background:
        notes.append("in the background")
    return Cell(
        Kind.CALL, item.text, ", ".join(notes), bad=not step.ended or bool(step.failed or item.refused)
    )


def _unread(expected: Expected) -> list[str]:
    """What may make calls that are not known, in words."""
    items = [item for program in expected.programs for item in program.items if isinstance(item, Unread)]
    # Where not even a part of the command is known, there is nothing to tell.
    told = list(dict.fromkeys(f"'{item.text}' ({item.place})" for item in items if item.text.strip("*")))
    return [*told[:_MOST_UNREAD], f"{len(told) - _MOST_UNREAD} more"] if len(told) > _MOST_UNREAD else told


def _remarks(expected: Expected) -> list[str]:
    remarks = ["Blank: blocked, or at the end."]
    together: dict[tuple[str, str], list[str]] = {}
    for blocked in expected.blocked:
        together.setdefault((blocked.call.text, str(blocked.call.place)), []).append(blocked.device)
    for (text, place), devices in together.items():
        verb = "stays" if len(devices) == 1 else "stay"
        remarks.append(f"{enumerated(devices)} {verb} blocked in '{text}' ({place}).")
    calls = [call for program in expected.programs for call in program.calls]
    if any(call.message_id.exact is None for call in calls):
        remarks.append("*: a part that is not known before it runs.")
    if not calls:
        remarks.append("There are no multi-device calls.")
    if unread := _unread(expected):
        remarks.append(f"Not read, so its calls are missing from this table: {', '.join(unread)}.")
    return remarks
