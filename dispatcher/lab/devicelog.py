# SPDX-License-Identifier: MIT
"""The console logs of a lab that runs for months: byte for byte, and with time stamps; put aside when they are long.

NAME.log          what the device printed, since NAME.OFFSET.log ended
NAME.time.log     the same, each line with the time at which it began
NAME.OFFSET.log   earlier output; OFFSET is where it begins, in bytes of all that the device ever printed
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dispatcher.files import open_log, told, write_all
from dispatcher.view.timestamps import stamp_lines, universal

# Seconds after a write that failed until the next one is tried.
_PAUSE = 10.0
_DIGITS = 16
# Bytes over its size after which a log is put aside within a line.
_LONGEST_LINE = 64 * 1024


class DeviceLog:
    """The logs of one device, as a tap.

    :param size: bytes after which a log is put aside.
    :param keep: how many of those are kept.
    :param notice: is told when the log can't be written, and when it can again.
    """

    def __init__(
        self,
        directory: Path,
        device: str,
        size: int,
        keep: int,
        epoch: float,
        notice: Callable[[str], object],
    ) -> None:
        """Raises OSError."""
        self._directory = directory
        self._device = device
        self._size = size
        self._keep = keep
        self._epoch = epoch
        self._notice = notice
        self._retry_at = 0.0
        self._aside_at = 0.0  # when it is tried again to put the log aside
        self._missing = 0
        self._gap = 0  # bytes that are missing in the file that is open
        self._begins_line = True
        directory.mkdir(parents=True, exist_ok=True)
        aside = self._aside()
        self._offset = 0
        if aside:
            self._offset = int(aside[-1].name.split(".")[-2]) + aside[-1].stat().st_size
        self._log, self._times = self._opened()

    @property
    def position(self) -> int:
        """Bytes that the device ever printed, as far as they are known here."""
        return self._offset + self._log.tell() + self._gap + self._missing

    def output(self, data: bytes, now: float) -> None:
        """Add what the device printed."""
        if now < self._retry_at:
            self._missing += len(data)
            return
        length, length_of_times = self._log.tell(), self._times.tell()
        try:
            if self._missing:
                self._say_what_is_missing()
                length, length_of_times = self._log.tell(), self._times.tell()
            write_all(self._log, data)
            write_all(self._times, self._stamped(data, now))
        except OSError as error:
            if not self._retry_at:
                self._notice(f"the log can't be written: {told(error)}; trying again")
            # All of it or nothing.
            self._log.seek(self._log.truncate(length))
            self._times.seek(self._times.truncate(length_of_times))
            self._missing += len(data)
            self._retry_at = now + _PAUSE
            return
        # At the end of a line, if one comes: nothing that is read line by line is in two files.
        over = self._log.tell() - self._size
        if over >= 0 and (self._begins_line or over >= _LONGEST_LINE) and now >= self._aside_at:
            try:
                self._put_aside()
            except OSError as error:
                if not self._aside_at:
                    self._notice(
                        f"the log can't be rotated: {told(error)}; it is still written, and rotation is tried again"
                    )
                self._aside_at = now + _PAUSE
            else:
                self._aside_at = 0.0

    def notice(self, sentence: str) -> None:
        """It is no output."""

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        self._times.close()

    def _opened(self) -> tuple[BinaryIO, BinaryIO]:
        # Unbuffered: whoever looks at a log sees what has come so far.
        log = open_log(self._path(""))
        try:
            return log, open_log(self._path(".time"))
        except OSError:
            log.close()
            raise

    def _path(self, kind: str) -> Path:
        return self._directory / f"{self._device}{kind}.log"

    def _stamped(self, data: bytes, now: float) -> bytes:
        """Each line with the time at which it began."""
        stamp = universal(self._epoch + now).removesuffix("Z")
        inside, self._begins_line = not self._begins_line, data.endswith(b"\n")
        return stamp_lines(data, f"{stamp} ".encode(), inside=inside)

    def _say_what_is_missing(self) -> None:
        sentence = f"{self._missing} bytes are missing in the log, which could not be written"
        write_all(self._times, b"\n[%b]\n" % sentence.encode())
        self._gap += self._missing
        self._missing = 0
        self._retry_at = 0.0
        self._begins_line = True
        self._notice(sentence)

    def _put_aside(self) -> None:
        """Begin new files. Raises OSError, and goes on with those that are open then."""
        moved = []
        try:
            for kind in ("", ".time"):
                aside = self._directory / f"{self._device}{kind}.{self._offset:0{_DIGITS}}.log"
                # Perhaps somebody has removed it, who needs it no more.
                with contextlib.suppress(FileNotFoundError):
                    self._path(kind).rename(aside)
                    moved.append((aside, self._path(kind)))
            log, times = self._opened()
        except OSError:
            for aside, path in moved:
                with contextlib.suppress(OSError):
                    aside.rename(path)
            raise
        self._offset += self._log.tell() + self._gap
        self._gap = 0
        self.close()
        self._log, self._times = log, times
        for kind in ("", ".time"):
            for path in self._aside(kind)[: -self._keep]:
                path.unlink(missing_ok=True)

    def _aside(self, kind: str = "") -> list[Path]:
        """The logs that were put aside, the oldest first."""
        head = f"{self._device}{kind}."
        return sorted(
            path
            for path in self._directory.iterdir()
            if path.name.startswith(head)
            and path.name.endswith(".log")
            and len(middle := path.name[len(head) : -len(".log")]) == _DIGITS
            and middle.isdigit()
        )
