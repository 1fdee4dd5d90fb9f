# SPDX-License-Identifier: MIT
"""One console at work: its connection, its channel, and those who look at it.

    Console --bytes--> Channel --output--> taps
                               --requests, results--> Group
    Console <--keys, reply lines-- Channel <--answers-- Group

Each attachment has its own timer and its own attempts to connect: one that fails takes no
other down. And none keeps the others waiting: in one turn of the loop, it reads a slice of what
has come, and carries out a few items; meanwhile its console is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dispatcher.consoles import Console, ConsoleError
from dispatcher.engine import Answer
from dispatcher.host.arrivals import Arrivals
from dispatcher.host.pulse import pulse_of
from dispatcher.host.timer import Timer
from dispatcher.line.channel import Alarm, Asked, Channel, Item, Output, TextHandle
from dispatcher.line.legibility import Legibility
from dispatcher.line.session import REBOOTED, Cancelled, Cleared, Counters, Rebooted, Request, Suspected
from dispatcher.line.textpatterns import Pattern
from dispatcher.line.textsignals import Found

# Seconds before a lost connection is tried again; twice as long each time.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
# Items that are carried out in one turn: a result, which goes into the log, takes some 60 microseconds.
MOST_ITEMS = 32


class Membership(Protocol):
    """The group of a device as its attachment sees it: on this host (host/group.py), or behind a socket."""

    @property
    def number(self) -> int:
        """32 bits that name the group."""

    def attach(self, attachment: Attachment, role: str) -> None:
        """The device's console is here. Raises ValueError, with a sentence, if it can't join."""

    def detach(self, attachment: Attachment, reason: str) -> None:
        """The device will never send again."""

    def lose(self, attachment: Attachment, reason: str, *, boots: bool = False) -> None:
        """There is no connection to the device, or its console shows that it boots; `reason` is a clause."""

    def regain(self, attachment: Attachment) -> None:
        """There is a connection again, or the device has not booted."""

    def reboot(self, attachment: Attachment, reason: str) -> None:
        """None of the device's commands is there any more; `reason` is a clause. What was open is cancelled already."""

    def request(self, device: str, asked: Asked, now: float) -> None:
        """Carry out what the device asks for; `Attachment.answer` follows."""

    def cancel(self, request: Request, reason: str, now: float) -> None:
        """Nobody waits for this answer any more."""

    def report(self, device: str, found: Found, now: float) -> None:
        """Note what the device reports by text."""

    def hear(self, now: float) -> None:
        """The device has printed something."""

    def wake(self, attachment: Attachment) -> None:
        """Carry out what has happened, and call `Attachment.flush`, in this turn of the loop."""


class Witness(Protocol):
    """Is told how each request of a device came out, before the device is."""

    def answered(self, asked: Asked, reply: bytes) -> None:
        """A request has its packed reply."""

    def reported(self, found: Found) -> None:
        """The device has reported this by text."""


class Tap(Protocol):
    """Gets what a console says: a log, a display, a client of a TCP port."""

    def output(self, data: bytes, now: float) -> None:
        """What the device printed, without the protocol."""

    def notice(self, sentence: str) -> None:
        """Something about the device or its console."""


