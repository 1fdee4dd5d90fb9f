# SPDX-License-Identifier: MIT
"""lava-test-event: note in the dispatcher's log that something has happened."""

from toolkit.reports import parse_text
from toolkit.wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-event [--] MESSAGE

Tell the dispatcher that something has happened. MESSAGE is one argument, any text.

Options:
  --  MESSAGE follows, even if it is '--help' or the like
  -h, --help, --version

Exit status:
  0    the dispatcher has the message
  2    usage; nothing has been sent
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-test-event "firmware written"
"""


def run(arguments: "list[str]", context: "Context") -> int:
    if not any(arguments):
        context.warn("no message is given: nothing has been sent")
        return OK
    words = arguments[1:] if arguments[0] == "--" else arguments
    if any(words[1:]):
        raise UsageError("give the message as one argument: quote it")
    context.request("event", parse_text(words[0] if words else "", "message"))
    return OK
