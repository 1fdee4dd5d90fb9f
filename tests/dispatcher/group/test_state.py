# SPDX-License-Identifier: MIT
"""The state of a group: one fold of its log, for members, waits, results and quotas."""

import zlib

import pytest
from msgspec.structs import replace

from dispatcher.group.events import Event, Released, Sent, Waiting, WaitKind
from dispatcher.group.state import EVENT_BYTES, PAIR_BYTES, Change, GroupState
from tests.dispatcher.group.play import founded, joined, left, released, reported
from toolkit.wire.vocabulary import OK


def state(*events: Event) -> GroupState:
    """A group of a and b in which this has happened."""
    folded = GroupState()
    for event in (founded(), joined("a", "client"), joined("b", "server"), *events):
        folded.apply(event)
    return folded


def wait(device: str, identity: bytes, message_id: bytes = b"x", *, own: bool = False) -> Waiting:
    return Waiting(1.0, device, identity, WaitKind.WAIT, message_id, None, None, own, 5)


def sent(device: str, identity: bytes, *pairs: tuple[bytes, bytes]) -> Sent:
    return Sent(2.0, device, identity, b"x", pairs)


def test_the_number_of_a_group_is_that_of_its_log() -> None:
    event = founded()
    one, other = GroupState(), GroupState()
    for folded in (one, other):
        folded.apply(event)
    assert one.number == other.number == zlib.crc32(event.identity)
    assert state().number != one.number


def test_what_one_event_did() -> None:
    folded = state(wait("a", b"w"))
    change = folded.apply(sent("b", b"s", (b"k", b"v")))
    assert list(change.ended) == [b"w", b"s"]
    assert not change.failed
    assert not change.cases
    change = folded.apply(reported("a", "result", "t", "pass", None, None))
    assert [case.id for case in change.cases] == ["t"]


def test_a_wait_that_fails_as_the_group_becomes_complete_is_a_result() -> None:
    folded = GroupState()
    for event in (founded(size=2), joined("a", "client")):
        folded.apply(event)
    nobody = Waiting(1.0, "a", b"w", WaitKind.WAIT_ALL, b"x", "nosuch", None, False, 5)
    assert not folded.apply(nobody).ended
    change = folded.apply(joined("b", "server"))
    assert [wait for wait, _ in change.failed] == [nobody]
    assert [(case.id, case.result) for case in change.cases] == [("multinode-wait-all-x", "fail")]


def test_waits_that_fail_are_told_and_are_results() -> None:
    folded = state(wait("a", b"w1"), wait("a", b"w2", own=True), wait("b", b"w3"))
    change = folded.apply(released(b"w1", reason="dead end: b waits itself", time=9.0))
    assert change.failed == [(wait("a", b"w1"), "dead end: b waits itself")]
    assert [(case.id, case.result, case.seconds) for case in change.cases] == [
        ("multinode-wait-x", "fail", 8.0)
    ]
    # The script asked for it.
    change = folded.apply(released(b"w2", reason="timed out"))
    assert change.failed == [(wait("a", b"w2", own=True), "timed out")]
    assert change.cases == []
    # Nobody waits for it any more.
    change = folded.apply(released(b"w3", 130, "cancelled"))
    assert not change.failed
    assert not change.cases
    assert folded.results.counts.failed == 1


def test_a_device_that_leaves_fails_the_waits_of_others_only() -> None:
    folded = state(wait("a", b"w1"), wait("b", b"w2"))
    change = folded.apply(left("b"))
    assert [(waiting.identity, reason) for waiting, reason in change.failed] == [
        (b"w1", "b ended without sending 'x'")
    ]
    assert [case.device for case in change.cases] == ["a"]
    outcomes = [folded.coordinator.outcome(request) for request in change.ended]
    assert [outcome.status for outcome in outcomes if outcome is not None] == [1, 130]


def test_a_wait_that_is_hopeless_from_the_beginning_fails() -> None:
    folded = state(left("b"))
    (case,) = folded.apply(wait("a", b"w")).cases
    assert (case.id, case.position) == ("multinode-wait-x", 5)


def test_an_event_that_is_known_changes_nothing() -> None:
    events = (wait("a", b"w"), released(b"w"), sent("b", b"s", (b"k", b"v")), reported("a", "event", "x"))
    folded = state(*events)
    before = (folded.changes, folded.bytes_of("a"), folded.bytes_of("b"), len(folded.results.remarks))
    for event in events:
        assert folded.known(event.identity)
        assert folded.apply(event) == Change()
    assert before == (folded.changes, folded.bytes_of("a"), folded.bytes_of("b"), len(folded.results.remarks))


SENSELESS: dict[str, tuple[Event, str]] = {
    "a stranger": (sent("c", b"new"), "'c' never joined the group"),
    "a stranger's report": (reported("c", "event", "x", identity=b"new"), "'c' never joined the group"),
    "released as fulfilled": (Released(0.0, b"new", b"x", OK, ""), "a wait is released with the status 0"),
    "founded twice": (replace(founded(), identity=b"new"), "the group is founded twice"),
    **{
        f"{kind.value} of several ids": (
            Waiting(0.0, "a", b"new", kind, b"x", None, None, or_ids=(b"y",)),
            f"a {kind.value} of several ids",
        )
        for kind in WaitKind
        if kind is not WaitKind.WAIT
    },
}


@pytest.mark.parametrize("name", SENSELESS)
def test_an_event_that_makes_no_sense_is_refused_and_changes_nothing(name: str) -> None:
    event, sentence = SENSELESS[name]
    folded = state()
    with pytest.raises(ValueError, match=sentence):
        folded.apply(event)
    assert not folded.known(b"new")
    assert folded.changes == 3


def test_a_log_that_founds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="does not begin with the event that founds its group"):
        GroupState().apply(joined("a", "r"))


def test_what_each_device_has_put_into_the_log() -> None:
    folded = state(
        sent("a", b"1", (b"key", b"value"), (b"k", b"")), wait("a", b"2"), reported("b", "event", "hello")
    )
    assert folded.bytes_of("a") == 2 * (EVENT_BYTES + 1) + 2 * PAIR_BYTES + len("keyvaluek")
    assert folded.bytes_of("b") == EVENT_BYTES + 4 * len("hello")
    assert folded.bytes_of("c") == 0
