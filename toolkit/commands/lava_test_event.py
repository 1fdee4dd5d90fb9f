# SPDX-License-Identifier: MIT
"""lava-test-event: note in the dispatcher's log that something has happened."""

from toolkit.arguments import parse
from toolkit.reports import parse_text
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.client import Context

USAGE = """\
usage: lava-test-event [--] MESSAGE

Tell the dispatcher that something has happened. MESSAGE is one argument, any text.

Options:
  --  MESSAGE follows, even if it begins with '-'
  --help, --version

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
    (message,), _ = parse(arguments, 1, 1)
    context.request("event", parse_text(message, "message"))
    return OK
