# SPDX-License-Identifier: MIT
"""Finds the command that is meant, and runs it.

It is the name of the box, where that is a link: `lava-send ID`; else the first
argument: `lavabox lava-send ID`.
"""

import _signal  # `signal` would import enum, and `os` takes longer to start than all of this
import posix
import sys

from . import VERSION
from .commands import COMMANDS, module_name
from .wire.vocabulary import INTERRUPTED, NO, OK, USAGE, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, Protocol

    from .context import Context

    class Box(Protocol):
        """The zipapp: the path of its file, and the Python that it has bytecode for."""

        path: str
        version: str

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


def main(argv: "list[str]", box: "Box | None" = None) -> int:
    """The exit status of what `argv` asks for. `box` is the zipapp, where this runs from it."""
    from .context import Context

    _mend_standard_files()
    _unwind_when_told_to_end()
    environ = {_decoded(name): _decoded(value) for name, value in posix.environ.items()}
    name, arguments = argv[0].rpartition("/")[2], argv[1:]
    if not name.startswith("lava-"):
        if not arguments or arguments[0].startswith("-"):
            context = Context("lavabox", environ)
            return _run(BOX_USAGE, lambda options, context: _box(options, context, box), arguments, context)
        name, arguments = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _unknown(Context("lavabox", environ), name)
    return run(arguments, Context(name, environ))


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


def _decoded(data: bytes) -> str:
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


def _unwind_when_told_to_end() -> None:
    """Let SIGTERM and SIGHUP, where they end a process, clean up on the way."""
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _end)


def _end(number: int, frame: object) -> "NoReturn":
    raise SystemExit(128 + number)
