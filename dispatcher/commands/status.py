# SPDX-License-Identifier: MIT
"""`lavabox status`: a lab that is being served, or a group that dispatchers share, as it is now."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dispatcher.commands.ctl import add_control
from dispatcher.errors import SetupError, UsageError, on_one_line
from dispatcher.group.doings import doings
from dispatcher.group.state import GroupState
from dispatcher.group.wording import columns, counted, duration, enumerated, shown
from dispatcher.host import groupoptions
from dispatcher.host.remotewire import CONTROL_SUFFIX, DEFAULT_SOCKET
from dispatcher.lab.config import DEFAULT_CONTROL
from dispatcher.lab.control import call

SUMMARY = "show a lab that is being served, or a group that several hosts share"

DESCRIPTION = """\
Show the devices of `lavabox serve LAB.toml`, the state of their consoles, and who waits for whom
and since when; then the groups. If --control names the control socket of `lavabox coordinator`, or no
lab is served on this machine, show the same of the coordinator, without consoles.

With nats://HOST,HOST/LAB/GROUP: show the devices of this group, on whichever hosts they are,
what each does and for whom it waits, and the results so far.
"""

EPILOGUE = """\
exit status: 0; 1 when the lab or the servers can't be asked, there is no such group, or a console
is not connected; 2 usage.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_control(parser)
    parser.add_argument("group", metavar="nats://HOST,HOST/LAB/GROUP", nargs="?", help="a group on servers")
    groupoptions.add_credentials(parser)
    parser.add_argument("--json", action="store_true", help="show all that is known, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Show it; returns the exit status. Raises UsageError or SetupError."""
    if arguments.group is not None:
        return _show_group(arguments.group, arguments.group_log_credentials, as_json=arguments.json)
    if arguments.group_log_credentials is not None:
        raise UsageError(
            "--group-log-credentials needs nats://HOST/LAB/GROUP: it is for the servers of a group"
        )
    control = arguments.control
    of_coordinator = DEFAULT_SOCKET + CONTROL_SUFFIX
    if control == DEFAULT_CONTROL and not os.path.exists(control) and os.path.exists(of_coordinator):
        control = of_coordinator
    status = call(control, {"do": "status"})["status"]
    _show(status, None if arguments.json else as_text)
    return 0 if all(device["connected"] for device in status["devices"]) else 1


def _show_group(place: str, credentials: Path | None, *, as_json: bool) -> int:
    events = groupoptions.read_shared(
        place,
        credentials,
        lambda sentence: print(on_one_line(f"lavabox status: {sentence}"), file=sys.stderr),
    )
    state = GroupState()
    for number, event in events:
        try:
            state.apply(event)
        except ValueError as error:
            raise SetupError(f"{place}, message {number}: {error}") from error
    _show(group_status(state, time.time()), None if as_json else group_as_text)
    return 0


def _show(status: dict[str, Any], as_words: Callable[[dict[str, Any]], str] | None) -> None:
    """Print it as JSON, or as a person reads it."""
    if as_words is None:
        json.dump(status, sys.stdout, indent=2)
        print()
    else:
        print(as_words(status), end="")


def group_status(state: GroupState, now: float) -> dict[str, Any]:
    """What is known of a group, as JSON has it.

    :param now: on the clock of the events.
    """
    coordinator = state.coordinator
    done = doings(coordinator, now)
    return {
        "state": "ended" if coordinator.ended else "open",
        "awaited": coordinator.awaited,
        "devices": [
            {"name": name, "role": role, "state": done[name][0], "what": done[name][1]}
            for name, role in coordinator.members
        ],
        "results": state.results.counts._asdict(),
    }


def group_as_text(status: dict[str, Any]) -> str:
    """`group_status` for a person."""
    rows: list[tuple[str, ...]] = [("device", "role", "state", "")]
    rows += [(one["name"], one["role"], one["state"], one["what"]) for one in status["devices"]]
    number = counted(len(status["devices"]), "device")
    lines = [*columns(rows), f"{status['state']}: {number}{_progress(status)}"]
    return "".join(f"{line}\n" for line in lines)


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
                state = "has left" if member["left"] else "hooked" if member["hooks"] else "elsewhere"
                waits = "; ".join(map(_wait, member["waits"])) or "-"
                name = (
                    member["name"]
                    if member["alias"] == member["name"]
                    else f"{member['name']} ({member['alias']})"
                )
                rows.append((name, member["role"], group["name"], state, "-", "-", "-", waits))
    lines = columns(rows)
    for group in status["groups"]:
        number = counted(len(group["members"]), "device")
        lines.append(f"group {shown(group['name'])}: {number}{_progress(group)}")
        lines += [f"group {shown(group['name'])}: {shown(sentence)}" for sentence in group["dead_end"]]
    return "".join(f"{line}\n" for line in lines)


def _progress(group: dict[str, Any]) -> str:
    results = ", ".join(f"{number} {word}" for word, number in group["results"].items() if number)
    awaited = f"; waiting for {group['awaited']}" if group["awaited"] else ""
    return f"{awaited}; results: {results or 'none'}"


def _wait(wait: dict[str, Any]) -> str:
    whom = enumerated(wait["for"], more=wait["more"]) or "nobody"
    return f"{wait['command']} for {whom}, {duration(wait['seconds'])}"
