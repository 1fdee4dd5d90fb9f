# SPDX-License-Identifier: MIT
"""lava-test-run-attach: keep a file with the results of a test run (old definitions)."""

from toolkit.arguments import parse
from toolkit.attachments import attach
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-run-attach FILE [MIMETYPE]

Keep a copy of FILE in LAVA_RESULT_DIR/attachments on this device, and warn: since LAVA
2018.2 nobody collects it. To have a text in the dispatcher's log, use
`lava-test-case ID --result RESULT --output FILE`.

Options:
  -h, --help, --version

Exit status:
  0    there is a copy
  1    there is none: the file cannot be read or has more than 25 MiB, or there is no
       LAVA_RESULT_DIR
  2    usage

Example:
  lava-test-run-attach /var/log/dmesg text/plain
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, _ = parse(arguments, 1, 2)
    attach(operands[0], operands[1] if len(operands) > 1 else None, [], context)
    return OK
