# SPDX-License-Identifier: MIT
"""Types of arguments that several commands have, for argparse."""

import argparse
import math
import re

from dispatcher.errors import UsageError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Seconds: 31 years, as on the devices. What is meant to be longer is a slip.
_LONGEST = 1e9

HOW_TO_WRITE = "90, 90s, 1.5m, 10h or 1d"


def duration(text: str) -> float:
    """Seconds, from a number and `s`, `m`, `h` or `d`: "90", "1.5m". Raises ArgumentTypeError."""
    match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)([smhd]?)", text)
    try:
        seconds = float(match[1]) * _UNITS[match[2]] if match is not None else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is no time; write it as in {HOW_TO_WRITE}")
    return seconds


def positive_duration(text: str) -> float:
    """As `duration`, but not 0."""
    seconds = duration(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text}: it must be more than 0")
    return seconds


def add_grace(parser: argparse.ArgumentParser) -> None:
    """The option that says how long a group may be silent."""
    parser.add_argument(
        "--grace",
        metavar="TIME",
        type=duration,
        default=60.0,
        help="say what is wrong when all devices wait without a time-out, and none has printed or asked "
        "anything for this time, as in 90 or 5m (default: %(default)g seconds; 0: never)",
    )


def add_fail_dead_ends(parser: argparse.ArgumentParser) -> None:
    """The option that lets the waits of dead ends fail; see `check_fail_dead_ends`."""
    parser.add_argument("--fail-dead-ends", action="store_true", help="make these waits fail, with status 1")


def check_fail_dead_ends(arguments: argparse.Namespace) -> None:
    """Raises UsageError if dead ends are to fail that nobody looks for."""
    if arguments.fail_dead_ends and not arguments.grace:
        raise UsageError("--fail-dead-ends needs a time of silence; give --grace more than 0")
