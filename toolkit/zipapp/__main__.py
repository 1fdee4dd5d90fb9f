# SPDX-License-Identifier: MIT
"""Where each command begins: it has the agent of the console do the work, or loads the box and does it itself.

Where there is no bytecode for this Python it is compiled for each command, so it is short. The agent greets with
toolkit/thin.py, compiled, which is the rest of the client. What goes wrong before it has run goes the long way.
"""

import marshal
import posix
import sys
from _frozen_importlib_external import MAGIC_NUMBER

BUILD = b"(put in by build_zipapp.py)"

status = identity = agent = None
try:
    try:
        import _socket

        # The name of the agent is made of Console.key, for where the console is plain to see.
        ttys = [posix.ttyname(fd) for fd in (0, 1, 2) if posix.isatty(fd)]
        path = posix.environ.get(b"LAVA_CONSOLE") or (ttys + ["/dev/tty"])[0].encode()
        if path[:1] != b"/":
            path = b"/dev/" + path
        number, instance = posix.stat(path).st_rdev, 0
        if number >> 8 == 5 or number == 0x400:
            # /dev/tty, /dev/console, /dev/tty0 are names for another terminal: TIOCGDEV tells which.
            import fcntl

            terminal = posix.open(path, posix.O_NOCTTY | posix.O_NONBLOCK)
            number = int.from_bytes(fcntl.ioctl(terminal, 0x80045432, bytes(4)), sys.byteorder)
        if 136 <= number >> 8 & 0xFFF < 144:
            instance = posix.stat("/dev/pts/%d" % (number & 0xFF | number >> 12 & 0xFFF00)).st_dev
        agent = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        # A second, should a stranger have the name and accept nobody: see meeting.meet.
        agent.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, (1).to_bytes(8, sys.byteorder) + bytes(8))
        agent.connect(b"\0lavabox/%d/%x-%x" % (posix.geteuid(), number, instance))
        # Our own user has to be at the other end, or root. With a standard file closed, the socket has its place.
        # (65534 is whoever has no number in our user namespace: see meeting.trusted.)
        user = agent.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)[4:8]
        if int.from_bytes(user, sys.byteorder) in {0, posix.geteuid()} - {65534} and agent.fileno() > 2:
            greeting = agent.recv(int.from_bytes(agent.recv(4), "big"), _socket.MSG_WAITALL)
            agent.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, bytes(16))
            if greeting[:20] == BUILD + MAGIC_NUMBER:
                thin = {}  # type: ignore[var-annotated]
                exec(marshal.loads(greeting[20:]), thin)
                status, identity = thin["run"](agent)
    except Exception:
        pass
    if agent:
        agent.close()
    if status is None:
        with open(sys.argv[0], "rb") as file:
            data = file.read()

        # It lies in the archive as it is, behind its name. (Which must not stand here as it does there.)
        at = data.index(b"\0\0%s.py" % b"long") + 9
        exec(data[at : data.index(b"PK\3\4", at)])
except KeyboardInterrupt:
    # Of the signal itself: a shell ends its script only then. (Process 1 of a container does not die of it.)
    import _signal

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    posix.kill(posix.getpid(), _signal.SIGINT)
    status = 130
posix._exit(status)  # type: ignore[arg-type]
