# SPDX-License-Identifier: MIT
"""lava-install-packages: install packages, whatever the distribution's package manager."""

import time

from toolkit.arguments import parse
from toolkit.distributions import ENVIRONMENT, package_manager
from toolkit.processes import environment, run_tool
from toolkit.wire.vocabulary import NO, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.client import Context

USAGE = """\
usage: lava-install-packages PACKAGE ...

Install packages with the package manager of this system: apt, dnf, yum, zypper, opkg,
pacman, apk or slackpkg. Mirrors and networks fail: it is tried 5 times, once a minute.
Where there is no such package manager, nothing is done, and that is said: definitions
for all systems name packages for those that have some.

Options:
  --help, --version

Exit status:
  0    installed; or this system has no package manager that is known here
  1    not installed; the package manager has said why
  2    usage
  130  interrupted

Example:
  lava-install-packages iperf3 ethtool
"""

TRIES = 5
PAUSE = 60.0  # seconds


def run(arguments: "list[str]", context: "Context") -> int:
    packages, _ = parse(arguments, 1, len(arguments))
    if any([package.startswith("-") for package in packages]):
        raise UsageError("a package's name does not begin with '-'")
    manager = package_manager(context.environ)
    if manager is None:
        context.warn("this system has no package manager that is known here: nothing has been installed")
        return OK
    environ = environment(context.environ, **ENVIRONMENT)
    for attempt in range(1, TRIES + 1):
        if manager.update:
            run_tool(manager.update, environ)
        status = run_tool(manager.install + packages, environ)
        if not status:
            return OK
        problem = "%s ended with status %d" % (manager.install[0], status)
        if attempt < TRIES:
            context.warn("%s; another try in %d seconds" % (problem, PAUSE))
            time.sleep(PAUSE)
    raise CommandError(NO, "%s, %d times: not installed" % (problem, TRIES))
