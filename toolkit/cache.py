# SPDX-License-Identifier: MIT
"""The cache file: where lava-wait, lava-wait-all and lava-sync leave the data of the messages.

Test scripts read it with cut, awk and grep: one pair a line and nothing else.
A reader sees the old content or the new, never a part. Whether the file can be
written is known before anything is sent: a wait of hours must not end without
its data.
"""

import os

from .wire.vocabulary import NO, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VARIABLE = "LAVA_MULTI_NODE_CACHE"
PREFIX_VARIABLE = "LAVA_MULTI_NODE_CACHE_PREFIX"
DEFAULT_PATH = "/tmp/lava_multi_node_cache.txt"

# What the stat module calls S_IFMT, S_IFREG and S_ISVTX.
_FILE_TYPE, _REGULAR, _STICKY = 0o170000, 0o100000, 0o1000


def wants_prefix(environ: "Mapping[str, str]") -> bool:
    """Whether lava-wait, too, is to put the sender's name before each pair."""
    return environ.get(PREFIX_VARIABLE) == "1"


class CacheFile:
    """The cache file that `environ` names, about to be replaced.

        with CacheFile(context.environ) as cache:
            cache.replace(context.request(...), prefix=True)

    Entering makes the new file beside the old one, `replace` puts it in its
    place, and leaving without that takes it away: the old one stays. Both raise
    CommandError with a sentence that names the file.

    :param variable: the one that names the file; `default` is its path where that does not.
    """

    __slots__ = ("_new_path", "_variable", "path")

    def __init__(
        self, environ: "Mapping[str, str]", variable: str = VARIABLE, default: str = DEFAULT_PATH
    ) -> None:
        self.path = environ.get(variable) or default
        self._variable = variable
        self._new_path = ""

    def __enter__(self) -> "CacheFile":
        # A random name: two commands of one device may wait at once.
        new_path = "%s.%s" % (self.path, os.urandom(6).hex())
        try:
            self._check_replaceable()
            os.close(os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        except OSError as error:
            raise self._failure(error.strerror) from None
        self._new_path = new_path
        return self

    def __exit__(self, *exception: object) -> None:
        if self._new_path:
            try:
                os.unlink(self._new_path)
            except OSError:
                pass  # it is gone, or the directory is: neither changes the answer

    def replace(self, rows: "list[list[Any]]", prefix: bool) -> None:
        """Write the pairs of `rows`, the reply to a wait: lists `[name, key, value, key, value, ...]`."""
        self.write(lines(rows, prefix))

    def write(self, new_lines: "list[bytes]") -> None:
        content = b"".join(new_lines)
        try:
            descriptor = os.open(self._new_path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                while content:
                    content = content[os.write(descriptor, content) :]
            finally:
                os.close(descriptor)
            os.rename(self._new_path, self.path)
        except OSError as error:
            raise self._failure(error.strerror) from None
        self._new_path = ""

    def _check_replaceable(self) -> None:
        """Raise CommandError where the rename at the end would fail, or do harm: to /dev/null, say."""
        try:
            old = os.stat(self.path)
        except FileNotFoundError:
            return
        if old.st_mode & _FILE_TYPE != _REGULAR:
            raise self._failure("it is no regular file")
        directory = os.stat(self.path.rpartition("/")[0] or ("/" if self.path.startswith("/") else "."))
        if directory.st_mode & _STICKY and os.geteuid() not in (0, old.st_uid, directory.st_uid):
            raise self._failure("it belongs to another user")

    def _failure(self, reason: "str | None") -> CommandError:
        return CommandError(
            NO,
            "cannot write the cache file %s: %s. %s=FILE names another" % (self.path, reason, self._variable),
        )


def lines(rows: "list[list[Any]]", prefix: bool) -> "list[bytes]":
    """Of each pair in `rows` its line, with the sender's name in front if `prefix` is true."""
    found = []
    for name, *items in rows:
        start = name.encode() + b":" if prefix else b""
        found += [b"%s%s=%s\n" % (start, key, value) for key, value in zip(items[::2], items[1::2])]
    return found
