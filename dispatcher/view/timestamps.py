# SPDX-License-Identifier: MIT
"""Times before lines. No I/O and no clock: text goes to a function, and a function tells the time."""

from collections.abc import Callable
from datetime import UTC, datetime

# Tells the time as seconds since 1970.
Clock = Callable[[], float]


def of_day(seconds: float) -> str:
    """The time of the day here, for whoever looks: "15:04:05.678"."""
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S.%f")[:-3]


def universal(seconds: float) -> str:
    """Date and time in UTC, for files: "2026-03-01T14:04:05.678Z"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def stamp_lines(data: bytes, stamp: bytes, *, inside: bool) -> bytes:
    """The bytes with the stamp before each line; `inside`: they begin in the middle of one."""
    ended = data.endswith(b"\n")
    lines = data.removesuffix(b"\n").split(b"\n")
    text = (b"" if inside else stamp) + (b"\n" + stamp).join(lines)
    return text + b"\n" if ended else text


class Timestamps:
    """Puts the time of the day before each line, as long as `on`."""

    def __init__(self, write: Callable[[str], object], clock: Clock) -> None:
        """
        :param write: takes one or more whole lines.
        """
        self.on = True
        self._write = write
        self._clock = clock

    def write(self, text: str) -> None:
        """One or more whole lines."""
        if self.on:
            stamp = f"{of_day(self._clock())} "
            text = "".join(f"{stamp}{line}\n" for line in text.removesuffix("\n").split("\n"))
        self._write(text)


class StampedLines:
    """Puts date and time before each line of bytes that come in pieces: when its first byte came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._inside = False  # of a line

    def stamped(self, data: bytes) -> bytes:
        """The bytes with the stamps; they need not end with a line."""
        if not data:
            return data
        inside, self._inside = self._inside, not data.endswith(b"\n")
        return stamp_lines(data, f"{universal(self._clock())} ".encode(), inside=inside)
