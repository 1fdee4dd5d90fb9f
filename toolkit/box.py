# SPDX-License-Identifier: MIT
"""What the box does by itself, as `lavabox --list` or `lavabox --install`; and names that no command has."""

import sys

from . import VERSION
from .arguments import quote
from .commands import COMMANDS
from .missing import NOT_FOUND
from .wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .context import Context

    class Box(Protocol):
        """The zipapp: the path of its file, and the Python that it has bytecode for."""

        path: str
        version: str
        build: bytes


# Commands of the package for the host: people look for them here too.
HOST_COMMANDS = ("sim", "serve", "hook", "flow")

# So alike is a name to the one that was meant: letters to add, to take away, to replace or to exchange.
_SLIPS = 2

USAGE = """\
usage: lavabox COMMAND [ARGUMENT ...]
       lavabox --list
       lavabox --install [-s] DIRECTORY

The lava-* commands for test scripts on a device. They talk over its console to
the dispatcher that reads it. A link to this file, named after a command, starts
that command.

Options:
  --list                    print the names of the commands
  --install [-s] DIRECTORY  make a link for each command in DIRECTORY:
                            a hard link, or with -s a symbolic one. Into an
                            image (.../usr/bin) the box is copied, too, if it
                            is not in there
  -e FILE, -c TEXT          be the shell, as LAVA's runner starts it (SHELL=.../lavabox):
                            FILE is a run.sh of LAVA's
  -h, --help, --version

Commands (COMMAND --help says more):
%s
Exit status: that of the command; 1 where not all links could be made, 2 usage,
127 for an unknown command.

Example:
  lavabox --install -s /usr/local/bin && lava-self
""" % "".join("  %-29s  %s\n" % entry for entry in sorted(COMMANDS.items()))


def run(arguments: "list[str]", context: "Context", box: "Box | None") -> int:
    """Carry out what the box itself does; returns the exit status. Raises UsageError, or OSError where nothing can be printed."""
    option = arguments[0] if arguments else ""
    if option == "--version":
        context.write("lavabox %s\n" % VERSION)
        if box is not None:
            ours = sys.implementation.cache_tag
            same = "this is one" if ours == box.version else "this is %s, and runs from source" % ours
            context.write("bytecode for %s; %s\n" % (box.version, same))
        return OK
    if arguments == ["--list"]:
        context.write("".join(name + "\n" for name in sorted(COMMANDS)))
        return OK
    if option == "--install":
        from .install import install

        return install(arguments[1:], context, box.path if box is not None else None)
    if option in ("-e", "-c"):
        from .lavashell import execute

        return execute(arguments, context, box.path if box is not None else None)
    if not option:
        raise UsageError("a command is missing")
    if option == "--list":
        raise UsageError("--list takes no arguments")
    raise UsageError("unknown option '%s'" % option)


def unknown(name: str, context: "Context") -> int:
    """Say that there is no command of this name, and which one may be meant; returns the exit status."""
    shown = quote(name)
    if name in HOST_COMMANDS:
        what = "%s runs on the lab's host, not on a device: it is a command of the Python package" % shown
    else:
        what = "there is no command %s" % shown
        alike = _most_alike(name)
        if alike:
            what += ": did you mean %s?" % alike
    context.complain("lavabox: %s\n`lavabox --list` prints the commands." % what)
    return NOT_FOUND


def _most_alike(name: str) -> str:
    """The command that was meant, or "" if there is none that is alike."""
    name = name.lower().replace("_", "-")[:64]
    if not name.startswith("lava-"):
        name = "lava-" + name
    slips, command = min([(_slips(name, command), command) for command in COMMANDS])
    return command if slips <= _SLIPS else ""


def _slips(one: str, other: str) -> int:
    """How many letters have to be added, taken away, replaced or exchanged with the next one."""
    before, row = [], list(range(len(other) + 1))  # type: tuple[list[int], list[int]]
    for i, letter in enumerate(one):
        new = [i + 1]
        for j, wanted in enumerate(other):
            best = min(row[j + 1] + 1, new[j] + 1, row[j] + (letter != wanted))
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                best = min(best, before[j - 1] + 1)
            new.append(best)
        before, row = row, new
    return row[-1]
