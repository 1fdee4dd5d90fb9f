# SPDX-License-Identifier: MIT
"""The order in which events go to the log, and what becomes of those that fail."""

import pytest

from dispatcher.group import appends
from dispatcher.group.appends import RETRY_PAUSE, Appends
from dispatcher.group.events import Joined, Left, Released, Sent

HOST = b"the host"


def own(number: int) -> Released:
    """An event that the host makes up itself, so that nobody asks for it again."""
    return Released(0.0, HOST + number.to_bytes(4, "big"), b"request", 1, "reason")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def joined() -> set[str]:
    return set()


@pytest.fixture
def outgoing(joined: set[str], told: list[str]) -> Appends:
    return Appends(HOST, joined.__contains__, told.append)


def test_what_comes_behind_a_failed_event_stays_behind_it(outgoing):
    first, second, asked = own(1), own(2), Sent(0.0, "a", b"8 bytes.a", b"id", ())
    outgoing.add(first)
    assert outgoing.take() == [first] and outgoing.take() == []
    assert outgoing.fail(first.identity) is first
    outgoing.keep(first, 10.0)
    # (Its command would ask again, so this need not wait.)
    for event in (second, asked):
        outgoing.add(event)
    assert outgoing.take() == [asked]
    assert all(event.identity in outgoing for event in (first, second, asked))

    assert outgoing.retry_at == 10.0 + RETRY_PAUSE
    assert outgoing.due(10.5) == []
    assert outgoing.due(10.0 + RETRY_PAUSE) == [first, second]
    assert outgoing.retry_at is None


def test_what_is_about_a_device_waits_until_that_has_joined(outgoing, joined):
    left = Left(0.0, "a", HOST + b"left", "has ended")
    outgoing.add(left)
    outgoing.add(Joined(0.0, "a", HOST + b"join", "role"))
    assert [event.identity for event in outgoing.take()] == [HOST + b"join"]
    assert left.identity in outgoing and not outgoing.is_pending(left.identity)

    joined.add("a")
    assert outgoing.came(HOST + b"join")
    assert outgoing.early() == [left]
    assert outgoing.early() == [] and left.identity not in outgoing


def test_an_outage_is_told_of_once(outgoing, told):
    for _ in range(2):
        outgoing.note_outage("the disk is full")
    assert told == ["the group log can't be written: the disk is full; trying again"]
    # Another host's event says nothing of ours.
    assert not outgoing.came(b"other")
    outgoing.note_outage("the disk is full")
    outgoing.add(own(1))
    assert outgoing.came(own(1).identity)
    assert len(told) == 1
    outgoing.note_outage("the disk is full")
    assert len(told) == 2


def test_not_too_many_are_kept(outgoing, told, monkeypatch):
    monkeypatch.setattr(appends, "MAX_UNAPPENDED", 2)
    for number in range(4):
        outgoing.keep(own(number), 0.0)
    assert outgoing.due(RETRY_PAUSE) == [own(0), own(1)]
    assert told == ["2 events wait for the group log; further ones are lost"]


def test_a_device_is_leaving_until_that_is_in_the_log_or_lost(outgoing, joined, monkeypatch):
    joined.add("a")
    left = Left(0.0, "a", HOST + b"left", "has ended")
    outgoing.add(left)
    assert outgoing.is_leaving("a")
    outgoing.take()
    outgoing.keep(outgoing.fail(left.identity), 0.0)
    assert outgoing.is_leaving("a")
    for event in outgoing.due(RETRY_PAUSE):
        outgoing.add(event)
    assert outgoing.came(left.identity) and not outgoing.is_leaving("a")

    monkeypatch.setattr(appends, "MAX_UNAPPENDED", 1)
    outgoing.keep(own(1), 0.0)
    outgoing.add(left)
    assert left.identity not in outgoing and not outgoing.is_leaving("a")


def test_a_device_that_left_twice_is_leaving_until_both_are_in_the_log(outgoing, joined):
    """The first failed, and it has been back meanwhile: its `Left` that comes again would end newer waits."""
    joined.add("a")
    first, second = (Left(0.0, "a", HOST + name, "has ended") for name in (b"first", b"second"))
    outgoing.add(first)
    outgoing.add(second)
    outgoing.keep(outgoing.fail(first.identity), 0.0)
    assert outgoing.came(second.identity) and outgoing.is_leaving("a")
    for event in outgoing.due(RETRY_PAUSE):
        outgoing.add(event)
    assert outgoing.came(first.identity) and not outgoing.is_leaving("a")
