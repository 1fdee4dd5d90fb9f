# SPDX-License-Identifier: MIT
"""One console between a device and the program that drives it, such as LAVA's dispatcher.

    whoever started us <--output, signals-- Screen <--output-- Attachment <-- Console: COMMAND on a pty, or a port
    whoever started us --keys----------------------> Attachment --keys, reply lines--> Console
                                                      Attachment <--> group

Bytes go through both ways unchanged and at once. Only frames are taken out, and answered. What they report comes
out as LAVA's text signals, where that is wanted.
"""

import asyncio
import os
import signal
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from dispatcher.consoles import Console, ConsoleError, Listener
from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.group.operations import decoded
from dispatcher.host.attachment import Attachment, Membership
from dispatcher.host.ownterminal import terminal_size
from dispatcher.host.standardstreams import StandardStreams
from dispatcher.host.stopsignals import STOP_SIGNALS
from dispatcher.line.channel import Asked
from dispatcher.line.lavasignals import SignalWriter
from dispatcher.line.textsignals import Found, Signal
from dispatcher.reportable import REPORTS
from dispatcher.view.display import harmless
from toolkit.wire.vocabulary import OK, ProtocolError, unpack_reply

# Seconds for which the last output may wait for whoever reads it.
_LAST_WORDS = 5.0
# Requests whose signals have been written, in case they are asked again.
_MAX_WRITTEN = 4096
_MULTINODE = ("send", "wait", "wait-all", "sync")


