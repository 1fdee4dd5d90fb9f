# SPDX-License-Identifier: MIT
"""When to look for a dead end. No I/O and no clock: the time is an argument, in seconds.

In the simulator the devices' processes can be looked at (`SimulatorWatch`); in a lab there is nothing
but silence (`QuietWatch`). Either is told when something has happened (`note`), says when it wants
to look (`next_timeout`), and is then called (`handle_timeout`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dispatcher.engine import Engine
from dispatcher.group.deadend import DeadEnd, candidates, stuck_devices
from dispatcher.group.events import Waiting

# Seconds from an event to the first look, and between the two looks that have to show the same.
SETTLE = 0.1
# Seconds between looks while a process of a device that waits may do something yet: twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0

Look = Callable[[Mapping[str, Sequence[Waiting]]], Mapping[str, frozenset[int]]]


class Watch(Protocol):
    """Looks for dead ends."""

    fails: bool  # whether the waits of a dead end are to fail, not only to be told

    def note(self, now: float) -> None:
        """Something may have happened."""

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""

    def handle_timeout(self, now: float) -> DeadEnd | None:
        """Look, if it is time to; returns the dead end that is new."""


class SimulatorWatch:
    """Judges by the devices' processes.

    They are only looked at when the group would be in a dead end if its devices did nothing but wait.
    As processes come and go while they are looked at, only what two looks show is believed.

    :param look: gets devices with their open waits; returns those of them that do nothing but wait, with
        their processes.
    """

    fails = True

    def __init__(self, engine: Engine, look: Look) -> None:
        self._engine = engine
        self._look = look
        self._changes = -1
        self._due: float | None = None
        self._pause = FIRST_PAUSE
        self._seen: object = None

    def note(self, now: float) -> None:
        """Something may have happened."""
        if self._engine.changes != self._changes:
            self._changes = self._engine.changes
            self._pause = FIRST_PAUSE
            self._due = now + SETTLE if self._due is None else min(self._due, now + SETTLE)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        return self._due

    def handle_timeout(self, now: float) -> DeadEnd | None:
        """Look, if it is time to; returns the dead end that is new."""
        if self._due is None or now < self._due:
            return None
        self._due = None
        coordinator = self._engine.coordinator
        suspects = stuck_devices(coordinator, candidates(coordinator))
        if not suspects:
            self._seen = None
            return None
        waits: dict[str, list[Waiting]] = {name: [] for name in suspects}
        for wait in coordinator.waits():
            if wait.device in suspects:
                waits[wait.device].append(wait)
        idle = self._look(waits)
        stuck = stuck_devices(coordinator, idle)
        seen = {name: (idle[name], [wait.request for wait in waits[name]]) for name in stuck}
        if not stuck:
            self._seen = None
            self._due = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return None
        if seen != self._seen:
            self._seen = seen
            self._due = now + SETTLE
            return None
        self._seen = None
        return self._engine.find_dead_end(stuck, now)


class QuietWatch:
    """Judges by silence: all devices that are there wait, and none has made itself heard for a while.

    :param grace: seconds of silence.
    :param fails: whether the waits are to fail.
    """

    def __init__(self, engine: Engine, grace: float, *, fails: bool) -> None:
        self.fails = fails
        self._engine = engine
        self._grace = grace
        self._changes = -1
        self._all_wait = False  # all devices that are there, as of that change
        self._told = -1  # at which change a dead end was told

    def note(self, now: float) -> None:
        """Something may have happened."""
        # Asked after every output of a device, and only an event can change it.
        if self._engine.changes != self._changes:
            self._changes = self._engine.changes
            coordinator = self._engine.coordinator
            here = {name for name, _ in coordinator.members} - coordinator.gone
            self._all_wait = bool(here) and here == candidates(coordinator)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        if not self._all_wait or self._changes == self._told:
            return None
        return self._engine.heard + self._grace

    def handle_timeout(self, now: float) -> DeadEnd | None:
        """Look, if it is time to; returns the dead end that is new."""
        self.note(now)
        due = self.next_timeout()
        if due is None or now < due:
            return None
        self._told = self._changes
        return self._engine.find_dead_end(candidates(self._engine.coordinator), now)
