# SPDX-License-Identifier: MIT
"""What the hook adds: the round trip of a keystroke and the throughput, beside socat and a plain pty in one run.

python -m bench hook
"""

import os
import select
import shutil
import statistics
import subprocess
import sys
import time
import tty
from dataclasses import dataclass

KEYSTROKES = 500
BYTES = 50_000_000
# It answers each byte, and pours out bytes when it reads a "P".
_ECHO = f"""
import os, tty
tty.setraw(0)
os.write(1, b"ready")
while byte := os.read(0, 1):
    if byte == b"P":
        left = {BYTES}
        while left:
            left -= os.write(1, bytes(min(left, 65536)))
    else:
        os.write(1, byte)
"""


@dataclass
class Way:
    """One way to the device."""

    name: str
    argv: list[str]


def ways() -> list[Way]:
    device = [sys.executable, "-c", _ECHO]
    found = [
        Way("plain pty", device),
        Way("lavabox hook", [sys.executable, "-m", "dispatcher", "hook", "--", *device]),
    ]
    if shutil.which("socat"):
        script = f"EXEC:'{sys.executable} /dev/fd/3',pty,raw,echo=0"
        found.append(
            Way("socat", ["sh", "-c", f'exec 3<<"E"\n{_ECHO}E\nexec socat STDIO,raw,echo=0 "{script}"'])
        )
    return found


def measure(way: Way) -> tuple[float, float, float]:
    """Median and 99th percentile of the round trip in microseconds; megabytes a second."""
    master, slave = os.openpty()
    tty.setraw(slave)
    process = subprocess.Popen(
        way.argv, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, start_new_session=True
    )
    os.close(slave)
    try:
        _read(master, 5)
        times = []
        for _ in range(KEYSTROKES):
            start = time.perf_counter()
            os.write(master, b"x")
            _read(master, 1)
            times.append((time.perf_counter() - start) * 1e6)
        start = time.perf_counter()
        os.write(master, b"P")
        _read(master, BYTES)
        rate = BYTES / 1e6 / (time.perf_counter() - start)
        return statistics.median(times), statistics.quantiles(times, n=100)[98], rate
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _read(master: int, count: int) -> None:
    while count > 0:
        select.select([master], [], [])
        count -= len(os.read(master, 65536))


def main() -> None:
    """Print the table."""
    print(f"{'':14}{'keystroke and back, µs':>24}{'throughput':>14}")
    print(f"{'':14}{'median':>12}{'99 %':>12}{'MB/s':>14}")
    for way in ways():
        median, high, rate = measure(way)
        print(f"{way.name:14}{median:12.0f}{high:12.0f}{rate:14.1f}")


if __name__ == "__main__":
    main()
