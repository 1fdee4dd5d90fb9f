# SPDX-License-Identifier: MIT
"""Takes the messages of a group from a consumer of its stream, each once and in the order of the stream.

A consumer numbers what it sends. Where a number lacks, or where nothing comes for longer than its heart
beats, there is a new consumer to be made, which begins after the last message that came: `begin`.
"""

from enum import Enum

# Seconds between two heartbeats of a consumer, and after which it is given up.
HEARTBEAT = 1.0
SILENCE = 2.5 * HEARTBEAT


class Arrival(Enum):
    """What has come."""

    EVENTS = "the next message of the group"
    NOTHING = "a sign of life"
    GAP = "this consumer has left something out, or is gone"


class Follower:
    """The place in the stream; `last` is the number of the last message that came."""

    def __init__(self) -> None:
        self.last = 0
        self.caught_up = False  # nothing more was there when the last message was sent
        self._count = 0
        self._heard = 0.0

    def begin(self, now: float) -> int:
        """There is a new consumer; returns the number of the message from which on it is to send."""
        self._count, self._heard = 0, now
        return self.last + 1

    def receive(self, reply: str, status: str | None, last_of_consumer: str | None, now: float) -> Arrival:
        """Take what the consumer sent.

        :param reply: the subject that names what it is.
        :param status: its header, if it is no message of the stream.
        :param last_of_consumer: the header of a heartbeat that says how many messages were sent.
        """
        self._heard = now
        if status == "100":
            lacks = last_of_consumer is not None and last_of_consumer != str(self._count)
            return Arrival.GAP if lacks else Arrival.NOTHING
        numbers = _numbers(reply)
        if status is not None or numbers is None:
            return Arrival.GAP
        of_stream, of_consumer, left = numbers
        if of_consumer != self._count + 1 or of_stream <= self.last:
            return Arrival.GAP
        self._count, self.last = of_consumer, of_stream
        self.caught_up = left == 0
        return Arrival.EVENTS

    def next_timeout(self) -> float:
        """When the consumer is given up, if nothing comes."""
        return self._heard + SILENCE


def _numbers(reply: str) -> tuple[int, int, int] | None:
    """Numbers of a message: in the stream, of the consumer, and how many come after it."""
    # $JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE.NUMBER.TIME.PENDING; newer servers put two words before the
    # stream, and may put one at the end.
    tokens = reply.split(".")
    if tokens[:2] != ["$JS", "ACK"] or len(tokens) < 9:
        return None
    begin = 5 if len(tokens) == 9 else 7
    try:
        of_stream, of_consumer, _, left = (int(token) for token in tokens[begin : begin + 4])
    except ValueError:
        return None
    return of_stream, of_consumer, left
