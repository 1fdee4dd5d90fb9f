# SPDX-License-Identifier: MIT
"""The agent: the one process that reads and writes a console for all commands.

The first command forks it; it serves every command of the same user on the
same console, and ends when none has come for LINGER seconds. It is in a session
of its own, without a controlling terminal: so job control does not stop it, it
outlives a command that is killed, tells the host, and puts the echo back.

A command connects to the socket of `meeting`, and is greeted with `thin`; the
first one has a connection from before the fork, and no greeting. Either it
sends its packed request, and gets the packed reply. Or it is a thin client and
sends all that it was called with, an `errand`; then it gets messages that say
what to do, the last of which has its exit status, and says ACTED after each
other one; so does the other kind when it is done with its reply.
Messages have their length in front (four bytes, big endian). Closing the
connection cancels, and gives back what a reply has given and nobody has taken.
In between a command may send ASK_TO_STOP and RESUMED, a byte each; an empty
message says that it may stop now. Where the agent closes the connection without an
answer, the command begins anew, and does itself what it can.

Only one process can read a console. As long as one of the commands is in its
foreground, nobody else reads it: then the agent does, all the time. Otherwise
the agent reads it, and asks, only while nobody else does, and leaves its modes
alone. A command that finds somebody else reading is refused; a wait that the
dispatcher knows of already rests for a while before.
"""

import _signal
import _socket
import binascii
import errno
import gc
import marshal
import posix
import select
import time
from _frozen_importlib_external import MAGIC_NUMBER

import toolkit

from . import thin
from .console import HungUp, nobody_answers
from .entropy import random_bytes
from .foreground import has_foreground, owner
from .meeting import peer, trusted
from .thin import ACTED, ASK_TO_STOP, ERRAND, ITSELF, LENGTH_SIZE, RESUMED
from .wire.device_link import DeviceLink
from .wire.packets import LINK_TIMEOUT
from .wire.vocabulary import LINK_FAILED, MAX_REQUEST, NO_DISPATCHER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket

    from .console import Console
    from .errand import Errand

# Seconds without a command after which the agent ends.
LINGER = 2.0
# Seconds between looks at who is in the foreground; a stopped command says so itself.
LOOK_INTERVAL = 1.0
# Seconds that a reply is kept back at most while the console is not clean.
PATIENCE = 1.0
# Seconds for which a new request waits while somebody else reads: a shell may be between two commands.
BUSY = 1.0
# Seconds between signs of life of waits that cannot ask; the host gives them up after 120.
KEEP_INTERVAL = 30.0
# Seconds between looks whether somebody else reads, and at the modes of a terminal that has to be mended.
_GLANCE = 0.05
# Seconds that a read of an inherited file may block, where another process was quicker.
_BLOCKED = 0.2

# What the agent does with the console. In this table and the next one, None: the event changes nothing.
AWAY = "AWAY"  # nothing: it is somebody else's
ALONE = "ALONE"  # a command has the foreground: it reads all the time, without echo
BESIDE = "BESIDE"  # nobody reads: it asks, and reads the answer, with the modes as they are

_CONSOLE_EVENTS = ("foreground", "background", "free", "reader", "quiet")
# fmt: off
_CONSOLE_ROWS = {
    AWAY:   (ALONE, None, BESIDE, None, None),
    ALONE:  (None,  AWAY, None,   None, AWAY),
    BESIDE: (ALONE, None, None,   AWAY, AWAY),
}
# fmt: on
CONSOLE = {state: dict(zip(_CONSOLE_EVENTS, row)) for state, row in _CONSOLE_ROWS.items()}

# States of a command.
CONNECTED = "CONNECTED"  # its request is not whole
ACTING = "ACTING"  # it does what it was told
WAITING = "WAITING"  # for its reply
STOPPING = "STOPPING"  # it wants to be stopped (Ctrl-Z)
STOPPED = "STOPPED"  # it was told that it may
ANSWERED = "ANSWERED"  # its reply waits until the console is clean
LEAVING = "LEAVING"  # it wants no reply, and waits until the console is clean
DONE = "DONE"  # its reply is being written
TOLD = "TOLD"  # it has its reply
GONE = "GONE"

