# SPDX-License-Identifier: MIT
"""How many bytes of a console are handed on at once, so that none keeps the loop from the others."""

import time
from collections.abc import Callable

# Enough that a batch costs little more than its bytes.
LARGEST = 64 * 1024
# Seconds that a batch may take. Output that takes longer, as a hostile device sends it, comes in smaller batches
# from then on, down to so many bytes.
_LONGEST = 0.002
_SMALLEST = 512


class Batches:
    """The batches of one console; `size` is how large the next one may be."""

    def __init__(self, largest: int = LARGEST) -> None:
        self.size = self._largest = largest

    def hand_on(self, data: bytes, received: Callable[[bytes], object]) -> None:
        """Give a batch to `received`, and look how long that takes."""
        began = time.monotonic()
        received(data)
        took = time.monotonic() - began
        if took > _LONGEST:
            self.size = max(_SMALLEST, self.size // 2)
        elif took < _LONGEST / 4 and len(data) >= self.size:
            self.size = min(self._largest, self.size * 2)
