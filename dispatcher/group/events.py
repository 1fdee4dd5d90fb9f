# SPDX-License-Identifier: MIT
"""The events of a group log, and their JSON form.

A group is the ordered list of these events and nothing else: who is released,
the flow table and "who waits for whom" are all folded from it. `time` is in
seconds since 1970, as the host counts them that appends the event; nothing here
looks at a clock.

Each event has an identity, unique within the group. An append whose outcome is
unknown can therefore be repeated: the fold drops an identity that it knows. The
identity of what a command asked for is that of its request, so that a repeated
request is harmless, too.

A reader passes over kinds and fields that it does not know (`Reader`), so that
two versions can share a log; it also reads what was written before every event had an identity.
"""

import json
import math
import re
import sys
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dispatcher.reportable import check_report


class WaitKind(Enum):
    """Which command waits."""

    WAIT = "lava-wait"
    NEXT = "lava-wait-next"  # lava-wait --next
    WAIT_ALL = "lava-wait-all"
    SYNC = "lava-sync"
    LOCK = "lava-lock"


# Whom a wait needs. None: all other devices; a text: all others of this role; several: the devices of these
# names; a number: so many devices, the one that waits among them.
Whom = str | tuple[str, ...] | int | None


if TYPE_CHECKING:
    Identity = bytes
    Text = bytes
else:

    class _Made(type):
        """The type of those below. msgspec hands a text that stands for them to `of`, and takes what that returns."""

        def __instancecheck__(cls, value: object) -> bool:
            return True

    class Identity(metaclass=_Made):
        """Random bytes, and what else makes an identity: hexadecimal digits in JSON."""

        of = bytes.fromhex

    class Text(metaclass=_Made):
        """Bytes that are nearly always text, which a person wants to read in a log."""

        of = str.encode


# Nobody changes an event. Frozen ones would take longer to make, and a log has a million of them.
class _Event(msgspec.Struct, tag=str.lower, forbid_unknown_fields=True, gc=False):
    """An event."""


class Founded(_Event):
    """The first event of a log: the group begins.

    `members` are the names and roles of all devices that belong to the group, `size` is how many there
    are; None where that was not said. Commands that need all members wait until all have joined.
    """

    time: float
    identity: Identity
    members: tuple[tuple[str, str], ...] | None = None
    size: int | None = None


class Joined(_Event):
    """A device is in the group from now on, or is back after it had left."""

    time: float
    device: str
    identity: Identity
    role: str


class Sent(_Event):
    """A device sent a message, with pairs of key and value in the order given."""

    time: float
    device: str
    identity: Identity
    message_id: Text
    data: tuple[tuple[Text, Text], ...]


class Waiting(_Event):
    """A device began to wait; a lava-sync also sends the message, without data.

    `message_id` is the name of a lava-lock. `whom` is for lava-wait-all and lava-sync; a lava-wait takes
    what any other device sends, and has None. `timeout` is in seconds, None for no limit; the host of the device
    keeps the time and appends `Released`. `own_timeout` is whether the script gave it,
    with --timeout, and so has a plan for a wait that ends without success. `position` is
    where in the device's console log the wait began, in bytes. `or_ids` are further ids of which one
    will do as well, of a lava-wait --any. `confirms` is whether what the wait gets, a message of lava-wait --next
    or a lock, is only lent to the command until `Taken`. `for_command` is whether a lock is had for as long as a
    COMMAND of lava-lock runs.
    """

    time: float
    device: str
    identity: Identity
    kind: WaitKind
    message_id: Text
    whom: Whom
    timeout: float | None
    own_timeout: bool = False
    position: int = 0
    or_ids: tuple[Text, ...] = ()
    confirms: bool = False
    for_command: bool = False

    @property
    def ids(self) -> tuple[bytes, ...]:
        """All ids of which one will do."""
        return (self.message_id, *self.or_ids)


class Taken(_Event):
    """The command of the fulfilled wait `request` has what that was lent. If it was taken back, this changes nothing."""

    time: float
    device: str
    identity: Identity
    request: Identity


class Unlocked(_Event):
    """A device gives a lock back. If another one has it, this changes nothing.

    With a `request`, it is that lava-lock which needs the lock no more; the device may have it by another one still.
    """

    time: float
    device: str
    identity: Identity
    name: Text
    request: Identity = b""


class Released(_Event):
    """The wait `request` ended otherwise than by being fulfilled: timed out, cancelled, rebooted, a dead end.

    One that was fulfilled gives back what it was lent.
    """

    time: float
    identity: Identity
    request: Identity
    status: int
    reason: str


class Resting(_Event):
    """Devices do nothing but wait: so says the host that has their consoles, and that has looked.

    That holds until one of these waits ends, or something else comes of the device.

    `requests` are all open waits of these devices. `doubt` is why they may do something all the
    same, as a clause; empty if they will not.
    """

    time: float
    identity: Identity
    requests: tuple[Identity, ...]
    doubt: str


