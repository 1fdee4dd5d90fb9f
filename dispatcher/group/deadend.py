# SPDX-License-Identifier: MIT
"""Dead ends: waits that nobody is left to end, and why, in words.

A device is stuck if each of its waits needs a message that only stuck devices, or such as
have left, could still send. That is a fixed point: begin with all devices that do nothing but
wait, and take those away of which a wait may yet end, since somebody who is able may send;
those may then send as well. What is left waits for ever.

Which devices do nothing but wait, the group log does not tell: a script may have put its wait in
the background and go on. Whoever knows says so (`idle`). Pure: no I/O and no clock.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from dispatcher.group.coordinator import Coordinator, WaitGroup
from dispatcher.group.events import Waiting, WaitKind
from dispatcher.group.wording import command, counted, duration, enumerated, near_miss, shown, times

# What sentences about dead ends begin with, and the reasons of waits that end by one.
DEAD_END = "dead end: "
# Kinds of waits that a paragraph tells of, and kinds of reasons for each; of the others, how many there are.
MAX_GROUPS = 4
MAX_REASONS = 3
# Different waits times devices, beyond which a group is not judged: that many names are looked at.
MAX_LOOKED_AT = 2_000_000
# Missing devices that are asked what they did instead, of one wait and of all; all are counted.
_MAX_ASKED = 200
_MAX_ASKED_AT_ALL = 1000
# Devices of a circle that are named.
_MAX_CIRCLE = 6
# Devices that one is taken to wait for, and devices at which a circle may begin.
_MAX_TARGETS = 50
_MAX_STARTS = 100


@dataclass(frozen=True, slots=True)
class DeadEnd:
    """Waits that will never end.

    :param waits: all of them, in the order they began.
    :param sentences: what happened, for a person.
    :param reasons: for each request why this wait can't end, as a clause.
    :param doubt: why the waits may end all the same, as a clause; empty: they will not.
    """

    waits: Sequence[Waiting]
    sentences: Sequence[str]
    reasons: dict[bytes, str]
    doubt: str = ""

    @property
    def devices(self) -> list[str]:
        """The stuck devices, each once."""
        return list(dict.fromkeys(waiting.device for waiting in self.waits))

    @property
    def told(self) -> Sequence[str]:
        """The sentences, or in doubt the one that says so."""
        if not self.doubt:
            return self.sentences
        what = self.sentences[0].removeprefix(DEAD_END)
        return [f"perhaps a dead end: {what}. But {self.doubt}. The waits go on"]


def candidates(coordinator: Coordinator) -> set[str]:
    """The devices with a wait, and none whose script itself gave it a time-out: no other can be stuck.

    Nor can one that has not taken yet what a wait of it got: that may be given to the next one.
    """
    waiting: set[str] = set()
    timed = {wait.device for wait in coordinator.lent()}
    for wait in coordinator.waits():
        (timed if wait.own_timeout else waiting).add(wait.device)
    return waiting - timed


def too_large(coordinator: Coordinator) -> str:
    """Why dead ends are not looked for in this group, as a clause; empty if they are."""
    needs, members = coordinator.needs, len(coordinator.members)
    if needs * members <= MAX_LOOKED_AT:
        return ""
    return f"it has {counted(members, 'device')} and {needs} different waits, too many to look for dead ends"


def stuck_devices(coordinator: Coordinator, idle: Iterable[str]) -> set[str]:
    """The devices whose waits will never end; none if the group is `too_large`.

    :param idle: the devices that do nothing but wait; all others may still send.
    """
    if not coordinator.complete or too_large(coordinator):
        # Who has still to join may send.
        return set()
    stuck = candidates(coordinator).intersection(idle)
    if not stuck:
        return stuck
    able = {name for name, _ in coordinator.members} - coordinator.gone - stuck
    lacks: dict[str, list[_Judged]] = {
        name: [] for name in stuck
    }  # by device, the groups in which it is lacking
    freed: list[str] = []
    for group in coordinator.wait_groups():
        judged = _Judged(group, sum(name in able for name in group.lacking))
        for name in lacks.keys() & group.lacking:
            lacks[name].append(judged)
        freed += judged.hopeful()
    while freed:
        name = freed.pop()
        if name in stuck:
            stuck.discard(name)
            for judged in lacks[name]:
                judged.able += 1
                freed += judged.hopeful()
    return stuck


def unknown(names: Collection[str]) -> str:
    """The doubt whether devices on other hosts do nothing but wait, where these hosts do not say so."""
    where, does = ("is on another host", "it does") if len(names) == 1 else ("are on other hosts", "they do")
    return f"{enumerated(sorted(names))} {where}, and it is not known whether {does} anything else"


def not_seen(names: Collection[str]) -> str:
    """The doubt whether devices do nothing but wait whose consoles are read by no process that would tell."""
    what, does = ("the console", "it does") if len(names) == 1 else ("the consoles", "they do")
    return f"{what} of {enumerated(sorted(names))} can't be seen here, and nothing tells whether {does} something else beside"


# Doubts: where others may come from other hosts; about devices behind consoles, at which nobody can look.
UNDECLARED = "nobody has said who belongs to the group (--members, --group-size), and others may still join"
SILENT = "some devices are only known to be silent on their consoles"


@dataclass(slots=True)
class _Judged:
    """A group of waits, and how many of the devices that it lacks are able to send."""

    group: WaitGroup
    able: int
    done: bool = False

    def hopeful(self) -> list[str]:
        """The devices whose wait may end if those that are able send what they can.

        Asked for each of them that becomes able, it looks at the waits twice at most.
        """
        group = self.group
        unable = len(group.lacking) - self.able
        if self.done or (unable > 1 if group.enough is None else self.able < group.enough):
            return []
        # A wait needs no message of the device itself, which is not able as long as it is stuck.
        alone = group.enough is None and unable == 1
        self.done = not alone
        lacking = set(group.lacking) if alone else set()
        return [wait.device for wait in group.waits if not alone or wait.device in lacking]


def find(coordinator: Coordinator, idle: Iterable[str], now: float) -> DeadEnd | None:
    """The dead end that the group is in, if it is in one.

    :param idle: the devices that do nothing but wait.
    :param now: on the clock of the events.
    """
    stuck = stuck_devices(coordinator, idle)
    if not stuck:
        return None
    return _Story(coordinator, stuck, now).tell()


def _any(group: WaitGroup) -> bool:
    """Whether these wait for a message of whatever device."""
    return group.waits[0].kind in (WaitKind.WAIT, WaitKind.NEXT)


@dataclass(frozen=True, slots=True, order=True)
class _Clause:
    """What some missing devices did instead. Told with the most telling first, so with the lowest rank."""

    rank: int
    done: str
    waits_in: str  # the command, "" if they have ended

    def about(self, names: Sequence[str]) -> str:
        one = len(names) == 1
        if self.rank == 1:
            joint = "; it waits itself in" if one else "; they wait themselves in"
            told = f"{enumerated(names)} {'has' if one else 'have'} {self.done}"
            return f"{told}{joint} {self.waits_in}"
        itself = "waits itself" if one else "wait themselves"
        end = f"{itself} in {self.waits_in}" if self.waits_in else "ended"
        return f"{enumerated(names)} {self.done} and {end}"


class _Story:
    """Tells of one dead end."""

    def __init__(self, coordinator: Coordinator, stuck: Collection[str], now: float) -> None:
        self._coordinator = coordinator
        self._roles = dict(coordinator.members)
        self._stuck = stuck
        self._gone = coordinator.gone
        self._now = now
        self._groups = [
            WaitGroup(waits, group.lacking, group.times, group.enough)
            for group in coordinator.wait_groups()
            if (waits := [wait for wait in group.waits if wait.device in stuck])
        ]
        # One order for all runs of a job: as they joined, not as they happened to come.
        self._place = {name: place for place, name in enumerate(self._roles)}
        self._asked = 0
        self._waits_in: dict[str, str] = {}
        self._waits_of: dict[str, list[Waiting]] = {}
        for group in self._groups:
            for wait in group.waits:
                self._waits_of.setdefault(wait.device, []).append(wait)

    def tell(self) -> DeadEnd:
        reasons: dict[bytes, str] = {}
        sentences: list[tuple[int, str]] = []
        for group in self._groups:
            rank, reason = self._reason(group)
            reasons.update((wait.identity, reason) for wait in group.waits)
            names = sorted({wait.device for wait in group.waits}, key=self._place.__getitem__)
            longest = duration(self._now - min(wait.time for wait in group.waits))
            have = "has" if len(names) == 1 else "have"
            sentences.append(
                (rank, f"{enumerated(names)} {have} waited {longest} in {command(group.waits[0])}: {reason}")
            )
        # The one with the likely cause first; otherwise as they began.
        sentences.sort(key=lambda sentence: sentence[0])
        told = [text for _, text in sentences[:MAX_GROUPS]]
        if len(sentences) > MAX_GROUPS:
            told.append(f"So do others, in {len(sentences) - MAX_GROUPS} more waits")
        if circle := self._circle():
            told.append(circle)
        waits = sorted((w for group in self._groups for w in group.waits), key=lambda wait: wait.time)
        return DeadEnd(waits, [f"{DEAD_END}{told[0]}", *told[1:]], reasons)

    def _reason(self, group: WaitGroup) -> tuple[int, str]:
        """Why these waits can't end, and how telling that is: 0 is most."""
        waiters = {wait.device for wait in group.waits}
        dead = [name for name in group.lacking if name in self._stuck or name in self._gone]
        sent = self._sent(group)
        if group.enough is not None:
            # Those that have left could have sent it, too.
            dead += [
                n for n in self._roles if n in self._gone and (_any(group) or sent.get(n, 0) < group.times)
            ]
        if len(waiters) == 1:
            dead = [name for name in dead if name not in waiters]
        clauses: dict[_Clause, list[str]] = {}
        for name in dead[: max(1, min(_MAX_ASKED, _MAX_ASKED_AT_ALL - self._asked))]:
            self._asked += 1
            clauses.setdefault(self._clause(name, group, sent.get(name, 0)), []).append(name)
        found = sorted(clauses.items(), key=lambda item: item[0].rank)
        rank = found[0][0].rank if found else 2
        if rank == 2 and _any(group) and len(found) > 1:
            told = [self._nobody(clauses, [name for name in dead if name in self._gone])]
        else:
            told = [clause.about(names) for clause, names in found[:MAX_REASONS]]
            rest = len(dead) - sum(len(names) for _, names in found[:MAX_REASONS])
            if rest > 0:
                told.append(f"{rest} more are missing as well")
        hint = self._elsewhere(group, sent)
        return (0 if hint else rank), "; ".join([*told, *hint])

    def _clause(self, name: str, group: WaitGroup, sent: int) -> _Clause:
        """What this device did instead of sending what the group waits for."""
        first = group.waits[0]
        own = [] if name in self._gone else self._waits_of[name]
        if name not in self._waits_in:
            self._waits_in[name] = enumerated(sorted({command(wait) for wait in own}))
        waits_in = self._waits_in[name]
        if first.kind is WaitKind.LOCK:
            return _Clause(2, f"has '{shown(first.message_id)}'", waits_in)
        mistaken = self._coordinator.near_miss(name, first.ids)
        if mistaken is not None:
            told, meant = mistaken
            return _Clause(0, f"sent '{shown(told)}' (did you mean '{shown(meant)}'?)", waits_in)
        wanted = enumerated([f"'{shown(one)}'" for one in first.ids], "or")
        for one in first.ids:
            if near_miss(one, [wait.message_id for wait in own if wait.kind is WaitKind.SYNC]):
                waits_in += f" (did you mean '{shown(one)}'?)"
                return _Clause(0, f"never sent {wanted}", waits_in)
        if sent and first.kind is WaitKind.NEXT:
            return _Clause(1, f"sent {wanted} {times(sent)}, which has been taken", waits_in)
        if sent:
            ordinal = {2: "second", 3: "third"}.get(group.times, f"{group.times}th")
            verb = "synced" if group.waits[0].kind is WaitKind.SYNC else "sent"
            return _Clause(1, f"{verb} {wanted} {times(sent)}, and this is the {ordinal}", waits_in)
        never = "came to it" if group.waits[0].kind is WaitKind.SYNC else f"sent {wanted}"
        return _Clause(2, f"never {never}", waits_in)

    def _sent(self, group: WaitGroup) -> dict[str, int]:
        """How often each device has sent one of the ids that these wait for; none for a lock."""
        first, sent = group.waits[0], dict[str, int]()
        for one in () if first.kind is WaitKind.LOCK else first.ids:
            for name, number in self._coordinator.senders(one).items():
                sent[name] = sent.get(name, 0) + number
        return sent

    def _nobody(self, clauses: Iterable[_Clause], ended: Sequence[str]) -> str:
        """Why a lava-wait does not end where nobody sent anything like it."""
        commands = list(dict.fromkeys(clause.waits_in for clause in clauses if clause.waits_in))
        parts = [f"{enumerated(ended)} ended"] if ended else []
        if len(commands) == 1:
            parts.append(f"all others wait in {commands[0]}")
        elif commands:
            parts.append("all others wait as well")
        return f"no other device has sent it: {', and '.join(parts)}"

    def _elsewhere(self, group: WaitGroup, sent: dict[str, int]) -> list[str]:
        """That somebody has sent it who does not count here."""
        wait, waiters = group.waits[0], {one.device for one in group.waits}
        if _any(group) and all(one.device in sent for one in group.waits):
            its = "its own message" if len(group.waits) == 1 else "a device's own message"
            return [f"{its} does not count"]
        if isinstance(wait.whom, str):
            # (One of another role may follow a barrier.)
            others = [name for name in sent if self._roles[name] != wait.whom and name not in waiters]
            roles = list(dict.fromkeys(self._roles[name] for name in others))
            if others:
                word = "role" if len(roles) == 1 else "roles"
                return [
                    f"but {enumerated(others)}, of {word} {enumerated([shown(role) for role in roles])}, sent it"
                ]
        return []

    def _circle(self) -> str:
        """The devices that wait for each other in a circle, where it is plain who waits for whom."""
        targets: dict[str, list[str]] = {name: [] for name in self._roles if name in self._stuck}
        for group in self._groups:
            if group.enough is not None and len(self._roles) > 2:
                continue  # any of several
            # Who waits in the same command is told of already.
            waiters = {wait.device for wait in group.waits}
            missing = (name for name in group.lacking if name in self._stuck and name not in waiters)
            some = list(islice(missing, _MAX_TARGETS))
            for name in waiters:
                targets[name] += some[: _MAX_TARGETS - len(targets[name])]
        circle = _shortest_circle(targets)
        # One that is too long can't be followed.
        if len(circle) < 2 or len(circle) > _MAX_CIRCLE:
            return ""
        if len(circle) == 2:
            return f"So {circle[0]} and {circle[1]} wait for each other"
        pairs = [f"{name} for {circle[(place + 1) % len(circle)]}" for place, name in enumerate(circle)]
        return f"So they wait in a circle: {', '.join(pairs)}"


def _shortest_circle(targets: dict[str, list[str]]) -> list[str]:
    """The names on a shortest way from one of the first names back to itself; of several the one that begins first."""
    best: list[str] = []
    for start in islice(targets, _MAX_STARTS):
        came_from = {start: start}
        queue = [start]
        for name in queue:
            if start in targets.get(name, ()):
                way = [name]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                if not best or len(way) < len(best):
                    best = way[::-1]
                break
            for target in targets.get(name, ()):
                if target not in came_from:
                    came_from[target] = name
                    queue.append(target)
        if len(best) == 2:
            break
    return best
