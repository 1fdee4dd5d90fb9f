# SPDX-License-Identifier: MIT
"""lava-target-mac: print the MAC address of this device."""

from toolkit import configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = configuration.USAGE % (
    "lava-target-mac",
    "Print the MAC address of this device's network interface.",
    '[ "$(cat /sys/class/net/eth0/address)" = "$(lava-target-mac)" ]',
)


def run(arguments: "list[str]", context: "Context") -> int:
    return configuration.print_value("target-mac", arguments, context)
