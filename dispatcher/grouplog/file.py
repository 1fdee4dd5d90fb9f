# SPDX-License-Identifier: MIT
"""A group log in a file of JSON lines, one event a line."""

import fcntl
import json
import logging
import os
from collections.abc import Callable
from os import PathLike
from types import TracebackType

from dispatcher.group.events import Event, from_json, to_json
from dispatcher.grouplog.memory import MemoryGroupLog

# What each line begins with, also one that is not finished: such a line is cut off, and nothing else is.
_HEAD = b'{"type":'
_NO_EVENT = "this is no event of a group; name a file that --group-log wrote, or take the line out"

_logger = logging.getLogger(__name__)


def read_events(path: str | PathLike[str]) -> list[Event]:
    """The events of a log that another process may be writing: the n-th stands in line n.

    A last line that is not finished is left out. Raises ValueError, naming the line, if the log is
    damaged, or OSError.
    """
    _check_kind(path)
    with open(path, "rb") as file:
        return _parse(file.read(), str(path))[0]


def _parse(content: bytes, name: str) -> tuple[list[Event], bytes]:
    """The events, and what there is of a line that is not finished."""
    *lines, torn = content.split(b"\n")
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(from_json(_json(line)))
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {error}") from error
    if not torn.startswith(_HEAD[: len(torn)]):
        raise ValueError(f"{name}, line {len(lines) + 1}: {_NO_EVENT}")
    return events, torn


def _json(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(_NO_EVENT) from error


def _check_kind(path: str | PathLike[str]) -> None:
    """Raises OSError for what is there and can't be read to its end and cut, as a pipe or a device."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is no regular file; name another one, or a new one")


class FileGroupLog:
    """A group log that outlives its process: what the file holds is read back when it is opened.

    An event is with the operating system before `append` returns. A process that is
    killed loses none; a last line that it had not finished was never acknowledged,
    and is taken off the file with a warning. One process at a time has a log open.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the log, or begin one.

        Raises ValueError, naming the line, if it is damaged; OSError, BlockingIOError if another process has it.
        """
        _check_kind(path)
        # Unbuffered, so that a write that failed leaves nothing behind for the next one.
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 (open as long as the log is)
        try:
            self._lock()
            self._memory = MemoryGroupLog(self._read())
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            # It is gone when the file is closed, so a process that is killed leaves none behind.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"{self._file.name} is in use by another process") from None

    def _read(self) -> list[Event]:
        self._file.seek(0)
        content = self._file.read()
        events, torn = _parse(content, str(self._file.name))
        self._length = len(content) - len(torn)
        if torn:
            place = f"{self._file.name}, line {len(events) + 1}"
            _logger.warning("%s: %d bytes of an unfinished event, dropped", place, len(torn))
            self._file.truncate(self._length)
        return events

    @property
    def events(self) -> list[Event]:
        """All events of the log, in order."""
        return self._memory.events

    def subscribe(self, callback: Callable[[Event], object]) -> None:
        """Call `callback` with each event: at once those in the log, later each one as it is appended."""
        self._memory.subscribe(callback)

    def append(self, event: Event) -> None:
        """Write the event to the file, then call the subscribers.

        Raises OSError if it could not be written; it is then not in the log.
        """
        line = json.dumps(to_json(event), separators=(",", ":")).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
        except BaseException:
            self._file.truncate(self._length)
            raise
        self._length += len(line)
        self._memory.append(event)

    def close(self) -> None:
        """Close the file; nothing can be appended any more."""
        self._file.close()

    def __enter__(self) -> "FileGroupLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
