# SPDX-License-Identifier: MIT
"""LAVA's own multi-device requests, read from what a device without the box prints, and their replies.

    <LAVA_MULTI_NODE> <LAVA_SEND ready ip=10.0.0.1>      no reply
    <LAVA_MULTI_NODE> <LAVA_WAIT ready>                  # <LAVA_WAIT_COMPLETE 1:ip=10.0.0.1>
    <LAVA_MULTI_NODE> <LAVA_WAIT_ALL ready server>       # <LAVA_WAIT_ALL_COMPLETE 1:ip=10.0.0.1 2:ip=10.0.0.2>
    <LAVA_MULTI_NODE> <LAVA_SYNC end>                    # <LAVA_SYNC_COMPLETE>

A request carries no checksum, and nobody answers a lava-send: what is lost on the line is lost. What
can be undone is a kernel message inside, as in LAVA's signals.

The reply is typed to LAVA's script, which reads lines until one has the word in it. If that script is gone,
a shell reads it. So the reply is a comment, the key that kills a half-typed line stands before it, and a
value that the script's own shell would change, or that is more than text to a tty, is left out: `Reply.left_out`.
The script takes a number and a colon for the beginning of a pair, so senders are given as numbers; it says
"Warning:unrecognized message" of the comment's own words, and goes on.

No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import Struct

from dispatcher.line.textsignals import Grammar, TextScanner
from toolkit.wire.framing import LINE_KILL

MARKER = b"<LAVA_MULTI_NODE> <LAVA_"
# Bytes of a line that a tty holds, and its line break.
MAX_REPLY_LINE = 4000

# The operation of each word, as in operations.py.
_OPERATIONS = {b"SEND": "send", b"WAIT": "wait", b"WAIT_ALL": "wait-all", b"SYNC": "sync"}
_WORDS = {operation: word for word, operation in _OPERATIONS.items()}
# What a value can't have: LAVA's script splits at a number and a colon, its `read` takes backslashes away, its
# shell puts file names in place of `*` and `?`, and a tty acts on control characters.
_CHANGED = re.compile(rb"[\x00-\x1f\x7f\\*?]| \d+:")


class TextRequest(Struct, frozen=True, gc=False):
    """`operation` and `arguments` are those of a request in a frame (docs/protocol.md); no time-out.

    `offset` is where it begins in the output.
    """

    operation: str
    arguments: tuple[object, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A line to type, and the pairs, as sender and key, that it can't carry."""

    line: bytes
    left_out: tuple[tuple[int, bytes], ...] = ()


class RequestScanner(TextScanner[TextRequest]):
    """Reads LAVA's requests in the output of one device."""

    def __init__(self, offset: int = 0) -> None:
        """
        :param offset: of the first byte that will come.
        """
        super().__init__(_REQUESTS, offset)


def reply(operation: str, pairs: Iterable[tuple[int, bytes, bytes]] = ()) -> Reply:
    """What to type when a wait or a sync has come to its end; `pairs` are sender, key and value."""
    text, left_out = b"", []
    for sender, key, value in pairs:
        pair = b" %d:%b=%b" % (sender, key, value)
        if _CHANGED.search(b"%b=%b" % (key, value)) or len(text) + len(pair) > MAX_REPLY_LINE - 64:
            left_out.append((sender, key))
        else:
            text += pair
    return Reply(_line(operation, text), tuple(left_out))


def refusal(operation: str) -> Reply:
    """What to type when a wait or a sync has failed: LAVA's script then writes no data, and ends with 0."""
    return Reply(_line(operation, b" nack"))


def _line(operation: str, text: bytes) -> bytes:
    return b"%b# <LAVA_%b_COMPLETE%b>\n" % (LINE_KILL, _WORDS[operation], text)


def _read(text: bytes, start: int, end: int) -> TextRequest:
    word, *words = text.split() or [b""]
    operation = _OPERATIONS.get(word)
    if operation is None:
        raise ValueError(f"there is no request '{word[:40].decode(errors='backslashreplace')}'")
    if not words:
        raise ValueError("the message id is missing")
    message_id, *rest = words
    if b"=" in message_id:
        raise ValueError("a message id has no '=' in it")
    if operation == "send":
        return TextRequest(operation, (message_id, _pairs(rest)), start)
    if len(rest) > (operation == "wait-all"):
        raise ValueError("there are too many words in it")
    if operation == "wait-all":
        role = rest[0].decode("utf-8", "surrogateescape") if rest else None
        return TextRequest(operation, (message_id, role, None), start)
    return TextRequest(operation, (message_id, None), start)


def _pairs(words: list[bytes]) -> list[bytes]:
    """Keys and values in turn. A word without a key goes on the value before it."""
    pairs: list[bytes] = []
    for word in words:
        key, equals, value = word.partition(b"=")
        if equals and key:
            pairs += key, value
        elif pairs:
            pairs[-1] += b" " + word
        else:
            raise ValueError(f"'{word[:40].decode(errors='backslashreplace')}' is no KEY=VALUE")
    return pairs


_REQUESTS = Grammar(MARKER, _OPERATIONS, _read)