class Attachment:
    """The console of one device.

    Call `run`; it ends when the console has ended for good, or `close` was called.

    :param token: returns 32 random bits.
    :param position: what the device's console log holds already, in bytes.
    :param patterns: of runs whose output holds results, by the uuids of the runs.
    :param text_requests: whether requests of LAVA's own scripts are answered.
    :param expects_text: whether it is told when the console prints what is no text, as at a wrong speed.
    :param room: is called when `type` takes bytes again, and when there is a connection.
    :param ended: is called when the console has ended by itself, with a clause and a status as in
        `Listener.ended`; before the device leaves its group.
    """

    def __init__(
        self,
        name: str,
        role: str,
        console: Console,
        group: Membership,
        taps: Sequence[Tap],
        *,
        token: Callable[[], int],
        position: int = 0,
        patterns: Mapping[str, Pattern] | None = None,
        text_requests: bool = True,
        expects_text: bool = False,
        witness: Witness | None = None,
        room: Callable[[], object] = lambda: None,
        ended: Callable[[str, int], None] = lambda reason, status: None,
    ) -> None:
        self.name = name
        self.role = role
        self.console = console
        self.trouble = ""  # why there is no connection
        self._was_connected = False
        self._group = group
        self._taps = list(taps)
        self._witness = witness
        self._asked: dict[Request | TextHandle, Asked] = {}  # for the witness
        self._room = room
        self._unwritten = b""  # what the console did not take
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(token, group.number, position, patterns, text_requests=text_requests)
        self._legibility = Legibility() if expects_text else None
        self._timer = Timer(self._handle_timeout)
        self._arrivals = Arrivals()
        self._items: deque[Item] = deque()  # what was read and is not carried out
        self._busy = False  # `_work` is called in the next turn, and the console is not read
        self._held = False  # by `pause`
        self._over = False
        self._gone = asyncio.Event()  # the connection; or it is over
        self._left = False
        self._pulse = pulse_of(self._loop)
        group.attach(self, role)
        self._pulse.listen(self._went_on)

    @property
    def connected(self) -> bool:
        """Whether the console has a connection, or had one when it ended."""
        return self._was_connected and not self.trouble

    @property
    def counters(self) -> Counters:
        """What went over the console so far."""
        return self._channel.counters

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost, until the console has ended or is closed.

        Raises ConsoleError if a console that is not worth another try can't be opened.
        """
        pause = FIRST_PAUSE
        while not self._over:
            try:
                await self.console.open(self)
            except ConsoleError as error:
                if not self.console.lasting:
                    raise
                self._trouble(str(error))
            else:
                if self._over:
                    # `close` came first, and has closed nothing.
                    await self.console.close()
                    return
                if self.trouble:
                    self.trouble = ""
                    self._group.regain(self)
                    self.tell("connected again" if self._was_connected else "connected")
                self._was_connected = True
                if self._legibility is not None:
                    self._legibility = Legibility()
                pause = FIRST_PAUSE
                self._room()
                await self._gone.wait()
            if not self._over:
                # From here on it can only be over.
                self._gone.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._gone.wait(), pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    @property
    def full(self) -> bool:
        """Whether the console has so much to write that `type` takes nothing; `room` is called later."""
        return bool(self._unwritten)

    def type(self, data: bytes) -> bool:
        """Take what a person or a program types to the device; False: nothing was taken, as the console is full."""
        if self.full:
            return False
        self._channel.receive_keys(data, self._loop.time())
        self._group.wake(self)
        return True

    def tell(self, sentence: str) -> None:
        """Tell all taps."""
        for tap in self._taps:
            tap.notice(sentence)

    def answer(self, answer: Answer, now: float) -> None:
        """Carry an answer of the group to the device; `flush` types it."""
        assert isinstance(answer.request, Request | TextHandle)
        if answer.reply is None:
            self._channel.accept(answer.request)
            return
        if self._witness is not None and (asked := self._asked.pop(answer.request, None)) is not None:
            self._witness.answered(asked, answer.reply)
        for alarm in self._channel.reply(answer.request, answer.reply, now):
            self.tell(alarm.sentence)

    def flush(self, now: float) -> None:
        """Type what is to be typed, and set the timer."""
        if not self._unwritten:
            data = self._channel.data_to_type(now)
            if data and not self.console.write(data) and self.connected:
                self._unwritten = data
        self._timer.set(self._channel.next_timeout())

    async def close(self, reason: str | None = None) -> None:
        """End the console, with what belongs to it. May be called twice.

        :param reason: why the device leaves its group, as a clause; None: it does not, as with a dispatcher that ends.
        """
        self._end()
        await self.console.close()
        self._finish()
        if reason is not None:
            self._leave(reason)

    def pause(self) -> None:
        """Receive nothing for now: whoever looks at the output can't keep up."""
        self._held = True
        self.console.pause()

    def resume(self) -> None:
        """Receive again."""
        self._held = False
        if not self._busy:
            self._work()
            if not self._busy:
                self.console.resume()

    # What the console tells

    def received(self, data: bytes) -> None:
        """Bytes came from the device."""
        self._pulse.look()
        self._arrivals.add(data)
        if not self._busy:
            self._work()

    def _work(self) -> None:
        """Do as much as one turn of the loop is for."""
        was_busy, self._busy = self._busy, False
        if self._held:
            return
        now, began, data = self._loop.time(), time.thread_time(), b""
        if not self._items and self._arrivals:
            data = self._arrivals.slice()
            self._items.extend(self._channel.receive_data(data, now))
        self._carry_out(now, MOST_ITEMS)
        self._arrivals.took(time.thread_time() - began, len(data))
        if self._items or self._arrivals:
            self._busy = True
            self._loop.call_soon(self._work)
            if not was_busy:
                self.console.pause()
        elif was_busy and not self._held:
            self.console.resume()

    def _catch_up(self, now: float) -> None:
        """Carry out all that has come, as nothing will come any more."""
        self._items.extend(self._channel.receive_data(self._arrivals.rest(), now))
        self._carry_out(now)

    def drained(self) -> None:
        """There is room for what is to be typed."""
        data, self._unwritten = self._unwritten, b""
        if data:
            self.console.write(data)
        self._group.wake(self)
        self._room()

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        now = self._loop.time()
        self._unwritten = b""
        self._catch_up(now)
        self._items.extend(self._channel.interrupt(now))
        self._carry_out(now)
        self._trouble(f"connection lost ({reason})")
        self._room()
        self._gone.set()

    def rebooted(self) -> None:
        """The device reboots."""
        now = self._loop.time()
        self._catch_up(now)
        self._items.extend(self._channel.end_links(REBOOTED))
        self._carry_out(now)
        self._group.reboot(self, REBOOTED)

    def ended(self, reason: str, status: int) -> None:
        """The console is over."""
        if self._over:
            return
        self._end()
        self._finish()
        self._ended(reason, status)
        self._leave(reason)

    def _trouble(self, sentence: str) -> None:
        if self.trouble != sentence:
            self.trouble = sentence
            self._group.lose(self, sentence)
            self.tell(f"{sentence}; trying again")

    def _end(self) -> None:
        self._over = True
        self._gone.set()

    def _finish(self) -> None:
        self._pulse.forget(self._went_on)
        now = self._loop.time()
        self._catch_up(now)
        self._items.extend(self._channel.close(now))
        self._carry_out(now)
        self._timer.cancel()

    def _leave(self, reason: str) -> None:
        if not self._left:
            self._left = True
            self._group.detach(self, reason)

    def _went_on(self) -> None:
        """This process was stopped for a while."""
        self._channel.went_on(self._loop.time())
        self._group.wake(self)

    def _handle_timeout(self) -> None:
        self._pulse.look()
        now = self._loop.time()
        self._items.extend(self._channel.handle_timeout(now))
        if not self._busy:
            self._work()
        # There may be something to type.
        self._group.wake(self)

    def _carry_out(self, now: float, most: int | None = None) -> None:
        """Carry out what was read.

        :param most: items, and only until somebody can't keep up; None: all of them.
        """
        group = self._group
        for _ in range(len(self._items) if most is None else min(most, len(self._items))):
            if self._held and most is not None:
                break
            match item := self._items.popleft():
                case Output():
                    group.hear(now)
                    for tap in self._taps:
                        tap.output(item.data, now)
                    if self._legibility is not None and self._legibility.receive_output(item.data):
                        self.tell("this prints no text; is the speed of its port wrong?")
                case Asked():
                    if self._witness is not None:
                        self._asked[item.request] = item
                    group.request(self.name, item, now)
                case Cancelled():
                    self._asked.pop(item.request, None)
                    group.cancel(item.request, item.reason, now)
                case Alarm():
                    self.tell(item.sentence)
                case Suspected():
                    group.lose(self, "its console shows that it crashed or boots anew", boots=True)
                case Cleared():
                    group.regain(self)
                case Rebooted():
                    group.reboot(self, item.reason)
                case _:
                    if self._witness is not None:
                        self._witness.reported(item)
                    group.report(self.name, item, now)
        self._group.wake(self)
