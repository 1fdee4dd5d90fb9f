# SPDX-License-Identifier: MIT
"""lava-wait-for-vms: wait for the message that virtual machines once sent at their end."""

from toolkit.arguments import parse_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-wait-for-vms

Do `lava-send lava_vm_stop` and `lava-wait-all lava_vm_stop`, as LAVA's script does,
with a warning: LAVA itself starts no virtual machines for a group since 2017.9.

Options:
  -h, --help, --version

Exit status:
  0    all other devices have sent it
  1    they did not; see `lava-wait-all --help`
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-wait-for-vms
"""


def run(arguments: "list[str]", context: "Context") -> int:
    from toolkit.commands import lava_send, lava_wait_all

    parse_words(arguments, 0, context)
    context.warn("gone since LAVA 2017.9: no machine is waited for, only the message lava_vm_stop")
    lava_send.run(["lava_vm_stop"], context)
    return lava_wait_all.run(["lava_vm_stop"], context)
