# SPDX-License-Identifier: MIT
"""The expected run of a job: its calls, played through the real coordinator in made-up time.

It goes in rounds: in each, every device that is not blocked does its next thing, and what that
releases goes on in the next. So the rounds are the rows of a flow table as one plans it by hand.

A wait that nobody can end is judged with care. Where it may not be made at all, or ends by itself,
or one that it waits for may send after all (perhaps, in a loop, in what can't be read), it is taken
to end, and `Step.doubt` says so. Only what is left then stays blocked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dispatcher.group.coordinator import Coordinator
from dispatcher.group.events import Event, Joined, Released, Sent, Unlocked, Waiting, WaitKind, Whom
from dispatcher.jobs.text import Texts
from dispatcher.plan.calls import Call, CallKind, Unread, Work
from dispatcher.plan.programs import Program
from toolkit.wire.vocabulary import NO

_KINDS = {
    CallKind.WAIT: WaitKind.WAIT,
    CallKind.NEXT: WaitKind.NEXT,
    CallKind.WAIT_ALL: WaitKind.WAIT_ALL,
    CallKind.SYNC: WaitKind.SYNC,
    CallKind.LOCK: WaitKind.LOCK,
}
# Pieces of work that one row names.
_MOST_NAMED = 2
# Devices that are looked at to judge waits that stay open; what is left then is taken to end.
_MOST_LOOKS = 2_000_000


@dataclass(slots=True)
class Step:
    """What a device begins in a round; a call that blocks it lasts for `rounds` more.

    `ended` is False for one that stays blocked, `doubt` says why it was taken to end, `failed` why it
    fails.
    """

    round: int
    item: Call | Work
    rounds: int = 0
    ended: bool = True
    doubt: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A device that stays blocked, and those that have still to send (of a lava-wait: one of them)."""

    device: str
    call: Call
    missing: tuple[str, ...]


@dataclass(slots=True)
class Expected:
    """What is expected; `steps` are by device, in order, `events` what a group log of it would hold."""

    programs: Sequence[Program]
    steps: dict[str, list[Step]]
    events: list[Event]
    blocked: list[Blocked]
    rounds: int


def expect(programs: Sequence[Program]) -> Expected:
    """Play the programs."""
    return _Play(programs).run()


class _Player:
    """One device in the play."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.items = list(_without_unread(program))
        self.position = 0
        self.waits_in: tuple[bytes, Step] | None = None


def _without_unread(program: Program) -> Iterator[Call | Work]:
    """What has a row: what can't be read has none, and work in a row shares one."""
    work: list[Work] = []
    for item in program.items:
        if isinstance(item, Work):
            work.append(item)
        elif isinstance(item, Call):
            yield from _together(work)
            work = []
            yield item
    yield from _together(work)


def _together(work: Sequence[Work]) -> Iterator[Work]:
    if work:
        names = list(dict.fromkeys(item.text for item in work))
        named = [*names[:_MOST_NAMED], "..."] if len(names) > _MOST_NAMED else names
        yield Work(work[0].place, ", ".join(named))


