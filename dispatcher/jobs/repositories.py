# SPDX-License-Identifier: MIT
"""Where the repositories of a job are on this machine: `--repo URL=DIR`, local paths, clones around the job.

Nothing is fetched. Of a clone that is asked for a branch or revision, git gives the files as they
were at that commit; everything else is taken as it lies there.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from dispatcher.errors import SetupError, UsageError
from dispatcher.jobs.model import Checkout, Place
from dispatcher.jobs.source import MAX_BYTES, JobError, Remarks

# What a copy for each device may have. A slip (DIR is a home) is told, not copied.
MAX_FILES = 100_000
MAX_COPY = 2 * 1024**3

# Revisions that git can't take for an option or an expression.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+#-]*")
_MINUTE = 60.0


def parse_repositories(texts: Sequence[str], directory: Path) -> dict[str, Path]:
    """The folders by URL, of the arguments of --repo. Raises UsageError."""
    folders = {}
    for text in texts:
        url, equals, folder = text.rpartition("=")
        if not equals or not url or not folder:
            raise UsageError(f"--repo {text!r:.100}: write URL=DIR")
        path = Path(os.path.normpath(directory / folder))
        if not path.is_dir():
            raise UsageError(f"--repo {text!r:.100}: there is no folder {path}")
        folders[normal(url)] = path
    return folders


def normal(url: str) -> str:
    """The URL without what makes no difference."""
    return url.rstrip("/").removesuffix(".git")


class Repositories:
    """The repositories that this machine has.

    :param folders: by URL as `normal` has it.
    """

    def __init__(self, folders: Mapping[str, Path] | None = None) -> None:
        self._folders = {normal(url): folder for url, folder in (folders or {}).items()}

    def find(self, url: str, around: Path) -> Path | None:
        """The folder of a repository; None if it is not here.

        :param around: the folder of the file that names it: a local path counts from there, and it may
            lie in a clone of that URL.
        """
        if normal(url) in self._folders:
            return self._folders[normal(url)]
        if "://" in url and not url.startswith("file://"):
            return _clone_around(url, around)
        path = Path(os.path.normpath(around / url.removeprefix("file://")))
        if path.is_dir():
            return path
        return _clone_around(url, around)

    def checkout(
        self, url: str, branch: str | None, revision: str | None, place: Place, around: Path, remarks: Remarks
    ) -> Checkout:
        """Which files a definition gets. Raises JobError."""
        folder = self.find(url, around)
        if folder is None:
            if "://" in url or url.startswith(("git@", "lp:")):
                raise JobError(
                    place,
                    f"nothing is fetched from {url}; clone it (or unpack it) here, and add --repo {url}=DIR",
                )
            raise JobError(
                place, f"there is no folder {url} in {around}; mend the path, or add --repo {url}=DIR"
            )
        if not _is_clone(folder):
            if branch or revision:
                remarks.add(
                    place, f"{folder} is no git clone: it is used as it is, not at {revision or branch}"
                )
            return Checkout(folder)
        return Checkout(folder, _commit(folder, branch, revision, place, remarks))


def _clone_around(url: str, folder: Path) -> Path | None:
    """The clone of this URL that the folder lies in."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        return None
    remotes = _git(folder, "config", "--get-regexp", r"^remote\..*\.url$") or ""
    urls = {normal(line.partition(" ")[2]) for line in remotes.splitlines()}
    return Path(top) if normal(url) in urls else None


def _is_clone(folder: Path) -> bool:
    return (folder / ".git").exists() or _is_bare(folder)


def _is_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def _commit(
    folder: Path, branch: str | None, revision: str | None, place: Place, remarks: Remarks
) -> str | None:
    """The commit that is wanted of a clone; None: the files as they lie there."""
    for name in (branch, revision):
        if name and not _REVISION.fullmatch(name):
            raise JobError(place, f"git can't have a branch or revision {name!r:.60}")
    bare = _is_bare(folder)
    wanted = revision or branch
    if wanted is not None:
        # Who works on the branch wants his changes tested.
        if not revision and not bare and _git(folder, "symbolic-ref", "--short", "HEAD") == branch:
            return None
        for name in (f"refs/heads/{wanted}", f"refs/remotes/origin/{wanted}", wanted):
            commit = _git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
            if commit is not None:
                return commit
        kind = "revision" if revision else "branch"
        state = "HEAD" if bare else "its work tree"
        remarks.add(place, f"the clone in {folder} has no {kind} {wanted}: {state} is used")
    return _git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") if bare else None


