# SPDX-License-Identifier: MIT
"""The way in: from the steps of a definition to what they do on one device."""

from collections.abc import Mapping

from dispatcher.plan.calls import DeviceNames, Item, ReadFile
from dispatcher.plan.shell.output import substitute
from dispatcher.plan.shell.scope import Source
from dispatcher.plan.shell.statements import VISITS
from dispatcher.plan.shell.walker import Walker


def read_script(
    source: Source,
    names: DeviceNames,
    read_file: ReadFile,
    variables: Mapping[str, str],
    environment: Mapping[str, str],
    written: list[str],
) -> list[Item]:
    """What a script does, in order. It begins in the definition's folder.

    :param variables: of its shell; what that runs does not have them, but has those of `environment`.
    :param written: texts with calls that were written to files of the device; this script's are added.
    """
    walker = Walker(names, read_file, VISITS, substitute, written)
    walker.run(source, variables, environment)
    return walker.items
