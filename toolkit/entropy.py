# SPDX-License-Identifier: MIT
"""Random bytes that never make a command wait.

Early at boot, on kernels before 5.6, getrandom(2) and so os.urandom block until the kernel has gathered
entropy: minutes on small boards. The bytes here name requests and agents; they keep no secret.
"""

import posix
import time


def random_bytes(size: int) -> bytes:
    """`size` bytes that no other process, boot or device is likely to get, too."""
    try:
        return posix.getrandom(size, posix.GRND_NONBLOCK)
    except (OSError, AttributeError):
        return _unlikely_bytes(size)


def _unlikely_bytes(size: int) -> bytes:
    """The same by clocks and process number, and by what the kernel has so far: that may repeat at each boot."""
    seed = b"%d %a %a" % (posix.getpid(), time.time(), time.monotonic())
    try:
        with open("/dev/urandom", "rb", 0) as file:
            seed += file.read(16)
    except OSError:
        pass
    words = (hash(b"%d " % i + seed) & 0xFFFFFFFF for i in range(0, size, 4))
    return b"".join(word.to_bytes(4, "big") for word in words)[:size]