class Lost(_Event):
    """There is no connection to the device's console, until something else comes of it: `Joined` at the latest.

    `boots`: there is, but it shows that the device has crashed or boots anew. A wait of it that fails meanwhile is
    one that was interrupted.
    """

    time: float
    device: str
    identity: Identity
    reason: str
    boots: bool = False


class Left(_Event):
    """A device will never send again: its script ended, or it died."""

    time: float
    device: str
    identity: Identity
    reason: str


class Reported(_Event):
    """A device told how its tests get on; see `reportable.REPORTS` for the kinds and their fields.

    `position` is where in the device's console log this belongs, in bytes. Bytes that are no UTF-8
    stand in the fields as lone surrogates. Raises ValueError if the fields don't fit the kind.
    """

    time: float
    device: str
    identity: Identity
    kind: str
    fields: tuple[str | None, ...]
    position: int

    def __post_init__(self) -> None:
        check_report(self.kind, self.fields)


class Ended(_Event):
    """The group is over: all devices that were declared have come, and all have left. Nobody joins it any more.

    It does nothing where a device is there; each host may append it.
    """

    time: float
    identity: Identity


Event = (
    Founded | Joined | Sent | Waiting | Taken | Unlocked | Released | Resting | Lost | Left | Reported | Ended
)
# What a device asks for that stands in the log.
Asked = Sent | Waiting | Taken | Unlocked | Reported


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
        **{name: codec.encode(getattr(event, name)) for name, codec in fields.items()},
    }


def from_json(value: object) -> Event:
    """The event that `to_json` made `value` of; fields that are unknown here are passed over.

    Raises UnknownEvent for a kind that is unknown here, ValueError for what is no event.
    """
    if not isinstance(value, dict):
        raise ValueError(f"an event is an object, not {value!r:.80}")
    name = value.get("type")
    if not isinstance(name, str):
        raise ValueError(f"there is no event type {name!r:.80}")
    event_type = _TYPES.get(name)
    if event_type is None:
        raise UnknownEvent(name)
    decoders = _DECODERS[event_type]
    try:
        if value.keys() >= _NAMES[event_type]:
            return event_type(*[decode(value[field]) for field, decode in decoders])
        # An older version wrote it, without the newest fields.
        return event_type(**{field: decode(value[field]) for field, decode in decoders if field in value})
    except TypeError:
        missing = [field for field, _ in decoders if field not in value]
        raise ValueError(f"bad {name} event: it has no {' and no '.join(missing)}") from None
    except ValueError as error:
        raise ValueError(f"bad {name} event: {error}") from error


class UnknownEvent(ValueError):
    """An event of a kind that this version does not know; `kind` names it."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"there is no event type {kind!r:.80}")
        self.kind = kind


class Reader:
    """Reads the events of one log, which another version may have written in part.

    :param notice: is told once of each kind of event and of each field that is passed over.
    """

    def __init__(self, notice: Callable[[str], object]) -> None:
        self._notice = notice
        self._told: set[str] = set()
        self._made_up = 0  # identities

    def read_line(self, line: bytes) -> Event | None:
        """The event that a log has as `line`, or None if this version does not know its kind.

        Raises ValueError for what is no event.
        """
        try:
            return _decode(line)
        except (ValueError, RecursionError):
            # Another version wrote it, or it holds bytes that are no UTF-8, or it is no event.
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"this is no event of a group ({error})") from error
            return self.read(value)

    def read(self, value: object) -> Event | None:
        """The event of this JSON value, or None if this version does not know its kind. Raises ValueError."""
        if isinstance(value, dict) and "identity" not in value and value.get("type") in _BEFORE:
            value = self._of_before(value)
        try:
            event = from_json(value)
        except UnknownEvent as error:
            self._tell(f"events of the kind {error.kind!r:.80}")
            return None
        assert isinstance(value, dict)
        if not value.keys() <= _KNOWN[type(event)]:
            for name in sorted(value.keys() - _KNOWN[type(event)]):
                self._tell(f"the field {name!r:.80} of {value['type']} events")
        return event

    def _of_before(self, value: dict[str, Any]) -> dict[str, Any]:
        """The event as it is written now, of one that was written when only requests had an identity."""
        new = dict(value)
        if new.get("type") == "waiting":
            new["whom"] = new.pop("role", None)
        if new.get("type") != "released":
            new["identity"] = new.pop("request", "")
        if not new.get("identity"):
            self._made_up += 1
            new["identity"] = (b"event %d" % self._made_up).hex()
        return new

    def _tell(self, what: str) -> None:
        if what not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(what)
            self._notice(f"{what} are ignored: another version of lavabox wrote them")


# Kinds of events that there were before every event had an identity.
_BEFORE = {"joined", "sent", "waiting", "released", "left", "reported"}
# Kinds and fields that a reader tells of.
_MAX_TOLD = 100


class _Codec(NamedTuple):
    """One kind of field.

    :param encode: to JSON.
    :param decode: back, with a check.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


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


