# SPDX-License-Identifier: MIT
"""What a command is given to work with."""

import posix
import sys

from .wire.vocabulary import IDENTITY_SIZE, OK, CommandError, pack_request, unpack_reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Context:
    """What a command works with.

    :param name: the command's name, for messages.
    :param environ: the environment.
    """

    def __init__(self, name: str, environ: "Mapping[str, str]") -> None:
        self.name = name
        self.environ = environ

    def write(self, data: "bytes | str") -> None:
        """Print an answer; raises OSError where that fails."""
        raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape")
        sys.stdout.flush()
        while raw:
            raw = raw[posix.write(1, raw) :]

    def complain(self, text: str) -> None:
        """Print lines on stderr, where that can be done."""
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except OSError:
            pass  # there is nobody to tell; the exit status stands

    def warn(self, text: str) -> None:
        """Say something to the user, on stderr."""
        self.complain("%s: %s" % (self.name, text))

    def request(self, operation: str, *arguments: object) -> "list[Any]":
        """The values of the dispatcher's reply; raises CommandError for any answer but yes."""
        from .client import ask

        status, values = unpack_reply(
            ask(pack_request(posix.urandom(IDENTITY_SIZE), operation, *arguments), self.environ)
        )
        if status != OK:
            raise CommandError(status, values[0])
        return values
