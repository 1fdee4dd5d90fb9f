# SPDX-License-Identifier: MIT
"""`lavabox box`: makes the box, the one file with all lava-* commands for the devices."""

import argparse
from pathlib import Path

from dispatcher.files import check_writable
from dispatcher.simulator.box import build_box

SUMMARY = "make the box, the file with all lava-* commands for the devices"

DESCRIPTION = """\
Make the box: one executable file that holds all lava-* commands. Copy it to the device,
and make the links there: `lavabox --install -s /usr/bin`. It needs a python3 (3.6 or
later) and nothing else. On a device, `lavabox` is this file, not the program that you
are calling now.
"""

EPILOGUE = """\
exit status: 0 when it is made; 1 when it can't be made or written; 2 usage.

examples:
  lavabox box
  lavabox box -o image/usr/bin/lavabox
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        default=Path("lavabox"),
        help="where to write it (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make it; returns the exit status. Raises SetupError or OSError."""
    output: Path = arguments.output
    check_writable(output)
    build_box(output)
    print(f"{output}: {output.stat().st_size} bytes")
    return 0
