# SPDX-License-Identifier: MIT
"""From a job to what each of its devices does, as far as its definitions tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dispatcher.jobs.model import Definition, Place, Request, Role, Step
from dispatcher.jobs.text import UNKNOWN, known
from dispatcher.plan.calls import Call, CallKind, DeviceNames, Item, ReadFile
from dispatcher.plan.shell.reading import read_script
from dispatcher.plan.shell.scope import Source

# The message for which a role with `starts_after` waits.
START_ID = "lava_start"

# How to read the files of a definition.
FilesOf = Callable[[Definition], ReadFile]


@dataclass(frozen=True, slots=True)
class Program:
    """What one device does, in order."""

    device: str
    role: str
    items: tuple[Item, ...]

    @property
    def calls(self) -> list[Call]:
        """The multi-node calls of it."""
        return [item for item in self.items if isinstance(item, Call)]


def programs(devices: Sequence[tuple[str, Role]], files_of: FilesOf) -> list[Program]:
    """What all devices do: each is given by its name and the role that it plays."""
    group = tuple((device, role.name) for device, role in devices)
    # A role is read once, unless what it does depends on the device's name.
    read: dict[int, tuple[Item, ...]] = {}
    found = []
    for device, role in devices:
        items = read.get(id(role))
        if items is None:
            names = DeviceNames(device, role.name, group)
            items = tuple(_items(role, names, files_of))
            if not names.asked:
                read[id(role)] = items
        found.append(Program(device, role.name, items))
    return found


def _items(role: Role, names: DeviceNames, files_of: FilesOf) -> list[Item]:
    items: list[Item] = []
    written: list[str] = []
    if role.starts_after is not None:
        text = f"lava-wait-all {START_ID} {role.starts_after}"
        items.append(Call(role.place, text, CallKind.WAIT_ALL, known(START_ID), known(role.starts_after)))
    for action in role.actions:
        items += map(_requested, action.requests)
        # As in LAVA, everything is installed before the first definition runs.
        for definition in action.definitions:
            items += _walked(role, definition, definition.install, names, files_of, written)
        for definition in action.definitions:
            items += _walked(role, definition, definition.steps, names, files_of, written)
    return items


def _requested(request: Request) -> Call:
    kind = CallKind(request.command)
    # LAVA's dispatcher fills in what begins with a $.
    data = tuple(
        (known(key), UNKNOWN if value.startswith("$") else known(value)) for key, value in request.data
    )
    role = None if request.role is None else known(request.role)
    words = [request.command, request.message_id, *([request.role] if request.role else [])]
    words += [f"{key}={value}" for key, value in request.data]
    # Its time-out bounds what it takes in a good run: the wait is not meant to end that way.
    return Call(request.place, " ".join(words), kind, known(request.message_id), role, data)


def _walked(
    role: Role,
    definition: Definition,
    steps: Sequence[Step],
    names: DeviceNames,
    files_of: FilesOf,
    written: list[str],
) -> list[Item]:
    if not steps:
        return []
    return read_script(
        source_of(steps),
        names,
        files_of(definition),
        dict(definition.parameters),
        dict(role.environment),
        written,
    )


def source_of(steps: Sequence[Step]) -> Source:
    """The steps as one script."""
    places: list[Place] = []
    for step in steps:
        lines = step.text.count("\n") + 1
        places += [Place(step.place.file, step.place.line + line) for line in range(lines)]
    return Source("\n".join(step.text for step in steps), tuple(places))
