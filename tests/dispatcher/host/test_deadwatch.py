# SPDX-License-Identifier: MIT
"""When dead ends are looked for: in the simulator by the processes, in a lab by silence."""

from collections.abc import Mapping, Sequence

import pytest

from dispatcher.group.deadend import DeadEnd
from dispatcher.group.events import Founded, Joined, Left, Released, Resting, Waiting
from dispatcher.host.deadwatch import (
    BUSY_AFTER,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    SETTLE,
    UNSURE_AFTER,
    QuietWatch,
    SimulatorWatch,
    Watch,
)
from dispatcher.simulator.judge import Found
from tests.dispatcher.hosts import EPOCH, Asked, Host, Lab

TWO = {"s-1": "server", "c-1": "client"}


class Processes:
    """What the devices' processes are said to be."""

    def __init__(self) -> None:
        self.idle: dict[str, frozenset[int]] = {}
        self.doubt = ""
        self.busy = ""
        self.looks = 0

    def look(self, waits: Mapping[str, Sequence[Waiting]]) -> Found:
        self.looks += 1
        idle = {name: pids for name, pids in self.idle.items() if name in waits}
        return Found(idle, self.doubt, busy=self.busy)


class Watched:
    """A group, and a watch that is called when it wants to be."""

    def __init__(self, members: dict[str, str] | None = None) -> None:
        self.group = Lab(members or TWO)
        self.processes = Processes()
        self.watch: Watch = SimulatorWatch(self.group.engine, self.processes.look, dict)

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


def wait_for_each_other(watched: Watched) -> Asked:
    first = watched.group.ask("s-1", "wait", b"a", None)
    watched.group.ask("c-1", "wait", b"b", None)
    return first


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


def test_what_may_be_none_as_a_process_runs_is_told_of_once(watched: Watched) -> None:
    wait_for_each_other(watched)
    watched.processes.idle = {"s-1": frozenset({1})}
    watched.processes.busy = "c-1 has `serve` (process 2), which may do something yet"
    assert watched.until(BUSY_AFTER - 1) == []
    ((time, dead_end),) = watched.until(500.0)
    assert time < BUSY_AFTER + 3
    (sentence,) = dead_end.told
    assert sentence.startswith("perhaps a dead end: ")
    assert sentence.endswith(f" But {watched.processes.busy}. The waits go on")
    # When it has ended, it is one.
    watched.processes.idle = IDLE
    watched.processes.busy = ""
    assert [dead_end.doubt for _, dead_end in watched.until(600.0)] == [""]


def test_a_wait_that_takes_the_place_of_another_between_looks_is_looked_at_anew(watched: Watched) -> None:
    first = wait_for_each_other(watched)
    watched.processes.idle = IDLE
    watched.until(1.5 * SETTLE)
    watched.group.cancel(first)
    watched.group.ask("s-1", "wait", b"a", None)
    assert watched.until(2.4 * SETTLE) == []
    assert len(watched.until(10.0)) == 1


def test_nobody_is_looked_at_while_the_log_says_that_somebody_may_send(watched: Watched) -> None:
    watched.group.ask("s-1", "wait", b"a", None)
    watched.processes.idle = IDLE
    assert watched.until(100.0) == []
    watched.group.ask("c-1", "wait", b"a", 50_000, True)
    assert watched.until(140.0) == []
    assert watched.processes.looks == 0


def test_a_doubt_is_told_once_and_believed_when_it_is_gone(watched: Watched) -> None:
    wait_for_each_other(watched)
    watched.processes.idle, watched.processes.doubt = IDLE, "somebody may go on"
    ((_, told),) = watched.until(100.0)
    assert (told.doubt, told.devices) == ("somebody may go on", ["s-1", "c-1"])
    watched.processes.doubt = ""
    ((time, dead_end),) = watched.until(200.0)
    assert dead_end.doubt == ""
    assert time <= 100 + LONGEST_PAUSE + 0.001


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
    asked = watched.group.ask("s-1", "wait", b"a", None)
    watched.group.ask("c-1", "wait", b"b", None)
    watched.processes.idle = IDLE
    ((time, dead_end),) = watched.until(1.0)
    watched.group.engine.fail(dead_end, time)
    watched.group.turn()
    assert asked.reply == (1, ["dead end: c-1 never sent 'a' and waits itself in `lava-wait b`"])
    assert watched.group.open_waits() == []
    assert [event.status for event in watched.group.events(Released)] == [1, 1]
    # Once is enough.
    watched.group.engine.fail(dead_end, time)
    watched.group.turn()
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


