# SPDX-License-Identifier: MIT
"""How many bytes a line of a given speed has carried by now. No clock: time is an argument."""


class Pacer:
    """One direction of a serial line: 8N1, so ten bits a byte."""

    def __init__(self, baud: int) -> None:
        self._rate = baud / 10
        self._carried_until = 0.0
        # How often it is worth looking. Oftener costs CPU with many devices, more rarely makes bursts.
        self.pause = max(0.02, 1 / self._rate)

    def begin(self, now: float) -> None:
        """The line was idle until now: what it carries from here on takes its time."""
        self._carried_until = max(self._carried_until, now)

    def allowance(self, now: float) -> int:
        """Bytes that the line has had time to carry, and that were not yet taken."""
        return max(0, int((now - self._carried_until) * self._rate))

    def take(self, count: int) -> None:
        """`count` bytes of the allowance were used."""
        self._carried_until += count / self._rate
