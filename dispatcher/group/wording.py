# SPDX-License-Identifier: MIT
"""Words for sentences about waits: names that came from devices, several of them, times, and slips of the pen."""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache

from dispatcher.group.events import Waiting, WaitKind, Whom
from toolkit.wire.vocabulary import NETWORK_ID

# How alike two ids are that one may have been meant for the other, from 0 to 1.
_ALIKE = 0.8
# Bytes of an id that is compared: it takes time, and devices choose the ids.
_MAX_COMPARED = 48
# Characters of a name that are shown.
_MAX_SHOWN = 80


def shown(name: bytes | str) -> str:
    """A name that came from a device, fit for a sentence on a terminal."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    text = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def enumerated(names: Sequence[str], conjunction: str = "and", more: int = 0) -> str:
    """The names as a person would say them; of many, only how many more there are. Without any, "".

    :param more: how many there are beside those.
    """
    if more or len(names) > 4:
        named = names[:3]
        names = [*named, f"{len(names) + more - len(named)} more"]
    if not names:
        return ""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {conjunction} {names[-1]}"


def needed(names: Sequence[str], enough: int | None, more: int) -> str:
    """The names of which so many are needed, None: all: "b and c", "b or c", "2 of b, c and d".

    :param more: how many there are beside those.
    """
    if enough is None or enough >= len(names) + more:
        return enumerated(names, more=more)
    return enumerated(names, "or", more) if enough <= 1 else f"{enough} of {enumerated(names, more=more)}"


def counted(number: int, thing: str) -> str:
    """ "1 device", "2 devices"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A line for each row, with its cells below those of the row before."""
    rows = [tuple(map(shown, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def command(waiting: Waiting) -> str:
    """The command that waits, as it was typed but for its options: `lava-wait-all ready server`."""
    if waiting.kind is WaitKind.WAIT_ALL and waiting.message_id == NETWORK_ID:
        return "`lava-network collect`"
    return f"`{' '.join(map(shown, call(waiting.kind, list(map(shown, waiting.ids)), waiting.whom)))}`"


def call(kind: WaitKind, ids: Sequence[str], whom: Whom) -> list[str]:
    """The words of the command that waits so, as in `Waiting`, but for --timeout."""
    match kind, whom:
        case WaitKind.WAIT, _:
            return ["lava-wait", *(["--any"] if len(ids) > 1 else []), *ids]
        case WaitKind.NEXT, _:
            return ["lava-wait", "--next", *ids]
        case WaitKind.WAIT_ALL, str(role):
            return ["lava-wait-all", *ids, role]
        case _, str(role):
            return [kind.value, "--role", role, *ids]
        case _, int(number):
            return [kind.value, "--count", str(number), *ids]
        case _, tuple():
            assert isinstance(whom, tuple)
            return [kind.value, *(word for name in whom for word in ("--device", name)), *ids]
        case _:
            return [kind.value, *ids]


def duration(seconds: float) -> str:
    """A time as a person would say it: "0.3 s", "12 s", "2 min 5 s", "10 h 3 min"."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def times(number: int) -> str:
    """How often: "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def near_miss(wanted: bytes, ids: Iterable[bytes]) -> bytes | None:
    """The id among `ids` that was probably meant to be `wanted`, if one is so much alike."""
    best = max(((_likeness(wanted, other), other) for other in ids), default=(0.0, b""))
    return best[1] if best[0] >= _ALIKE else None


@lru_cache(4096)
def _likeness(wanted: bytes, other: bytes) -> float:
    if wanted == other or max(len(wanted), len(other)) > _MAX_COMPARED:
        return 0.0
    one, two = (id_.decode("utf-8", "replace").lower().replace("_", "-") for id_ in (wanted, other))
    if one != two and re.sub("[0-9]+", "0", one) == re.sub("[0-9]+", "0", two):
        # Who numbers ids means the number.
        return 0.0
    # Its ratio depends on the order of the two.
    return max(SequenceMatcher(None, one, two).ratio(), SequenceMatcher(None, two, one).ratio())
