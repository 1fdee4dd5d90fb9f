# SPDX-License-Identifier: MIT
"""Finds the command that is meant, and runs it.

It is the name of the box, where that is a link: `lava-send ID`; else the first
argument: `lavabox lava-send ID`.
"""

import _signal  # `signal` would import enum
import os
import sys

from . import VERSION
from .commands import COMMANDS, module_name
from .wire.vocabulary import INTERRUPTED, NO, OK, USAGE, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .client import Context

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


def main(argv: "list[str]", box: "str | None" = None) -> int:
    """The exit status of what `argv` asks for. `box` is the path of the zipapp, where this runs from it."""
    _mend_standard_files()
    name, arguments = os.path.basename(argv[0]), argv[1:]
    if not name.startswith("lava-"):
        if not arguments or arguments[0].startswith("-"):
            return _run("lavabox", BOX_USAGE, lambda options, context: _box(options, context, box), arguments)
        name, arguments = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _unknown(name)
    module = __import__("toolkit.commands." + module_name(name), fromlist=["run"])
    return _run(name, module.USAGE, module.run, arguments)


def _run(name: str, usage: str, run: "Run", arguments: "list[str]") -> int:
    """What all commands have in common: --help, --version, and how they end."""
    from .client import Context

    context = Context(name, os.environ)
    _unwind_when_told_to_end()
    try:
        if arguments[:1] == ["--help"]:
            context.write(usage)
            return OK
        if arguments[:1] == ["--version"]:
            context.write("%s %s\n" % (name if name == "lavabox" else name + " (lavabox)", VERSION))
            return OK
        return run(arguments, context)
    except UsageError as error:
        _complain("%s: %s\n%s\nTry `%s --help`." % (name, error.text, usage.partition("\n\n")[0], name))
        return USAGE
    except CommandError as error:
        _complain("%s: %s" % (name, error.text))
        return error.status
    except OSError as error:
        # Of writing the answer: a full disk, a pipe that nobody reads any more.
        _complain("%s: failed: %s" % (name, error))
        return NO
    except KeyboardInterrupt:
        return INTERRUPTED


def _box(arguments: "list[str]", context: "Context", box: "str | None") -> int:
    option = arguments[0] if arguments else ""
    if arguments == ["--list"]:
        context.write("".join(name + "\n" for name in sorted(COMMANDS)))
        return OK
    if option == "--install":
        from .install import install

        return install(arguments[1:], context, box)
    if not option:
        raise UsageError("a command is missing")
    if option == "--list":
        raise UsageError("--list takes no arguments")
    raise UsageError("unknown option '%s'" % option)


def _unknown(name: str) -> int:
    if name in HOST_COMMANDS:
        what = "'%s' runs on the host, not on a device: it belongs to the Python package `lavabox`" % name
    else:
        what = "there is no command '%s'" % name
    _complain("lavabox: %s. The commands here are:\n  %s" % (what, "\n  ".join(sorted(COMMANDS))))
    return NOT_FOUND


def _complain(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # there is nobody to tell; the exit status stands


def _mend_standard_files() -> None:
    """Put something in the place of standard files that the caller has closed.

    Else the next file or socket opened gets the number 1, and the answer goes there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one. Not to be written to: that is an error still.
            os.open(os.devnull, os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _unwind_when_told_to_end() -> None:
    """Let SIGTERM and SIGHUP, where they end a process, clean up on the way."""
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _end)


def _end(number: int, frame: object) -> "NoReturn":
    raise SystemExit(128 + number)
