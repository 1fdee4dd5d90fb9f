# SPDX-License-Identifier: MIT
"""Transfer of one message in chunks, either way.

A message is sealed with its CRC-32 (four bytes, big endian) before it is cut.
Chunks are placed by byte offset, so their size may change from one try to the
next: smaller ones after a loss, larger ones after success.
"""

import binascii

SEAL_SIZE = 4
MIN_CHUNK = 48
# Chunks that came ahead of a lost one are kept, this many.
MAX_AHEAD = 16


def seal(message: bytes) -> bytes:
    return message + (binascii.crc32(message) & 0xFFFFFFFF).to_bytes(SEAL_SIZE, "big")


class Outgoing:
    """The sending side. `max_window` chunks may go before an answer is due, at first `window`."""

    __slots__ = ("acknowledged", "chunk", "data", "max_chunk", "max_window", "sent", "window")

    def __init__(
        self, message: bytes, max_chunk: int, max_window: int, chunk: int = 0, window: int = 0
    ) -> None:
        self.data = seal(message)
        self.max_chunk = max_chunk
        self.max_window = max_window
        self.chunk = chunk or max_chunk
        self.window = window or max_window
        self.acknowledged = 0
        self.sent = 0

    @property
    def total(self) -> int:
        return len(self.data)

    @property
    def complete(self) -> bool:
        return self.acknowledged == len(self.data)

    def acknowledge(self, have: int) -> None:
        """The receiver has the first `have` bytes, and has seen all that was sent."""
        if not 0 <= have <= len(self.data):
            return
        if have < self.sent:
            self.lost()
        else:
            self.chunk = min(self.max_chunk, self.chunk * 2)
            self.window = min(self.max_window, self.window * 2)
        self.acknowledged = have

    def lost(self) -> None:
        """Something did not arrive: shorter chunks, one at a time, are less at risk."""
        self.chunk = max(MIN_CHUNK, self.chunk // 2)
        self.window = 1
        self.sent = self.acknowledged

    def burst(self) -> "list[tuple[int, bytes, int]]":
        """The next chunks as `(offset, chunk, push)`; the last one asks for an answer."""
        chunks = []  # type: list[tuple[int, bytes, int]]
        offset = self.acknowledged
        while offset < len(self.data) and len(chunks) < self.window:
            chunk = self.data[offset : offset + self.chunk]
            chunks.append((offset, chunk, 0))
            offset += len(chunk)
        self.sent = offset
        if chunks:
            chunks[-1] = chunks[-1][:2] + (1,)
        return chunks


class Incoming:
    """The receiving side of one message of `total` sealed bytes."""

    __slots__ = ("_ahead", "_data", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self._data = bytearray()
        self._ahead = {}  # type: dict[int, bytes]

    @property
    def have(self) -> int:
        """Bytes received without a gap."""
        return len(self._data)

    def add(self, offset: int, chunk: bytes) -> "bytes | None":
        """Place a chunk; returns the message once it is whole and its seal holds."""
        if not chunk or offset + len(chunk) > self.total:
            return None
        if offset > len(self._data):
            if len(self._ahead) < MAX_AHEAD:
                self._ahead[offset] = chunk
            return None
        self._data += chunk[len(self._data) - offset :]
        for start in sorted(self._ahead):
            if start > len(self._data):
                break
            self._data += self._ahead.pop(start)[len(self._data) - start :]
        if len(self._data) < self.total:
            return None
        message = bytes(self._data[:-SEAL_SIZE])
        if seal(message) != self._data:
            # Chunks of two different messages, or a damaged one with a lucky checksum: start over.
            self._data.clear()
            self._ahead.clear()
            return None
        return message
