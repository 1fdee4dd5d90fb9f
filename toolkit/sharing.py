# SPDX-License-Identifier: MIT
"""A console beside another reader: a shell at its prompt, or about to show one.

A shell that reads whole lines (dash) gets whole lines: where one was meant for us, a comment.

A line editor (readline, busybox) sets modes of its own and waits for single keys by `poll`. It is muffled, kept from
waking up, by a high VMIN: without a time (VTIME), a tty is readable for `poll` once it holds VMIN characters.

Whoever sets modes meanwhile has begun to read: then what comes is his, and nothing is read here any more.
"""

import os
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .console import Console

# More characters than anybody types while we look.
_NEVER = 255
# Seconds for which nothing has to change before the moment is taken: with a line editor at its prompt; with it
# between two commands, where it may be about to show one; beside another program, or a shell without an editor.
_AT_PROMPT = 0.01
_BETWEEN_COMMANDS = 0.2
_BESIDE_A_PROGRAM = 0.05
# Seconds after which it is taken in any case, rather than let the commands in the background fail: a program
# types without a pause.
_HURRY = 30.0
# Times to try to put back what was typed in its order, while somebody goes on typing.
_TRIES = 20

_IFLAG, _LFLAG, _CC = 0, 3, 6
# Modes of a terminal that nobody has set any for.
_LINES = (
    termios.ICANON
    | termios.ISIG
    | termios.IEXTEN
    | termios.ECHO
    | termios.ECHOE
    | termios.ECHOK
    | getattr(termios, "ECHOCTL", 0)
    | getattr(termios, "ECHOKE", 0)
)


