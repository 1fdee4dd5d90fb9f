# SPDX-License-Identifier: MIT
"""lava-install-packages: install packages, whatever the distribution's package manager."""

import time

from toolkit.distributions import ENVIRONMENT, package_manager
from toolkit.processes import environment, run_tool
from toolkit.wire.vocabulary import NO, OK, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-install-packages [OPTION ...] PACKAGE ...

Install packages with the package manager of this system: apt, dnf, yum, zypper, opkg,
pacman, apk or slackpkg. It gets all arguments as they are, also options of its own. As
mirrors and networks may fail, it is tried 5 times, once a minute. On a system without a
package manager nothing is done, with a warning.

Options:
  -h, --help, --version

Exit status:
  0    installed; or this system has no package manager that is known here
  1    not installed; the package manager has said why
  130  interrupted

Example:
  lava-install-packages iperf3 ethtool
"""

TRIES = 5
PAUSE = 60.0  # seconds


def run(arguments: "list[str]", context: "Context") -> int:
    if not arguments:
        context.warn("no package is named: nothing has been installed")
        return OK
    manager = package_manager(context.environ)
    if manager is None:
        context.warn("this system has no package manager that is known here: nothing has been installed")
        return OK
    environ = environment(context.environ, **ENVIRONMENT)
    for attempt in range(1, TRIES + 1):
        if manager.update:
            run_tool(manager.update, environ)
        status = run_tool(manager.install + arguments, environ)
        if not status:
            return OK
        problem = "%s ended with status %d" % (manager.install[0], status)
        if attempt < TRIES:
            context.warn("%s; another try in %d seconds" % (problem, PAUSE))
            time.sleep(PAUSE)
    raise CommandError(NO, "%s, %d times: not installed" % (problem, TRIES))
