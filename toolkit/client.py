# SPDX-License-Identifier: MIT
"""A command's side, the long way: how it asks the agent, and through it the dispatcher."""

from .context import Context
from .thin import ACTED, converse, receive
from .wire.vocabulary import LINK_FAILED, NO_DISPATCHER, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .console import Console

# An agent that is killed is replaced, and the request sent again, so often.
TRIES = 5


class Client(Context):
    """The context of a command that is a process of its own. It starts the agent where there is none."""

    _let_go = None  # type: Callable[[], None] | None

    def take(self) -> None:
        Context.take(self)
        if self._let_go is not None:
            self._let_go()

    def _ask(self, message: bytes, borrows: bool) -> bytes:
        from .console import find

        port = find(self.environ)
        try:
            for _ in range(TRIES):
                answer = _ask(port, message)
                if answer is not None:
                    reply, let_go = answer
                    if borrows:
                        # Where the command ends before, what the reply gave goes back.
                        self._let_go = let_go
                    else:
                        let_go()
                    return reply
        finally:
            port.close()
        raise CommandError(
            LINK_FAILED, "the agent for %s ended %d times before it had a reply" % (port.path, TRIES)
        )


def _ask(port: "Console", message: bytes) -> "tuple[bytes, Callable[[], None]] | None":
    """The packed reply, and what to call once that is done with; or None if the agent ended before it had a reply.

    The agent of the console is started if there is none.
    """
    from .meeting import meet

    try:
        agent, elected = meet(port.key())
    except OSError as error:
        raise CommandError(NO_DISPATCHER, "no agent for %s: %s" % (port.path, error)) from None
    if elected:
        from .agent import spawn

        agent = spawn(agent, port)

    def let_go() -> None:
        try:
            agent.send(ACTED)
        except OSError:
            pass  # the agent has ended
        agent.close()

    try:
        if not elected:
            receive(agent)  # what it greets with
        reply = converse(agent, message)
    except OSError:
        reply = None
    if reply is None:
        agent.close()
        return None
    return reply, let_go  # type: ignore[return-value]
