# SPDX-License-Identifier: MIT
"""The events of a group log, and their JSON form.

A group is the ordered list of these events and nothing else: who is released,
the flow table and "who waits for whom" are all folded from it. `time` is in
seconds, as the caller counts them; nothing here looks at a clock.

`request` is the identity of the request that caused the event. It is what makes
a repeated request harmless, so it has to be unique within the group.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from toolkit.wire.vocabulary import RESULTS

# What a device reports of its tests, and the fields of each kind.
REPORTS = {
    "case-start": ("id",),  # the output of a test begins here
    "case-end": ("id",),
    "result": ("id", "result", "measurement", "units"),
    "reference": ("id", "result", "url"),
    "set-start": ("name",),
    "set-stop": (),
    "run-start": ("name", "uuid"),
    "run-end": ("name", "uuid", "status"),
    "refused": ("command", "reason"),  # a command that was to report something was called wrongly
    "raise": ("message",),
    "event": ("message",),
    "feedback": ("namespace",),
    "malformed": ("text", "reason"),  # a text signal that can't be read
}
# Fields that a device need not give; the others have a text with something in it.
_OPTIONAL = {"measurement", "units", "status", "uuid"}


class WaitKind(Enum):
    """Which command waits."""

    WAIT = "lava-wait"
    WAIT_ALL = "lava-wait-all"
    SYNC = "lava-sync"


@dataclass(frozen=True, slots=True)
class Joined:
    """A device is in the group from now on, or is back after it had left."""

    time: float
    device: str
    role: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A device sent a message, with pairs of key and value in the order given."""

    time: float
    device: str
    request: bytes
    message_id: bytes
    data: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A device began to wait; a lava-sync also sends the message, without data.

    `role` is whom a lava-wait-all waits for, None for everybody; the other kinds
    have none. `timeout` is in seconds, None for no limit; whoever appends to the
    log keeps the time and appends `Released`. `own_timeout` is whether the script
    gave it, with --timeout, and so has a plan for a wait that ends without success.
    """

    time: float
    device: str
    request: bytes
    kind: WaitKind
    message_id: bytes
    role: str | None
    timeout: float | None
    own_timeout: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """A wait ended otherwise than by being fulfilled: timed out, cancelled, rebooted, a dead end."""

    time: float
    request: bytes
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """A device will never send again: its script ended, or it died."""

    time: float
    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A device told how its tests get on; a key of REPORTS says what the fields are.

    `request` is empty for what was read from the device's output. `position` is where in the
    device's console log this belongs, in bytes. Bytes that are no UTF-8 stand in the fields as
    lone surrogates. Raises ValueError if the fields don't fit the kind.
    """

    time: float
    device: str
    request: bytes
    kind: str
    fields: tuple[str | None, ...]
    position: int

    def __post_init__(self) -> None:
        check_report(self.kind, self.fields)


def check_report(kind: str, fields: tuple[str | None, ...]) -> None:
    """Raises ValueError, with a sentence for a person, if this is nothing that a device can report."""
    names = REPORTS.get(kind)
    if names is None:
        raise ValueError(f"nothing is reported as {kind!r:.40}")
    if len(fields) != len(names):
        raise ValueError(f"{kind} has {len(names)} fields, not {len(fields)}")
    for name, value in zip(names, fields, strict=True):
        _check_field(name, value)


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _check_field(name: str, value: str | None) -> None:
    if not value and name not in _OPTIONAL:
        raise ValueError(f"the {name} is missing")
    if name == "result" and value not in RESULTS:
        raise ValueError(f"a result is one of {', '.join(RESULTS)}, not {value!r:.40}")
    if name == "measurement" and value is not None and not _is_number(value):
        raise ValueError(f"a measurement is a number, not {value!r:.40}")
    if name == "status" and value is not None and not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise ValueError(f"a status is a whole number, not {value!r:.40}")


def _is_number(text: str) -> bool:
    # float() alone would also take "nan", "1_0" and digits of other scripts.
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


Event = Joined | Sent | Waiting | Released | Left | Reported


