# SPDX-License-Identifier: MIT
"""A group log in the memory of one process."""

from collections.abc import Callable, Iterable

from dispatcher.group.events import Event


class MemoryGroupLog:
    """A list of events, and the readers that are called with each of them in turn."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = list(events)
        self._subscribers: list[Callable[[Event], object]] = []
        self._delivered = len(self.events)
        self._delivering = False

    def subscribe(self, callback: Callable[[Event], object]) -> None:
        """Call `callback` with each event: at once those in the log, later each one as it is appended."""
        position = 0
        # The end is looked at each time: the callback may append.
        while position < self._delivered:
            position += 1
            callback(self.events[position - 1])
        self._subscribers.append(callback)

    def append(self, event: Event) -> None:
        """Put the event at the end and call the subscribers, in the order they subscribed.

        A subscriber may append in turn: all subscribers see that event after the
        present one. What a subscriber raises comes out here; the event stays in the log.
        """
        self.events.append(event)
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._delivered < len(self.events):
                self._delivered += 1
                # A copy, as a callback may subscribe another, which is then given this event at once.
                for callback in tuple(self._subscribers):
                    callback(self.events[self._delivered - 1])
        finally:
            self._delivering = False
