# SPDX-License-Identifier: MIT
"""One console as the host sees it: bytes in; output, requests and results out; lines to type back.

    receive_data --> Demultiplexer --> output --> Scanner, LineScanner --> Found
                                   --> frames --> Session ---------------> Received, Cancelled
    reply, accept, receive_keys -----------------------------------------> data_to_type

A sign that the device boots anew or has crashed ends all leases: nothing is typed until it asks again.

It does no I/O and knows no clock and no group. Call `receive_data` with what the console
brings, and carry out what it returns, in that order. Then write `data_to_type` to the
console, and call `handle_timeout` when `next_timeout` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from dispatcher.line import multinode
from dispatcher.line.bootsigns import BootSigns
from dispatcher.line.demultiplexer import Damaged, Demultiplexer, Event, Frame
from dispatcher.line.multinode import RequestScanner
from dispatcher.line.session import (
    Cancelled,
    Cleared,
    Counters,
    Rebooted,
    Received,
    Request,
    Session,
    SessionEvent,
    Suspected,
)
from dispatcher.line.textpatterns import LineScanner, Pattern
from dispatcher.line.textsignals import Found, Malformed, Scanner
from toolkit.wire.vocabulary import OK, USAGE, ProtocolError, pack_reply, unpack_reply, unpack_request

# What an operator is told when a counter reaches ALARM, ten times that, and so on.
ALARM = 10
ALARMS = {
    "damaged": "damaged frames from this console: the line is bad, or two programs write to it at once",
    "replayed": "frames from this console were old or forged, and were ignored",
    "refused": "frames from this console were invalid: from another version of the box, or forged",
    "overflow": "requests of this device were dropped: it has too many open",
}
# Seconds after the last key for which reply lines wait until a line that somebody types has its end.
# Longer than anybody thinks about the next key, shorter than a person who has gone away.
TYPING_TIME = 10.0
# Keys after which a half-typed line is gone: the end of a line, Ctrl-C, Ctrl-D, Ctrl-U, Ctrl-Z, Ctrl-\.
_LINE_OVER = b"\r\n\x03\x04\x15\x1a\x1c"


class Output(Struct, frozen=True, gc=False):
    """What the device printed; `position` is where it begins in the device's console log, in bytes."""

    data: bytes
    position: int


