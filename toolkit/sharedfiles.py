# SPDX-License-Identifier: MIT
"""Files in places that other users can write to, such as /tmp.

A user who can foresee a name there can put something of his own in its place: a
link to a file of ours, a FIFO that never ends, a file or a folder. So the box
opens first and looks then, at what it has opened and not at a name:

* A folder that it uses belongs to this user or to root, and so does a link that
  leads there. A folder inside, which the box makes itself, nobody else can write to.
* A file that it takes for its own is a regular file with one name, belongs to this
  user or to root, and nobody else can write to it.
* A file that it writes is a new one, which takes the place of the old one.
* A file that the user has named may be anybody's, but no link of another user leads there.

What is refused raises Refused, whose `strerror` names the owner.
"""

import errno
import os

from .entropy import random_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

# What the stat module calls S_IFMT, S_IFREG, S_IFLNK, S_IFIFO.
_TYPE, _REGULAR, _LINK, _FIFO = 0o170000, 0o100000, 0o120000, 0o010000

# As many links as the kernel follows in one path.
_MAX_LINKS = 40

# A FIFO must not block whoever opens it.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
# O_PATH: a folder that may be passed through need not be readable.
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW


class Refused(OSError):
    """Something is there, and is not used: `strerror` says whose it is, and what is wrong with it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EPERM, sentence)


class Folder:
    """A folder that is held open; what is in it is reached through it. Use as a context manager.

    Raises OSError: Refused where it or a link on the way belongs to another user.

    :param path: may lead through links of this user or of root.
    :param parent: the folder in which `path` is a name; then nobody else may be able to write to it.
    :param make: whether to make it where it is not there.
    :param private: whether nobody else may be able to write to it, or to put another one in its place, also without a
        `parent`: what is in it is used by its path.
    """

    __slots__ = ("descriptor", "path")

    def __init__(
        self, path: str, parent: "Folder | None" = None, make: bool = False, private: bool = False
    ) -> None:
        if parent is None:
            self.path = path
            self.descriptor, _ = walk(path, make, private)
        else:
            self.path = os.path.join(parent.path, path)
            self.descriptor = _enter(path, parent, make)
        try:
            status = os.fstat(self.descriptor)
            if not _trusted(status):
                raise Refused("the folder %s %s" % (self.path, _belongs(status)))
            if (private or parent is not None) and _others_write(status):
                raise Refused("others can write to the folder %s: use chmod go-w" % self.path)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.descriptor)

    def open(self, name: str) -> int:
        """A descriptor to read a file of ours; raises OSError, FileNotFoundError where there is none."""
        try:
            return open_reached(self.descriptor, name, ours=True)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise Refused("it is a link, and " + _belongs(_status(name, self.descriptor))) from None

    def read(self, name: str) -> bytes:
        """What is in a file of ours."""
        with open(self.open(name), "rb") as file:
            return file.read()

    def create(self, name: str) -> int:
        """A descriptor to write a new file, in the place of what has the name now, with."""
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            pass
        return os.open(name, _NEW, 0o644, dir_fd=self.descriptor)

    def replace(self, name: str, content: bytes) -> None:
        """Write a file: who reads it sees the old content or the new, never a part.

        It takes the place of a regular file or a link, whosever that is, where the system allows that.
        """
        try:
            old = _status(name, self.descriptor)
        except FileNotFoundError:
            old = None
        # In the place of a folder it cannot be, and in that of /dev/null it must not.
        if old is not None and old.st_mode & _TYPE not in (_REGULAR, _LINK):
            raise Refused("it is not a regular file, and " + _belongs(old))
        # A random name: two commands of one device may write at once.
        new_name = "%s.%s" % (name, random_bytes(6).hex())
        descriptor = os.open(new_name, _NEW, 0o644, dir_fd=self.descriptor)
        try:
            write_all(descriptor, content)
            os.rename(new_name, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException as error:
            os.unlink(new_name, dir_fd=self.descriptor)
            if isinstance(error, PermissionError) and old is not None and old.st_uid != os.geteuid():
                raise Refused("it " + _belongs(old)) from None
            raise

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self.descriptor)


def open_folder(path: str, names: "list[str]", make: bool = False) -> Folder:
    """The folder at `path`, which may be one that all can write to, or with `names` one that lies in it."""
    opened = Folder(path, make=make)
    for name in names:
        with opened:
            opened = Folder(name, opened, make)
    return opened


def split(path: str) -> "tuple[str, str]":
    """The folder of a file, and its name in it."""
    folder, slash, name = path.rpartition("/")
    return folder or slash or ".", name


def open_named(path: str, kinds: "Container[int]" = (_REGULAR,)) -> int:
    """A descriptor to read a file that the user has named: of any owner, and also by links of ours.

    It need not be ours, only what was meant: a link of another user is not followed. Raises OSError.

    :param kinds: what it may be: regular files, or PIPES too.
    """
    folder, name = walk(path, to_file=True)
    try:
        return open_reached(folder, name, kinds)
    finally:
        os.close(folder)


# Of open_named: what a shell gives for `<(...)` and for /dev/stdin, too.
PIPES = (_REGULAR, _FIFO, 0o020000)


def open_reached(folder: int, name: str, kinds: "Container[int]" = (_REGULAR,), ours: bool = False) -> int:
    """A descriptor to read a file to which `walk` has come. Raises OSError as open_named does.

    :param ours: it is not one that the user has named, and has to be ours.
    """
    descriptor = os.open(name, _READ & ~os.O_NOFOLLOW if _in_proc(folder) else _READ, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        kind = status.st_mode & _TYPE
        foreign = status.st_uid not in (0, os.geteuid())
        if kind not in kinds or (kind == _FIFO and foreign):
            raise Refused("it is not a regular file, and " + _belongs(status))
        if ours and foreign:
            raise Refused("it " + _belongs(status))
        if kind == _REGULAR and status.st_nlink > 1 and (ours or _others_write(os.fstat(folder))):
            raise Refused("it has another name, and " + _belongs(status))
        if ours and _others_write(status):
            raise Refused("others can write to it: use chmod go-w; it " + _belongs(status))
    except OSError:
        os.close(descriptor)
        raise
    # To be read to its end.
    os.set_blocking(descriptor, True)
    return descriptor


def _in_proc(folder: int) -> bool:
    """Whether its links are such that only the kernel can follow: those of /proc/PID/fd, where /dev/stdin leads to."""
    try:
        return os.fstat(folder).st_dev == os.stat("/proc/self").st_dev
    except FileNotFoundError:
        return False


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything, and close."""
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)


