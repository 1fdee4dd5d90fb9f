# SPDX-License-Identifier: MIT
"""lava-group: list the devices of the group, or those of one role, or what each of them does."""

from toolkit.arguments import parse_words, to_text
from toolkit.wire.vocabulary import NO, OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-group [ROLE]
       lava-group --state [ROLE]

Print one line per device of the group, this one among them: its name, a tab, its role.
With ROLE, print only the names of the devices that play exactly this role.

With --state, print what each device does, or each of this role: name, role, state, and
details, with tabs between. The states:
  running  it does not wait in any command
  waiting  the details are the command, and for whom it waits
  lost     its console is not connected, or shows a crash or a boot; details: why
  ended    it takes part no longer; details: how it ended
  absent   it has not joined yet

Options:
  --state  print what the devices do
  -h, --help, --version

Exit status:
  0    done
  1    no device plays this role; nothing is printed
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Examples:
  lava-group | cut -f 1
  for device in $(lava-group backend); do echo "$device"; done
  lava-group --state | awk -F '\t' '$3 == "ended" {print $1}'
"""


def run(arguments: "list[str]", context: "Context") -> int:
    if arguments[:1] == ["--state"]:
        return _print_state(arguments[1:], context)
    operands = parse_words(arguments, 1, context)
    wanted = to_text(operands[0]) if operands else None
    members = context.request("group")
    if wanted is None:
        lines = ["%s\t%s\n" % (name, role) for name, role in members]
    else:
        lines = [name + "\n" for name, role in members if role == wanted]
    context.write("".join(lines))
    return OK if lines else NO


def _print_state(arguments: "list[str]", context: "Context") -> int:
    operands = parse_words(arguments, 1, context)
    wanted = to_text(operands[0]) if operands else None
    found = ["\t".join(row).rstrip() for row in context.request("state") if wanted in (None, row[1])]
    context.write("".join([line + "\n" for line in found]))
    return OK if found else NO