def test_without_a_time_of_silence_nothing_is_told(lab: Watched) -> None:
    lab.watch = QuietWatch(lab.group.engine, 0.0, fails=False)
    wait_for_each_other(lab)
    assert lab.watch.next_timeout() is None
    assert lab.until(10_000.0) == [] and lab.watch.handle_timeout(10_000.0) is None


def test_output_breaks_the_silence(lab: Watched) -> None:
    wait_for_each_other(lab)
    lab.until(50.0)
    lab.group.engine.heard = lab.group.now  # as its attachment notes it
    assert lab.until(109.0) == []
    ((time, _),) = lab.until(200.0)
    assert time == pytest.approx(110.0)


def test_it_is_told_again_when_things_have_changed(lab: Watched) -> None:
    wait_for_each_other(lab)
    assert len(lab.until(100.0)) == 1
    lab.group.ask("c-1", "send", b"a", [])
    assert lab.until(300.0) == []
    lab.group.ask("s-1", "wait", b"c", None)
    ((time, _),) = lab.until(1000.0)
    assert time == pytest.approx(360.0)


def test_one_device_that_does_not_wait_is_enough(lab: Watched) -> None:
    lab.group.ask("s-1", "wait", b"a", None)
    assert lab.until(1000.0) == []
    lab.group.ask("c-1", "wait", b"b", 900_000, True)
    assert lab.until(1899.0) == []


def test_devices_that_have_left_do_not_count() -> None:
    watched = Watched({**TWO, "o-1": "observer"})
    watched.watch = QuietWatch(watched.group.engine, 60.0, fails=True)
    wait_for_each_other(watched)
    assert watched.until(100.0) == []
    watched.group.leave("o-1")
    assert isinstance(watched.group.log.events[-1], Left)
    assert len(watched.until(200.0)) == 1


def test_what_can_not_be_seen_is_not_judged() -> None:
    watched = Watched()
    watched.watch = QuietWatch(watched.group.engine, 60.0, lambda: {"c-1"}, fails=True)
    wait_for_each_other(watched)
    ((_, dead_end),) = watched.until(1000.0)
    (sentence,) = dead_end.told
    assert sentence.startswith("perhaps a dead end: s-1 has waited 1 min in `lava-wait a`: ")
    assert ". But the console of c-1 can't be seen here, and nothing tells whether" in sentence


# On several hosts


class Elsewhere:
    """A group whose devices are on two hosts, `s-1` on one and `c-1` on the other, each with a watch."""

    def __init__(self, *, size: int | None = 2, quiet: bool = False) -> None:
        self.group = Lab({"s-1": "server"}, log=[Founded(EPOCH, b"founded", size=size)])
        self.group.add_host({"c-1": "client"})
        self.processes = [Processes(), Processes()]
        self.watches: list[Watch] = [self.watch(place, quiet=quiet) for place in (0, 1)]

    def watch(self, place: int, *, quiet: bool = False) -> Watch:
        engine = self.group.hosts[place].engine
        if quiet:
            return QuietWatch(engine, 60.0, fails=False, shared=True)
        return SimulatorWatch(engine, self.processes[place].look, dict, shared=True)

    def wait_for_each_other(self) -> Asked:
        self.group.ask("s-1", "wait", b"a", None)
        return self.group.ask("c-1", "wait", b"b", None)

    def until(self, end: float, *, fail: bool = True) -> list[tuple[float, int, DeadEnd]]:
        """The dead ends that are found, when, and by which host."""
        found = []
        while True:
            for watch in self.watches:
                watch.note(self.group.now)
            times = [due for watch in self.watches if (due := watch.next_timeout()) is not None]
            if not times or min(times) > end:
                self.group.pass_time(end - self.group.now)
                return found
            self.group.pass_time(max(0.0, min(times) - self.group.now))
            for place, watch in enumerate(self.watches):
                dead_end = watch.handle_timeout(self.group.now)
                self.group.turn()
                if dead_end is not None:
                    found.append((self.group.now, place, dead_end))
                    if fail and not dead_end.doubt:
                        self.group.hosts[place].engine.fail(dead_end, self.group.now)
                        self.group.turn()