def read_file(checkout: Checkout, path: str, place: Place) -> bytes:
    """A file of a repository. Raises JobError, with what it might be called instead."""
    pure = os.path.normpath(path)
    if os.path.isabs(pure) or pure.startswith(".."):
        raise JobError(place, f"{path!r:.100} leads out of the repository")
    if checkout.revision is None:
        file = checkout.folder / pure
        try:
            if not file.resolve().is_relative_to(checkout.folder.resolve()):
                raise JobError(place, f"{path!r:.100} leads out of the repository")
            with file.open("rb") as stream:
                return stream.read(MAX_BYTES + 1)
        except OSError:
            pass
    else:
        done = _run_git(checkout.folder, "show", f"{checkout.revision}:{pure}")
        if done is not None and done.returncode == 0:
            return done.stdout
    raise JobError(place, _not_there(checkout, pure))


def _not_there(checkout: Checkout, path: str) -> str:
    at = "" if checkout.revision is None else f" at {checkout.revision[:12]}"
    names = [name for name in list_files(checkout) if name.endswith((".yaml", ".yml"))]
    same_name = [name for name in names if os.path.basename(name) == os.path.basename(path)]
    close = (same_name or get_close_matches(path, names, n=1, cutoff=0.7))[:1]
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"there is no file {path} in {checkout.folder}{at}{hint}"


def list_files(checkout: Checkout) -> list[str]:
    """The files of a repository, by their paths in it. Raises SetupError if there are too many."""
    folder = checkout.folder
    if checkout.revision is not None:
        output = _git(folder, "ls-tree", "-r", "-z", "--name-only", checkout.revision)
        return [] if output is None else [name for name in output.split("\0") if name]
    if _is_clone(folder):
        # Neither its history nor what was built in it.
        output = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        if output is not None:
            return sorted({name for name in output.split("\0") if name and os.path.lexists(folder / name)})
    found = []
    for top, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        found += [os.path.relpath(os.path.join(top, name), folder) for name in (*files, *links)]
        if len(found) > MAX_FILES:
            raise SetupError(
                f"{folder} has more than {MAX_FILES} files, and each device gets a copy; name less of it"
            )
    return sorted(found)


def copy(checkout: Checkout, destination: Path) -> None:
    """Put the files of a repository into a folder, which is made. Raises SetupError."""
    destination.mkdir(parents=True, exist_ok=True)
    if checkout.revision is not None:
        _extract(checkout, destination)
        return
    size = 0
    for name in list_files(checkout):
        source, target = checkout.folder / name, destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            elif source.is_file():
                size += source.stat().st_size
                if size > MAX_COPY:
                    raise SetupError(
                        f"{checkout.folder} is larger than {MAX_COPY} bytes, and each device gets a copy; name less of it"
                    )
                shutil.copy2(source, target)
        except OSError as error:
            raise SetupError(f"{source} can't be copied for a device: {error}") from error


def _extract(checkout: Checkout, destination: Path) -> None:
    assert checkout.revision is not None
    command = _command(checkout.folder, "archive", "--format=tar", checkout.revision)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as git:
        tar = subprocess.run(
            ["tar", "-xf", "-", "-C", destination], stdin=git.stdout, capture_output=True, check=False
        )
    if git.returncode or tar.returncode:
        text = tar.stderr.decode(errors="replace").strip()
        raise SetupError(
            f"the files of {checkout.folder} at {checkout.revision} can't be had: {text or 'git failed'}"
        )


def toplevel(file: Path) -> Path:
    """The folder that the steps of a definition file run in: its clone, or else its own folder."""
    top = _git(file.parent, "rev-parse", "--show-toplevel")
    return file.parent if top is None else Path(top)


def _command(folder: Path, *arguments: str) -> list[str]:
    # A clone may name programs for git to run.
    return [
        "git",
        "-C",
        str(folder),
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.hooksPath=/dev/null",
        *arguments,
    ]


def _run_git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes] | None":
    try:
        return subprocess.run(
            _command(folder, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_MINUTE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints; None if it has nothing to say."""
    done = _run_git(folder, *arguments)
    if done is None or done.returncode != 0:
        return None
    return os.fsdecode(done.stdout).rstrip("\n") or None
