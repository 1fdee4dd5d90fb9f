# SPDX-License-Identifier: MIT
"""What the operator is told of commands that are used as they are not meant: mostly mistakes of a test.

A message that is sent again is told of only where a wait finds other data by it than all that was sent. A
wait that ends at once, called again without a pause and without end, is told of when there were very many calls.
"""

from dispatcher.group.coordinator import Coordinator
from dispatcher.group.events import Sent, Waiting, WaitKind
from dispatcher.group.wording import command, shown

# Calls of one wait, one right after the other, that are told of: so many, ten times as many, and so on. A pause
# between two calls is longer than this, in seconds, also at 9600 baud.
MANY_CALLS = 100
NO_PAUSE = 0.5


class Calls:
    """The waits of one device: how often it has called the same one without a pause."""

    __slots__ = ("_count", "_last", "_told_next")

    def __init__(self) -> None:
        self._last: Waiting | None = None
        self._count = 0
        self._told_next = MANY_CALLS

    def add(self, wait: Waiting) -> str:
        """Note a wait of the device, of any kind but a lava-lock; returns a clause if it is to be told of, else ""."""
        last, self._last = self._last, wait
        same = last is not None and (wait.kind, wait.ids, wait.whom) == (last.kind, last.ids, last.whom)
        # (Each of the other kinds waits for something new.)
        if last is None or not same or wait.kind not in (WaitKind.WAIT, WaitKind.WAIT_ALL):
            self._count, self._told_next = 1, MANY_CALLS
        elif wait.time - last.time > NO_PAUSE:
            self._count = 1
        else:
            self._count += 1
            if self._count == self._told_next:
                self._told_next *= 10
                return f"has called {command(wait)} {self._count} times without a pause: in a loop that should end?"
        return ""


class Repetitions:
    """Messages that devices of this host have sent again."""

    def __init__(self) -> None:
        # By id, who has: of those that nobody has waited for so far.
        self._unawaited: dict[bytes, dict[str, None]] = {}

    def send(self, event: Sent, coordinator: Coordinator) -> list[tuple[str, str]]:
        """Note a message of a device here that is not folded yet; returns what to tell, by device."""
        if coordinator.sent_before(event.device, event.message_id):
            awaited = coordinator.awaited_by(event.message_id)
            if awaited is None:
                self._unawaited.setdefault(event.message_id, {})[event.device] = None
            elif awaited is not WaitKind.NEXT:
                return [_told(event.device, event.message_id)]
        return []

    def wait(self, wait: Waiting) -> list[tuple[str, str]]:
        """Note a wait of any device, of any kind but a lava-lock; returns what to tell, by device."""
        told = []
        for message_id in wait.ids:
            for sender in self._unawaited.pop(message_id, ()):
                if wait.kind is not WaitKind.NEXT:
                    told.append(_told(sender, message_id))
        return told


def _told(device: str, message_id: bytes) -> tuple[str, str]:
    text = (
        f"sent '{shown(message_id)}' again: a repeated key replaces the earlier message, new keys add to it"
    )
    return device, text
