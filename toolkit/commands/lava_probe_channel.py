# SPDX-License-Identifier: MIT
"""lava-probe-channel: print the channel of the measuring probe of this device."""

from toolkit import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = configuration.USAGE % (
    "lava-probe-channel",
    "Print the channel of its probe that this device is connected to.",
    "channel=$(lava-probe-channel)",
)


def run(arguments: "list[str]", context: "Context") -> int:
    return configuration.print_value("probe-channel", arguments, context)