class Screen:
    """Our own output: what the device prints, and whole lines of ours in between.

    :param write: takes bytes.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._at_start = True  # of a line
        self._notices: list[bytes] = []  # that wait for the device to end its line

    def output(self, data: bytes, now: float) -> None:
        """What the device prints."""
        if self._notices and (end := data.find(b"\n") + 1):
            self._put(data[:end])
            self._put(b"".join(self._notices))
            self._notices.clear()
            data = data[end:]
        self._put(data)

    def line(self, text: str) -> None:
        """A line of its own, now; a line that the device has begun goes on behind it."""
        self._put((b"" if self._at_start else b"\r\n") + text.encode() + b"\r\n")

    def notice(self, sentence: str) -> None:
        """A sentence for a person, as soon as the device has no line begun: that may be a prompt."""
        line = f"lavabox: {harmless(sentence, colour=False)}\r\n".encode(errors="replace")
        if self._at_start:
            self._put(line)
        else:
            self._notices.append(line)

    def close(self) -> None:
        """The device prints nothing more."""
        if self._notices:
            self._put(b"\r\n" + b"".join(self._notices))
            self._notices.clear()

    def _put(self, data: bytes) -> None:
        if data:
            self._at_start = data.endswith((b"\n", b"\r"))
            self._write(data)


class SignalWitness:
    """Writes what the device reports by frames as LAVA's signals, once it is in the group's log.

    :param line: takes a line of its own.
    :param handed_on: whether LAVA itself carries out multi-device commands, and records those that it has answered.
    """

    def __init__(self, line: Callable[[str], object], *, handed_on: bool = False) -> None:
        self.writer = SignalWriter()
        self._line = line
        self._handed_on = handed_on
        self._written: OrderedDict[bytes, None] = OrderedDict()

    def answered(self, asked: Asked, reply: bytes) -> None:
        """A request has its reply."""
        if asked.identity in self._written:
            return
        try:
            status, _ = unpack_reply(reply)
        except ProtocolError:
            return
        if asked.operation in REPORTS and status == OK:
            text = self.writer.write(asked.operation, tuple(map(decoded, asked.arguments)))
        elif asked.operation in _MULTINODE and not (self._handed_on and status == OK):
            message_id = asked.arguments[0] if asked.arguments else None
            # Not where it was refused, as what no command of ours sends.
            if not isinstance(message_id, bytes) or not message_id:
                return
            text = self.writer.write_multinode(asked.operation, decoded(message_id) or "", status == OK)
        else:
            return
        self._written[asked.identity] = None
        if len(self._written) > _MAX_WRITTEN:
            self._written.popitem(last=False)
        if text:
            self._line(text)

    def reported(self, found: Found) -> None:
        """The device has printed this itself: it is in the output already."""
        if isinstance(found, Signal):
            self.writer.note(found.kind, found.fields)


class OneConnection:
    """A console that ends when its connection is lost, as a command that reaches it would."""

    lasting = False

    def __init__(self, console: Console) -> None:
        self.address = console.address
        self._console = console
        self.write = console.write
        self.pause = console.pause
        self.resume = console.resume
        self.close = console.close

    async def open(self, listener: Listener) -> None:
        """Open it. Raises ConsoleError."""
        await self._console.open(_Ending(listener))


class _Ending:
    """A listener to whom a lost connection is the end."""

    def __init__(self, listener: Listener) -> None:
        self.received = listener.received
        self.drained = listener.drained
        self.rebooted = listener.rebooted
        self.ended = listener.ended

    def lost(self, reason: str) -> None:
        self.ended(f"the connection is lost: {reason}", 1)


class Hook:
    """Runs one console between its device and our own standard input and output. Call `run`.

    :param group: of the device, open.
    :param token: returns 32 random bits.
    :param signals: whether reports come out as LAVA's signals.
    :param keys: gets what is typed, and returns what is to reach the device; None: all of it.
    """

    def __init__(
        self,
        name: str,
        role: str,
        console: Console,
        group: Membership,
        *,
        token: Callable[[], int],
        signals: bool,
        keys: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._keys = keys
        self._streams = StandardStreams(self._typed, self._input_ended, self._output_full, self._hung_up)
        self.screen = Screen(self._streams.write)
        self._address = console.address
        # What a port has not: an end of input, a window size, a process that gets signals.
        self._command = console if isinstance(console, PtyProcess) else None
        self._status = 0
        self._over = asyncio.Event()
        self._input_over = False
        self._attachment = Attachment(
            name,
            role,
            console,
            group,
            [self.screen],
            token=token,
            # They stay in the output, and LAVA answers them.
            text_requests=not signals,
            expects_text=self._command is None,
            witness=SignalWitness(self.screen.line, handed_on=keys is not None) if signals else None,
            room=self._room,
            ended=self._ended,
        )

    async def run(self) -> int:
        """Until the console has ended, or nobody wants to see it any more.

        Returns an exit status, or the number of the signal that ended it, made negative. Raises ConsoleError if the
        console can't be opened.
        """
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._pass_signal_on, number)
        loop.add_signal_handler(signal.SIGWINCH, self._resize)
        running = loop.create_task(self._attachment.run())
        over = loop.create_task(self._over.wait())
        self._streams.start()
        try:
            await asyncio.wait([running, over], return_when=asyncio.FIRST_COMPLETED)
            if running.done() and not self._over.is_set():
                await running  # it raises what has happened
        finally:
            over.cancel()
            await self._attachment.close()
            with suppress(ConsoleError):
                await running
            self.screen.close()
            await self._streams.close(_LAST_WORDS)
            # They have their usual meaning again.
            for number in (*STOP_SIGNALS, signal.SIGWINCH):
                loop.remove_signal_handler(number)
        return self._status

    # From whoever started us

    def _typed(self, data: bytes) -> bool:
        if self._attachment.full:
            return False
        if self._keys is not None:
            data = self._keys(data)
        return self._attachment.type(data)

    def _room(self) -> None:
        self._streams.resume()
        if self._input_over:
            self._end_input()

    def _input_ended(self, gone: bool) -> None:
        if gone:
            self._hung_up()
        else:
            self._input_over = True
            self._end_input()

    def _end_input(self) -> None:
        if self._command is not None:
            # Behind what was typed in this turn of the loop.
            asyncio.get_running_loop().call_soon(self._command.end_input)

    def _output_full(self, full: bool) -> None:
        if full:
            self._attachment.pause()
        else:
            self._attachment.resume()

    def _hung_up(self) -> None:
        self._end(-signal.SIGHUP)

    def _pass_signal_on(self, number: signal.Signals) -> None:
        pid = None if self._command is None else self._command.pid
        if pid is None:
            self._end(-number)
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)

    def _resize(self) -> None:
        size = terminal_size()
        if size is not None and self._command is not None:
            self._command.resize(*size)

    # The console

    def _ended(self, reason: str, status: int) -> None:
        if self._command is None:
            self.screen.notice(f"{self._address} {reason}")
        self._end(status)

    def _end(self, status: int) -> None:
        if not self._over.is_set():
            self._status = status
            self._over.set()
