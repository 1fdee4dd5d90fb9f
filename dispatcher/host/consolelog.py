# SPDX-License-Identifier: MIT
"""The console logs: a file for each device with what it printed, byte for byte, and nothing else."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from dispatcher.files import open_output, write_all
from dispatcher.view.timestamps import Clock, StampedLines


class ConsoleLogs:
    """The files DIRECTORY/NAME.log; with a clock also DIRECTORY/NAME.stamped, with the time before each line."""

    def __init__(
        self, directory: Path, devices: Iterable[str], *, keep: bool, clock: Clock | None = None
    ) -> None:
        """Open all files. Raises OSError.

        :param keep: go on behind what the files hold already, instead of beginning anew.
        :param clock: tells the time for the files with time stamps; None: there are none.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._files: dict[str, dict[str, BinaryIO]] = {}
        self._stamps: dict[str, StampedLines] = {}
        try:
            for device in devices:
                files = self._files[device] = {}
                for kind in ("log",) if clock is None else ("log", "stamped"):
                    # Unbuffered: whoever looks at a log sees what has come so far.
                    files[kind] = open_output(self.path(device, kind), append=keep)
                if clock is not None:
                    self._stamps[device] = StampedLines(clock)
        except OSError:
            self.close()
            raise

    def path(self, device: str, kind: str = "log") -> Path:
        """Where the log of a device is, or the one of kind "stamped"."""
        return self._directory / f"{device}.{kind}"

    def size(self, device: str) -> int:
        """Bytes that the log of this device holds; 0 if it is something without a size."""
        file = self._files[device]["log"]
        return file.tell() if file.seekable() else 0

    def write(self, device: str, data: bytes) -> list[OSError]:
        """Add console output. Returns what failed, with the names of the files; these end there."""
        failed = []
        for kind, file in list(self._files[device].items()):
            piece = data if kind == "log" else self._stamps[device].stamped(data)
            try:
                write_all(file, piece)
            except OSError as error:
                del self._files[device][kind]
                file.close()
                failed.append(OSError(error.errno, error.strerror, str(self.path(device, kind))))
        return failed

    def close(self) -> None:
        """Close all files."""
        for files in self._files.values():
            for file in files.values():
                file.close()
            files.clear()
