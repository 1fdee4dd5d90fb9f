# SPDX-License-Identifier: MIT
"""The identities of all events of a group, and what became of the requests among them.

A group keeps them for good, and may have a million. Nearly all are the 8 random bytes of a command and the
name of its device, and the request went well: of these, 8 bytes are kept in sorted arrays, once they are not
among the newest. All others are in a dict.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Generic, TypeVar

# Bytes that a command makes up.
_RANDOM = 8
# So many new ones are moved at once, in a few milliseconds.
_NEWEST = 2048
# Numbers in one array: to insert one moves the others.
_CHUNK = 1024

_Value = TypeVar("_Value")


class Identities(Generic[_Value]):
    """Like a dict: the device's name of an identity that went well, or something else."""

    def __init__(self) -> None:
        self._newest: dict[bytes, _Value | str] = {}
        self._others: dict[bytes, _Value | str] = {}
        self._settled: dict[bytes, _Numbers] = {}  # by the name of the device

    def __contains__(self, identity: bytes) -> bool:
        return identity in self._newest or identity in self._others or self._is_settled(identity)

    def __setitem__(self, identity: bytes, value: _Value | str) -> None:
        """Note an identity that is new, or what became of one that is known."""
        if self._others:
            self._others.pop(identity, None)
        self._newest[identity] = value
        if len(self._newest) >= _NEWEST:
            self._settle()

    def get(self, identity: bytes) -> _Value | str | None:
        """What was noted; None if the identity is not known."""
        for known in (self._newest, self._others):
            if identity in known:
                return known[identity]
        return identity[_RANDOM:].decode() if self._is_settled(identity) else None

    def _is_settled(self, identity: bytes) -> bool:
        name = identity[_RANDOM:]
        if name not in self._settled or len(identity) < _RANDOM:
            return False
        return self._settled[name].has(int.from_bytes(identity[:_RANDOM], "big"))

    def _settle(self) -> None:
        newest, self._newest = self._newest, {}
        for identity, value in newest.items():
            name = identity[_RANDOM:]
            if isinstance(value, str) and len(identity) >= _RANDOM and name == value.encode():
                if name not in self._settled:
                    self._settled[name] = _Numbers()
                self._settled[name].add(int.from_bytes(identity[:_RANDOM], "big"))
            else:
                self._others[identity] = value


class _Numbers:
    """A set of numbers of 64 bits: sorted arrays, which stand in their order."""

    __slots__ = ("_chunks", "_firsts")

    def __init__(self) -> None:
        self._chunks = [array("Q")]
        self._firsts = array("Q", (0,))  # what each chunk may begin with

    def has(self, number: int) -> bool:
        chunk = self._chunks[bisect_right(self._firsts, number) - 1]
        place = bisect_left(chunk, number)
        return place < len(chunk) and chunk[place] == number

    def add(self, number: int) -> None:
        """A number that is not in it."""
        place = bisect_right(self._firsts, number) - 1
        chunk = self._chunks[place]
        chunk.insert(bisect_left(chunk, number), number)
        if len(chunk) > _CHUNK:
            self._chunks.insert(place + 1, chunk[_CHUNK // 2 :])
            self._firsts.insert(place + 1, chunk[_CHUNK // 2])
            del chunk[_CHUNK // 2 :]
