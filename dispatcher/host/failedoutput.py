# SPDX-License-Identifier: MIT
"""What failed tests have printed: kept while the run goes on, for the reports at its end.

Of each device only the last output is kept, so the memory is bounded however much it prints. No I/O and
no clock.
"""

from dispatcher.group.results import Case

# Bytes that are kept of a device's output, and of that of one test; and tests whose output is kept.
MAX_TAIL = 256 * 1024
MAX_PIECE = 16 * 1024
MAX_PIECES = 1000


class _Tail:
    """The last output of a device; positions count as in its console log."""

    def __init__(self, position: int) -> None:
        self.end = position
        self.told = position  # where its last result was reported
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        self._data += data
        self.end += len(data)
        if len(self._data) > 2 * MAX_TAIL:
            del self._data[:-MAX_TAIL]

    def piece(self, start: int, end: int) -> tuple[bytes, int]:
        """What is there of the bytes from `start` to `end`, and how many before it are not."""
        begin = self.end - len(self._data)
        first = max(start, begin, end - MAX_PIECE)
        return bytes(self._data[first - begin : max(first, end) - begin]), first - start


class FailedOutput:
    """The output of failed tests, by their results: `pieces`. Call `begin` for each device first."""

    def __init__(self) -> None:
        self.pieces: dict[Case, bytes] = {}
        self._tails: dict[str, _Tail] = {}

    def begin(self, device: str, position: int) -> None:
        """The device's output begins at this position of its console log."""
        self._tails[device] = _Tail(position)

    def add(self, device: str, data: bytes) -> None:
        """The device has printed something."""
        self._tails[device].add(data)

    def note(self, case: Case) -> None:
        """A result has come. Of a test whose output is not marked it is what came since the one before."""
        tail = self._tails.get(case.device)
        if tail is None:
            return
        marked = case.start is not None and case.end is not None
        start, end = (case.start, case.end) if marked else (tail.told, case.position)
        assert start is not None and end is not None
        tail.told = max(tail.told, case.position)
        if case.result == "fail" and len(self.pieces) < MAX_PIECES:
            piece, missing = tail.piece(start, end)
            if missing > 0 and piece:
                piece = b"[%d bytes before this are left out]\n" % missing + piece
            if piece:
                self.pieces[case] = piece
