# SPDX-License-Identifier: MIT
"""What happened in a group, folded from the events of its log.

The coordinator says how requests end, and the results say what was tested; here it is written down
when, and which message ended which wait. All times are in seconds since the first event, and never
run backwards, although the clock of a dispatcher that is started again may.

All texts stand as the devices gave them: bytes that are no UTF-8 are lone surrogates.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import islice

from dispatcher.group.coordinator import MAX_LOOKED_AT, MAX_NAMED, Coordinator, Outcome
from dispatcher.group.events import (
    Event,
    Joined,
    Left,
    Released,
    Reported,
    Sent,
    Unlocked,
    Waiting,
    WaitKind,
    Whom,
)
from dispatcher.group.results import Case, Remark, Results, Run
from dispatcher.group.wording import call
from toolkit.wire.vocabulary import INTERRUPTED, LINK_FAILED, OK

# Later than anything that happens: differences of times stay numbers.
_LATEST = 1e12
# Seconds that a wait may seem to have ended too early, as times are rounded.
_ROUNDING = 0.001


class How(Enum):
    """How a wait ended."""

    FULFILLED = "fulfilled"
    TIMED_OUT = "timed out"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    OPEN = "still blocked"


@dataclass(slots=True)
class Stay:
    """A time that a device was in the group; `left` is None if it still is."""

    joined: float
    left: float | None = None
    reason: str = ""


@dataclass(slots=True)
class Device:
    """A device, and when it was in the group."""

    name: str
    role: str
    stays: list[Stay]

    @property
    def here(self) -> bool:
        """Whether it is in the group at the end."""
        return self.stays[-1].left is None


@dataclass(slots=True)
class Message:
    """A message. A lava-sync sends one as well, without data: `wait` is its number then.

    `released` are the waits that it ended. One that `unlocks` is no message: the device gave the lock `id` back.
    """

    number: int
    device: str
    id: str
    data: tuple[tuple[str, str], ...]
    time: float
    wait: int | None
    released: list[int] = field(default_factory=list)
    unlocks: bool = False

    @property
    def call(self) -> str:
        """The command, without data."""
        return f"{'lava-unlock' if self.unlocks else 'lava-send'} {self.id}"


@dataclass(slots=True)
class Wait:
    """A wait.

    :param ended: None as long as it has not.
    :param seconds: how long it took, or has taken so far.
    :param reason: how it ended, if it was not fulfilled.
    :param needed: the messages that fulfilled it, in the order of the log; none of a lava-lock that was free. The
        device's own may be among them, so that the waits of one barrier share their list.
    :param last: the last of them that came from another device.
    :param missing: if it was not fulfilled, the first of the devices that had still to send, or of which one had to.
    :param more: how many there are beside them.
    :param last_act: whether the device did nothing any more after it.
    """

    number: int
    device: str
    kind: WaitKind
    ids: tuple[str, ...]
    whom: Whom
    timeout: float | None
    began: float
    ended: float | None = None
    seconds: float = 0.0
    how: How = How.OPEN
    reason: str = ""
    needed: tuple[int, ...] = ()
    last: int | None = None
    missing: tuple[str, ...] = ()
    more: int = 0
    last_act: bool = True

    @property
    def call(self) -> str:
        """The command, as it was typed but for its options: "lava-wait-all ready server"."""
        return " ".join(call(self.kind, self.ids, self.whom))

    @property
    def stuck(self) -> bool:
        """Whether the device is blocked, or was until it was stopped."""
        return self.how is How.OPEN or (self.how is How.INTERRUPTED and self.last_act)


class Act(Enum):
    """What a step is; `Step.number` says which one of its kind."""

    JOIN = "join"
    LEAVE = "leave"
    SEND = "send"
    WAIT = "wait"
    WAIT_END = "wait end"
    RESULT = "result"
    RUN_START = "run start"
    RUN_END = "run end"
    REMARK = "remark"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to a device, in the order of the log."""

    act: Act
    device: str
    time: float
    number: int


@dataclass(slots=True)
class Flow:
    """All that happened. Messages, waits, cases, runs and remarks are referred to by their place here.

    `start` is the time of the first event as the log counts it, `end` that of the last one, or the present
    time of a log that goes on, relative to it. What was before `begin` is left out, but for what is needed to
    understand the rest.
    """

    start: float = 0.0
    begin: float = 0.0
    end: float = 0.0
    devices: dict[str, Device] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def relative(self, time: float) -> float:
        """A time of the log as seconds since the first event, within the flow."""
        return min(max(time - self.start, 0.0), self.end)


