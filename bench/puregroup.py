# SPDX-License-Identifier: MIT
"""An engine and the channels of its devices, with a log in memory: a whole dispatcher without any I/O."""

from collections.abc import Callable

from dispatcher.engine import Engine
from dispatcher.group.events import Event, Founded
from dispatcher.group.results import Case, Counts
from dispatcher.line.channel import Alarm, Asked, Channel, Item, Output, TextHandle
from dispatcher.line.session import Cancelled, Cleared, Rebooted, Request, Suspected


class Nobody:
    """Watches a group, and does nothing."""

    def result(self, case: Case, counts: Counts) -> None: ...

    def notice(self, device: str | None, sentence: str) -> None: ...

    def turned(self, now: float) -> None: ...


class PureGroup:
    """A group on one host. Times are in seconds.

    :param token: returns 32 random bits.
    """

    def __init__(self, token: Callable[[], int]) -> None:
        self.engine = Engine(b"purehost")
        self.channels: dict[str, Channel] = {}
        self.output: dict[str, bytes] = {}  # what the devices printed, as long as nobody takes it
        self.log: list[Event] = []
        self._token = token
        self.engine.receive_event(Founded(0.0, b"founded"), 0.0)

    def join(self, name: str, role: str, now: float) -> None:
        """Add a device."""
        self.engine.join(name, role, now)
        self.channels[name] = Channel(self._token, self.engine.state.number)
        self.output[name] = b""
        self._turn(now)

    def receive_data(self, name: str, data: bytes, now: float) -> None:
        """Take bytes of a console."""
        self._carry_out(name, self.channels[name].receive_data(data, now), now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        times = [self.engine.next_timeout(), *(c.next_timeout() for c in self.channels.values())]
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self.engine.handle_timeout(now)
        for name, channel in self.channels.items():
            deadline = channel.next_timeout()
            if deadline is not None and deadline <= now:
                self._carry_out(name, channel.handle_timeout(now), now)
        self._turn(now)

    def data_to_type(self, now: float) -> dict[str, bytes]:
        """What is to be typed to each device that there is something for."""
        typed = {name: channel.data_to_type(now) for name, channel in self.channels.items()}
        return {name: data for name, data in typed.items() if data}

    def _carry_out(self, name: str, items: list[Item], now: float) -> None:
        for item in items:
            match item:
                case Output():
                    self.output[name] += item.data
                case Asked():
                    asked = (item.request, item.identity, item.operation, item.arguments, item.position)
                    self.engine.request(name, *asked, now)
                case Cancelled():
                    self.engine.cancel(item.request, item.reason, now)
                case Alarm():
                    pass
                case Suspected():
                    self.engine.lose(name, "its console shows that it crashed or boots anew", now, boots=True)
                case Cleared():
                    self.engine.regain(name, now)
                case Rebooted():
                    self.engine.reboot(name, item.reason, now)
                case _:
                    self.engine.report(name, item.kind, item.fields, item.offset, now)
        self._turn(now)

    def _turn(self, now: float) -> None:
        while events := self.engine.events_to_append():
            for event in events:
                self.log.append(event)
                self.engine.receive_event(event, now)
        for answer in self.engine.answers():
            assert isinstance(answer.request, Request | TextHandle)
            channel = self.channels[answer.device]
            if answer.reply is None:
                channel.accept(answer.request)
            else:
                channel.reply(answer.request, answer.reply, now)
