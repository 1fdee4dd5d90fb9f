# SPDX-License-Identifier: MIT
"""The state of one group: its members, messages, waits, results, and what each device has put into the log.

It is a fold of the group log and of nothing else. No I/O, no clock: the same log gives the same state,
on whichever host and in whichever year it is folded.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

from dispatcher.group.coordinator import Coordinator, Outcome
from dispatcher.group.events import (
    Asked,
    Event,
    Founded,
    Joined,
    Left,
    Reported,
    Sent,
    Taken,
    Unlocked,
    Waiting,
    Whom,
)
from dispatcher.group.results import Case, Results

# What an event and a pair take in memory beside their own bytes, as measured.
EVENT_BYTES = 1024
PAIR_BYTES = 192
# Events that count for their device's share of the log, and those that the results are folded of.
_OF_SHARES = (Waiting, Sent, Reported, Taken, Unlocked)
_OF_RESULTS = (Reported, Joined, Left)


class Change(NamedTuple):
    """What one event did.

    :param outcomes: how requests ended, in the order in which they were made.
    :param failed: the waits among them that failed, each with its reason.
    :param cases: the results that came of it.
    """

    outcomes: Sequence[Outcome] = ()
    failed: Sequence[tuple[Waiting, str]] = ()
    cases: Sequence[Case] = ()


_NOTHING = Change()


class GroupState:
    """One group. `apply` is the only way to change it."""

    def __init__(self) -> None:
        self.founded: Founded | None = None
        self.coordinator = Coordinator()
        self.results = Results()
        self.changes = 0  # counts the events
        self._bytes: dict[str, int] = {}

    @property
    def number(self) -> int:
        """32 bits that name the group and its log, for the links of its devices."""
        assert self.founded is not None, "the log has to be opened first"
        return zlib.crc32(self.founded.identity)

    def known(self, identity: bytes) -> bool:
        """Whether the log holds an event with this identity."""
        return self.coordinator.known(identity)

    def role(self, device: str) -> str | None:
        """The device's role; None if it neither joined nor was declared."""
        return self.coordinator.role(device)

    def bytes_of(self, device: str) -> int:
        """What the events of this device take, in bytes of memory."""
        return self._bytes.get(device, 0)

    def apply(self, event: Event) -> Change:
        """Take the next event of the log. One whose identity is known changes nothing.

        Raises ValueError for an event that can't be in the log of a group at this place: the first one is no
        `Founded`, or a device never joined. The state is then as before.
        """
        if self.coordinator.known(event.identity):
            return _NOTHING
        if (self.founded is None) != isinstance(event, Founded):
            if self.founded is None:
                raise ValueError("the log does not begin with the event that founds its group")
            raise ValueError("the group is founded twice")
        outcomes = self.coordinator.apply_new(event)
        self.changes += 1
        if isinstance(event, _OF_SHARES):
            self._bytes[event.device] = self._bytes.get(event.device, 0) + size(event)
        elif isinstance(event, Founded):
            self.founded = event
        case = self.results.apply(event) if isinstance(event, _OF_RESULTS) else None
        cases = [] if case is None else [case]
        if not cases and not outcomes:
            return _NOTHING
        waits = self.coordinator.failed
        if not waits:
            return Change(outcomes, [], cases)
        failed = [
            (wait, outcome.reason) for outcome in outcomes if (wait := waits.get(outcome.request)) is not None
        ]
        cases += [self.results.fail_wait(wait, event.time) for wait, _ in failed if not wait.own_timeout]
        return Change(outcomes, failed, cases)


def size(event: Asked) -> int:
    """What the event takes, at most, in bytes of memory."""
    match event:
        case Sent():
            number = EVENT_BYTES + len(event.message_id)
            for key, value in event.data:
                number += PAIR_BYTES + len(key) + len(value)
            return number
        case Waiting():
            more = sum(map(len, event.or_ids)) if event.or_ids else 0
            return EVENT_BYTES + len(event.message_id) + more + _size_of_whom(event.whom)
        case Taken():
            return EVENT_BYTES
        case Unlocked():
            return EVENT_BYTES + len(event.name)
        case Reported():
            return EVENT_BYTES + 4 * sum([len(field) for field in event.fields if field])


def _size_of_whom(whom: Whom) -> int:
    return PAIR_BYTES * len(whom) if isinstance(whom, tuple) else 0
