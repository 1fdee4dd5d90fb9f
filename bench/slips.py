# SPDX-License-Identifier: MIT
"""`python -m bench.slips [--clones DIR] [--flat]`: how many slips in jobs `lavabox flow --plan` finds, and how fast.

Each job is planned as it is: an error or a warning is a false alarm. Then one slip at a time is planted
into one of its files as it is read, and the job is planned again; a finding that was not there before has caught it.
The slips are made in the text, by a regular expression that knows nothing of the planner:

    sent      the id of a message that is sent at one place, and waited for, is misspelt where it is sent
    awaited   an id is misspelt where it is waited for
    role      the role of a lava-wait-all is misspelt
    missing   a lava-sync, or the only lava-send of what is waited for, is left out

The jobs are those of `examples` and of `bench/slips_jobs`, and with --clones those that are found in git clones
of others' repositories (the cases of `bench.real_jobs`, and every job with `lava-multinode` in it).

With --flat, the planner follows commands, parameters and functions only, to see what the rest of it is worth: it judges
no condition, and does not know how often a loop turns.
"""

import argparse
import io
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from unittest import mock

from bench.real_jobs import CASES, folder_of
from dispatcher.commands.flowplan import roles_of
from dispatcher.commands.scriptfiles import ScriptFiles
from dispatcher.errors import SetupError, UsageError
from dispatcher.files import open_regular
from dispatcher.jobs import reader, repositories
from dispatcher.jobs.simulation import read_simulation
from dispatcher.plan.calls import Unread
from dispatcher.plan.expected import expect
from dispatcher.plan.lint import Finding, Severity, findings
from dispatcher.plan.programs import programs
from dispatcher.plan.shell import builtins, loops, statements
from dispatcher.plan.shell.conditions import Status
from dispatcher.simulator.plan import Option

ROOT = Path(__file__).parents[1]
# Processor seconds of a plan that is made again for each slip.
MOST_SECONDS = 2.0
KINDS = ("sent", "awaited", "role", "missing")
OUTCOMES = ("error", "warning", "note", "nothing")

_CALL = re.compile(
    r"\blava-(?P<kind>send|wait-all|wait|sync)[ \t]+(?P<q>[\"']?)(?P<id>[A-Za-z][\w.-]{2,})(?P=q)(?![\w$/{*])"
    r"(?:[ \t]+(?P<role>[A-Za-z][\w-]{2,})(?![\w$=/{*]))?"
)
_NO_CALL = re.compile(r"^\s*#|\becho\b|\bwhich\b|command -v|\bprintf\b|info_msg|usage")


@dataclass(frozen=True)
class Job:
    """What is planned: arguments of `lavabox flow --plan`; the paths in them are below `folder`."""

    name: str
    folder: Path
    arguments: Sequence[str]


@dataclass(frozen=True)
class Slip:
    """A slip: what stands at a place of a file, and what takes its place."""

    kind: str
    path: Path
    begin: int
    end: int
    text: str


def plan(job: Job, slip: Slip | None = None) -> tuple[list[Finding], set[Path], int]:
    """The findings, the files that were read, and the number of calls. Raises SetupError or UsageError.

    :param slip: is in the file when it is read.
    """
    read: set[Path] = set()

    def opened(path: Path) -> BinaryIO:
        path = path.resolve()
        file = open_regular(path)
        read.add(path)
        if slip is None or slip.path != path:
            return file
        with file:
            text = file.read().decode(errors="surrogateescape")
        return io.BytesIO(
            (text[: slip.begin] + slip.text + text[slip.end :]).encode(errors="surrogateescape")
        )

    devices, repos, params, file = [], [], [], None
    words = iter(job.arguments)
    for word in words:
        if word in ("--role", "--device"):
            devices.append((Option(word), next(words)))
        elif word == "--repo":
            repos.append(next(words))
        elif word == "--param":
            params.append(next(words))
        else:
            file = job.folder / word
    # Definitions that are named by --role stand for themselves.
    devices = [(option, re.sub("=(?=.*[.]ya?ml$)", f"={job.folder}/", text)) for option, text in devices]
    asked = argparse.Namespace(file=file, devices=devices, repo=repos, param=params)
    with (
        mock.patch.object(repositories, "open_regular", opened),
        mock.patch.object(reader, "open_regular", opened),
    ):
        simulation = read_simulation(asked, job.folder)
        made = programs(roles_of(simulation), ScriptFiles(job.folder, simulation.repositories).of)
    hidden = [Unread(place, "") for place in simulation.hidden_calls]
    made = [replace(program, items=(*program.items, *hidden)) for program in made]
    return findings(expect(made)), read, sum(len(program.calls) for program in made)