class Fold:
    """Makes a `Flow` of events: `apply` takes the next one."""

    def __init__(self) -> None:
        self.flow = Flow()  # what there is so far; complete after `finish`
        self._coordinator = Coordinator()
        self._results = Results()
        self.flow.cases = self._results.cases
        self.flow.runs = self._results.runs
        self.flow.remarks = self._results.remarks
        self._began = False
        self._waits: dict[bytes, Wait] = {}  # by request
        self._need: dict[bytes, int] = {}  # how often each device must have sent, by request
        # By id, then by device: the messages, oldest first.
        self._sent: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._first: dict[str, list[int]] = defaultdict(list)  # by id: the first message of each device
        self._all: dict[str, list[int]] = defaultdict(list)  # by id
        # By device: how much it has done so far; and by the number of a wait, how much it had when that ended.
        self._acts: dict[str, int] = defaultdict(int)
        self._acts_at_end: dict[int, int] = {}
        self._of_role: dict[str | None, list[str]] = defaultdict(list)  # devices; None: all
        # What fulfils all waits for an id, of a role, so many times, as long as there are so many devices.
        self._pools: dict[tuple[str, Whom, int, int], tuple[int, ...]] = {}
        self._open_runs: dict[str, list[int]] = defaultdict(list)

    def apply(self, event: Event) -> None:
        """Take the next event of the log. Raises ValueError for an event of a device that never joined."""
        if not self._began:
            self._began, self.flow.start = True, event.time
        now = min(max(event.time - self.flow.start, self.flow.end), _LATEST)
        device = self.flow.devices.get(event.device) if isinstance(event, Left) else None
        leaver = device.name if device is not None and device.here else None
        if self._coordinator.known(event.identity):
            return
        returned = event.request if isinstance(event, Released) else b""
        if not self._coordinator.lends(returned):
            returned = b""
        outcomes = self._coordinator.apply(event)
        self.flow.end = now
        if returned:
            self._give_back(self._waits[returned], event)
        match event:
            case Joined():
                self._join(event, now)
            case Sent():
                self._acts[event.device] += 1
                self._send(event.device, _text(event.message_id), event.data, now, None)
            case Waiting():
                self._acts[event.device] += 1
                self._wait(event, now)
            case Unlocked():
                self._acts[event.device] += 1
                self._unlock(event, now)
            case Left():
                self._leave(event, now)
            case Reported():
                self._acts[event.device] += 1
        self._fold_results(event, now)
        for outcome in outcomes:
            wait = self._waits.get(outcome.request)
            if wait is not None:
                self._end(wait, outcome, event, now, leaver)

    def finish(self, now: float | None = None) -> Flow:
        """The flow, with what is to be said of waits that are still open.

        :param now: what time it is for the log, if it goes on; None: it ends with its last event.
        """
        if now is not None and self._began:
            self.flow.end = min(max(now - self.flow.start, self.flow.end), _LATEST)
        for number, acts in self._acts_at_end.items():
            wait = self.flow.waits[number]
            wait.last_act = acts == self._acts[wait.device]
        for open_ in self._coordinator.open_waits():
            wait = self._waits[open_.waiting.identity]
            wait.missing, wait.more = tuple(open_.missing), open_.more
            wait.seconds = self.flow.end - wait.began
        return self.flow

    def recent(self, most: int, now: float) -> Flow:
        """The newest part of a flow that goes on: what its last `most` steps did, and what belongs to that.

        It is a copy, without `steps`: the fold may take more events. It costs no more the longer the whole flow is.

        :param most: at least 1.
        :param now: what time it is for the log.
        """
        whole = self.flow
        steps = whole.steps[-most:]
        of = {act: [step.number for step in steps if step.act is act] for act in Act}
        open_ = {self._waits[wait.waiting.identity].number: wait for wait in self._coordinator.open_waits()}
        still = (run for runs in self._open_runs.values() for run in runs)
        begin = 0.0 if len(steps) == len(whole.steps) else steps[0].time
        since = bisect_left(whole.messages, begin, key=lambda message: message.time)

        waits = sorted({*of[Act.WAIT], *of[Act.WAIT_END], *open_})
        # The waits of a barrier keep one list, as long as there are devices.
        needed = {id(pool): pool for pool in (whole.waits[wait].needed for wait in waits)}
        messages = sorted(set(range(since, len(whole.messages))).union(*needed.values()))
        cases = [whole.cases[number] for number in of[Act.RESULT]]
        of_cases = (case.run for case in cases if case.run is not None)
        runs = sorted({*of[Act.RUN_START], *of[Act.RUN_END], *of_cases, *still})

        end = min(max(now - whole.start, whole.end), _LATEST) if self._began else 0.0
        flow = Flow(whole.start, begin, end)
        flow.runs = [whole.runs[number] for number in runs]
        flow.remarks = [whole.remarks[number] for number in of[Act.REMARK]]
        place = {run: number for number, run in enumerate(runs)}
        flow.cases = [case._replace(run=None if case.run is None else place[case.run]) for case in cases]
        flow.waits, flow.messages = self._copies(waits, messages)
        for number, wait in zip(waits, flow.waits, strict=True):
            if number in open_:
                wait.missing, wait.more = tuple(open_[number].missing), open_[number].more
                wait.seconds = end - wait.began
        named = {name for wait in flow.waits for name in (wait.device, *wait.missing)}
        for items in (flow.messages, flow.cases, flow.runs, flow.remarks):
            named.update(item.device for item in items)
        for device in whole.devices.values():
            left = device.stays[-1].left
            if left is None or left >= begin or device.name in named:
                flow.devices[device.name] = replace(device, stays=list(device.stays))
        return flow

    def _copies(self, waits: list[int], messages: list[int]) -> tuple[list[Wait], list[Message]]:
        """These waits and messages, referred to by their new places."""
        place_of_wait = {number: place for place, number in enumerate(waits)}
        place_of_message = {number: place for place, number in enumerate(messages)}
        shared: dict[int, tuple[int, ...]] = {}  # by identity: the waits of a barrier keep one list
        new_waits = []
        for number in waits:
            wait = self.flow.waits[number]
            acts = self._acts[wait.device]
            if id(wait.needed) not in shared:
                shared[id(wait.needed)] = tuple(place_of_message[message] for message in wait.needed)
            new_waits.append(
                replace(
                    wait,
                    number=place_of_wait[number],
                    needed=shared[id(wait.needed)],
                    last=None if wait.last is None else place_of_message[wait.last],
                    last_act=self._acts_at_end.get(number, acts) == acts,
                )
            )
        new_messages = []
        for number in messages:
            message = self.flow.messages[number]
            new_messages.append(
                replace(
                    message,
                    number=place_of_message[number],
                    wait=None if message.wait is None else place_of_wait.get(message.wait),
                    released=[place_of_wait[wait] for wait in message.released if wait in place_of_wait],
                )
            )
        return new_waits, new_messages

    def _look_for_missing(self, wait: Wait, times: int, leaver: str | None) -> None:
        """Note whom a wait lacked that has just failed, perhaps as this device has left.

        Of a large group, the first members are looked at: each of its waits may fail by itself.
        """
        names: Iterable[str]
        some = islice(self.flow.devices.values(), MAX_LOOKED_AT)
        here = (device.name for device in some if device.here or device.name == leaver)
        sent = self._sent[wait.ids[0]]
        match wait.kind, wait.whom:
            case ((WaitKind.WAIT | WaitKind.NEXT), _):
                names = here
            case WaitKind.LOCK, _:
                holder = self._coordinator.holder(wait.ids[0].encode("utf-8", "surrogateescape"))
                names = [] if holder is None else [holder]
            case _, int():
                names = (name for name in here if len(sent[name]) < times)
            case _, tuple(whom):
                names = (name for name in whom if name in self.flow.devices and len(sent[name]) < times)
            case _, whom:
                of_role = islice(self._of_role[whom], MAX_LOOKED_AT)
                names = (name for name in of_role if len(sent[name]) < times)
        missing = [name for name in names if name != wait.device]
        wait.missing, wait.more = tuple(missing[:MAX_NAMED]), max(0, len(missing) - MAX_NAMED)

    def _join(self, event: Joined, now: float) -> None:
        device = self.flow.devices.get(event.device)
        if device is None:
            self.flow.devices[event.device] = Device(event.device, event.role, [Stay(now)])
            for role in (None, event.role):
                self._of_role[role].append(event.device)
        elif not device.here:
            device.stays.append(Stay(now))
        else:
            return
        self._step(Act.JOIN, event.device, now, len(self.flow.devices[event.device].stays) - 1)

    def _leave(self, event: Left, now: float) -> None:
        device = self.flow.devices[event.device]
        if device.here:
            device.stays[-1].left, device.stays[-1].reason = now, event.reason

    def _send(
        self,
        device: str,
        message_id: str,
        data: tuple[tuple[bytes, bytes], ...],
        now: float,
        wait: int | None,
    ) -> None:
        number = len(self.flow.messages)
        own = self._sent[message_id][device]
        own.append(number)
        self._all[message_id].append(number)
        if len(own) == 1:
            self._first[message_id].append(number)
        pairs = tuple((_text(key), _text(value)) for key, value in data)
        self.flow.messages.append(Message(number, device, message_id, pairs, now, wait))
        if wait is None:
            self._step(Act.SEND, device, now, number)

    def _unlock(self, event: Unlocked, now: float) -> None:
        number, name = len(self.flow.messages), _text(event.name)
        self.flow.messages.append(Message(number, event.device, name, (), now, None, unlocks=True))
        self._step(Act.SEND, event.device, now, number)

    def _wait(self, event: Waiting, now: float) -> None:
        message_id, number = _text(event.message_id), len(self.flow.waits)
        ids = tuple(map(_text, event.ids))
        wait = Wait(number, event.device, event.kind, ids, event.whom, event.timeout, now)
        self.flow.waits.append(wait)
        self._waits[event.identity] = wait
        self._step(Act.WAIT, event.device, now, number)
        times = 1
        if event.kind is WaitKind.SYNC:
            times = self._coordinator.times_synced(event.device, event.message_id)
            # One that stands for a sync that failed announces nothing.
            sent = len(self._sent[message_id][event.device])
            if self._coordinator.times_sent(event.device, event.message_id) > sent:
                self._send(event.device, message_id, (), now, number)
        self._need[event.identity] = times

    def _end(self, wait: Wait, outcome: Outcome, event: Event, now: float, leaver: str | None) -> None:
        wait.ended, wait.seconds = now, now - wait.began
        self._acts_at_end[wait.number] = self._acts[wait.device]
        if outcome.status == OK:
            wait.how = How.FULFILLED
            wait.needed = self._needed(wait, outcome.request, event)
            # They are in the order of the log, and one of them at most is the device's own.
            others = (n for n in reversed(wait.needed) if self.flow.messages[n].device != wait.device)
            wait.last = next(others, None)
            if wait.last is not None:
                self.flow.messages[wait.last].released.append(wait.number)
        else:
            wait.how, wait.reason = _how(wait, outcome, event, now), outcome.reason
            if isinstance(event, Released | Left):
                self._look_for_missing(wait, self._need[outcome.request], leaver)
        self._step(Act.WAIT_END, wait.device, now, wait.number)

    def _give_back(self, wait: Wait, event: Event) -> None:
        """What the wait got has gone back: its command had ended before it took it."""
        assert isinstance(event, Released)
        if wait.last is not None:
            self.flow.messages[wait.last].released.remove(wait.number)
        wait.how, wait.reason = How.INTERRUPTED, event.reason
        wait.needed, wait.last, wait.last_act = (), None, False
        self._acts_at_end.pop(wait.number, None)

    def _needed(self, wait: Wait, request: bytes, event: Event) -> tuple[int, ...]:
        """The messages that fulfilled it, which it is known that they did."""
        messages, times, message_id = self.flow.messages, self._need[request], wait.ids[0]
        if wait.kind is WaitKind.WAIT:
            firsts = (number for one in wait.ids for number in self._first[one])
            return (min(number for number in firsts if messages[number].device != wait.device),)
        if wait.kind is WaitKind.NEXT:
            return (self._all[message_id][self._coordinator.place_of_next(request)],)
        if wait.kind is WaitKind.LOCK:
            return (len(messages) - 1,) if isinstance(event, Unlocked) else ()
        sent = self._sent[message_id]
        if isinstance(wait.whom, int):
            reached = sorted(own[times - 1] for own in sent.values() if len(own) >= times)
            return tuple(reached[: wait.whom])
        devices = wait.whom if isinstance(wait.whom, tuple) else self._of_role[wait.whom]
        key = (message_id, wait.whom, times, len(devices))
        pool = self._pools.get(key)
        if pool is None:
            pool = tuple(sorted(sent[name][times - 1] for name in devices if len(sent[name]) >= times))
            if len(pool) == len(devices):
                self._pools[key] = pool
        return pool

    def _fold_results(self, event: Event, now: float) -> None:
        results, device = self._results, getattr(event, "device", "")
        runs, remarks = len(results.runs), len(results.remarks)
        case = results.apply(event)
        if case is not None:
            self._step(Act.RESULT, device, now, len(results.cases) - 1)
        for number in reversed(self._open_runs[device]):
            if results.runs[number].ended is not None:
                self._open_runs[device].remove(number)
                self._step(Act.RUN_END, device, now, number)
        for number in range(runs, len(results.runs)):
            self._open_runs[device].append(number)
            self._step(Act.RUN_START, device, now, number)
        for number in range(remarks, len(results.remarks)):
            self._step(Act.REMARK, device, now, number)
        if isinstance(event, Left):
            self._step(Act.LEAVE, device, now, len(self.flow.devices[device].stays) - 1)

    def _step(self, act: Act, device: str, now: float, number: int) -> None:
        self.flow.steps.append(Step(act, device, now, number))


def _how(wait: Wait, outcome: Outcome, event: Event, now: float) -> How:
    if outcome.status in (INTERRUPTED, LINK_FAILED):
        return How.INTERRUPTED
    if isinstance(event, Left) and event.device == wait.device:
        return How.INTERRUPTED
    limit = wait.timeout
    if isinstance(event, Released) and limit is not None and now - wait.began >= limit - _ROUNDING:
        return How.TIMED_OUT
    return How.FAILED


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
