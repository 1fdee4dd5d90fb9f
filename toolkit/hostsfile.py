# SPDX-License-Identifier: MIT
"""A hosts file with a block of lines that is ours: all others stay as they are, byte for byte."""

import errno
import os

from .arguments import quote
from .entropy import random_bytes
from .sharedfiles import open_named, resolved, write_all
from .wire.vocabulary import NO, CommandError

BEGIN = b"# lavabox: devices of the group\n"
END = b"# lavabox: end\n"

# Where a file cannot be replaced, it may be possible to write into it: in containers, /etc/hosts is a
# mount; elsewhere the file is ours and its directory is not.
_IN_PLACE = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)


def replace_block(path: str, lines: "list[bytes]") -> None:
    """Put the lines in the place of the earlier block, or else at the end. Raises CommandError."""
    try:
        # What a link leads to is the file, and not the link.
        path = resolved(path)
        old = _read(path)
        new = _replaced(old, BEGIN + b"".join(lines) + END)
        if new != old:
            _write(path, new)
    except OSError as error:
        raise CommandError(NO, "cannot write the hosts file %s: %s" % (path, error.strerror)) from None
    except ValueError as error:
        raise CommandError(NO, "the hosts file %s %s" % (path, error)) from None


def _read(path: str) -> bytes:
    try:
        with open(open_named(path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _replaced(old: bytes, block: bytes) -> bytes:
    # In front of the file's first line, too, there is a line break then.
    start = (b"\n" + old).find(b"\n" + BEGIN)
    if start < 0:
        return old + (b"\n" if old and not old.endswith(b"\n") else b"") + block
    end = old.find(b"\n" + END, start)
    if end < 0:
        raise ValueError(
            "has the line %s without the line %s: remove it by hand"
            % (quote(BEGIN.rstrip()), quote(END.rstrip()))
        )
    return old[:start] + block + old[end + 1 + len(END) :]


def _write(path: str, content: bytes) -> None:
    """In the place of the old file, or into it where that cannot be."""
    new_path = "%s.%s" % (path, random_bytes(6).hex())
    try:
        write_all(_open_alike(path, new_path), content)
        os.rename(new_path, path)
    except OSError as error:
        if os.path.lexists(new_path):
            os.unlink(new_path)
        if error.errno not in _IN_PLACE:
            raise
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        write_all(os.open(path, flags, 0o644), content)


def _open_alike(path: str, new_path: str) -> int:
    """A new file with the owner and the mode of the one at `path`, if there is one."""
    descriptor = os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        if os.path.exists(path):
            old = os.stat(path)
            os.fchown(descriptor, old.st_uid, old.st_gid)
            os.fchmod(descriptor, old.st_mode & 0o7777)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
