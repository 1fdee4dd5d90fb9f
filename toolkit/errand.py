# SPDX-License-Identifier: MIT
"""A command that the agent runs for a thin client: it only computes. No input or output.

The command's own `run` is called, with a context that notes what is to be done, and ends the call where it needs
a reply of the dispatcher. When that is here, `run` is called again from its beginning, and finds the replies
that it has had so far. So commands are written as if they could wait.
"""

from .arguments import to_bytes
from .call import environment, meant, run, without_cr
from .commands import NEED_ONLY_CONTEXT
from .context import Context
from .thin import ERR, ERRAND, FILE, OUT, STATUS
from .wire.vocabulary import IDENTITY_SIZE

# What comes next: the dispatcher is asked; the client acts, and says so; it acts, and that is the end.
ASK, ACT, END = "ASK", "ACT", "END"


class Refused(Exception):
    """The client has to do without the agent."""


class _Pause(BaseException):
    """Ends a call of `run`. (No command has anything to catch here.)"""


class Errand(Context):
    """One command of one client.

    :param data: the client's message, which begins with ERRAND.

    Raises Refused for a command that needs more than a context.
    """

    def __init__(self, data: bytes) -> None:
        start = len(ERRAND)
        count, *words = data[start + IDENTITY_SIZE :].split(b"\0")
        argv, environ = words[: int(count)], words[int(count) :]
        name, self._arguments = meant(without_cr(argv))
        if name is None or name not in NEED_ONLY_CONTEXT:
            raise Refused
        super().__init__(name, environment(dict([pair.split(b"=", 1) for pair in environ])))
        self._first_identity = data[start : start + IDENTITY_SIZE]
        self._replies = []  # type: list[bytes]
        self._acted = 0  # how much of `_actions` the client has done
        # In this call of `run`:
        self._asked = 0
        self._question = b""
        self._actions = []  # type: list[bytes]

    def next(self) -> "tuple[str, bytes]":
        """What is next, and the message for it. Raises Refused.

        Call `reply` after ASK, `acted` after ACT, and this again.
        """
        self._identity = self._first_identity
        self._asked = 0
        self._question = b""
        self._actions = []
        try:
            status = run(self._arguments, self)
        except _Pause:
            return (ASK, self._question) if self._question else (ACT, self._to_do())
        return END, self._to_do() + _item(STATUS, b"%d" % status)

    def reply(self, message: bytes) -> None:
        """The dispatcher's packed reply to what was asked."""
        self._replies.append(message)

    def acted(self) -> None:
        self._acted = len(self._actions)

    def _to_do(self) -> bytes:
        # Files first: where one cannot be written, nothing has been printed yet.
        actions = self._actions[self._acted :]
        return b"".join([item for item in actions if item[0] == FILE] + [i for i in actions if i[0] != FILE])

    # -- what commands call

    def write(self, data: "bytes | str") -> None:
        self._actions.append(
            _item(OUT, data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))
        )

    def complain(self, text: str) -> None:
        self._actions.append(_item(ERR, text.encode("utf-8", "surrogateescape") + b"\n"))

    def replace(self, path: str, content: bytes) -> None:
        self._actions.append(_item(FILE, to_bytes(path) + b"\0" + content))

    def need_device(self) -> None:
        raise Refused

    def _ask(self, message: bytes, borrows: bool) -> bytes:
        if self._asked < len(self._replies):
            self._asked += 1
            return self._replies[self._asked - 1]
        if self._acted == len(self._actions):
            self._question = message
        raise _Pause


def _item(kind: int, data: bytes) -> bytes:
    return bytes((kind,)) + len(data).to_bytes(4, "big") + data
