# SPDX-License-Identifier: MIT
"""The results of a group's tests, folded from its log.

Like the coordinator this folds the events one after the other, and knows no I/O and no clock:
the same log gives the same results.

What a device reports belongs to the run and the test set that are open on that device. Runs may
stand inside each other, and the inner one has the results; a set ends with its run, or when
another one begins. A run that is told twice, by a frame and by LAVA's own text signals, is one:
the same name and uuid, told while it is open.
"""

import sys
from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dispatcher.group.events import Event, Joined, Left, Reported, Waiting
from toolkit.wire.vocabulary import RESULTS

# Malformed signals that are kept of each device; all are counted.
MAX_MALFORMED = 10
# Runs inside each other; nobody means to have more.
MAX_OPEN_RUNS = 16
# Characters of a name that stand in a sentence.
_MAX_NAME = 80
# Texts of fewer characters are kept once.
_SHORT = 16


class Case(NamedTuple):
    """One result of one test case, of lava-test-case or lava-test-reference.

    `run` is the number of the run in `Results.runs`. `position` is where in the device's console
    log it was reported, `start` to `end` where the output of the test stands there (in bytes), and
    `seconds` is how long that took; None where that was not told.
    """

    device: str
    run: int | None
    set: str | None
    id: str
    result: str
    measurement: str | None
    units: str | None
    reference: str | None
    time: float
    position: int
    start: int | None
    end: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a test definition.

    `status` is its exit status, if that was told. A run that ended early, for the reason given,
    never came to its end.
    """

    device: str
    name: str
    uuid: str
    started: float
    ended: float | None = None
    status: int | None = None
    ended_early: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """What lava-test-raise, lava-test-event or lava-test-feedback (`kind`) said; or what was refused."""

    device: str
    run: int | None
    kind: str
    text: str
    time: float
    position: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """A text signal that could not be read."""

    text: str
    reason: str
    time: float
    position: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the tests have failed, or one of the reasons: `kind` is "case", "run", "raise" or "refused"."""

    kind: str
    device: str
    run: int | None
    sentence: str


