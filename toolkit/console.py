# SPDX-License-Identifier: MIT
"""The console: finding it, its modes, writing frames, reading lines."""

import fcntl
import os
import struct
import termios

from .wire.framing import ALPHABET, CHECK_SIZE, LINE_KILL, LINE_MARKER
from .wire.vocabulary import NO_DISPATCHER, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# The device number of the terminal itself, also behind /dev/console and /dev/tty. The number of
# this request differs between architectures (<asm/ioctls.h>: _IOR('T', 0x32, unsigned int)).
_TIOCGDEV = (0x80045432, 0x40045432)
_PTY_MAJORS = range(136, 144)

# Longest input that may be a line of ours without its end (bytes); a tty holds 4096.
_MAX_INPUT = 8192

_LFLAG, _OSPEED, _CC = 3, 5, 6
# An agent that is killed can't turn the echo on again. So it leaves a mark for the next one, in the place
# of a control character that Linux has no use for.
_MARK_AT = getattr(termios, "VSWTC", 7)
_MARK = b"\x1d"
_BAUDS = {
    getattr(termios, "B%d" % baud): baud
    for baud in (
        1200,
        2400,
        4800,
        9600,
        19200,
        38400,
        57600,
        115200,
        230400,
        460800,
        921600,
        1500000,
        3000000,
    )
    if hasattr(termios, "B%d" % baud)
}


def find(environ: "Mapping[str, str]") -> str:
    """The path of the console: LAVA_CONSOLE, or the terminal this process has, or the kernel's.

    Raises CommandError if there is none.
    """
    named = environ.get("LAVA_CONSOLE", "")
    if named == "off":
        raise CommandError(NO_DISPATCHER, "switched off by LAVA_CONSOLE=off")
    if named:
        return named
    for fd in (0, 1, 2):
        try:
            return os.ttyname(fd)
        except OSError:
            continue
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return "/dev/tty"
    except OSError:
        pass
    try:
        with open("/sys/class/tty/console/active") as file:
            return "/dev/" + file.read().split()[-1]
    except (OSError, IndexError):
        raise CommandError(
            NO_DISPATCHER,
            "no console found; name the device that the lab is connected to: LAVA_CONSOLE=/dev/ttyS0",
        ) from None


