# SPDX-License-Identifier: MIT
"""lava-test-set: put the test cases that follow into a named set."""

from toolkit.arguments import parse, quote
from toolkit.reports import parse_name
from toolkit.wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.client import Context

USAGE = """\
usage: lava-test-set start NAME
       lava-test-set stop [NAME]

Open a test set: the test cases that this device records from now on belong to it,
until it is stopped. Sets do not nest. NAME may be any text; stop does not look at it.

Options:
  --help, --version

Exit status:
  0    the dispatcher has it
  1    start: a set is open already; stop: none is open. Nothing has changed
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-test-set start network
  lava-test-case ping --shell ping -c 1 192.168.1.1
  lava-test-set stop
"""


def run(arguments: "list[str]", context: "Context") -> int:
    verb, rest = arguments[:1], arguments[1:]
    if verb == ["start"]:
        (name,), _ = parse(rest, 1, 1)
        context.request("set-start", parse_name(name, "name of the test set"))
    elif verb == ["stop"]:
        context.request("set-stop")
    elif verb:
        raise UsageError("%s is neither start nor stop" % quote(verb[0]))
    else:
        raise UsageError("say start or stop")
    return OK
