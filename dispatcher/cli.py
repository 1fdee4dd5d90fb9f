# SPDX-License-Identifier: MIT
"""`lavabox` on the host: which command is meant, and how mistakes are told."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

# Each is the module of this name in `commands`.
COMMANDS = ("sim", "serve", "hook", "ctl", "console", "status", "coordinator", "flow", "group", "box")

_EPILOGUE = """\
`lavabox COMMAND --help` says more. The lava-* commands themselves run on the devices, from
a file that is called `lavabox` there, too: the box, which `lavabox box` makes.
"""


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run a command; returns its exit status.

    :param argv: without the program's name; None: what the process was called with.
    """
    words = sys.argv[1:] if argv is None else argv
    hooks = words[:1] == ["hook"]
    # Everything else is imported when an interruption can be met tidily.
    try:
        if hooks:
            _prepare_hook(words[1:])
        from dispatcher.host.stopsignals import unwind_when_told_to_end

        unwind_when_told_to_end()
        return _run(argv)
    except KeyboardInterrupt:
        return 130
    finally:
        if hooks:
            _leave_hook()


def _prepare_hook(arguments: "Sequence[str]") -> None:
    """Whoever has started it may type at once, and sees what a terminal echoes until then."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if not {"-h", "--help"} & set(options):
        from dispatcher.host.ownterminal import make_raw

        make_raw()


def _leave_hook() -> None:
    """Give the terminal its modes back: after an interruption, or before a line that is to begin at its left edge."""
    from dispatcher.host.ownterminal import restore

    restore()


def _run(argv: "Sequence[str] | None") -> int:
    import signal

    from dispatcher.errors import InputError, SetupError, UsageError
    from dispatcher.files import told

    words = sys.argv[1:] if argv is None else list(argv)
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        return _complain("lavabox", _no_command(words[0], COMMANDS), 2, hint=True)
    # To import all of them takes longer than most of them run.
    parser, commands = _parsers(words[:1] if words and words[0] in COMMANDS else COMMANDS)
    arguments, unknown = parser.parse_known_args(words)
    program = f"lavabox {arguments.command}"
    if sys.stdout is None:
        return _complain(program, "standard output is closed; redirect it to a file or /dev/null", 1)
    try:
        if unknown:
            # Told here, since argparse would show the usage of all of lavabox.
            raise UsageError(_not_known(unknown[0], commands[arguments.command]))
        return int(arguments.run(arguments))
    except UsageError as error:
        return _complain(program, str(error), 2, hint=True)
    except BrokenPipeError:
        # Whoever read our output has gone. Python would try, and complain, once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except SetupError as error:
        return _complain(program, str(error), 2 if isinstance(error, InputError) else 1)
    except OSError as error:
        return _complain(program, told(error), 1)


def _parsers(
    names: "Iterable[str]",
) -> "tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]":
    """The parser of everything, and those of these commands by their names."""
    import argparse
    from importlib import import_module
    from typing import NoReturn

    from toolkit import VERSION

    class Parser(argparse.ArgumentParser):
        """Tells mistakes as all of lavabox does, without the list of all options."""

        def error(self, message: str) -> NoReturn:
            message = message.removeprefix("argument ")
            self.exit(_complain(self.prog, message, 2, hint=True))

    parser = Parser(
        prog="lavabox",
        description="Tests that run on several devices, which talk over their consoles.",
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lavabox {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands: dict[str, argparse.ArgumentParser] = {}
    for name in names:
        command = import_module(f"dispatcher.commands.{name}")
        commands[name] = subparsers.add_parser(
            name,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EPILOGUE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            # An option that is added later must not change what a script means.
            allow_abbrev=False,
        )
        command.configure(commands[name])
        commands[name].set_defaults(run=command.run)
    return parser, commands


def _no_command(word: str, commands: "Iterable[str]") -> str:
    if word.startswith("lava-"):
        return f"{word} is a command of the devices; this `lavabox` is the one of the host"
    return f"there is no command {word!r:.60}{_meant(word, commands) or '; there are ' + ', '.join(commands)}"


def _not_known(word: str, parser: "argparse.ArgumentParser") -> str:
    """What is wrong with an argument that the command does not have."""
    if not word.startswith("-"):
        return f"too many arguments, from {word!r:.60} on"
    option = word.partition("=")[0]
    return f"there is no option {option!r:.60}{_meant(option, parser._option_string_actions)}"


def _meant(word: str, known: "Iterable[str]") -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _complain(program: str, text: str, status: int, *, hint: bool = False) -> int:
    from dispatcher.errors import on_one_line

    if program == "lavabox hook":
        _leave_hook()
    print(f"{program}: {on_one_line(text)}", file=sys.stderr)
    if hint:
        print(f"Try `{program} --help`.", file=sys.stderr)
    return status
