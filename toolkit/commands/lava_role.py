# SPDX-License-Identifier: MIT
"""lava-role: print the role of this device, or the roles of all."""

from toolkit.arguments import parse_words
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-role [list]

Print the role that this device plays in the test.
With `list`, print the role of each device of the group, one line per device,
in the order of lava-group: a role that three devices play is printed three times.

Options:
  -h, --help, --version

Exit status:
  0    done
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Examples:
  ./run-$(lava-role).sh
  lava-role list | sort -u
"""


def run(arguments: "list[str]", context: "Context") -> int:
    if arguments[:1] == ["list"]:
        parse_words(arguments, 1, context)
        roles = [role for _, role in context.request("group")]
    else:
        parse_words(arguments, 0, context)
        roles = context.request("role")
    context.write("".join(role + "\n" for role in roles))
    return OK
