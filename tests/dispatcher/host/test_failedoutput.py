# SPDX-License-Identifier: MIT
"""What failed tests have printed: the right bytes, and never more than so many."""

from dispatcher.group.results import Case
from dispatcher.host import failedoutput
from dispatcher.host.failedoutput import MAX_PIECE, MAX_TAIL, FailedOutput

CASE = Case("a", None, None, "x", "fail", None, None, None, 0.0, 0, None, None, None)


def output(position: int = 0) -> FailedOutput:
    made = FailedOutput()
    made.begin("a", position)
    return made


def test_of_a_marked_test() -> None:
    made = output(100)
    made.add("a", b"before, ")
    made.add("a", b"of the test, after")
    case = CASE._replace(start=108, end=119, position=126)
    made.note(case)
    assert made.pieces == {case: b"of the test"}


def test_of_others_what_came_since_the_result_before() -> None:
    made = output()
    made.add("a", b"one\ntwo\n")
    made.note(CASE._replace(result="pass", position=4))
    made.note(second := CASE._replace(position=8))
    assert made.pieces == {second: b"two\n"}


def test_of_passed_tests_and_other_devices_nothing_is_kept() -> None:
    made = output()
    made.add("a", b"text")
    made.note(CASE._replace(result="pass", position=4))
    made.note(CASE._replace(device="elsewhere", position=4))
    # It printed nothing.
    made.note(CASE._replace(position=4))
    assert made.pieces == {}


def test_a_long_one_keeps_its_end() -> None:
    made = output()
    made.add("a", b"x" * 1000 + b"y" * MAX_PIECE)
    made.note(case := CASE._replace(position=1000 + MAX_PIECE))
    assert made.pieces == {case: b"[1000 bytes before this are left out]\n" + b"y" * MAX_PIECE}


def test_what_is_gone_is_not_made_up() -> None:
    made = output()
    for _ in range(5):
        made.add("a", b"x" * MAX_TAIL)
    made.note(CASE._replace(start=0, end=10, position=5 * MAX_TAIL))
    # What does not fit the log at all, as events of another version might not.
    made.note(CASE._replace(start=10**9, end=10**9 + 5, position=0))
    made.note(CASE._replace(start=5 * MAX_TAIL, end=5 * MAX_TAIL - 7, position=0))
    assert made.pieces == {}


def test_of_a_thousand_tests_and_no_more() -> None:
    made = output()
    for number in range(1, failedoutput.MAX_PIECES + 10):
        made.add("a", b"x")
        made.note(CASE._replace(position=number))
    assert len(made.pieces) == failedoutput.MAX_PIECES