def rested(elsewhere: Elsewhere) -> list[tuple[list[bytes], str]]:
    """The devices of which a host has said that they rest, by the ids that they wait for."""
    ids = {event.identity: event.message_id for event in elsewhere.group.events(Waiting)}
    return [
        ([ids[request] for request in event.requests], event.doubt)
        for event in elsewhere.group.events(Resting)
    ]


def test_hosts_tell_each_other_what_they_see() -> None:
    two = Elsewhere()
    for processes in two.processes:
        processes.idle = IDLE
    asked = two.wait_for_each_other()
    ((time, place, dead_end),) = two.until(10.0)
    assert time < 1.0
    assert rested(two) == [([b"a"], ""), ([b"b"], "")]
    assert dead_end.devices == ["s-1", "c-1"]
    assert asked.reply == (1, ["dead end: s-1 never sent 'b' and waits itself in `lava-wait a`"])
    assert [host.engine.dead_ends for host in two.group.hosts] == [{"s-1": 1}, {"c-1": 1}]
    # The other host's operator learns it as well.
    told = [sentence for _, sentence in two.group.hosts[1 - place].notices]
    assert len(told) == 1
    assert "in `lava-wait " in told[0] and "dead end: " in told[0]
    assert len(two.group.events(Released)) == 2


def test_nobody_is_judged_by_what_another_host_does_not_say() -> None:
    two = Elsewhere()
    two.processes[0].idle = IDLE
    two.wait_for_each_other()
    ((time, place, told),) = two.until(100.0)
    assert place == 0
    assert UNSURE_AFTER < time < UNSURE_AFTER + LONGEST_PAUSE + 1
    assert told.doubt == "c-1 is on another host, and it is not known whether it does anything else", told
    assert two.group.events(Released) == []
    assert len(rested(two)) == 1
    # Its background process has ended.
    two.processes[1].idle = IDLE
    ((_, _, dead_end),) = two.until(200.0)
    assert dead_end.doubt == ""


def test_a_doubt_of_another_host_counts() -> None:
    two = Elsewhere()
    for processes in two.processes:
        processes.idle = IDLE
    two.processes[1].doubt = "somebody may go on"
    two.wait_for_each_other()
    assert {dead_end.doubt for _, _, dead_end in two.until(100.0)} == {"somebody may go on"}
    assert two.group.events(Released) == []
    two.processes[1].doubt = ""
    assert [dead_end.doubt for _, _, dead_end in two.until(200.0)] == [""]


@pytest.mark.parametrize("news", ["send", "a new wait", "a new console"])
def test_what_a_host_has_said_is_of_its_time(news: str) -> None:
    two = Elsewhere()
    two.processes[0].idle = IDLE
    two.wait_for_each_other()
    two.until(5.0)
    assert rested(two) == [([b"a"], "")]
    coordinator = two.group.engine.state.coordinator
    assert coordinator.resting(["s-1", "c-1"]) == {"s-1": ""}
    # It goes on doing something that its host has not looked at.
    two.processes[0].idle = {}
    two.processes[1].idle = IDLE
    if news == "send":
        two.group.ask("s-1", "send", b"x", [])
    elif news == "a new wait":
        two.group.ask("s-1", "wait", b"y", None)
    else:
        two.group.hosts[0].engine.lose("s-1", "connection lost", two.group.now)
        two.group.turn()
    assert coordinator.resting(["s-1", "c-1"]) == {}
    found = two.until(50.0)
    assert all(dead_end.doubt for _, _, dead_end in found)
    assert two.group.events(Released) == []


