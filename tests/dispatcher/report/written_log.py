# SPDX-License-Identifier: MIT
"""Logs of groups with their times, and the flows that are folded from them."""

from dispatcher.group.events import Event, Sent, Waiting, WaitKind
from dispatcher.report.flow.model import Flow, Fold
from tests.dispatcher.group.play import joined, left, released, reported

WAIT, WAIT_ALL, SYNC = WaitKind.WAIT, WaitKind.WAIT_ALL, WaitKind.SYNC


class Log:
    """A log that is written as a test tells it, `step` seconds between the events."""

    def __init__(self, **roles: str) -> None:
        self.events: list[Event] = []
        self.now, self.step = 1e9, 0.1
        for device, role in roles.items():
            self.events.append(joined(device, role, self.now))

    def _next(self) -> tuple[float, bytes]:
        self.now += self.step
        return self.now, len(self.events).to_bytes(2, "big")

    def send(self, device: str, message_id: str, **data: str) -> "Log":
        time, request = self._next()
        pairs = tuple((key.encode(), value.encode()) for key, value in data.items())
        self.events.append(Sent(time, device, request, message_id.encode(), pairs))
        return self

    def wait(
        self,
        kind: WaitKind,
        device: str,
        message_id: str,
        role: str | None = None,
        timeout: float | None = None,
    ) -> "Log":
        time, request = self._next()
        self.events.append(Waiting(time, device, request, kind, message_id.encode(), role, timeout))
        return self

    def release(self, device: str, status: int, reason: str, after: float = 0.0) -> "Log":
        """End the newest wait of the device."""
        self.now += after
        time, _ = self._next()
        newest = [event for event in self.events if isinstance(event, Waiting) and event.device == device][-1]
        self.events.append(released(newest.identity, status, reason, time))
        return self

    def report(self, device: str, kind: str, *fields: str | None) -> "Log":
        time, _ = self._next()
        self.events.append(reported(device, kind, *fields, time=time))
        return self

    def leave(self, device: str, reason: str = "ended with status 0") -> "Log":
        self.events.append(left(device, reason, self._next()[0]))
        return self

    def flow(self) -> Flow:
        return fold(self.events)


def fold(events: list[Event]) -> Flow:
    folder = Fold()
    for event in events:
        folder.apply(event)
    return folder.finish()


def reference() -> Log:
    """The job of the reference's flow table: server and client work for a while."""
    log = Log(s="server", c="client", o="observer")
    log.step = 0.001
    for device in "sco":
        log.wait(SYNC, device, "start")
    log.wait(WAIT_ALL, "c", "ready", "server").wait(SYNC, "o", "fin")
    log.now += 0.3
    log.send("s", "ready").wait(SYNC, "s", "fin")
    log.now += 0.3
    return log.wait(SYNC, "c", "fin")
