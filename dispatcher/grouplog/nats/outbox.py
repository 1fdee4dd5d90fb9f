# SPDX-License-Identifier: MIT
"""What one host has to append to a log: which events travel in which message, and how far each has come.

    waiting ──▶ in the one message under way ──▶ accepted ──▶ came back
                        │  refused, or too late
                        ▼
                      failed

There is one message under way at a time; what is to be appended meanwhile goes into the next one. So
the order of one host's events holds whatever becomes of a message, also where it is not known: it is
repeated with the same identity, as long as its events do not come back. That costs no throughput, as
the slower the servers are, the more events there are in a message.
"""

from collections import deque
from dataclasses import dataclass

# Seconds that an event may take until it is in the log, or known not to be. The election of a new leader takes
# up to 8 of them, as measured; a command on a device waits a minute for its answer.
PATIENCE = 30.0
# Bytes of a message with several events.
MAX_BYTES = 64 * 1024


@dataclass(slots=True)
class _Entry:
    identity: bytes
    line: bytes
    too_late: float


@dataclass(frozen=True, slots=True)
class Message:
    """Events that are appended together or not at all.

    :param identity: of the message; the same events have the same.
    """

    identity: str
    payload: bytes


class Outbox:
    """Appends of one host."""

    def __init__(self) -> None:
        self._waiting: deque[_Entry] = deque()
        self._under_way: list[_Entry] = []
        self._accepted: dict[bytes, int] = {}
        self._singly = 0  # how many of those that wait travel alone

    @property
    def empty(self) -> bool:
        """Whether everything has come back or failed."""
        return not self._waiting and not self._under_way and not self._accepted

    def append(self, identity: bytes, line: bytes, now: float) -> None:
        """An event is to be appended; `line` is its JSON form, without line break."""
        self._waiting.append(_Entry(identity, line, now + PATIENCE))

    def message(self) -> Message | None:
        """What is to be published, again if it has been already; call `accepted` or `refused` then."""
        if not self._under_way:
            length = 0
            most = min(1, len(self._waiting)) if self._singly else len(self._waiting)
            while len(self._under_way) < most and (
                not self._under_way or length + len(self._waiting[0].line) <= MAX_BYTES
            ):
                entry = self._waiting.popleft()
                length += len(entry.line) + 1
                self._under_way.append(entry)
                self._singly = max(0, self._singly - 1)
        if not self._under_way:
            return None
        first, last = self._under_way[0].identity, self._under_way[-1].identity
        return Message(
            f"{first.hex()}-{last.hex()}-{len(self._under_way)}",
            b"\n".join(entry.line for entry in self._under_way),
        )

    def accepted(self, message: Message, sequence: int, last: int) -> None:
        """The servers have it, as the message `sequence` of the stream; `last` is the last one that came."""
        if message == self.message():
            if sequence > last:
                self._accepted.update((entry.identity, sequence) for entry in self._under_way)
            self._under_way = []

    def refused(self, message: Message) -> list[bytes]:
        """The servers do not take it; returns the identities of its events that have failed.

        If it has several, none has: each travels alone then, as only one of them may be at fault.
        """
        if message != self.message():
            return []
        entries, self._under_way = self._under_way, []
        if len(entries) > 1:
            self._waiting.extendleft(reversed(entries))
            self._singly = len(entries)
            return []
        return [entry.identity for entry in entries]

    def came_back(self, identity: bytes) -> None:
        """An event came out of the log, one's own or another's."""
        self._accepted.pop(identity, None)
        if self._under_way:
            self._under_way = [entry for entry in self._under_way if entry.identity != identity]

    def next_timeout(self) -> float | None:
        """When `expire` has to be called."""
        entries = self._under_way or self._waiting
        return entries[0].too_late if entries else None

    def expire(self, now: float) -> list[bytes]:
        """Give up what is too late; returns the identities of these events, which may be in the log or not."""
        failed = []
        for entries in (self._under_way, self._waiting):
            while entries and entries[0].too_late <= now:
                failed.append(entries[0].identity)
                del entries[0]
        return failed