def _members_to_lists(members: tuple[tuple[str, str], ...]) -> list[list[str]]:
    return [list(member) for member in members]


def _lists_to_members(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise ValueError(f"not a list of names and roles: {value!r:.80}")
    return tuple((_text(name), _text(role)) for name, role in value)


def _whom_to_json(whom: Whom) -> object:
    return list(whom) if isinstance(whom, tuple) else whom


def _json_to_whom(value: Any) -> Whom:
    if isinstance(value, list):
        return tuple(map(_text, value))
    return value if value is None or isinstance(value, str) else _whole_number(value)


def _ids_to_list(ids: tuple[bytes, ...]) -> list[str]:
    return [_bytes_to_text(one) for one in ids]


def _list_to_ids(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list):
        raise ValueError(f"not a list of ids: {value!r:.80}")
    return tuple(map(_text_to_bytes, value))


def _identities_to_list(identities: tuple[bytes, ...]) -> list[str]:
    return [one.hex() for one in identities]


def _list_to_identities(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list):
        raise ValueError(f"not a list of identities: {value!r:.80}")
    return tuple(map(_from_hex, value))


def _report_fields(value: Any) -> tuple[str | None, ...]:
    if not isinstance(value, list):
        raise ValueError(f"not a list: {value!r:.80}")
    return tuple([None if item is None else _text(item) for item in value])


def _wait_kind(value: Any) -> WaitKind:
    return WaitKind(_text(value))


def _optional(codec: _Codec) -> _Codec:
    def if_any(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda value: None if value is None else function(value)

    return _Codec(if_any(codec.encode), if_any(codec.decode))


_TEXT = _Codec(_same, _text)
_NUMBER_OF = _Codec(_same, _whole_number)
_YES_OR_NO = _Codec(_same, _yes_or_no)
_SECONDS = _Codec(_finite, _seconds)
_IDENTITY = _Codec(bytes.hex, _from_hex)
_IDENTITIES = _Codec(_identities_to_list, _list_to_identities)
_BYTES = _Codec(_bytes_to_text, _text_to_bytes)
_IDS = _Codec(_ids_to_list, _list_to_ids)
_PAIRS = _Codec(_pairs_to_lists, _lists_to_pairs)
_MEMBERS = _Codec(_members_to_lists, _lists_to_members)
_KIND = _Codec(lambda kind: kind.value, _wait_kind)
_WHOM = _Codec(_whom_to_json, _json_to_whom)
_REPORT = _Codec(list, _report_fields)

_COMMON = {"time": _SECONDS, "device": _TEXT, "identity": _IDENTITY}

_FIELDS: dict[type[Event], dict[str, _Codec]] = {
    Founded: {
        "time": _SECONDS,
        "identity": _IDENTITY,
        "members": _optional(_MEMBERS),
        "size": _optional(_NUMBER_OF),
    },
    Joined: {**_COMMON, "role": _TEXT},
    Sent: {**_COMMON, "message_id": _BYTES, "data": _PAIRS},
    Waiting: {
        **_COMMON,
        "kind": _KIND,
        "message_id": _BYTES,
        "whom": _WHOM,
        "timeout": _optional(_SECONDS),
        "own_timeout": _YES_OR_NO,
        "position": _NUMBER_OF,
        "or_ids": _IDS,
        "confirms": _YES_OR_NO,
        "for_command": _YES_OR_NO,
    },
    Taken: {**_COMMON, "request": _IDENTITY},
    Unlocked: {**_COMMON, "name": _BYTES, "request": _IDENTITY},
    Released: {
        "time": _SECONDS,
        "identity": _IDENTITY,
        "request": _IDENTITY,
        "status": _NUMBER_OF,
        "reason": _TEXT,
    },
    Resting: {"time": _SECONDS, "identity": _IDENTITY, "requests": _IDENTITIES, "doubt": _TEXT},
    Lost: {**_COMMON, "reason": _TEXT, "boots": _YES_OR_NO},
    Left: {**_COMMON, "reason": _TEXT},
    Reported: {**_COMMON, "kind": _TEXT, "fields": _REPORT, "position": _NUMBER_OF},
    Ended: {"time": _SECONDS, "identity": _IDENTITY},
}
_DECODERS = {
    event_type: tuple((name, codec.decode) for name, codec in fields.items())
    for event_type, fields in _FIELDS.items()
}
_NAMES = {event_type: set(fields) for event_type, fields in _FIELDS.items()}
_KNOWN = {event_type: {"type", *fields} for event_type, fields in _FIELDS.items()}
_TYPES = {event_type.__name__.lower(): event_type for event_type in _FIELDS}


def _of_text(kind: Any, text: str) -> object:
    return kind.of(text)


# Of a line as this version writes it; raises ValueError or RecursionError for all others.
_decode: Callable[[bytes], Event] = msgspec.json.Decoder(Event, dec_hook=_of_text).decode
