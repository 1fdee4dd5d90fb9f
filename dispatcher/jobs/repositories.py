# SPDX-License-Identifier: MIT
"""Where the repositories of a job are on this machine: `--repo URL=DIR`, local paths, clones around the job.

Nothing is fetched. Of a clone that is asked for a branch or revision, git gives the files as they
were at that commit; everything else is taken as it lies there.
"""

import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from dispatcher.errors import SetupError, UsageError
from dispatcher.files import open_regular
from dispatcher.jobs.clone import MAX_FILES, MAX_SIZE, Clone, Entry, GitError, clone_around, is_clone, walk
from dispatcher.jobs.model import Checkout, Place
from dispatcher.jobs.source import MAX_BYTES, JobError, Remarks, RepositoryError

# Revisions that git can't take for an option or an expression.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+#-]*")
# Links of a repository to its own files, one behind the other.
_MAX_LINKS = 10
_AT_ONCE = 1 << 30


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
    """The repositories that this machine has, each looked at once.

    :param folders: by URL as `normal` has it.
    """

    def __init__(self, folders: Mapping[str, Path] | None = None) -> None:
        self._folders = {normal(url): folder for url, folder in (folders or {}).items()}
        self._clones: dict[Path, Clone] = {}
        self._entries: dict[Checkout, dict[str, Entry]] = {}
        self._names: dict[Checkout, list[str]] = {}

    def find(self, url: str, around: Path, place: Place) -> Path | None:
        """The folder of a repository; None if it is not here. Raises JobError or RepositoryError.

        :param around: the folder of the file that names it: a local path counts from there, and it may
            lie in a clone of that URL. What lies elsewhere, whoever starts us names by --repo.
        """
        if normal(url) in self._folders:
            return self._folders[normal(url)]
        if "://" not in url or url.startswith("file://"):
            path = Path(os.path.normpath(around / url.removeprefix("file://")))
            if os.path.isdir(path):
                home = (clone_around(around) or around).resolve()
                if not path.resolve().is_relative_to(home):
                    raise JobError(
                        place,
                        f"{url} leads out of {home}, where the job is; if you trust it with that, add --repo {url}={path}",
                    )
                return path
        top = clone_around(around)
        if top is None:
            return None
        try:
            urls = self._clone(top).remote_urls()
        except GitError as error:
            raise RepositoryError(place, error) from None
        return top if normal(url) in map(normal, urls) else None

    def checkout(
        self, url: str, branch: str | None, revision: str | None, place: Place, around: Path, remarks: Remarks
    ) -> Checkout:
        """Which files a definition gets. Raises JobError or RepositoryError."""
        folder = self.find(url, around, place)
        if folder is None:
            if "://" in url or url.startswith(("git@", "lp:")):
                raise JobError(
                    place,
                    f"nothing is fetched from {url}; clone it (or unpack it) here, and add --repo {url}=DIR",
                )
            raise JobError(
                place, f"there is no folder {url} in {around}; correct the path, or add --repo {url}=DIR"
            )
        if not is_clone(folder):
            if branch or revision:
                remarks.add(
                    place, f"{folder} is not a git clone: it is used as it is, not at {revision or branch}"
                )
            return Checkout(folder)
        try:
            return Checkout(folder, self._commit(self._clone(folder), branch, revision, place, remarks))
        except GitError as error:
            raise RepositoryError(place, error) from None

    def _commit(
        self, clone: Clone, branch: str | None, revision: str | None, place: Place, remarks: Remarks
    ) -> str | None:
        """The commit that is wanted of a clone; None: the files as they lie there. Raises GitError."""
        for name in (branch, revision):
            if name and not _REVISION.fullmatch(name):
                raise JobError(place, f"git can't have a branch or revision {name!r:.60}")
        wanted = revision or branch
        if wanted is not None:
            # Whoever works on the branch wants the changes tested.
            if not revision and not clone.bare and clone.head_branch() == branch:
                return None
            commit = clone.commit(wanted)
            if commit is not None:
                return commit
            kind = "revision" if revision else "branch"
            state = "HEAD" if clone.bare else "its work tree"
            remarks.add(place, f"the clone in {clone.folder} has no {kind} {wanted}: {state} is used")
        return clone.commit("HEAD") if clone.bare else None

    def read_file(self, checkout: Checkout, path: str, place: Place) -> bytes:
        """The first MAX_BYTES + 1 bytes of a file of a repository.

        Raises JobError, with what it might be called instead, or RepositoryError.
        """
        try:
            data = self.look_up(checkout, path)
            if data is None:
                raise JobError(place, self._not_there(checkout, os.path.normpath(path)))
            return data
        except GitError as error:
            raise RepositoryError(place, error) from None
        except JobError:
            raise
        except SetupError as error:
            raise JobError(place, str(error)) from None

    def look_up(self, checkout: Checkout, path: str) -> bytes | None:
        """The first MAX_BYTES + 1 bytes of a file of a repository; None if there is none. Raises SetupError."""
        pure = os.path.normpath(path)
        if os.path.isabs(pure) or pure.split("/")[0] == "..":
            raise SetupError(f"{path!r:.100} leads out of the repository")
        if ".git" in pure.split("/"):
            raise SetupError(f"{path!r:.100} is git's, and no file of the repository")
        return self._of_commit(checkout, pure) if checkout.revision else _of_folder(checkout.folder, pure)

    def _of_commit(self, checkout: Checkout, path: str) -> bytes | None:
        entries = self._entries_of(checkout)
        for _ in range(_MAX_LINKS):
            entry = entries.get(path)
            if entry is None:
                return None
            data = self._clone(checkout.folder).read(entry, MAX_BYTES + 1)
            if not stat.S_ISLNK(entry.mode):
                return data
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.fsdecode(data)))
        return None

    def _not_there(self, checkout: Checkout, path: str) -> str:
        at = "" if checkout.revision is None else f" at {checkout.revision[:12]}"
        names = [name for name in self.list_files(checkout) if name.endswith((".yaml", ".yml"))]
        same_name = [name for name in names if os.path.basename(name) == os.path.basename(path)]
        close = (same_name or get_close_matches(path, names, n=1, cutoff=0.7))[:1]
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"there is no file {path} in {checkout.folder}{at}{hint}"

    def list_files(self, checkout: Checkout) -> list[str]:
        """The files of a repository, by their paths in it.

        Raises SetupError if there are too many, or if it can't be read.
        """
        if checkout not in self._names:
            if checkout.revision is not None:
                names = list(self._entries_of(checkout))
            elif is_clone(checkout.folder):
                # Neither its history nor what was built in it.
                names = _present(checkout.folder, self._clone(checkout.folder).work_tree())
            else:
                names = _walk(checkout.folder)
            self._names[checkout] = names
        return self._names[checkout]

    def copy(self, checkout: Checkout, destination: Path) -> None:
        """Put the files of a repository into a folder that does not exist yet. Raises SetupError."""
        try:
            destination.mkdir(parents=True)
            if checkout.revision is not None:
                self._clone(checkout.folder).extract(checkout.revision, destination)
            else:
                _copy_files(checkout.folder, self.list_files(checkout), destination)
        except OSError as error:
            raise SetupError(f"{checkout.folder} can't be copied for a device: {error}") from error

    def _clone(self, folder: Path) -> Clone:
        """Raises GitError."""
        if folder not in self._clones:
            self._clones[folder] = Clone(folder)
        return self._clones[folder]

    def _entries_of(self, checkout: Checkout) -> dict[str, Entry]:
        if checkout not in self._entries:
            assert checkout.revision is not None
            entries = self._clone(checkout.folder).entries(checkout.revision)
            self._entries[checkout] = {entry.name: entry for entry in entries}
        return self._entries[checkout]


