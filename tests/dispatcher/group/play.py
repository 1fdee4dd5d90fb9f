# SPDX-License-Identifier: MIT
"""Logs of groups for tests: as short plays, and event by event.

A line of a play is one event, and after the arrow the requests that it ends, in
order: by name, with `!1` behind those that end with status 1. A request is named
by `as NAME`, else after its device; its name is its identity. Whom a wait needs is a role, a number of
devices, or names with commas between; `or ID` names further ids of a wait. What a wait gets is `lent` where
that stands behind it, until a `take`. That a send ends at
once with status 0 goes without saying. `lacks` asks whom an open wait still waits for.
"""

import itertools

from dispatcher.group.coordinator import Coordinator, Outcome
from dispatcher.group.events import (
    Event,
    Founded,
    Joined,
    Left,
    Released,
    Reported,
    Sent,
    Taken,
    Unlocked,
    Waiting,
    WaitKind,
    Whom,
)

KINDS = {kind.value.removeprefix("lava-"): kind for kind in WaitKind}
_numbers = itertools.count()


def fresh() -> bytes:
    """An identity that no other event has."""
    return b"fresh %d" % next(_numbers)


def founded(*members: str, size: int | None = None) -> Founded:
    """The first event of a log; members are "name role"."""
    pairs = tuple((name, role) for name, role in (member.split() for member in members))
    return Founded(0.0, fresh(), pairs or None, size)


def joined(device: str, role: str, time: float = 0.0) -> Joined:
    return Joined(time, device, fresh(), role)


def left(device: str, reason: str = "its script ended", time: float = 0.0) -> Left:
    return Left(time, device, fresh(), reason)


def released(request: bytes, status: int = 1, reason: str = "timed out", time: float = 0.0) -> Released:
    return Released(time, fresh(), request, status, reason)


def reported(
    device: str, kind: str, *fields: str | None, time: float = 0.0, position: int = 0, identity: bytes = b""
) -> Reported:
    return Reported(time, device, identity or fresh(), kind, fields, position)


def parse(words: list[str], time: float) -> Event:
    verb, who, *rest = words
    name = who
    if "as" in rest:
        *rest, _, name = rest
    request = name.encode()
    match verb, rest:
        case "found", _:
            members = [member.replace(":", " ") for member in (who, *rest)]
            return founded(size=int(who)) if who.isdigit() else founded(*members)
        case "join", [role]:
            return joined(who, role, time)
        case "leave", []:
            return left(who, time=time)
        case "release", [status]:
            return released(request, int(status), time=time)
        case "send", [message_id, *pairs]:
            data = [pair.encode().partition(b"=") for pair in pairs]
            return Sent(
                time, who, request, message_id.encode(), tuple((key, value) for key, _, value in data)
            )
        case "take", [borrower]:
            return Taken(time, who, request, borrower.encode())
        case "unlock", [name]:
            return Unlocked(time, who, request, name.encode())
        case "unlock", [name, "of", claim]:
            return Unlocked(time, who, request, name.encode(), claim.encode())
        case _, [message_id, "lent"]:
            return Waiting(time, who, request, KINDS[verb], message_id.encode(), None, None, confirms=True)
        case _, [message_id, "or", *others]:
            or_ids = tuple(one.encode() for one in others)
            return Waiting(time, who, request, KINDS[verb], message_id.encode(), None, None, or_ids=or_ids)
        case _, [message_id]:
            return Waiting(time, who, request, KINDS[verb], message_id.encode(), None, None)
        case _, [message_id, word]:
            whom: Whom = int(word) if word.isdigit() else tuple(word.split(",")) if "," in word else word
            return Waiting(time, who, request, KINDS[verb], message_id.encode(), whom, None)
    raise AssertionError(words)


def play(text: str) -> Coordinator:
    """The coordinator after this play; its lines are checked on the way."""
    coordinator = Coordinator()
    for number, line in enumerate(text.strip().splitlines()):
        script, _, expected = line.partition("->")
        words = script.split()
        if words[1] == "lacks":
            assert coordinator.missing(words[0].encode()) == words[2:], line
            continue
        event = parse(words, float(number))
        outcomes = coordinator.apply(event)
        if isinstance(event, Sent | Taken | Unlocked) and outcomes and not outcomes[-1].status:
            assert outcomes.pop() == Outcome(event.identity, event.device, 0, ""), line
        ended = [o.request.decode() + (f"!{o.status}" if o.status else "") for o in outcomes]
        assert ended == expected.split(), line
        assert all(bool(o.reason) == bool(o.status) for o in outcomes), line
        assert [coordinator.outcome(o.request) for o in outcomes] == outcomes
    return coordinator
