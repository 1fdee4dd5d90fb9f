# SPDX-License-Identifier: MIT
"""A group log in a file of JSON lines, one event a line."""

import fcntl
import os
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from dispatcher.files import open_log, open_regular, told, write_all
from dispatcher.group.events import Event, Founded, Reader
from dispatcher.grouplog import Broken, Deliver, Failed, GroupLogError, Notice, check_founding, to_line

# What each line begins with, also one that is not finished: such a line is cut off, and nothing else is.
_HEAD = b'{"type":'
_WHAT_TO_DO = "name a file that --group-log wrote, or take the line out"


def read_events(path: str | PathLike[str], notice: Notice) -> list[tuple[int, Event]]:
    """The events of a log that another process may be writing, each with the number of its line.

    A last line that is not finished is left out. Raises ValueError, naming the line, if the log is
    damaged, or OSError.

    :param notice: is told what is passed over, as another version wrote it.
    """
    with open_regular(Path(path)) as file:
        parsed = enumerate(_parsed(file, str(path), notice), start=1)
        return [(number, event) for number, event in parsed if event is not None]


def _parsed(file: BinaryIO, name: str, notice: Notice) -> Iterator[Event | None]:
    """Each line's event, None if this version does not know its kind.

    Afterwards the file's position is the end of the last whole line.
    """
    read_line = Reader(notice).read_line
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            if not line.startswith(_HEAD[: len(line)]):
                raise ValueError(f"{name}, line {number}: this is no event of a group; {_WHAT_TO_DO}")
            file.seek(-len(line), os.SEEK_CUR)
            return
        try:
            yield read_line(line)
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}; {_WHAT_TO_DO}") from error


class FileGroupLog:
    """A group log that outlives its process.

    An event is with the operating system before it is delivered. A process that is
    killed loses none; a last line that it had not finished was never acknowledged,
    and is cut off the file. One process at a time has a log open.

    :param fresh: refuse a file that holds a run already.
    """

    def __init__(self, path: str | PathLike[str], *, fresh: bool = False) -> None:
        self._path = str(path)
        self._fresh = fresh

    async def open(
        self, founded: Founded, deliver: Deliver, failed: Failed, notice: Notice, broken: Broken
    ) -> None:
        """Deliver what the file holds, or begin it. Raises GroupLogError."""
        self._deliver, self._failed = deliver, failed
        try:
            # Unbuffered, so that a write that failed leaves nothing behind for the next one.
            self._file = open_log(Path(self._path))
        except OSError as error:
            raise GroupLogError(told(error)) from error
        try:
            self._lock()
            self._replay(founded, deliver, notice)
        except (OSError, ValueError) as error:
            self._file.close()
            raise error if isinstance(error, GroupLogError) else GroupLogError(self._told(error)) from error
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            # It is gone when the file is closed, so a process that is killed leaves none behind.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GroupLogError(f"{self._path} is in use by another process") from None
        if self._fresh and os.fstat(self._file.fileno()).st_size:
            raise GroupLogError(f"{self._path} holds another run; name a new file, or remove this one")

    def _told(self, error: OSError | ValueError) -> str:
        """What is wrong, and with which file: reading and writing do not say it."""
        return f"{self._path}: {error.strerror}" if isinstance(error, OSError) else str(error)

    def _replay(self, founded: Founded, deliver: Deliver, notice: Notice) -> None:
        begun = False
        # The same open file: the name may lead to another one by now.
        self._file.seek(0)
        with open(os.dup(self._file.fileno()), "rb") as file:
            for event in _parsed(file, self._path, notice):
                if not begun:
                    if not isinstance(event, Founded):
                        raise GroupLogError(
                            f"{self._path}, line 1: this does not found a group: another version of lavabox"
                            " wrote it, so its run can't go on; `lavabox flow` can read it"
                        )
                    check_founding(founded, event, self._path)
                    begun = True
                if event is not None:
                    deliver(event)
            self._length = file.tell()
            torn = os.fstat(file.fileno()).st_size - self._length
        if torn:
            notice(f"{self._path}: cut off {torn} bytes of an event that was not finished")
            self._file.truncate(self._length)
        if not begun:
            self._write(founded)
            deliver(founded)

    def append(self, event: Event) -> None:
        """Write the event to the file and deliver it."""
        try:
            self._write(event)
        except OSError as error:
            self._failed(event.identity, f"{self._path}: {error.strerror}")
            return
        self._deliver(event)

    def _write(self, event: Event) -> None:
        """Raises OSError; the event is then not in the file."""
        line = to_line(event) + b"\n"
        try:
            write_all(self._file, line)
        except BaseException:
            self._file.truncate(self._length)
            raise
        self._length += len(line)

    async def close(self) -> None:
        """Close the file."""
        self._file.close()