@dataclass(eq=False, slots=True)
class TextHandle:
    """A request of LAVA's own scripts, which has no frame: what its answer is typed by."""

    operation: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A whole request, to be answered by `Channel.reply`, now or later.

    :param request: what to answer by.
    :param identity: 8 bytes; the command made them up, so that it may ask again.
    :param position: in the device's console log.
    """

    request: Request | TextHandle
    identity: bytes
    operation: str
    arguments: list[Any]
    position: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """What an operator should know of this console: a sentence."""

    sentence: str


Item = Output | Asked | Cancelled | Suspected | Cleared | Rebooted | Found | Alarm


class Channel:
    """One console.

    :param token: returns 32 random bits.
    :param group: 32 bits that name the device's group.
    :param position: what the device's console log holds already, in bytes.
    :param patterns: of runs whose output holds results, by the uuids of the runs.
    :param text_requests: whether requests of LAVA's own scripts are answered; not where LAVA itself does that.
    """

    def __init__(
        self,
        token: Callable[[], int],
        group: int,
        position: int = 0,
        patterns: Mapping[str, Pattern] | None = None,
        *,
        text_requests: bool = True,
    ) -> None:
        self.position = position
        self._demultiplexer = Demultiplexer()
        self._session = Session(token, group)
        self._token = token
        self._scanner = Scanner(position)
        self._signs = BootSigns()
        self._patterns = patterns or {}
        self._lines: LineScanner | None = None
        self._alarms: dict[str, int] = {}  # at which count a counter is told next
        self._text_requests = RequestScanner(position) if text_requests else None
        self._text_lines: list[bytes] = []
        self._numbers: dict[str, int] = {}  # of senders, in replies by text
        self._keys = bytearray()
        self._typing_until: float | None = None  # as long as a line that somebody types has no end

    @property
    def counters(self) -> Counters:
        """What went over the console so far."""
        return self._session.counters

    def receive_data(self, data: bytes, now: float) -> list[Item]:
        """Take bytes of the console, in any chunking."""
        return self._take(self._demultiplexer.receive_data(data, now), now)

    def receive_keys(self, data: bytes, now: float) -> None:
        """Take what a person or a program types to the device.

        It comes out of `data_to_type` unchanged and at once. Reply lines go only between lines of it, as
        each of them begins with the key that kills a half-typed line; if the line has no end, TYPING_TIME
        seconds after the last key.
        """
        if not data:
            return
        self._keys += data
        self._typing_until = None if data[-1] in _LINE_OVER else now + TYPING_TIME

    def end_links(self, reason: str) -> list[Item]:
        """None of the device's commands is there any more; `reason` is a clause."""
        return self._requests(self._session.end_links(reason))

    def accept(self, request: Request | TextHandle) -> None:
        """The request is recorded and its reply will follow."""
        if isinstance(request, Request):
            self._session.accept(request)

    def reply(self, request: Request | TextHandle, message: bytes, now: float) -> list[Alarm]:
        """Answer a request with a packed reply; it is typed while the device listens, else kept for its next poll."""
        if isinstance(request, Request):
            self._session.reply(request, message, now)
            return []
        return self._reply_by_text(request, message)

    def data_to_type(self, now: float) -> bytes:
        """What to write to the console, now or not at all."""
        keys, self._keys = bytes(self._keys), bytearray()
        if self._typing_until is not None and now < self._typing_until:
            return keys
        text_lines, self._text_lines = self._text_lines, []
        lines = self._session.lines() + text_lines
        for line in lines:
            # A tty may echo it.
            self._demultiplexer.type_line(line, now)
        return keys + b"".join(lines)

    def went_on(self, now: float) -> None:
        """The host was stopped for a while; to be called before it takes what has come meanwhile."""
        self._session.went_on(now)

    def interrupt(self, now: float) -> list[Item]:
        """The connection is gone for a while: what was held back of the output comes out."""
        items = self._take(self._demultiplexer.flush(), now)
        return items + list(self._scanner.flush())

    def close(self, now: float) -> list[Item]:
        """The console has ended: all that was held back comes out, results in a last line among it."""
        return self.interrupt(now) + list(self._end_lines())

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        times = (self._demultiplexer.next_timeout(), self._session.next_timeout(), self._typing_until)
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> list[Item]:
        """Do what is due; to be followed by `data_to_type`."""
        if self._typing_until is not None and now >= self._typing_until:
            self._typing_until = None
        items = self._take(self._demultiplexer.handle_timeout(now), now)
        return items + self._requests(self._session.handle_timeout(now))

    def _take(self, events: list[Event], now: float) -> list[Item]:
        items: list[Item] = []
        texts: list[bytes] = []  # between two frames: one output
        counters = self._session.counters
        for event in events:
            if event.text:
                texts.append(event.text)
            if isinstance(event, Frame):
                items += self._print(texts, now)
                texts.clear()
                counters.repaired += bool(event.text)
                items += self._requests(self._session.receive_frame(event.body, now))
                items += self._watch()
            elif isinstance(event, Damaged):
                counters.damaged += 1
                if alarms := self._watch(["damaged"]):
                    items += [*self._print(texts, now), *alarms]
                    texts.clear()
        return items + self._print(texts, now)

    def _print(self, texts: list[bytes], now: float) -> list[Item]:
        """What the device printed, and what is found in it."""
        text = b"".join(texts)
        if not text:
            return []
        items: list[Item] = [Output(text, self.position)]
        self.position += len(text)
        items += self._scanner.receive_data(text)
        items += self._read_text_requests(text)
        if self._lines is not None:
            items += self._lines.receive_data(text)
        # Last: what is reported in this text was reported before the device boots.
        if not self._session.may_type:
            self._signs.skip(text)
        elif self._signs.receive_data(text):
            # What waited there may be gone, and a reply would stop an autoboot.
            items += self._requests(self._session.end_leases(now))
        return items

    def _requests(self, events: list[SessionEvent]) -> list[Item]:
        items: list[Item] = []
        for event in events:
            if not isinstance(event, Received):
                items.append(event)
                continue
            try:
                identity, operation, arguments = unpack_request(event.message)
            except ProtocolError as error:
                self._session.reply(event.request, refusal(error), 0.0)
                continue
            if operation in ("run-start", "run-end"):
                items += self._end_lines()
                self._begin_lines(operation, arguments)
            items.append(Asked(event.request, identity, operation, arguments, self.position))
        return items

    def _read_text_requests(self, text: bytes) -> list[Item]:
        """Requests of LAVA's own scripts; of a device with the box they can only be in an old log."""
        if self._session.counters.frames or self._text_requests is None:
            return []
        items: list[Item] = []
        for found in self._text_requests.receive_data(text):
            if isinstance(found, Malformed):
                items.append(found)
                continue
            handle = TextHandle(found.operation)
            identity = self._token().to_bytes(4, "big") + self._token().to_bytes(4, "big")
            arguments = list(found.arguments)
            items.append(Asked(handle, identity, found.operation, arguments, found.offset))
        return items

    def _reply_by_text(self, handle: TextHandle, message: bytes) -> list[Alarm]:
        status, values = unpack_reply(message)
        is_wait = handle.operation != "send"  # whose answer nobody reads
        if status != OK:
            if is_wait:
                self._text_lines.append(multinode.refusal(handle.operation).line)
            what = "a wait" if is_wait else "a message"
            return [Alarm(f"{what} failed, and LAVA's script does not tell its caller: {values[0]}")]
        if not is_wait:
            return []
        pairs = [
            (self._numbers.setdefault(sender, len(self._numbers) + 1), key, value)
            for sender, *items in values
            for key, value in zip(items[::2], items[1::2], strict=True)
        ]
        reply = multinode.reply(handle.operation, pairs)
        self._text_lines.append(reply.line)
        if not reply.left_out:
            return []
        keys = ", ".join(key.decode(errors="backslashreplace") for _, key in reply.left_out)
        return [Alarm(f"not sent to LAVA's script, which would change or run them: the values of {keys}")]

    def _begin_lines(self, operation: str, arguments: list[Any]) -> None:
        """A run begins: perhaps one whose output holds results."""
        uuid = arguments[1] if operation == "run-start" and len(arguments) > 1 else None
        if isinstance(uuid, bytes):
            uuid = uuid.decode("utf-8", "surrogateescape")
        if isinstance(uuid, str) and (pattern := self._patterns.get(uuid)) is not None:
            self._lines = LineScanner(pattern, self.position)

    def _end_lines(self) -> list[Found]:
        """What the end of a run's output holds belongs to the run."""
        lines, self._lines = self._lines, None
        return [] if lines is None else lines.flush()

    def _watch(self, counters: Iterable[str] = ALARMS) -> list[Alarm]:
        """Counters that should not rise."""
        alarms = []
        for counter in counters:
            count = getattr(self._session.counters, counter)
            if count >= self._alarms.get(counter, ALARM):
                self._alarms[counter] = 10 ** len(str(count))
                alarms.append(Alarm(f"{count} {ALARMS[counter]}"))
        return alarms


def refusal(error: ProtocolError) -> bytes:
    """The packed reply to a request that makes no sense."""
    return pack_reply(USAGE, f"the dispatcher refused the request: {error}")
