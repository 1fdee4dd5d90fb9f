# SPDX-License-Identifier: MIT
"""What the dispatcher's configuration says of this device, for the commands that print it."""

from .arguments import parse_words
from .wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

# Of a command's name, a sentence, and an example.
USAGE = """\
usage: %s

%s
It comes from the dispatcher's configuration of this device; the line is empty if that
has none.

Options:
  -h, --help, --version

Exit status:
  0    the line has been printed
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  %s
"""


def print_value(key: str, arguments: "list[str]", context: "Context") -> int:
    """Print the value of a key, or an empty line: scripts compare it with nothing."""
    parse_words(arguments, 0, context)
    values = context.request("config", key)
    context.write("".join(values[:1]) + "\n")
    return OK
