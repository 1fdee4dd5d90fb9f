# SPDX-License-Identifier: MIT
"""What the root of an isolated device is put together from.

A user namespace does not let go of single mounts of the host, so no overlay can have a folder as its
lower one that has mounts in it. Hence the root is a new file system with an overlay for each
folder of the old one, and a folder that has mounts in it is made anew and filled in the same way.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dispatcher.errors import SetupError

# Those that each device has of its own, as after every boot.
FRESH = ("dev", "proc", "run", "sys", "tmp")
# Larger files that lie right in the root, or beside a mount, are for swapping.
_MOST_COPIED = 16 * 1024 * 1024
# File systems that hold no files of their own.
_PSEUDO = {
    *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs"),
    *("efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs"),
    *("securityfs", "selinuxfs", "sysfs", "tracefs"),
}


class Kind(Enum):
    """What becomes of a name; the values are the functions of the script that makes the root."""

    OVERLAY = "overlay"  # `source` can be read there, and what is written goes elsewhere
    FOLDER = "folder"  # an empty one
    LINK = "link"  # to `source`
    FILE = "file"  # a copy of `source`


@dataclass(frozen=True, slots=True)
class Part:
    """A name in the device's root, without a slash in front."""

    kind: Kind
    path: str
    source: str
    mode: int = 0o755
    owner: str = "0:0"


def root_parts(base: Path, mounts: Mapping[Path, str]) -> list[Part]:
    """All of `base` but what is in FRESH; folders before what is in them. Raises SetupError.

    :param base: the root folder to be shown; absolute.
    :param mounts: the types of file systems by their mount points.
    """
    if (base / "etc").is_symlink():
        raise SetupError(f"{base / 'etc'} is a link, and must be a folder")
    try:
        return list(_parts(base, base, mounts))
    except OSError as error:
        raise SetupError(f"the root folder can't be read: {error}") from error


def _parts(base: Path, folder: Path, mounts: Mapping[Path, str]) -> Iterator[Part]:
    for name in sorted(os.listdir(folder)):
        source = folder / name
        path = str(source.relative_to(base))
        if path in FRESH:
            continue
        # What goes away meanwhile is nothing to fail for.
        with contextlib.suppress(FileNotFoundError):
            yield from _parts_of(base, source, path, mounts)


def _parts_of(base: Path, source: Path, path: str, mounts: Mapping[Path, str]) -> Iterator[Part]:
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        yield Part(Kind.LINK, path, os.readlink(source))
    elif stat.S_ISDIR(status.st_mode):
        yield from _folder_parts(base, source, mounts)
    elif stat.S_ISREG(status.st_mode) and os.access(source, os.R_OK) and status.st_size <= _MOST_COPIED:
        yield Part(Kind.FILE, path, str(source))


def _folder_parts(base: Path, folder: Path, mounts: Mapping[Path, str]) -> Iterator[Part]:
    if mounts.get(folder) in _PSEUDO or not os.access(folder, os.R_OK | os.X_OK):
        yield _folder_part(Kind.FOLDER, base, folder)
    elif any(folder in mount.parents for mount in mounts):
        yield _folder_part(Kind.FOLDER, base, folder)
        yield from _parts(base, folder, mounts)
    else:
        yield _folder_part(Kind.OVERLAY, base, folder)


def _folder_part(kind: Kind, base: Path, source: Path) -> Part:
    status = source.stat()
    path = str(source.relative_to(base))
    return Part(kind, path, str(source), stat.S_IMODE(status.st_mode), f"{status.st_uid}:{status.st_gid}")


def visible_parts(folders: Iterable[Path], image: Path | None, mounts: Mapping[Path, str]) -> list[Part]:
    """Those of the host's folders that the root alone would not show, in their places. Raises SetupError.

    :param folders: resolved.
    :param mounts: the types of file systems by their mount points.
    """
    hidden = {
        folder for folder in folders if image is not None or folder.parts[1:2] in [(top,) for top in FRESH]
    }
    outermost = sorted(folder for folder in hidden if hidden.isdisjoint(folder.parents))
    if image is not None:
        for folder in outermost:
            _check_way(folder, image)
    try:
        return [part for folder in outermost for part in _folder_parts(Path("/"), folder, mounts)]
    except OSError as error:
        raise SetupError(f"a folder that the devices have to see can't be read: {error}") from error


def _check_way(folder: Path, image: Path) -> None:
    if folder == Path("/"):
        raise SetupError(
            "--image: call lavabox in another folder than /, as the devices see that folder in place of the image's"
        )
    if folder.parts[1] in FRESH:
        return
    for inside in (folder, *folder.parents):
        if (image / str(inside)[1:]).is_symlink():
            raise SetupError(
                f"--image {image}: {inside} is a link there, and {folder} has to be seen by the devices; "
                "put your scripts in another place, such as /tmp, and call lavabox there"
            )


def mount_points(table: str) -> dict[Path, str]:
    """The types of file systems by mount points, of the text of /proc/self/mountinfo."""
    found = {}
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        found[Path(path)] = after.split()[0]
    return found
