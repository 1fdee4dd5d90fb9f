# SPDX-License-Identifier: MIT
"""lava-unlock: give back what this device has taken with lava-lock."""

from toolkit.arguments import parse, parse_message_id
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-unlock NAME

Give the lock of this name back: the next device that waits for it in lava-lock gets it.

Options:
  --  NAME follows, even if it begins with '-'
  -h, --help, --version

Exit status:
  0    done
  1    this device does not have the lock; the message says who has
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-lock power-supply
  ./measure.sh
  lava-unlock power-supply
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, _ = parse(arguments, 1, 1, context=context)
    context.request("unlock", parse_message_id(operands[0], "name of a lock"))
    return OK
