# SPDX-License-Identifier: MIT
"""What is to be simulated: from the arguments of `lavabox sim` to devices with their commands."""

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dispatcher.errors import UsageError
from dispatcher.files import open_regular
from dispatcher.names import check_name, check_no_duplicates

# More shells than this on one machine is a slip of the keyboard.
MOST_DEVICES = 1000

# The first word of a shell command, if there is nothing about it that a shell would treat.
_PLAIN_WORD = re.compile(r"\s*([^\s;&|<>()$`\"'\\*?\[#~=%!{}]+)(?=\s|[;&|<>]|$)")

# A command that is one of these is no command.
_DEFINITION_FILE = re.compile(r"\s*[^\s;&|<>()$`\"'\\*?\[#~=%!{}]+\.ya?ml\s*")


class Option(Enum):
    """The two ways to name devices; the values are the options."""

    ROLE = "--role"
    DEVICE = "--device"


@dataclass(frozen=True, slots=True)
class PlannedDevice:
    """A device to simulate: a shell command in a folder, or a file with a test definition instead."""

    name: str
    role: str
    command: str
    directory: Path
    definition: Path | None = None


def plan_devices(
    options: Iterable[tuple[Option, str]], directory: Path, definition: Path | None = None
) -> list[PlannedDevice]:
    """The devices that --role and --device ask for, in that order.

    Raises UsageError.

    :param directory: where lavabox was called; commands name their scripts from there.
    :param definition: the test definition that those run who have no command.
    """
    devices = []
    for option, text in options:
        try:
            of_option = _of_role if option is Option.ROLE else _of_name
            devices += of_option(text, directory, definition)
        except UsageError as error:
            raise UsageError(f"{option.value} {text!r:.80}: {error}") from None
    if not devices:
        if definition is not None:
            raise UsageError(
                f"{definition} is a test definition: say which devices run it, as in --role client*2"
            )
        raise UsageError(
            "no devices; name them with --role ROLE=COMMAND or --device NAME:ROLE=COMMAND, or give a job"
        )
    if len(devices) > MOST_DEVICES:
        raise UsageError(f"{len(devices)} devices are too many; the maximum is {MOST_DEVICES}")
    check_no_duplicates([device.name for device in devices])
    return devices


def _of_role(text: str, directory: Path, definition: Path | None) -> list[PlannedDevice]:
    head, command = _split(text, "ROLE=COMMAND or ROLE*COUNT=COMMAND", definition)
    role, star, count_text = head.partition("*")
    count = 1
    if star:
        count = int(count_text) if re.fullmatch("[0-9]{1,9}", count_text) else 0
        if not 1 <= count <= MOST_DEVICES:
            raise UsageError(f"COUNT after '*' must be from 1 to {MOST_DEVICES}, not {count_text!r:.40}")
    return [_planned(f"{role}-{number}", role, command, directory) for number in range(1, count + 1)]


def _of_name(text: str, directory: Path, definition: Path | None) -> list[PlannedDevice]:
    wanted = "NAME:ROLE=COMMAND"
    head, command = _split(text, wanted, definition)
    name, colon, role = head.partition(":")
    if not colon:
        raise UsageError(f"the role is missing; write {wanted}")
    return [_planned(name, role, command, directory)]


def _split(text: str, wanted: str, definition: Path | None) -> tuple[str, str | Path]:
    """What stands before the command, and the command or the definition in its place."""
    head, equals, command = text.partition("=")
    if not equals and definition is not None:
        return head, definition
    if not equals or not command.strip():
        raise UsageError(f"the command is missing; write {wanted}")
    if _DEFINITION_FILE.fullmatch(command):
        return head, Path(command.strip())
    return head, command


def _planned(name: str, role: str, command: str | Path, directory: Path) -> PlannedDevice:
    check_name("role", role)
    check_name("device", name)
    if isinstance(command, Path):
        return PlannedDevice(name, role, "", directory, command)
    command, folder = _at_its_script(command, directory)
    return PlannedDevice(name, role, command, folder)


def check_interpreter(script: Path, name: str) -> None:
    """Raises UsageError if no shell could start the script, as a CR ends its `#!` line: shells say "not found" then."""
    try:
        with open_regular(script) as file:
            first = file.readline(256)
    except OSError:
        return
    if first.startswith(b"#!") and first.endswith(b"\r\n"):
        interpreter = os.fsdecode(first[2:-1].strip(b" "))
        raise UsageError(
            f"{name}: its lines end with CR LF, so its interpreter would be {interpreter!r}; "
            f"remove the CRs: `sed -i 's/\\r$//' {name}`"
        )


def _at_its_script(command: str, directory: Path) -> tuple[str, Path]:
    """The command as it reads in the folder of the script that it starts, and that folder.

    A command that starts no script of its own stays in `directory`.
    """
    match = _PLAIN_WORD.match(command)
    if match is None:
        return command, directory
    word = match[1]
    script = Path(os.path.normpath(directory / word))
    # A program of the system, such as /bin/sh, is no script of the test.
    if word.startswith("/") and str(script.parent) in (*os.get_exec_path(), "/bin", "/usr/bin"):
        return command, directory
    if not os.path.isfile(script):
        if word.startswith(("./", "../")):
            raise UsageError(f"there is no file {word} in {directory}")
        return command, directory
    if not os.access(script, os.X_OK):
        # A bare word may just be called like a file.
        if "/" not in word:
            return command, directory
        raise UsageError(f"{word} is not executable; run `chmod +x {word}`, or write 'sh {word}'")
    check_interpreter(script, word)
    return f"./{shlex.quote(script.name)}{command[match.end() :]}", script.parent
