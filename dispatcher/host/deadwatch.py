# SPDX-License-Identifier: MIT
"""When to look for a dead end. No I/O and no clock: the time is an argument, in seconds.

In the simulator the devices' processes can be looked at (`SimulatorWatch`); in a lab there is nothing
but silence (`QuietWatch`). Either is told when something has happened (`note`), says when it wants
to look (`next_timeout`), and is then called (`handle_timeout`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from dispatcher.engine import Engine
from dispatcher.group.deadend import DeadEnd, candidates, stuck_devices
from dispatcher.group.events import Waiting

# Seconds from an event to the first look, and between the two looks that have to show the same.
SETTLE = 0.1
# Between these two looks where a server of this machine may just be starting what a device has asked it for.
SETTLE_BESIDE_SERVERS = 1.0
# Seconds between looks while a process of a device that waits may do something yet: twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0


class Found(Protocol):
    """What was found out about devices that wait."""

    @property
    def idle(self) -> Mapping[str, frozenset[int]]:
        """Those that do nothing but wait, with their processes."""

    @property
    def doubt(self) -> str:
        """Why one of them may do something all the same, as a clause; empty if none may."""

    @property
    def servers(self) -> bool:
        """Whether a server of this machine may just be starting something for one of them."""


Look = Callable[[Mapping[str, Sequence[Waiting]]], Found]


class Watch(Protocol):
    """Looks for dead ends."""

    fails: bool  # whether the waits of a dead end are to fail, not only to be told

    def note(self, now: float) -> None:
        """Something may have happened."""

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""

    def handle_timeout(self, now: float) -> DeadEnd | None:
        """Look, if it is time to; returns the dead end that is new."""

    def doings(self) -> Mapping[str, str]:
        """What devices do that do not wait, as clauses; of those of which that is known."""


class SimulatorWatch:
    """Judges by the devices' processes.

    They are only looked at when the group would be in a dead end if its devices did nothing but wait.
    As processes come and go while they are looked at, only what two looks show is believed.

    :param look: gets devices with their open waits, and finds out which of them do nothing but wait.
    :param doings: tells what the devices do.
    """

    fails = True

    def __init__(self, engine: Engine, look: Look, doings: Callable[[], Mapping[str, str]]) -> None:
        self._engine = engine
        self._look = look
        self.doings = doings
        self._doubted: object = None  # the stuck waits of which a doubt was told
        self._changes = -1
        self._due: float | None = None
        self._pause = FIRST_PAUSE
        self._seen: object = None

    def note(self, now: float) -> None:
        """Something may have happened."""
        if self._engine.state.changes != self._changes:
            self._changes = self._engine.state.changes
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
        if not self._engine.judges():
            return None
        coordinator = self._engine.state.coordinator
        suspects = stuck_devices(coordinator, candidates(coordinator))
        if not suspects:
            self._seen = None
            return None
        waits: dict[str, list[Waiting]] = {name: [] for name in suspects}
        for wait in coordinator.waits():
            if wait.device in suspects:
                waits[wait.device].append(wait)
        found = self._look(waits)
        idle = found.idle
        stuck = stuck_devices(coordinator, idle)
        seen = {name: (idle[name], [wait.identity for wait in waits[name]]) for name in stuck}
        if not stuck:
            self._seen = None
            self._look_later(now)
            return None
        if seen != self._seen:
            self._seen = seen
            self._due = now + (SETTLE_BESIDE_SERVERS if found.servers else SETTLE)
            return None
        if found.doubt:
            self._look_later(now)
            if seen == self._doubted:
                return None
            self._doubted = seen
            dead_end = self._engine.find_dead_end(stuck, now)
            return None if dead_end is None else replace(dead_end, doubt=found.doubt)
        self._seen = None
        return self._engine.find_dead_end(stuck, now)

    def _look_later(self, now: float) -> None:
        self._due = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


class QuietWatch:
    """Judges by silence: all devices that are there wait, and none has made itself heard for a while.

    :param grace: seconds of silence.
    :param fails: whether the waits are to fail.
    """

    def __init__(self, engine: Engine, grace: float, *, fails: bool) -> None:
        self.fails = fails
        self._engine = engine
        self._grace = grace
        self._looked = -1  # as of which change

    def note(self, now: float) -> None:
        """Something may have happened."""
        # Nothing is looked at before it is quiet: this is called after every output of a device.

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        state = self._engine.state
        if state.changes == self._looked or not state.coordinator.anybody_waits:
            return None
        return self._engine.heard + self._grace

    def handle_timeout(self, now: float) -> DeadEnd | None:
        """Look, if it is time to; returns the dead end that is new."""
        due = self.next_timeout()
        if due is None or now < due:
            return None
        coordinator = self._engine.state.coordinator
        self._looked = self._engine.state.changes
        if not self._engine.judges():
            return None
        here = {name for name, _ in coordinator.members} - coordinator.gone
        waiting = candidates(coordinator)
        return self._engine.find_dead_end(waiting, now) if here == waiting else None

    def doings(self) -> Mapping[str, str]:
        """What devices do is not known here."""
        return {}
