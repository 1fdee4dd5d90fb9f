# SPDX-License-Identifier: MIT
"""Device links and a session, joined by a line that loses, doubles, damages and overtakes.

It carries whole frames and lines; bytes among other output are tests/fault_model.py's. No I/O and
no clock: time goes from one event to the next, and a seed repeats a run exactly.

While it runs it checks what must hold on any line:

* a frame that the session has had already, or a newer one of the same link, a damaged one and one of
  another session cause nothing,
* a fresh frame causes at most one burst of lines,
* a line that no frame asked for is part of a reply, and the lease in the newest frame about that
  request still runs,
* no link gets a request carried out twice.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from dispatcher.line.session import Cancelled, Received, Request, Session
from toolkit.wire import packets
from toolkit.wire.device_link import DeviceLink
from toolkit.wire.framing import (
    MARKER,
    MAX_FRAME,
    MAX_LINE,
    TERMINATOR,
    decode_frame,
    decode_line,
)
from toolkit.wire.vocabulary import OK, pack_reply, pack_request, unpack_reply, unpack_request

# A tty takes a frame when no more than this is still in its buffer (bytes).
WRITABLE = 256


@dataclass(frozen=True)
class Faults:
    """Chances, for each frame and each line."""

    drop: float = 0.0
    double: float = 0.0
    damage: float = 0.0
    overtake: float = 0.0  # it comes up to a second late


CALM = Faults()


@dataclass
class FakeDispatcher:
    """Carries requests out: "echo" is answered at once, "wait" by `release`."""

    carried_out: Counter[bytes] = field(default_factory=Counter)  # by identity
    asked: Counter[tuple[int, int]] = field(default_factory=Counter)  # by link and tag
    waiting: dict[bytes, list[Request]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)  # why
    replies: dict[bytes, bytes] = field(default_factory=dict)

    def on_request(self, request: Request, message: bytes) -> bytes | None:
        identity, operation, arguments = unpack_request(message)
        self.asked[request.link.token, request.tag] += 1
        if identity not in self.carried_out:
            self.carried_out[identity] += 1
            if operation == "echo":
                self.replies[identity] = pack_reply(OK, *arguments)
        if identity in self.replies:
            return self.replies[identity]
        self.waiting.setdefault(identity, []).append(request)
        return None

    def on_cancel(self, request: Request, reason: str) -> None:
        self.cancelled.append(reason)
        for requests in self.waiting.values():
            if request in requests:
                requests.remove(request)

    @property
    def open_waits(self) -> int:
        return sum(bool(requests) for requests in self.waiting.values())


class FakeLine:
    """One console: `links` at the device's end, `session` at the host's.

    :param baud: what the tty says, 0: unknown.
    :param speed: bytes a second that the line really carries, each way.
    :param buffered: whether the tty's own buffer is what the line empties, as that of a serial port; else
        everything is taken at once, and queues where nobody sees it.
    """

    def __init__(
        self,
        seed: int = 0,
        faults: Faults = CALM,
        *,
        baud: int = 0,
        speed: float = 1e6,
        buffered: bool = False,
        latency: float = 0.0005,
    ) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.baud = baud
        self.speed = speed
        self.buffered = buffered
        self.latency = latency
        self.now = 100.0
        self.group = 7
        self.dispatcher = FakeDispatcher()
        self.session = self.new_session()
        self.links: list[DeviceLink] = []
        self.up: list[tuple[float, int, bytes]] = []
        self.down: list[tuple[float, int, bytes]] = []
        self.free = {"up": 0.0, "down": 0.0}
        self.frames: list[bytes] = []  # bodies sent
        self.received: list[bytes] = []  # those that arrived, some twice
        self.typed: list[tuple[float, bytes]] = []
        self.strays = 0  # lines that came when no agent read the console
        self.replies: dict[tuple[int, int], tuple[int, list[object]]] = {}  # by number of the link, and tag
        self.lose_frame: Callable[[bytes], bool] = lambda body: False
        self.lose_line: Callable[[bytes], bool] = lambda body: False
        self._number = 0
        self._actions: list[tuple[float, int, Callable[[], object]]] = []
        self._newest: Counter[int] = Counter()  # sequence numbers, by link
        self._lease_end: dict[tuple[int, int], float] = {}

    # -- what a test does

    def new_session(self) -> Session:
        return Session(lambda: self.random.getrandbits(32), self.group)

    def _carry_out(self, events: list[Received | Cancelled]) -> None:
        for event in events:
            if isinstance(event, Cancelled):
                self.dispatcher.on_cancel(event.request, event.reason)
                continue
            reply = self.dispatcher.on_request(event.request, event.message)
            if reply is None:
                self.session.accept(event.request)
            else:
                self.session.reply(event.request, reply, self.now)

    def restart_dispatcher(self, group: int | None = None) -> None:
        """The session is lost, and with another `group` all it knew."""
        if group is not None:
            self.group = group
            self.dispatcher = FakeDispatcher()
        self.dispatcher.waiting = {}
        self.session = self.new_session()

    def new_link(self, boot: int = 1) -> DeviceLink:
        link = DeviceLink(self.random.getrandbits(32), boot, self.baud)
        self.links.append(link)
        return link

    def submit(self, operation: str, *arguments: object, link: DeviceLink | None = None) -> int:
        """Returns the tag."""
        if not self.links:
            self.new_link()
        identity = self.random.randbytes(8)
        return (link or self.links[0]).submit(pack_request(identity, operation, *arguments), self.now)

    def release(self, *values: object) -> None:
        """Answer all waits."""
        waiting, self.dispatcher.waiting = self.dispatcher.waiting, {}
        for identity, requests in waiting.items():
            self.dispatcher.replies[identity] = pack_reply(OK, *values)
            for request in requests:
                self.session.reply(request, self.dispatcher.replies[identity], self.now)
                self._type(self.session.lines(), asked=False)

    def at(self, time: float, action: Callable[[], object]) -> None:
        self._number += 1
        heapq.heappush(self._actions, (time, self._number, action))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; stops early, and returns True, once `until` holds."""
        end = self.now + seconds
        while not until():
            self._write()
            time = self._next()
            if time > end:
                self.now = end
                return until()
            self.now = max(self.now, time)
            self._turn()
        return True

    @property
    def idle(self) -> bool:
        """All commands have ended, and nothing is on the line."""
        return all(link.idle for link in self.links) and not self.up and not self.down

    def reply(self, tag: int, link: int = 0) -> tuple[int, list[object]] | None:
        return self.replies.get((link, tag))

    @property
    def repeats(self) -> int:
        return sum(link.repeats for link in self.links)

    def kinds(self) -> list[int]:
        """The types of the frames sent."""
        return [packets.unpack_up(body)[0] for body in self.frames]

    # -- the line

    def _next(self) -> float:
        times = [queue[0][0] for queue in (self.up, self.down, self._actions) if queue]
        timeouts = [link.next_timeout() for link in self.links] + [self.session.next_timeout()]
        times += [time for time in timeouts if time is not None]
        if self.buffered and any(link.wants_to_send for link in self.links):
            times.append(max(self.now, self.free["up"] - (WRITABLE - 1) / self.speed))
        return min(times, default=float("inf"))

    def host_turn(self) -> None:
        """Let the host do what is due."""
        self._carry_out(self.session.handle_timeout(self.now))

    def _turn(self) -> None:
        if self._actions and self._actions[0][0] <= self.now:
            heapq.heappop(self._actions)[2]()
        if self.up and self.up[0][0] <= self.now:
            self._receive_frame(heapq.heappop(self.up)[2])
        if self.down and self.down[0][0] <= self.now:
            line = heapq.heappop(self.down)[2]
            self.strays += not any(link.listening() for link in self.links)
            for link in self.links:
                link.receive_line(line, self.now)
        self.host_turn()
        for number, link in enumerate(self.links):
            deadline = link.next_timeout()
            if deadline is not None and deadline <= self.now:
                link.handle_timeout(self.now)
                after = link.next_timeout()
                assert after is None or after > self.now, "a time-out that does not go away"
            for tag, reply in link.replies():
                assert (number, tag) not in self.replies, "replied twice"
                self.replies[number, tag] = unpack_reply(reply)
        assert not self.session.lines(), "typed without being asked"

    def _write(self) -> None:
        for link in self.links:
            while link.wants_to_send:
                backlog = max(0, int((self.free["up"] - self.now) * self.speed))
                if self.buffered and backlog >= WRITABLE:
                    break
                frame = link.next_frame(self.now, backlog if self.buffered else 0)
                if frame is None:
                    break
                assert len(frame) <= MAX_FRAME
                body = decode_frame(frame[len(MARKER) : -len(TERMINATOR)])
                assert body is not None
                self.frames.append(body)
                if not self.lose_frame(body):
                    self._carry("up", self.up, frame)

    def _carry(self, way: str, queue: list[tuple[float, int, bytes]], data: bytes) -> None:
        chance = self.random.random
        self.free[way] = max(self.now, self.free[way]) + len(data) / self.speed
        if chance() < self.faults.drop:
            return
        for _ in range(2 if chance() < self.faults.double else 1):
            carried = data
            if chance() < self.faults.damage:
                position = self.random.randrange(len(data))
                flipped = data[position] ^ 1 << self.random.randrange(8)
                carried = data[:position] + bytes((flipped,)) + data[position + 1 :]
            late = chance() if chance() < self.faults.overtake else 0.0
            self._number += 1
            heapq.heappush(queue, (self.free[way] + self.latency + late, self._number, carried))

    def _receive_frame(self, frame: bytes) -> None:
        if not frame.startswith(MARKER) or not frame.endswith(TERMINATOR):
            return
        body = decode_frame(frame[len(MARKER) : -len(TERMINATOR)])
        if body is None:
            return
        self.received.append(body)
        packet = packets.unpack_up(body)
        link, sequence = packet[1:3] if packet[0] else (-packet[2], packet[3])
        asked = sum(self.dispatcher.asked.values())
        self._carry_out(self.session.receive_frame(body, self.now))
        lines = self.session.lines()
        if sequence <= self._newest[link]:
            assert not lines and sum(self.dispatcher.asked.values()) == asked, "an old frame did something"
        elif packet[0] in (packets.REQUEST, packets.POLL) and packet[1] in self.session._links:
            assert packet[4] <= packets.LEASE
            self._lease_end[packet[1], packet[3]] = self.now + packet[4]
        self._newest[link] = max(self._newest[link], sequence)
        assert len(lines) <= packets.REPLY_WINDOW
        self._type(lines, asked=True)
        assert all(count == 1 for count in self.dispatcher.asked.values()), "a link's request came twice"
        assert all(count == 1 for count in self.dispatcher.carried_out.values())

    def _type(self, lines: list[bytes], *, asked: bool) -> None:
        for line in lines:
            assert len(line) <= MAX_LINE and line.endswith(b"\n")
            body = decode_line(line)
            assert body is not None
            packet = packets.unpack_down(body)
            if not asked:
                assert packet[0] == packets.REPLY
                assert self.now < self._lease_end[packet[1], packet[3]], "typed outside a lease"
            self.typed.append((self.now, body))
            if not self.lose_line(body):
                self._carry("down", self.down, line)
