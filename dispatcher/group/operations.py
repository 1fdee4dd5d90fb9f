# SPDX-License-Identifier: MIT
"""What a device's request may ask for: one function for each operation.

A function `(state, call)` checks the arguments, whatever their types. It returns

* the packed reply, where the state of the group tells it,
* or the event that the request adds to the log: the request is answered when it comes back,
* or None, where the answer has to wait until all devices of the group have joined.

It raises ProtocolError for arguments that no command of ours would send.
To add an operation, write its function and put it into OPERATIONS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dispatcher.group.configuration import Configuration
from dispatcher.group.doings import doings
from dispatcher.group.events import Asked, Reported, Sent, Taken, Unlocked, Waiting, WaitKind, Whom, readable
from dispatcher.group.state import GroupState
from toolkit.wire.vocabulary import (
    IDENTITY_SIZE,
    MAX_DATA,
    MAX_NAME,
    MAX_TEXT,
    NO,
    OK,
    ProtocolError,
    pack_reply,
)

MAX_ID = 1024
# Ids of one lava-wait --any, devices of one lava-wait-all --device, and of a lava-sync --count.
MAX_IDS = 64
MAX_DEVICES = 10_000


@dataclass(frozen=True, slots=True)
class Call:
    """One request of one device.

    :param identity: that of the request in the group log.
    :param time: on the clock of the log.
    :param position: in the device's console log, in bytes.
    :param configuration: what the lab says of its devices.
    """

    device: str
    identity: bytes
    operation: str
    arguments: list[Any]
    time: float
    position: int
    configuration: Configuration


Answer = bytes | Asked | None
Handler = Callable[[GroupState, Call], Answer]


def _fields(call: Call, *checks: Callable[[Any], bool]) -> list[Any]:
    """The arguments of a call, if there are as many as checks, and each one holds."""
    if len(call.arguments) != len(checks):
        raise ProtocolError(f"{call.operation} takes {len(checks)} arguments")
    for number, (check, value) in enumerate(zip(checks, call.arguments, strict=True), start=1):
        if not check(value):
            raise ProtocolError(f"argument {number} of {call.operation} has the wrong type")
    return call.arguments


def _is_id(value: Any) -> bool:
    return isinstance(value, bytes) and 0 < len(value) <= MAX_ID and not _forbidden(value, b"=")


def _is_role(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_identity(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == IDENTITY_SIZE


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MAX_IDS and all(map(_is_id, value))


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MAX_DEVICES
        and all(isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in value)
    )


def _is_role_or_count(value: Any) -> bool:
    return isinstance(value, str) or (type(value) is int and 0 < value <= MAX_DEVICES)


def _is_bool(value: Any) -> bool:
    return type(value) is bool


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


def decoded(value: Any) -> str | None:
    """A field of a report as it stands in the log; nothing is None, however it was said."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape") or None
    return str(value) if isinstance(value, int) else value or None


def _self(state: GroupState, call: Call) -> Answer:
    _fields(call)
    return pack_reply(OK, call.device)


def _role(state: GroupState, call: Call) -> Answer:
    _fields(call)
    return pack_reply(OK, state.role(call.device))


def _group(state: GroupState, call: Call) -> Answer:
    _fields(call)
    if not state.coordinator.complete:
        return None
    return pack_reply(OK, *([name, role] for name, role in state.coordinator.members))


def _send(state: GroupState, call: Call) -> Answer:
    message_id, items = _fields(call, _is_id, _is_data)
    size = sum(map(len, items))
    if size > MAX_DATA:
        raise ProtocolError(f"a message carries at most {MAX_DATA} bytes of data, not {size}")
    pairs = tuple(zip(items[::2], items[1::2], strict=True))
    return Sent(call.time, call.device, call.identity, message_id, pairs)


def _wait(state: GroupState, call: Call) -> Answer:
    arguments, own = _timeout_of_its_own(call, 2)
    message_id, timeout = _fields(arguments, _is_id, _is_timeout)
    return _waiting(call, WaitKind.WAIT, message_id, None, timeout, own)


def _wait_any(state: GroupState, call: Call) -> Answer:
    ids, timeout, own = _fields(call, _are_ids, _is_timeout, _is_bool)
    first, *others = dict.fromkeys(ids)
    if not others:
        raise ProtocolError("wait-any takes several ids")
    return _waiting(call, WaitKind.WAIT, first, None, timeout, own, tuple(others))


def _wait_next(state: GroupState, call: Call) -> Answer:
    message_id, timeout, own = _fields(call, _is_id, _is_timeout, _is_bool)
    return _waiting(call, WaitKind.NEXT, message_id, None, timeout, own, confirms=True)


def _wait_devices(state: GroupState, call: Call) -> Answer:
    message_id, names, timeout, own = _fields(call, _is_id, _are_names, _is_timeout, _is_bool)
    return _waiting(call, WaitKind.WAIT_ALL, message_id, tuple(dict.fromkeys(names)), timeout, own)


