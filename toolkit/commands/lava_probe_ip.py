# SPDX-License-Identifier: MIT
"""lava-probe-ip: print the IP address of the measuring probe of this device."""

from toolkit import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = configuration.USAGE % (
    "lava-probe-ip",
    "Print the IP address of the probe that measures this device, of its power for instance.",
    "probe=$(lava-probe-ip)",
)


def run(arguments: "list[str]", context: "Context") -> int:
    return configuration.print_value("probe-ip", arguments, context)
