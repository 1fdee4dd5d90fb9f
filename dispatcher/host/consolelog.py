# SPDX-License-Identifier: MIT
"""The console logs: a file for each device with what it printed, byte for byte, and nothing else."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from dispatcher.files import open_output


class ConsoleLogs:
    """The files DIRECTORY/NAME.log."""

    def __init__(self, directory: Path, devices: Iterable[str], *, keep: bool) -> None:
        """Open all files. Raises OSError.

        :param keep: go on behind what the files hold already, instead of beginning anew.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._files: dict[str, BinaryIO] = {}
        try:
            for device in devices:
                # Unbuffered: whoever looks at a log sees what has come so far.
                self._files[device] = open_output(self._path(device), append=keep)
        except OSError:
            self.close()
            raise

    def size(self, device: str) -> int:
        """Bytes that the log of this device holds; 0 if it is something without a size."""
        file = self._files[device]
        return file.tell() if file.seekable() else 0

    def write(self, device: str, data: bytes) -> None:
        """Add console output. Raises OSError, with the file's name, once; the log of this device then ends there."""
        file = self._files.get(device)
        if file is None:
            return
        try:
            while data:
                data = data[file.write(data) :]
        except OSError as error:
            del self._files[device]
            file.close()
            raise OSError(error.errno, error.strerror, str(self._path(device))) from error

    def _path(self, device: str) -> Path:
        return self._directory / f"{device}.log"

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