def _sync_some(state: GroupState, call: Call) -> Answer:
    message_id, whom, timeout, own = _fields(call, _is_id, _is_role_or_count, _is_timeout, _is_bool)
    return _waiting(call, WaitKind.SYNC, message_id, whom, timeout, own)


def _lock(state: GroupState, call: Call) -> Answer:
    name, for_command, timeout, own = _fields(call, _is_id, _is_bool, _is_timeout, _is_bool)
    return _waiting(call, WaitKind.LOCK, name, None, timeout, own, confirms=True, for_command=for_command)


def _taken(state: GroupState, call: Call) -> Answer:
    (identity,) = _fields(call, _is_identity)
    return Taken(call.time, call.device, call.identity, identity + call.device.encode())


def _unlock(state: GroupState, call: Call) -> Answer:
    (name,) = _fields(call, _is_id)
    return Unlocked(call.time, call.device, call.identity, name)


def _unlock_of(state: GroupState, call: Call) -> Answer:
    name, identity = _fields(call, _is_id, _is_identity)
    return Unlocked(call.time, call.device, call.identity, name, identity + call.device.encode())


def _state(state: GroupState, call: Call) -> Answer:
    _fields(call)
    found = doings(state.coordinator, call.time)
    return pack_reply(OK, *([name, role, *found[name]] for name, role in state.coordinator.members))


def _wait_all(state: GroupState, call: Call) -> Answer:
    arguments, own = _timeout_of_its_own(call, 3)
    message_id, role, timeout = _fields(arguments, _is_id, _is_role, _is_timeout)
    return _waiting(call, WaitKind.WAIT_ALL, message_id, role, timeout, own)


def _sync(state: GroupState, call: Call) -> Answer:
    arguments, own = _timeout_of_its_own(call, 2)
    message_id, timeout = _fields(arguments, _is_id, _is_timeout)
    return _waiting(call, WaitKind.SYNC, message_id, None, timeout, own)


def _timeout_of_its_own(call: Call, count: int) -> tuple[Call, bool]:
    """The call with its first `count` arguments, and the one behind: whether the script gave --timeout.

    An older box does not say.
    """
    own = call.arguments[count] if len(call.arguments) > count else False
    if type(own) is not bool:
        raise ProtocolError(f"the last argument of {call.operation} must be true or false")
    rest = call.arguments[:count] + call.arguments[count + 1 :]
    return replace(call, arguments=rest), own


def _waiting(
    call: Call,
    kind: WaitKind,
    message_id: bytes,
    whom: Whom,
    milliseconds: int | None,
    own: bool,
    or_ids: tuple[bytes, ...] = (),
    *,
    confirms: bool = False,
    for_command: bool = False,
) -> Waiting:
    seconds = None if milliseconds is None else milliseconds / 1000
    return Waiting(
        call.time,
        call.device,
        call.identity,
        kind,
        message_id,
        whom,
        seconds,
        own,
        call.position,
        or_ids,
        confirms,
        for_command,
    )


def _report(*checks: Callable[[Any], bool]) -> Handler:
    """The operation whose arguments are the fields of an event of this kind."""

    def handler(state: GroupState, call: Call) -> Answer:
        fields = tuple(map(decoded, _fields(call, *checks)))
        try:
            return Reported(call.time, call.device, call.identity, call.operation, fields, call.position)
        except ValueError as error:
            raise ProtocolError(str(error)) from None

    return handler


def _set_start(state: GroupState, call: Call) -> Answer:
    started = _report(_is_name)(state, call)
    open_set = state.results.open_set(call.device)
    if open_set is not None and not state.known(call.identity):
        return pack_reply(NO, f"a test set is open already: {readable(open_set):.200}")
    return started


def _set_stop(state: GroupState, call: Call) -> Answer:
    stopped = _report()(state, call)
    if state.results.open_set(call.device) is None and not state.known(call.identity):
        return pack_reply(NO, "no test set is open")
    return stopped


def _config(state: GroupState, call: Call) -> Answer:
    (key,) = _fields(call, lambda value: isinstance(value, str))
    return pack_reply(OK, *call.configuration.values(call.device, key))


def _shared_config(state: GroupState, call: Call) -> Answer:
    _fields(call)
    shared = call.configuration.shared
    return pack_reply(OK, *([] if shared is None else [shared]))


OPERATIONS: dict[str, Handler] = {
    "self": _self,
    "role": _role,
    "group": _group,
    "send": _send,
    "wait": _wait,
    "wait-all": _wait_all,
    "sync": _sync,
    "wait-any": _wait_any,
    "wait-next": _wait_next,
    "wait-devices": _wait_devices,
    "sync-some": _sync_some,
    "lock": _lock,
    "taken": _taken,
    "unlock": _unlock,
    "unlock-of": _unlock_of,
    "state": _state,
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
