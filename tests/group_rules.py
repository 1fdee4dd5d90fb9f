# SPDX-License-Identifier: MIT
"""The rules of a group in their plainest form, folded from its log: what every command has to get.

It shares nothing with the coordinator but the events. After each event it looks at all open waits, and
at all that was sent: slow, short, and to be read beside docs/commands.md.
"""

from __future__ import annotations

from collections import Counter

from dispatcher.group.events import (
    Event,
    Founded,
    Joined,
    Left,
    Released,
    Sent,
    Taken,
    Unlocked,
    Waiting,
    WaitKind,
)


class Rules:
    """`apply` takes the events of a log, in order; the fields say what has come of them."""

    def __init__(self) -> None:
        self.fulfilled: dict[bytes, bool] = {}  # whether it ended well, of each request that has ended
        self.open: dict[bytes, Waiting] = {}  # in the order in which they began
        self.lent: dict[bytes, Waiting] = {}
        self.sent: dict[bytes, list[Sent]] = {}  # by id, in order; a lava-sync without data is among them
        self.chosen: dict[bytes, bytes] = {}  # by lava-wait --any: the id that was sent first
        self.given: dict[bytes, Sent] = {}  # by lava-wait --next
        self.holders: dict[bytes, str] = {}  # by the name of a lock
        self._claims: dict[bytes, Waiting] = {}
        self._known: set[bytes] = set()
        self._roles: dict[str, str] = {}
        self._expected: set[str] = set()
        self._gone: set[str] = set()
        self._numbers: dict[bytes, int] = {}  # of all messages
        self._times: dict[bytes, Counter[str]] = {}  # by id: how often each device has sent it
        self._rounds: Counter[tuple[str, bytes]] = Counter()  # lava-syncs of a device and id
        self._round: dict[bytes, int] = {}  # of each lava-sync
        self._unmet: set[tuple[str, bytes]] = set()  # whose newest lava-sync came to nothing
        self._passed: Counter[tuple[str, bytes]] = Counter()  # messages that --next has given

    def apply(self, event: Event) -> None:
        if event.identity in self._known:
            return
        self._known.add(event.identity)
        if isinstance(event, Founded):
            self._roles = dict(event.members or ())
            self._expected = set(self._roles)
        elif isinstance(event, Joined):
            self._roles[event.device] = event.role
            self._expected.discard(event.device)
            self._gone.discard(event.device)
        elif isinstance(event, Sent):
            self._send(event)
            self.fulfilled[event.identity] = True
        elif isinstance(event, Waiting):
            self._begin(event)
        elif isinstance(event, Taken):
            self.lent.pop(event.request, None)
            self.fulfilled[event.identity] = self.fulfilled.get(event.request, False)
        elif isinstance(event, Released):
            self._give_back(event.request)
        elif isinstance(event, Unlocked):
            self.fulfilled[event.identity] = bool(event.request) or (
                self.holders.get(event.name) == event.device
            )
            for claim in list(self._claims.values()):
                if claim.identity == event.request or (
                    not event.request and (claim.device, claim.message_id) == (event.device, event.name)
                ):
                    self._drop(claim)
        elif isinstance(event, Left):
            self._gone.add(event.device)
            for wait in [*self.open.values(), *self.lent.values()]:
                if wait.device == event.device:
                    self._give_back(wait.identity)
            for claim in list(self._claims.values()):
                if claim.device == event.device:
                    self._drop(claim)
        else:
            return
        for wait in list(self.open.values()):
            how = self._judge(wait)
            if how is not None:
                self._end(wait, how)

    # -- what an event does

    def _send(self, message: Sent) -> None:
        self.sent.setdefault(message.message_id, []).append(message)
        self._numbers[message.identity] = len(self._numbers)
        self._times.setdefault(message.message_id, Counter())[message.device] += 1

    def _begin(self, wait: Waiting) -> None:
        self.open[wait.identity] = wait
        if wait.kind is not WaitKind.SYNC:
            return
        key = (wait.device, wait.message_id)
        if key in self._unmet:
            self._unmet.discard(key)  # it stands for the one that came to nothing
        else:
            self._rounds[key] += 1
            self._send(Sent(wait.time, wait.device, wait.identity, wait.message_id, ()))
        self._round[wait.identity] = self._rounds[key]

    def _end(self, wait: Waiting, well: bool) -> None:
        del self.open[wait.identity]
        self.fulfilled[wait.identity] = well
        key = (wait.device, wait.message_id)
        if wait.kind is WaitKind.SYNC and not well:
            self._unmet.add(key)
        if not well:
            return
        if wait.confirms:
            self.lent[wait.identity] = wait
        if wait.kind is WaitKind.LOCK:
            self.holders[wait.message_id] = wait.device
            self._claims[wait.identity] = wait
        elif wait.kind is WaitKind.NEXT:
            self.given[wait.identity] = self._others(*key)[self._passed[key]]
            self._passed[key] += 1
        elif wait.or_ids:
            there = [others[0] for one in wait.ids if (others := self._others(wait.device, one))]
            self.chosen[wait.identity] = min(there, key=lambda one: self._numbers[one.identity]).message_id

    def _give_back(self, request: bytes) -> None:
        """The wait ends without success, also if it was fulfilled, and its command has not taken it."""
        if request in self.open:
            self._end(self.open[request], False)
        elif request in self.lent:
            wait = self.lent.pop(request)
            self.fulfilled[request] = False
            if wait.kind is WaitKind.LOCK:
                self._drop(wait)
            else:
                self._passed[wait.device, wait.message_id] -= 1

    def _drop(self, claim: Waiting) -> None:
        """The lock is free with the last claim to it."""
        name = claim.message_id
        self._claims.pop(claim.identity, None)
        self.lent.pop(claim.identity, None)
        if all(other.message_id != name for other in self._claims.values()):
            self.holders.pop(name, None)

    # -- the rules

    def _others(self, device: str, message_id: bytes) -> list[Sent]:
        return [message for message in self.sent.get(message_id, ()) if message.device != device]

    def _judge(self, wait: Waiting) -> bool | None:
        """Whether the wait ends well now, or can't any more; None: it goes on."""
        me, complete = wait.device, not self._expected
        all_others_gone = complete and self._gone >= self._roles.keys() - {me}
        if wait.kind is WaitKind.LOCK:
            return True if self.holders.get(wait.message_id, me) == me else None
        if wait.kind is WaitKind.WAIT:
            there = any(self._others(me, one) for one in wait.ids)
            return True if there else False if all_others_gone else None
        if wait.kind is WaitKind.NEXT:
            if any(
                other.kind is WaitKind.NEXT and (other.device, other.message_id) == (me, wait.message_id)
                for other in self.lent.values()
            ):
                return None
            there = len(self._others(me, wait.message_id)) > self._passed[me, wait.message_id]
            return True if there else False if all_others_gone else None
        whom, needed = wait.whom, self._round.get(wait.identity, 1)
        sent = self._times.get(wait.message_id, Counter())
        if isinstance(whom, int):
            have = [name for name in self._roles if sent[name] >= needed]
            can = [name for name in self._roles if name not in self._gone and name not in have]
            return True if len(have) >= whom else False if complete and len(have) + len(can) < whom else None
        if isinstance(whom, tuple):
            wanted = list(whom)
        else:
            wanted = [name for name, role in self._roles.items() if whom in (None, role)]
        if complete and (not wanted or not self._roles.keys() >= set(wanted)):
            return False  # there is no such role, or device
        lacking = [name for name in wanted if name != me and sent[name] < needed]
        if any(name in self._gone for name in lacking):
            return False
        return True if not lacking and (complete or isinstance(whom, tuple)) else None
