# SPDX-License-Identifier: MIT
"""What the devices of a run do at the moment: a status area on a terminal, a sentence now and then elsewhere.

    -- 3 devices: 1 running, 2 waiting; 2 min 5 s left --------------
    client-1  waiting  12 s  `lava-wait-all ready server` for server-1; 48 s left (2 passed)
    client-2  waiting   3 s  `lava-sync start` for client-1 and server-1
    server-1  running

The area stands below what the devices print. It is erased before lines are written and put below them
again, so that the terminal scrolls as ever. No I/O and no clock: text goes to a function, the
time is an argument.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dispatcher.group.coordinator import Coordinator, OpenWait
from dispatcher.group.events import Waiting
from dispatcher.group.results import Counts
from dispatcher.group.wording import command, counted, duration
from dispatcher.view.display import harmless

# Seconds between two pictures at least; and at most, as times go on.
REDRAW, TICK = 0.2, 0.5
# Seconds after which the area is put again below lines that have come, with what it said before.
REPLACE = 0.03
# Part of the terminal's height that the area takes at most.
_SHARE = 3
# Seconds of silence after which a sentence is written where there is no area; each is twice as long.
FIRST_SILENCE, LONGEST_SILENCE = 30.0, 600.0
# Devices that such a sentence names.
_MAX_NAMED = 4

_NONE = Counts()

# The states, those first that one wants to see when not all have room.
STUCK, FAILED, OFFLINE = "stuck", "failed", "offline"
WAITING, RUNNING, GONE = "waiting", "running", "gone"
_STATES = (STUCK, FAILED, OFFLINE, WAITING, RUNNING, GONE)
_BAD = (STUCK, FAILED, OFFLINE)
_RED, _PLAIN = "\x1b[31m", "\x1b[39m"


@dataclass(frozen=True, slots=True)
class Status:
    """What one device does.

    :param wait: the wait that it began first of those that are open, and for whom it waits.
    :param remark: how it ended, or why its console has no connection.
    """

    device: str
    state: str
    wait: Waiting | None = None
    whom: str = ""
    more_waits: int = 0
    counts: Counts = _NONE
    remark: str = ""

    def said(self, now: float) -> str:
        """All but the name, the state and since when."""
        text = self.remark
        if self.wait is not None:
            text = f"{command(self.wait)} for {self.whom}"
            if self.more_waits:
                text += f" (and {self.more_waits} more)"
            if self.wait.timeout is not None:
                text += f"; {_left(self.wait.time + self.wait.timeout - now)}"
        if any(self.counts):
            text += f" ({self.counts})"
        return text.strip()


def statuses(
    devices: Iterable[str],
    coordinator: Coordinator,
    *,
    ended: Mapping[str, str],
    counts: Mapping[str, Counts],
    failed: Container[str] = (),
    offline: Mapping[str, str] | None = None,
    stuck: frozenset[bytes] = frozenset(),
) -> list[Status]:
    """What the devices do, in their order.

    :param ended: how those have ended that have.
    :param failed: those of them that have not ended well.
    :param offline: those whose consoles have no connection, and why, as a clause.
    :param stuck: requests of waits that are known to be dead ends.
    """
    waits: dict[str, list[OpenWait]] = {}
    for wait in coordinator.open_waits():
        waits.setdefault(wait.waiting.device, []).append(wait)
    found = []
    for name in devices:
        own = waits.get(name, [])
        if name in ended:
            state = FAILED if name in failed else GONE
            status = Status(name, state, counts=counts.get(name, _NONE), remark=ended[name])
        elif offline is not None and name in offline:
            status = Status(name, OFFLINE, counts=counts.get(name, _NONE), remark=offline[name])
        elif own:
            first = min(own, key=lambda wait: wait.waiting.time)
            state = STUCK if any(wait.waiting.identity in stuck for wait in own) else WAITING
            more_waits = len(own) - 1
            status = Status(name, state, first.waiting, first.whom, more_waits, counts.get(name, _NONE))
        else:
            status = Status(name, RUNNING, counts=counts.get(name, _NONE))
        found.append(status)
    return found


def area(
    found: Sequence[Status],
    now: float,
    width: int,
    height: int,
    run_left: float | None,
    *,
    colour: bool = False,
) -> list[str]:
    """The lines of the area, each at most `width` - 1 columns wide.

    :param now: on the clock of the events.
    :param height: of the terminal.
    :param run_left: seconds until the run's own time-out.
    :param colour: show in red what is not as it should be.
    """
    room = height // _SHARE
    if room < 1 or width < 2:
        return []
    head = f"-- {counted(len(found), 'device')}: {_totals(found)}"
    if run_left is not None:
        head += f"; {_left(run_left)}"
    lines = [head + " " + "-" * max(0, width - 2 - _cells(head))]
    bad = set()
    chosen = found
    if len(found) > room - 1:
        ordered = sorted(
            found, key=lambda one: (_STATES.index(one.state), one.wait.time if one.wait is not None else 0.0)
        )
        chosen = ordered[: max(0, room - 2)]
    names = max((_cells(one.device) for one in chosen), default=0)
    times = [_since(one, now) for one in chosen]
    times_width = max(map(len, times), default=0)
    for one, time in zip(chosen, times, strict=True):
        name = one.device + " " * (names - _cells(one.device))
        if colour and one.state in _BAD:
            bad.add(len(lines))
        lines.append(f"{name}  {one.state:<7}  {time:>{times_width}}  {one.said(now)}".rstrip())
    if len(chosen) < len(found) and room > 1:
        rest = ordered[len(chosen) :]
        lines.append(f"... and {len(rest)} more: {_totals(rest)}")
    cut = [_cut(harmless(line, colour=False), width - 1) for line in lines]
    return [f"{_RED}{line}{_PLAIN}" if number in bad else line for number, line in enumerate(cut)]


def summary(found: Sequence[Status], now: float, silence: float, doings: Mapping[str, str]) -> str:
    """One sentence for a log: who waits for whom, and what the others do.

    :param doings: what those do that do not wait, as clauses, of those of which that is known.
    """
    waiting = [one for one in found if one.wait is not None]
    waiting.sort(key=lambda one: one.wait.time if one.wait is not None else 0.0)
    named = waiting[:_MAX_NAMED]
    parts = [f"{one.device} has waited {_since(one, now)} in {one.said(now)}" for one in named]
    running = [one for one in found if one.state == RUNNING and one.device in doings]
    running = running[: _MAX_NAMED - len(named)]
    parts += [f"{one.device} {doings[one.device]}" for one in running]
    rest = [one for one in found if one not in named and one not in running]
    if rest:
        parts.append(f"of the others {_totals(rest)}" if parts else _totals(rest))
    return f"nothing has happened for {_whole(silence)}: {'; '.join(parts)}"


def _totals(found: Iterable[Status]) -> str:
    counts = Counter(one.state for one in found)
    return ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])


def _since(status: Status, now: float) -> str:
    return "" if status.wait is None else _whole(now - status.wait.time)


def _left(seconds: float) -> str:
    return f"{_whole(seconds)} left"


def _whole(seconds: float) -> str:
    """A time without fractions, which would be read by nobody."""
    return f"{max(0, int(seconds))} s" if seconds < 60 else duration(int(seconds))


def _cells(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(map(_cell, text)) if not text.isascii() else len(text)


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, width: int) -> str:
    """The text, cut to so many columns."""
    if _cells(text) <= width:
        return text
    dots = "..." if width > 10 else ""
    used, end = len(dots), 0
    for character in text:
        used += _cell(character)
        if used > width:
            break
        end += 1
    return text[:end] + dots


class Plain:
    """Writes at once what there is; for everything that is no terminal."""

    colour = False

    def __init__(self, write: Callable[[str], object], flush: Callable[[], object]) -> None:
        self.write = write
        self._flush = flush

    def flush(self, now: float) -> None:
        """Make visible what was written."""
        self._flush()

    def next_timeout(self) -> float | None:
        """When `flush` has to be called, whatever happens."""
        return None

    def close(self) -> None:
        """The run is over."""


class LiveView:
    """Writes lines to a terminal, and keeps the status area below them."""

    def __init__(
        self,
        write: Callable[[str], object],
        flush: Callable[[], object],
        size: Callable[[], tuple[int, int]],
        *,
        reflows: bool,
        colour: bool,
    ) -> None:
        """
        :param size: tells width and height of the terminal.
        :param reflows: whether the terminal breaks long lines anew when it gets narrower.
        """
        self._write = write
        self._flush = flush
        self._size = size
        self._reflows = reflows
        self.colour = colour
        self._dim, self._reset = ("\x1b[2m", "\x1b[0m") if colour else ("", "")
        self._source: Callable[[float, int, int], list[str]] | None = None
        self._pending: list[str] = []
        self._lines: list[str] = []  # the newest picture
        self._visible = False
        self._of_size = (0, 0)  # for which size the picture was made
        self._drawn = self._put = -TICK  # when the picture was made; when it was last put on the screen
        self._late = False  # whether something has happened since

    def show(self, source: Callable[[float, int, int], list[str]]) -> None:
        """Begin: `source` makes the lines of the area for a time, a width and a height."""
        self._source = source

    def write(self, text: str) -> None:
        """One or more whole lines, which scroll above the area."""
        if self._source is None:
            self._write(text)
        else:
            self._pending.append(text)

    def flush(self, now: float) -> None:
        """Make visible what was written, and what has changed."""
        text = ""
        size = self._size()
        if self._pending:
            text = self._erased() + "".join(self._pending)
            self._pending.clear()
        if self._source is not None:
            if now >= self._drawn + REDRAW or size != self._of_size:
                lines = self._source(now, *size)
                if lines != self._lines or size != self._of_size or not self._visible:
                    text += self._erased()
                    self._lines, self._of_size = lines, size
                    text += self._area(now)
                self._drawn, self._late = now, False
            else:
                self._late = True
                if not self._visible and now >= self._put + REPLACE:
                    text += self._area(now)
        if text:
            self._write(text)
        self._flush()

    def next_timeout(self) -> float | None:
        """When `flush` has to be called, whatever happens."""
        if self._source is None:
            return None
        due = self._drawn + (REDRAW if self._late else TICK)
        return due if self._visible or not self._lines else min(due, self._put + REPLACE)

    def hide(self) -> None:
        """Take the area away until the next `flush`."""
        self._write(self._erased() + "".join(self._pending))
        self._pending.clear()
        self._drawn = -TICK
        self._flush()

    def close(self) -> None:
        """Take the area away for good; what is written from now on is written at once."""
        self._source = None
        self.hide()

    def _area(self, now: float) -> str:
        self._put = now
        self._visible = bool(self._lines)
        # No line end behind the last one: it would make the terminal scroll.
        return "\n".join(f"{self._dim}{line}{self._reset}" for line in self._lines)

    def _erased(self) -> str:
        if not self._visible:
            return ""
        self._visible = False
        rows = len(self._lines)
        width = self._size()[0]
        if self._reflows and 0 < width < self._of_size[0]:
            rows = sum(max(1, -(-_cells(harmless(line, colour=False)) // width)) for line in self._lines)
        return "\r" + (f"\x1b[{rows - 1}A" if rows > 1 else "") + "\x1b[J"


class Silence:
    """Says when a sentence about what devices do is due, where there is no area."""

    def __init__(self) -> None:
        self._heard = 0.0
        self._pause = self._due = FIRST_SILENCE

    def next_timeout(self, heard: float, awaited: bool) -> float | None:
        """When to write it.

        :param heard: when something last happened.
        :param awaited: whether anybody waits for something to happen.
        """
        if heard != self._heard:
            self._heard = heard
            self._pause = FIRST_SILENCE
            self._due = heard + self._pause
        return self._due if awaited else None

    def told(self, now: float) -> None:
        """It was written."""
        self._pause = min(2 * self._pause, LONGEST_SILENCE)
        self._due = now + self._pause
