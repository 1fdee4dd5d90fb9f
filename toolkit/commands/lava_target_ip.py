# SPDX-License-Identifier: MIT
"""lava-target-ip: print the IP address of this device."""

from toolkit import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = configuration.USAGE % (
    "lava-target-ip",
    "Print the IP address by which the lab reaches this device.",
    "address=$(lava-target-ip)",
)


def run(arguments: "list[str]", context: "Context") -> int:
    return configuration.print_value("target-ip", arguments, context)
