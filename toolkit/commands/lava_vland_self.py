# SPDX-License-Identifier: MIT
"""lava-vland-self: gone; LAVA makes no VLANs any more."""

from toolkit import removed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

SENTENCE = "gone since LAVA 2026.06, as its VLANs are; name the network in a test parameter"

USAGE = removed.USAGE.format(command="lava-vland-self", sentence=SENTENCE)


def run(arguments: "list[str]", context: "Context") -> int:
    return removed.refuse(SENTENCE)
