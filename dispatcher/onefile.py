# SPDX-License-Identifier: MIT
"""What `build/lavabox-host` begins with: it unpacks itself, once for each build and user, and is `lavabox` then.

Packages in it have parts that are compiled, which no Python imports out of an archive. They are unpacked to
`lavabox/BUILD` in $XDG_CACHE_HOME or ~/.cache, or below the folder for temporary files where that can't be written.
"""

import os
import shutil
import stat
import sys
import tempfile
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# Put in by build_zipapp.py.
BUILD = ""
TAG = ""


def main() -> int:
    """Run the command; returns its exit status."""
    ours = EXTENSION_SUFFIXES[0]
    if ours != TAG:
        print(
            f"lavabox: this file is for the Python whose modules end in {TAG}, and those of {sys.executable} end "
            f"in {ours}: run it by that one, or build it by this one, with `make host`",
            file=sys.stderr,
        )
        return 127
    try:
        folder = unpacked(Path(sys.argv[0]))
    except OSError as error:
        print(f"lavabox: can't unpack {sys.argv[0]}: {error}", file=sys.stderr)
        return 1
    sys.path[0] = str(folder)
    from dispatcher.cli import main as run

    return run()


def unpacked(archive: Path) -> Path:
    """The folder with what is in the archive, unpacked now if it was not before. Raises OSError."""
    try:
        # `Path.home` raises RuntimeError for a user who has none.
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return _unpacked_in(cache / "lavabox", archive)
    except (OSError, RuntimeError):
        return _unpacked_in(Path(tempfile.gettempdir()) / f"lavabox-{os.geteuid()}", archive)


def _unpacked_in(parent: Path, archive: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = parent.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{parent} is not a folder that only this user can write to")
    folder = parent / BUILD
    if not folder.is_dir():
        new = Path(tempfile.mkdtemp(dir=parent))
        try:
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(new)
            new.rename(folder)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            # Another process may have been faster.
            if not folder.is_dir():
                raise
    return folder


if __name__ == "__main__":
    sys.exit(main())
