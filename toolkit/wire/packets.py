# SPDX-License-Identifier: MIT
"""Packets: the bodies of frames and lines, msgpack arrays `[type, *fields]`.

Device to host (the device speaks first, and asks again when an answer is lost):

    HELLO    version nonce sequence boot              who listens on this console?
    REQUEST  session sequence tag lease offset total push chunk
    POLL     session sequence tag lease have          still waiting; is there a reply?
    CANCEL   session sequence tag push                nobody waits any more

Host to device (only as the answer to one of the above, or inside a lease):

    WELCOME  version nonce answers session group
    ACK      session answers tag have                 have: bytes of the request so far
    REPLY    session answers tag offset total push chunk
    FENCE    session answers tag                      no line for this tag will follow

`nonce` names the agent that says hello, `session` is the host's answer to it:
a frame of another session is an old log, and causes nothing. `sequence` grows
with every frame sent, repeated or not, so an old one is known as old; `answers`
is the newest sequence number the host has seen, so the device knows which of
its frames may still be answered. `tag` numbers the requests of a session.
`lease` is for how many seconds the host may type the reply unasked, should it
come later; 0: not at all, as somebody else reads the console. `offset` and
`total` count bytes of the sealed message (see transfer.py); `push` asks the
receiver to answer now. `boot` and `group` are hashes: a new boot ends
the requests of the one before it, a new group has lost the old one's messages.
"""

from .vocabulary import ProtocolError, pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1

# Seconds. A waiting command polls so often, and each poll lets the host type until the next one is due: a
# reply that comes while that is on its way is the answer to it. A device that crashes is typed to no longer.
POLL_INTERVAL = 5.0
LEASE = 5
# The same where somebody else reads the console, and no lease can be given.
UNATTENDED_POLL_INTERVAL = 2.0
# A device that hears nothing for so long gives its requests up.
LINK_TIMEOUT = 60.0

HELLO, REQUEST, POLL, CANCEL = range(4)
WELCOME, ACK, REPLY, FENCE = range(4)

_LIMITS = {
    "version": 0xFF,
    "nonce": 0xFFFFFFFF,
    "session": 0xFFFFFFFF,
    "sequence": 0xFFFFFFFF,
    "answers": 0xFFFFFFFF,
    "tag": 0xFFFF,
    "lease": 0x7F,
    "offset": 0xFFFFFFFF,
    "total": 0xFFFFFFFF,
    "have": 0xFFFFFFFF,
    "push": 1,
    "boot": 0xFFFFFFFF,
    "group": 0xFFFFFFFF,
}

UP_FIELDS = {
    HELLO: ("version", "nonce", "sequence", "boot"),
    REQUEST: ("session", "sequence", "tag", "lease", "offset", "total", "push", "chunk"),
    POLL: ("session", "sequence", "tag", "lease", "have"),
    CANCEL: ("session", "sequence", "tag", "push"),
}

DOWN_FIELDS = {
    WELCOME: ("version", "nonce", "answers", "session", "group"),
    ACK: ("session", "answers", "tag", "have"),
    REPLY: ("session", "answers", "tag", "offset", "total", "push", "chunk"),
    FENCE: ("session", "answers", "tag"),
}

# Lines of a reply that the host types before the device has to answer: four fill a quarter of
# what a tty holds for a reader that is late.
REPLY_WINDOW = 4

# Room that a REQUEST or REPLY needs beside its chunk, every number at its longest.
OVERHEAD = 1 + 1 + 5 + 5 + 3 + 1 + 5 + 5 + 1 + 3


def _unpack(body: bytes, fields_of: "dict[int, tuple[str, ...]]") -> "list[Any]":
    packet = unpack(body)
    kind = packet[0] if packet else None
    fields = fields_of.get(kind) if type(kind) is int else None
    if fields is None:
        raise ProtocolError("unknown packet type")
    if len(packet) != len(fields) + 1:
        raise ProtocolError("wrong number of fields")
    for name, value in zip(fields, packet[1:]):
        if name == "chunk":
            if type(value) is not bytes:
                raise ProtocolError("chunk is no bytes")
        elif type(value) is not int or not 0 <= value <= _LIMITS[name]:
            raise ProtocolError("%s out of range" % name)
    return packet


def unpack_up(body: bytes) -> "list[Any]":
    """`[type, *fields]` of a packet from a device; raises ProtocolError."""
    return _unpack(body, UP_FIELDS)


def unpack_down(body: bytes) -> "list[Any]":
    """`[type, *fields]` of a packet from the host; raises ProtocolError."""
    return _unpack(body, DOWN_FIELDS)


def pack_packet(kind: int, *fields: object) -> bytes:
    return pack([kind] + list(fields))
