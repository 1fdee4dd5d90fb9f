# SPDX-License-Identifier: MIT
"""A group log in the memory of one process: nothing but its order.

The events themselves are kept by whoever folds them.
"""

from dispatcher.group.events import Event, Founded
from dispatcher.grouplog import Broken, Deliver, Failed, Notice


class MemoryGroupLog:
    """Delivers each event as it is appended."""

    async def open(
        self, founded: Founded, deliver: Deliver, failed: Failed, notice: Notice, broken: Broken
    ) -> None:
        """Begin with the event that founds the group."""
        self._deliver = deliver
        deliver(founded)

    def append(self, event: Event) -> None:
        """Deliver the event."""
        self._deliver(event)

    async def close(self) -> None:
        """There is nothing to close."""