def walk(path: str, make: bool = False, private: bool = False, to_file: bool = False) -> "tuple[int, str]":
    """A descriptor of the folder at `path`, with nothing passed through that another user has linked. Raises OSError.

    :param make: what is missing.
    :param private: whether nothing is passed through in which another user could put something in the place of the next.
    :param to_file: `path` is that of a file: the folder is the one that it is in, and its name there, which is no link,
        the second value. There need be no such file.
    """
    links = 0
    parts = path.split("/")[::-1]
    descriptor = os.open("/" if path.startswith("/") else ".", _PASS)
    try:
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if private:
                status = os.fstat(descriptor)
                if not _trusted(status) or (_others_write(status) and not status.st_mode & 0o1000):
                    raise Refused(
                        "others can rename %s in %s: its folder %s" % (part, path, _belongs(status))
                    )
            if make:
                _make(part, descriptor)
            last = to_file and not any(parts)
            try:
                target = _link(part, descriptor)
            except FileNotFoundError:
                if not last:
                    raise
                target = None
            if last and (target is None or _in_proc(descriptor)):
                return descriptor, part
            if target is None:
                new = os.open(part, _PASS, dir_fd=descriptor)
            else:
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                parts += target.split("/")[::-1]
                if not target.startswith("/"):
                    continue
                new = os.open("/", _PASS)
            os.close(descriptor)
            descriptor = new
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, "."


def _link(name: str, folder: int) -> "str | None":
    """Where a link leads to, None if it is none. Raises OSError, Refused for one of another user.

    Its owner and its text are those of one link, also while somebody exchanges it.
    """
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if status.st_mode & _TYPE != _LINK:
            return None
        if not _trusted(status):
            raise Refused("%s is a link, and %s" % (name, _belongs(status)))
        return os.readlink("", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _make(name: str, folder: int) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except OSError:
        pass  # it is there already; what else it is shows when it is opened


def _enter(name: str, parent: Folder, make: bool) -> int:
    if make:
        _make(name, parent.descriptor)
    try:
        return os.open(name, _PASS, dir_fd=parent.descriptor)
    except NotADirectoryError:
        status = _status(name, parent.descriptor)
        path = os.path.join(parent.path, name)
        raise Refused("%s is a link or a file, and %s" % (path, _belongs(status))) from None


def _status(name: str, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _trusted(status: os.stat_result) -> bool:
    """Whether it belongs to us or to root."""
    # In a user namespace, root's number is another one: that of the owner of the root folder.
    return status.st_uid in (0, os.geteuid(), os.stat("/").st_uid)


def _others_write(status: os.stat_result) -> bool:
    """Whether others than its owner and root can. Many users have a group of their own, which is no other."""
    group = status.st_mode & 0o020 and status.st_gid not in (0, os.getegid())
    return bool(group or status.st_mode & 0o002)


def _belongs(status: os.stat_result) -> str:
    return "belongs to " + user(status.st_uid)


def user(number: int) -> str:
    """A user, for a message."""
    try:
        import pwd

        return "user %s (%d)" % (pwd.getpwuid(number).pw_name, number)
    except (ImportError, KeyError):
        # Not each Python has pwd, and not each number a name.
        return "user %d" % number
