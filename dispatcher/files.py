# SPDX-License-Identifier: MIT
"""Opening files by names that somebody gave: nothing else than a file is waited for, and none is seen half written.

Opening a named pipe waits for whoever opens its other end, perhaps for ever. So what is no regular file is refused
(`open_regular`, `read_text`, `open_log`), or opened without waiting (`open_output`).
"""

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

# Bytes of a configuration, which is read whole.
_MAX_TEXT = 16 * 1024 * 1024

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises OSError, whose `strerror` says so if it is anything else."""
    return open(_regular(path, os.O_RDONLY), "rb")


def read_text(path: Path) -> str:
    """The text of a regular file. Raises OSError as above, or ValueError for one that is no UTF-8 or too long."""
    with open_regular(path) as file:
        data = file.read(_MAX_TEXT + 1)
    if len(data) > _MAX_TEXT:
        raise ValueError(f"it has more than {_MAX_TEXT} bytes")
    return data.decode("utf-8")


def open_log(path: Path) -> BinaryIO:
    """Open a regular file to be read and added to, unbuffered; make it if there is none. Raises OSError as above."""
    return open(_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+b", buffering=0)


def _regular(path: Path, flags: int) -> int:
    """The descriptor of a file whose kind was looked at after it was opened, so that nobody can exchange it."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((kind for test, kind in _KINDS if test(mode)), "no file")
            raise OSError(errno.EINVAL, f"it is {kind}, and not a file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_output(path: Path, *, append: bool = False) -> BinaryIO:
    """Open what a person named for writing, unbuffered; a file is made, or emptied unless `append`.

    Raises OSError, also for a named pipe that nobody reads.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    flags |= os.O_APPEND if append else os.O_TRUNC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(
                errno.ENXIO, "it is a named pipe or a socket that nobody reads", str(path)
            ) from None
        raise
    os.set_blocking(descriptor, True)
    return open(descriptor, "wb" if not append else "ab", buffering=0)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of it to an unbuffered file, which may take it in pieces. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def told(error: OSError) -> str:
    """The error as a person would say it: `FILE: what is wrong`, without its number."""
    what = error.strerror or str(error)
    return what if error.filename is None else f"{os.fsdecode(error.filename)}: {what}"


def check_writable(path: Path) -> None:
    """Raises OSError, with a sentence for a person, if `write_whole` would surely fail."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}")
    if not os.access(target if _is_special(target) else target.parent, os.W_OK):
        raise PermissionError(f"no permission to write {path}")


def write_whole(path: Path, data: bytes) -> None:
    """Make `data` the content of the file; whatever happens, it has the old content or the new.

    What is no file (a pipe, /dev/stdout) is only written to. Raises OSError, which has the name of the file.
    """
    try:
        _write_whole(path, data)
    except OSError as error:
        # Else there is none where a disk is full, or one that was made up here.
        error.filename, error.filename2 = str(path), None
        raise


def _write_whole(path: Path, data: bytes) -> None:
    target = Path(os.path.realpath(path))
    if _is_special(target):
        with open_output(path) as special:
            write_all(special, data)
        return
    temporary = target.with_name(f".lavabox-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()
