# SPDX-License-Identifier: MIT
"""`lavabox flow`: the flow table of a group, drawn from its log."""

import argparse
from pathlib import Path

from dispatcher.errors import SetupError, UsageError

SUMMARY = "draw what the devices of a group did, and whom each waited for"

DESCRIPTION = """\
Draw the flow table of a group from the log that `--group-log FILE` of `lavabox sim` or
`lavabox serve` wrote: a column for each device or role, the calls in the order in which they
were made, blank cells where a device was blocked. As HTML it has a time line to scale, too.
"""

EPILOGUE = """\
exit status: 0 when it is drawn; 1 when the log is damaged or something can't be read or
written; 2 usage.

examples:
  lavabox flow group.log
  lavabox flow group.log -o flow.html
  lavabox flow group.log --format markdown --by device
"""

FORMATS = ("text", "markdown", "html")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("log", metavar="GROUPLOG", nargs="?", type=Path, help="the log of the group")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="where to write it (default: the terminal)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="what to write (default: what the suffix of FILE says, or text)"
    )
    parser.add_argument(
        "--by",
        choices=("role", "device"),
        help="what a column of the table is (default: a role, if all its devices did the same)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw; returns the exit status. Raises UsageError or SetupError."""
    if arguments.log is None:
        raise UsageError("name the log of a group, as `--group-log FILE` writes it")
    raise SetupError("nothing is drawn yet")
