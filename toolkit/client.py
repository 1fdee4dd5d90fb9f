# SPDX-License-Identifier: MIT
"""A command's side: what it is given to work with, and how it asks the dispatcher."""

import _signal
import _socket
import os
import sys

from . import console
from .entropy import random_bytes
from .meeting import meet
from .wire.vocabulary import (
    IDENTITY_SIZE,
    INTERRUPTED,
    LINK_FAILED,
    NO_DISPATCHER,
    OK,
    CommandError,
    pack_request,
    unpack_reply,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Between command and agent, each message has its length in front: bytes, big endian.
LENGTH_SIZE = 4
# What a command says to the agent while it waits: it is about to be stopped (Ctrl-Z); it goes on.
ASK_TO_STOP = b"z"
RESUMED = b"c"
# An agent that is killed is replaced, and the request sent again, so often.
TRIES = 5
# Seconds to wait for the console to be clean after Ctrl-C.
CLEAN_UP = 2.0


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
            raw = raw[os.write(1, raw) :]

    def warn(self, text: str) -> None:
        """Say something to the user, on stderr."""
        sys.stderr.write("%s: %s\n" % (self.name, text))

    def request(self, operation: str, *arguments: object) -> "list[Any]":
        """The values of the dispatcher's reply; raises CommandError for any answer but yes."""
        message = pack_request(random_bytes(IDENTITY_SIZE), operation, *arguments)
        port = console.find(self.environ)
        for _ in range(TRIES):
            reply = _ask(port, message)
            if reply is not None:
                status, values = unpack_reply(reply)
                if status != OK:
                    raise CommandError(status, values[0])
                return values
        raise CommandError(
            LINK_FAILED, "the agent for %s ended %d times before it had a reply" % (port.path, TRIES)
        )


def _ask(port: console.Console, message: bytes) -> "bytes | None":
    """The packed reply, or None if the agent ended before it had one."""
    agent = _connect(port)

    def ask_to_stop(number: int, frame: object) -> None:
        agent.send(ASK_TO_STOP)

    # With Ctrl-Z the shell is about to read the console: the agent has to let go of it first.
    stoppable = _signal.getsignal(_signal.SIGTSTP) is _signal.SIG_DFL
    try:
        if stoppable:
            _signal.signal(_signal.SIGTSTP, ask_to_stop)
        agent.sendall(len(message).to_bytes(LENGTH_SIZE, "big") + message)
        while True:
            head = _receive(agent, LENGTH_SIZE)
            if head is None:
                return None
            if any(head):
                return _receive(agent, int.from_bytes(head, "big"))
            _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)
            os.kill(os.getpid(), _signal.SIGTSTP)
            _signal.signal(_signal.SIGTSTP, ask_to_stop)
            agent.send(RESUMED)
    except KeyboardInterrupt:
        _withdraw(agent)
        raise CommandError(INTERRUPTED, "interrupted") from None
    except SystemExit:
        # SIGTERM, of `timeout` for instance: the script goes on and may read the console itself.
        _withdraw(agent)
        raise
    except OSError:
        return None
    finally:
        if stoppable:
            _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)
        agent.close()


def _receive(agent: "_socket.socket", size: int) -> "bytes | None":
    data = b""
    while len(data) < size:
        chunk = agent.recv(min(size - len(data), 65536))
        if not chunk:
            return None
        data += chunk
    return data


def _withdraw(agent: "_socket.socket") -> None:
    """Cancel, and wait until nothing will be typed for us any more: a shell is about to read."""
    try:
        agent.shutdown(_socket.SHUT_WR)
        agent.settimeout(CLEAN_UP)
        while agent.recv(65536):
            pass
    except (OSError, KeyboardInterrupt):
        pass


def _connect(port: console.Console) -> "_socket.socket":
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
