# SPDX-License-Identifier: MIT
"""What is typed to a device, and what to lavabox itself: everything behind Ctrl-] is. No I/O."""

from enum import Enum

ESCAPE = 0x1D
HELP = "Ctrl-] n: the next device; Ctrl-] q: leave; Ctrl-] Ctrl-]: Ctrl-] itself"


class Action(Enum):
    """What somebody wants of lavabox."""

    NEXT = "n"
    LEAVE = "q"
    HELP = "?"


class EscapeKeys:
    """Takes what is typed, in any chunking, apart."""

    def __init__(self) -> None:
        self._escaped = False

    def receive(self, data: bytes) -> list[bytes | Action]:
        """What has to be done, in order: bytes for the device, and actions."""
        found: list[bytes | Action] = []
        typed = bytearray()
        for byte in data:
            if not self._escaped:
                self._escaped = byte == ESCAPE
                if not self._escaped:
                    typed.append(byte)
                continue
            self._escaped = False
            if byte == ESCAPE:
                typed.append(byte)
                continue
            if typed:
                found.append(bytes(typed))
                typed.clear()
            found.append(next((action for action in Action if ord(action.value) == byte), Action.HELP))
        return [*found, bytes(typed)] if typed else found
