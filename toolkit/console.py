# SPDX-License-Identifier: MIT
"""The console: finding it, its modes, writing frames, reading lines."""

import errno
import fcntl
import posix
import sys
import termios
import time

from .wire.vocabulary import NO_DISPATCHER, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# The device number of the terminal itself, also behind /dev/console and /dev/tty. The number of
# this request differs between architectures (<asm/ioctls.h>: _IOR('T', 0x32, unsigned int)).
_TIOCGDEV = (0x80045432, 0x40045432)
_PTY_MAJORS = range(136, 144)

_STANDARD = (0, 1, 2)
_ACTIVE = "/sys/class/tty/console/active"
_CONSOLE = "/dev/console"
_TTY = "/dev/tty"
# Seconds for which a device that was hung up may be gone, and between looks.
RETURN_TIME = 5.0
_RETRY = 0.1

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


def find(environ: "Mapping[str, str]") -> "Console":
    """Open the console: LAVA_CONSOLE, or the terminal this process has, or the kernel's.

    A terminal that another user owns cannot be opened by its name; then it serves as this process has it,
    as /dev/tty or as an inherited file. Raises CommandError if there is none.
    """
    named = environ.get("LAVA_CONSOLE", "")
    if named == "off":
        raise CommandError(NO_DISPATCHER, "switched off by LAVA_CONSOLE=off")
    if named:
        path = named if named.startswith("/") else "/dev/" + named
        try:
            return Console(path)
        except CommandError:
            port = _inherited(_device(path))
            if port is None:
                raise
            return port
    for fd in _STANDARD:
        try:
            return Console(posix.ttyname(fd))
        except (OSError, CommandError):
            continue
    port = _inherited(None)
    if port is not None:
        return port
    return _of_kernel()


def _inherited(number: "int | None") -> "Console | None":
    """The terminal that this process has without opening it by name; `number`: only if it is this device."""
    for path, fd in [(_TTY, None)] + [("inherited file %d" % fd, fd) for fd in _STANDARD]:
        try:
            port = Console(path, fd)
        except CommandError:
            continue
        if number in (None, port.number):
            return port
        port.close()
    return None


def _device(path: str) -> int:
    try:
        return posix.stat(path).st_rdev
    except OSError:
        return -1


def kernel_consoles() -> "list[str]":
    """Paths of the kernel's consoles, the most likely one first: serial ports before screens, the last one first."""
    try:
        with open(_ACTIVE) as file:
            names = file.read().split()[::-1]
    except OSError:
        return []
    return ["/dev/" + name for name in sorted(names, key=_is_screen)]


def _is_screen(name: str) -> bool:
    """Whether no lab can be behind this console: tty1 is a virtual terminal, ttynull is nothing."""
    return name[:3] == "tty" and (name[3:].isdigit() or name == "ttynull")


def _of_kernel() -> "Console":
    failed = None
    for path in kernel_consoles() or [_CONSOLE] * (_device(_CONSOLE) >= 0):
        try:
            return Console(path)
        except CommandError as error:
            failed = failed or error
    raise failed or CommandError(
        NO_DISPATCHER,
        "no console found; name the device that the lab is connected to: LAVA_CONSOLE=/dev/ttyS0",
    )


def nobody_answers(path: str) -> str:
    """The sentence for a console behind which no dispatcher answers, with what may be wrong."""
    others = [other[len("/dev/") :] for other in kernel_consoles() if other != path]
    return (
        "no dispatcher answers on the console %s: either none listens there, or tmux, screen or another program"
        " between here and the lab filters its messages, or this is not the console that the lab is connected to"
        " (name it by LAVA_CONSOLE=ttyS0%s)"
        % (path, "; the kernel also has " + ", ".join(others) if others else "")
    )


class HungUp(OSError):
    """The console was hung up. `reopen` may find it again."""