# A command that "leaves" waits for the end of the connection; one that is "killed" is not there any more.
_COMMAND_EVENTS = ("request", "act", "stop", "resume", "reply", "clean", "leave", "killed", "written")
# fmt: off
_COMMAND_ROWS = {
    CONNECTED: (WAITING, ACTING, None,     None,    ANSWERED, None,    GONE,    GONE, None),
    ACTING:    (WAITING, None,   STOPPING, None,    ANSWERED, None,    GONE,    GONE, None),
    WAITING:   (None,    ACTING, STOPPING, None,    ANSWERED, None,    LEAVING, GONE, None),
    STOPPING:  (None,    None,   None,     WAITING, ANSWERED, STOPPED, LEAVING, GONE, None),
    STOPPED:   (None,    None,   STOPPING, WAITING, ANSWERED, None,    LEAVING, GONE, None),
    ANSWERED:  (None,    None,   None,     None,    None,     DONE,    LEAVING, GONE, None),
    LEAVING:   (None,    None,   None,     None,    None,     GONE,    None,    GONE, None),
    DONE:      (None,    None,   None,     None,    None,     None,    GONE,    GONE, TOLD),
    TOLD:      (None,    None,   None,     None,    None,     None,    GONE,    GONE, None),
}
# fmt: on
COMMAND = {state: dict(zip(_COMMAND_EVENTS, row)) for state, row in _COMMAND_ROWS.items()}


class _Command:
    """A connected command."""

    __slots__ = ("errand", "input", "output", "pid", "reply", "since", "state", "tag", "tags")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.errand: "Errand | None" = None
        self.state = CONNECTED
        self.input = b""
        self.output = b""
        self.tag = 0  # of its request in the link
        self.tags = []  # type: list[int]
        self.reply = b""
        self.since = 0.0  # when that came

    def step(self, event: str) -> bool:
        """Whether this event changes the state; does so."""
        state = COMMAND[self.state][event]
        if state is None:
            return False
        self.state = state
        return True


