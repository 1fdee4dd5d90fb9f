# SPDX-License-Identifier: MIT
"""One run of a group on this terminal: what `lavabox sim` and `lavabox serve` have in common."""

import argparse
import asyncio
import io
import os
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dispatcher.engine import Engine
from dispatcher.errors import SetupError, UsageError
from dispatcher.files import check_writable, read_text, told, write_whole
from dispatcher.group.configuration import Configuration, parse_configuration
from dispatcher.group.wording import enumerated
from dispatcher.grouplog import GroupLogError
from dispatcher.host import groupoptions
from dispatcher.host.consolelog import ConsoleLogs
from dispatcher.host.deadwatch import Watch
from dispatcher.host.failedoutput import FailedOutput
from dispatcher.host.stopsignals import undisturbed, unwind_when_told_to_end
from dispatcher.host.terminalrun import Device, TerminalRun
from dispatcher.jobs.rules import JobRules
from dispatcher.line.textpatterns import Pattern
from dispatcher.report import Report, jsonfile, junit, stats, table
from dispatcher.report.flow.files import format_of, written
from dispatcher.report.flow.model import Fold
from dispatcher.view.display import Display, wants_colour
from dispatcher.view.statusview import LiveView, Plain
from dispatcher.view.timestamps import Clock, Timestamps

# File descriptors that a device takes (a pty's two ends, its process, its log, ...), and all the rest.
_DESCRIPTORS_PER_DEVICE = 6
_OTHER_DESCRIPTORS = 64
# What --flow is to be shown here by.
_HERE = Path("-")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every run has."""
    parser.add_argument(
        "--log-dir",
        metavar="DIR",
        type=Path,
        help="write each device's console output to DIR/NAME.log, byte for byte, and at the end what --stats "
        "shows to DIR/stats.txt",
    )
    groupoptions.add_arguments(parser)
    parser.add_argument(
        "--junit", metavar="FILE", type=Path, help="write the results to FILE as JUnit XML, at the end"
    )
    parser.add_argument(
        "--results", metavar="FILE", type=Path, help="write the results to FILE as JSON, at the end"
    )
    parser.add_argument(
        "--flow",
        metavar="FILE",
        type=Path,
        help="write who waited for whom to FILE, at the end: .html has a time line, .md and .txt the flow table; "
        "- shows the table here",
    )
    parser.add_argument(
        "--stats",
        action="store_true",
        help="at the end, show for each console how many frames came, and how many were repaired or damaged",
    )
    parser.add_argument(
        "--timestamps",
        action="store_true",
        help="show the time before each line; with --log-dir also write DIR/NAME.stamped, which is the log with "
        "date and time (UTC) before each line",
    )
    parser.add_argument(
        "--no-live",
        action="store_true",
        help="do not show what each device is doing below the output",
    )
    parser.add_argument(
        "--device-config",
        metavar="FILE",
        type=Path,
        help="a TOML file with what lava-target-ip and similar commands print",
    )


def run_group(
    devices: Sequence[Device],
    arguments: argparse.Namespace,
    messages: Sequence[str],
    *,
    must_end: bool,
    timeout: float | None = None,
    fail_fast: bool = False,
    seed: int | None = None,
    rules: JobRules | None = None,
    patterns: Mapping[str, Pattern] | None = None,
    display_class: Callable[..., Display] = Display,
    watch: Callable[[Engine], Watch | None] = lambda engine: None,
) -> int:
    """Run the devices and show what they do, and the table at the end. Returns the exit status.

    Raises SetupError if the run can't begin.

    :param messages: what the user should know, shown first.
    :param must_end: whether the devices are to end by themselves; otherwise it goes on until interrupted.
    :param fail_fast: whether the run ends with the first result or device that has failed.
    :param watch: makes what looks for dead ends.
    :param seed: of what is random; None: different every time.
    :param rules: of the job, if it is one.
    :param patterns: for results in the output of runs, by their uuids.
    :param display_class: makes what shows the devices, as `Display` does.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Flushed as often as is useful, not once for every line; and no name or output can be unprintable.
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=False)
    configuration = _configuration(arguments.device_config)
    _check_reports(arguments)
    founded = groupoptions.founding(arguments)
    if arguments.group is not None and not groupoptions.is_shared(arguments):
        raise UsageError("--group needs --group-log nats://HOST/LAB: it is about groups on servers")
    log = groupoptions.group_log(arguments, arguments.group, fresh=must_end)
    fold = Fold()
    _allow_descriptors(_OTHER_DESCRIPTORS + _DESCRIPTORS_PER_DEVICE * len(devices))
    names = [device.name for device in devices]
    # Whoever works in a device's shell has the terminal.
    view = _view(live=not arguments.no_live and display_class is Display)
    stamps = Timestamps(view.write, time.time)
    write = stamps.write if arguments.timestamps else view.write
    display = display_class(write, names, colour=wants_colour(sys.stdout, os.environ))
    randomness = random.SystemRandom() if seed is None else random.Random(seed)
    clock = time.time if arguments.timestamps else None
    logs = _console_logs(arguments.log_dir, names, keep=not must_end, clock=clock)
    output = None if arguments.junit is None else FailedOutput()
    epoch = time.time() - time.monotonic()
    engine = Engine(os.urandom(8), epoch, configuration)
    run = TerminalRun(
        devices,
        engine,
        log,
        display,
        logs,
        view,
        must_end=must_end,
        fail_fast=fail_fast,
        token=lambda: randomness.getrandbits(32),
        rules=rules,
        output=output,
        watch=watch(engine),
        readers=[] if arguments.flow is None else [fold.apply],
        patterns=patterns,
    )
    for message in messages:
        display.message(message)
    try:
        asyncio.run(run.run(founded, timeout))
    except GroupLogError as error:
        raise SetupError(f"--group-log: {error}") from error
    finally:
        view.close()
        # The loop took its handlers away.
        unwind_when_told_to_end()
        coordinator = engine.state.coordinator
        elsewhere = {name for name, _ in coordinator.members} - coordinator.gone - set(names)
        report = Report(
            engine.state.results,
            run.rows(),
            over=must_end and not elsewhere,
            logs=None if arguments.log_dir is None else str(arguments.log_dir),
            output={} if output is None else output.pieces,
        )
        counts = stats.rows(run.counters())
        unwritten = run.log_failures + _write_reports(arguments, report, fold, counts)
    stamps.on = False
    _show(display, report, unwritten)
    if arguments.flow == _HERE:
        sys.stdout.write("\n" + _flow_text(fold))
    if arguments.stats:
        display.columns(counts)
    sys.stdout.flush()
    if unwritten:
        return 1
    if run.stopped_by is not None:
        return 128 + run.stopped_by
    return 1 if report.failures else 0


