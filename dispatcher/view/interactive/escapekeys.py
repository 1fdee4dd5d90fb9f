# SPDX-License-Identifier: MIT
"""What is typed to a device, and what to lavabox itself: the key behind an escape key is. No I/O."""


class EscapeKeys:
    """Takes what is typed, in any chunking, apart.

    :param escape: the escape key; typed twice it is for the device.
    """

    def __init__(self, escape: int) -> None:
        self._escape = escape
        self._escaped = False

    def receive(self, data: bytes) -> list[bytes | int]:
        """What was typed, in order: bytes for the device, and single keys that stood behind the escape key."""
        found: list[bytes | int] = []
        typed = bytearray()
        for key in data:
            if not self._escaped and key == self._escape:
                self._escaped = True
            elif self._escaped and key != self._escape:
                self._escaped = False
                if typed:
                    found.append(bytes(typed))
                    typed.clear()
                found.append(key)
            else:
                self._escaped = False
                typed.append(key)
        return [*found, bytes(typed)] if typed else found
