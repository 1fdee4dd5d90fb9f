# SPDX-License-Identifier: MIT
"""The thin client: a command whose work the agent of its console does.

What Python is started with (zipapp/__main__.py) needs nothing but what is in the interpreter. It connects to the
agent, which greets every client with this module, compiled, and calls `run`. The agent,
which has everything loaded, checks the arguments, asks the dispatcher, and says what is to be printed, and which file
is to be written. The client does that itself: so user, umask, limits, directory and streams are its own.

It knows only how things go well. Whatever else happens, an agent that is killed, a file in an odd place, an error
at a write: it gives up, and the command goes the long way (cli.py), with the same identities for its requests.
So none is carried out twice.
"""

import _signal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket
    from collections.abc import Callable
    from typing import NoReturn

# Each message has its length in front: bytes, big endian.
LENGTH_SIZE = 4
# What a command says to the agent: it is about to be stopped (Ctrl-Z); it goes on; it has done what it was told;
# it begins again by itself.
ASK_TO_STOP, RESUMED, ACTED, ITSELF = b"z", b"c", b"d", b"s"
# Seconds to wait for the console to be clean after Ctrl-C.
CLEAN_UP = 2.0
# Begins the message of a thin client; no request of msgpack begins so.
ERRAND = b"\xc1"
# In the agent's message: to be printed on stdout, on stderr; a path, NUL, and the content of that file; exit status.
OUT, ERR, FILE, STATUS = b"oefx"

_THROUGH = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW
_REGULAR = 0o100000  # S_IFREG
_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW


def run(agent: "Socket") -> "tuple[int | None, bytes | None]":
    """Have the command of `sys.argv` done; returns its exit status, and the identity of its first request.

    No status: it has to go the long way, with that identity. KeyboardInterrupt is passed on.

    :param agent: the connection, with the greeting read.
    """
    # A program with more rights than its caller must not trust him. That, too, is for the long way.
    if (posix.getuid(), posix.getgid()) != (posix.geteuid(), posix.getegid()):
        return None, None
    try:
        identity = posix.getrandom(8, posix.GRND_NONBLOCK)
    except (OSError, AttributeError):
        return None, None  # early at boot there may be none
    unwind_when_told_to_end()
    argv = [word.encode(sys.getfilesystemencoding(), "surrogateescape") for word in sys.argv]
    environ = [b"%s=%s" % pair for pair in posix.environ.items() if pair[0].startswith(b"LAVA_")]
    message = b"\0".join([ERRAND + identity + b"%d" % len(argv)] + argv + environ)
    try:
        return converse(agent, message, act), identity  # type: ignore[return-value]
    except KeyboardInterrupt:
        names = [word.rpartition("/")[2] for word in sys.argv[:2]]
        complain("%s: interrupted\n" % names[not names[0].startswith("lava-")])
        raise
    except SystemExit as end:
        return end.code, identity  # type: ignore[return-value]


def converse(
    agent: "Socket", message: bytes, act: "Callable[[bytes], int | None] | None" = None
) -> "bytes | int | None":
    """Send a message, and take what comes back: the first answer, or with `act` the first status that it returns.

    None where the agent has ended before. An interruption is passed on once the agent has let the console go.
    """

    def ask_to_stop(number: int, frame: object) -> None:
        agent.send(ASK_TO_STOP)

    # With Ctrl-Z the shell is about to read the console: the agent has to let go of it first.
    stoppable = _signal.getsignal(_signal.SIGTSTP) == _signal.SIG_DFL
    try:
        if stoppable:
            _signal.signal(_signal.SIGTSTP, ask_to_stop)
        agent.sendall(len(message).to_bytes(LENGTH_SIZE, "big") + message)
        while True:
            answer = receive(agent)
            if not answer:
                _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)
                posix.kill(posix.getpid(), _signal.SIGTSTP)
                _signal.signal(_signal.SIGTSTP, ask_to_stop)
                agent.send(RESUMED)
            elif act is None:
                return answer
            else:
                status = act(answer)
                if status is not None:
                    return status
                agent.send(ACTED)
    except (KeyboardInterrupt, SystemExit):
        # (SIGTERM, of `timeout` for instance: the script goes on and may read the console itself.)
        _withdraw(agent)
        raise
    except OSError:
        try:
            agent.send(ITSELF)
        except OSError:
            pass
        return None
    finally:
        if stoppable:
            _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)


def receive(agent: "Socket") -> bytes:
    """The next message; raises OSError."""
    size = int.from_bytes(_read(agent, LENGTH_SIZE), "big")
    return _read(agent, size)


def _read(agent: "Socket", size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = agent.recv(min(size - len(data), 65536))
        if not chunk:
            raise OSError("the agent has ended")
        data += chunk
    return data


def _withdraw(agent: "Socket") -> None:
    """Cancel, and wait until nothing will be typed for us any more: a shell is about to read."""
    try:
        agent.shutdown(1)  # SHUT_WR
        agent.settimeout(CLEAN_UP)
        while agent.recv(65536):
            pass
    except (OSError, KeyboardInterrupt):
        pass


def act(message: bytes) -> "int | None":
    """Do what the agent says; returns the exit status, or None where it has more to say. Raises OSError."""
    while message:
        kind, size = message[0], int.from_bytes(message[1:5], "big")
        data, message = message[5 : 5 + size], message[5 + size :]
        if kind == OUT:
            print_all(data)
        elif kind == ERR:
            complain(data.decode("utf-8", "surrogateescape"))
        elif kind == FILE:
            replace(*data.split(b"\0", 1))
        else:
            return int(data)
    return None


def print_all(data: bytes) -> None:
    """Print on stdout; raises OSError."""
    while data:
        try:
            data = data[posix.write(1, data) :]
        except BlockingIOError:
            # Another program has made this pipe or terminal a non-blocking one, and it is full.
            import select

            select.select([], [1], [])


def replace(path: bytes, content: bytes) -> None:
    """Put a new file in the place of another, as sharedfiles.Folder.replace does; raises OSError where that is odd."""
    folders, _, name = path.rpartition(b"/")
    folder = posix.open(b"/" if path[:1] == b"/" else b".", _THROUGH)
    try:
        for part in folders.split(b"/"):
            # No link is passed through, so nobody else has a say in what folder this is.
            inner = posix.open(part or b".", _THROUGH, dir_fd=folder)
            posix.close(folder)
            folder = inner
        if posix.fstat(folder).st_uid not in (0, posix.geteuid()):
            raise OSError("the folder belongs to another user")
        new = b"%s.%d" % (name, posix.getpid())
        file = posix.open(new, _NEW, 0o644, dir_fd=folder)
        try:
            while content:
                content = content[posix.write(file, content) :]
            try:
                mode = posix.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            except FileNotFoundError:
                mode = _REGULAR
            if mode & 0o170000 != _REGULAR:
                raise OSError("it is no regular file")
            posix.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            posix.unlink(new, dir_fd=folder)
            raise
        finally:
            posix.close(file)
    finally:
        posix.close(folder)


def unwind_when_told_to_end() -> None:
    """Let SIGTERM and SIGHUP, where they end a process, clean up on the way."""
    for number in (_signal.SIGTERM, _signal.SIGHUP):
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _end)


def _end(number: int, frame: object) -> "NoReturn":
    raise SystemExit(128 + number)


def complain(text: str) -> None:
    """Print on stderr, where that can be done."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, AttributeError):
        pass  # there is nobody to tell; the exit status stands
