# SPDX-License-Identifier: MIT
"""lava-os-build: print what system this device runs."""

from toolkit.arguments import parse_words
from toolkit.distributions import description
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-os-build

Print the name and the version of the operating system, one line. They come from
/etc/os-release, else /etc/issue and the like, else the kernel.

Options:
  -h, --help, --version

Exit status:
  0    the line has been printed
  2    usage

Example:
  lava-test-event "running on $(lava-os-build)"
"""


def run(arguments: "list[str]", context: "Context") -> int:
    parse_words(arguments, 0, context)
    context.write(description() + "\n")
    return OK
