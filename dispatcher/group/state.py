# SPDX-License-Identifier: MIT
"""The state of one group: its members, messages, waits, results, and what each device has put into the log.

It is a fold of the group log and of nothing else. No I/O, no clock: the same log gives the same state,
on whichever host and in whichever year it is folded.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from dispatcher.group.coordinator import Coordinator
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
)
from dispatcher.group.results import Case, Results

# What an event and a pair take in memory beside their own bytes, as measured.
EVENT_BYTES = 1024
PAIR_BYTES = 192
# Events that the results are folded of.
_OF_RESULTS = (Reported, Joined, Left)


class Change(msgspec.Struct, frozen=True):
    """What one event did.

    :param ended: the requests that ended, in the order in which they were made; `Coordinator.outcome` says how.
    :param failed: the waits among them that failed, each with its reason.
    :param cases: the results that came of it.
    """

    ended: Sequence[bytes] = ()
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
        self._bytes: defaultdict[str, int] = defaultdict(int)

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
        coordinator, kind = self.coordinator, type(event)
        if (kind is Founded) is not (self.founded is None) and not coordinator.known(event.identity):
            if self.founded is None:
                raise ValueError("the log does not begin with the event that founds its group")
            raise ValueError("the group is founded twice")
        ended = coordinator.advance(event)
        if ended is None:
            return _NOTHING
        self.changes += 1
        size_of = _SIZES.get(kind)
        if size_of is not None:
            self._bytes[event.device] += size_of(event)  # type: ignore[union-attr]
        elif type(event) is Founded:
            self.founded = event
        case = self.results.apply(event) if kind in _OF_RESULTS else None
        if case is None and not coordinator.failed:
            # Nearly always: a log has a million of them.
            return Change(ended) if ended else _NOTHING
        cases = [] if case is None else [case]
        failed = [coordinator.failed[request] for request in ended if request in coordinator.failed]
        cases += [self.results.fail_wait(wait, event.time) for wait, _ in failed if not wait.own_timeout]
        return Change(ended, failed, cases)


def size(event: Asked) -> int:
    """What the event takes, at most, in bytes of memory."""
    return _SIZES[type(event)](event)


def _size_of_waiting(event: Waiting) -> int:
    number = EVENT_BYTES + len(event.message_id)
    if event.or_ids:
        number += sum(map(len, event.or_ids))
    return number + PAIR_BYTES * len(event.whom) if isinstance(event.whom, tuple) else number


def _size_of_sent(event: Sent) -> int:
    number = EVENT_BYTES + len(event.message_id)
    for key, value in event.data:
        number += PAIR_BYTES + len(key) + len(value)
    return number


def _size_of_reported(event: Reported) -> int:
    return EVENT_BYTES + 4 * sum([len(field) for field in event.fields if field])


# Of the events that count for their device's share of the log.
_SIZES: dict[type[Event], Callable[[Any], int]] = {
    Waiting: _size_of_waiting,
    Sent: _size_of_sent,
    Reported: _size_of_reported,
    Taken: lambda event: EVENT_BYTES,
    Unlocked: lambda event: EVENT_BYTES + len(event.name),
}
