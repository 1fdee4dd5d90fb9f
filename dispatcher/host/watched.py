# SPDX-License-Identifier: MIT
"""An observer of a group that looks for dead ends, tells of them, and lets their waits fail where they are to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dispatcher.engine import Engine
from dispatcher.group.deadend import DeadEnd
from dispatcher.group.results import Case, Counts
from dispatcher.grouplog import GroupLogError
from dispatcher.host.deadwatch import Watch
from dispatcher.host.group import Group
from dispatcher.host.timer import Timer


class WatchedGroup:
    """The observer to give to a `Group`; set `group` once that is there, and call `close` at the end.

    :param notice: takes the device, or None for the group, and a sentence that an operator should see.
    :param watch: looks for dead ends; None: nothing does.
    :param broken: is called when the group's log can't go on, after that was told.
    """

    def __init__(
        self,
        engine: Engine,
        watch: Watch | None,
        notice: Callable[[str | None, str], object],
        broken: Callable[[], object] = lambda: None,
    ) -> None:
        self.group: Group | None = None
        self._notice = notice
        self._engine = engine
        self._watch = watch
        self._on_broken = broken
        self._timer = Timer(self._handle_timeout)
        self._told: DeadEnd | None = None

    def result(self, case: Case, counts: Counts) -> None:
        """Results are in the log."""

    def notice(self, device: str | None, sentence: str) -> None:
        """Something that an operator should see."""
        self._notice(device, sentence)

    def turned(self, now: float) -> None:
        """Look for a dead end when it is time to."""
        if self._watch is not None:
            self._watch.note(now)
            self._timer.set(self._watch.next_timeout())

    def broken(self, error: GroupLogError) -> None:
        """Tell it."""
        self.notice(None, str(error))
        self._on_broken()

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    @property
    def dead_end(self) -> list[str]:
        """The sentences on the dead end that the group is in; none if that is not known."""
        coordinator, told = self._engine.state.coordinator, self._told
        if told is not None and any(coordinator.wait(wait.identity) is None for wait in told.waits):
            told = self._told = None
        return [] if told is None else list(told.told)

    def _handle_timeout(self) -> None:
        now = asyncio.get_running_loop().time()
        assert self._watch is not None
        dead_end = self._watch.handle_timeout(now)
        if dead_end is not None:
            if self._told is None or self._told.told != dead_end.told:
                for sentence in dead_end.told:
                    self.notice(None, sentence)
            self._told = dead_end
            if self._watch.fails and not dead_end.doubt:
                self._engine.fail(dead_end, now)
        if self.group is not None:
            self.group.wake()
