# SPDX-License-Identifier: MIT
"""`make soak`: the fault model for as long as you like, a table at the end.

    python tests/soak.py [--exchanges N] [--seed S] [--jobs J]

Each round takes another seed and another mixture of faults. A violation is
printed with the command that repeats it, and the run goes on; it ends with 1
then. Rounds are counted in the order of their seeds, so the table is the same
for any number of jobs. Ctrl-C shows the table so far once the next round is
over. An exchange is a frame of a device that was answered or repeated.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from fault_model import MIXTURES, Faults, World

# Seconds between two lines of progress.
PROGRESS = 10.0
ROWS = (
    ("frames", "frames sent"),
    ("frames cut", "cut by kernel messages"),
    ("frames damaged", "damaged (bytes lost, flipped, doubled)"),
    ("repeats", "frames sent again"),
    ("lines", "lines typed"),
    ("commands", "commands"),
    ("status 0", "ended with 0"),
    ("status 1", "ended with 1 (time-out of a wait)"),
    ("status 69", "ended with 69"),
    ("status 75", "ended with 75"),
    ("taken by wait-next", "messages of `lava-wait --next` that were taken"),
    ("taken by lock", "locks that were taken"),
    ("signals", "text signals"),
    ("departures", "devices that left and came back"),
    ("restarts", "dispatchers restarted"),
    ("appends failed", "events that the log did not take"),
    ("violations", "rounds in which something was lost, carried out twice, or wrong"),
)


class Round(NamedTuple):
    """What one seed gave: how often what happened, and the violation that ended it."""

    counts: Counter[str]
    violation: str | None = None


def mixture(rng: random.Random) -> Faults:
    return Faults(**{name: rng.choice(values) for name, values in MIXTURES.items()})


def play(seed: int, seconds: float) -> Round:
    """One round: so many seconds of faults."""
    faults = mixture(random.Random(seed))
    world = World(seed, faults, devices=4)
    try:
        return Round(world.run(seconds, commands=3.0))
    except Exception:
        named = ", ".join(f"{f.name}={getattr(faults, f.name)}" for f in fields(faults))
        again = f"python tests/soak.py --seed {seed} --exchanges 1 --seconds {seconds:g}"
        counts = world.counts + Counter(violations=1)
        return Round(counts, f"seed {seed}: {named}\n{traceback.format_exc()}again: {again}\n")


def rounds(first: int, seconds: float, jobs: int) -> Iterator[Round]:
    """Rounds without end, in the order of their seeds, from so many processes."""
    pool = ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    begun: deque[Future[Round]] = deque()
    try:
        for seed in count(first):
            begun.append(pool.submit(play, seed, seconds))
            # No process waits for a long round of another one.
            if len(begun) >= 2 * jobs:
                yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def show(total: Counter[str], first: int, started: float) -> None:
    """The table."""
    print(f"\nseeds {first} to {first + total['rounds'] - 1}, {time.monotonic() - started:.0f} s\n")
    print("| what | count |")
    print("|---|---|")
    for name, title in ROWS:
        print(f"| {title} | {total[name]:,} |")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exchanges", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first round (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a round (default: %(default)g)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s, the cores)"
    )
    arguments = parser.parse_args()
    interrupted: list[int] = []

    def interrupt(number: int, _: object) -> None:
        interrupted.append(number)
        # Who does not want to wait for the table asks again.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGINT, interrupt)
    total: Counter[str] = Counter()
    started = shown = time.monotonic()
    print(f"rounds from seed {arguments.seed} on, {arguments.jobs} at a time", flush=True)
    with closing(rounds(arguments.seed, arguments.seconds, arguments.jobs)) as results:
        for counts, violation in results:
            total += counts
            total["rounds"] += 1
            if violation is not None:
                print(violation, file=sys.stderr, flush=True)
            if interrupted or total["frames"] >= arguments.exchanges:
                break
            if time.monotonic() > shown + PROGRESS:
                shown = time.monotonic()
                print(
                    f"seed {arguments.seed + total['rounds']}: {total['frames']:,} exchanges, "
                    f"{total['frames'] / (shown - started):,.0f} a second, "
                    f"{total['commands']:,} commands, {total['violations']} violations",
                    flush=True,
                )
        show(total, arguments.seed, started)
    if interrupted:
        return 130
    return 1 if total["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
