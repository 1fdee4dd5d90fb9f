# SPDX-License-Identifier: MIT
"""lava-add-sources: add package sources to apt."""

from toolkit.distributions import package_manager
from toolkit.processes import environment, find, run_tool
from toolkit.wire.vocabulary import NO, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-add-sources [OPTION ...] SOURCE ...

Add package sources to apt, and read their lists of packages. SOURCE is one argument:
ppa:OWNER/NAME, which needs the program add-apt-repository; or a line in the form of
sources.list(5), with or without `deb` in front, which goes to
/etc/apt/sources.list.d/lavabox.list. With an OPTION, all arguments go to the program
add-apt-repository. On a system without apt nothing is done, with a warning.

Options:
  -h, --help, --version

Exit status:
  0    added; or this system has no apt
  1    not added, or their lists cannot be read; apt has said why
  2    usage
  130  interrupted

Example:
  lava-add-sources "http://deb.debian.org/debian bookworm-backports main"
"""

PATH = "/etc/apt/sources.list.d/lavabox.list"


def run(arguments: "list[str]", context: "Context") -> int:
    if not all([source.strip() and "\n" not in source for source in arguments]):
        raise UsageError("a source must be one line that is not empty")
    if not arguments:
        context.warn("no source is named: nothing has been added")
        return OK
    manager = package_manager(context.environ)
    if manager is None or not manager.apt:
        context.warn("this system has no apt: no source has been added")
        return OK
    environ = environment(context.environ)
    options = [word for word in arguments if word.startswith("-")]
    if options and find("add-apt-repository", environ):
        _add_archive(arguments, environ)
        return OK
    if options:
        context.warn("ignored, since add-apt-repository is not installed: %s" % " ".join(options))
    for source in [word for word in arguments if word not in options]:
        if source.startswith("ppa:"):
            _add_archive([source], environ)
        else:
            _add_line(source if source.startswith("deb") else "deb " + source)
    status = run_tool(manager.update, environ)
    if status:
        raise CommandError(NO, "the lists of packages cannot be read: apt-get ended with status %d" % status)
    return OK


def _add_archive(arguments: "list[str]", environ: "dict[str, str]") -> None:
    source = " ".join(arguments)
    if not find("add-apt-repository", environ):
        raise CommandError(NO, "%s needs add-apt-repository, which is not installed" % source)
    status = run_tool(["add-apt-repository", "-y"] + arguments, environ)
    if status:
        raise CommandError(
            NO, "%s has not been added: add-apt-repository ended with status %d" % (source, status)
        )


def _add_line(line: str) -> None:
    with open(PATH, "a+", encoding="utf-8", errors="surrogateescape") as file:
        file.seek(0)
        if line not in file.read().splitlines():
            file.write(line + "\n")
