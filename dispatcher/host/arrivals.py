# SPDX-License-Identifier: MIT
"""What has come from a console and is not read, in slices that are small enough for one turn of the event loop.

Output that takes long to read, as a hostile device sends it, comes in smaller slices. No I/O and no clock.
"""

# Seconds of processor time that a slice may take; and bytes of one.
SLICE_TIME = 0.002
SMALLEST_SLICE, FIRST_SLICE, LARGEST_SLICE = 512, 8 * 1024, 64 * 1024


class Arrivals:
    """Bytes, in the order in which they came."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = FIRST_SLICE

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, data: bytes) -> None:
        """More has come."""
        self._pieces.append(data)

    def slice(self) -> bytes:
        """The next slice, perhaps empty; call `took` when all that is in it is done."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = [data[self._size :]] if len(data) > self._size else []
        return data[: self._size]

    def rest(self) -> bytes:
        """All that is left."""
        data, self._pieces = b"".join(self._pieces), []
        return data

    def took(self, seconds: float, size: int) -> None:
        """A slice of so many bytes took so long, which decides how large the next ones are."""
        if seconds > SLICE_TIME:
            self._size = max(SMALLEST_SLICE, self._size // 2)
        elif seconds < SLICE_TIME / 4 and size == self._size:
            self._size = min(LARGEST_SLICE, self._size * 2)
