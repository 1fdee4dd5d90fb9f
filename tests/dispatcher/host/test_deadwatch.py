# SPDX-License-Identifier: MIT
"""When dead ends are looked for: in the simulator by the processes, in a lab by silence."""

from collections.abc import Mapping, Sequence

import pytest

from dispatcher.group.deadend import DeadEnd
from dispatcher.group.events import Left, Released, Waiting
from dispatcher.host.deadwatch import FIRST_PAUSE, LONGEST_PAUSE, SETTLE, QuietWatch, SimulatorWatch, Watch
from tests.dispatcher.test_engine import Group

TWO = {"s-1": "server", "c-1": "client"}


class Processes:
    """What the devices' processes are said to be."""

    def __init__(self) -> None:
        self.idle: dict[str, frozenset[int]] = {}
        self.looks = 0

    def look(self, waits: Mapping[str, Sequence[Waiting]]) -> dict[str, frozenset[int]]:
        self.looks += 1
        return {name: pids for name, pids in self.idle.items() if name in waits}


class Watched:
    """A group, and a watch that is called when it wants to be."""

    def __init__(self, members: dict[str, str] | None = None) -> None:
        self.group = Group(members=members or TWO)
        self.processes = Processes()
        self.watch: Watch = SimulatorWatch(self.group.engine, self.processes.look)

    def until(self, end: float) -> list[tuple[float, DeadEnd]]:
        """The dead ends that are found, and when."""
        found = []
        self.watch.note(self.group.now)
        while True:
            due = self.watch.next_timeout()
            if due is None or due > end:
                self.group.pass_time(end - self.group.now)
                return found
            self.group.pass_time(max(0.0, due - self.group.now))
            dead_end = self.watch.handle_timeout(self.group.now)
            if dead_end is not None:
                found.append((self.group.now, dead_end))
            self.watch.note(self.group.now)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def wait_for_each_other(watched: Watched) -> None:
    watched.group.ask("s-1", "wait", b"a", None)
    watched.group.ask("c-1", "wait", b"b", None)


IDLE = {"s-1": frozenset({1}), "c-1": frozenset({2})}


def test_two_looks_that_show_the_same_are_believed(watched: Watched) -> None:
    wait_for_each_other(watched)
    watched.processes.idle = IDLE
    ((time, dead_end),) = watched.until(10.0)
    assert time == pytest.approx(2 * SETTLE)
    assert dead_end.devices == ["s-1", "c-1"]


def test_processes_that_come_and_go_between_looks_are_not(watched: Watched) -> None:
    wait_for_each_other(watched)
    watched.processes.idle = dict(IDLE)
    watched.until(1.5 * SETTLE)
    watched.processes.idle["c-1"] = frozenset({3})
    assert watched.until(2.5 * SETTLE) == []
    # It is found when they stay the same.
    assert len(watched.until(10.0)) == 1


def test_a_wait_that_takes_the_place_of_another_between_looks_is_looked_at_anew(watched: Watched) -> None:
    wait_for_each_other(watched)
    watched.processes.idle = IDLE
    watched.until(1.5 * SETTLE)
    (request,) = [w.waiting.request for w in watched.group.engine.coordinator.open_waits()][:1]
    watched.group.log.append(Released(0.0, request, 130, "cancelled"))
    watched.group.ask("s-1", "wait", b"a", None)
    assert watched.until(2.4 * SETTLE) == []
    assert len(watched.until(10.0)) == 1


def test_nobody_is_looked_at_while_the_log_says_that_somebody_may_send(watched: Watched) -> None:
    watched.group.ask("s-1", "wait", b"a", None)
    watched.processes.idle = IDLE
    assert watched.until(100.0) == []
    watched.group.ask("c-1", "wait", b"a", 50_000)
    assert watched.until(140.0) == []
    assert watched.processes.looks == 0


