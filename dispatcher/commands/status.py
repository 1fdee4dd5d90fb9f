# SPDX-License-Identifier: MIT
"""`lavabox status`: a lab that is being served, as it is now."""

import argparse
import json
import sys
from typing import Any

from dispatcher.commands.ctl import add_control
from dispatcher.group.wording import duration, enumerated, shown
from dispatcher.host.control import call

SUMMARY = "show a lab that is being served"

DESCRIPTION = """\
Show the devices of `lavabox serve LAB.toml`, how their consoles are, and who waits for whom
and since when; then the groups.
"""

EPILOGUE = """\
exit status: 0; 1 when the lab can't be asked, or a console is not connected; 2 usage.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_control(parser)
    parser.add_argument("--json", action="store_true", help="show all that is known, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show it. Raises SetupError."""
    status = call(arguments.control, {"do": "status"})["status"]
    if arguments.json:
        json.dump(status, sys.stdout, indent=2)
        print()
    else:
        print(as_text(status), end="")
    return 0 if all(device["connected"] for device in status["devices"]) else 1


def as_text(status: dict[str, Any]) -> str:
    """The status for a person."""
    rows: list[tuple[str, ...]] = [
        ("device", "role", "group", "console", "printed", "requests", "trouble", "waits")
    ]
    for device in status["devices"]:
        counters = device["counters"]
        trouble = sum(counters[name] for name in ("damaged", "replayed", "refused", "overflow"))
        rows.append(
            (
                *(device["name"], device["role"], device["group"], device["state"], str(device["printed"])),
                *(str(counters["requests"]), str(trouble)),
                "; ".join(map(_wait, device["waits"])) or "-",
            )
        )
    for group in status["groups"]:
        here = {device["name"] for device in status["devices"] if device["group"] == group["name"]}
        for member in group["members"]:
            if member["name"] not in here:
                state = "has left" if member["left"] else "elsewhere"
                waits = "; ".join(map(_wait, member["waits"])) or "-"
                name = (
                    member["name"]
                    if member["alias"] == member["name"]
                    else f"{member['name']} ({member['alias']})"
                )
                rows.append((name, member["role"], group["name"], state, "-", "-", "-", waits))
    lines = _columns(rows)
    for group in status["groups"]:
        results = ", ".join(f"{number} {word}" for word, number in group["results"].items() if number)
        awaited = f"; waiting for {group['awaited']}" if group["awaited"] else ""
        lines.append(
            f"group {shown(group['name'])}: {len(group['members'])} devices{awaited}; results: {results or 'none'}"
        )
        lines += [f"group {shown(group['name'])}: {shown(sentence)}" for sentence in group["dead_end"]]
    return "".join(f"{line}\n" for line in lines)


def _wait(wait: dict[str, Any]) -> str:
    return f"{wait['command']} for {enumerated(wait['for'] or ['nobody'])}, {duration(wait['seconds'])}"


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    rows = [tuple(map(_cell, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _cell(text: str) -> str:
    return shown(text)
