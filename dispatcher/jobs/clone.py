# SPDX-License-Identifier: MIT
"""Git clones, read without trusting anything in them.

A repository may bring a configuration, hooks, attributes and remotes that make git run programs. So git
never works in a repository that somebody else made. It works in one of ours, which is made for the purpose:
its configuration is ours, and it has links to those parts of the clone that are data (objects, refs, index).

    ours/config        written here
    ours/HEAD          a copy
    ours/objects    -> CLONE/.git/objects     only regular files and folders, no alternates
    ours/refs       -> CLONE/.git/refs        the same; also packed-refs, reftable, index, info/exclude

Only commands that print data are called (rev-parse, ls-tree, cat-file, ls-files, config on text that this
module has read), with an environment that this module makes. The clone's own configuration is looked at as
text, for the URLs of its remotes and the format of its objects.
"""

import contextlib
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from dispatcher.errors import SetupError
from dispatcher.files import open_regular

# Seconds that one call of git may take.
PATIENCE = 60.0
# Files of one commit or work tree, and bytes of them.
MAX_FILES = 100_000
MAX_SIZE = 2 * 1024**3
# Folders in each other.
MAX_DEPTH = 200

# Bytes of memory for git: a small object can say that it is unpacked to any size. Files above half of it are
# streamed, and what git only maps does not count.
_MAX_MEMORY = 1024**3
# What git prints as an answer: settings, a name.
_MAX_ANSWER = 16 * 1024 * 1024
# Bytes of a line of a list: a path, and what stands before it.
_MAX_LINE = 8192

# What is read of a small file: a configuration, HEAD, a path.
_MAX_TEXT = 1024 * 1024
# Files below `objects` and `refs`.
_MAX_STORED = 2_000_000
_MAX_LINK = 4096
_PARTS = ("objects", "refs", "packed-refs", "reftable")

_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    # A missing object is an error. Older versions of git, which do not know the first of these, have no remote
    # to fetch it from, as our configuration names none, and no protocol to do so.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
}


class GitError(SetupError):
    """A clone that can't be read. The text names it, and says what is wrong, in git's own words where it spoke."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit: `mode` as git has it, `size` in bytes; `name` is its path."""

    mode: int
    object_id: str
    size: int
    name: str


