# SPDX-License-Identifier: MIT
"""Extension types and timestamps: only told apart from all else, since no packet of ours holds one."""


class ExtType:
    __slots__ = ("code", "data")

    def __init__(self, code: int, data: bytes) -> None:
        self.code = code
        self.data = data


class Timestamp(ExtType):
    __slots__ = ()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Timestamp":
        return cls(-1, data)