class Sharing:
    """A console that is held for moments.

    `held` from `take` to `release`; `muffled` while a line editor is kept from waking up. So is a `poll` here, and
    the console has to be read every now and then. `used`: was ever held.
    """

    __slots__ = (
        "_before",
        "_console",
        "_editor",
        "_muffled_beside",
        "_patience",
        "_seen",
        "_seen_since",
        "_try_since",
        "held",
        "muffled",
        "used",
    )

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._before = None  # type: list[Any] | None
        self._editor = 0  # the process group that was seen to be one
        self._patience = []  # type: list[bytes | int]
        self._muffled_beside = 0
        self._seen = None  # type: tuple[int, int, int] | None
        self._seen_since = 0.0
        self._try_since = 0.0
        self.held = False
        self.muffled = False
        self.used = False

    def take(self, now: float, others: int) -> bool:
        """Hold the console: False as long as the other one may just be setting its modes, or be reading.

        To be called every few milliseconds until it is True, or `release` is called instead.

        :param others: the process group in the foreground; 0: it is not known that there is any.
        """
        modes = self._modes()
        if modes is None:
            return True
        editor = not modes[_LFLAG] & termios.ICANON
        if not _is_muffled(modes) or others != self._muffled_beside:
            self.muffled = False
        self._try_since = self._try_since or now
        wary = bool(others) and now < self._try_since + _HURRY
        if wary:
            # A line editor that sleeps waits for a key, unless output of its own is on the way.
            activity = 0 if self._console.backlog() else _activity(others)
            seen = (others, modes[_LFLAG], activity if editor else 0)
            if editor:
                self._editor = others
            if seen != self._seen or (editor and not activity):
                self._seen, self._seen_since = seen, now
                return False
            between = _BETWEEN_COMMANDS if others == self._editor else _BESIDE_A_PROGRAM
            if now < self._seen_since + (_AT_PROMPT if editor else between):
                return False
        if editor and not self.muffled:
            self._muffle(others, wary)
            if wary:
                # It may have been waking up just now.
                self._seen_since = now
                return False
        if not editor:
            with _Undisturbed():
                if self._console.canonical:
                    self._console.hush()
        self.held = self.used = True
        return True

    def lost(self) -> bool:
        """Whether somebody has set modes since: he reads."""
        modes = self._modes()
        if modes is None:
            return False
        return not _is_muffled(modes) if self.muffled else not modes[_LFLAG] & termios.ICANON

    def release(self) -> None:
        """Give the console back, with what was typed for the other one."""
        if not self._try_since:
            return
        if self.muffled:
            if self.held:
                self._return_keys()
            self._unmuffle()
        elif self.held:
            with _Undisturbed():
                self._console.restore()
        self.held = self.muffled = False
        self._seen = None
        self._try_since = 0.0

    def mend(self) -> None:
        """Put back modes that a shell has taken over from us.

        What it sets between our reading of its modes and our writing is undone. With its next prompt it takes note
        of that, and gives it to all programs from then on. Nobody else has such a VMIN.
        """
        modes = self._modes()
        if modes is None or self.muffled:
            return
        if modes[_LFLAG] & termios.ICANON:
            self._before = modes
        elif _is_muffled(modes):
            modes[_IFLAG] |= termios.ICRNL
            modes[_LFLAG] |= _LINES
            modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = 1, 0
            self._set(self._before or modes)

    def _muffle(self, others: int, wary: bool) -> None:
        with _Undisturbed():
            if wary and self._seen is not None and self._seen[2] != _activity(others):
                return
            modes = self._modes()
            if modes is None or modes[_LFLAG] & termios.ICANON:
                return
            self._patience = [modes[_CC][termios.VMIN], modes[_CC][termios.VTIME]]
            modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = _NEVER, 0
            self._set(modes)
        self.muffled = True
        self._muffled_beside = others

    def _unmuffle(self) -> None:
        with _Undisturbed():
            modes = self._modes()
            if modes is not None and _is_muffled(modes):
                modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = self._patience
                self._set(modes)

    def _return_keys(self) -> None:
        """Put what was typed back into its place in the queue, while nobody else reads that."""
        typed = self._console.foreign()
        if self.lost():
            self._console.give_back(typed)
            return
        typed += self._queue()
        for _ in range(_TRIES):
            # What comes from now on has to stay behind it.
            if not self._console.give_back(typed) or self._console.waiting() <= len(typed):
                return
            typed += without(self._queue(), typed)
        self._console.give_back(typed)

    def _queue(self) -> bytes:
        try:
            return os.read(self._console.read_fd, 4096)
        except OSError:
            return b""

    def _modes(self) -> "list[Any] | None":
        try:
            return termios.tcgetattr(self._console.read_fd)
        except termios.error:
            return None

    def _set(self, modes: "list[Any]") -> None:
        try:
            termios.tcsetattr(self._console.read_fd, termios.TCSANOW, modes)
        except termios.error:
            pass


class _Undisturbed:
    """Where it may be said (by root), no shell that wakes up takes the processor from us."""

    def __enter__(self) -> None:
        self._before = None  # type: tuple[int, Any] | None
        try:
            before = os.sched_getscheduler(0), os.sched_getparam(0)
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            self._before = before
        except (OSError, AttributeError):
            pass  # the time is short all the same

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            os.sched_setscheduler(0, *self._before)


def _is_muffled(modes: "list[Any]") -> bool:
    return not modes[_LFLAG] & termios.ICANON and modes[_CC][termios.VMIN] == _NEVER


def _activity(pid: int) -> int:
    """A number that stays the same as long as the process sleeps; 0 if it runs."""
    try:
        with open("/proc/%d/status" % pid, "rb") as file:
            fields = dict(line.split(b":", 1) for line in file if b":" in line)
        return 1 + int(fields[b"voluntary_ctxt_switches"]) if fields[b"State"].split()[0] == b"S" else 0
    except (OSError, KeyError):
        return 1


def without(mixed: bytes, part: bytes) -> bytes:
    """What is left of `mixed` without `part`, whose bytes stand in it in their order, among others."""
    left = bytearray()
    position = 0
    for byte in mixed:
        if position < len(part) and byte == part[position]:
            position += 1
        else:
            left.append(byte)
    return bytes(left)
