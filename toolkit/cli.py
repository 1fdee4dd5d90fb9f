# SPDX-License-Identifier: MIT
"""Finds the command that is meant, and runs it.

It is the name of the box, where that is a link: `lava-send ID`; else the first
argument: `lavabox lava-send ID`.
"""

import _signal  # `signal` would import enum
import os
import sys

from . import VERSION
from .arguments import quote
from .commands import COMMANDS, RESULTS, module_name
from .wire.vocabulary import INTERRUPTED, LINK_FAILED, MAX_NAME, NO, OK, USAGE, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from .client import Context

    Run = Callable[[list[str], Context], int]

# What a shell reports for a command that it does not find.
NOT_FOUND = 127

# Commands of the package for the host: people look for them here too.
HOST_COMMANDS = ("sim", "serve", "hook", "flow")

# So alike is a name to the one that was meant: letters to add, to take away, to replace or to exchange.
_SLIPS = 2

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
                            a hard link, or with -s a symbolic one. Into an
                            image (.../usr/bin) the box is copied, too, if it
                            is not in there
  -h, --help, --version

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
    try:
        return _main(argv, box)
    except ImportError as error:
        from .missing import sentence

        _complain("%s: %s" % (os.path.basename(argv[0]), sentence(error)))
        return NOT_FOUND


def _main(argv: "list[str]", box: "str | None") -> int:
    # Of scripts with CR LF at the ends of their lines, the last word ends with a CR, or is one.
    words = [word.rstrip("\r") for word in argv if word != "\r"]
    name, arguments = os.path.basename(words[0]), words[1:]
    if not name.startswith("lava-"):
        if not arguments or arguments[0].startswith("-"):
            return _run("lavabox", BOX_USAGE, lambda options, context: _box(options, context, box), arguments)
        name, arguments = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _unknown(name)
    module = __import__("toolkit.commands." + module_name(name), fromlist=["run"])
    return _run(name, module.USAGE, module.run, arguments)


def _environment() -> "dict[str, str]":
    """The environment, with the one rule for a CR at the end of a word.

    In a program that runs with more rights than whoever has started it (set-user-id), LAVA_* would let
    him choose files to be written with these rights.
    """
    trusted = os.getuid() == os.geteuid() and os.getgid() == os.getegid()
    environ = dict(os.environ)
    for name in [name for name in environ if name.startswith("LAVA_")]:
        if trusted:
            environ[name] = environ[name].rstrip("\r")
        else:
            del environ[name]
    return environ


def _run(name: str, usage: str, run: "Run", arguments: "list[str]") -> int:
    """What all commands have in common: --help, --version, and how they end."""
    from .client import Context

    context = Context(name, _environment())
    _unwind_when_told_to_end()
    try:
        if arguments[:1] in (["--help"], ["-h"]):
            context.write(usage)
            return OK
        if arguments[:1] == ["--version"]:
            context.write("%s %s\n" % (name if name == "lavabox" else name + " (lavabox)", VERSION))
            return OK
        return run(arguments, context)
    except UsageError as error:
        _complain("%s: %s\n%s\nTry `%s --help`." % (name, error.text, usage.partition("\n\n")[0], name))
        _tell_refusal(context, arguments, error)
        return USAGE
    except CommandError as error:
        _complain("%s: %s" % (name, error.text))
        return error.status
    except BlockingIOError:
        _complain("%s: no process can be started: too many are running" % name)
        return LINK_FAILED
    except OSError as error:
        # Of writing the answer: a full disk, a pipe that nobody reads any more.
        _complain("%s: failed: %s" % (name, error.strerror))
        return NO
    except KeyboardInterrupt:
        return INTERRUPTED


def _tell_refusal(context: "Context", arguments: "list[str]", error: UsageError) -> None:
    """A result that is lost on the way to the dispatcher must not look like one that nobody wanted."""
    if context.name not in RESULTS:
        return
    line = os.fsencode(" ".join([context.name] + arguments))[:MAX_NAME]
    try:
        context.request("refused", line, error.text)
    except CommandError:
        pass  # nobody is there to be told; the exit status is that of the mistake


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
    shown = quote(name)
    if name in HOST_COMMANDS:
        what = "%s runs on the lab's host, not on a device: it is a command of the Python package" % shown
    else:
        what = "there is no command %s" % shown
        alike = _most_alike(name)
        if alike:
            what += ": did you mean %s?" % alike
    _complain("lavabox: %s\n`lavabox --list` prints the commands." % what)
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
