# SPDX-License-Identifier: MIT
"""`lavabox --install`: links to the box, one for each command, as busybox makes them."""

import errno
import os

from .arguments import parse, quote
from .commands import COMMANDS, SOURCED
from .entropy import random_bytes
from .sharedfiles import open_named, write_all
from .wire.vocabulary import NO, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

# File systems without hard links, or the box on another file system than the directory.
_NO_HARD_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)

# Where systems have programs: what is in front of it is the root folder of an image.
_FOLDERS = ("/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/bin", "/sbin")

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
        raise UsageError("the name of the directory is empty")
    if not os.path.isdir(directory):
        raise CommandError(NO, "%s is not a directory: make it first" % quote(directory))
    image = _image(directory)
    if image and not os.path.realpath(box).startswith(image + "/"):
        # A link to this system's file leads nowhere in the image.
        box = _copy(box, directory)
        context.warn("%s is a copy of the box, which the image has to have inside" % box)
    status = OK
    for name in sorted(COMMANDS):
        path = os.path.join(directory, name)
        if os.path.lexists(path) and not _is_ours(path, box):
            context.warn("%s is another file, and is left as it is: remove it and install again" % path)
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
    new_path = "%s.%s" % (path, random_bytes(6).hex())
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

    _write(path, TEXT.encode())


def _write(path: str, content: bytes) -> None:
    """An executable file, in the place of an older one."""
    new_path = "%s.%s" % (path, random_bytes(6).hex())
    try:
        write_all(os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755), content)
        os.chmod(new_path, 0o755)
        os.rename(new_path, path)
    finally:
        if os.path.lexists(new_path):
            os.unlink(new_path)


def _symlink_target(box: str, directory: str) -> str:
    """Relative to a folder that both are in, so that the links hold in an image that is mounted elsewhere."""
    folder, name = os.path.split(os.path.abspath(box))
    folder, directory = os.path.realpath(folder), os.path.realpath(directory)
    if os.path.commonpath([folder, directory]) == "/":
        return os.path.join(folder, name)
    return os.path.join(os.path.relpath(folder, directory), name) if folder != directory else name


def _image(directory: str) -> str:
    """The root folder of the system that DIRECTORY belongs to; "" if that is this system, or none."""
    path = os.path.realpath(directory)
    for inside in _FOLDERS:
        if path.endswith(inside):
            root = path[: -len(inside)]
            return root if inside.startswith("/usr") or os.path.isdir(root + "/etc") else ""
    return ""


def _copy(box: str, directory: str) -> str:
    """Returns the path of the copy in the directory."""
    path = os.path.join(directory, "lavabox")
    if os.path.lexists(path) and not _is_ours(path, box):
        raise CommandError(NO, "%s is another file: remove it, or copy the box by another name" % path)
    try:
        with open(box, "rb") as file:
            _write(path, file.read())
    except OSError as error:
        raise CommandError(NO, "cannot make %s: %s" % (path, error.strerror)) from None
    return path


def _is_ours(path: str, box: str) -> bool:
    """Whether `path` is of a box, be it an older one or one that has been moved away."""
    if os.path.islink(path) and not os.path.exists(path):
        return os.path.basename(os.readlink(path)) == os.path.basename(box)
    return os.path.isfile(path) and _begins_as_ours(path)


def _begins_as_ours(path: str) -> bool:
    try:
        with open(open_named(path), "rb") as file:
            return file.read(len(_BEGINNING)) == _BEGINNING
    except OSError:
        return False
