# SPDX-License-Identifier: MIT
"""Finds the command that is meant, and runs it.

It is the name of the box, where that is a link: `lava-send ID`; else the first
argument: `lavabox lava-send ID`.
"""

import posix  # `os` takes longer to start than all of this
import sys

from . import VERSION
from .commands import COMMANDS, module_name
from .thin import unwind_when_told_to_end
from .wire.vocabulary import INTERRUPTED, NO, OK, USAGE, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from .context import Context

    class Box(Protocol):
        """The zipapp: the path of its file, and the Python that it has bytecode for."""

        path: str
        version: str
        build: bytes

    Run = Callable[[list[str], Context], int]

# What a shell reports for a command that it does not find.
NOT_FOUND = 127

# Commands of the package for the host: people look for them here too.
HOST_COMMANDS = ("sim", "serve")

BOX_USAGE = """\
usage: lavabox COMMAND [ARGUMENT ...]
       lavabox --list
       lavabox --install [-s] DIRECTORY

The lava-* commands for test scripts on a device. They talk over its console to
the dispatcher that reads it. A link to this file, named after a command, starts
that command.

Options:
  --list                    print the names of the commands
  --install [-s] DIRECTORY  make a link for each command in DIRECTORY:
                            a hard link, or with -s a symbolic one
  --help, --version

Commands (COMMAND --help says more):
%s
Exit status: that of the command; 1 where not all links could be made, 2 usage,
127 for an unknown command.

Example:
  lavabox --install -s /usr/local/bin && lava-self
""" % "".join("  %-29s  %s\n" % entry for entry in sorted(COMMANDS.items()))


def main(argv: "list[str]", box: "Box | None" = None, identity: "bytes | None" = None) -> int:
    """The exit status of what `argv` asks for.

    :param box: the zipapp, where this runs from it.
    :param identity: of the command's first request, where that may have been sent already.
    """
    from .context import Context

    _mend_standard_files()
    unwind_when_told_to_end()
    environ = {decoded(name): decoded(value) for name, value in posix.environ.items()}
    name, arguments = meant(argv)
    if not name:
        context = Context("lavabox", environ)
        return _run(BOX_USAGE, lambda options, context: _box(options, context, box), arguments, context)
    if name not in COMMANDS:
        return _unknown(Context("lavabox", environ), name)
    return run(arguments, Context(name, environ, identity))


def meant(argv: "list[str]") -> "tuple[str, list[str]]":
    """The command that is meant, "" for the box itself, and its arguments."""
    name, arguments = argv[0].rpartition("/")[2], argv[1:]
    if name.startswith("lava-"):
        return name, arguments
    if not arguments or arguments[0].startswith("-"):
        return "", arguments
    return arguments[0], arguments[1:]


def run(arguments: "list[str]", context: "Context") -> int:
    """All of the command that the context is for; returns its exit status."""
    module = __import__("toolkit.commands." + module_name(context.name), fromlist=["run"])
    return _run(module.USAGE, module.run, arguments, context)


def _run(usage: str, run: "Run", arguments: "list[str]", context: "Context") -> int:
    """What all commands have in common: --help, --version, and how they end."""
    name = context.name
    try:
        if arguments[:1] == ["--help"]:
            context.write(usage)
            return OK
        if arguments[:1] == ["--version"] and name != "lavabox":
            context.write("%s (lavabox) %s\n" % (name, VERSION))
            return OK
        return run(arguments, context)
    except UsageError as error:
        context.complain(
            "%s: %s\n%s\nTry `%s --help`." % (name, error.text, usage.partition("\n\n")[0], name)
        )
        return USAGE
    except CommandError as error:
        context.warn(error.text)
        return error.status
    except OSError as error:
        # Of writing the answer: a full disk, a pipe that nobody reads any more.
        context.warn("failed: %s" % error)
        return NO
    except KeyboardInterrupt:
        return INTERRUPTED


def _box(arguments: "list[str]", context: "Context", box: "Box | None") -> int:
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
    if not option:
        raise UsageError("a command is missing")
    if option == "--list":
        raise UsageError("--list takes no arguments")
    raise UsageError("unknown option '%s'" % option)


def _unknown(context: "Context", name: str) -> int:
    if name in HOST_COMMANDS:
        what = "'%s' runs on the host, not on a device: it belongs to the Python package `lavabox`" % name
    else:
        what = "there is no command '%s'" % name
    context.complain("lavabox: %s. The commands here are:\n  %s" % (what, "\n  ".join(sorted(COMMANDS))))
    return NOT_FOUND


def decoded(data: bytes) -> str:
    """What os.fsdecode returns."""
    return data.decode(sys.getfilesystemencoding(), "surrogateescape")


def _mend_standard_files() -> None:
    """Put something in the place of standard files that the caller has closed.

    Else the next file or socket opened gets the number 1, and the answer goes there.
    """
    for descriptor in range(3):
        try:
            posix.fstat(descriptor)
        except OSError:
            # The lowest free number is this one. Not to be written to: that is an error still.
            posix.open("/dev/null", posix.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open("/dev/null", "w")  # noqa: SIM115