def walk(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Each folder below this one but .git, itself as "", with what is in it; links are not followed.

    Raises SetupError for folders nested too deep.

    :param unreadable: is called for a folder that can't be looked into, and may raise; it is passed over otherwise.
    """
    folders = [("", 0)]
    while folders:
        name, depth = folders.pop()
        try:
            with os.scandir(folder / name) as scanned:
                entries = list(scanned)
        except OSError as error:
            unreadable(error)
            continue
        yield name, entries
        inner = [
            (os.path.join(name, entry.name), depth + 1)
            for entry in entries
            if entry.name != ".git" and entry.is_dir(follow_symlinks=False)
        ]
        if inner and depth == MAX_DEPTH:
            raise SetupError(f"{folder} has folders that are nested more than {MAX_DEPTH} deep")
        folders += inner


def is_clone(folder: Path) -> bool:
    """Whether the folder is a clone: a work tree with its .git, or a bare repository."""
    return _has_git(folder) or _is_git_folder(folder)


def clone_around(folder: Path) -> Path | None:
    """The nearest folder, this one or one above it, that is the top of a work tree of git.

    It is of whoever this folder is of, or of root, or ours: anybody can make a /tmp/.git.
    """
    folder = folder.resolve()
    trusted = {folder.stat().st_uid, os.geteuid(), 0}
    for above in (folder, *folder.parents):
        if _has_git(above) and {above.stat().st_uid, (above / ".git").lstat().st_uid} <= trusted:
            return above
    return None


def _has_git(folder: Path) -> bool:
    """Whether there is something that is or was a repository: one that is broken, or not for us to read, is one."""
    dot = folder / ".git"
    try:
        return dot.is_file() or any(dot.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _is_git_folder(folder: Path) -> bool:
    return os.path.isfile(folder / "HEAD") and all(
        os.path.isdir(folder / name) for name in ("objects", "refs")
    )


class Clone:
    """A clone that can be read: bare, or a work tree with its .git. Making one raises GitError.

    :param folder: for which `is_clone` is true.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bare = not _has_git(folder)
        self._ours = Path(tempfile.mkdtemp(prefix="lavabox-git-"))
        weakref.finalize(self, shutil.rmtree, self._ours, ignore_errors=True)
        self._write_config({})
        (self._ours / "HEAD").write_text("ref: refs/heads/none\n")
        for name in ("objects", "refs"):
            (self._ours / name).mkdir()
        try:
            git_folder, common = (folder, folder) if self.bare else self._git_folders()
            self._settings = self._read_settings(common)
            self._link(git_folder, common)
        except OSError as error:
            raise self._error(str(error)) from None

    # Setting up ours

    def _git_folders(self) -> tuple[Path, Path]:
        """The folder of this work tree in its repository, and the one that it shares with other work trees."""
        dot, top = self.folder / ".git", self.folder.resolve()
        git_folder = dot.resolve()
        if dot.is_file():
            key, _, path = self._text(dot).partition(": ")
            git_folder = (self.folder / path.rstrip("\n")).resolve()
            if key != "gitdir" or not (git_folder / "HEAD").is_file():
                raise self._error(
                    "its .git is a file that leads to no repository; remove it to use the folder as it is"
                )
        elif not _is_git_folder(git_folder):
            raise self._error(
                "its .git is no repository (it lacks HEAD, objects or refs); remove it to use the folder as it is"
            )
        common = git_folder
        if os.path.lexists(git_folder / "commondir"):
            common = (git_folder / self._text(git_folder / "commondir").rstrip("\n")).resolve()
        if git_folder.is_relative_to(top) and common.is_relative_to(top):
            return git_folder, common
        # It leads out of the folder, which anybody can make. What is there has to know of this folder.
        if common != git_folder:
            back = git_folder / "gitdir"
            named = (git_folder / self._text(back).rstrip("\n")).resolve() if back.is_file() else None
            belongs = git_folder.parent == common / "worktrees" and named == dot.resolve()
        else:
            tree = self._read_settings(common).get("core.worktree", [""])[-1]
            belongs = bool(tree) and (git_folder / tree).resolve() == top
        if not belongs:
            raise self._error(
                f"its .git leads to {git_folder}, which does not belong to it; if you trust it, make a clone of it "
                "by `git clone --no-local`, and name that"
            )
        return git_folder, common

    def _read_settings(self, common: Path) -> dict[str, list[str]]:
        """The configuration of the clone, as text: values by their keys."""
        path = common / "config"
        text = self._text(path) if os.path.lexists(path) else ""
        with tempfile.TemporaryFile() as file:
            file.write(os.fsencode(text))
            file.seek(0)
            listed = self._output("config", "--no-includes", "-z", "--file", "-", "--list", stdin=file)
        settings: dict[str, list[str]] = {}
        for line in listed.split("\0"):
            key, _, value = line.partition("\n")
            settings.setdefault(key, []).append(value)
        return settings

    def _write_config(self, extensions: dict[str, str]) -> None:
        lines = ["[core]", "\trepositoryformatversion = 1", "\tfsmonitor = false", "\thooksPath = /dev/null"]
        # A commit graph says again what the commits say, perhaps otherwise.
        lines += ["\twarnAmbiguousRefs = false", "\tcommitGraph = false"]
        lines += ["[extensions]", *(f"\t{name} = {value}" for name, value in extensions.items()), ""]
        (self._ours / "config").write_text("\n".join(lines))

    def _link(self, git_folder: Path, common: Path) -> None:
        for name in ("objects", "refs"):
            (self._ours / name).rmdir()
        for name in _PARTS:
            if os.path.lexists(common / name):
                # Of a branch that it may not read git says that there is none.
                self._check_plain(common / name, readable=name != "objects")
                (self._ours / name).symlink_to(common.resolve() / name)
        for name in ("alternates", "http-alternates"):
            path = common / "objects" / "info" / name
            if path.exists() and self._text(path).strip():
                raise self._error(
                    f"it takes objects from another repository ({path}), which is not followed; make a clone with "
                    "objects of its own by `git clone --no-local --dissociate`, and name that"
                )
        (self._ours / "info").mkdir()
        pairs = [("index", git_folder / "index"), ("info/exclude", common / "info" / "exclude")]
        pairs += [(path.name, path) for path in git_folder.glob("sharedindex.*")]
        for name, path in pairs:
            if os.path.lexists(path):
                self._check_plain(path)
                (self._ours / name).symlink_to(path.resolve())
        (self._ours / "HEAD").write_text(self._text(git_folder / "HEAD"), errors="surrogateescape")
        known = {"objectFormat": r"sha1|sha256", "refStorage": r"files|reftable"}
        extensions: dict[str, str] = {}
        for name, words in known.items():
            value = self._settings.get(f"extensions.{name.lower()}", [""])[-1]
            if re.fullmatch(words, value):
                extensions[name] = value
        self._write_config(extensions)

    def _check_plain(self, path: Path, readable: bool = False) -> None:
        """A link may lead to another repository, and nothing else than a file has an end.

        :param readable: also, that all files can be read.
        """
        folders, count = [path], 0
        try:
            kind = path.lstat().st_mode
            if not stat.S_ISDIR(kind):
                folders = []
                if not stat.S_ISREG(kind):
                    raise self._error(f"{path} is neither a file nor a folder")
            while folders:
                for entry in os.scandir(folders.pop()):
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif not entry.is_file(follow_symlinks=False):
                        raise self._error(f"{entry.path} is neither a file nor a folder")
                    elif readable and not os.access(entry.path, os.R_OK):
                        raise self._error(f"{entry.path}: permission denied")
                if count > _MAX_STORED:
                    raise self._error(f"{path} has more than {_MAX_STORED} files; run `git gc` there")
        except OSError as error:
            raise self._error(str(error)) from None

    def _text(self, path: Path) -> str:
        try:
            with open_regular(path) as file:
                data = file.read(_MAX_TEXT + 1)
        except OSError as error:
            raise self._error(f"{path}: {error.strerror}") from None
        if len(data) > _MAX_TEXT:
            raise self._error(f"{path} has more than {_MAX_TEXT} bytes")
        return os.fsdecode(data)

    def _error(self, sentence: str) -> GitError:
        return GitError(f"the clone {self.folder} can't be read: {sentence}")

    # Asking

    def remote_urls(self) -> list[str]:
        """The URLs of its remotes."""
        found = []
        for key, values in self._settings.items():
            if re.fullmatch(r"remote\..*\.url", key, re.DOTALL):
                found += values
        return found

    def head_branch(self) -> str | None:
        """The branch that is checked out; None if there is none. Raises GitError."""
        return self._answer("symbolic-ref", "--quiet", "--short", "HEAD")

    def commit(self, name: str) -> str | None:
        """The commit of a branch, tag or revision; None if the clone has no such name. Raises GitError.

        :param name: begins with a letter, a digit or '_', and has none of git's operators in it.
        """
        for place in (f"refs/heads/{name}", f"refs/remotes/origin/{name}", f"refs/tags/{name}"):
            found = self._answer("rev-parse", "--verify", "--quiet", place)
            if found is not None:
                commit = self._answer("rev-parse", "--verify", "--quiet", f"{found}^{{commit}}")
                if commit is None:
                    raise self._error(f"{place} leads to {found}, and there is no such commit")
                return commit
        return self._answer("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")

    def entries(self, commit: str) -> list[Entry]:
        """The files of a commit, submodules left out. Raises GitError, also if there are too many."""
        found: list[Entry] = []
        for line in self._lines("ls-tree", "-r", "-z", "-l", "--full-tree", commit):
            fields, _, name = line.partition("\t")
            mode, kind, object_id, size = fields.split()
            if kind != "blob":
                continue
            self._check_name(name)
            if not size.isdecimal():
                raise self._error(
                    f"{name!r:.100} is missing at {commit[:12]}, as in a partial clone; fetch it by "
                    f"`git checkout {commit[:12]}` there"
                )
            found.append(Entry(int(mode, 8), object_id, int(size), name))
        return found

    def work_tree(self) -> list[str]:
        """The paths of what git has or would add, files that are gone among them. Raises GitError."""
        # Git would wait for somebody to write to FIFOs of these names; it looks whether a folder is a clone itself.
        for name, entries in walk(self.folder, lambda error: None):
            paths = {entry.name: entry.path for entry in entries}
            read = [paths.get(".gitignore")]
            if name and ".git" in paths:
                read.append(os.path.join(paths[".git"], "HEAD"))
            for path in read:
                if path and os.path.exists(path) and not os.path.isfile(path):
                    raise self._error(f"{path} is no regular file")
        # The nested repositories that it may name end in "/".
        listed = set(self._lines("ls-files", "-z", "--cached", "--others", "--exclude-standard"))
        names = sorted(name for name in listed if not name.endswith("/"))
        for name in names:
            self._check_name(name)
        return names

    def contents(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, BinaryIO]]:
        """Each file with a stream of its bytes, which is to be read to its end. Raises GitError."""
        with tempfile.TemporaryFile() as wanted:
            wanted.writelines(f"{entry.object_id}\n".encode() for entry in entries)
            wanted.seek(0)
            with self._running("cat-file", "--batch", stdin=wanted) as output:
                for entry in entries:
                    header = output.readline().decode(errors="replace").split()
                    if header[1:] != ["blob", str(entry.size)]:
                        raise self._error(
                            f"{entry.name!r:.100} can't be read: {' '.join(header) or 'git ended'}"
                        )
                    yield entry, output
                    output.read(1)

    def read(self, entry: Entry, limit: int) -> bytes:
        """The first bytes of a file, `limit` at most. Raises GitError."""
        if entry.size > MAX_SIZE:
            raise self._error(f"{entry.name!r:.100} has {entry.size} bytes, more than {MAX_SIZE}")
        stream = self.contents([entry])
        try:
            _, output = next(stream)
            return output.read(min(entry.size, limit))
        finally:
            stream.close()  # type: ignore[attr-defined]

    def extract(self, commit: str, destination: Path) -> None:
        """Put the files of a commit into an empty folder. Raises GitError or OSError."""
        entries = self.entries(commit)
        size = sum(entry.size for entry in entries)
        if size > MAX_SIZE:
            raise self._error(f"the files at {commit[:12]} have {size} bytes, more than {MAX_SIZE}")
        links: list[tuple[Path, bytes]] = []
        for entry, stream in self.contents(entries):
            path = destination / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            if stat.S_ISLNK(entry.mode):
                if entry.size >= _MAX_LINK:
                    raise self._error(f"{entry.name!r:.100} at {commit[:12]} is a link of {entry.size} bytes")
                links.append((path, target := stream.read(entry.size)))
                if b"\0" in target:
                    raise self._error(f"{entry.name!r:.100} at {commit[:12]} is a link to no name")
                continue
            mode = 0o777 if entry.mode & 0o100 else 0o666
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(path, flags, mode), "wb") as file:
                left = entry.size
                while left:
                    data = stream.read(min(left, 1 << 20))
                    if not data:
                        raise self._error(f"{entry.name!r:.100} can't be read: git ended")
                    left -= file.write(data)
        # Last, so that nothing is written through one.
        for path, target in links:
            os.symlink(target, os.fsencode(path))

    def _check_name(self, name: str) -> None:
        parts = name.split("/")
        if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
            raise self._error(f"{name!r:.100} is no name that a file of a clone may have")
        if len(parts) > MAX_DEPTH + 1:
            raise self._error(f"{name!r:.100} is nested more than {MAX_DEPTH} folders deep")

    # Running git

    def _lines(self, *arguments: str) -> list[str]:
        """What git prints with NUL at the ends: MAX_FILES of them at most."""
        lines: list[str] = []
        rest = b""
        with self._running(*arguments) as output:
            while data := output.read1(1 << 16):  # type: ignore[attr-defined]
                *whole, rest = (rest + data).split(b"\0")
                lines += map(os.fsdecode, whole)
                if len(lines) > MAX_FILES:
                    raise self._error(f"it has more than {MAX_FILES} files")
                if len(rest) > _MAX_LINE:
                    raise self._error("it has a file with a name that is too long")
        return lines

    def _output(self, *arguments: str, stdin: IO[bytes] | None = None) -> str:
        with self._running(*arguments, stdin=stdin) as output:
            answer = output.read(_MAX_ANSWER + 1)
            if len(answer) > _MAX_ANSWER:
                raise self._error(f"git prints more than {_MAX_ANSWER} bytes about it")
            return os.fsdecode(answer)

    def _answer(self, *arguments: str) -> str | None:
        """What git prints; None if it says no: without a word, which is other than that it can't say."""
        try:
            return self._output(*arguments).strip()
        except _SaysNo:
            return None

    @contextlib.contextmanager
    def _running(self, *arguments: str, stdin: IO[bytes] | None = None) -> Iterator[BinaryIO]:
        """Git, whose output is to be read. Raises GitError if it fails, or has not ended after a minute."""
        # A folder of a relative path would be one of the clone.
        folders = filter(os.path.isabs, os.environ.get("PATH", os.defpath).split(os.pathsep))
        environment = {"PATH": os.pathsep.join(folders), "HOME": str(self._ours), **_ENVIRONMENT}
        environment["GIT_DIR"] = str(self._ours)
        directory = self._ours
        if not self.bare:
            environment["GIT_WORK_TREE"] = str(self.folder.resolve())
            directory = self.folder
        late = threading.Event()
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    ["git", *arguments],
                    cwd=directory,
                    env=environment,
                    stdin=stdin or subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    # `git` may be a script, whose programs would keep the pipe open.
                    process_group=0,
                    # A limit that is set from here comes too late, and a system call is safe beside threads.
                    preexec_fn=_limit_memory,  # noqa: PLW1509
                )
            except FileNotFoundError:
                raise self._error("git is not installed; install it, or name a folder without .git") from None
            except OSError as error:
                raise self._error(f"git can't be run: {error.strerror}") from None

            def end() -> None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

            def kill() -> None:
                late.set()
                end()

            timer = threading.Timer(PATIENCE, kill)
            timer.start()
            assert process.stdout is not None
            try:
                yield process.stdout  # type: ignore[misc]
                process.stdout.close()
                status = process.wait()
            except BaseException:
                end()
                process.wait()
                if late.is_set():
                    raise self._error(f"git has not answered within {PATIENCE:g} s") from None
                raise
            finally:
                timer.cancel()
                process.stdout.close()
            if late.is_set():
                raise self._error(f"git has not answered within {PATIENCE:g} s")
            errors.seek(0)
            said = errors.read(4096).decode(errors="replace").strip().partition("\n")[0]
            if not said and status == 1:
                raise _SaysNo(str(self.folder))
            # A folder that it may not read it leaves out, warns of, and ends with 0.
            if status or said:
                said = re.sub(r"^(fatal|error|warning): ", "", said) or f"git ended with status {status}"
                raise self._error(said)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, _MAX_MEMORY))


class _SaysNo(Exception):
    """Git has looked, and there is nothing."""
