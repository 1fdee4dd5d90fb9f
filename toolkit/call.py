# SPDX-License-Identifier: MIT
"""A command line, whoever carries it out, the process itself (cli.py) or an agent (errand.py): what is meant by it, and how it ends."""

import posix
import sys

import toolkit

from . import VERSION
from .arguments import to_bytes
from .commands import TOLD_IF_REFUSED, module_name
from .wire.vocabulary import LINK_FAILED, MAX_NAME, NO, OK, USAGE, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from .context import Context

    Run = Callable[[list[str], Context], int]


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


def run(arguments: "list[str]", context: "Context") -> int:
    """All of the command that the context is for; returns its exit status."""
    module = __import__("toolkit.commands." + module_name(context.name), fromlist=["run"])
    return carry_out(lambda: usage(context.name, module), module.run, arguments, context)


def usage(name: str, module: "ModuleType") -> str:
    """The help text of a command, or of "lavabox". The box keeps those apart from the modules."""
    usages = getattr(toolkit.__spec__.loader, "usages", None)
    text = usages()[name] if usages else module.USAGE  # type: str
    return text


def carry_out(usage: "Callable[[], str]", run: "Run", arguments: "list[str]", context: "Context") -> int:
    """What all commands have in common: --help, --version, and how they end. KeyboardInterrupt is passed on."""
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
        context.warn("interrupted")
        raise


def _tell_refusal(context: "Context", arguments: "list[str]", error: UsageError) -> None:
    """A result that is lost on the way to the dispatcher, or a wait that was none, must not look like success."""
    if context.name not in TOLD_IF_REFUSED:
        return
    line = to_bytes(" ".join([context.name] + arguments))[:MAX_NAME]
    try:
        context.request("refused", line, error.text)
    except CommandError:
        pass  # nobody is there to be told; the exit status is that of the mistake


def _decoded(data: bytes) -> str:
    """What os.fsdecode returns."""
    return data.decode(sys.getfilesystemencoding(), "surrogateescape")