class Console:
    """An open console. Raises CommandError if it can't be opened.

    :param path: of the device, or what to call it.
    :param fd: an open file to use in place of the path.
    """

    __slots__ = (
        "_input",
        "_marked",
        "_ours",
        "_theirs",
        "inherited",
        "number",
        "path",
        "read_fd",
        "write_fd",
    )

    def __init__(self, path: str, fd: "int | None" = None) -> None:
        self.path = path
        self._input = b""
        self._ours = None  # type: int | None
        self._theirs = 0
        self._marked = False  # whether our mark may still be there
        self.inherited = fd is not None  # its files are shared with other programs, and a read may block
        try:
            if fd is None:
                self._open()
            else:
                self.read_fd, self.write_fd = posix.dup(fd), posix.dup(fd)
        except OSError as error:
            text = "can't open the console %s: %s" % (path, error.strerror)
            if error.errno == errno.EACCES:
                text += "; run the command as the user who may, or with that terminal as its standard input"
            raise CommandError(NO_DISPATCHER, text) from None
        if not posix.isatty(self.read_fd):
            self.close()
            raise CommandError(NO_DISPATCHER, "the console %s is not a terminal" % path)
        self.number = self._find_number()  # of the terminal's device, as in /proc/PID/stat

    def _open(self) -> None:
        # Two open files of our own: a frame has to go out in one blocking write, and a read must not
        # block when somebody else was quicker. Neither disturbs the caller's.
        self.read_fd = posix.open(self.path, posix.O_RDONLY | posix.O_NOCTTY | posix.O_NONBLOCK)
        try:
            self.write_fd = posix.open(self.path, posix.O_WRONLY | posix.O_NOCTTY | posix.O_NONBLOCK)
        except OSError:
            posix.close(self.read_fd)
            raise
        posix.set_blocking(self.write_fd, True)

    def reopen(self) -> None:
        """After a hang-up: open it again, if it is there again soon; else raises OSError."""
        if self.inherited:
            raise HungUp(errno.EIO, "it was hung up")
        # The number of a pty that is gone may soon be that of another terminal.
        tries = 1 if self._is_pty else int(RETURN_TIME / _RETRY)
        self.close()
        self._ours = None
        self._input = b""
        for left in range(tries - 1, -1, -1):
            try:
                self._open()
                if self._find_number() == self.number:
                    return
                self.close()
                raise HungUp(errno.ENODEV, "it is another device now")
            except OSError:
                if not left:
                    raise
            time.sleep(_RETRY)

    def close(self) -> None:
        posix.close(self.read_fd)
        posix.close(self.write_fd)

    @property
    def _is_pty(self) -> bool:
        return (self.number >> 8) & 0xFFF in _PTY_MAJORS

    def key(self) -> str:
        """What tells this console from every other one of the machine."""
        instance = 0
        if self._is_pty:
            # Containers have ptys of the same numbers; the file system they lie on differs.
            try:
                instance = posix.stat(
                    "/dev/pts/%d" % (self.number & 0xFF | (self.number >> 12) & 0xFFF00)
                ).st_dev
            except OSError:
                instance = posix.fstat(self.read_fd).st_dev
        return "%x-%x" % (self.number, instance)

    def _find_number(self) -> int:
        for request in _TIOCGDEV:
            try:
                return _number(fcntl.ioctl(self.read_fd, request, b"\0\0\0\0"))
            except OSError:
                continue
        return posix.fstat(self.read_fd).st_rdev

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

    def free(self) -> bool:
        """Whether nobody else reads the console, as far as the kernel tells. Changes nothing.

        A shell that edits lines, a getty and an editor have turned whole lines off. Who is in read(2) holds
        the terminal's lock for readers: then even a read of nothing does not get it.
        """
        if not self._canonical():
            return False
        if self.inherited:
            return True  # such a file may block, and then the kernel does not tell
        try:
            posix.read(self.read_fd, 0)
        except BlockingIOError:
            return False
        except OSError as error:
            raise HungUp(error.errno, error.strerror) from None
        return True

    def _canonical(self) -> bool:
        try:
            return bool(termios.tcgetattr(self.read_fd)[_LFLAG] & termios.ICANON)
        except termios.error:
            return True

    def hush(self) -> None:
        """Have the console's input in whole lines and without echo, until `restore`.

        Only while nobody else reads it. To be called again when somebody may have set other modes since.
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

    @property
    def marked(self) -> bool:
        """Whether somebody may have taken over modes without echo from us: then `mend` has to look."""
        return self._marked and self._ours is None

    def mend(self) -> None:
        """Turn the echo on again if a shell has put back modes that it had found while the input was ours."""
        try:
            modes = termios.tcgetattr(self.read_fd)
            # (In raw mode they are those of a line editor, which knows what it wants.)
            if modes[_LFLAG] & termios.ICANON:
                self._marked = False
                if modes[_CC][_MARK_AT] == _MARK:
                    modes[_LFLAG] |= termios.ECHO
                    modes[_CC][_MARK_AT] = b"\0"
                    termios.tcsetattr(self.read_fd, termios.TCSANOW, modes)
        except termios.error:
            self._marked = False

    def restore(self) -> None:
        """Put the modes back, unless somebody else has set some since."""
        try:
            modes = termios.tcgetattr(self.read_fd)
            if self._ours is not None and modes[_LFLAG] == self._ours != self._theirs:
                modes[_LFLAG] = self._theirs
                modes[_CC][_MARK_AT] = b"\0"
                termios.tcsetattr(self.read_fd, termios.TCSANOW, modes)
        except termios.error:
            pass
        self._ours = None
        if self._marked:
            self.mend()

    def write(self, frame: bytes) -> None:
        """Write a frame in one piece; raises HungUp, or OSError when it takes too long."""
        # One write(2) is one piece among those of other processes, and only if it is whole.
        try:
            while frame:
                frame = frame[posix.write(self.write_fd, frame) :]
        except OSError as error:
            raise _told(error) from None

    def read_lines(self) -> "list[bytes]":
        """The input lines that are there, without waiting; raises BlockingIOError, or HungUp."""
        try:
            data = posix.read(self.read_fd, 4096)
        except BlockingIOError:
            raise
        except OSError as error:
            raise _told(error) from None
        if not data:
            # End of file in canonical mode is somebody's ^D; a console that is gone also says so by poll.
            return []
        self._input += data
        lines = self._input.replace(b"\r", b"\n").split(b"\n")
        self._input = lines.pop()[-_MAX_INPUT:]
        return lines


def _told(error: OSError) -> OSError:
    return (
        HungUp(error.errno, error.strerror)
        if error.errno in (errno.EIO, errno.ENXIO, errno.ENODEV)
        else error
    )


def _number(raw: bytes) -> int:
    """An int as the kernel writes it."""
    return int.from_bytes(raw, sys.byteorder)
