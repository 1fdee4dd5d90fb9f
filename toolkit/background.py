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
from .wire.vocabulary import MAX_DATA, NO, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "LAVA_BACKGROUND_PROCESS"
RESULT_VARIABLE = "LAVA_RESULT_DIR"

# Seconds to end in after SIGTERM, and then after SIGKILL.
GRACE = 5.0
_POLL = 0.02

# Of the fields of /proc/PID/stat that follow the name in parentheses.
_STATE, _SESSION, _START_TIME = 0, 3, 19


class BackgroundProcess:
    """A background process of a name, running or not; raises UsageError for what is no name."""

    __slots__ = ("_folder", "_name")

    def __init__(self, name: str, environ: "Mapping[str, str]") -> None:
        if "/" in name or name in ("", ".", ".."):
            raise UsageError("%s is no name: it is to be the name of a folder" % quote(name))
        results = environ.get(RESULT_VARIABLE)
        base = results + "/results" if results else "/tmp/lava_background_processes.%d" % os.geteuid()
        self._name = name
        self._folder = os.path.join(base, name)

    def start(self, command: str, environ: "Mapping[str, str]") -> None:
        """Run shell code in the background; returns when it has begun. Raises CommandError."""
        mark = self._mark()
        if mark and _members(mark):
            raise CommandError(NO, "%s is running: stop it first" % quote(self._name))
        try:
            os.makedirs(self._folder, exist_ok=True)
            if os.stat(os.path.dirname(self._folder)).st_uid not in (0, os.geteuid()):
                raise PermissionError(0, "the folder above it belongs to another user")
            problem = self._start(command, environ)
        except OSError as error:
            problem = str(error.strerror)
        if problem:
            raise CommandError(NO, "cannot run it in the folder %s: %s" % (self._folder, problem))

    def stop(self) -> bool:
        """End all of its processes; returns whether there were any.

        Raises CommandError if it has not been started, or cannot be ended.
        """
        mark = self._mark()
        if not mark:
            raise CommandError(NO, "%s has not been started, or has been stopped already" % quote(self._name))
        running = bool(_members(mark))
        left = _told_to_end(mark, _signal.SIGTERM) and _told_to_end(mark, _signal.SIGKILL)
        if left:
            raise CommandError(NO, "these of its processes do not end: %s" % " ".join(map(str, left)))
        os.unlink(self._path("mark"))
        return running

    def output(self) -> bytes:
        """What it has printed; of much, the end."""
        with open(self._path("output"), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_DATA))
            return file.read()

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _mark(self) -> str:
        """What its processes are known by; "" if it does not run, or was started before the system was."""
        try:
            with open(self._path("mark")) as file:
                mark = file.read()
        except OSError:
            return ""
        return mark if mark.endswith(_boot_id()) else ""

    def _start(self, command: str, environ: "Mapping[str, str]") -> str:
        """Returns what has hindered it."""
        read_end, write_end = os.pipe()
        if not os.fork():
            try:
                self._become(command, environ, write_end)
            except OSError as error:
                os.write(write_end, str(error).encode("utf-8", "replace"))
            finally:
                os._exit(1)
        os.close(write_end)
        # It ends when the process goes on as the shell, which does not have it any more.
        with open(read_end, "rb") as pipe:
            return pipe.read().decode("utf-8", "replace")

    def _become(self, command: str, environ: "Mapping[str, str]", pipe: int) -> None:
        """In the new process."""
        os.setsid()
        pid = os.getpid()
        mark = "%d %s %s" % (pid, _status(pid)[_START_TIME], _boot_id())
        for name, content in (("pid", "%d\n" % pid), ("mark", mark)):
            with open(self._path(name), "w") as file:
                file.write(content)
        # Nothing of the caller's stays open: `x=$(...)` waits until nobody has its pipe.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(self._path("output"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644), 1)
        os.dup2(1, 2)
        for entry in os.listdir("/proc/self/fd"):
            if int(entry) > 2 and int(entry) != pipe:
                _close(int(entry))
        become([SHELL, "-c", command], environment(environ, **{VARIABLE: mark}))


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
    leader, start_time, _ = mark.split(" ")
    try:
        # As long as a process of the session is left, its number is not given to another process.
        in_use = _status(int(leader))[_START_TIME] == start_time
    except OSError:
        in_use = True
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