def boot_hash() -> int:
    """32 bits that change with every boot."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return binascii.crc32(file.read()) & 0xFFFFFFFF
    except OSError:
        return 0


def _greeting() -> bytes:
    """What each client gets first: the box that this is, the Python that runs it, and the client for these."""
    code = thin.__spec__.loader.get_code(thin.__name__)  # type: ignore[union-attr]
    return _message(toolkit.BUILD + MAGIC_NUMBER + marshal.dumps(code))


def _message(content: bytes) -> bytes:
    return len(content).to_bytes(LENGTH_SIZE, "big") + content


class Agent:
    """The loop of one agent: commands, the console, and the link between them."""

    def __init__(self, listener: "Socket", console: "Console") -> None:
        self._listener = listener
        self._console = console
        nonce = int.from_bytes(random_bytes(4), "big")
        self._link = DeviceLink(nonce, boot_hash(), console.baud(), nobody_answers(console.path))
        self._commands = {}  # type: dict[int, _Command]
        self._greeting = b""
        self._state = AWAY
        self._foreground = False  # a command that waits, or is about to be stopped, has it
        self._looked = 0.0
        self._changed = False  # a command's state, since then
        self._idle_since = time.monotonic()
        self._busy_since = None  # type: float | None
        self._kept = 0.0
        self._blocked_since = None  # type: float | None
        self._returns = 0  # of the console, after hang-ups, since something was heard there

    def add(self, fd: int, pid: int) -> None:
        """Serve a command: the process `pid`, at the other end of the connection `fd`."""
        posix.set_blocking(fd, False)
        self._commands[fd] = _Command(pid)

    def run(self) -> None:
        """Serve until no command has come for LINGER seconds, or the console is gone."""
        try:
            while self._commands or not self._link.idle or time.monotonic() < self._idle_since + LINGER:
                try:
                    self._turn()
                except HungUp as error:
                    self._reopen(error)
        except OSError as error:
            self._link.abort(
                NO_DISPATCHER, "the console %s is gone: %s" % (self._console.path, error.strerror)
            )
        except Exception as error:
            self._link.abort(LINK_FAILED, "the agent for %s failed: %r" % (self._console.path, error))
        finally:
            # First, so that a command that comes now finds no agent and makes its own.
            self._listener.close()
            self._move("quiet")
            self._collect()
            self._deliver(time.monotonic())
            for fd, command in self._commands.items():
                posix.set_blocking(fd, True)
                _write_all(fd, command.output)

    def _turn(self) -> None:
        link, console = self._link, self._console
        events = dict(self._wait())
        # First: what was typed since a command has ended is for somebody else.
        if self._listener.fileno() in events:
            self._accept()
        for fd in list(self._commands):
            if fd in events:
                self._serve(fd, events[fd])
        if events.get(console.read_fd, 0) & (select.POLLHUP | select.POLLERR):
            raise HungUp(errno.EIO, "it was hung up")
        self._look(time.monotonic())
        self._share_console(time.monotonic())
        if console.read_fd in events and self._state != AWAY:
            self._read_console()
        if console.write_fd in events:
            self._write_console()
        now = time.monotonic()
        deadline = link.next_timeout()
        if deadline is not None and now >= deadline:
            link.handle_timeout(now)
        self._give_up_when_blocked(now)
        self._collect()
        self._look(now)
        self._share_console(now)
        self._deliver(now)

    def _wait(self) -> "list[tuple[int, int]]":
        poll = select.poll()
        poll.register(self._listener.fileno(), select.POLLIN)
        poll.register(self._console.read_fd, 0 if self._state == AWAY else select.POLLIN)
        if self._may_write:
            poll.register(self._console.write_fd, select.POLLOUT)
        for fd, command in self._commands.items():
            reads = 0 if command.state == LEAVING else select.POLLIN
            poll.register(fd, reads | (select.POLLOUT if command.output else 0))
        # (Without commands the link is soon idle, or has something to wait for.)
        end = self._looked + LOOK_INTERVAL if self._commands else self._idle_since + LINGER
        deadline = self._link.next_timeout()
        if self._commands or self._link.idle or deadline is None:
            deadline = end if deadline is None else min(deadline, end)
        timeout = max(0.0, deadline - time.monotonic())
        if self._changed:
            timeout = 0.0
        if self._console.marked or (self._state == AWAY and self._link.listening()):
            # Nothing tells when a terminal changes its modes or its reader.
            timeout = min(timeout, _GLANCE)
        return poll.poll(int(timeout * 1000) + 1)

    # -- the console

    def _move(self, event: str) -> bool:
        """Whether this event changes what is done with the console; does so."""
        before, after = self._state, CONSOLE[self._state][event]
        if after is None:
            return False
        self._state = after
        if after == ALONE:
            self._console.hush()
        elif before == ALONE:
            self._console.restore()
        return True

    def _share_console(self, now: float) -> None:
        """Read the console as long as the host may type, and nobody else reads it."""
        if self._console.marked:
            self._console.mend()
        if not self._link.listening():
            # Before replies are delivered: what runs next finds the console as it was.
            self._move("quiet")
            self._busy_since = None
        elif self._foreground:
            self._move("foreground")
            self._busy_since = None
        else:
            self._move("background")
            if self._state == AWAY:
                if self._console.free():
                    self._move("free")
                else:
                    self._rest(now)

    def _rest(self, now: float) -> None:
        """Somebody else reads: ask nothing, and end what has rested for too long."""
        self._link.answer_lost()
        if self._busy_since is None:
            self._busy_since = self._kept = now
        if now < self._busy_since + BUSY:
            return
        if now >= self._kept + KEEP_INTERVAL:
            self._kept = now
            self._link.keep()
        late = now >= self._busy_since + LINK_TIMEOUT
        refused = [
            command
            for command in self._commands.values()
            if command.state == WAITING and (late or not self._link.accepted(command.tag))
        ]
        if refused:
            text = (
                "%s reads the console %s, and would get the answers: run this command in the foreground there,"
                " for instance from a script, or end that program"
                % (owner(self._console.number) or "another program", self._console.path)
            )
            for command in refused:
                self._link.refuse(command.tag, NO_DISPATCHER, text)
            self._collect()

    def _reopen(self, error: HungUp) -> None:
        self._returns += 1
        if self._returns > 100:
            raise error
        self._state = AWAY
        self._console.reopen()

    def _look(self, now: float) -> None:
        """See whether a command in the foreground waits: then only we read, and replies may come any time.

        Once for all that has changed: it takes a file to be read for each command.
        """
        if not self._changed and now < self._looked + LOOK_INTERVAL:
            return
        self._looked = now
        self._changed = False
        ahead = {
            command.state
            for command in self._commands.values()
            if command.state in (WAITING, STOPPING, LEAVING)
            and has_foreground(command.pid, self._console.number)
        }
        self._foreground = bool(ahead)
        if self._commands:
            self._link.attend(WAITING in ahead)

    def _read_console(self) -> None:
        if self._state == BESIDE and not self._console.free():
            self._move("reader")
            return
        if self._console.inherited:
            _signal.setitimer(_signal.ITIMER_REAL, _BLOCKED)
        try:
            lines = self._console.read_lines()
        except (BlockingIOError, TimeoutError):
            # Somebody in the same foreground reads, too, and was quicker.
            time.sleep(_GLANCE)
            return
        finally:
            if self._console.inherited:
                _signal.setitimer(_signal.ITIMER_REAL, 0)
        now = time.monotonic()
        for line in lines:
            if self._link.receive_line(line, now):
                self._busy_since = None
                self._returns = 0

    @property
    def _may_write(self) -> bool:
        # Before we read the console, an answer would come to somebody else.
        return self._link.wants_to_send and (self._state != AWAY or self._link.wants_no_answer)

    def _write_console(self) -> None:
        if self._state == BESIDE and not self._console.free():
            self._move("reader")
        if not self._may_write:
            return
        frame = self._link.next_frame(time.monotonic(), self._console.backlog())
        if frame is not None:
            self._blocked_since = None
            # (A console may be writable, and yet have no room for all of a frame.)
            _signal.alarm(int(LINK_TIMEOUT))
            try:
                self._console.write(frame)
            finally:
                _signal.alarm(0)

    def _give_up_when_blocked(self, now: float) -> None:
        """End the requests when the console takes no output: it was stopped by Ctrl-S, or nobody reads it."""
        if not self._may_write:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        elif now >= self._blocked_since + LINK_TIMEOUT:
            self._link.abort(LINK_FAILED, "the console %s takes no output" % self._console.path)

    # -- the commands

    def _accept(self) -> None:
        while True:
            try:
                fd, _ = self._listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return
            connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
            if not trusted(connection):
                # Anybody can connect; only who may open our console may use it.
                connection.close()
                continue
            pid, _ = peer(connection)
            connection.detach()
            self.add(fd, pid)
            # Made only now: the first command, which waits for its answer, has no use for it.
            self._greeting = self._greeting or _greeting()
            self._say(fd, self._commands[fd], self._greeting)

    def _serve(self, fd: int, event: int) -> None:
        command = self._commands[fd]
        if event & select.POLLOUT and command.output:
            self._say(fd, command, b"")
        if fd not in self._commands or not event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            data = posix.read(fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(fd, command, data)
        else:
            gone = event & (select.POLLHUP | select.POLLERR)
            self._end(fd, command, "killed" if gone else "leave")

    def _say(self, fd: int, command: _Command, data: bytes) -> None:
        """Write as much as can be written now; `_serve` comes back for the rest."""
        command.output += data
        try:
            command.output = command.output[posix.write(fd, command.output) :]
        except BlockingIOError:
            return
        except OSError:
            self._end(fd, command, "killed")
            return
        if not command.output and command.step("written") and command.errand is not None:
            self._drop(fd)

    def _take(self, fd: int, command: _Command, data: bytes) -> None:
        if command.state != CONNECTED:
            for byte in data:
                if command.state != GONE:
                    self._hear(fd, command, byte)
            self._changed = True
            return
        command.input += data
        size = int.from_bytes(command.input[:LENGTH_SIZE], "big")
        if size > MAX_REQUEST:
            self._drop(fd)
        elif len(command.input) == LENGTH_SIZE + size:
            message, command.input = command.input[LENGTH_SIZE:], b""
            if message.startswith(ERRAND):
                self._begin(fd, command, message)
            else:
                self._submit(command, message)

    def _hear(self, fd: int, command: _Command, byte: int) -> None:
        if byte == ord(ASK_TO_STOP):
            command.step("stop")
        elif byte == ord(RESUMED):
            command.step("resume")
        elif (byte == ord(ACTED) and command.state == TOLD) or (
            byte == ord(ITSELF) and command.state == ACTING
        ):
            self._let_go(fd, command)
        elif byte == ord(ACTED) and command.errand is not None:
            command.errand.acted()
            self._go_on(fd, command)

    def _submit(self, command: _Command, message: bytes) -> None:
        now = time.monotonic()
        command.tag = self._link.submit(message, now)
        command.tags.append(command.tag)
        command.step("request")
        if self._state == ALONE:
            # A shell sets its own modes again when the command before this one was killed.
            self._console.hush()
        self._changed = True

    def _begin(self, fd: int, command: _Command, message: bytes) -> None:
        from .errand import Errand

        try:
            command.errand = Errand(message)
        except Exception:
            self._let_go(fd, command)
        else:
            self._go_on(fd, command)

    def _go_on(self, fd: int, command: _Command) -> None:
        """The next step of an errand. One that is refused, or fails, the command has to do itself."""
        from .errand import ACT, ASK

        assert command.errand is not None
        try:
            what, message = command.errand.next()
        except Exception:
            self._let_go(fd, command)
            return
        if what == ASK:
            self._submit(command, message)
        elif what == ACT:
            command.step("act")
            self._say(fd, command, _message(message))
        elif command.step("reply"):
            command.reply = message
            command.since = time.monotonic()

    def _end(self, fd: int, command: _Command, event: str) -> None:
        """The command needs no reply any more, nor what one has given to it."""
        command.step(event)
        for tag in reversed(command.tags):
            self._link.cancel(tag, time.monotonic(), event == "killed")
        if command.state == GONE:
            self._drop(fd)
        self._changed = True

    def _let_go(self, fd: int, command: _Command) -> None:
        """The command goes on by itself: nothing goes back of what its replies gave."""
        command.step("killed")
        self._drop(fd)

    def _collect(self) -> None:
        """Note replies that have come."""
        replies = dict(self._link.replies())
        for fd, command in list(self._commands.items()):
            if command.tag not in replies or command.state == LEAVING:
                continue
            if command.errand is not None:
                command.errand.reply(replies[command.tag])
                self._go_on(fd, command)
            elif command.step("reply"):
                command.reply = replies[command.tag]
                command.since = time.monotonic()
        if replies:
            self._changed = True

    def _deliver(self, now: float) -> None:
        """Hand over what commands wait for, once the console is as the shell expects it."""
        # As long as another one waits in the foreground, no shell reads.
        clean = self._state == AWAY or (self._state == ALONE and self._link.attended)
        for fd, command in list(self._commands.items()):
            if command.state == ANSWERED:
                if (clean or now > command.since + PATIENCE) and command.step("clean"):
                    self._say(fd, command, _message(command.reply))
            elif command.state == STOPPING:
                if clean and command.step("clean"):
                    # An empty message: the command may be stopped now.
                    self._say(fd, command, _message(b""))
            elif command.state == LEAVING and clean and not self._link.active(command.tag):
                command.step("clean")
                self._drop(fd)

    def _drop(self, fd: int) -> None:
        del self._commands[fd]
        posix.close(fd)
        self._idle_since = time.monotonic()


def _write_all(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[posix.write(fd, data) :]
    except OSError:
        pass  # the command is gone


def spawn(listener: "Socket", console: "Console") -> "Socket":
    """Fork the agent of this console; returns the command's connection to it, with nothing to be read there first."""
    command = posix.getpid()
    ours, theirs = _socket.socketpair()
    if posix.fork():
        listener.close()
        theirs.close()
        return ours
    try:
        posix.setsid()
        posix.chdir("/")
        ours.close()
        fd = theirs.detach()
        let_go_of_files({listener.fileno(), fd, console.read_fd, console.write_fd})
        try:
            with open("/proc/self/comm", "w") as file:
                file.write("lavabox-agent")
        except OSError:
            pass  # only its name in `ps`
        for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGPIPE, _signal.SIGTTOU, _signal.SIGTSTP):
            _signal.signal(number, _signal.SIG_IGN)
        _signal.signal(_signal.SIGTERM, _terminate)
        _signal.signal(_signal.SIGALRM, _stop_writing)
        listener.setblocking(False)
        if hasattr(gc, "freeze"):  # 3.7 and later
            # What is loaded stays. The first collection would look at all of it, and so copy it for this process.
            gc.freeze()
        gc.enable()
        agent = Agent(listener, console)
        agent.add(fd, command)
        agent.run()
        box = getattr(thin.__spec__, "loader", None)
        if getattr(box, "compiled", False):
            from .bytecode import keep

            keep(box)  # type: ignore[arg-type]
    finally:
        # Never back into the command: its exit handlers and buffers are not ours.
        posix._exit(0)


def _terminate(number: int, frame: object) -> None:
    raise SystemExit


def _stop_writing(number: int, frame: object) -> None:
    raise OSError(errno.ETIMEDOUT, "it takes no output")


def let_go_of_files(keep: "set[int]") -> None:
    """Close what was inherited: `x=$(lava-role)` waits until nobody has its pipe open."""
    try:
        fds = [int(name) for name in posix.listdir("/proc/self/fd")]
    except OSError:
        fds = list(range(256))
    for fd in fds:
        if fd not in keep:
            try:
                posix.close(fd)
            except OSError:
                pass  # that of the listing itself
    # Files opened later must not become somebody's standard output.
    while posix.open("/dev/null", posix.O_RDWR) < 2:
        pass
