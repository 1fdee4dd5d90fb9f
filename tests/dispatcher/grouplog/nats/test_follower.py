# SPDX-License-Identifier: MIT
"""The follower: what a consumer sends, out of which nothing may lack and nothing come twice."""

import pytest

from dispatcher.grouplog.nats.follower import SILENCE, Arrival, Follower


def ack(of_stream: int, of_consumer: int, left: int = 0) -> str:
    return f"$JS.ACK.lavabox-lab.consumer.1.{of_stream}.{of_consumer}.1700000000000000000.{left}"


def long_ack(of_stream: int, of_consumer: int, left: int = 0) -> str:
    return (
        f"$JS.ACK._.hash.lavabox-lab.consumer.1.{of_stream}.{of_consumer}.1700000000000000000.{left}.random"
    )


@pytest.mark.parametrize("reply", [ack, long_ack], ids=["old form", "new form"])
def test_messages_in_order(reply: object) -> None:
    assert callable(reply)
    follower = Follower()
    assert follower.begin(10.0) == 1
    for of_stream, of_consumer, left in [(3, 1, 2), (4, 2, 1), (9, 3, 0)]:
        assert not follower.caught_up
        assert follower.receive(reply(of_stream, of_consumer, left), None, None, 11.0) is Arrival.EVENTS
        assert follower.last == of_stream
    assert follower.caught_up
    assert follower.next_timeout() == 11.0 + SILENCE
    # A new consumer goes on behind it, and counts anew.
    assert follower.begin(20.0) == 10
    assert follower.receive(reply(12, 1), None, None, 20.0) is Arrival.EVENTS


@pytest.mark.parametrize(
    ("reply", "status", "last"),
    [
        (ack(5, 3), None, None),
        (ack(4, 1), None, None),
        (ack(3, 2), None, None),
        ("", "100", "2"),
        ("", "409", None),
        ("elsewhere", None, None),
        ("$JS.ACK.a.b.1.x.y.z.0", None, None),
    ],
    ids=["one lacks", "counted anew", "again", "heartbeat after a loss", "error", "no reply", "no number"],
)
def test_a_gap(reply: str, status: str | None, last: str | None) -> None:
    follower = Follower()
    follower.begin(0.0)
    assert follower.receive(ack(3, 1), None, None, 0.0) is Arrival.EVENTS
    assert follower.receive(reply, status, last, 0.0) is Arrival.GAP
    assert follower.last == 3


def test_signs_of_life() -> None:
    follower = Follower()
    follower.begin(0.0)
    assert follower.receive("", "100", "0", 1.0) is Arrival.NOTHING
    assert follower.receive(ack(3, 1), None, None, 1.5) is Arrival.EVENTS
    assert follower.receive("", "100", "1", 2.0) is Arrival.NOTHING
    assert follower.receive("$JS.FC.lavabox-lab.consumer.x", "100", None, 3.0) is Arrival.NOTHING
    assert follower.next_timeout() == 3.0 + SILENCE
