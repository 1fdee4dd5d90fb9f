# SPDX-License-Identifier: MIT
"""Finds the command that is meant, and runs it.

It is the name of the box, where that is a link: `lava-send ID`; else the first
argument: `lavabox lava-send ID`.
"""

import posix  # `os` takes longer to start than all of this
import sys

import toolkit

from . import VERSION
from .arguments import quote, to_bytes
from .commands import COMMANDS, RESULTS, module_name
from .context import Context
from .thin import unwind_when_told_to_end
from .wire.vocabulary import INTERRUPTED, LINK_FAILED, MAX_NAME, NO, OK, USAGE, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType
    from typing import Protocol

    class Box(Protocol):
        """The zipapp: the path of its file, and the Python that it has bytecode for."""

        path: str
        version: str
        build: bytes

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


def main(argv: "list[str]", box: "Box | None" = None, identity: "bytes | None" = None) -> int:
    """The exit status of what `argv` asks for.

    :param box: the zipapp, where this runs from it.
    :param identity: of the command's first request, where that may have been sent already.
    """
    _mend_standard_files()
    unwind_when_told_to_end()
    words = without_cr([to_bytes(word) for word in argv])
    environ = environment(posix.environ)
    name, arguments = meant(words)
    context = Context("lavabox" if name is None else name, environ, identity)
    try:
        if name is None:
            return _run(
                lambda: BOX_USAGE, lambda options, context: _box(options, context, box), arguments, context
            )
        if name not in COMMANDS:
            return _unknown(name, Context("lavabox", environ))
        return run(arguments, context)
    except ImportError as error:
        from .missing import sentence

        context.warn(sentence(error))
        return NOT_FOUND


def without_cr(words: "list[bytes]") -> "list[str]":
    """Of scripts with CR LF at the ends of their lines, the last word ends with a CR, or is one."""
    return [_decoded(word.rstrip(b"\r")) for word in words if word != b"\r"]


def meant(words: "list[str]") -> "tuple[str | None, list[str]]":
    """The command that is meant, None for the box itself, and its arguments."""
    name, arguments = words[0].rpartition("/")[2], words[1:]
    if name.startswith("lava-"):
        return name, arguments
    if not arguments or arguments[0].startswith("-"):
        return None, arguments
    return arguments[0], arguments[1:]


def environment(given: "Mapping[bytes, bytes]") -> "dict[str, str]":
    """The environment, with the one rule for a CR at the end of a word.

    In a program that runs with more rights than whoever has started it (set-user-id), LAVA_* would let
    him choose files to be written with these rights.
    """
    trusted = posix.getuid() == posix.geteuid() and posix.getgid() == posix.getegid()
    environ = {_decoded(name): _decoded(value) for name, value in given.items()}
    for name in [name for name in environ if name.startswith("LAVA_")]:
        if trusted:
            environ[name] = environ[name].rstrip("\r")
        else:
            del environ[name]
    return environ


def run(arguments: "list[str]", context: Context) -> int:
    """All of the command that the context is for; returns its exit status."""
    module = __import__("toolkit.commands." + module_name(context.name), fromlist=["run"])
    return _run(lambda: _usage(context.name, module), module.run, arguments, context)


def _usage(name: str, module: "ModuleType") -> str:
    """The help text of a command. The box keeps those apart from the modules."""
    usages = getattr(toolkit.__spec__.loader, "usages", None)
    text = usages()[name] if usages else module.USAGE  # type: str
    return text


def _run(usage: "Callable[[], str]", run: "Run", arguments: "list[str]", context: Context) -> int:
    """What all commands have in common: --help, --version, and how they end."""
    name = context.name
    try:
        if arguments[:1] in (["--help"], ["-h"]):
            context.write(usage())
            return OK
        if arguments[:1] == ["--version"] and name != "lavabox":
            context.write("%s (lavabox) %s\n" % (name, VERSION))
            return OK
        return run(arguments, context)
    except UsageError as error:
        context.complain(
            "%s: %s\n%s\nTry `%s --help`." % (name, error.text, usage().partition("\n\n")[0], name)
        )
        _tell_refusal(context, arguments, error)
        return USAGE
    except CommandError as error:
        context.warn(error.text)
        return error.status
    except BlockingIOError:
        context.warn("no process can be started: too many are running")
        return LINK_FAILED
    except OSError as error:
        # Of writing the answer: a full disk, a pipe that nobody reads any more.
        context.warn("failed: %s" % error.strerror)
        return NO
    except KeyboardInterrupt:
        return INTERRUPTED


def _tell_refusal(context: Context, arguments: "list[str]", error: UsageError) -> None:
    """A result that is lost on the way to the dispatcher must not look like one that nobody wanted."""
    if context.name not in RESULTS:
        return
    line = to_bytes(" ".join([context.name] + arguments))[:MAX_NAME]
    try:
        context.request("refused", line, error.text)
    except CommandError:
        pass  # nobody is there to be told; the exit status is that of the mistake


def _box(arguments: "list[str]", context: Context, box: "Box | None") -> int:
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


def _unknown(name: str, context: Context) -> int:
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


def _decoded(data: bytes) -> str:
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
