# SPDX-License-Identifier: MIT
"""The agent: the one process that reads and writes a console for all commands.

The first command forks it; it serves every command of the same user on the
same console, and ends when none has come for LINGER seconds. It is in a session
of its own, without a controlling terminal: so job control does not stop it, it
outlives a command that is killed, tells the host, and puts the echo back.

A command connects to an abstract socket named after console and user, sends
its packed request, and gets the packed reply, each with its length in front
(four bytes, big endian). Closing the connection cancels the request.

As long as one of the commands is in the foreground, nobody else reads the
console, and the agent reads it all the time. Commands in the background share it
with a shell at its prompt (`sharing`): then the agent turns to the console for a
moment every now and then, asks, gets its answer, and leaves it as it was.
"""

import _signal
import _socket
import binascii
import errno
import os
import select
import time

from .client import peer
from .thin import ASK_TO_STOP as STOPPING
from .thin import ERRAND, LENGTH_SIZE
from .sharing import Sharing
from .wire.device_link import DeviceLink
from .wire.packets import LINK_TIMEOUT
from .wire.vocabulary import LINK_FAILED, MAX_REQUEST, NO_DISPATCHER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket

    from .console import Console

# Seconds without a command after which the agent ends.
LINGER = 2.0
# Seconds between looks at who is in the foreground; a stopped command says so itself.
LOOK_INTERVAL = 1.0
# Seconds that a reply is kept back at most while the console is not clean.
PATIENCE = 1.0
# Seconds to look away when somebody else is reading the console at the moment.
_BUSY = 0.01


class _Client:
    """A connected command."""

    __slots__ = (
        "closed",
        "done",
        "errand",
        "input",
        "output",
        "pid",
        "reply",
        "reply_since",
        "stopping",
        "tag",
        "told",
    )

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.errand = None
        self.input = b""
        self.output = b""
        self.tag = 0  # of its request, 0 as long as that is not whole
        self.reply = b""  # waits until the console is clean
        self.reply_since = 0.0
        self.stopping = False  # it wants to be stopped, or is
        self.told = False  # that it may
        self.closed = False  # it has closed its end
        self.done = False  # its reply is in `output`

    @property
    def waits(self) -> bool:
        return bool(self.tag) and not (self.closed or self.reply or self.done)