def test_a_new_wait_of_another_device_asks_for_a_new_look() -> None:
    two = Elsewhere()
    two.processes[0].idle = IDLE
    two.group.ask("s-1", "wait", b"a", None)
    two.group.ask("c-1", "wait", b"b", None)
    two.until(5.0)
    two.group.ask("c-1", "wait", b"c", None)
    assert two.group.engine.state.coordinator.resting(["s-1", "c-1"]) == {}
    two.until(10.0)
    assert rested(two) == [([b"a"], ""), ([b"a"], "")]


def test_what_is_said_late_says_nothing() -> None:
    two = Elsewhere()
    first = two.group.ask("s-1", "wait", b"a", None)
    (wait,) = two.group.engine.state.coordinator.waits()
    two.group.cancel(first)
    two.group.ask("s-1", "wait", b"a", None)
    two.group.engine.rest([wait], "", two.group.now)
    two.group.turn()
    assert two.group.engine.state.coordinator.resting(["s-1"]) == {}


def test_a_device_one_of_whose_waits_has_ended_goes_on() -> None:
    two = Elsewhere()
    two.processes[0].idle = IDLE
    two.group.ask("s-1", "wait", b"a", None)
    two.group.ask("s-1", "wait", b"b", None)
    two.group.ask("c-1", "wait", b"c", None)
    two.until(5.0)
    coordinator = two.group.engine.state.coordinator
    assert coordinator.resting(["s-1", "c-1"]) == {"s-1": ""}
    two.group.ask("c-1", "send", b"a", [])
    assert coordinator.resting(["s-1", "c-1"]) == {}


def test_who_was_not_declared_may_still_come() -> None:
    two = Elsewhere(size=None)
    for processes in two.processes:
        processes.idle = IDLE
    two.wait_for_each_other()
    found = two.until(100.0)
    assert {dead_end.doubt.partition(",")[0] for _, _, dead_end in found} == {
        "nobody has said who belongs to the group (--members"
    }
    assert two.group.events(Released) == []


def test_a_host_that_joins_a_group_that_waits() -> None:
    two = Elsewhere(size=3)
    for processes in two.processes:
        processes.idle = IDLE
    two.wait_for_each_other()
    assert two.until(30.0) == []
    host: Host = two.group.add_host({"o-1": "observer"})
    assert isinstance(two.group.log.events[-1], Joined)
    assert two.until(60.0) == []
    two.group.ask("o-1", "wait", b"c", None)
    two.processes.append(Processes())
    two.processes[2].idle = {"o-1": frozenset({7})}
    two.watches.append(SimulatorWatch(host.engine, two.processes[2].look, dict, shared=True))
    ((_, _, dead_end),) = two.until(90.0)
    assert len(dead_end.devices) == 3


def test_silence_on_all_hosts() -> None:
    two = Elsewhere(quiet=True)
    two.wait_for_each_other()
    found = two.until(10_000.0, fail=False)
    assert [(time, place, dead_end.doubt) for time, place, dead_end in found] == [
        (pytest.approx(60.0), 1, ""),
        (pytest.approx(60.0), 0, ""),
    ]


def test_silence_on_one_host() -> None:
    two = Elsewhere(quiet=True)
    two.wait_for_each_other()
    for time in range(50, 1000, 50):
        two.group.hosts[1].engine.heard = two.group.now  # c-1 prints something
        found = two.until(float(time), fail=False)
        assert all(dead_end.doubt.startswith("c-1 is on another host") for _, _, dead_end in found)
        assert len(found) == (time == 150)


def test_processes_are_not_judged_by_silence() -> None:
    two = Elsewhere()
    two.watches[1] = two.watch(1, quiet=True)
    two.processes[0].idle = IDLE
    two.wait_for_each_other()
    found = [(place, dead_end.doubt) for _, place, dead_end in two.until(1000.0, fail=False)]
    assert (0, "some devices are only known to be silent on their consoles") in found
    assert two.group.events(Released) == []
