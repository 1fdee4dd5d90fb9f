# SPDX-License-Identifier: MIT
"""A command's side: how it asks the agent, and through it the dispatcher."""

import _signal
import _socket
import os
import struct
import time

from . import console
from .thin import converse, receive
from .wire.vocabulary import INTERRUPTED, LINK_FAILED, NO_DISPATCHER, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .context import Context as Context  # noqa: PLC0414

# Between command and agent, each message has its length in front: bytes, big endian.
# What a command says to the agent while it waits: it is about to be stopped (Ctrl-Z); it goes on.
# An agent that is killed is replaced, and the request sent again, so often.
TRIES = 5
# Seconds to wait for the console to be clean after Ctrl-C, and for another command's new agent.
CLEAN_UP = 2.0
_SO_PEERCRED = getattr(_socket, "SO_PEERCRED", 17)


def ask(message: bytes, environ: "Mapping[str, str]") -> bytes:
    """The packed reply to a packed request. Raises CommandError where there is none."""
    port = console.Console(console.find(environ))
    for _ in range(TRIES):
        reply = _ask(port, message)
        if reply is not None:
            return reply
    raise CommandError(
        LINK_FAILED, "the agent for %s ended %d times before it had a reply" % (port.path, TRIES)
    )


def _ask(port: console.Console, message: bytes) -> "bytes | None":
    """The packed reply, or None if the agent ended before it had one."""
    agent = _connect(port)
    try:
        receive(agent)  # its greeting
        return converse(agent, message)  # type: ignore[return-value]
    except OSError:
        return None
    except KeyboardInterrupt:
        raise CommandError(INTERRUPTED, "interrupted") from None
    finally:
        agent.close()


def _connect(port: console.Console) -> "_socket.socket":
    """A connection to the console's agent, which is started if there is none."""
    name = b"\0lavabox/%d/%s" % (os.geteuid(), port.key().encode())
    deadline = time.monotonic() + CLEAN_UP
    while True:
        agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            agent.connect(name)
        except OSError:
            agent.close()
        else:
            return _checked(agent, port)
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            # Only one process can have the name: that is the election.
            listener.bind(name)
        except OSError as error:
            if time.monotonic() > deadline:
                raise CommandError(
                    NO_DISPATCHER, "no agent for %s: %s" % (port.path, error.strerror)
                ) from None
            # Another command has just bound it and does not listen yet.
            time.sleep(0.005)
            continue
        listener.listen(128)
        from .agent import spawn

        spawn(listener, port)
        listener.close()


def _checked(agent: "_socket.socket", port: console.Console) -> "_socket.socket":
    """Only an agent of our own user, or of root, may speak for us."""
    _, uid = peer(agent)
    if uid not in (0, os.geteuid()):
        agent.close()
        raise CommandError(
            NO_DISPATCHER, "user %d has taken the place of the agent for %s" % (uid, port.path)
        )
    return agent


def peer(connection: "_socket.socket") -> "tuple[int, int]":
    """Process and user at the other end."""
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, 12))
    return pid, uid
