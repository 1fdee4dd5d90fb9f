# SPDX-License-Identifier: MIT
"""lava-test-raise: say that the test run cannot go on."""

from toolkit.reports import parse_text
from toolkit.wire.vocabulary import NO, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-raise [--] MESSAGE ...

Tell the dispatcher that this test run cannot go on, and why. The exit status is never
0, so that a script under `set -e` ends here. The words of MESSAGE may be any text.

Options:
  --  MESSAGE follows, even if it begins with '--help' or '--version'
  -h, --help, --version

Exit status:
  1    the dispatcher has the message
  2    usage; nothing has been recorded, and the dispatcher is told of it
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  mount /dev/sda1 /mnt || lava-test-raise "no disk to test with"
"""


def run(arguments: "list[str]", context: "Context") -> int:
    words = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not words:
        raise UsageError("a message is missing")
    context.request("raise", parse_text(" ".join(words), "message"))
    return NO
