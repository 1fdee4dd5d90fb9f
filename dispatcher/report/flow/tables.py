# SPDX-License-Identifier: MIT
"""The flow table of what happened.

Rows follow the time, and as in a table that is planned by hand only as many as it takes to see who
came first: what devices did about the same time shares a row, unless one had to wait for the other.
A call that comes after the message that it was waiting for stands below it, and a message that
ended a wait below that wait, so that the blank cells of a blocked device are seen.

Devices of a role that did the same share a column. What they did is lined up by its place in their
sequence: a message stands where the last of them had sent it, all else where the first one did it.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from dispatcher.group.results import FAILING, Case
from dispatcher.group.wording import enumerated
from dispatcher.report.flow import words
from dispatcher.report.flow.model import Act, Device, Flow, How, Step, Wait
from dispatcher.report.flow.table import LEGEND, Cell, Column, Kind, Row, Table

# Of a table, what a person can look at, and what does not take minutes to draw.
MOST_COLUMNS = 200
MOST_ROWS = 10_000
MOST_CELLS = 1_000_000
# Sentences about waits that stand below the table.
_MOST_TROUBLES = 50
# Failed tests that a cell names.
_MOST_FAILED = 3
# The part of the whole time that may lie between what stands in one row.
_GAP = 0.1
# Seconds that a wait takes at least if they are to be told.
_SHORTEST_TOLD = 0.001


@dataclass(slots=True)
class _Entry:
    """Something that one device did. Entries with the same key are the same for a table."""

    key: tuple[object, ...]
    text: str
    time: float
    note: str = ""
    bad: bool = False
    leaves: bool = False
    wait: Wait | None = None
    message: int | None = None  # sent here
    data: tuple[tuple[str, str], ...] = ()
    cases: list[Case] = field(default_factory=list)
    after: list[int] = field(default_factory=list)  # messages that it comes after


@dataclass(slots=True, eq=False)
class _Item:
    """The entries of a column that are lined up, one of each of its devices."""

    entries: Sequence[_Entry]
    time: float  # where it stands among the others
    row: int = -1
    blocked_until: int = -1  # the last row in which the devices are blocked in it; -1 if it is no wait


def table(flow: Flow, by: str = "role") -> Table:
    """The flow table; `by` is "role" or "device".

    By role, devices of a role that did not all do the same have a column for each of the things they did.
    It has MOST_COLUMNS, MOST_ROWS and MOST_CELLS at most; a remark tells what was left out.
    """
    sequences = _sequences(flow)
    groups = _groups(flow, sequences, by)
    items = [_lined_up([sequences[device] for device in group]) for group in groups]
    layout = _Layout(flow, items)
    told = [words.sentence(trouble) for trouble in words.troubles(flow)]
    rows = min(MOST_ROWS, MOST_CELLS // min(max(1, len(groups)), MOST_COLUMNS))
    remarks = [words.ending(flow), *told[:_MOST_TROUBLES], LEGEND]
    for number, shown, what in (
        (len(told), _MOST_TROUBLES, "sentences about waits"),
        (len(groups), MOST_COLUMNS, "columns"),
        (len(layout.heads), rows, "rows"),
    ):
        if number > shown:
            remarks.append(f"There are {number} {what}, of which these are the first {shown}.")
    sizes = Counter(device.role for device in flow.devices.values())
    return Table(
        tuple(_column(flow, group, sizes) for group in groups[:MOST_COLUMNS]),
        tuple(_rows(flow, groups[:MOST_COLUMNS], layout, rows)),
        "time",
        tuple(remarks),
    )


def _groups(flow: Flow, sequences: dict[str, list[_Entry]], by: str) -> list[list[str]]:
    """The devices of each column; roles stay together, in the order in which they joined."""
    of_role: dict[str, list[str]] = defaultdict(list)
    for device in flow.devices.values():
        of_role[device.role].append(device.name)
    alike: dict[tuple[object, ...], list[str]] = {}
    for name in (name for names in of_role.values() for name in names):
        device = flow.devices[name]
        same: object = name if by == "device" else tuple(entry.key for entry in sequences[name])
        alike.setdefault((device.role, same), []).append(name)
    return list(alike.values())


def _column(flow: Flow, group: list[str], sizes: Counter[str]) -> Column:
    device = flow.devices[group[0]]
    of_role = sizes[device.role]
    if len(group) == 1:
        return Column(device.name, "" if device.name == device.role else device.role)
    number = f"{len(group)} devices" if len(group) == of_role else f"{len(group)} of {of_role} devices"
    return Column(device.role, f"{number}: {enumerated(group)}" if len(group) < of_role else number)


# What each device did


def _sequences(flow: Flow) -> dict[str, list[_Entry]]:
    sequences: dict[str, list[_Entry]] = {name: [] for name in flow.devices}
    ended: dict[str, list[int]] = {name: [] for name in flow.devices}
    announced = {message.wait: message.number for message in flow.messages}
    for step, following in zip_longest(flow.steps, flow.steps[1:]):
        sequence = sequences[step.device]
        entry = _entry(flow, step)
        if entry is not None and entry.cases and sequence and sequence[-1].cases:
            # Results that came one after the other share a cell.
            entry, own = sequence[-1], entry
            entry.cases += own.cases
            entry.time = own.time
        elif entry is not None:
            entry.after, ended[step.device] = ended[step.device], []
            sequence.append(entry)
        if step.act is Act.WAIT_END:
            ended[step.device] += _last(flow.waits[step.number])
        if entry is not None and entry.wait is not None:
            entry.message = announced.get(step.number)
            if following == Step(Act.WAIT_END, step.device, step.time, step.number):
                # It was there already: only then does nothing stand between the two.
                entry.after += _last(entry.wait)
    for wait in flow.waits:
        if wait.how is How.OPEN:
            missing = enumerated(wait.missing, more=wait.more)
            whom = f"waits for {missing}" if missing else ""
            sequences[wait.device].append(
                _Entry(("open", wait.call), "still blocked", flow.end, bad=True, note=whom)
            )
    for sequence in sequences.values():
        for entry in sequence:
            if entry.cases:
                _tell_results(entry)
    return sequences


def _last(wait: Wait) -> list[int]:
    return [] if wait.last is None else [wait.last]


def _entry(flow: Flow, step: Step) -> _Entry | None:
    """What the step is in the table, None if nothing."""
    time, number = step.time, step.number
    match step.act:
        case Act.SEND:
            message = flow.messages[number]
            text = message.call
            return _Entry((text,), text, time, message=number, data=message.data)
        case Act.WAIT:
            wait = flow.waits[number]
            return _Entry((wait.call,), wait.call, time, wait=wait)
        case Act.WAIT_END:
            wait = flow.waits[number]
            if wait.how is How.FULFILLED:
                return None
            note = wait.reason.removeprefix(f"{wait.how.value} ")
            return _Entry(("ended", wait.how), wait.how.value, time, bad=True, note=note)
        case Act.JOIN:
            return _Entry(("joined",), "joined again", time) if number else None
        case Act.LEAVE:
            reason = flow.devices[step.device].stays[number].reason
            return _Entry(("left", reason), reason, time, leaves=True)
        case Act.RUN_START:
            text = f"begin run {flow.runs[number].name}"
            return _Entry((text,), text, time)
        case Act.RUN_END:
            run = flow.runs[number]
            how = f"status {run.status}" if run.status else run.reason
            text = f"run {run.name} {'ended early' if run.ended_early else 'ended'}"
            return _Entry((text, how), text, time, bad=run.ended_early or bool(run.status), note=how)
        case Act.RESULT:
            return _Entry((), "", time, cases=[flow.cases[number]])
        case Act.REMARK:
            remark = flow.remarks[number]
            text = f"{'' if remark.kind == 'refused' else 'lava-test-'}{remark.kind} {remark.text}"
            return _Entry((text,), text, time, bad=remark.kind in FAILING)


def _tell_results(entry: _Entry) -> None:
    """Put into words what the cases of an entry are."""
    cases = entry.cases
    entry.key = ("results", *((case.id, case.result) for case in cases))
    counts = Counter(case.result for case in cases)
    if len(cases) == 1:
        entry.text = f"{cases[0].result}: {cases[0].id}"
    else:
        failed = [case.id for case in cases if case.result == "fail"]
        named = ", ".join(failed[:_MOST_FAILED]) + (", ..." if len(failed) > _MOST_FAILED else "")
        entry.text = ", ".join(f"{number} {word}" for word, number in counts.items())
        entry.note = f"failed: {named}" if failed else ""
    entry.bad = bool(counts["fail"])


# Where it stands


def _lined_up(lane: list[list[_Entry]]) -> list[_Item]:
    items: list[_Item] = []
    latest = 0.0
    for entries in zip(*lane, strict=True):
        times = [entry.time for entry in entries]
        is_send = entries[0].wait is None and entries[0].message is not None
        latest = max(latest, max(times) if is_send else min(times))
        items.append(_Item(entries, latest))
    return items


class _Layout:
    """Puts items into rows."""

    def __init__(self, flow: Flow, items: list[list[_Item]]) -> None:
        self.items = items
        self.heads: list[float] = []  # when the rows begin
        self._messages = flow.messages
        self._gap = flow.end * _GAP
        every = [(item, entry) for column in items for item in column for entry in item.entries]
        self._senders = {entry.message: item for item, entry in every if entry.message is not None}
        self._waiters = {entry.wait.number: item for item, entry in every if entry.wait is not None}
        self._place()
        for item, entry in every:
            if entry.wait is not None:
                last = entry.wait.last
                row = len(self.heads) if last is None else self._senders[last].row
                item.blocked_until = max(item.blocked_until, row)

    def _in_order(self) -> Iterator[tuple[int, _Item]]:
        """The items, each with its lane: by time, but behind those that they come after."""
        following = [0] * len(self.items)
        # The next item of each lane by time: those that may be placed, and those that come after another one.
        ready: list[tuple[float, int, int]] = []  # time, lane, place in it
        held: list[tuple[float, int, int]] = []
        held_by: dict[_Item, list[int]] = defaultdict(list)

        def offer(lane: int) -> None:
            item = self.items[lane][following[lane]]
            holder = self._holder(item)
            heapq.heappush(ready if holder is None else held, (item.time, lane, following[lane]))
            if holder is not None:
                held_by[holder].append(lane)

        for lane, column in enumerate(self.items):
            if column:
                offer(lane)
        while ready or held:
            # Lined up, devices can seem to have waited for what came later; then the time decides alone.
            _, lane, place = heapq.heappop(ready or held)
            if place < following[lane]:
                continue  # It has been placed since.
            item = self.items[lane][place]
            yield lane, item
            following[lane] += 1
            if following[lane] < len(self.items[lane]):
                offer(lane)
            for waiting in held_by.pop(item, ()):
                if following[waiting] < len(self.items[waiting]):
                    offer(waiting)

    def _place(self) -> None:
        taken: set[int] = set()
        for lane, item in self._in_order():
            late = bool(self.heads) and item.time - self.heads[-1] > self._gap
            if not self.heads or late or lane in taken or self._stands_below(item):
                # A later row has no earlier time, also where what it came after did.
                self.heads.append(max(item.time, self.heads[-1]) if self.heads else item.time)
                taken = set()
            item.row = len(self.heads) - 1
            taken.add(lane)

    def _holder(self, item: _Item) -> _Item | None:
        """An item that has to be placed before this one."""
        before = (self._senders[number] for entry in item.entries for number in entry.after)
        return next((sender for sender in before if sender.row < 0), None)

    def _stands_below(self, item: _Item) -> bool:
        """Whether the newest row has something that this has to stand below."""
        row = len(self.heads) - 1
        for entry in item.entries:
            if any(self._senders[number].row == row for number in entry.after):
                return True
            if entry.message is not None:
                for number in self._messages[entry.message].released:
                    waiter = self._waiters[number]
                    # The calls of one barrier stand side by side.
                    if waiter.row == row and waiter.entries[0].key != item.entries[0].key:
                        return True
        return False


def _rows(flow: Flow, groups: list[list[str]], layout: _Layout, number: int) -> Iterator[Row]:
    columns = []
    heads = layout.heads[:number]
    for group, items in zip(groups, layout.items, strict=False):
        columns.append(list(_cells(heads, items, flow.devices[group[0]])))
    for place, head in enumerate(heads):
        yield Row(tuple(column[place] for column in columns), words.clock(head, flow.end))


def _cells(heads: list[float], items: list[_Item], device: Device) -> Iterator[Cell]:
    """The cells of one column, from top to bottom."""
    placed = {item.row: item for item in items}
    newest: _Item | None = None
    for row, head in enumerate(heads):
        if row in placed:
            newest = placed[row]
            yield _cell(newest)
        elif newest is None:
            yield Cell(Kind.RUNNING if device.stays[0].joined <= head else Kind.ABSENT)
        elif newest.entries[0].leaves:
            yield Cell(Kind.ABSENT)
        else:
            yield Cell(Kind.BLOCKED if row <= newest.blocked_until else Kind.RUNNING)


def _cell(item: _Item) -> Cell:
    first = item.entries[0]
    text = first.text
    pairs = [dict(entry.data) for entry in item.entries]
    for key, _ in first.data:
        values = {own.get(key) for own in pairs}
        text += f" {key}={values.pop() if len(values) == 1 else '...'}"
    notes = dict.fromkeys(entry.note for entry in item.entries)
    note = next(iter(notes)) if len(notes) == 1 else ""
    times = [entry.wait.seconds for entry in item.entries if entry.wait is not None]
    if times and max(times) >= _SHORTEST_TOLD:
        least, most = words.duration(min(times)), words.duration(max(times))
        note = most if least == most else f"{least} to {most}"
    return Cell(Kind.CALL, text, note, any(entry.bad for entry in item.entries))