class _Play:
    def __init__(self, programs: Sequence[Program]) -> None:
        self._players = {program.device: _Player(program) for program in programs}
        self._coordinator = Coordinator()
        self._order = {program.device: place for place, program in enumerate(programs)}
        self._ready = dict.fromkeys(self._players)
        self._waiting: dict[str, None] = {}
        self._sending: dict[tuple[int, bool], _Sending] = {}
        self._looks = 0
        self._round = 0
        self._requests = 0
        self._result = Expected(programs, {program.device: [] for program in programs}, [], [], 0)

    def run(self) -> Expected:
        for program in self._result.programs:
            self._apply(Joined(0.0, program.device, b"join " + program.device.encode(), program.role))
        while True:
            ready = [self._players[name] for name in sorted(self._ready, key=self._order.__getitem__)]
            ready = [player for player in ready if player.position < len(player.items)]
            self._ready.clear()
            if ready:
                for player in ready:
                    self._go_on(player)
                self._round += 1
            elif not self._unlock_at_the_end() and not self._release():
                break
        self._result.rounds = self._round
        for player in self._players.values():
            if player.waits_in is not None:
                request, step = player.waits_in
                step.ended, step.rounds = False, self._round - step.round - 1
                assert isinstance(step.item, Call)
                missing = tuple(self._coordinator.missing(request))
                self._result.blocked.append(Blocked(player.program.device, step.item, missing))
        return self._result

    def _unlock_at_the_end(self) -> bool:
        """What devices have whose scripts are over, others get."""
        before = len(self._result.events)
        for player in self._players.values():
            if player.waits_in is None:
                for name in self._coordinator.locks_of(player.program.device):
                    self._unlock(player, name)
        return len(self._result.events) > before

    def _unlock(self, player: _Player, name: bytes) -> None:
        self._requests += 1
        self._apply(Unlocked(float(self._round), player.program.device, b"%d" % self._requests, name))

    def _go_on(self, player: _Player) -> None:
        item = player.items[player.position]
        player.position += 1
        step = Step(self._round, item)
        self._result.steps[player.program.device].append(step)
        if isinstance(item, Call) and not item.refused:
            self._call(player, item, step)
        if player.waits_in is None:
            self._ready[player.program.device] = None

    def _call(self, player: _Player, call: Call, step: Step) -> None:
        device = player.program.device
        self._requests += 1
        request = b"%d" % self._requests
        message_id = str(call.message_id).encode("utf-8", "surrogateescape")
        if call.kind is CallKind.SEND or (call.background and call.kind is CallKind.SYNC):
            data = tuple((_bytes(str(key)), _bytes(str(value))) for key, value in call.data)
            self._apply(Sent(float(self._round), device, request, message_id, data))
        elif call.kind is CallKind.UNLOCK:
            self._unlock(player, message_id)
        elif not call.background:
            whom, unknown = _whom(call)
            if unknown:
                # Some role, and it is not known which: no more than a lava-wait can be said of it.
                step.doubt = f"{unknown} is not known before it runs"
                return
            or_ids = tuple(_bytes(str(one)) for one in call.or_ids)
            player.waits_in = (request, step)
            self._waiting[device] = None
            self._apply(
                Waiting(
                    float(self._round),
                    device,
                    request,
                    _KINDS[call.kind],
                    message_id,
                    whom,
                    None,
                    or_ids=or_ids,
                )
            )

    def _apply(self, event: Event) -> None:
        self._result.events.append(event)
        for outcome in self._coordinator.apply(event):
            waiting = self._players[outcome.device].waits_in
            if waiting is not None and waiting[0] == outcome.request:
                step = waiting[1]
                step.rounds = max(0, self._round - step.round)
                step.failed = "" if step.doubt else outcome.reason
                self._players[outcome.device].waits_in = None
                self._ready[outcome.device] = None
                del self._waiting[outcome.device]

    def _release(self) -> bool:
        """Of the waits that are open although nobody can go on, end the one that is most doubtful.

        Together with it those of the same call on other devices.
        """
        doubtful: list[tuple[int, int, str, bytes, Step]] = []
        for name in sorted(self._waiting, key=self._order.__getitem__):
            player = self._players[name]
            if player.waits_in is not None:
                request, step = player.waits_in
                found = self._doubt(request, step)
                if found is not None:
                    doubtful.append((found[0], step.round, found[1], request, step))
        if not doubtful:
            return False
        first = min(doubtful, key=lambda entry: entry[:2])
        for rank, began, doubt, request, step in doubtful:
            if (rank, began, step.item.place) == (*first[:2], first[4].item.place):
                step.doubt = doubt
                self._apply(Released(float(self._round), b"release " + request, request, NO, doubt))
        return True

    def _may_send(self, program: Program, call: Call) -> bool:
        key = (id(program.items), call.kind is CallKind.LOCK)
        if key not in self._sending:
            self._sending[key] = _Sending(program, locks=key[1])
        return self._sending[key].may_end(call)

    def _doubt(self, request: bytes, step: Step) -> tuple[int, str] | None:
        """How doubtful it is that this wait blocks for ever (the least number is the most), and why."""
        call = step.item
        assert isinstance(call, Call)
        if call.perhaps:
            return 0, "it may not be made"
        if call.timed:
            return 1, "it ends by itself"
        self._looks += len(self._players)
        if self._looks > _MOST_LOOKS:
            return 2, "there are too many devices and calls to tell"
        missing = self._coordinator.missing(request)
        able = [name for name in missing if self._may_send(self._players[name].program, call)]
        if able and (len(able) == len(missing) or call.takes_any or call.count is not None):
            return 2, f"perhaps {able[0]} sends"
        if call.repeatedly:
            return 3, "it is not known how often it is made"
        return None


class _Sending:
    """What a device sends, or which locks it gives back: in a way that the play knows of for certain, or not."""

    def __init__(self, program: Program, *, locks: bool) -> None:
        self._unread = any(isinstance(item, Unread) for item in program.items)
        self._known, self._others = Texts(), Texts()
        for own in program.calls:
            if own.kind is CallKind.UNLOCK if locks else own.sends:
                exactly = own.certain and own.message_id.exact is not None
                (self._known if exactly else self._others).add(own.message_id)

    def may_end(self, call: Call) -> bool:
        """Whether it may send what `call` waits for in a way that the play does not know of."""
        vague = any(one.exact is None for one in call.ids)
        return self._unread or any(
            self._others.may_hold(one) or (vague and self._known.may_hold(one)) for one in call.ids
        )


def _whom(call: Call) -> tuple[Whom, str]:
    """Whom it waits for, as in the log; and what of that is not known, "" if all is."""
    if call.role is not None:
        return str(call.role), "" if call.role.exact is not None else "the role"
    if call.devices:
        exact = all(name.exact is not None for name in call.devices)
        return tuple(map(str, call.devices)), "" if exact else "the name of a device"
    if call.count is not None:
        number = call.count.exact
        return (int(number), "") if number is not None and number.isdecimal() else (None, "the number")
    return None, ""


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
