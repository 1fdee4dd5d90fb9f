# SPDX-License-Identifier: MIT
"""LAVA's coordinator protocol: one request and one response on each TCP connection.

    8 hexadecimal digits, the length in bytes | JSON object

LAVA's dispatchers ask again, every poll_delay seconds, as long as the response is "wait". No I/O and no clock.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toolkit.wire.vocabulary import ProtocolError

_HEADER = 8
# Bytes of a request. LAVA's dispatchers send no more than 65534.
MAX_REQUEST = 256 * 1024
# Characters of a name, and devices of a group.
_MAX_NAME, _MAX_SIZE = 256, 100_000
# What a LAVA dispatcher, or somebody's script, may ask.
KINDS = (
    *("group_data", "clear_group", "complete", "aggregate"),
    *("lava_send", "lava_wait", "lava_wait_all", "lava_sync"),
)


@dataclass(frozen=True, slots=True)
class LavaRequest:
    """What a device's job asks.

    :param client: the id of the job, which is what LAVA calls a device in its group.
    :param role: of the client; "" if that was not said.
    :param hostname: the name of the device; "" if that was not said.
    :param size: how many devices the group is to have; None if that was not said.
    :param message_id: "" where there is none.
    :param message: pairs of a message.
    :param waitrole: whom a lava_wait_all waits for; None: for all.
    :param sub_id: of an aggregate; "" if it has none.
    :param bundle: of an aggregate; None if it has none.
    """

    kind: str
    group: str
    client: str
    role: str
    hostname: str
    size: int | None
    message_id: str
    message: Mapping[str, str]
    waitrole: str | None
    sub_id: str
    bundle: Any


class LavaDecoder:
    """Takes the request out of what comes over one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None

    def receive_data(self, data: bytes) -> LavaRequest | None:
        """Take bytes in any chunking; returns the request once it is whole; what follows it counts for nothing.

        Raises ValueError for what is no such protocol, and ProtocolError, which is one, for a request that makes
        no sense and is to be answered with a nack.
        """
        self._buffer += data
        if self._length is None:
            if len(self._buffer) < _HEADER:
                return None
            self._length = _length(bytes(self._buffer[:_HEADER]))
        if len(self._buffer) < _HEADER + self._length:
            return None
        body = bytes(self._buffer[_HEADER : _HEADER + self._length])
        self._buffer.clear()
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise ValueError("the request is no JSON") from None
        return _checked(document)


def _length(header: bytes) -> int:
    # int() alone would take "+0x1_2" as well.
    if not all(character in b"0123456789abcdefABCDEF" for character in header):
        raise ValueError(f"this is not LAVA's protocol: {header!r}")
    length = int(header, 16)
    if length > MAX_REQUEST:
        raise ValueError(f"a request of {length} bytes, where at most {MAX_REQUEST} are allowed")
    return length


def encode_response(response: str, **fields: object) -> bytes:
    """A response, as it goes over the connection."""
    body = json.dumps({"response": response, **fields}).encode()
    return b"%08X" % len(body) + body


def _checked(document: object) -> LavaRequest:
    if not isinstance(document, dict):
        raise ProtocolError("the request is no object")
    kind = document.get("request")
    if kind not in KINDS:
        raise ProtocolError(f"there is no request {kind!r:.40}")
    waitrole = document.get("waitrole")
    return LavaRequest(
        kind,
        _name(document, "group_name"),
        _name(document, "client_name"),
        _optional_name(document, "role"),
        _optional_name(document, "hostname"),
        _size(document.get("group_size")),
        _optional_name(document, "messageID"),
        _pairs(document.get("message")),
        waitrole if waitrole is None else _name(document, "waitrole"),
        _optional_name(document, "sub_id"),
        document.get("bundle"),
    )


def _name(document: Mapping[str, object], key: str) -> str:
    value = _optional_name(document, key)
    if not value:
        raise ProtocolError(f"{key} is missing")
    return value


def _optional_name(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        # The id of a job, as a number.
        value = str(value) if abs(value) < 2**63 else ""
    if not isinstance(value, str) or len(value) > _MAX_NAME or not value.isprintable():
        raise ProtocolError(f"{key} is no name: {value!r:.40}")
    return value


def _size(value: object) -> int | None:
    """LAVA 2023.01 and later say it in "group_data" and "clear_group" alone; 0 is as good as nothing."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _HEADER:
        value = int(value)
    if value is None or value == 0:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MAX_SIZE:
        raise ProtocolError(f"group_size is no number of devices: {value!r:.40}")
    return value


def _pairs(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        # A lava_sync of LAVA's may carry a text, which means nothing.
        return {}
    return {key: _text(item) for key, item in value.items()}


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
