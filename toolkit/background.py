# SPDX-License-Identifier: MIT
"""Processes that run while a test goes on: started by one command, ended by another.

A started process is the leader of a session, and has a variable in its
environment. What it starts is found by either, unless it gives up both: a
daemon leaves the session, and a program that writes over its own environment
mostly stays in it.

What has to be known of it lies in a folder of its name. The file `mark` is
there until it has been stopped; `output` is what it has printed; `pid` is for
scripts, which know it from LAVA.
"""

import _signal
import os
import time

from .arguments import quote
from .processes import SHELL, become, environment
from .sharedfiles import Folder, open_folder
from .wire.vocabulary import MAX_DATA, NO, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "LAVA_BACKGROUND_PROCESS"
RESULT_VARIABLE = "LAVA_RESULT_DIR"

_NOT_STARTED = "it has not been started, or has been stopped already"

# Seconds to end in after SIGTERM, and then after SIGKILL.
GRACE = 5.0
_POLL = 0.02

# Of the fields of /proc/PID/stat that follow the name in parentheses.
_STATE, _SESSION, _START_TIME = 0, 3, 19


class BackgroundProcess:
    """A background process of a name, running or not; raises UsageError for what is no name."""

    __slots__ = ("_base", "_folders")

    def __init__(self, name: str, environ: "Mapping[str, str]") -> None:
        parts = name.split("/")
        if any([part in ("", ".", "..") for part in parts]):
            raise UsageError("%s cannot be a name: it has to be the name of a folder" % quote(name))
        results = environ.get(RESULT_VARIABLE)
        self._base = results or "/tmp"
        self._folders = ["results" if results else "lava_background_processes.%d" % os.geteuid()] + parts

    def start(self, command: str, environ: "Mapping[str, str]") -> bool:
        """Run shell code in the background; returns when it has begun. Raises CommandError.

        Returns whether one of this name was running: that has been ended.
        """
        path = os.path.join(self._base, *self._folders)
        try:
            with open_folder(self._base, self._folders, make=True) as folder:
                mark = _mark(folder)
                running = bool(mark and _members(mark))
                if running:
                    _end_all(mark)
                problem = _start(folder, command, environ)
        except OSError as error:
            problem = str(error.strerror)
        if problem:
            raise CommandError(NO, "cannot run it in the folder %s: %s" % (path, problem))
        return running

    def stop(self) -> "tuple[str, bytes]":
        """End all of its processes, if there are any. Raises CommandError if they do not end.

        Returns a sentence to warn with, or "", and what it has printed: of much, the end.
        """
        path = os.path.join(self._base, *self._folders)
        try:
            with open_folder(self._base, self._folders) as folder:
                mark = _mark(folder)
                if not mark:
                    return _NOT_STARTED, b""
                running = bool(_members(mark))
                _end_all(mark)
                folder.remove("mark")
                return "" if running else "it had ended before", _output(folder)
        except FileNotFoundError:
            return _NOT_STARTED, b""
        except OSError as error:
            raise CommandError(NO, "cannot use the folder %s: %s" % (path, error.strerror)) from None


def _output(folder: Folder) -> bytes:
    with open(folder.open("output"), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_DATA))
        return file.read()


def _mark(folder: Folder) -> str:
    """What its processes are known by; "" if it does not run, or was started before the system was."""
    try:
        mark = folder.read("mark").decode("ascii", "replace")
    except FileNotFoundError:
        return ""
    leader, _, rest = mark.partition(" ")
    return mark if leader.isdigit() and mark.count(" ") == 2 and rest.endswith(_boot_id()) else ""


def _start(folder: Folder, command: str, environ: "Mapping[str, str]") -> str:
    """Returns what has hindered it."""
    read_end, write_end = os.pipe()
    if not os.fork():
        try:
            _become(folder, command, environ, write_end)
        except OSError as error:
            os.write(write_end, str(error).encode("utf-8", "replace"))
        finally:
            os._exit(1)
    os.close(write_end)
    # It ends when the process goes on as the shell, which does not have it any more.
    with open(read_end, "rb") as pipe:
        return pipe.read().decode("utf-8", "replace")


def _become(folder: Folder, command: str, environ: "Mapping[str, str]", pipe: int) -> None:
    """In the new process."""
    os.setsid()
    pid = os.getpid()
    mark = "%d %s %s" % (pid, _status(pid)[_START_TIME], _boot_id())
    for name, content in (("pid", "%d\n" % pid), ("mark", mark)):
        folder.replace(name, content.encode())
    # Nothing of the caller's stays open: `x=$(...)` waits until nobody has its pipe.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(folder.create("output"), 1)
    os.dup2(1, 2)
    for entry in os.listdir("/proc/self/fd"):
        if int(entry) > 2 and int(entry) != pipe:
            _close(int(entry))
    become([SHELL, "-c", command], environment(environ, **{VARIABLE: mark}))


def _end_all(mark: str) -> None:
    """End all processes of the mark; raises CommandError for those that do not end."""
    _told_to_end(mark, _signal.SIGTERM)
    # Whole groups at one moment: of a fork bomb, each process may be gone before it can be found.
    for group in _groups(mark):
        _kill(-group, _signal.SIGKILL)
    left = _told_to_end(mark, _signal.SIGKILL)
    if left:
        raise CommandError(NO, "these of its processes do not end: %s" % " ".join(map(str, left)))


def _groups(mark: str) -> "set[int]":
    """The process groups of the mark, but for that of this process."""
    found = {int(mark.partition(" ")[0])} if _is_in_use(mark) else set()
    for pid in _members(mark):
        try:
            found.add(os.getpgid(pid))
        except OSError:
            pass  # it has ended
    return found - {os.getpgrp()}


def _told_to_end(mark: str, number: int) -> "list[int]":
    """Send the signal to all processes of the mark; returns those that do not end for GRACE seconds."""
    deadline = time.monotonic() + GRACE
    told = set()  # type: set[int]
    while True:
        members = _members(mark)
        # One may have been started by another at the last moment. The oldest first: a shell that
        # is told before its children does not report their ends.
        for pid in sorted(set(members) - told):
            _kill(pid, number)
        told.update(members)
        if not members or time.monotonic() > deadline:
            return members
        time.sleep(_POLL)


def _members(mark: str) -> "list[int]":
    """The processes that belong to the mark and have not ended."""
    leader, in_use = mark.partition(" ")[0], _is_in_use(mark)
    variable = ("%s=%s" % (VARIABLE, mark)).encode()
    found = []
    for pid in [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]:
        try:
            fields = _status(pid)
            ours = (in_use and fields[_SESSION] == leader) or variable in _environment_of(pid)
        except OSError:
            continue  # it has ended, or is not ours to look at
        if ours and fields[_STATE] not in "ZX" and pid != os.getpid():
            found.append(pid)
    return found


def _is_in_use(mark: str) -> bool:
    """Whether the number of its first process, which is that of session and group, means this mark still.

    As long as a process of the session is left, its number is not given to another process.
    """
    leader, start_time, _ = mark.split(" ")
    try:
        return _status(int(leader))[_START_TIME] == start_time
    except OSError:
        return True


def _status(pid: int) -> "list[str]":
    with open("/proc/%d/stat" % pid, "rb") as file:
        # The name in parentheses may be anything, parentheses too.
        return file.read().rpartition(b")")[2].decode().split()


def _environment_of(pid: int) -> "list[bytes]":
    with open("/proc/%d/environ" % pid, "rb") as file:
        return file.read().split(b"\0")


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it has ended, or may not be ended by us: that shows when they are looked for again


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass  # that of the listing itself


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
