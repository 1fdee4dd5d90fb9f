# SPDX-License-Identifier: MIT
"""The cache file: where lava-wait, lava-wait-all and lava-sync leave the data of the messages.

Test scripts read it with cut, awk and grep: one pair a line and nothing else.
A wait empties it before it asks the dispatcher, so that a wait that fails, in
whatever way, leaves no data of an earlier one. So it is also known in time that
it can be written: a wait of hours must not end without its data.
"""

from .wire.vocabulary import NO, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .context import Context

VARIABLE = "LAVA_MULTI_NODE_CACHE"
PREFIX_VARIABLE = "LAVA_MULTI_NODE_CACHE_PREFIX"
DEFAULT_PATH = "/tmp/lava_multi_node_cache.txt"


def wants_prefix(environ: "Mapping[str, str]") -> bool:
    """Whether lava-wait, too, is to put the sender's name before each pair."""
    return environ.get(PREFIX_VARIABLE) == "1"


class CacheFile:
    """The cache file that the context's environment names.

        cache = CacheFile(context)
        cache.write([])
        cache.write(lines(context.request(...), prefix=True))

    Its methods raise CommandError with a sentence that names the file.

    :param variable: the one that names the file; `default` is its path where that does not; `suffix` is put behind.
    """

    __slots__ = ("_context", "_variable", "path")

    def __init__(
        self, context: "Context", variable: str = VARIABLE, default: str = DEFAULT_PATH, suffix: str = ""
    ) -> None:
        self.path = (context.environ.get(variable) or default) + suffix
        self._context = context
        self._variable = variable

    def read(self) -> "list[bytes]":
        """Its lines; none if there is no file."""
        from .sharedfiles import Folder, split

        folder, name = split(self.path)
        try:
            with Folder(folder) as opened:
                return opened.read(name).splitlines(True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failure("read", error) from None

    def write(self, new_lines: "list[bytes]") -> None:
        """Put the lines in the place of what is there."""
        try:
            self._context.replace(self.path, b"".join(new_lines))
        except OSError as error:
            raise self._failure("write", error) from None

    def _failure(self, verb: str, error: OSError) -> CommandError:
        return CommandError(
            NO,
            "cannot %s the cache file %s: %s. %s=FILE names another"
            % (verb, self.path, error.strerror, self._variable),
        )


def lines(rows: "list[list[Any]]", prefix: bool) -> "list[bytes]":
    """Of each pair in `rows` its line, with the sender's name in front if `prefix` is true.

    :param rows: the reply to a wait: lists `[name, key, value, key, value, ...]`.
    """
    found = []
    for name, *items in rows:
        start = name.encode() + b":" if prefix else b""
        found += [b"%s%s=%s\n" % (start, key, value) for key, value in zip(items[::2], items[1::2])]
    return found