def slips(files: set[Path]) -> list[Slip]:
    """Those that can be planted into these files."""
    calls: list[tuple[Path, re.Match[str]]] = []
    for path in sorted(files):
        text = path.read_text(errors="surrogateescape")
        for match in _CALL.finditer(text):
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            if not _NO_CALL.search(line):
                calls.append((path, match))
    sent = Counter(match["id"] for _, match in calls if match["kind"] in ("send", "sync"))
    synced = Counter(match["id"] for _, match in calls if match["kind"] == "sync")
    awaited = {match["id"] for _, match in calls if match["kind"] != "send"}
    found = []
    for path, match in calls:
        kind, name = match["kind"], match["id"]
        once = sent[name] == 1 and name in awaited and kind == "send"
        if once:
            found.append(Slip("sent", path, *match.span("id"), misspelt(name)))
        if kind in ("wait", "wait-all"):
            found.append(Slip("awaited", path, *match.span("id"), misspelt(name)))
        if kind == "wait-all" and match["role"]:
            found.append(Slip("role", path, *match.span("role"), misspelt(match["role"])))
        # Where all roles run the same lava-sync, nothing is wrong without it.
        if synced[name] > 1 or once:
            found.append(Slip("missing", path, match.start(), match.end("id"), "true"))
    return found


def misspelt(word: str) -> str:
    """The word with two letters in the wrong order, or without its last one."""
    for at in range(len(word) // 2, len(word) - 1):
        if word[at] != word[at + 1]:
            return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:-1]


def outcome(before: Sequence[Finding], after: Sequence[Finding]) -> str:
    """The worst finding that was not there before."""
    known = {(finding.place, finding.severity, finding.rule, finding.sentence) for finding in before}
    new = {
        finding.severity
        for finding in after
        if (finding.place, finding.severity, finding.rule, finding.sentence) not in known
    }
    return next((severity.value for severity in Severity if severity in new), "nothing")


def own_jobs() -> Iterator[Job]:
    """Those of this repository."""
    examples = ROOT / "examples"
    for folder, arguments in {
        "1-client-server": ("--role", "server=./run-server.sh", "--role", "client=./run-client.sh"),
        "2-iperf": ("--role", "server=./run-server.sh", "--role", "client=./run-client.sh"),
        "3-variable-clients": ("--role", "server=./run-server.sh", "--role", "client*3=./run-client.sh"),
        "4-peer-to-peer": ("--role", "peer*3=./run-peer.sh"),
        "5-network": ("--role", "server=./run-server.sh", "--role", "client*2=./run-client.sh"),
        "flow-table": (
            *("--role", "server=./run-server.sh", "--role", "client=./run-client.sh"),
            *("--role", "observer=./run-observer.sh"),
        ),
    }.items():
        yield Job(f"examples/{folder}", examples / folder, arguments)
    yield Job("examples/jobs/transfer", examples / "jobs", ("transfer.yaml",))
    yield Job("examples/jobs/greet", examples / "jobs", ("greet.yaml", "--role", "peer*3"))
    for path in sorted((ROOT / "bench" / "slips_jobs").glob("*.yaml")):
        yield Job(f"slips_jobs/{path.stem}", path.parent, (path.name,))


def jobs_of_others(clones: Path) -> Iterator[Job]:
    """Those that are found in clones; `plan` says which of them can be read."""
    for case in CASES:
        urls = list(case.clones)
        if case.template is not None or any("{ours}" in argument for argument in case.arguments):
            continue
        names = [folder_of(url) for url in urls]
        arguments = [argument.format(*names) for argument in case.arguments]
        yield Job(case.name, clones, arguments)
    repos = [
        word
        for case in CASES
        for url in case.clones
        if (clones / folder_of(url)).is_dir()
        for word in ("--repo", f"{url}={folder_of(url)}")
    ]
    for path in sorted(clones.rglob("*.y*ml")):
        if path.is_file() and b"lava-multinode" in path.read_bytes():
            yield Job(str(path.relative_to(clones)), clones, (str(path.relative_to(clones)), *repos))


