# SPDX-License-Identifier: MIT
"""lava-echo-config: print the configuration that the devices of the group share."""

from toolkit.arguments import parse_words, to_bytes
from toolkit.wire.vocabulary import NO, OK, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-echo-config [NAME]

Print the text that the dispatcher's configuration has for all devices of the group.
With NAME, print only those of its lines in which NAME is a word.

Options:
  -h, --help, --version

Exit status:
  0    done
  1    there is no such text, or no such line; nothing is printed
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-echo-config "$(lava-self)"
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands = parse_words(arguments, 1, context)
    text = "".join(context.request("shared-config")).encode()
    if not text:
        raise CommandError(NO, "no shared config")
    lines = text.splitlines()
    if operands:
        name = to_bytes(operands[0])
        lines = [line for line in lines if name in line.split()]
        if not lines:
            raise CommandError(NO, "no matching devices")
    context.write(b"".join([line + b"\n" for line in lines]))
    return OK
