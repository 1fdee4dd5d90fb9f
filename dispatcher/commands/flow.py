# SPDX-License-Identifier: MIT
"""`lavabox flow`: the flow table of a group, drawn from its log, or the one that is expected of a job."""

import argparse
import fcntl
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from dispatcher.commands import flowplan
from dispatcher.errors import SetupError, UsageError, on_one_line
from dispatcher.files import check_writable, open_regular, write_whole
from dispatcher.group.events import Ended, Event
from dispatcher.grouplog.file import read_events
from dispatcher.host import groupoptions
from dispatcher.report.flow.files import FORMATS, format_of, written
from dispatcher.report.flow.model import Flow, Fold

SUMMARY = "draw what the devices of a group did, and whom each waited for"

DESCRIPTION = """\
Draw the flow table of a group from the log that `--group-log FILE` of `lavabox sim` or
`lavabox serve` wrote: a column for each device or role, the calls in the order in which they
were made, blank cells where a device was blocked. As HTML it has a time line, too.

With --plan: draw the table that is expected of a job, and say what is wrong with its calls,
from its files alone. Nothing is run.
"""

EPILOGUE = """\
exit status: 0 when it is drawn; 1 when the log is damaged or something can't be read or
written; 2 usage. With --plan: 0 when there is no error in the calls, warnings or not; 1 when
there is one, or a repository can't be read; 2 usage, or the job can't be read.

examples:
  lavabox flow group.log
  lavabox flow group.log -o flow.html
  lavabox flow nats://nats1,nats2,nats3/farm/kernel-7
  lavabox flow group.log --format markdown --by device
  lavabox flow --plan JOB.yaml --repo https://example.org/tests.git=./tests
  lavabox flow --plan --role server=./run-server.sh --role 'client*2=./run-client.sh'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "log",
        metavar="FILE",
        nargs="?",
        help="the log of a group, or nats://HOST,HOST/LAB/GROUP; it may still be written to. With --plan: a job "
        "or a test definition (YAML)",
    )
    groupoptions.add_credentials(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="where to write it (default, and -: to standard output)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="what to write (default: what the suffix of FILE asks for: .html, .md, .txt; text without one)",
    )
    parser.add_argument(
        "--by",
        choices=("role", "device"),
        default="role",
        help="what a column of the table is: a device, or all devices of a role that did the same "
        "(default: %(default)s)",
    )
    flowplan.configure(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw; returns the exit status. Raises UsageError or SetupError."""
    if not arguments.plan:
        flowplan.refuse_options_of_plans(arguments)
        if arguments.log is None:
            raise UsageError("name the log of a group, as `--group-log FILE` writes it")
    output = None if arguments.output is None or str(arguments.output) == "-" else arguments.output
    form = arguments.format or ("text" if output is None else format_of(output))
    if output is not None:
        check_writable(output)
    width = shutil.get_terminal_size((120, 24)).columns if output is None else 120
    status = 0
    if arguments.plan:
        data, status = flowplan.planned(
            arguments, None if arguments.log is None else Path(arguments.log), form, width
        )
    else:
        place = str(arguments.log)
        flow = read_shared(place, arguments) if "://" in place else read(Path(place))
        data = written(flow, form, place.rpartition("/")[2], arguments.by, width)
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    else:
        write_whole(output, data)
    return status


def read(path: Path) -> Flow:
    """What happened according to a log, up to now if it is still written.

    Raises SetupError that names the line if it is damaged.
    """
    try:
        events = read_events(
            path, lambda sentence: print(on_one_line(f"lavabox flow: {path}: {sentence}"), file=sys.stderr)
        )
    except ValueError as error:
        raise SetupError(str(error)) from error
    if not events:
        raise SetupError(f"{path} is empty: nothing has happened in this group")
    return _folded(events, f"{path}, line").finish(time.time() if _goes_on(path) else None)


def read_shared(place: str, arguments: argparse.Namespace) -> Flow:
    """What has happened up to now in a group of nats://HOST/LAB/GROUP. Raises UsageError or SetupError."""
    events = groupoptions.read_shared(
        place,
        arguments.group_log_credentials,
        lambda sentence: print(on_one_line(f"lavabox flow: {place}: {sentence}"), file=sys.stderr),
    )
    ended = any(isinstance(event, Ended) for _, event in events)
    return _folded(events, f"{place}, message").finish(None if ended else time.time())


def _folded(events: Iterable[tuple[int, Event]], where: str) -> Fold:
    """Raises SetupError that names the place."""
    fold = Fold()
    for number, event in events:
        try:
            fold.apply(event)
        except ValueError as error:
            raise SetupError(f"{where} {number}: {error}") from error
    return fold


def _goes_on(path: Path) -> bool:
    """Whether a dispatcher has the log open, which holds a lock on it."""
    with open_regular(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
