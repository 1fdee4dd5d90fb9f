# SPDX-License-Identifier: MIT
"""What is said of wrong jobs, and how soon.

    python -m bench.deadends [--times N]

Runs each of the jobs below in `lavabox sim`, N times, and prints as a Markdown table what was said of it, and
the time from the last event of the group until then: median and longest.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import build_zipapp

# Seconds that a job may take; without being found out it would take for ever.
PATIENCE = 60


@dataclass(frozen=True, slots=True)
class WrongJob:
    """A job that hangs: what is wrong, what the roles run, and the sentence that has to be said of it.

    Times in the sentence stand as "#".
    """

    what: str
    roles: Mapping[str, str]
    said: str


JOBS = (
    WrongJob(
        "a typo in an id",
        {"server": "lava-send redy; lava-sync end", "client": "lava-wait-all ready server; lava-sync end"},
        "client-1 has waited # in `lava-wait-all ready server`: server-1 sent 'redy' (did you mean 'ready'?) "
        "and waits itself in `lava-sync end`",
    ),
    WrongJob(
        "a wrong role, which exists",
        {
            "server": "lava-send ready; lava-wait done",
            "client*2": "lava-wait-all ready client; lava-send done",
        },
        "client-1 and client-2 have waited # in `lava-wait-all ready client`: client-1 and client-2 never sent "
        "'ready' and wait themselves in `lava-wait-all ready client`; but server-1, of role server, sent it",
    ),
    WrongJob(
        "two waits in the wrong order",
        {"server": "lava-wait b; lava-send a", "client": "lava-wait a; lava-send b"},
        "So server-1 and client-1 wait for each other",
    ),
    WrongJob(
        "a sync that one role leaves out",
        {
            "server": "lava-sync start; lava-send go",
            "client*2": "lava-sync start",
            "observer": "lava-wait go",
        },
        "server-1, client-1 and client-2 have waited # in `lava-sync start`: observer-1 never came to it and "
        "waits itself in `lava-wait go`",
    ),
    WrongJob(
        "a typo in a sync",
        {"server": "lava-sync strat", "client": "lava-sync start"},
        "server-1 has waited # in `lava-sync strat`: client-1 never sent 'strat' and waits itself in "
        "`lava-sync start` (did you mean 'strat'?)",
    ),
    WrongJob(
        "a device that ends too early",
        {
            "worker*2": '[ "$(lava-self)" = worker-2 ] || lava-send done',
            "server": "lava-wait-all done worker",
        },
        "worker-2 ended without sending 'done'",
    ),
    WrongJob(
        "a sync that only one repeats",
        {"server": "lava-sync x; lava-sync x", "client": "lava-sync x; lava-wait go"},
        "server-1 has waited # in `lava-sync x`: client-1 has synced 'x' once, and this is the second; it waits "
        "itself in `lava-wait go`",
    ),
    WrongJob(
        "a wait for the device's own message",
        {"server": "lava-send x; lava-wait x; lava-send go", "client": "lava-wait go"},
        "server-1 has waited # in `lava-wait x`: client-1 never sent 'x' and waits itself in `lava-wait go`; "
        "its own message does not count",
    ),
    WrongJob(
        "three devices in a circle",
        {
            "a": "lava-wait-all c c; lava-send a",
            "b": "lava-wait-all a a; lava-send b",
            "c": "lava-wait-all b b; lava-send c",
        },
        "So they wait in a circle: a-1 for c-1, c-1 for b-1, b-1 for a-1",
    ),
    WrongJob(
        "two that wait for each other, while a third runs on",
        {
            "a": "lava-wait-all b b; lava-send a; lava-send over",
            "b": "lava-wait-all a a; lava-send b",
            "c": "sleep 5",
        },
        "So a-1 and b-1 wait for each other",
    ),
    WrongJob(
        "a wait in the background and one in the foreground",
        {"server": "lava-wait x & lava-wait y; wait", "client": "lava-test-case t --shell lava-sync z"},
        "client-1 has waited # in `lava-sync z`: server-1 never came to it and waits itself in `lava-wait x` and `lava-wait y`",
    ),
    WrongJob(
        "fifty devices, one of them elsewhere",
        {"peer*49": "lava-sync start", "other": "lava-wait go"},
        "peer-1, peer-2, peer-3 and 46 more have waited # in `lava-sync start`: other-1 never came to it and waits "
        "itself in `lava-wait go`",
    ),
)


def options(job: WrongJob) -> list[str]:
    """The arguments of `lavabox sim` that say what the devices are."""
    return [word for role, command in job.roles.items() for word in ("--role", f"{role}={command}")]


def detection_time(events: Sequence[Mapping[str, object]]) -> float:
    """Seconds from the last event of the group until its dead end was found.

    0 where a device that left made waits hopeless: that very event ends them.
    """
    for before, event in pairwise(events):
        if event["type"] == "released" and str(event["reason"]).startswith("dead end"):
            return float(str(event["time"])) - float(str(before["time"]))
    return 0.0


def _run(job: WrongJob, box: Path, folder: Path) -> tuple[list[str], float]:
    """What was said, and the time until then."""
    log = folder / "group.jsonl"
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "dispatcher", "sim", "--box", box, "--group-log", log, *options(job)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode != 1:
        raise SystemExit(f"{job.what}: ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    # Behind an empty line the tables begin.
    lines = done.stdout.partition("\n\n")[0].splitlines()
    said = [line.removeprefix("lavabox: ") for line in lines if line.startswith("lavabox: ")]
    if not said or not said[0].startswith("dead end"):
        said = [line.partition(" ! ")[2] for line in lines if " ! waited" in line]
    return said, detection_time([json.loads(line) for line in log.read_text().splitlines()])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What is said of wrong jobs, and how soon.")
    parser.add_argument("--times", type=int, default=5, metavar="N", help="run each so often")
    count = parser.parse_args().times
    print("| what is wrong | message | found after: median | longest |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        box = build_zipapp.build(folder / "lavabox")
        for job in JOBS:
            runs = [_run(job, box, folder) for _ in range(count)]
            times = [time for _, time in runs]
            said = "<br>".join(line.replace("|", "\\|") for line in runs[0][0])
            median = statistics.median(times)
            print(f"| {job.what} | {said} | {median:.2f} s | {max(times):.2f} s |", flush=True)


if __name__ == "__main__":
    main()
