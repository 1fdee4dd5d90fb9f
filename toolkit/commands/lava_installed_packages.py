# SPDX-License-Identifier: MIT
"""lava-installed-packages: list the packages that are installed."""

from toolkit.arguments import parse_words
from toolkit.distributions import installed_packages, package_manager
from toolkit.processes import environment
from toolkit.wire.vocabulary import NO, OK, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-installed-packages

Print a line `package: NAME : VERSION` for each package that the package manager of
this system has installed: dpkg, rpm, opkg, pacman, apk or slackpkg.

Options:
  -h, --help, --version

Exit status:
  0    they have been printed
  1    this system has no package manager that is known here, or it failed
  2    usage
  130  interrupted

Example:
  lava-installed-packages | grep '^package: bash :'
"""


def run(arguments: "list[str]", context: "Context") -> int:
    parse_words(arguments, 0, context)
    manager = package_manager(context.environ)
    if manager is None:
        raise CommandError(NO, "this system has no package manager that is known here")
    packages = installed_packages(manager, environment(context.environ))
    context.write("".join(["package: %s : %s\n" % package for package in packages]))
    return OK
