# SPDX-License-Identifier: MIT
"""Where the log of a group lives: the one difference between kinds of dispatcher.

`memory` holds it for the life of one process, `file` also keeps it on disk.
"""

from collections.abc import Callable
from typing import Protocol

from dispatcher.group.events import Event


class GroupLog(Protocol):
    """An ordered list of events that several readers fold.

    Every reader is given every event, in the one order of the log.
    """

    def append(self, event: Event) -> None:
        """Put the event at the end of the log."""

    def subscribe(self, callback: Callable[[Event], object]) -> None:
        """Call `callback` with each event: at once those in the log, later each one as it is appended."""
