# SPDX-License-Identifier: MIT
"""Where the log of a group lives: the one difference between kinds of dispatcher.

`memory` holds it for the life of one process, `file` also keeps it on disk.
"""

import json
from collections.abc import Callable
from typing import Protocol

from dispatcher.errors import SetupError
from dispatcher.group.events import Event, Founded, to_json

# Takes each event of the log, in the one order of the log.
Deliver = Callable[[Event], object]
# Takes a sentence about the log for the operator.
Notice = Callable[[str], object]


class Failed(Protocol):
    """Takes the identity of an event that could not be appended, and a clause that says why."""

    def __call__(self, identity: bytes, why: str, /, *, may_come: bool = False) -> object:
        """`may_come`: that it is not in the log is not known; it did not come in time."""


class GroupLogError(SetupError):
    """A log can't be opened; the text says which, why, and what to do."""


# Takes why a log that was open can't go on: nothing is delivered any more, and what is appended fails.
Broken = Callable[[GroupLogError], object]


class GroupLog(Protocol):
    """An ordered list of events, which all its readers see alike."""

    async def open(
        self, founded: Founded, deliver: Deliver, failed: Failed, notice: Notice, broken: Broken
    ) -> None:
        """Begin: the events that the log holds are delivered before this returns, later ones as they come.

        A log that is empty begins with `founded`. Raises GroupLogError, also if the log was founded with
        other members (see `check_founding`).
        """

    def append(self, event: Event) -> None:
        """Put the event at the end of the log; returns at once, raises nothing.

        The event comes back by `deliver`, or its identity by `failed`, perhaps before this returns.
        """

    async def close(self) -> None:
        """Nothing is delivered any more."""


def to_line(event: Event) -> bytes:
    """An event as logs keep it, without a line break."""
    return json.dumps(to_json(event), separators=(",", ":")).encode()


def check_founding(wanted: Founded, found: Founded, name: str) -> None:
    """Raises GroupLogError if the log was founded for other members than are wanted now.

    :param name: of the log, for a person.
    """
    for what, ours, theirs in (("members", wanted.members, found.members), ("size", wanted.size, found.size)):
        if ours is not None and ours != theirs:
            raise GroupLogError(
                f"{name}: the group was founded with {_declared(what, theirs)}, not with {_declared(what, ours)}"
            )


def _declared(what: str, value: int | tuple[tuple[str, str], ...] | None) -> str:
    if value is None:
        return f"no {what}"
    if isinstance(value, int):
        return f"the size {value}"
    return "the members " + ", ".join(f"{name}:{role}" for name, role in value)