class Counts(NamedTuple):
    """Numbers of results, in the order of RESULTS."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    unknown: int = 0

    def __str__(self) -> str:
        """As a person would say it: "3 passed, 1 failed"."""
        parts = [f"{number} {name}" for name, number in self._asdict().items() if number]
        return ", ".join(parts) or "no results"


# Remarks that make the tests a failure, and how it is said.
FAILING = {"raise": "lava-test-raise", "refused": "refused"}


@dataclass(slots=True)
class _Mark:
    """Where the output of a test case begins and ends."""

    start: Reported
    end: Reported | None = None


@dataclass(slots=True)
class _Device:
    name: str
    role: str
    open_runs: list[int] = field(default_factory=list)  # the innermost comes last
    newest_run: dict[tuple[str, str], int] = field(default_factory=dict)  # by name and uuid
    open_set: str | None = None
    run_of_set: int | None = None
    marks: dict[str, _Mark] = field(default_factory=dict)
    malformed: int = 0
    last_malformed: deque[Malformed] = field(default_factory=lambda: deque(maxlen=MAX_MALFORMED))

    @property
    def run(self) -> int | None:
        return self.open_runs[-1] if self.open_runs else None

    def close_run(self) -> int:
        """Close the innermost run, and the set that began in it."""
        number = self.open_runs.pop()
        if self.run_of_set == number:
            self.open_set = None
        return number


class Results:
    """All that the devices of a group have reported; `apply` is the only way to change it."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.runs: list[Run] = []
        self.remarks: list[Remark] = []
        self._counts = dict.fromkeys(RESULTS, 0)
        self._devices: dict[str, _Device] = {}

    @property
    def counts(self) -> Counts:
        """How many results there are so far."""
        return Counts(*self._counts.values())

    @property
    def devices(self) -> list[tuple[str, str]]:
        """Name and role of all devices, in the order they joined."""
        return [(name, device.role) for name, device in self._devices.items()]

    def open_set(self, device: str) -> str | None:
        """The test set that is open on this device."""
        return self._devices[device].open_set

    def malformed(self, device: str) -> tuple[int, list[Malformed]]:
        """How many text signals of this device could not be read, and the last of them."""
        return self._devices[device].malformed, list(self._devices[device].last_malformed)

    def apply(self, event: Event) -> Case | None:
        """Take the next event of the log, each one once; returns the result that it adds.

        Raises KeyError if its device never joined.
        """
        if type(event) is Reported:
            return self._report(event)
        if isinstance(event, Joined):
            self._devices.setdefault(event.device, _Device(event.device, event.role))
        elif isinstance(event, Left):
            self._leave(event)
        return None

    def fail_wait(self, waiting: Waiting, time: float) -> Case:
        """Note a wait that has failed, as LAVA does: a test case `multinode-wait-ID` with the result fail.

        :param time: when it failed.
        """
        device = self._devices[waiting.device]
        ids = "-or-".join(map(_text, waiting.ids))
        name = f"multinode-{waiting.kind.value.removeprefix('lava-')}-{ids}"
        return self._add(
            Case(
                device=waiting.device,
                run=device.run,
                set=device.open_set,
                id=name,
                result="fail",
                measurement=None,
                units=None,
                reference=None,
                time=time,
                position=waiting.position,
                start=None,
                end=None,
                seconds=max(0.0, time - waiting.time),
            )
        )

    def failed(self, case: Case) -> str:
        """The sentence that says that this test case has failed."""
        places = [f"set {named(case.set)}"] if case.set is not None else []
        if case.run is not None:
            places.append(f"run {named(self.runs[case.run].name)}")
        return f"test {named(case.id)} failed" + (f" ({', '.join(places)})" if places else "")

    def failures(self, *, over: bool) -> list[Failure]:
        """What makes the tests a failure: failed test cases, runs that ended early, lava-test-raise.

        :param over: whether no device will report any more, so that a run that is still open never ends.
        """
        failures = [
            Failure("case", case.device, case.run, self.failed(case))
            for case in self.cases
            if case.result == "fail"
        ]
        for number, run in enumerate(self.runs):
            sentence = _how_it_failed(run, over)
            if sentence:
                failures.append(Failure("run", run.device, number, f"run {named(run.name)} {sentence}"))
        failures += [
            Failure(remark.kind, remark.device, remark.run, f"{FAILING[remark.kind]}: {remark.text}")
            for remark in self.remarks
            if remark.kind in FAILING
        ]
        return failures

    def _report(self, event: Reported) -> Case | None:
        device, kind = self._devices[event.device], event.kind
        if kind in ("result", "reference"):
            return self._add_case(device, event)
        if kind in ("raise", "event", "feedback", "refused"):
            text = ": ".join(_texts(event))
            remark = Remark(event.device, device.run, kind, text, event.time, event.position)
            self.remarks.append(remark)
        elif kind == "case-start":
            device.marks[_texts(event)[0]] = _Mark(event)
        elif kind == "case-end":
            mark = device.marks.get(_texts(event)[0])
            if mark is not None:
                mark.end = event
        elif kind in ("set-start", "set-stop"):
            device.open_set = event.fields[0] if event.fields else None
            device.run_of_set = device.run
        elif kind == "run-start":
            self._start_run(device, event)
        elif kind == "run-end":
            self._end_run(device, event)
        else:
            text, reason, *more = _texts(event)
            device.malformed += int(more[0]) if more and more[0] else 1
            device.last_malformed.append(Malformed(text, reason, event.time, event.position))
        return None

    def _add_case(self, device: _Device, event: Reported) -> Case:
        # The same few names, results and units stand in very many results: they are kept once.
        fields = [sys.intern(item) if item and len(item) < _SHORT else item for item in event.fields]
        case_id, result, *more = fields
        assert case_id is not None
        assert result is not None
        measurement, units, url = (*more, None) if event.kind == "result" else (None, None, more[0])
        mark = device.marks.pop(case_id, None)
        start, end, seconds = _span(mark, event) if mark is not None else (None, None, None)
        case = Case(
            device.name,
            device.run,
            device.open_set,
            case_id,
            result,
            measurement,
            units,
            url,
            event.time,
            event.position,
            start,
            end,
            seconds,
        )
        return self._add(case)

    def _add(self, case: Case) -> Case:
        self.cases.append(case)
        self._counts[case.result] += 1
        return case

    # Runs

    def _start_run(self, device: _Device, event: Reported) -> None:
        name, uuid = _texts(event)
        if device.run is not None and device.run == device.newest_run.get((name, uuid)):
            return
        if len(device.open_runs) == MAX_OPEN_RUNS:
            self._cut_short(device, 0, event.time, "too many runs began inside it")
        device.newest_run[name, uuid] = len(self.runs)
        device.open_runs.append(len(self.runs))
        self.runs.append(Run(event.device, name, uuid, event.time))

    def _end_run(self, device: _Device, event: Reported) -> None:
        name, uuid, text = _texts(event)
        status = int(text) if text else None
        number = device.newest_run.get((name, uuid))
        if number is None:
            return
        if number in device.open_runs:
            depth = device.open_runs.index(number)
            self._cut_short(device, depth + 1, event.time, "the run around it ended")
            self.runs[number] = replace(self.runs[number], ended=event.time, status=status)
            device.close_run()
        elif self.runs[number].status is None:
            # It was told before that this run had ended, but not how.
            self.runs[number] = replace(self.runs[number], status=status)

    def _cut_short(self, device: _Device, depth: int, time: float, reason: str) -> None:
        """The open runs that stand inside `depth` others end early."""
        while len(device.open_runs) > depth:
            number = device.close_run()
            self.runs[number] = replace(self.runs[number], ended=time, ended_early=True, reason=reason)

    def _leave(self, event: Left) -> None:
        device = self._devices[event.device]
        self._cut_short(device, 0, event.time, f"the device {event.reason}")
        device.open_set = None
        device.marks.clear()


def named(text: str) -> str:
    """A name in quotes, fit for a sentence: shortened if it is long."""
    return f"'{text}'" if len(text) <= _MAX_NAME else f"'{text[:_MAX_NAME]}...'"


def _how_it_failed(run: Run, over: bool) -> str:
    if run.ended_early:
        return f"ended early: {run.reason}"
    if run.status:
        return f"ended with status {run.status}"
    if run.ended is None and over:
        return "did not finish"
    return ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _texts(event: Reported) -> list[str]:
    return [value or "" for value in event.fields]


def _span(mark: _Mark, result: Reported) -> tuple[int, int | None, float]:
    """Where the output of the test begins and ends, and how long it took."""
    end = mark.end
    return (
        mark.start.position,
        None if end is None else end.position,
        # Clocks may be set back while a dispatcher is started again.
        max(0.0, (result if end is None else end).time - mark.start.time),
    )
