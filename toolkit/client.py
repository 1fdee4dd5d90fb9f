# SPDX-License-Identifier: MIT
"""A command's side, the long way: how it asks the agent, and through it the dispatcher."""

from . import console
from .meeting import meet
from .thin import ACTED, converse, receive
from .wire.vocabulary import INTERRUPTED, LINK_FAILED, NO_DISPATCHER, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket
    from collections.abc import Callable, Mapping

# An agent that is killed is replaced, and the request sent again, so often.
TRIES = 5


def ask(message: bytes, environ: "Mapping[str, str]") -> "tuple[bytes, Callable[[], None]]":
    """The packed reply to a packed request, and what to call once that is done with.

    A command that ends before gives back what the reply gave to it. Raises CommandError where there is no reply.
    """
    port = console.find(environ)
    try:
        for _ in range(TRIES):
            reply = _ask(port, message)
            if reply is not None:
                return reply
    finally:
        port.close()
    raise CommandError(
        LINK_FAILED, "the agent for %s ended %d times before it had a reply" % (port.path, TRIES)
    )


def _ask(port: console.Console, message: bytes) -> "tuple[bytes, Callable[[], None]] | None":
    """The same, or None if the agent ended before it had a reply."""
    agent = _connect(port)

    def let_go() -> None:
        try:
            agent.send(ACTED)
        except OSError:
            pass  # the agent has ended
        agent.close()

    try:
        receive(agent)  # what it greets with
        reply = converse(agent, message)
    except OSError:
        reply = None
    except KeyboardInterrupt:
        raise CommandError(INTERRUPTED, "interrupted") from None
    if reply is None:
        agent.close()
        return None
    return reply, let_go  # type: ignore[return-value]


def _connect(port: console.Console) -> "Socket":
    """A connection to the console's agent, which is started if there is none."""
    while True:
        try:
            agent, elected = meet(port.key())
        except OSError as error:
            raise CommandError(NO_DISPATCHER, "no agent for %s: %s" % (port.path, error)) from None
        if not elected:
            return agent
        from .agent import spawn

        spawn(agent, port)
        agent.close()
