# SPDX-License-Identifier: MIT
"""How the commands of one user meet the agent of their console.

They meet at an abstract socket named after user and console, which vanishes with the agent. Anybody may take
that name, or listen there. Who listens is known by the kernel's word (SO_PEERCRED): a socket of another
user is passed by, and the agent takes a name that nobody could foresee, behind the first one. It is found in
the kernel's list of sockets.
"""

import _socket
import posix
import sys
import time

from .entropy import random_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket

# So often, and with so many seconds between, is looked at a name that a process has taken and does not listen at yet. It
# is about to, and where so much runs that it has to wait for that, so have we: seconds would say nothing.
_TRIES = 40
_PAUSE = 0.005
_SO_PEERCRED = getattr(_socket, "SO_PEERCRED", 17)
# A struct timeval of a second (on 32-bit machines with the other byte order the least that there is).
_SECOND = (1).to_bytes(8, sys.byteorder) + bytes(8)
# Seconds that the agent gets to take a connection, if others wait for that already, as they may for a stranger who
# has taken the name, listens, and accepts none.
_FULL = 5
# In a user namespace, the number of every user who has none there.
_NOBODY = 65534


def peer(connection: "Socket") -> "tuple[int, int]":
    """Process and user at the other end."""
    # struct ucred: pid, uid, gid, of four bytes each
    raw = connection.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, 12)
    return int.from_bytes(raw[:4], sys.byteorder), int.from_bytes(raw[4:8], sys.byteorder)


def trusted(connection: "Socket") -> bool:
    """Whether our own user is at the other end, or root."""
    pid, uid = peer(connection)
    if uid == _NOBODY:
        # That may be anybody. Whose process the kernel lets us look into is of our own user.
        try:
            posix.stat("/proc/%d/ns/user" % pid)
        except OSError:
            return False
    return uid in (0, posix.geteuid())


def meet(key: str) -> "tuple[Socket, bool]":
    """A connection to the agent of the console with this key, and False; or the socket to listen on, and True.

    In the latter case the caller becomes the agent. Raises OSError.
    """
    name = b"\0lavabox/%d/%s" % (posix.geteuid(), key.encode())
    full = 0
    for _ in range(_TRIES):
        try:
            agent = _connected(name)
        except BlockingIOError:
            full += 1
            if full == _FULL:
                break
            continue
        if agent is not None:
            if trusted(agent):
                return agent, False
            agent.close()
            break
        listener = _listening(name)
        if listener is not None:
            return listener, True
        # Another command has just taken it and does not listen yet.
        time.sleep(_PAUSE)
    # Somebody else has the name.
    return _meet_elsewhere(name + b"/")


def _meet_elsewhere(prefix: bytes) -> "tuple[Socket, bool]":
    agent = _first(prefix, None)
    if agent is not None:
        return agent, False
    name = prefix + random_bytes(8).hex().encode()
    listener = _listening(name)
    if listener is None:
        raise OSError("the name %r is taken, too" % name)
    # Of several commands that come here at once, the one with the first name wins, if none has won before.
    try:
        agent = _first(prefix, name)
    except OSError:
        listener.close()
        raise
    if agent is None:
        return listener, True
    listener.close()
    return agent, False


def _first(prefix: bytes, ours: "bytes | None") -> "Socket | None":
    """A connection to the first of our own agents under this prefix, by name.

    `ours`: the name at which the caller listens. All listen before they look, so of two the later one sees the other,
    if that still listens. The one with the greater name then gives way at once, and the other one waits until it has
    done so, or greets.
    """
    with open("/proc/net/unix", "rb") as file:
        # The last column is the name; a NUL is shown as @.
        found = {line.split()[-1] for line in file if prefix[1:] in line}
    for name in sorted(b"\0" + shown[1:] for shown in found if shown[1:].startswith(prefix[1:])):
        if name == ours:
            continue
        try:
            agent = _connected(name)
        except BlockingIOError:
            continue
        if agent is not None:
            if trusted(agent) and (ours is None or name < ours or _greets(agent)):
                return agent
            agent.close()
    return None


def _greets(agent: "Socket") -> bool:
    try:
        return bool(agent.recv(1, _socket.MSG_PEEK))
    except OSError:
        return False


def _connected(name: bytes) -> "Socket | None":
    """Raises BlockingIOError if nobody has taken the connection for a second."""
    agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        agent.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _SECOND)
        agent.connect(name)
        agent.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, bytes(16))
    except BlockingIOError:
        agent.close()
        raise
    except OSError:
        agent.close()
        return None
    return agent


def _listening(name: bytes) -> "Socket | None":
    """A socket that listens there: only one process can have the name."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        listener.bind(name)
    except OSError:
        listener.close()
        return None
    listener.listen(128)
    return listener
