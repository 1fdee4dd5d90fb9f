# SPDX-License-Identifier: MIT
"""When to look for a dead end. No I/O and no clock: the time is an argument, in seconds.

In the simulator the devices' processes can be looked at (`SimulatorWatch`); in a lab there is nothing
but silence (`QuietWatch`). Either is told when something has happened (`note`), says when it wants
to look (`next_timeout`), and is then called (`handle_timeout`).
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Protocol

from dispatcher.engine import Engine
from dispatcher.group.deadend import SILENT, UNDECLARED, DeadEnd, candidates, not_seen, stuck_devices, unknown
from dispatcher.group.events import Waiting

# Seconds from an event to the first look, and between the two looks that have to show the same.
SETTLE = 0.1
# Between these two looks where a server of this machine may just be starting what a device has asked it for.
SETTLE_BESIDE_SERVERS = 1.0
# Seconds between looks while a process of a device that waits may do something yet: twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
# Seconds after which it is said that other hosts do not tell what their devices do.
UNSURE_AFTER = 10.0
# Seconds of silence after which it is said that devices do something beside their waits.
BUSY_AFTER = 30.0


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

    @property
    def busy(self) -> str:
        """Which processes keep others from being idle, as a clause; empty if that is not known."""


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
    Processes come and go during a look, so only what two looks in a row show counts. A device on another host
    does nothing but wait when its host says so (`Resting`); this host says it of its own devices.

    :param look: gets devices with their open waits, and finds out which of them do nothing but wait.
    :param doings: tells what the devices do.
    :param shared: whether other hosts may write to the log.
    """

    fails = True

    def __init__(
        self, engine: Engine, look: Look, doings: Callable[[], Mapping[str, str]], *, shared: bool = False
    ) -> None:
        self._engine = engine
        self._look = look
        self.doings = doings
        self._shared = shared
        # The waits of which a doubt was told, and whether it is about other hosts.
        self._doubted: object = None
        self._changes = -1
        self._due: float | None = None
        self._pause = FIRST_PAUSE
        self._seen: object = None
        self._seen_since = 0.0

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
        own = suspects & self._engine.here
        if not own:
            self._seen = None
            return None
        waits = [wait for wait in coordinator.waits() if wait.device in suspects]
        found = self._look({name: [wait for wait in waits if wait.device == name] for name in own})
        idle = found.idle
        elsewhere = suspects - own
        # Stuck if all devices elsewhere do nothing but wait.
        presumed = stuck_devices(coordinator, idle.keys() | elsewhere)
        at_rest = presumed & own
        if not at_rest:
            self._seen = None
            return self._beside(found, suspects, waits, now)
        of_presumed = [wait.identity for wait in waits if wait.device in presumed]
        seen = {name: idle[name] for name in at_rest}, of_presumed
        if seen != self._seen:
            self._seen, self._seen_since = seen, now
            self._due = now + (SETTLE_BESIDE_SERVERS if found.servers else SETTLE)
            return None
        told = coordinator.resting(suspects)
        if presumed & elsewhere and {name: told.get(name) for name in at_rest} != dict.fromkeys(
            at_rest, found.doubt
        ):
            self._engine.rest([wait for wait in waits if wait.device in at_rest], found.doubt, now)
        stuck = stuck_devices(coordinator, idle.keys() | (told.keys() & elsewhere))
        if stuck & own:
            doubt = found.doubt or next((told[name] for name in stuck & elsewhere if told[name]), "")
            doubt = doubt or (UNDECLARED if self._shared and not coordinator.declared else "")
        elif now >= self._seen_since + UNSURE_AFTER:
            stuck, doubt = presumed, unknown(presumed & elsewhere - told.keys())
        else:
            return self._beside(found, suspects, waits, now)
        if not doubt:
            self._seen = None
            return self._engine.find_dead_end(stuck, now)
        return self._in_doubt(stuck, doubt, (of_presumed, bool(stuck & elsewhere - told.keys())), now)

    def _beside(
        self, found: Found, suspects: Set[str], waits: Sequence[Waiting], now: float
    ) -> DeadEnd | None:
        """No dead end, as long as a process may do something: that is said after a silence."""
        if found.busy and now >= self._engine.heard + BUSY_AFTER:
            return self._in_doubt(suspects, found.busy, [wait.identity for wait in waits], now)
        self._look_later(now)
        return None

    def _in_doubt(self, stuck: Set[str], doubt: str, about: object, now: float) -> DeadEnd | None:
        """Once about the same."""
        self._look_later(now)
        if about == self._doubted:
            return None
        self._doubted = about
        dead_end = self._engine.find_dead_end(stuck, now)
        return None if dead_end is None else replace(dead_end, doubt=doubt)

    def _look_later(self, now: float) -> None:
        self._due = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


class QuietWatch:
    """Judges by silence: all devices of the group wait, and none has sent anything for a while.

    A device on another host is silent when its host says so (`Resting`); this host says it of its own devices.

    :param grace: seconds of silence; 0: it never looks.
    :param fails: whether the waits are to fail.
    :param unseen: returns devices of this host of which it is not known whether they are silent.
    :param shared: whether other hosts may write to the log.
    """

    def __init__(
        self,
        engine: Engine,
        grace: float,
        unseen: Callable[[], Set[str]] = frozenset[str],
        *,
        fails: bool,
        shared: bool = False,
    ) -> None:
        self.fails = fails
        self._engine = engine
        self._grace = grace
        self._shared = shared
        self._hidden = unseen
        self._looked = -1  # as of which change
        self._said: object = None  # the waits of which it was said last, and whether in doubt
        self._unsure_at: float | None = None  # when it is said that other hosts say nothing

    def note(self, now: float) -> None:
        """Something may have happened."""
        # Nothing is looked at before it is quiet: this is called after every output of a device.

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        state = self._engine.state
        if not self._grace or not state.coordinator.anybody_waits:
            return None
        if state.changes == self._looked:
            return self._unsure_at
        return self._engine.heard + self._grace

    def handle_timeout(self, now: float) -> DeadEnd | None:
        """Look, if it is time to; returns the dead end that is new."""
        due = self.next_timeout()
        if due is None or now < due:
            return None
        coordinator = self._engine.state.coordinator
        again = self._looked == self._engine.state.changes
        self._looked, self._unsure_at = self._engine.state.changes, None
        if not self._engine.judges():
            return None
        here = {name for name, _ in coordinator.members} - coordinator.gone
        waiting = candidates(coordinator)
        stuck = stuck_devices(coordinator, waiting)
        if here != waiting or not stuck:
            return None
        # Where no other host may write, a device that is not here was here before.
        own = stuck & self._engine.here if self._shared else stuck
        elsewhere = stuck - own
        hidden = own & self._hidden()
        silent_here = own - hidden
        told = coordinator.resting(stuck)
        if elsewhere and not silent_here <= told.keys():
            self._engine.rest(
                [wait for wait in coordinator.waits() if wait.device in silent_here], SILENT, now
            )
        silent = elsewhere - told.keys()
        if silent and not again:
            self._unsure_at = now + self._grace
            return None
        doubt = not_seen(hidden) if hidden else unknown(silent) if silent else ""
        if self._shared and not coordinator.declared:
            doubt = doubt or UNDECLARED
        dead_end = self._engine.find_dead_end(waiting, now)
        said = None if dead_end is None else ([wait.identity for wait in dead_end.waits], bool(silent))
        if dead_end is None or said == self._said:
            return None
        self._said = said
        return replace(dead_end, doubt=doubt)

    def doings(self) -> Mapping[str, str]:
        """What devices do is not known here."""
        return {}