def test_looks_become_rarer_and_find_what_ends_without_a_word(watched: Watched) -> None:
    wait_for_each_other(watched)
    assert watched.until(100.0) == []
    assert watched.processes.looks < 3 + 100 / LONGEST_PAUSE + 5
    watched.processes.idle = IDLE
    ((time, _),) = watched.until(200.0)
    assert time <= 100 + LONGEST_PAUSE + SETTLE + 0.001


def test_looks_are_frequent_again_after_an_event(watched: Watched) -> None:
    wait_for_each_other(watched)
    watched.until(60.0)
    watched.group.ask("c-1", "send", b"other", [])
    looks = watched.processes.looks
    watched.until(60.0 + SETTLE + FIRST_PAUSE + 0.01)
    assert watched.processes.looks == looks + 2


def test_a_group_that_is_busy_is_looked_at_all_the_same() -> None:
    watched = Watched({**TWO, "o-1": "observer"})
    watched.group.ask("s-1", "wait-all", b"a", "client", None)
    watched.group.ask("c-1", "wait-all", b"b", "server", None)
    watched.processes.idle = IDLE
    found = []
    for number in range(20):
        watched.group.ask("o-1", "send", b"progress", [b"k", b"%d" % number])
        found += watched.until(watched.group.now + SETTLE / 3)
    assert len(found) >= 1


def test_failed_waits_are_answered(watched: Watched) -> None:
    tag = watched.group.ask("s-1", "wait", b"a", None)
    watched.group.ask("c-1", "wait", b"b", None)
    watched.processes.idle = IDLE
    ((time, dead_end),) = watched.until(1.0)
    watched.group.engine.fail(dead_end, time)
    watched.group.pump()
    assert watched.group.reply("s-1", tag) == (
        1,
        ["dead end: c-1 never sent 'a' and waits itself in `lava-wait b`"],
    )
    assert watched.group.open_waits() == []
    assert [event.status for event in watched.group.events(Released)] == [1, 1]
    # Once is enough.
    watched.group.engine.fail(dead_end, time)
    assert len(watched.group.events(Released)) == 2


# In a lab


@pytest.fixture
def lab() -> Watched:
    watched = Watched()
    watched.watch = QuietWatch(watched.group.engine, 60.0, fails=False)
    return watched


def test_silence_is_told_once(lab: Watched) -> None:
    wait_for_each_other(lab)
    ((time, dead_end),) = lab.until(10_000.0)
    assert time == pytest.approx(60.0)
    assert dead_end.sentences[0].startswith(
        "dead end: s-1 has waited 1 min in `lava-wait a`: c-1 never sent 'a'"
    )


def test_output_breaks_the_silence(lab: Watched) -> None:
    wait_for_each_other(lab)
    lab.until(50.0)
    lab.group.feed("c-1", b"working\n")
    assert lab.until(109.0) == []
    ((time, _),) = lab.until(200.0)
    assert time == pytest.approx(110.0)


def test_it_is_told_again_when_things_have_changed(lab: Watched) -> None:
    wait_for_each_other(lab)
    assert len(lab.until(100.0)) == 1
    lab.group.ask("c-1", "send", b"a", [])
    lab.group.pump()
    assert lab.until(300.0) == []
    lab.group.ask("s-1", "wait", b"c", None)
    ((time, _),) = lab.until(1000.0)
    assert time == pytest.approx(360.0)


def test_one_device_that_does_not_wait_is_enough(lab: Watched) -> None:
    lab.group.ask("s-1", "wait", b"a", None)
    assert lab.until(1000.0) == []
    lab.group.ask("c-1", "wait", b"b", 900_000)
    assert lab.until(1899.0) == []


def test_devices_that_have_left_do_not_count() -> None:
    watched = Watched({**TWO, "o-1": "observer"})
    watched.watch = QuietWatch(watched.group.engine, 60.0, fails=True)
    wait_for_each_other(watched)
    assert watched.until(100.0) == []
    watched.group.engine.leave("o-1", "ended", 100.0)
    assert isinstance(watched.group.log.events[-1], Left)
    assert len(watched.until(200.0)) == 1
