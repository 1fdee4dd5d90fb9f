# SPDX-License-Identifier: MIT
"""lava-test-case-attach: keep a file with the results of a test case (old definitions)."""

from toolkit.arguments import parse, quote
from toolkit.attachments import attach
from toolkit.wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-case-attach ID FILE [MIMETYPE]

Keep a copy of FILE in LAVA_RESULT_DIR/results/ID/attachments on this device, and warn:
since LAVA 2018.2 nobody collects it. To have a text in the dispatcher's log, use
`lava-test-case ID --result RESULT --output FILE`.

Options:
  -h, --help, --version

Exit status:
  0    there is a copy
  1    there is none: the file cannot be read or has more than 25 MiB, or there is no
       LAVA_RESULT_DIR
  2    usage

Example:
  lava-test-case-attach boot /var/log/dmesg text/plain
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, _ = parse(arguments, 2, 3)
    if "/" in operands[0] or operands[0] in ("", ".", ".."):
        raise UsageError("%s cannot be an id: it has to be the name of a folder" % quote(operands[0]))
    attach(operands[1], operands[2] if len(operands) > 2 else None, ["results", operands[0]], context)
    return OK