class Console:
    """An open console. Raises CommandError if it can't be opened."""

    __slots__ = (
        "_after_ours",
        "_foreign",
        "_input",
        "_marked",
        "_ours",
        "_theirs",
        "number",
        "path",
        "read_fd",
        "write_fd",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self._input = b""
        self._foreign = []  # type: list[bytes]
        self._ours = None  # type: int | None
        self._theirs = 0
        self._after_ours = False
        self._marked = False  # whether we ever left our mark
        try:
            # Two open files of our own: a frame has to go out in one blocking write, and a
            # read must not block when somebody else was quicker. Neither disturbs the caller's.
            self.read_fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            self.write_fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            os.set_blocking(self.write_fd, True)
        except OSError as error:
            raise CommandError(
                NO_DISPATCHER, "can't open the console %s: %s" % (path, error.strerror)
            ) from None
        if not os.isatty(self.read_fd):
            raise CommandError(NO_DISPATCHER, "the console %s is not a terminal" % path)
        self.number = self._find_number()  # of the terminal's device, as in /proc/PID/stat

    def key(self) -> str:
        """What tells this console from every other one of the machine."""
        instance = 0
        if (self.number >> 8) & 0xFFF in _PTY_MAJORS:
            # Containers have ptys of the same numbers; the file system they lie on differs.
            try:
                instance = os.stat(
                    "/dev/pts/%d" % (self.number & 0xFF | (self.number >> 12) & 0xFFF00)
                ).st_dev
            except OSError:
                instance = os.fstat(self.read_fd).st_dev
        return "%x-%x" % (self.number, instance)

    def _find_number(self) -> int:
        for request in _TIOCGDEV:
            try:
                return _number(fcntl.ioctl(self.read_fd, request, b"\0\0\0\0"))
            except OSError:
                continue
        return os.fstat(self.read_fd).st_rdev

    def baud(self) -> int:
        """Speed of the line in bits per second, 0 if it can't be told."""
        try:
            return _BAUDS.get(termios.tcgetattr(self.read_fd)[_OSPEED], 0)
        except termios.error:
            return 0

    def backlog(self) -> int:
        """Bytes written and not yet out on the line."""
        try:
            return _number(fcntl.ioctl(self.write_fd, termios.TIOCOUTQ, b"\0\0\0\0"))
        except OSError:
            return 0

    def waiting(self) -> int:
        """Bytes of input that can be read."""
        try:
            return _number(fcntl.ioctl(self.read_fd, termios.FIONREAD, b"\0\0\0\0"))
        except OSError:
            return 0

    @property
    def canonical(self) -> bool:
        """Whether input comes in whole lines, not to a line editor."""
        try:
            return bool(termios.tcgetattr(self.read_fd)[_LFLAG] & termios.ICANON)
        except termios.error:
            return True

    def hush(self) -> None:
        """Have the console's input in whole lines and without echo, until `restore`.

        For one that nobody else reads; beside a shell see `sharing`. To be called again when somebody may
        have set other modes since.
        """
        try:
            modes = termios.tcgetattr(self.read_fd)
            before = modes[_LFLAG]
            if before == self._ours:
                return
            self._theirs = before | termios.ECHO if modes[_CC][_MARK_AT] == _MARK else before
            self._ours = self._theirs & ~termios.ECHO | termios.ICANON
            if self._ours != before:
                modes[_LFLAG] = self._ours
                if self._theirs & termios.ECHO:
                    modes[_CC][_MARK_AT] = _MARK
                    self._marked = True
                termios.tcsetattr(self.read_fd, termios.TCSANOW, modes)
        except termios.error:
            pass

    def mend(self) -> None:
        """Turn the echo on again if a shell has put back modes that it had found while the input was ours."""
        if not self._marked:
            return
        try:
            modes = termios.tcgetattr(self.read_fd)
            # (In raw mode they are those of a line editor, which knows what it wants.)
            if modes[_CC][_MARK_AT] == _MARK and modes[_LFLAG] & termios.ICANON:
                modes[_LFLAG] |= termios.ECHO
                modes[_CC][_MARK_AT] = b"\0"
                termios.tcsetattr(self.read_fd, termios.TCSANOW, modes)
        except termios.error:
            pass

    def restore(self) -> None:
        """Put the modes back, unless somebody else has set some since; give typed lines back."""
        try:
            modes = termios.tcgetattr(self.read_fd)
            untouched, marked = modes[_LFLAG] == self._ours, modes[_CC][_MARK_AT] == _MARK
            canonical = modes[_LFLAG] & termios.ICANON
            if self._ours not in (None, self._theirs) and (untouched or (marked and canonical)):
                if untouched:
                    modes[_LFLAG] = self._theirs
                modes[_CC][_MARK_AT] = b"\0"
                termios.tcsetattr(self.read_fd, termios.TCSANOW, modes)
        except termios.error:
            pass
        self._ours = None
        self.give_back(self.foreign())

    def write(self, frame: bytes) -> None:
        """Write a frame in one piece; raises OSError."""
        # One write(2) is one piece among those of other processes, and only if it is whole.
        while frame:
            frame = frame[os.write(self.write_fd, frame) :]

    def read_lines(self) -> "list[bytes]":
        """The input lines that are there, without waiting; raises OSError when the console is gone."""
        data = os.read(self.read_fd, 4096)
        if not data:
            # End of file in canonical mode is somebody's ^D; a console that is gone also says so by poll.
            return []
        self._input += data
        lines = self._input.replace(b"\r", b"\n").split(b"\n")
        self._input = lines.pop()[-_MAX_INPUT:]
        return lines

    def sort(self, line: bytes, ours: bool) -> None:
        """Note a line that was read; what somebody typed for another reader `restore` gives back."""
        # (An end of line that the way has made CR LF comes as two.)
        doubled = self._after_ours and not line
        self._after_ours = ours or _was_ours(line)
        if not (self._after_ours or doubled):
            self._foreign.append(line + b"\n")
            return
        # Half a line that a tty in canonical mode would have taken away.
        self._foreign.append(line.rpartition(LINE_KILL)[0])
        if not (ours or doubled) and LINE_MARKER not in line and not self.canonical:
            # The line editor has the beginning, a comment that takes in whatever is typed next: that is to end here.
            self._foreign.append(b"\n")

    def foreign(self) -> bytes:
        """What was read and is somebody else's; it is up to the caller to give it back."""
        typed = b"".join(self._foreign) + self._input
        self._foreign = []
        self._input = b""
        return typed

    def give_back(self, typed: bytes) -> bool:
        """Put input back, behind what is waiting by now; False if the kernel does not let us."""
        try:
            for byte in typed:
                fcntl.ioctl(self.read_fd, termios.TIOCSTI, bytes((byte,)))
        except OSError:
            return False  # it does for root, or where dev.tty.legacy_tiocsti is set
        return True


def _was_ours(line: bytes) -> bool:
    """Whether this may be a line of the host that the way has damaged: no shell may get to see it.

    What a person types, `python3 run-tests.py`, must not pass for one: the dot before the checksum has
    its place, and a body is long, and has capitals.
    """
    if LINE_MARKER[1:] in line[:6]:
        return True
    strange = line.translate(None, ALPHABET + b".#")
    dot = b"." in line[-CHECK_SIZE - 2 : -CHECK_SIZE + 1]
    return dot and len(line) > 3 * CHECK_SIZE and len(strange) <= 1 and line.lower() != line


def _number(raw: bytes) -> int:
    """An int as the kernel writes it."""
    number: int = struct.unpack("I", raw)[0]
    return number
