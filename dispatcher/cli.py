# SPDX-License-Identifier: MIT
"""`lavabox` on the host: which command is meant, and how mistakes are told."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_EPILOGUE = """\
`lavabox COMMAND --help` says more. The lava-* commands themselves run on the devices: they
are in the zipapp that `python3 build_zipapp.py` makes.
"""


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run a command; returns its exit status.

    :param argv: without the program's name; None: what the process was called with.
    """
    # Everything else is imported when an interruption can be met tidily.
    try:
        if (sys.argv[1:] if argv is None else argv)[:1] == ["hook"]:
            _prepare_hook(sys.argv[2:] if argv is None else argv[1:])
        from dispatcher.host.stopsignals import unwind_when_told_to_end

        unwind_when_told_to_end()
        return _run(argv)
    except KeyboardInterrupt:
        return 130


def _prepare_hook(arguments: "Sequence[str]") -> None:
    """Whoever has started it may type at once, and sees what a terminal echoes until then."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if not {"-h", "--help"} & set(options):
        from dispatcher.host.ownterminal import make_raw

        make_raw()


def _run(argv: "Sequence[str] | None") -> int:
    import signal

    from dispatcher.errors import SetupError, UsageError

    arguments, unknown = _parser().parse_known_args(argv)
    if sys.stdout is None:
        return _complain(arguments.command, "standard output is closed; lead it to a file or /dev/null", 1)
    try:
        if unknown:
            # Told here, since argparse would show the usage of all of lavabox.
            raise UsageError(f"unknown argument {unknown[0]!r}")
        return int(arguments.run(arguments))
    except UsageError as error:
        return _complain(arguments.command, f"{error}\nTry `lavabox {arguments.command} --help`.", 2)
    except BrokenPipeError:
        # Whoever read our output has gone. Python would try, and complain, once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (SetupError, OSError) as error:
        return _complain(arguments.command, str(error), 1)


def _parser() -> "argparse.ArgumentParser":
    import argparse

    from dispatcher.commands import coordinator, flow, hook, serve, sim
    from toolkit import VERSION

    parser = argparse.ArgumentParser(
        prog="lavabox",
        description="Tests that run on several devices, which talk over their consoles.",
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lavabox {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in (
        ("sim", sim),
        ("serve", serve),
        ("hook", hook),
        ("coordinator", coordinator),
        ("flow", flow),
    ):
        subparser = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EPILOGUE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            # An option that is added later must not change what a script means.
            allow_abbrev=False,
        )
        command.configure(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _complain(command: str, text: str, status: int) -> int:
    if command == "hook":
        from dispatcher.host.ownterminal import restore

        restore()
    print(f"lavabox {command}: {text}", file=sys.stderr)
    return status
