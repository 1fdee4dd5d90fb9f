# SPDX-License-Identifier: MIT
"""lava-echo-ipv4: print the IPv4 address of a network interface."""

from toolkit import netlink
from toolkit.arguments import parse_words
from toolkit.network import find_link
from toolkit.wire.vocabulary import NO, OK, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-echo-ipv4 INTERFACE

Print the IPv4 address of a network interface, the kernel's first if it has several,
or an empty line if it has none. It is asked of the kernel: no dispatcher is needed.

Options:
  -h, --help, --version

Exit status:
  0    the line has been printed; also if there is no such interface: that is a warning
  2    usage
  130  interrupted

Example:
  address=$(lava-echo-ipv4 eth0)
"""


def run(arguments: "list[str]", context: "Context") -> int:
    words = parse_words(arguments, 1, context)
    try:
        if not words:
            raise CommandError(NO, "name a network interface")
        found = [address.address for address in netlink.addresses(netlink.IPV4, find_link(words[0]).index)]
    except CommandError as error:
        # Scripts that look for an empty answer run under `set -e`.
        context.warn(error.text)
        found = []
    context.write("".join(found[:1]) + "\n")
    return OK
