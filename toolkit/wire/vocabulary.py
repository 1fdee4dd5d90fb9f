# SPDX-License-Identifier: MIT
"""Requests and replies: what a command asks of the dispatcher, and what it is told.

Both are msgpack arrays:

    request = [identity, operation, *arguments]     identity: 8 random bytes made by the command
    reply   = [status, *values]                     status 0, or [status, sentence] for any other

The identity travels with every repetition of a request, through any number of
links, so the dispatcher can carry out each request exactly once.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Exit statuses of the commands, and statuses of replies.
OK = 0
NO = 1  # the answer is no: no such role, time-out, refused, nobody left who could send
USAGE = 2
NO_DISPATCHER = 69  # EX_UNAVAILABLE of sysexits.h
LINK_FAILED = 75  # EX_TEMPFAIL of sysexits.h
INTERRUPTED = 130

IDENTITY_SIZE = 8

# Bytes of keys and values that one message may carry.
MAX_DATA = 64 * 1024
# Bytes of the id of a test case, of the name of a test set or run, of a unit and of a measurement.
MAX_NAME = 16 * 1024
# Bytes of the message of lava-test-raise or lava-test-event, and of a reference's URL.
MAX_TEXT = MAX_DATA
# What lava-network sends and waits for.
NETWORK_ID = b"network_info"
# What a test may result in.
RESULTS = ("pass", "fail", "skip", "unknown")
# A request: its data, and room for the rest (an id; a key of one byte and an empty value take five).
MAX_REQUEST = 6 * MAX_DATA
# A reply to a wait carries the data of several devices.
MAX_REPLY = 16 * MAX_DATA


class ProtocolError(ValueError):
    """An intact but illegal request, reply or frame: the peer's mistake."""


class CommandError(Exception):
    """A command ends with `status`, and says `text` (a sentence for a person)."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class UsageError(CommandError):
    """The user's mistake on the command line."""

    def __init__(self, text: str) -> None:
        super().__init__(USAGE, text)


def pack(value: "list[Any]") -> bytes:
    import msgpack

    data: bytes = msgpack.packb(value)
    return data


def unpack(data: bytes) -> "list[Any]":
    """The array in `data`; raises ProtocolError for anything else."""
    # Here, since every command takes its errors and statuses from this module, and few of them pack anything.
    import msgpack

    try:
        # The limits come from the data's own length, so that no header can ask for more memory.
        value = msgpack.unpackb(data)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError("no msgpack: %s" % error) from None
    if not isinstance(value, list):
        raise ProtocolError("not an array")
    return value


def pack_request(identity: bytes, operation: str, *arguments: object) -> bytes:
    return pack([identity, operation] + list(arguments))


def unpack_request(data: bytes) -> "tuple[bytes, str, list[Any]]":
    """Identity, operation and arguments; raises ProtocolError."""
    value = unpack(data)
    if len(value) < 2 or not isinstance(value[0], bytes) or len(value[0]) != IDENTITY_SIZE:
        raise ProtocolError("a request begins with an identity of %d bytes" % IDENTITY_SIZE)
    if not isinstance(value[1], str):
        raise ProtocolError("the operation is no text")
    return value[0], value[1], value[2:]


def pack_reply(status: int, *values: object) -> bytes:
    return pack([status] + list(values))


def unpack_reply(data: bytes) -> "tuple[int, list[Any]]":
    """Status and values; raises ProtocolError."""
    value = unpack(data)
    if not value or type(value[0]) is not int:
        raise ProtocolError("a reply begins with a status")
    if value[0] != OK and (len(value) != 2 or not isinstance(value[1], str)):
        raise ProtocolError("a refusal is a status and a sentence")
    return value[0], value[1:]
