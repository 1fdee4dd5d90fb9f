# SPDX-License-Identifier: MIT
"""What goes over the socket between a device's membership and a group in another process.

    message = length, 4 bytes, big-endian | msgpack array [kind, *fields]

    to the group                                              from the group
    hello   version, group, size, device, role,               welcome  version, number
            console, job, incarnation                         refused  sentence
    ask     number, identity, operation, arguments, position  unavailable  sentence
    cancel  number, reason                                    answer   number, reply or nil
    report  serial, kind, fields, position                    noted    serial
    heard
    leave   reason
    lose    reason, boots
    regain
    reboot  reason

The first message of each side is hello; and welcome, refused, or unavailable, which may be over soon. `number` is what
the asker calls a request on this connection; it is answered with nil once it is recorded, and with its packed reply. A
report is kept until it is noted, and may come twice. No I/O and no clock.
"""

import struct
from collections.abc import Callable
from typing import Any

from toolkit.wire.vocabulary import IDENTITY_SIZE, MAX_REPLY, ProtocolError, pack, unpack

VERSION = 3
# Where hooks find the coordinator of their machine.
DEFAULT_SOCKET = "/run/lavabox/coordinator"
# The socket for `lavabox status` has this behind its path.
CONTROL_SUFFIX = ".control"
# Bytes of a message: the largest reply, or the largest request (MAX_REQUEST is less), and the rest.
MAX_MESSAGE = MAX_REPLY + 4096
# Bytes of a hello.
MAX_HELLO = 16 * 1024
# Bytes that wait to be sent, above which the other end is taken for dead; what is open is asked again when it is not.
MAX_UNSENT = 16 * 1024 * 1024
# Seconds without a connection after which what is asked ends with status 75.
PATIENCE = 60.0
# Bytes of a name, of a reason and of a sentence.
_MAX_NAME, _MAX_REASON = 256, 4096
# Bytes of the longest field of a report.
_MAX_FIELD = 256 * 1024

_LENGTH = struct.Struct(">I")
_Check = Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_size(value: Any) -> bool:
    return value is None or (_is_count(value) and 0 < value <= 100_000)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()


def _is_reason(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_REASON


def _is_yes_or_no(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_identity(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) == IDENTITY_SIZE


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_reply(value: Any) -> bool:
    return value is None or isinstance(value, bytes)


def _is_fields(value: Any) -> bool:
    """Texts are bytes here, as they may hold lone surrogates."""
    return isinstance(value, list) and all(
        item is None or (isinstance(item, bytes) and len(item) <= _MAX_FIELD) for item in value
    )


TO_GROUP: dict[str, tuple[_Check, ...]] = {
    "hello": (_is_count, _is_name, _is_size, _is_name, _is_name, _is_name, _is_name, _is_identity),
    "ask": (_is_count, _is_identity, _is_text, _is_list, _is_count),
    "cancel": (_is_count, _is_reason),
    "report": (_is_count, _is_text, _is_fields, _is_count),
    "heard": (),
    "leave": (_is_reason,),
    "lose": (_is_reason, _is_yes_or_no),
    "regain": (),
    "reboot": (_is_reason,),
}
FROM_GROUP: dict[str, tuple[_Check, ...]] = {
    "welcome": (_is_count, _is_count),
    "refused": (_is_reason,),
    "unavailable": (_is_reason,),
    "answer": (_is_count, _is_reply),
    "noted": (_is_count,),
}


def encode(kind: str, *fields: object) -> bytes:
    """One message, as it goes over the socket. Raises ProtocolError if it is too long."""
    body = pack([kind, *fields])
    if len(body) > MAX_MESSAGE:
        raise ProtocolError(f"a message to or from a group has at most {MAX_MESSAGE} bytes, not {len(body)}")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Takes messages out of what comes over one connection.

    :param kinds: TO_GROUP or FROM_GROUP: what may come.
    :param first: bytes of the first message, at most.
    """

    def __init__(self, kinds: dict[str, tuple[_Check, ...]], first: int = MAX_MESSAGE) -> None:
        self._limit = first
        self._kinds = kinds
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> list[tuple[str, list[Any]]]:
        """Take bytes in any chunking; returns the kind and the fields of each message that is whole.

        Raises ProtocolError for what is no such message; the connection is then of no use any more.
        """
        buffer = self._buffer
        buffer += data
        messages, start = [], 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > self._limit:
                raise ProtocolError(f"a message of {length} bytes, where at most {self._limit} are allowed")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            messages.append(self._checked(unpack(bytes(buffer[start + _LENGTH.size : end]))))
            start, self._limit = end, MAX_MESSAGE
        del buffer[:start]
        return messages

    def _checked(self, value: list[Any]) -> tuple[str, list[Any]]:
        kind, fields = (value[0], value[1:]) if value else (None, [])
        checks = self._kinds.get(kind) if isinstance(kind, str) else None
        if checks is None:
            raise ProtocolError(f"no message is called {kind!r:.40}")
        # A later version may add fields.
        fields = fields[: len(checks)]
        if len(fields) < len(checks) or not all(
            check(field) for check, field in zip(checks, fields, strict=True)
        ):
            raise ProtocolError(f"a {kind!r} message that is malformed")
        return str(kind), fields
