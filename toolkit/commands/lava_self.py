# SPDX-License-Identifier: MIT
"""lava-self: print the name of this device."""

from toolkit.arguments import parse_words
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-self

Print the name that this device has in the lab. Other devices see the same name
in lava-group, and before each pair that lava-wait-all leaves in the cache file.
It need not be the hostname that the device's own system has.

Options:
  -h, --help, --version

Exit status:
  0    the name has been printed
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-send ready name=$(lava-self)
"""


def run(arguments: "list[str]", context: "Context") -> int:
    parse_words(arguments, 0, context)
    (name,) = context.request("self")
    context.write(name + "\n")
    return OK
