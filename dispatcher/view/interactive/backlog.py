# SPDX-License-Identifier: MIT
"""What a device has printed while nobody looked at its console: the end of it."""

# Bytes; a terminal with a screenful of colours has less.
_MOST = 64 * 1024


class Backlog:
    """Bytes, of which the oldest are forgotten."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Keep bytes."""
        self._data += data
        if len(self._data) > _MOST:
            # From the beginning of a line on.
            start = self._data.find(b"\n", len(self._data) - _MOST) + 1
            del self._data[: start or len(self._data) - _MOST]

    def take(self) -> bytes:
        """Everything that is kept, which is not kept any longer."""
        data = bytes(self._data)
        self._data.clear()
        return data