def _show(display: Display, report: Report, unwritten: Sequence[str]) -> None:
    """What there is to see at the end."""
    display.table(report.rows)
    results = table.rows(report)
    if results:
        display.columns(results)
    for sentence in (*table.sentences(report), *unwritten):
        display.message(sentence)


def _view(*, live: bool) -> Plain | LiveView:
    """What the display writes to: with the status area where there is a terminal, and somebody to look at it."""
    stream = sys.stdout
    variables = os.environ
    if not live or not stream.isatty() or variables.get("TERM", "dumb") == "dumb" or variables.get("CI"):
        return Plain(stream.write, stream.flush)
    # Those that cut long lines when they get narrower; all others of today break them anew.
    cuts = "XTERM_VERSION" in variables or variables["TERM"].startswith(("linux", "screen.", "vt"))
    return LiveView(
        stream.write,
        stream.flush,
        _terminal_size,
        reflows=not cuts,
        colour=wants_colour(stream, os.environ),
    )


def _terminal_size() -> tuple[int, int]:
    """Width and height; 0 and 0 if the terminal is gone."""
    try:
        return os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 0, 0


def _configuration(path: Path | None) -> Configuration:
    if path is None:
        return Configuration()
    try:
        return parse_configuration(read_text(path))
    except OSError as error:
        raise UsageError(f"--device-config {told(error)}") from error
    except ValueError as error:
        raise UsageError(f"--device-config {path}: {error}") from error


def _check_reports(arguments: argparse.Namespace) -> None:
    """Raises UsageError or SetupError for reports that could not be written at the end."""
    named: dict[Path, str] = {}
    files = {
        "--group-log": groupoptions.log_file(arguments),
        "--junit": arguments.junit,
        "--results": arguments.results,
        "--flow": arguments.flow,
    }
    for option, path in files.items():
        if path is None or path == _HERE or (path.exists() and not path.is_file()):
            continue
        first = named.setdefault(path.resolve(), option)
        if first != option:
            raise UsageError(f"{first} and {option}: {path} can't be both; give one of them another name")
    for option, path in _report_files(arguments):
        try:
            if option == "--flow":
                format_of(path)
            check_writable(path)
        except UsageError as error:
            raise UsageError(f"{option}: {error}") from error
        except OSError as error:
            raise SetupError(f"{option}: {error}") from error


def _report_files(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """The options that name a file to be written at the end, and these files."""
    flow = None if arguments.flow == _HERE else arguments.flow
    named = (("--junit", arguments.junit), ("--results", arguments.results), ("--flow", flow))
    return [(option, path) for option, path in named if path is not None]


def _flow_text(fold: Fold) -> str:
    width = shutil.get_terminal_size((120, 24)).columns
    return written(fold.finish(), "text", "", width=width).decode()


def _write_reports(
    arguments: argparse.Namespace, report: Report, fold: Fold, counts: Sequence[Sequence[str]]
) -> list[str]:
    """Write the reports that are wanted; returns sentences on those that could not be."""
    files = _report_files(arguments)
    if arguments.log_dir is not None:
        files.append(("--log-dir", arguments.log_dir / "stats.txt"))
    unwritten = []
    with undisturbed():
        for option, path in files:
            match option:
                case "--junit":
                    data = junit.document(report)
                case "--results":
                    data = jsonfile.document(report)
                case "--flow":
                    flow = fold.finish()
                    data = written(flow, format_of(path), f"Flow of {enumerated(list(flow.devices))}")
                case _:
                    data = "".join("\t".join(line) + "\n" for line in counts).encode()
            try:
                write_whole(path, data)
            except OSError as error:
                unwritten.append(f"{option}: {path} could not be written: {error.strerror or error}")
    return unwritten


def _allow_descriptors(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise SetupError(
                f"so many devices need {wanted} open files, but only {hard} are allowed; see `ulimit -Hn`"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _console_logs(
    directory: Path | None, names: Sequence[str], *, keep: bool, clock: Clock | None
) -> ConsoleLogs | None:
    if directory is None:
        return None
    try:
        return ConsoleLogs(directory, names, keep=keep, clock=clock)
    except OSError as error:
        raise SetupError(f"--log-dir: can't write {told(error)}") from error
