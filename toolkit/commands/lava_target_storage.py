# SPDX-License-Identifier: MIT
"""lava-target-storage: print which storage devices of this device a test may write to."""

from toolkit.arguments import parse_words, to_text
from toolkit.wire.vocabulary import NO, OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-target-storage [METHOD]

Print the storage devices that the dispatcher's configuration of this device names, one
a line: a tab, the method, a tab, the id. With METHOD, such as UMS or SATA, print only
the id of that method.

Options:
  -h, --help, --version

Exit status:
  0    done
  1    there is no storage device of this method; nothing is printed
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  disk=/dev/disk/by-id/$(lava-target-storage UMS)
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands = parse_words(arguments, 1, context)
    values = context.request("config", "target-storage")
    pairs = list(zip(values[::2], values[1::2]))
    if operands:
        wanted = to_text(operands[0])
        found = [name + "\n" for method, name in pairs if method == wanted]
        context.write("".join(found))
        return OK if found else NO
    context.write("".join(["\t%s\t%s\n" % pair for pair in pairs]))
    return OK
