# SPDX-License-Identifier: MIT
"""The identities of all events of a group, and what became of the requests among them.

A group keeps them for good, may have a million, and is asked of each new event whether it knows that one already.
Nearly all are the 8 random bytes of a command and the name of its device, and the request went well: they stand
one behind the other in many strings of bytes, and a hash says in which. All others are in a dict.
"""

from collections import defaultdict
from typing import Generic, TypeVar

# Bytes that a command makes up.
_RANDOM = 8
# Strings, at most. Of a million events each has 64, which are searched in a fraction of a microsecond.
_STRINGS = 1 << 14

_Value = TypeVar("_Value")


class Identities(Generic[_Value]):
    """Like a dict: the device's name of an identity that went well, or something else."""

    def __init__(self) -> None:
        self._others: dict[bytes, _Value | str] = {}
        # Of identities, each behind a byte with its length.
        self._strings: defaultdict[int, bytearray] = defaultdict(bytearray)

    def __contains__(self, identity: bytes) -> bool:
        string = self._strings.get(hash(identity) % _STRINGS)
        return (
            string is not None and identity in string and _has(string, identity)
        ) or identity in self._others

    def add(self, identity: bytes, device: str) -> bool:
        """Note an identity with the device's name; returns False, and changes nothing, if it is known."""
        string = self._strings[hash(identity) % _STRINGS]
        # (That it is not found is nearly always the answer.)
        if (identity in string and _has(string, identity)) or identity in self._others:
            return False
        length = len(identity)
        if identity[_RANDOM:] != device.encode() or not _RANDOM <= length <= 255:
            self._others[identity] = device
            return True
        string.append(length)
        string += identity
        return True

    def __setitem__(self, identity: bytes, value: _Value) -> None:
        """Note something else of an identity that is known."""
        self._others[identity] = value

    def get(self, identity: bytes) -> _Value | str | None:
        """What was noted; None if the identity is not known."""
        if identity in self._others:
            return self._others[identity]
        return identity[_RANDOM:].decode() if identity in self else None


def _has(string: bytearray, identity: bytes) -> bool:
    """Whether it is one of these, and does not just stand across their borders."""
    place = 0
    while place < len(string):
        end = place + 1 + string[place]
        if string[place + 1 : end] == identity:
            return True
        place = end
    return False