def toplevel(file: Path) -> Path:
    """The folder that the steps of a definition file run in: its clone, or else its own folder."""
    return clone_around(file.parent) or file.parent


def copy_tree(source: Path, destination: Path, *, link: bool) -> None:
    """Copy a folder that was made here. Raises SetupError.

    :param link: the copies have their files in common, as nobody writes to these: to be seen through an overlay.
    """
    try:
        _copy_tree(source, destination, _link_file if link else _copy_file)
    except OSError as error:
        raise SetupError(f"{source} can't be copied for a device: {error}") from error


def _of_folder(folder: Path, path: str) -> bytes | None:
    file = folder / path
    try:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise SetupError(f"{path!r:.100} leads out of the repository")
        with open_regular(file) as stream:
            return stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError, RuntimeError):
        return None
    except OSError as error:
        raise SetupError(f"{file}: {error.strerror}") from None


def _present(folder: Path, names: Sequence[str]) -> list[str]:
    """Those that are there, and not behind a link that took the place of a folder."""
    real = {"": True}

    def is_real(directory: str) -> bool:
        if directory not in real:
            real[directory] = is_real(os.path.dirname(directory)) and not os.path.islink(folder / directory)
        return real[directory]

    return [name for name in names if is_real(os.path.dirname(name)) and os.path.lexists(folder / name)]


def _walk(folder: Path) -> list[str]:
    """The files of a folder that is no clone, and the links in it. Raises SetupError."""

    def unreadable(error: OSError) -> None:
        raise SetupError(f"{error.filename}: {error.strerror}; each device gets a copy of {folder}")

    found: list[str] = []
    for top, entries in walk(folder, unreadable):
        found += [os.path.join(top, one.name) for one in entries if not one.is_dir(follow_symlinks=False)]
        if len(found) > MAX_FILES:
            raise SetupError(
                f"{folder} has more than {MAX_FILES} files, and each device gets a copy; name a smaller folder"
            )
    return sorted(found)


def _copy_files(folder: Path, names: Sequence[str], destination: Path) -> None:
    """Links as links and last, so that nothing is written through one; what is neither file nor link is left out."""
    size, links = 0, []
    for name in names:
        source, target = folder / name, destination / name
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            links.append((target, os.readlink(source)))
        elif stat.S_ISREG(mode):
            size += source.stat().st_size
            if size > MAX_SIZE:
                raise SetupError(
                    f"{folder} is larger than {MAX_SIZE} bytes, and each device gets a copy; name a smaller folder"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(source, target)
    for target, text in links:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(text, target)


def _copy_tree(source: str | Path, destination: str | Path, copy: Callable[[str, str], None]) -> None:
    os.mkdir(destination)
    with os.scandir(source) as entries:
        for entry in entries:
            target = os.path.join(destination, entry.name)
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), target)
            elif entry.is_dir():
                _copy_tree(entry.path, target, copy)
            else:
                copy(entry.path, target)


def _link_file(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # One file can't have any number of names.
        _copy_file(source, target)


def _copy_file(source: str | Path, target: str | Path) -> None:
    """A regular file, with its permissions and its time; the kernel may let both share their blocks."""
    read = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(read)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        write = os.open(target, flags, status.st_mode & 0o777)
        try:
            os.fchmod(write, status.st_mode & 0o777)
            try:
                while os.copy_file_range(read, write, _AT_ONCE):
                    pass
            except OSError:
                # Not between these two file systems. Both descriptors are behind what was copied.
                while os.sendfile(write, read, None, _AT_ONCE):
                    pass
            os.utime(write, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(write)
    finally:
        os.close(read)
