# SPDX-License-Identifier: MIT
"""Kernel messages, numbered: `noise.py PAUSE` on a guest makes the kernel print one every PAUSE seconds.

The host knows from `record` what has to have come.
"""

import os
import signal
import time

_WORDS = "usb usb1 new device number two using dummy_hcd and here is what it says of itself"
_UNBROKEN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def record(number: int) -> list[str]:
    """The lines of a kernel message: short and long ones, of several lines, like a frame's content."""
    name = f"noise {number:06}"
    return [
        [name + "."],
        [name + " " + _WORDS + "."],
        [name + " " + _UNBROKEN + "."],
        [name + ": " + _WORDS, name + " second line", name + " third: " + _UNBROKEN],
        [name + ": " + " ".join([_WORDS] * 3) + "."],
        [f"{number:06}-noise-{_UNBROKEN}"],
        [name + " [brackets] <5> 100% # L1 ]5282; done."],
    ][number % 7]


def main(pause: float) -> None:
    """Print until SIGTERM comes; leave how many there were in /run/noise.count."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    with open("/run/noise.pid", "w") as file:
        file.write(str(os.getpid()))
    kmsg = os.open("/dev/kmsg", os.O_WRONLY)
    number = 0
    while not stopped:
        # Without its end the kernel would hold a message back, in case it goes on.
        os.write(kmsg, "".join(line + "\n" for line in record(number)).encode())
        number += 1
        time.sleep(pause)
    with open("/run/noise.new", "w") as file:
        file.write(f"{number}\n")
    os.rename("/run/noise.new", "/run/noise.count")


if __name__ == "__main__":
    import sys

    main(float(sys.argv[1]))
