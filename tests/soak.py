# SPDX-License-Identifier: MIT
"""`make soak`: the fault model for as long as you like, a table at the end.

    python tests/soak.py [--exchanges N] [--seed S]

Each round takes another seed and another mixture of faults; a failure prints
both, and they repeat it. An exchange is a frame of a device that was answered
or repeated.
"""

import argparse
import random
import sys
import time
from collections import Counter
from dataclasses import fields
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from fault_model import Faults, World


def mixture(rng: random.Random) -> Faults:
    """Some faults, each of them often absent."""

    def perhaps(*values: float) -> float:
        return rng.choice((0.0, *values))

    return Faults(
        printk=perhaps(5.0, 20.0, 50.0),
        stamps=rng.random() < 0.7,
        drop=perhaps(1e-4, 1e-3),
        flip=perhaps(1e-4, 1e-3),
        double=perhaps(1e-4, 1e-3),
        delay=perhaps(0.02),
        echo=rng.random() < 0.3,
        cancel=perhaps(0.2),
        kill=perhaps(0.1),
        reboot=perhaps(0.05),
        replay=perhaps(0.2),
        background=perhaps(0.2),
        restart=perhaps(0.05),
        outage=perhaps(0.03),
        baud=rng.choice((9600, 115200, 1000000)),
        log_delay=perhaps(0.01, 0.3, 2.0),
        log_failure=perhaps(0.02),
        log_double=perhaps(0.05),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exchanges", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first round (default: %(default)s)")
    arguments = parser.parse_args()
    total: Counter[str] = Counter()
    started = time.monotonic()
    shown = started
    seed = arguments.seed
    while total["frames"] < arguments.exchanges:
        faults = mixture(random.Random(seed))
        try:
            total += World(seed, faults, devices=4).run(seconds=60, commands=3.0)
        except BaseException:
            named = ", ".join(f"{f.name}={getattr(faults, f.name)}" for f in fields(faults))
            print(f"seed {seed}: {named}", file=sys.stderr)
            raise
        seed += 1
        if time.monotonic() > shown + 10:
            shown = time.monotonic()
            print(f"seed {seed}: {total['frames']} exchanges, {total['commands']} commands", flush=True)
    print(f"\nseeds {arguments.seed} to {seed - 1}, {time.monotonic() - started:.0f} s\n")
    print("| what | count |")
    print("|---|---|")
    for name, title in (
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
        ("restarts", "dispatchers restarted"),
        ("appends failed", "events that the log did not take"),
        ("lost", "lost, carried out twice, or wrong"),
    ):
        print(f"| {title} | {total[name]} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
