# SPDX-License-Identifier: MIT
"""lava-start-vms: send the message that once started virtual machines."""

from toolkit.arguments import parse_words
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-start-vms

Send the message lava_vm_start to the group, as LAVA's script does, with a warning: LAVA
itself starts no virtual machines for a group since 2017.9.

Options:
  -h, --help, --version

Exit status:
  0    the dispatcher has the message
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-start-vms
"""


def run(arguments: "list[str]", context: "Context") -> int:
    parse_words(arguments, 0, context)
    context.warn("gone since LAVA 2017.9: no machine is started, only the message lava_vm_start is sent")
    context.request("send", b"lava_vm_start", [])
    return OK
