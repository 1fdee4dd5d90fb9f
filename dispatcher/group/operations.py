# SPDX-License-Identifier: MIT
"""What a device's request may ask for: one function for each operation.

A function `(engine, call)` checks the arguments, whatever their types, and
returns the packed reply, or None: the reply follows when the wait ends.
It raises ProtocolError for arguments that no command of ours would send.
To add an operation, write its function and put it into OPERATIONS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispatcher.group.events import WaitKind, readable
from toolkit.wire.vocabulary import MAX_DATA, MAX_NAME, MAX_TEXT, NO, OK, ProtocolError, pack_reply

if TYPE_CHECKING:
    from dispatcher.engine import Engine

MAX_ID = 1024


@dataclass(frozen=True, slots=True)
class Call:
    """One request of one device; `request` is its identity in the group log."""

    device: str
    request: bytes
    operation: str
    arguments: list[Any]
    now: float


Handler = Callable[["Engine", Call], bytes | None]


def _fields(call: Call, *checks: Callable[[Any], bool]) -> list[Any]:
    """The arguments of a call, if there are as many as checks, and each one holds."""
    if len(call.arguments) != len(checks):
        raise ProtocolError(f"{call.operation} takes {len(checks)} arguments")
    for number, (check, value) in enumerate(zip(checks, call.arguments, strict=True), start=1):
        if not check(value):
            raise ProtocolError(f"argument {number} of {call.operation} is not what it should be")
    return call.arguments


def _is_id(value: Any) -> bool:
    return isinstance(value, bytes) and 0 < len(value) <= MAX_ID and not _forbidden(value, b"=")


def _is_role(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_timeout(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _is_data(value: Any) -> bool:
    """Keys and values in turn."""
    if not isinstance(value, list) or len(value) % 2 or not all(isinstance(item, bytes) for item in value):
        return False
    keys, values = value[::2], value[1::2]
    return all(key and not _forbidden(key, b"=") for key in keys) and not any(
        set(item) & set(b"\0\r\n") for item in values
    )


def _forbidden(value: bytes, more: bytes) -> bool:
    """Whether there is white space, a control character or one of `more` in it."""
    return any(byte <= 0x20 or byte == 0x7F or byte in more for byte in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, bytes | str) and 0 < len(value) <= MAX_NAME


def _is_name_or_nothing(value: Any) -> bool:
    return value in (None, b"", "") or _is_name(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, bytes | str) and 0 < len(value) <= MAX_TEXT


def _is_status(value: Any) -> bool:
    return type(value) is int


def _decoded(value: Any) -> str | None:
    """A field of a report as it stands in the log; nothing is None, however it was said."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape") or None
    return str(value) if isinstance(value, int) else value or None


def _self(engine: Engine, call: Call) -> bytes:
    _fields(call)
    return pack_reply(OK, call.device)


def _role(engine: Engine, call: Call) -> bytes:
    _fields(call)
    return pack_reply(OK, dict(engine.coordinator.members)[call.device])


def _group(engine: Engine, call: Call) -> bytes:
    _fields(call)
    return pack_reply(OK, *([name, role] for name, role in engine.coordinator.members))


def _send(engine: Engine, call: Call) -> bytes:
    message_id, items = _fields(call, _is_id, _is_data)
    size = sum(map(len, items))
    if size > MAX_DATA:
        raise ProtocolError(f"a message carries at most {MAX_DATA} bytes of data, not {size}")
    return engine.send(call, message_id, tuple(zip(items[::2], items[1::2], strict=True)))


def _wait(engine: Engine, call: Call) -> bytes | None:
    given = _taken_given(call, 2)
    message_id, timeout = _fields(call, _is_id, _is_timeout)
    return engine.wait(call, WaitKind.WAIT, message_id, None, _seconds(timeout), given)


def _wait_all(engine: Engine, call: Call) -> bytes | None:
    given = _taken_given(call, 3)
    message_id, role, timeout = _fields(call, _is_id, _is_role, _is_timeout)
    return engine.wait(call, WaitKind.WAIT_ALL, message_id, role, _seconds(timeout), given)


def _sync(engine: Engine, call: Call) -> bytes | None:
    given = _taken_given(call, 2)
    message_id, timeout = _fields(call, _is_id, _is_timeout)
    return engine.wait(call, WaitKind.SYNC, message_id, None, _seconds(timeout), given)


def _taken_given(call: Call, place: int) -> bool:
    """Take the last argument of a wait, which may be missing: whether its script gave --timeout."""
    if len(call.arguments) <= place:
        return False
    given = call.arguments.pop(place)
    if type(given) is not bool:
        raise ProtocolError(f"whether {call.operation} has a time-out of its own is yes or no")
    return given


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _report(*checks: Callable[[Any], bool]) -> Handler:
    """The operation whose arguments are the fields of an event of this kind."""

    def handler(engine: Engine, call: Call) -> bytes:
        return engine.report(call, call.operation, tuple(map(_decoded, _fields(call, *checks))))

    return handler


def _set_start(engine: Engine, call: Call) -> bytes:
    (name,) = _fields(call, _is_name)
    open_set = engine.results.open_set(call.device)
    if open_set is not None and not engine.coordinator.known(call.request):
        return pack_reply(NO, f"a test set is open already: {readable(open_set):.200}")
    return engine.report(call, call.operation, (_decoded(name),))


def _set_stop(engine: Engine, call: Call) -> bytes:
    _fields(call)
    if engine.results.open_set(call.device) is None and not engine.coordinator.known(call.request):
        return pack_reply(NO, "no test set is open")
    return engine.report(call, call.operation, ())


def _config(engine: Engine, call: Call) -> bytes:
    (key,) = _fields(call, lambda value: isinstance(value, str))
    return pack_reply(OK, *engine.configuration.values(call.device, key))


def _shared_config(engine: Engine, call: Call) -> bytes:
    _fields(call)
    shared = engine.configuration.shared
    return pack_reply(OK, *([] if shared is None else [shared]))


OPERATIONS: dict[str, Handler] = {
    "self": _self,
    "role": _role,
    "group": _group,
    "send": _send,
    "wait": _wait,
    "wait-all": _wait_all,
    "sync": _sync,
    "case-start": _report(_is_name),
    "case-end": _report(_is_name),
    "result": _report(_is_name, _is_name, _is_name_or_nothing, _is_name_or_nothing),
    "reference": _report(_is_name, _is_name, _is_text),
    "set-start": _set_start,
    "set-stop": _set_stop,
    "run-start": _report(_is_name, _is_name_or_nothing),
    "run-end": _report(_is_name, _is_name_or_nothing, _is_status),
    "refused": _report(_is_text, _is_text),
    "raise": _report(_is_text),
    "event": _report(_is_text),
    "feedback": _report(_is_name),
    "config": _config,
    "shared-config": _shared_config,
}
