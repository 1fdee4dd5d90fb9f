# SPDX-License-Identifier: MIT
"""`lavabox --install`: links to the box, one for each command, as busybox makes them."""

import errno
import os

from .arguments import parse, quote
from .commands import COMMANDS, SOURCED
from .wire.vocabulary import NO, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import Context

# File systems without hard links, or the box on another file system than the directory.
_NO_HARD_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)

# Of the box, and of the file that shells source.
_BEGINNING = b"#!/bin/sh\n# lavabox: "


def install(arguments: "list[str]", context: "Context", box: "str | None") -> int:
    """Link each command in a directory to the file `box`. Files that are not ours are reported, and stay.

    The one that shells source is a file of its own.
    """
    symbolic = arguments[:1] == ["-s"]
    operands, _ = parse(arguments[1:] if symbolic else arguments, 1, 1)
    directory = operands[0]
    if box is None:
        raise CommandError(NO, "only the zipapp can be installed: make it with build_zipapp.py")
    if not directory:
        raise UsageError("the directory has no name")
    if not os.path.isdir(directory):
        raise CommandError(NO, "%s is no directory: make it first" % quote(directory))
    status = OK
    for name in sorted(COMMANDS):
        path = os.path.join(directory, name)
        if os.path.lexists(path) and not _is_ours(path, box):
            context.warn("%s is another file, and stays: remove it and install again" % path)
            status = NO
            continue
        try:
            if name == SOURCED:
                _write_sourced(path)
            else:
                _link(box, path, symbolic)
        except OSError as error:
            hint = ": use -s" if error.errno in _NO_HARD_LINK and not symbolic else ""
            raise CommandError(NO, "cannot make %s: %s%s" % (path, error.strerror, hint)) from None
    return status


def _link(box: str, path: str, symbolic: bool) -> None:
    """Make the link, in the place of an older one: at no moment is there none."""
    new_path = "%s.%d" % (path, os.getpid())
    try:
        if symbolic:
            os.symlink(_symlink_target(box, os.path.dirname(path)), new_path)
        else:
            os.link(os.path.realpath(box), new_path)
        os.rename(new_path, path)
    finally:
        # It is there still after an error, and where both were hard links of one file.
        if os.path.lexists(new_path):
            os.unlink(new_path)


def _write_sourced(path: str) -> None:
    from .commands.lava_common_functions import TEXT

    new_path = "%s.%d" % (path, os.getpid())
    try:
        with open(new_path, "w") as file:
            file.write(TEXT)
        os.chmod(new_path, 0o755)
        os.rename(new_path, path)
    finally:
        if os.path.lexists(new_path):
            os.unlink(new_path)


def _symlink_target(box: str, directory: str) -> str:
    """Relative inside one directory, so that the links hold in an image that is mounted elsewhere."""
    box_directory, name = os.path.split(os.path.abspath(box))
    return name if os.path.samefile(box_directory, directory) else os.path.join(box_directory, name)


def _is_ours(path: str, box: str) -> bool:
    """Whether `path` is of a box, be it an older one or one that has been moved away."""
    if os.path.islink(path) and not os.path.exists(path):
        return os.path.basename(os.readlink(path)) == os.path.basename(box)
    return os.path.isfile(path) and _begins_as_ours(path)


def _begins_as_ours(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(_BEGINNING)) == _BEGINNING
    except OSError:
        return False
