# SPDX-License-Identifier: MIT
"""Files that are written in one go, so that nobody ever reads half of one."""

import os
import secrets
from pathlib import Path


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
    """Make `data` the content of the file; whatever happens, it has the old content or the new. Raises OSError.

    What is no file (a pipe, /dev/stdout) is only written to.
    """
    target = Path(os.path.realpath(path))
    if _is_special(target):
        target.write_bytes(data)
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
