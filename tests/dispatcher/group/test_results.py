# SPDX-License-Identifier: MIT
"""Results folded from a log: what belongs to what, and what is a failure."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dispatcher.group.events import Event, Sent, Waiting, WaitKind
from dispatcher.group.results import (
    MAX_MALFORMED,
    MAX_OPEN_RUNS,
    Case,
    Counts,
    Malformed,
    Remark,
    Results,
    Run,
)
from dispatcher.reportable import REPORTS
from tests.dispatcher.group.play import joined, left, released, reported


class Play:
    """A log as it is written: each event a second after the one before, and 100 bytes behind it."""

    def __init__(self, *devices: str) -> None:
        self.results = Results()
        self.time = 0.0
        for device in devices or ("a",):
            self.results.apply(joined(device, f"role of {device}"))

    def tell(self, kind: str, *fields: str | None, device: str = "a") -> Case | None:
        self.time += 1
        position = int(self.time) * 100
        return self.results.apply(reported(device, kind, *fields, time=self.time, position=position))

    def passed(self, name: str, device: str = "a") -> Case:
        case = self.tell("result", name, "pass", None, None, device=device)
        assert case is not None
        return case

    def leave(self, device: str = "a") -> None:
        self.time += 1
        self.results.apply(left(device, "was killed by SIGKILL", self.time))

    def sentences(self, *, over: bool = False) -> list[str]:
        return [failure.sentence for failure in self.results.failures(over=over)]


def test_a_result() -> None:
    play = Play()
    case = play.tell("result", "boot", "fail", "12.50", "s")
    assert case == Case("a", None, None, "boot", "fail", "12.50", "s", None, 1.0, 100, None, None, None)
    assert play.results.cases == [case]


def test_a_reference() -> None:
    play = Play()
    case = play.tell("reference", "boot", "skip", "http://x")
    assert case == Case("a", None, None, "boot", "skip", None, None, "http://x", 1.0, 100, None, None, None)


def test_output_of_a_test() -> None:
    play = Play()
    play.tell("case-start", "a")
    play.tell("case-start", "b")
    play.tell("case-end", "b")
    play.tell("case-end", "a")
    inner, outer, other = play.passed("b"), play.passed("a"), play.passed("a")
    assert (inner.start, inner.end, inner.seconds) == (200, 300, 1.0)
    assert (outer.start, outer.end, outer.seconds) == (100, 400, 3.0)
    # One mark is for one result.
    assert (other.start, other.end, other.seconds) == (None, None, None)


def test_output_without_an_end_or_a_beginning() -> None:
    play = Play()
    play.tell("case-end", "x")
    play.tell("case-start", "x")
    case = play.passed("x")
    assert (case.start, case.end, case.seconds) == (200, None, 1.0)


def test_the_clock_is_set_back() -> None:
    play = Play()
    play.tell("case-start", "x")
    play.time -= 10
    assert play.passed("x").seconds == 0.0


def test_marks_are_a_devices_own() -> None:
    play = Play("a", "b")
    play.tell("case-start", "x", device="b")
    assert play.passed("x", "a").start is None
    assert play.passed("x", "b").start == 100


def test_counts() -> None:
    play = Play("a", "b")
    assert str(play.results.counts) == "no results"
    for number, result in enumerate(("pass", "pass", "fail", "skip", "unknown", "unknown")):
        play.tell("result", "x", result, None, None, device="ab"[number % 2])
    assert play.results.counts == Counts(2, 1, 1, 2)
    assert str(play.results.counts) == "2 passed, 1 failed, 1 skipped, 2 unknown"
    assert str(Counts(failed=3)) == "3 failed"


def test_sets() -> None:
    play = Play("a", "b")
    sets = []
    for kind, *fields in (("set-stop",), ("set-start", "one"), ("set-start", "two"), ("set-stop",)):
        play.tell(kind, *fields)
        sets.append(play.results.open_set("a"))
        assert play.passed("x").set == sets[-1]
        assert play.passed("x", "b").set is None
    assert sets == [None, "one", "two", None]


def test_runs() -> None:
    play = Play("a", "b")
    outside = play.passed("x")
    play.tell("run-start", "smoke", "u1")
    inside, other = play.passed("x"), play.passed("x", "b")
    play.tell("run-end", "smoke", "u1", "0")
    after = play.passed("x")
    assert [case.run for case in (outside, inside, other, after)] == [None, 0, None, None]
    assert play.results.runs == [Run("a", "smoke", "u1", 2.0, 5.0, 0)]


def test_a_set_ends_with_the_run_it_began_in() -> None:
    play = Play()
    play.tell("set-start", "outer")
    play.tell("run-start", "one", "")
    assert play.passed("x").set == "outer"
    play.tell("run-end", "one", "", "0")
    assert play.passed("x").set == "outer"
    play.tell("run-start", "two", "")
    play.tell("set-start", "inner")
    play.tell("run-end", "two", "", "0")
    assert play.passed("x").set is None


def test_a_run_that_is_told_twice_is_one() -> None:
    """By frames of lava-test-runner, and by text signals of the script that it runs."""
    play = Play()
    play.tell("run-start", "0_smoke", "u1")
    play.tell("run-start", "0_smoke", "u1")
    assert play.passed("x").run == 0
    play.tell("run-end", "0_smoke", "u1", None)
    play.tell("run-end", "0_smoke", "u1", "3")
    play.tell("run-end", "0_smoke", "u1", "4")
    assert play.results.runs == [Run("a", "0_smoke", "u1", 1.0, 4.0, 3)]


def test_a_run_again_is_another() -> None:
    play = Play()
    for _ in range(2):
        play.tell("run-start", "0_smoke", "u1")
        play.tell("run-end", "0_smoke", "u1", "0")
    assert [run.started for run in play.results.runs] == [1.0, 3.0]


def test_runs_inside_each_other() -> None:
    play = Play()
    play.tell("run-start", "outer", "")
    play.tell("run-start", "inner", "")
    assert play.passed("x").run == 1
    play.tell("run-end", "inner", "", "0")
    assert play.passed("x").run == 0
    play.tell("run-start", "lost", "")
    play.tell("run-end", "outer", "", "0")
    assert play.passed("x").run is None
    outer, inner, lost = play.results.runs
    assert not outer.ended_early
    assert not inner.ended_early
    assert lost == Run("a", "lost", "", 6.0, 7.0, None, True, "the run around it ended")


def test_the_end_of_a_run_that_never_began() -> None:
    play = Play("a", "b")
    play.tell("run-start", "smoke", "u1")
    play.tell("run-end", "smoke", "u2", "0")
    play.tell("run-end", "smoke", "u1", "0", device="b")
    assert play.results.runs == [Run("a", "smoke", "u1", 1.0)]


def test_endless_runs_inside_each_other() -> None:
    play = Play()
    for number in range(3 * MAX_OPEN_RUNS + 1):
        play.tell("run-start", str(number), "")
    ended = [run for run in play.results.runs if run.ended_early]
    assert len(ended) == 3 * MAX_OPEN_RUNS
    assert {run.reason for run in ended} == {"too many runs began inside it"}


def test_a_device_that_leaves() -> None:
    play = Play("a", "b")
    play.tell("set-start", "net")
    play.tell("case-start", "x")
    play.tell("run-start", "outer", "")
    play.tell("run-start", "inner", "")
    play.tell("run-start", "others", "", device="b")
    play.leave()
    reason = "the device was killed by SIGKILL"
    assert play.results.runs[:2] == [
        Run("a", "outer", "", 3.0, 6.0, None, True, reason),
        Run("a", "inner", "", 4.0, 6.0, None, True, reason),
    ]
    assert play.results.runs[2].ended is None
    play.results.apply(joined("a", "another role", 7.0))
    after = play.passed("x")
    assert (after.set, after.run, after.start) == (None, None, None)
    assert play.results.devices == [("a", "role of a"), ("b", "role of b")]


def test_remarks() -> None:
    play = Play()
    play.tell("event", "outside")
    play.tell("run-start", "smoke", "")
    play.tell("raise", "no network")
    play.tell("feedback", "ns")
    assert play.results.remarks == [
        Remark("a", None, "event", "outside", 1.0, 100),
        Remark("a", 0, "raise", "no network", 3.0, 300),
        Remark("a", 0, "feedback", "ns", 4.0, 400),
    ]


def test_malformed_signals() -> None:
    play = Play("a", "b")
    for number in range(MAX_MALFORMED + 2):
        play.tell("malformed", f"<LAVA_SIGNAL_{number}", "why")
    count, last = play.results.malformed("a")
    assert count == MAX_MALFORMED + 2
    assert last[0] == Malformed("<LAVA_SIGNAL_2", "why", 3.0, 300)
    play.tell("malformed", "<LAVA_SIGNAL_", "why", "1000")
    assert play.results.malformed("a")[0] == MAX_MALFORMED + 1002
    assert len(last) == MAX_MALFORMED
    assert play.results.malformed("b") == (0, [])


def test_what_fails() -> None:
    play = Play("a", "b")
    play.tell("result", "one", "fail", None, None)
    for result in ("pass", "skip", "unknown"):
        play.tell("result", "x", result, None, None)
    play.tell("set-start", "net")
    play.tell("result", "two", "fail", None, None)
    play.tell("run-start", "smoke", "")
    play.tell("result", "three", "fail", None, None)
    play.tell("set-stop")
    play.tell("reference", "f" * 100, "fail", "http://x")
    play.tell("raise", "no network")
    play.tell("run-end", "smoke", "", "1")
    play.tell("run-start", "fine", "")
    play.tell("run-end", "fine", "", "0")
    play.tell("run-start", "lost", "")
    play.leave()
    play.tell("run-start", "open", "", device="b")
    sentences = [
        "test 'one' failed",
        "test 'two' failed (set 'net')",
        "test 'three' failed (set 'net', run 'smoke')",
        f"test '{'f' * 80}...' failed (run 'smoke')",
        "run 'smoke' ended with status 1",
        "run 'lost' ended early: the device was killed by SIGKILL",
        "lava-test-raise: no network",
    ]
    assert play.sentences() == sentences
    # Whoever is sure that no more comes knows one more.
    assert play.sentences(over=True) == [*sentences[:-1], "run 'open' did not finish", sentences[-1]]
    kinds = [(failure.kind, failure.device, failure.run) for failure in play.results.failures(over=True)]
    assert kinds == [
        *[("case", "a", None)] * 2,
        *[("case", "a", 0)] * 2,
        *[("run", "a", 0), ("run", "a", 2), ("run", "b", 3), ("raise", "a", 0)],
    ]


def test_a_wait_that_failed_is_a_failed_result() -> None:
    play = Play()
    play.tell("run-start", "smoke", "")
    play.tell("set-start", "net")
    wait = Waiting(3.0, "a", b"w", WaitKind.WAIT, b"ready", None, None, position=42)
    case = play.results.fail_wait(wait, 10.5)
    name = "multinode-wait-ready"
    assert case == Case("a", 0, "net", name, "fail", None, None, None, 10.5, 42, None, None, 7.5)
    assert play.results.cases == [case]
    assert play.results.counts == Counts(failed=1)
    assert play.sentences() == [f"test '{name}' failed (set 'net', run 'smoke')"]
    assert play.results.fail_wait(replace(wait, message_id=b"\xff"), 0.0).id == "multinode-wait-\udcff"
    # The clock was set back.
    assert play.results.cases[1].seconds == 0.0


def test_other_events_change_nothing() -> None:
    play = Play()
    assert play.results.apply(Sent(1.0, "a", b"r", b"x", ())) is None
    assert play.results.apply(released(b"r")) is None
    assert play.results.cases == []


def test_a_device_that_never_joined() -> None:
    with pytest.raises(KeyError):
        Play().passed("x", "stranger")


names = st.sampled_from(["x", "y"])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "result": st.sampled_from(["pass", "fail", "skip", "unknown"]),
    "measurement": st.none() | st.just("1"),
    "units": st.none() | names,
    "uuid": st.just(""),
    "status": st.none() | st.sampled_from(["0", "1"]),
    "count": st.none() | st.sampled_from(["1", "3"]),
}
told = st.sampled_from(sorted(REPORTS)).flatmap(
    lambda kind: st.tuples(
        st.sampled_from("ab"), st.just(kind), st.tuples(*(VALUES.get(name, names) for name in REPORTS[kind]))
    )
)
leaving = st.tuples(st.sampled_from("ab"), st.just("left"), st.just(()))


@settings(deadline=None)
@given(st.lists(told | leaving, max_size=40))
def test_whatever_is_told(steps: list[tuple[str, str, tuple[str | None, ...]]]) -> None:
    """Devices do not disturb each other, all results are there, and runs are told apart."""
    both = Results()
    alone = {name: Results() for name in "ab"}
    told_results = 0
    for time, (device, kind, fields) in enumerate([("a", "joined", ()), ("b", "joined", ()), *steps]):
        event: Event
        if kind == "joined":
            event = joined(device, "role", time)
        elif kind == "left":
            event = left(device, "died", time)
        else:
            event = reported(device, kind, *fields, time=time, position=time)
        told_results += kind in ("result", "reference")
        both.apply(event)
        alone[device].apply(event)
    assert len(both.cases) == told_results == sum(both.counts)
    for name, results in alone.items():
        mine = [case for case in both.cases if case.device == name]
        assert [(case.id, case.set, case.start, case.end) for case in mine] == [
            (case.id, case.set, case.start, case.end) for case in results.cases
        ]
        runs = [run for run in both.runs if run.device == name]
        assert runs == results.runs
        assert both.malformed(name) == results.malformed(name)
        for case, same in zip(mine, results.cases, strict=True):
            assert (case.run is None) == (same.run is None)
            if case.run is not None and same.run is not None:
                assert both.runs[case.run] is not None
                assert both.runs[case.run] == results.runs[same.run]
                assert both.runs[case.run].started <= case.time
    for run in both.runs:
        assert run.ended is None or run.started <= run.ended
        assert run.ended_early == bool(run.reason)
