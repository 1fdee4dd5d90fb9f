# SPDX-License-Identifier: MIT
"""A simulated device on a line with faults: between the pty and whoever listens to it."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatcher.consoles import Listener
from dispatcher.simulator.device import SimulatedDevice
from dispatcher.simulator.faults import Faults, FaultyLine, KernelLog


class FaultyDevice(SimulatedDevice):
    """The same as a SimulatedDevice, but for what happens to the bytes in both directions, and that it reboots.

    :param seed: of all that is random in it. The kernel's lines are those of `KernelLog(f"{seed} kernel")`.
    """

    def __init__(
        self, address: str, argv: Sequence[str], power: Path, faults: Faults, seed: str, **options: Any
    ) -> None:
        super().__init__(address, argv, power, **options)
        self._faults = faults
        self._reboots = random.Random(f"{seed} reboot")
        self._reboot_timer: asyncio.TimerHandle | None = None
        self._seed = seed
        self._up: _Passage | None = None
        self._down: _Passage | None = None

    async def open(self, listener: Listener) -> None:
        """Start the command. Raises ConsoleError."""
        now = asyncio.get_running_loop().time()
        kernel = KernelLog(f"{self._seed} kernel", self._faults.stamps)
        up = FaultyLine(self._faults, f"{self._seed} up", kernel, now)
        self._up = _Passage(up, listener.received)
        self._down = _Passage(FaultyLine(self._faults, f"{self._seed} down", None, now), super().write)
        await super().open(_Ears(listener, self._up))
        self._set_reboot_timer()

    def write(self, data: bytes) -> bool:
        """Type bytes, some of which may get lost."""
        if self._down is None:
            return False
        self._down.take(data)
        return True

    async def close(self) -> None:
        """Let the command end, or make it."""
        if self._reboot_timer is not None:
            self._reboot_timer.cancel()
        await super().close()
        for passage in (self._up, self._down):
            if passage is not None:
                passage.end()

    def _set_reboot_timer(self) -> None:
        if self._faults.reboot:
            pause = self._reboots.expovariate(self._faults.reboot)
            self._reboot_timer = self._loop.call_later(pause, self._reboot_by_fault)

    def _reboot_by_fault(self) -> None:
        self.reboot()
        self._set_reboot_timer()


class _Passage:
    """One direction: what comes out of the line late is delivered by a timer."""

    def __init__(self, line: FaultyLine, deliver: Callable[[bytes], object]) -> None:
        self._line = line
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._go_on(b"")

    def take(self, data: bytes) -> None:
        self._go_on(self._line.receive_data(data, self._loop.time()))

    def end(self) -> None:
        """The line ends; what it holds comes out."""
        self._stop_timer()
        if held := self._line.flush():
            self._deliver(held)

    def _go_on(self, data: bytes) -> None:
        if data:
            self._deliver(data)
        self._stop_timer()
        time = self._line.next_timeout()
        if time is not None:
            self._timer = self._loop.call_at(time, self._wake)

    def _wake(self) -> None:
        self._go_on(self._line.handle_timeout(self._loop.time()))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@dataclass(frozen=True, slots=True)
class _Ears:
    """Listens to the pty; what it hears goes through the line."""

    listener: Listener
    passage: _Passage

    def received(self, data: bytes) -> None:
        self.passage.take(data)

    def drained(self) -> None:
        self.listener.drained()

    def lost(self, reason: str) -> None:
        self.listener.lost(reason)

    def rebooted(self) -> None:
        self.listener.rebooted()

    def ended(self, reason: str, status: int) -> None:
        self.passage.end()
        self.listener.ended(reason, status)