def measure(job: Job) -> tuple[list[Finding], Counter[tuple[str, str]], list[str], float, int]:
    """The false alarms, the slips by kind and outcome, those that were missed, processor seconds, and calls."""
    began = time.process_time()
    before, files, calls = plan(job)
    seconds = time.process_time() - began
    alarms = [finding for finding in before if finding.severity is not Severity.NOTE]
    counts: Counter[tuple[str, str]] = Counter()
    missed = []
    if seconds > MOST_SECONDS:
        missed.append(f"no slips are planted: it takes {seconds:.1f} s to plan")
    for slip in slips(files) if seconds <= MOST_SECONDS else []:
        try:
            result = outcome(before, plan(job, slip)[0])
        except (SetupError, UsageError):
            result = "error"
        counts[slip.kind, result] += 1
        if result in ("note", "nothing"):
            text = slip.path.read_text(errors="surrogateescape")
            place = f"{slip.path.name}:{text.count(chr(10), 0, slip.begin) + 1}"
            missed.append(
                f"{result}: {slip.kind} {text[slip.begin : slip.end]!r} -> {slip.text!r} in {place}"
            )
    return alarms, counts, missed, seconds, calls


def without_history(clones: Path, scratch: Path) -> Path:
    """The files of the clones as they lie there, which is then what jobs get of every branch."""
    for clone in sorted(path for path in clones.iterdir() if path.is_dir()):
        shutil.copytree(clone, scratch / clone.name, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    return scratch


def flat() -> AbstractContextManager[object]:
    """Plan without conditions, and without the turns of loops."""
    stack = ExitStack()
    kinds = ("for_statement", "while_statement")
    stack.enter_context(mock.patch.dict(statements.VISITS, dict.fromkeys(kinds, loops.c_style_for)))
    for module in (statements, builtins):
        stack.enter_context(
            mock.patch.object(module, "judged", lambda *tokens, patterns=False: Status.UNKNOWN)
        )
    return stack


def main() -> int:
    """Print a table; returns 1 if there was a false alarm."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.slips", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("--clones", metavar="DIR", type=Path, help="where clones of others' repositories are")
    parser.add_argument("--verbose", action="store_true", help="tell each false alarm, and each slip missed")
    parser.add_argument("--flat", action="store_true", help="follow commands, parameters and functions only")
    arguments = parser.parse_args()
    with flat() if arguments.flat else nullcontext():
        return _print_table(arguments)


def _print_table(arguments: argparse.Namespace) -> int:
    jobs = list(own_jobs())
    total: Counter[tuple[str, str]] = Counter()
    alarms, read, calls, seconds = 0, 0, 0, 0.0
    with tempfile.TemporaryDirectory(prefix="slips-") as scratch:
        if arguments.clones is not None:
            jobs += jobs_of_others(without_history(arguments.clones, Path(scratch)))
        for job in jobs:
            try:
                wrong, counts, missed, own, number = measure(job)
            except (SetupError, UsageError) as error:
                if arguments.verbose:
                    print(f"{job.name}: not read: {error}", file=sys.stderr)
                continue
            if not number:
                continue
            read, calls, seconds, alarms = read + 1, calls + number, seconds + own, alarms + len(wrong)
            total += counts
            if arguments.verbose:
                for line in (*map(str, wrong), *missed):
                    print(f"{job.name}: {line}", file=sys.stderr)
    print(f"{read} jobs, {calls} calls, {alarms} false alarms, {seconds / max(1, read):.2f} s a job\n")
    print(f"| slip | planted | {' | '.join(OUTCOMES)} |\n|---|---|{'---|' * len(OUTCOMES)}")
    for kind in KINDS:
        row = [total[kind, result] for result in OUTCOMES]
        print(f"| {kind} | {sum(row)} | {' | '.join(map(str, row))} |")
    caught = sum(total[kind, result] for kind in KINDS for result in ("error", "warning"))
    print(f"\n{caught} of {total.total()} caught")
    return int(alarms > 0)


if __name__ == "__main__":
    sys.exit(main())