def boot_hash() -> int:
    """32 bits that change with every boot."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return binascii.crc32(file.read()) & 0xFFFFFFFF
    except OSError:
        return 0


def _status(pid: int) -> "list[bytes]":
    """State, parent, group, session, terminal, its foreground group, ... of a process; raises OSError."""
    with open("/proc/%d/stat" % pid, "rb") as file:
        # Behind the name in parentheses.
        return file.read().rpartition(b")")[2].split()


def _place(pid: int, terminal: int) -> "tuple[bool, int]":
    """Whether a process is what the shell on this terminal waits for, so that nobody else reads it;
    and the process group in the foreground of the terminal, 0 if that is not the terminal of the process.

    (True, 0) where it can't be told.
    """
    try:
        state, _, group, _, tty, foreground = _status(pid)[:6]
    except OSError:
        return True, 0
    if int(tty) != terminal:
        return False, 0
    return group == foreground and state not in (b"T", b"t"), max(int(foreground), 0)


class Agent:
    """The loop of one agent: commands, the console, and the link between them."""

    def __init__(self, listener: "Socket", console: "Console") -> None:
        self._listener = listener
        self._console = console
        self._sharing = Sharing(console)
        self._link = DeviceLink(int.from_bytes(os.urandom(4), "big"), boot_hash(), console.baud())
        self._clients = {}  # type: dict[int, _Client]
        self._hushed = False  # the console is ours alone
        from .errand import greeting

        g = greeting()
        self._greeting = len(g).to_bytes(LENGTH_SIZE, "big") + g
        self._idle_since = time.monotonic()
        self._looked = 0.0
        self._others = 0  # the process group in the foreground, of which a shell may set its modes any moment
        self._blocked_since = None  # type: float | None

    def run(self) -> None:
        """Serve until no command has come for LINGER seconds, or the console is gone."""
        try:
            while self._clients or not self._link.idle or time.monotonic() < self._idle_since + LINGER:
                self._turn()
        except OSError as error:
            self._link.abort(
                NO_DISPATCHER, "the console %s is gone: %s" % (self._console.path, error.strerror)
            )
        except Exception as error:
            self._link.abort(LINK_FAILED, "the agent for %s failed: %r" % (self._console.path, error))
        finally:
            # First, so that a command that comes now finds no agent and makes its own.
            self._listener.close()
            self._let_go()
            self._collect()
            self._deliver()
            for fd, client in self._clients.items():
                os.set_blocking(fd, True)
                _write_all(fd, client.output)

    def _turn(self) -> None:
        link, console = self._link, self._console
        for fd, event in self._wait():
            if fd == self._listener.fileno():
                self._accept()
            elif fd == console.read_fd:
                if event & (select.POLLHUP | select.POLLERR):
                    raise OSError(errno.EIO, "it was hung up")
                self._read_console()
            elif fd == console.write_fd:
                self._write_console()
            elif fd in self._clients:
                self._serve(fd, event)
        if self._sharing.held and self._sharing.muffled:
            self._read_console()
        now = time.monotonic()
        deadline = link.next_timeout()
        if deadline is not None and now >= deadline:
            link.handle_timeout(now)
        self._give_up_when_blocked(now)
        self._collect()
        if now >= self._looked + LOOK_INTERVAL:
            self._look(now)
        self._share_console(now)
        self._deliver()

    @property
    def _reads(self) -> bool:
        """Whether the console's input is ours at the moment."""
        return self._hushed or self._sharing.held

    @property
    def _alone(self) -> bool:
        """Whether nobody else reads the console, as far as can be told."""
        return self._link.attended or (not self._others and self._console.canonical)

    def _share_console(self, now: float) -> None:
        """Take the console as long as the host may type, and then give it back."""
        link, console, sharing = self._link, self._console, self._sharing
        if not self._hushed:
            console.mend()
            sharing.mend()
        if not link.listening(now):
            # Before replies are delivered: what runs next finds the console as it was.
            self._let_go()
            return
        if (self._hushed and not self._alone) or (sharing.held and (link.attended or sharing.lost())):
            self._let_go()
        if self._reads:
            return
        if not link.attended:
            self._look(now)
        if self._alone:
            sharing.release()
            console.hush()
            self._hushed = True
        else:
            sharing.take(now, self._others)

    def _let_go(self) -> None:
        if self._hushed:
            self._hushed = False
            self._console.restore()
        self._sharing.release()

    def _wait(self) -> "list[tuple[int, int]]":
        poll = select.poll()
        poll.register(self._listener.fileno(), select.POLLIN)
        poll.register(self._console.read_fd, select.POLLIN if self._reads else 0)
        if self._may_write:
            poll.register(self._console.write_fd, select.POLLOUT)
        for fd, client in self._clients.items():
            poll.register(
                fd, (0 if client.closed else select.POLLIN) | (select.POLLOUT if client.output else 0)
            )
        # (Without clients the link is soon idle, or has something to wait for.)
        end = self._looked + LOOK_INTERVAL if self._clients else self._idle_since + LINGER
        deadline = self._link.next_timeout()
        if self._clients or self._link.idle or deadline is None:
            deadline = end if deadline is None else min(deadline, end)
        timeout = max(0.0, deadline - time.monotonic())
        waits_for_console = not self._link.attended and (self._reads or self._link.wants_to_send)
        if waits_for_console or (self._sharing.used and not self._clients):
            # The modes of the console change without telling, also to what has to be mended; and a muffled one does
            # not say when it has input.
            timeout = min(timeout, _BUSY)
        return poll.poll(int(timeout * 1000) + 1)

    def _look(self, now: float) -> None:
        """See whether a command in the foreground waits: then only we read, and replies may come any time."""
        self._looked = now
        waiting = [client for client in self._clients.values() if client.waits]
        if waiting:
            places = [_place(client.pid, self._console.number) for client in waiting]
            self._link.attend(any(not c.stopping and alone for c, (alone, _) in zip(waiting, places)))
            self._others = max(group for _, group in places)

    def _read_console(self) -> None:
        if self._sharing.held and self._sharing.lost():
            return
        try:
            lines = self._console.read_lines()
        except BlockingIOError:
            if not self._sharing.muffled:
                time.sleep(_BUSY)
            return
        now = time.monotonic()
        for line in lines:
            self._console.sort(line, self._link.receive_line(line, now))

    @property
    def _may_write(self) -> bool:
        # Before the console is ours, an answer would come as an echo, and to somebody else.
        return self._link.wants_to_send and (self._reads or self._link.wants_no_answer)

    def _write_console(self) -> None:
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
        if not self._link.wants_to_send:
            self._blocked_since = None
        elif self._blocked_since is None:
            self._blocked_since = now
        elif now >= self._blocked_since + LINK_TIMEOUT:
            self._link.abort(LINK_FAILED, "the console %s takes no output" % self._console.path)

    def _accept(self) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        os.set_blocking(fd, False)
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        pid, uid = peer(connection)
        if uid not in (0, os.geteuid()):
            # Anybody can connect; only who may open our console may use it.
            connection.close()
            return
        self._clients[fd] = _Client(pid)
        self._clients[fd].output = self._greeting
        connection.detach()

    def _serve(self, fd: int, event: int) -> None:
        client = self._clients[fd]
        if event & select.POLLOUT and client.output:
            try:
                client.output = client.output[os.write(fd, client.output) :]
            except BlockingIOError:
                pass
            except OSError:
                client.output = b""
                client.done = True
            if client.done and not client.output:
                self._drop(fd)
                return
        if not event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._take(fd, client, data)
        else:
            self._withdraw(fd, client, bool(event & (select.POLLHUP | select.POLLERR)))

    def _take(self, fd: int, client: _Client, data: bytes) -> None:
        now = time.monotonic()
        if client.errand is not None and not client.tag:
            client.errand.acted()
            self._run_errand(fd, client)
            return
        if client.tag:
            client.stopping = data.endswith(STOPPING)
            client.told = False
            self._look(now)
            return
        client.input += data
        size = int.from_bytes(client.input[:LENGTH_SIZE], "big")
        if size > MAX_REQUEST:
            self._drop(fd)
        elif len(client.input) == LENGTH_SIZE + size:
            message, client.input = client.input[LENGTH_SIZE:], b""
            if message.startswith(ERRAND):
                self._begin_errand(fd, client, message)
            else:
                client.tag = self._link.submit(message, now)
            if self._hushed:
                # A shell sets its own modes again when the command before this one was killed.
                self._console.hush()
            self._look(now)

    def _begin_errand(self, fd: int, client: _Client, message: bytes) -> None:
        from .errand import Errand, Refused

        try:
            client.errand = Errand(message)
        except Exception:
            self._drop(fd)
        else:
            self._run_errand(fd, client)

    def _run_errand(self, fd: int, client: _Client) -> None:
        from .errand import ASK, END

        try:
            what, message = client.errand.next()
        except Exception:
            self._drop(fd)
            return
        client.tag = 0
        if what == ASK:
            client.tag = self._link.submit(message, time.monotonic())
        elif what == END:
            client.reply = message
            client.reply_since = time.monotonic()
        else:
            client.output += len(message).to_bytes(LENGTH_SIZE, "big") + message

    def _withdraw(self, fd: int, client: _Client, gone: bool) -> None:
        """The command needs no reply any more; if it is not gone it waits until the console is clean."""
        client.closed = True
        if client.tag:
            self._link.cancel(client.tag, time.monotonic(), gone)
        if gone or not client.tag:
            self._drop(fd)
        self._look(time.monotonic())

    def _collect(self) -> None:
        """Note replies that have come."""
        replies = dict(self._link.replies())
        for fd, client in list(self._clients.items()):
            if client.tag in replies and not client.closed:
                if client.errand is not None:
                    client.errand.reply(replies[client.tag])
                    self._run_errand(fd, client)
                    continue
                client.reply = replies[client.tag]
                client.reply_since = time.monotonic()
        if replies:
            self._look(time.monotonic())

    def _deliver(self) -> None:
        """Hand over what commands wait for, once the console is as the shell expects it."""
        # As long as another one waits in the foreground, no shell reads.
        shared = any(client.waits and not client.stopping for client in self._clients.values())
        clean = not self._reads or (shared and self._link.attended)
        for fd, client in list(self._clients.items()):
            if client.reply and (clean or time.monotonic() > client.reply_since + PATIENCE):
                client.output += len(client.reply).to_bytes(LENGTH_SIZE, "big") + client.reply
                client.reply = b""
                client.done = True
            elif client.stopping and not client.told and client.waits and clean:
                # An empty message: the command may be stopped now.
                client.told = True
                client.output = b"\0" * LENGTH_SIZE
            elif client.closed and clean and not self._link.active(client.tag):
                self._drop(fd)

    def _drop(self, fd: int) -> None:
        del self._clients[fd]
        os.close(fd)
        self._idle_since = time.monotonic()


def _write_all(fd: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass  # the command is gone


def spawn(listener: "Socket", console: "Console") -> None:
    """Fork the agent of this console; returns in the command."""
    if os.fork():
        return
    try:
        os.setsid()
        os.chdir("/")
        _let_go_of_files({listener.fileno(), console.read_fd, console.write_fd})
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
        Agent(listener, console).run()
    finally:
        # Never back into the command: its exit handlers and buffers are not ours.
        os._exit(0)


def _terminate(number: int, frame: object) -> None:
    raise SystemExit


def _stop_writing(number: int, frame: object) -> None:
    raise OSError(errno.ETIMEDOUT, "it takes no output")


def _let_go_of_files(keep: "set[int]") -> None:
    """Close what was inherited: `x=$(lava-role)` waits until nobody has its pipe open."""
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        fds = list(range(256))
    for fd in fds:
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass  # that of the listing itself
    # Files opened later must not become somebody's standard output.
    while os.open("/dev/null", os.O_RDWR) < 2:
        pass
