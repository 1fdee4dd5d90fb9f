# SPDX-License-Identifier: MIT
"""lava-start-vms: gone; LAVA starts no virtual machines in a group any more."""

from toolkit import removed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.client import Context

SENTENCE = "gone since LAVA 2017.9; start them in the test, and use `lava-send` and `lava-wait`"

USAGE = removed.usage("lava-start-vms", SENTENCE)


def run(arguments: "list[str]", context: "Context") -> int:
    return removed.refuse(SENTENCE)
