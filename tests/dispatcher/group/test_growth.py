# SPDX-License-Identifier: MIT
"""Work that grows with its input, and no faster: logs with many devices and many waits.

Counted are the lines of Python that are run, for logs of one and of four times the size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from dispatcher.group import coordinator, deadend
from dispatcher.group.coordinator import Coordinator
from dispatcher.group.doings import doings
from dispatcher.group.events import Event, Joined, Left, Released, Sent, Waiting, WaitKind, Whom
from dispatcher.report.flow import model, tables
from dispatcher.report.flow.files import written
from dispatcher.report.flow.model import Fold
from dispatcher.view.statusview import statuses


def join(number: int, role: str = "r") -> Joined:
    return Joined(0.0, f"d{number}", b"j%d" % number, role)


def leave(number: int) -> Left:
    return Left(0.0, f"d{number}", b"l%d" % number, "ended")


def send(number: int, message: bytes = b"x") -> Sent:
    return Sent(0.0, f"d{number}", b"s%d%s" % (number, message), message, ())


def wait(
    number: int, kind: WaitKind, message: bytes = b"x", whom: Whom = None, request: bytes = b""
) -> Waiting:
    return Waiting(0.0, f"d{number}", request or b"w%d" % number, kind, message, whom, None)


def time_out(number: int) -> Released:
    return Released(0.0, b"r%d" % number, b"w%d" % number, 1, "timed out")


WAIT, ALL, SYNC, LOCK, NEXT = WaitKind.WAIT, WaitKind.WAIT_ALL, WaitKind.SYNC, WaitKind.LOCK, WaitKind.NEXT


def laggard(size: int) -> Iterator[Event]:
    """All but one come to a barrier, and give it up."""
    yield from (wait(number, SYNC) for number in range(1, size))
    yield from (time_out(number) for number in range(1, size))


def laggards(size: int) -> Iterator[Event]:
    """Half of the devices wait for the others, which end one by one after they have sent it."""
    yield from (send(number) for number in range(1, size // 2))
    yield from (wait(number, ALL) for number in range(size // 2, size))
    yield from (leave(number) for number in range(1, size // 2))


def each_its_own(size: int) -> Iterator[Event]:
    """Each device waits for a message that nobody has sent; then they leave."""
    yield from (wait(number, ALL, b"x%d" % number) for number in range(size))
    yield from (leave(number) for number in range(size))


def one_with_many(size: int) -> Iterator[Event]:
    """One device waits for very many messages, while others come and go."""
    for number in range(size):
        yield wait(0, WAIT, b"x%d" % number, request=b"w%d" % number)
    yield from (leave(number) for number in range(1, size - 1))


def any_other(size: int) -> Iterator[Event]:
    """All wait for a message of any other, and leave."""
    yield from (wait(number, WAIT) for number in range(size))
    yield from (leave(number) for number in range(size))


def next_one(size: int) -> Iterator[Event]:
    yield from (wait(number, NEXT) for number in range(size))
    yield from (time_out(number) for number in range(size))


def too_late(size: int) -> Iterator[Event]:
    """Half of the devices have left when the others begin to wait for them."""
    yield from (leave(number) for number in range(size // 2))
    yield from (wait(number, ALL) for number in range(size // 2, size))


def after_all(size: int) -> Iterator[Event]:
    """Half of the devices have sent and left when the others, one by one, wait for a last one."""
    yield from (send(number) for number in range(size // 2))
    yield from (leave(number) for number in range(size // 2))
    yield from (wait(number, ALL) for number in range(size // 2, size - 1))


def numbers(size: int) -> Iterator[Event]:
    """Each waits for so many others, each for another number of them."""
    for number in range(1, size):
        yield wait(number, SYNC, b"x%d" % number, number)
    yield from (leave(number) for number in range(1, size))


def names(size: int) -> Iterator[Event]:
    """Each waits for its neighbour."""
    for number in range(1, size):
        yield wait(number, ALL, b"x", (f"d{number - 1}",))
    yield from (leave(number) for number in range(1, size))


def lock(size: int) -> Iterator[Event]:
    """All wait for one lock, and those that wait leave."""
    yield from (wait(number, LOCK) for number in range(size))
    yield from (leave(number) for number in range(1, size))


LOGS = (
    *(laggard, laggards, each_its_own, one_with_many, any_other, next_one, too_late, after_all, numbers),
    *(names, lock),
)


def steps(function: Callable[[], object]) -> int:
    """The lines of Python that this runs."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def fold(log: Callable[[int], Iterator[Event]], size: int, part: int) -> Coordinator:
    """The group after so many of four parts of the log."""
    folded = Coordinator()
    events = list(log(size))
    for event in [*map(join, range(size)), *events[: len(events) * part // 4]]:
        folded.apply(event)
    return folded


def looked_at(log: Callable[[int], Iterator[Event]], size: int) -> None:
    """All that is told of a group while it works."""
    for part in (2, 4):
        state = fold(log, size, part)
        doings(state, 0.0)
        statuses([name for name, _ in state.members], state, ended={}, counts={})
        deadend.find(state, [name for name, _ in state.members], 0.0)


def drawn(log: Callable[[int], Iterator[Event]], size: int) -> None:
    flow = Fold()
    for event in [*map(join, range(size)), *log(size)]:
        flow.apply(event)
    for form in ("text", "html"):
        written(flow.finish(), form, "x")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is bounded is bounded for small logs, too."""
    monkeypatch.setattr(tables, "MOST_COLUMNS", 8)
    monkeypatch.setattr(deadend, "MAX_LOOKED_AT", 1000)
    for module in (coordinator, model):
        monkeypatch.setattr(module, "MAX_LOOKED_AT", 8)
        monkeypatch.setattr(module, "MAX_NAMED", 4)


@pytest.mark.parametrize("what", [looked_at, drawn])
@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.__name__)
def test_work_grows_no_faster_than_the_log(
    log: Callable[[int], Iterator[Event]], what: Callable[[Callable[[int], Iterator[Event]], int], None]
) -> None:
    small, large = (steps(lambda size=size: what(log, size)) for size in (40, 160))  # type: ignore[misc]
    assert large < 5.5 * small


def test_a_group_that_is_too_large_is_not_judged() -> None:
    names = [f"d{number}" for number in range(31)]
    waits = [wait(number, ALL, b"x%d" % number) for number in range(len(names))]
    large = Coordinator()
    for event in [*map(join, range(len(names) + 2)), *waits]:
        assert deadend.too_large(large) == ""
        large.apply(event)
    assert deadend.stuck_devices(large, names) == set()
    assert deadend.too_large(large) == (
        "it has 33 devices and 31 different waits, too many to look for dead ends"
    )


def test_of_many_devices_that_are_missing_the_first_are_named_and_the_others_counted() -> None:
    state = fold(laggards, 40, 2)
    (first, *_) = state.open_waits()
    assert first.missing == ["d0"] and first.more == 19
    assert first.whom == "d0 and 19 more"
    assert state.unmet(first.waiting.identity) == "'x' from d0 and 19 more"
    assert doings(state, 0.0)["d20"] == ("waiting", "lava-wait-all x for d0 and 19 more, since 0.0 s")
