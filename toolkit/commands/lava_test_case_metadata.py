# SPDX-License-Identifier: MIT
"""lava-test-case-metadata: gone; lava-test-case records what a test prints."""

from toolkit import removed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

SENTENCE = "gone since LAVA 2018.2; use `lava-test-case ID --shell COMMAND`"

USAGE = removed.USAGE.format(command="lava-test-case-metadata", sentence=SENTENCE)


def run(arguments: "list[str]", context: "Context") -> int:
    return removed.refuse(SENTENCE)
