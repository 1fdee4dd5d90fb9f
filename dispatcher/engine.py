# SPDX-License-Identifier: MIT
"""The engine: consoles in, answers out, for all devices of one group.

    console bytes -> Demultiplexer -> output -> Scanner -> LAVA's text signals
                                   -> frames -> Session -> requests -> OPERATIONS
    OPERATIONS -> group log -> Coordinator -> outcomes -> Session -> lines to type
    signals    ->           -> Results

It does no I/O and knows no clock: a shell around it (runner.py) reads and
writes consoles and passes the time in. After every call that takes `now`, the
shell takes what has come of it: `outputs()`, `data_to_type()`, `new_results()`,
`notices()`.

What a request may ask for stands in operations.py.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from dispatcher.group.configuration import Configuration
from dispatcher.group.coordinator import Coordinator, Outcome
from dispatcher.group.deadend import DeadEnd, find
from dispatcher.group.events import Event as LogEvent
from dispatcher.group.events import Joined, Left, Released, Reported, Sent, Waiting, WaitKind, to_json
from dispatcher.group.operations import OPERATIONS, Call
from dispatcher.group.results import Case, Counts, Results
from dispatcher.group.wording import command, duration
from dispatcher.grouplog import GroupLog
from dispatcher.line.demultiplexer import Damaged, Demultiplexer, Event, Frame
from dispatcher.line.session import Counters, Request, Session
from dispatcher.line.textpatterns import LineScanner, Pattern
from dispatcher.line.textsignals import Found, Malformed, Scanner, Signal
from toolkit.wire.vocabulary import (
    INTERRUPTED,
    MAX_REPLY,
    NO,
    OK,
    USAGE,
    ProtocolError,
    pack_reply,
    unpack_request,
)

# Bytes that one device may put into the group's log, which is kept for the life of its group; and
# what an event and a pair take beside their own bytes, as measured.
MAX_BYTES = 256 * 1024 * 1024
EVENT_BYTES = 1024
PAIR_BYTES = 192
# What an operator is told when a counter reaches ALARM, ten times that, and so on.
ALARM = 10
ALARMS = {
    "damaged": "frames from this console could not be read: a bad line, or two programs that write on it",
    "replayed": "frames from this console were of an old log, or forged; they have done nothing",
    "refused": "frames from this console made no sense: another version of the box, or forged",
    "overflow": "requests of this device were given up, as it has too many under way",
}
# Malformed signals that are shown of each device; all are counted.
MAX_MALFORMED_SHOWN = 5


@dataclass(slots=True)
class _Device:
    role: str
    demultiplexer: Demultiplexer
    session: Session
    scanner: Scanner
    position: int  # in the device's console log: behind all that was put out so far
    bytes: int = 0
    full: bool = False  # whether the operator knows that its share of the log is used up
    lines: LineScanner | None = None  # looks for the results that the run's own pattern finds
    alarms: dict[str, int] = field(default_factory=dict)  # at which count a counter is told next


@dataclass(frozen=True, slots=True)
class _Waiter:
    """Who is to be told how a wait ended; several when a request came over several links."""

    session: Session
    request: Request
    message_id: bytes


class Engine:
    """All devices of one group.

    :param log: the group's log; may hold the events of an earlier run.
    :param token: returns 32 random bits.
    :param epoch: what to add to `now` to get the time that stands in the log.
    :param configuration: of the devices.
    :param patterns: of runs whose output holds results, by the uuids of the runs.
    """

    def __init__(
        self,
        log: GroupLog,
        token: Callable[[], int],
        epoch: float = 0.0,
        configuration: Configuration | None = None,
        patterns: Mapping[str, Pattern] | None = None,
    ) -> None:
        self._log = log
        self._token = token
        self.epoch = epoch
        self._group = 0
        self._devices: dict[str, _Device] = {}
        self._waiters: dict[bytes, list[_Waiter]] = {}
        self._waiting: dict[Request, bytes] = {}  # what each of them waits for
        self._time_outs: list[tuple[float, bytes]] = []
        self._outputs: list[tuple[str, bytes]] = []
        self._new_results: list[tuple[Case, Counts]] = []
        self._notices: list[tuple[str, str]] = []
        self._sent: dict[tuple[str, bytes], int] = {}
        self._now = 0.0
        self._patterns = patterns or {}
        self.changes = 0  # counts the events of the log
        self.heard = 0.0  # when a device last did something other than to ask whether its wait is over
        self.configuration = configuration or Configuration()
        self.coordinator = Coordinator()
        self.results = Results()
        log.subscribe(self._on_event)
        self._new_results.clear()

    # -- what the shell calls ------------------------------------------------------------------

    def join(self, device: str, role: str, now: float, position: int = 0) -> None:
        """A device's console is there; raises ValueError if it already is.

        :param position: what the device's console log holds already, in bytes.
        """
        if device in self._devices:
            raise ValueError(f"{device} is in the group already")
        self._append(Joined(self.epoch + now, device, role), now)

        def on_request(request: Request, message: bytes, time: float) -> bytes | None:
            return self._on_request(device, request, message, time)

        def on_cancel(request: Request, reason: str, time: float) -> None:
            self._on_cancel(request, reason, time)

        session = Session(self._token, self._group, on_request, on_cancel)
        self._devices[device] = _Device(role, Demultiplexer(), session, Scanner(position), position)

    def leave(self, device: str, reason: str, now: float) -> None:
        """The device will never send again: its script has ended, or it is dead."""
        self._append(Left(self.epoch + now, device, reason), now)

    def receive_data(self, device: str, data: bytes, now: float) -> None:
        """Bytes from a console, in any chunking."""
        self._take(device, self._devices[device].demultiplexer.receive_data(data, now), now)

    def close(self, device: str, now: float) -> None:
        """The console has ended; what was held back of its output comes out."""
        self._take(device, self._devices[device].demultiplexer.flush(), now)
        self._read_signals(device, self._devices[device].scanner.flush(), now)

    def outputs(self) -> list[tuple[str, bytes]]:
        """Console output since the last call, as `(device, bytes)`."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def data_to_type(self) -> list[tuple[str, bytes]]:
        """What to write to consoles, now or not at all, as `(device, bytes)`."""
        lines = ((name, b"".join(device.session.lines())) for name, device in self._devices.items())
        return [(name, data) for name, data in lines if data]

    def new_results(self) -> list[tuple[Case, Counts]]:
        """The results that have come since the last call, and how many there were then."""
        results, self._new_results = self._new_results, []
        return results

    def notices(self) -> list[tuple[str, str]]:
        """What an operator should see, as `(device, sentence)`."""
        notices, self._notices = self._notices, []
        return notices

    def counters(self, device: str) -> Counters:
        return self._devices[device].session.counters

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        times = [self._time_outs[0][0]] if self._time_outs else []
        for device in self._devices.values():
            for time in (device.demultiplexer.next_timeout(), device.session.next_timeout()):
                if time is not None:
                    times.append(time)
        return min(times, default=None)

    def find_dead_end(self, idle: Iterable[str], now: float) -> DeadEnd | None:
        """The dead end that the group is in, if it is in one; `idle` are devices that do nothing but wait."""
        return find(self.coordinator, idle, self.epoch + now)

    def fail(self, dead_end: DeadEnd, now: float) -> None:
        """End the waits of a dead end with status 1."""
        for request, reason in dead_end.reasons.items():
            if self.coordinator.outcome(request) is None:
                self._append(Released(self.epoch + now, request, NO, f"dead end: {reason}"), now)

    def handle_timeout(self, now: float) -> None:
        while self._time_outs and self._time_outs[0][0] <= now:
            _, request = heapq.heappop(self._time_outs)
            if self.coordinator.outcome(request) is None:
                reason = f"timed out waiting for {self.coordinator.unmet(request)}"
                self._append(Released(self.epoch + now, request, NO, reason), now)
        for name, device in self._devices.items():
            self._take(name, device.demultiplexer.handle_timeout(now), now)
            device.session.handle_timeout(now)

    # -- what the operations call --------------------------------------------------------------

    def send(self, call: Call, message_id: bytes, data: tuple[tuple[bytes, bytes], ...]) -> bytes:
        """Carry out a lava-send, once however often it is called; returns the packed reply."""
        if not self.coordinator.known(call.request):
            size = len(message_id) + sum(PAIR_BYTES + len(key) + len(value) for key, value in data)
            event = Sent(self.epoch + call.now, call.device, call.request, message_id, data)
            self._record(event, size, call.now)
            times = self._sent.get((call.device, message_id), 0) + 1
            self._sent[call.device, message_id] = times
            if times == 2:
                text = message_id.decode(errors="backslashreplace")
                self._notices.append((call.device, f"sent {text!r} again: its newest values hold"))
        return pack_reply(OK)

    def wait(
        self,
        call: Call,
        kind: WaitKind,
        message_id: bytes,
        role: str | None,
        timeout: float | None,
        own_timeout: bool = False,
    ) -> bytes | None:
        """Begin a wait, or find it again; returns the packed reply if it has ended already."""
        if not self.coordinator.known(call.request):
            time = self.epoch + call.now
            event = Waiting(time, call.device, call.request, kind, message_id, role, timeout, own_timeout)
            self._record(event, len(message_id), call.now)
        outcome = self.coordinator.outcome(call.request)
        return None if outcome is None else self._outcome_reply(outcome, message_id)

    def report(self, call: Call, kind: str, fields: tuple[str | None, ...]) -> bytes:
        """Note what a device reports, once however often it is called; returns the packed reply."""
        if not self.coordinator.known(call.request):
            position = self._devices[call.device].position
            try:
                event = Reported(self.epoch + call.now, call.device, call.request, kind, fields, position)
            except ValueError as error:
                raise ProtocolError(str(error)) from None
            self._end_lines(call, kind)
            self._record(event, _size(fields), call.now)
            self._begin_lines(call, kind, fields)
            if kind == "refused":
                self._notices.append((call.device, f"refused: {fields[0]}: {fields[1]}"))
        return pack_reply(OK)

    def _begin_lines(self, call: Call, kind: str, fields: tuple[str | None, ...]) -> None:
        """A run begins: perhaps one whose output holds results."""
        if kind == "run-start" and (pattern := self._patterns.get(fields[1] or "")) is not None:
            device = self._devices[call.device]
            device.lines = LineScanner(pattern, device.position)

    def _end_lines(self, call: Call, kind: str) -> None:
        """What the end of a run's output holds belongs to the run."""
        device = self._devices[call.device]
        if kind in ("run-start", "run-end") and device.lines is not None:
            found = device.lines.flush()
            device.lines = None
            self._read_signals(call.device, found, call.now)

    # -- the line ------------------------------------------------------------------------------

    def _take(self, name: str, events: list[Event], now: float) -> None:
        device = self._devices[name]
        for event in events:
            if event.text:
                self.heard = now
                self._outputs.append((name, event.text))
                device.position += len(event.text)
                found = device.scanner.receive_data(event.text)
                if device.lines is not None:
                    found += device.lines.receive_data(event.text)
                self._read_signals(name, found, now)
            if isinstance(event, Frame):
                device.session.receive_frame(event.body, now)
                device.session.counters.repaired += bool(event.text)
                self._watch(name, device)
            elif isinstance(event, Damaged):
                device.session.counters.damaged += 1
                self._watch(name, device)

    def _watch(self, name: str, device: _Device) -> None:
        """Tell the operator of counters that should not rise."""
        for counter, sentence in ALARMS.items():
            count = getattr(device.session.counters, counter)
            if count >= device.alarms.get(counter, ALARM):
                device.alarms[counter] = 10 ** len(str(count))
                self._notices.append((name, f"{count} {sentence}"))

    def _read_signals(self, name: str, found: list[Found], now: float) -> None:
        """Note what a device reports by text signals, which nobody answers."""
        for item in found:
            if isinstance(item, Signal):
                kind, fields = item.kind, item.fields
            else:
                kind, fields = "malformed", (item.text.decode("utf-8", "surrogateescape"), item.reason)
            event = Reported(self.epoch + now, name, b"", kind, fields, item.offset)
            try:
                self._record(event, _size(fields), now)
            except ProtocolError as error:
                if not self._devices[name].full:
                    self._devices[name].full = True
                    self._notices.append((name, f"{error}; its text signals are passed over"))
            else:
                if isinstance(item, Malformed):
                    self._complain(name, item)

    def _complain(self, name: str, signal: Malformed) -> None:
        count, _ = self.results.malformed(name)
        if count <= MAX_MALFORMED_SHOWN:
            text = signal.text.decode(errors="backslashreplace")
            self._notices.append((name, f"malformed signal {text!r}: {signal.reason}"))
        elif count == MAX_MALFORMED_SHOWN + 1:
            self._notices.append((name, "further malformed signals are only counted"))

    def _on_request(self, device: str, request: Request, message: bytes, now: float) -> bytes | None:
        try:
            identity, operation, arguments = unpack_request(message)
            handler = OPERATIONS.get(operation)
            if handler is None:
                raise ProtocolError(f"this dispatcher knows no operation {operation[:40]!r}")
            # The name makes sure that no device can answer for, or suppress, another's request.
            call = Call(device, identity + device.encode(), operation, arguments, now)
            reply = handler(self, call)
        except ProtocolError as error:
            return pack_reply(USAGE, f"the dispatcher refused the request: {error}")
        if reply is None:
            waiter = _Waiter(self._devices[device].session, request, call.arguments[0])
            self._waiters.setdefault(call.request, []).append(waiter)
            self._waiting[request] = call.request
        return reply

    def _on_cancel(self, request: Request, reason: str, now: float) -> None:
        key = self._waiting.pop(request, None)
        if key is None:
            return
        self._waiters[key] = [waiter for waiter in self._waiters[key] if waiter.request is not request]
        if not self._waiters[key]:
            self._append(Released(self.epoch + now, key, INTERRUPTED, reason), now)

    # -- the group -----------------------------------------------------------------------------

    def _append(self, event: LogEvent, now: float) -> None:
        self._now = self.heard = now
        self._log.append(event)

    def _on_event(self, event: LogEvent) -> None:
        if not self._group:
            self._group = zlib.crc32(repr(to_json(event)).encode())
        if isinstance(event, Waiting) and event.timeout is not None:
            heapq.heappush(self._time_outs, (event.time + event.timeout - self.epoch, event.request))
        self.changes += 1
        waits: dict[bytes, Waiting] = {}
        if isinstance(event, Left):
            waits = {wait.request: wait for wait in self.coordinator.waits()}
        for outcome in self.coordinator.apply(event):
            if isinstance(event, Left) and outcome.status != OK:
                wait = waits[outcome.request]
                waited = f"waited {duration(event.time - wait.time)} in {command(wait)}"
                self._notices.append((outcome.device, f"{waited}: {outcome.reason}"))
            for waiter in self._waiters.pop(outcome.request, []):
                self._waiting.pop(waiter.request, None)
                reply = self._outcome_reply(outcome, waiter.message_id)
                waiter.session.reply(waiter.request, reply, self._now)
        case = self.results.apply(event)
        if case is not None:
            self._new_results.append((case, self.results.counts))

    def _outcome_reply(self, outcome: Outcome, message_id: bytes) -> bytes:
        if outcome.status != OK:
            return pack_reply(outcome.status, outcome.reason)
        values = []
        pairs = self.coordinator.data_for(outcome.device, message_id)
        size = sum(len(key) + len(value) for _, key, value in pairs)
        if size > MAX_REPLY:
            return pack_reply(NO, _too_much(size))
        for sender, of_sender in groupby(pairs, key=lambda pair: pair[0]):
            items: list[str | bytes] = [sender]
            for _, key, value in of_sender:
                items += (key, value)
            values.append(items)
        reply = pack_reply(OK, *values)
        return reply if len(reply) <= MAX_REPLY else pack_reply(NO, _too_much(len(reply)))

    def _record(self, event: Sent | Waiting | Reported, size: int, now: float) -> None:
        """Append what a device does, if its share of the log has room for it."""
        device = self._devices[event.device]
        if device.bytes + EVENT_BYTES + size > MAX_BYTES:
            raise ProtocolError("this device has sent more than a group's log may hold of one device")
        device.bytes += EVENT_BYTES + size
        self._append(event, now)


def _size(fields: tuple[str | None, ...]) -> int:
    """Bytes that they take in memory, at most."""
    return sum(4 * len(field) for field in fields if field is not None)


def _too_much(size: int) -> str:
    return f"the data of this message is {size} bytes, and a reply holds {MAX_REPLY}"
