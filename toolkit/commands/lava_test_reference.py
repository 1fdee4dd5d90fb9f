# SPDX-License-Identifier: MIT
"""lava-test-reference: record the result of a test case, and where to read more of it."""

from toolkit.arguments import parse
from toolkit.reports import parse_name, parse_result, parse_text, required
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-reference [--] ID --result RESULT --reference URL

Record the result of the test case ID, with the address of a page about it: a log, a
graph, a page of another test system. ID and URL may be any text.

Options:
  --result RESULT  pass, fail, skip or unknown
  --reference URL  where to read more
  --               no options follow
  -h, --help, --version

Exit status:
  0    the dispatcher has the result
  2    usage; nothing has been recorded, and the dispatcher is told of it
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-test-reference boot-time --result pass --reference https://example.org/graph/7
"""


def run(arguments: "list[str]", context: "Context") -> int:
    (name,), options = parse(arguments, 1, 1, ("--result", "--reference"))
    test_case = parse_name(name, "id")
    result = parse_result(required(options, "--result"))
    reference = parse_text(required(options, "--reference"), "reference")
    context.request("reference", test_case, result, reference)
    return OK
