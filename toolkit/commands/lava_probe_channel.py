# SPDX-License-Identifier: MIT
"""lava-probe-channel: print the channel of the measuring probe of this device."""

from toolkit import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = configuration.USAGE % (
    "lava-probe-channel",
    "Print the channel of the measuring probe to which this device is connected.",
    "channel=$(lava-probe-channel)",
)


def run(arguments: "list[str]", context: "Context") -> int:
    return configuration.print_value("probe-channel", arguments, context)
