# SPDX-License-Identifier: MIT
"""A board on a pty, for LAVA: a bash, and kernel messages that cut into what it prints at any byte.

board.py MESSAGES_A_SECOND SEED
"""

import os
import pty
import random
import select
import sys
import time
import tty

ENVIRONMENT = {"PS1": "board# ", "TERM": "dumb", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def main(rate: float, seed: str) -> int:
    randomness = random.Random(seed)
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "--noprofile", "--norc", "-i"], {**os.environ, **ENVIRONMENT})
    if os.isatty(0):
        tty.setraw(0)
    start = time.monotonic()

    def pause() -> float:
        return randomness.expovariate(rate) if rate else float("inf")

    due = start + pause()
    noisy = False
    while True:
        ready, _, _ = select.select([0, master], [], [])
        if 0 in ready:
            typed = os.read(0, 4096)
            if not typed:
                return 0
            os.write(master, typed)
        if master in ready:
            try:
                data = os.read(master, 4096)
            except OSError:
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            now = time.monotonic()
            noisy = (noisy or b"noise on\r\n" in data) and b"noise off\r\n" not in data
            if noisy and now >= due:
                due = now + pause()
                cut = randomness.randrange(len(data) + 1)
                stamp = f"[{now - start + 100:12.6f}] usb 1-1: new high-speed device number {randomness.randrange(99)}"
                data = data[:cut] + stamp.encode() + b"\r\n" + data[cut:]
            while data:
                data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2]))
