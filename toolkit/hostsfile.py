# SPDX-License-Identifier: MIT
"""A hosts file with a block of lines that is ours: all others stay as they are, byte for byte."""

import errno
import os

from .arguments import quote
from .entropy import random_bytes
from .sharedfiles import open_reached, walk, write_all
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
        folder, name = walk(path, to_file=True)
        try:
            old = b""
            try:
                with open(open_reached(folder, name), "rb") as file:
                    old = file.read()
            except FileNotFoundError:
                pass
            new = _replaced(old, BEGIN + b"".join(lines) + END)
            if new != old:
                _write(folder, name, new)
        finally:
            os.close(folder)
    except OSError as error:
        raise CommandError(NO, "cannot write the hosts file %s: %s" % (path, error.strerror)) from None
    except ValueError as error:
        raise CommandError(NO, "the hosts file %s %s" % (path, error)) from None


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


def _write(folder: int, name: str, content: bytes) -> None:
    """In the place of the old file, or into it where that cannot be."""
    new_name = "%s.%s" % (name, random_bytes(6).hex())
    try:
        write_all(_open_alike(folder, name, new_name), content)
        os.rename(new_name, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        try:
            os.unlink(new_name, dir_fd=folder)
        except OSError:
            pass  # it was not made
        if error.errno not in _IN_PLACE:
            raise
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        write_all(os.open(name, flags, 0o644, dir_fd=folder), content)


def _open_alike(folder: int, name: str, new_name: str) -> int:
    """A new file with the owner and the mode of the one that has the name, if there is one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(new_name, flags, 0o644, dir_fd=folder)
    try:
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
        os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, old.st_mode & 0o7777)
    except FileNotFoundError:
        pass
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
