# SPDX-License-Identifier: MIT
"""What a command is given to work with."""

import sys

from .thin import complain, print_all
from .wire.vocabulary import IDENTITY_SIZE, OK, CommandError, pack_request, unpack_reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Context:
    """What a command works with. Who asks the dispatcher for it, a subclass knows: Client or Errand.

    :param name: the command's name, for messages.
    :param environ: the environment.
    :param identity: of its first request, 8 random bytes; those of further ones follow from it, so that a command
        which begins again asks nothing that is carried out twice.
    """

    def __init__(self, name: str, environ: "Mapping[str, str]", identity: "bytes | None" = None) -> None:
        self.name = name
        self.environ = environ
        self._identity = identity
        self.borrowed = b""  # identity of the request that has borrowed something

    def write(self, data: "bytes | str") -> None:
        """Print an answer; raises OSError where that fails."""
        sys.stdout.flush()
        print_all(data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))

    def complain(self, text: str) -> None:
        """Print lines on stderr, where that can be done."""
        complain(text + "\n")

    def warn(self, text: str) -> None:
        """Say something to the user, on stderr."""
        self.complain("%s: %s" % (self.name, text))

    def request(self, operation: str, *arguments: object) -> "list[Any]":
        """The values of the dispatcher's reply; raises CommandError for any answer but yes."""
        return self._exchange(False, operation, arguments)

    def borrow(self, operation: str, *arguments: object) -> "list[Any]":
        """The same, for what is given to one command only: it goes back if the command ends without `take`."""
        return self._exchange(True, operation, arguments)

    def take(self) -> None:
        """Tell the dispatcher that what was borrowed is safe. Raises CommandError: it has gone back, or nobody knows."""
        self.request("taken", self.borrowed)

    def _exchange(self, borrows: bool, operation: str, arguments: "tuple[object, ...]") -> "list[Any]":
        from .entropy import random_bytes

        identity = self._identity or random_bytes(IDENTITY_SIZE)
        if borrows:
            self.borrowed = identity
        self._identity = (int.from_bytes(identity, "big") + 1 & (1 << 8 * IDENTITY_SIZE) - 1).to_bytes(
            IDENTITY_SIZE, "big"
        )
        status, values = unpack_reply(self._ask(pack_request(identity, operation, *arguments), borrows))
        if status != OK:
            raise CommandError(status, values[0])
        return values

    def _ask(self, message: bytes, borrows: bool) -> bytes:
        """The packed reply to a packed request; raises CommandError where there is none."""
        raise NotImplementedError

    def replace(self, path: str, content: bytes) -> None:
        """Put a new file in the place of another; raises OSError."""
        from .sharedfiles import Folder, split

        folder, name = split(path)
        with Folder(folder) as opened:
            opened.replace(name, content)

    def need_device(self) -> None:
        """To be called before a command uses anything but this context: programs, other files, the network."""