def readable(text: str) -> str:
    """The text with bytes that are no UTF-8, and other lone surrogates, made visible: "\\xff"."""
    return _SURROGATE.sub(_visible, text)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def to_json(event: Event) -> dict[str, Any]:
    """The event as an object that `json.dumps` takes; `from_json` is the way back."""
    fields = _FIELDS[type(event)]
    return {
        "type": type(event).__name__.lower(),
        **{name: encode(getattr(event, name)) for name, (encode, _) in fields.items()},
    }


def from_json(value: object) -> Event:
    """The event that `to_json` made `value` of. Raises ValueError for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"an event is an object, not {value!r:.80}")
    name = value.get("type")
    event_type = _TYPES.get(name) if isinstance(name, str) else None
    if event_type is None:
        raise ValueError(f"there is no event type {name!r:.80}")
    fields = _FIELDS[event_type]
    if value.keys() | _MAY_BE_MISSING != {"type", *fields} | _MAY_BE_MISSING:
        raise ValueError(f"bad {name} event: the fields are {', '.join(fields)} and no other")
    try:
        event: Event = event_type(
            **{field: decode(value[field]) for field, (_, decode) in fields.items() if field in value}
        )
    except ValueError as error:
        raise ValueError(f"bad {name} event: {error}") from error
    return event


# One pair of functions for each kind of field: to JSON, and back with a check.
_Codec = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r:.80}")
    return value


def _whole_number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"not a whole number: {value!r:.80}")
    return value


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"neither true nor false: {value!r:.80}")
    return value


def _seconds(value: Any) -> float:
    # The comparison is false for "not a number", and safe for a whole number too large to be a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"not a number of seconds: {value!r:.80}")
    return float(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    return value


# Identities are random bytes; all other bytes are nearly always text, which a person wants to read in a log.
def _from_hex(value: Any) -> bytes:
    return bytes.fromhex(_text(value))


def _bytes_to_text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _text_to_bytes(value: Any) -> bytes:
    return _text(value).encode("utf-8", "surrogateescape")


def _pairs_to_lists(pairs: tuple[tuple[bytes, bytes], ...]) -> list[list[str]]:
    return [[_bytes_to_text(key), _bytes_to_text(value)] for key, value in pairs]


def _lists_to_pairs(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    if not isinstance(value, list) or not all(isinstance(pair, list) for pair in value):
        raise ValueError(f"not a list of pairs: {value!r:.80}")
    return tuple((_text_to_bytes(key), _text_to_bytes(item)) for key, item in value)


def _report_fields(value: Any) -> tuple[str | None, ...]:
    if not isinstance(value, list):
        raise ValueError(f"not a list: {value!r:.80}")
    return tuple(None if item is None else _text(item) for item in value)


def _optional(codec: _Codec) -> _Codec:
    encode, decode = codec
    return (
        lambda value: None if value is None else encode(value),
        lambda value: None if value is None else decode(value),
    )


_TEXT: _Codec = (_same, _text)
_SECONDS: _Codec = (_finite, _seconds)
_IDENTITY: _Codec = (bytes.hex, _from_hex)
_BYTES: _Codec = (_bytes_to_text, _text_to_bytes)

_FIELDS: dict[type[Event], dict[str, _Codec]] = {
    Joined: {"time": _SECONDS, "device": _TEXT, "role": _TEXT},
    Sent: {
        "time": _SECONDS,
        "device": _TEXT,
        "request": _IDENTITY,
        "message_id": _BYTES,
        "data": (_pairs_to_lists, _lists_to_pairs),
    },
    Waiting: {
        "time": _SECONDS,
        "device": _TEXT,
        "request": _IDENTITY,
        "kind": (lambda kind: kind.value, WaitKind),
        "message_id": _BYTES,
        "role": _optional(_TEXT),
        "timeout": _optional(_SECONDS),
        "own_timeout": (_same, _yes_or_no),
    },
    Released: {"time": _SECONDS, "request": _IDENTITY, "status": (_same, _whole_number), "reason": _TEXT},
    Left: {"time": _SECONDS, "device": _TEXT, "reason": _TEXT},
    Reported: {
        "time": _SECONDS,
        "device": _TEXT,
        "request": _IDENTITY,
        "kind": _TEXT,
        "fields": (list, _report_fields),
        "position": (_same, _whole_number),
    },
}
# Fields that older logs do not have.
_MAY_BE_MISSING = {"own_timeout"}
_TYPES = {event_type.__name__.lower(): event_type for event_type in _FIELDS}
