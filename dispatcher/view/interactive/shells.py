# SPDX-License-Identifier: MIT
"""Devices that are a shell for a person to type to."""

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dispatcher.errors import UsageError
from dispatcher.simulator.plan import Option, PlannedDevice

# Stands for the command of a device that has none; nobody would write it by chance.
_NONE = ": lavabox interactive shell"


def with_shells(options: Iterable[tuple[Option, str]]) -> list[tuple[Option, str]]:
    """The same --role and --device options; what has no command gets a mark for `fill_shells`."""
    return [(option, text if "=" in text else f"{text}={_NONE}") for option, text in options]


def fill_shells(
    planned: Sequence[PlannedDevice], chosen: str, shell: Sequence[str]
) -> tuple[list[PlannedDevice], str, set[str]]:
    """The devices, with a shell where there is no command, and on the chosen one.

    Returns them, the name of the chosen one, and the names of those with a shell. Raises UsageError.

    :param chosen: a name; "": the first device without a command, or else the first one.
    """
    names = [device.name for device in planned]
    shells = {device.name for device in planned if device.command == _NONE}
    if chosen and chosen not in names:
        raise UsageError(f"--interactive {chosen}: there is no such device; there are {', '.join(names)}")
    chosen = chosen or next((name for name in names if name in shells), names[0])
    shells.add(chosen)
    devices = [
        replace(device, command=_command(device.name, shell)) if device.name in shells else device
        for device in planned
    ]
    return devices, chosen, shells


def _command(name: str, shell: Sequence[str]) -> str:
    # A startup file of the user's would change the prompt, which tells the devices apart.
    options = ["--norc", "-i"] if os.path.basename(shell[0]) == "bash" else ["-i"]
    # In a prompt, shells treat some characters.
    prompt = re.sub(r"[^\w.+-]", "?", name)
    return shlex.join(["exec", "env", f"PS1={prompt}# ", "HISTFILE=", *_program(shell), *options])


def _program(shell: Sequence[str]) -> Sequence[str]:
    """Without options, of which some, as -e, are of no use to a person; but with BusyBox's applet."""
    return shell[:2] if os.path.basename(shell[0]).startswith("busybox") else shell[:1]
