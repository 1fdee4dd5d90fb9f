# SPDX-License-Identifier: MIT
"""The events of one host on their way into the log of its group.

    add --> take --> the log --> came
     ^                    |
     +-- due <-- keep <-- fail

An event whose append failed is kept and appended again a little later, and what comes meanwhile goes behind
it. One that a device's command asks for is not kept, as the command asks again. What is about a device that
has not joined yet is kept until its `Joined` has come.
"""

from collections.abc import Callable, Collection

from dispatcher.group.events import Event, Left, Lost, Reported, Resting, Sent, Taken, Unlocked, Waiting

# Seconds after which an append that failed, and that no command waits for, is tried again; and how many
# of them are kept.
RETRY_PAUSE = 1.0
MAX_UNAPPENDED = 10_000
# Events that commands ask for.
_ASKED_FOR = (Sent, Waiting, Taken, Unlocked)


class Appends:
    """Events until they are in the log, or nobody needs them there.

    :param host: what the identities of the host's own events begin with.
    :param joined: whether a device has joined, as far as the log has come.
    :param tell: is given sentences about the group for the operator.
    """

    def __init__(self, host: bytes, joined: Callable[[str], bool], tell: Callable[[str], object]) -> None:
        self._host = host
        self._joined = joined
        self._tell = tell
        self._pending: dict[bytes, Event] = {}  # to be appended, or on the way
        self._to_append: list[Event] = []
        self._failed: dict[bytes, Event] = {}  # to be appended again, at `retry_at`
        self._early: dict[bytes, Event] = {}  # of devices whose `Joined` is not in the log yet
        self._leaving: dict[bytes, str] = {}  # devices, by the identities of each `Left` on its way, or kept
        self._outage = False  # the last append failed
        self.retry_at: float | None = None

    @property
    def pending(self) -> Collection[Event]:
        """What is to be appended, or on the way."""
        return self._pending.values()

    def is_pending(self, identity: bytes) -> bool:
        """Whether this event is to be appended, or on the way."""
        return identity in self._pending

    def is_leaving(self, device: str) -> bool:
        """Whether a `Left` of this device is on its way, or kept."""
        return device in self._leaving.values()

    def __contains__(self, identity: bytes) -> bool:
        """Whether this event is pending, or is kept and will be."""
        return identity in self._pending or identity in self._failed or identity in self._early

    def add(self, event: Event) -> None:
        """Append an event, in its turn."""
        if isinstance(event, Left):
            self._leaving[event.identity] = event.device
        if self._failed and not self.comes_again(event):
            self._keep(event, self._failed)
        elif isinstance(event, Left | Lost | Reported) and not self._joined(event.device):
            # Its `Joined` is on the way, and may fail: before it, this means nothing to anybody.
            self._keep(event, self._early)
        else:
            self._pending[event.identity] = event
            self._to_append.append(event)

    def take(self) -> list[Event]:
        """What to append to the log now, in this order. Each comes back by `came` or `fail`."""
        events, self._to_append = self._to_append, []
        return events

    def came(self, identity: bytes) -> bool:
        """An event is in the log; returns whether it was on its way from here."""
        event = self._pending.pop(identity, None)
        if event is None:
            return False
        self._leaving.pop(identity, None)
        self._outage = False
        return True

    def fail(self, identity: bytes) -> Event | None:
        """An event is not in the log; returns it if it was on its way. `keep` appends it again later."""
        return self._pending.pop(identity, None)

    def note_outage(self, reason: str) -> None:
        """Tell that the log can't be written, once until something is written again; `reason` is a clause."""
        if not self._outage:
            self._outage = True
            self._tell(f"the group log can't be written: {reason}; trying again")

    def keep(self, event: Event, now: float) -> None:
        """Append an event again that failed: see `due`."""
        self._keep(event, self._failed)
        self.retry_at = now + RETRY_PAUSE

    def due(self, now: float) -> list[Event]:
        """What failed and is to be added again now."""
        if self.retry_at is None or now < self.retry_at:
            return []
        self.retry_at = None
        failed, self._failed = self._failed, {}
        return list(failed.values())

    def early(self) -> list[Event]:
        """What was kept for a `Joined`, to be added again, as one has come."""
        early, self._early = self._early, {}
        return list(early.values())

    def comes_again(self, event: Event) -> bool:
        """Whether its command asks for it again, or the next look at the devices' processes."""
        of_command = isinstance(event, _ASKED_FOR) and not event.identity.startswith(self._host)
        return of_command or isinstance(event, Resting)

    def _keep(self, event: Event, kept: dict[bytes, Event]) -> None:
        if len(kept) < MAX_UNAPPENDED:
            kept[event.identity] = event
            if len(kept) == MAX_UNAPPENDED:
                self._tell(f"{MAX_UNAPPENDED} events wait for the group log; further ones are lost")
        else:
            self._leaving.pop(event.identity, None)
