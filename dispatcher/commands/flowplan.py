# SPDX-License-Identifier: MIT
"""`lavabox flow --plan`: the expected flow table of a job, and what is wrong with it, without running it."""

import argparse
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dispatcher.commands.scriptfiles import ScriptFiles
from dispatcher.errors import SetupError, UsageError
from dispatcher.group.events import readable
from dispatcher.group.wording import counted
from dispatcher.jobs.model import Checkout, Definition, Place, Role, Step, TestAction
from dispatcher.jobs.simulation import Simulation, read_simulation
from dispatcher.plan.calls import Unread
from dispatcher.plan.expected import expect
from dispatcher.plan.lint import Finding, Severity, findings
from dispatcher.plan.plantable import expected_table
from dispatcher.plan.programs import programs
from dispatcher.report.flow import table
from dispatcher.simulator.plan import Option, PlannedDevice
from dispatcher.view.display import harmless


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options that only a plan has."""
    parser.add_argument(
        "--plan",
        action="store_true",
        help="FILE is a job or a test definition: draw what is expected of it, and say what is wrong with "
        "its calls; nothing is run",
    )
    for option, form in ((Option.ROLE, "ROLE[*COUNT][=COMMAND]"), (Option.DEVICE, "NAME:ROLE[=COMMAND]")):
        parser.add_argument(
            option.value,
            metavar=form,
            dest="devices",
            action="append",
            default=[],
            type=partial(_with_option, option),
            help="with --plan: devices, as `lavabox sim` has them",
        )
    parser.add_argument(
        "--repo",
        metavar="URL=DIR",
        action="append",
        default=[],
        help="with --plan: the repository that a job names by URL is DIR",
    )
    parser.add_argument(
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="with --plan: a parameter for all definitions",
    )


def _with_option(option: Option, text: str) -> tuple[Option, str]:
    return option, text


def refuse_options_of_plans(arguments: Namespace) -> None:
    """Raises UsageError for an option that means nothing without --plan."""
    for given, option in (
        (arguments.devices, "--role and --device"),
        (arguments.repo, "--repo"),
        (arguments.param, "--param"),
    ):
        if given:
            raise UsageError(f"{option}: only with --plan")


def planned(arguments: Namespace, file: Path | None, form: str, width: int) -> tuple[bytes, int]:
    """The plan as a file, and the exit status. Raises UsageError.

    :param form: "text" or "markdown".
    :param width: columns of a terminal.
    """
    if form == "html":
        raise UsageError("a plan is drawn as text or markdown, not as html")
    if file is None and not arguments.devices:
        raise UsageError("name a job (YAML), or give devices by --role ROLE=COMMAND")
    here = Path.cwd()
    asked = Namespace(file=file, devices=arguments.devices, repo=arguments.repo, param=arguments.param)
    try:
        simulation = read_simulation(asked, here)
        devices = programs(roles_of(simulation), ScriptFiles(here, simulation.repositories).of)
    except SetupError as error:
        raise UsageError(str(error)) from None
    # Test actions that are left out may make calls.
    hidden = [Unread(place, "a test action without a shell") for place in simulation.hidden_calls]
    expected = expect([replace(program, items=(*program.items, *hidden)) for program in devices])
    found = findings(expected)
    drawn = expected_table(expected, arguments.by)
    if form == "markdown":
        told = table.markdown(replace(drawn, remarks=(*drawn.remarks, *map(str, found), _summary(found))))
    else:
        lines = [*(harmless(readable(str(finding)), colour=False) for finding in found), _summary(found)]
        told = "\n".join([table.text(drawn, width), *lines, ""])
    status = int(any(finding.severity is Severity.ERROR for finding in found))
    return told.encode("utf-8", "replace"), status


def roles_of(simulation: Simulation) -> list[tuple[str, Role]]:
    """The devices with what they do: one that runs a command has a role with that command alone."""
    of_commands: dict[tuple[str, str, Path], Role] = {}
    roles = []
    for device in simulation.devices:
        role = simulation.roles.get(device.name)
        if role is None:
            key = (device.role, device.command, device.directory)
            role = of_commands.setdefault(key, _role_of_command(device))
        roles.append((device.name, role))
    return roles


def _role_of_command(device: PlannedDevice) -> Role:
    """A command is a definition of one step."""
    place = Place(f"the command of {device.role}", 1)
    step = Step(device.command, place)
    definition = Definition(device.role, place, steps=(step,), checkout=Checkout(device.directory))
    return Role(device.role, 1, place, (TestAction(place, definitions=(definition,)),))


def _summary(found: Sequence[Finding]) -> str:
    counts = [(severity, sum(finding.severity is severity for finding in found)) for severity in Severity]
    told = [counted(count, severity.value) for severity, count in counts if count]
    return f"{', '.join(told)}." if told else "Nothing is wrong with the calls, as far as they can be read."
