# SPDX-License-Identifier: MIT
"""From job files and options of `lavabox sim` to devices that can be simulated."""

import argparse
import re
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dispatcher.errors import SetupError, UsageError
from dispatcher.jobs.device_script import lay_out, shell_for
from dispatcher.jobs.model import Checkout, Definition, Job, Place, Role, TestAction
from dispatcher.jobs.reader import is_definition, read_bare_definition, read_job
from dispatcher.jobs.repositories import Repositories, copy_tree, parse_repositories
from dispatcher.jobs.rules import JobRules, TimedAction
from dispatcher.jobs.source import Remarks
from dispatcher.line.textpatterns import Pattern
from dispatcher.names import check_no_duplicates
from dispatcher.simulator.plan import MOST_DEVICES, Option, PlannedDevice, plan_devices


@dataclass(slots=True)
class Simulation:
    """The devices of a run, those with a role that has actions among them.

    `hidden_calls` are the places of what is left out and would have made calls.
    """

    devices: list[PlannedDevice]
    repositories: Repositories
    roles: dict[str, Role] = field(default_factory=dict)  # by device
    messages: list[str] = field(default_factory=list)
    timeout: float | None = None
    hidden_calls: list[Place] = field(default_factory=list)

    def lay_out(self, folder: Path, shell: str | None, *, link: bool = False) -> "LaidOut":
        """Write what the devices run below `folder`. Raises SetupError.

        :param shell: runs all definitions; None: the one that LAVA would take.
        :param link: what a device writes to `folder` no other device sees; so they can have files in common.
        """
        with tempfile.TemporaryDirectory(prefix="checkouts-", dir=folder.parent) as checkouts:
            return self._lay_out(folder, shell, _Copies(self.repositories, Path(checkouts), link))

    def _lay_out(self, folder: Path, shell: str | None, copies: "_Copies") -> "LaidOut":
        devices: list[PlannedDevice] = []
        patterns: dict[str, Pattern] = {}
        actions: dict[str, list[TimedAction]] = {}
        for device in self.devices:
            role = self.roles.get(device.name)
            if role is None:
                devices.append(device)
                continue
            try:
                laid = lay_out(
                    role,
                    folder / device.name,
                    shell or shell_for(role.distribution),
                    lambda: str(uuid.uuid4()),
                    copies.copy,
                )
            except OSError as error:
                raise SetupError(f"the definitions of {device.name} can't be written: {error}") from error
            devices.append(replace(device, command=laid.command, directory=laid.folder))
            patterns |= laid.patterns
            actions[device.name] = laid.actions
        essential = {name: role.place for name, role in self.roles.items() if role.essential}
        return LaidOut(devices, JobRules(actions, essential), patterns)


class _Copies:
    """Copies of checkouts for devices: each is had once from its repository, and from there on from here."""

    def __init__(self, repositories: Repositories, folder: Path, link: bool) -> None:
        self._repositories = repositories
        self._folder = folder
        self._link = link
        self._first: dict[Checkout, Path] = {}

    def copy(self, checkout: Checkout, destination: Path) -> None:
        """Put its files into a folder that does not exist yet. Raises SetupError."""
        if checkout not in self._first:
            first = self._folder / str(len(self._first))
            self._repositories.copy(checkout, first)
            self._first[checkout] = first
        copy_tree(self._first[checkout], destination, link=self._link)


@dataclass(frozen=True, slots=True)
class LaidOut:
    """Devices with their commands, the rules of their job, and their patterns by uuid."""

    devices: list[PlannedDevice]
    rules: JobRules
    patterns: dict[str, Pattern]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that have to do with jobs and definitions."""
    parser.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        help="a job of LAVA (YAML), whose roles and test actions are carried out; or a test definition, which "
        "the roles run that have no command",
    )
    parser.add_argument(
        "--repo",
        metavar="URL=DIR",
        action="append",
        default=[],
        help="the repository that a job names by URL is DIR: a git clone, or a folder; nothing is fetched",
    )
    parser.add_argument(
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter for all definitions, whatever they and the job say",
    )


def read_simulation(arguments: argparse.Namespace, directory: Path) -> Simulation:
    """The devices that the arguments ask for. Raises UsageError or SetupError."""
    repositories = Repositories(parse_repositories(arguments.repo, directory))
    parameters = _parameters(arguments.param)
    file: Path | None = arguments.file
    if file is not None and not is_definition(file):
        return _of_job(read_job(file, repositories), repositories, arguments.devices, parameters, directory)
    planned = plan_devices(arguments.devices, directory, file)
    remarks = Remarks()
    roles: dict[str, Role] = {}
    definitions: dict[Path, Definition] = {}
    carried_out: dict[tuple[str, Path], Role] = {}
    for device in planned:
        if device.definition is not None:
            if device.definition not in definitions:
                definitions[device.definition] = read_bare_definition(
                    device.definition, repositories, remarks
                )
            if (device.role, device.definition) not in carried_out:
                definition = definitions[device.definition]
                action = TestAction(definition.place, definitions=(_with(definition, parameters),))
                role = Role(device.role, 1, definition.place, (action,))
                carried_out[device.role, device.definition] = role
            roles[device.name] = carried_out[device.role, device.definition]
    if file is not None and file not in definitions:
        raise UsageError(f"no device runs {file}; give a role without a command, as in --role client*2")
    if not roles and (parameters or arguments.repo):
        raise UsageError("--repo and --param belong to jobs and test definitions, and there is none")
    return Simulation(
        planned, repositories, roles, [f"{remark.place}: {remark.sentence}" for remark in remarks.all()]
    )


def _of_job(
    job: Job,
    repositories: Repositories,
    options: Sequence[tuple[Option, str]],
    parameters: Sequence[tuple[str, str]],
    directory: Path,
) -> Simulation:
    if options:
        raise UsageError(f"{options[0][0].value}: the devices are those of the job; leave it out")
    simulation = Simulation(
        [],
        repositories,
        {},
        [f"{remark.place}: {remark.sentence}" for remark in job.remarks],
        job.timeout,
        [remark.place for remark in job.remarks if remark.hides_calls],
    )
    for role in job.roles:
        actions = tuple(
            replace(action, definitions=tuple(_with(item, parameters) for item in action.definitions))
            for action in role.actions
        )
        carried_out = replace(role, actions=actions)
        for number in range(1, role.count + 1):
            name = f"{role.name}-{number}"
            simulation.devices.append(PlannedDevice(name, role.name, "", directory))
            simulation.roles[name] = carried_out
    if not simulation.devices:
        raise SetupError(f"{job.place}: the roles of this job have no devices")
    if len(simulation.devices) > MOST_DEVICES:
        raise SetupError(
            f"{job.place}: {len(simulation.devices)} devices are too many; the most is {MOST_DEVICES}"
        )
    check_no_duplicates([device.name for device in simulation.devices])
    for role in job.roles:
        if not role.actions:
            place, sentence = role.place, f"role {role.name!r} has nothing to do: its devices end at once"
            simulation.messages.append(f"{place}: {sentence}")
    return simulation


def _parameters(texts: Sequence[str]) -> list[tuple[str, str]]:
    parameters = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise UsageError(f"--param {text!r:.80}: write NAME=VALUE, with a name that is a shell variable")
        parameters.append((name, value))
    return parameters


def _with(definition: Definition, parameters: Sequence[tuple[str, str]]) -> Definition:
    return replace(definition, parameters=(*definition.parameters, *parameters))
