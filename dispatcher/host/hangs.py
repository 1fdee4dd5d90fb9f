# SPDX-License-Identifier: MIT
"""What is said, and done, where the devices of a run hang. No I/O and no clock.

After a silence a sentence tells what each device does. A dead end is told at once, and its waits fail, if they are to.
"""

from collections.abc import Callable, Sequence

from dispatcher.engine import Engine
from dispatcher.group.deadend import DeadEnd
from dispatcher.host.deadwatch import Watch
from dispatcher.view.statusview import Silence, Status, summary

# How often the same dead end may come again before a run that is to end is ended.
MAX_REPEATS = 10


class Hangs:
    """Ask `next_timeout` when to call `handle_timeout`.

    :param watch: looks for dead ends; None: nothing does.
    :param tell: shows a sentence.
    :param tells_silence: whether a silence is told, as nothing else shows what the devices do.
    :param must_end: whether the devices are to end by themselves.
    """

    def __init__(
        self,
        engine: Engine,
        watch: Watch | None,
        tell: Callable[[str], object],
        *,
        tells_silence: bool,
        must_end: bool,
    ) -> None:
        self.stuck: frozenset[bytes] = frozenset()  # waits in a dead end that go on
        self._engine = engine
        self._watch = watch
        self._tell = tell
        self._silence = Silence() if tells_silence else None
        self._must_end = must_end
        self._last: object = None  # dead end: who waits for what
        self._repeated = 0

    def note(self, now: float) -> None:
        """Something may have happened."""
        if self._watch is not None:
            self._watch.note(now)

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`; None: not before something happens."""
        times = (None if self._watch is None else self._watch.next_timeout(), self._silence_due())
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float, statuses: Callable[[], Sequence[Status]]) -> bool:
        """Look whether they hang. Returns whether that is for good: the run ends.

        :param statuses: tells what each device does.
        """
        over = False
        if self._watch is not None and (dead_end := self._watch.handle_timeout(now)) is not None:
            over = self._meet(dead_end, self._watch.fails, now)
        due = self._silence_due()
        if self._silence is not None and due is not None and now >= due:
            doings = {} if self._watch is None else self._watch.doings()
            self._tell(summary(statuses(), self._engine.epoch + now, now - self._engine.heard, doings))
            self._silence.told(now)
        return over

    def _silence_due(self) -> float | None:
        if self._silence is None:
            return None
        # Devices that are to end by themselves may also hang without waiting for each other.
        awaited = self._must_end or self._engine.state.coordinator.anybody_waits
        return self._silence.next_timeout(self._engine.heard, awaited)

    def _meet(self, dead_end: DeadEnd, fails: bool, now: float) -> bool:
        """Tell of a dead end, and let its waits fail if they are to. Returns whether the run ends by it."""
        if dead_end.doubt:
            for sentence in dead_end.told:
                self._tell(sentence)
            return False
        waits = {(wait.device, wait.kind, wait.ids, wait.whom) for wait in dead_end.waits}
        self._repeated = self._repeated + 1 if waits == self._last else 0
        self._last = waits
        for sentence in dead_end.sentences if not self._repeated else ["the same dead end again"]:
            self._tell(sentence)
        if not fails:
            self.stuck = frozenset(wait.identity for wait in dead_end.waits)
            return False
        self._engine.fail(dead_end, now)
        if not self._must_end or self._repeated != MAX_REPEATS:
            return False
        # A script that tries again and again, as in `until lava-wait x; do :; done`.
        self._tell("the scripts run into it again and again: the run ends")
        return True
