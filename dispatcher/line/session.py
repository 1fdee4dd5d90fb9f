# SPDX-License-Identifier: MIT
"""One device's console as the host sees it: the host's end of its links.

A console carries one link for each agent that said HELLO: usually one, several
when users differ or an agent was killed and another took its place. The session
answers frames, each intact and fresh one exactly once, and nothing else, but
for one thing: the reply to a wait is typed when it is there, if the lease that
came with the command's last frame still runs. So a host whose device is silent, dead
or rebooted types nothing. Neither does one that goes on after it was stopped, for what
it reads then (`went_on`): requests are carried out, and who still waits asks again.

Of several answers to one command that are to be typed at the same time, the last one is.

A whole request comes out as `Received`. Whoever carries it out calls `accept` when it
is recorded and its reply will follow, or `reply`. The frame that completed it is answered
by one line then, or after ANSWER_HOLD without either.

Everything a device sends is untrusted: what is kept of it is bounded below.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from toolkit.wire import packets
from toolkit.wire.framing import MAX_LINE_BODY, encode_line
from toolkit.wire.transfer import SEAL_SIZE, Incoming, Outgoing
from toolkit.wire.vocabulary import LINK_FAILED, MAX_REQUEST, ProtocolError, pack_reply

MAX_CHUNK = MAX_LINE_BODY - packets.OVERHEAD
MAX_LINKS = 16  # that have sent more than HELLO, and as many that have not
MAX_REQUESTS = 256
# Bytes of requests being received, and of replies kept in case they are asked for again.
MAX_ASSEMBLING = 2 * 1024 * 1024
MAX_KEPT_REPLIES = 4 * 1024 * 1024
MAX_NONCES = 4096
MAX_BOOTS = 64
# Seconds that the answer to a frame waits for the request to be carried out: a group log on other
# machines takes some milliseconds. Less than the shortest time after which a device repeats a frame.
ANSWER_HOLD = 0.1
# Seconds without a poll after which a request's command is taken for dead.
ABANDONED = 2 * packets.LINK_TIMEOUT
# The same after a sign that the device crashed or boots anew, for a command that asks every few seconds.
DOUBT = 2.5 * packets.POLL_INTERVAL
# Why what an earlier boot had open is over.
REBOOTED = "the device rebooted"
# After the host was stopped: seconds in which what is read counts as old and is not answered; and seconds after
# which a command counts as dead that has not asked again. One that rests asks every 30 s.
STALE = 1.0
RESUMED = 45.0


class State(Enum):
    ASSEMBLING = "ASSEMBLING"  # parts of the request are missing
    OPEN = "OPEN"  # the dispatcher has it, and no reply yet
    ANSWERED = "ANSWERED"  # the reply is kept in case it is asked for again


# What the session types for a fresh frame, by the state of its request once the frame is taken.
ANSWERS = {
    State.ASSEMBLING: {packets.REQUEST: packets.ACK, packets.POLL: packets.ACK},
    State.OPEN: {packets.REQUEST: packets.ACK, packets.POLL: packets.ACK},
    State.ANSWERED: {packets.REQUEST: packets.REPLY, packets.POLL: packets.REPLY},
}


class Request:
    """One request on one link. The engine keeps it, to answer it by."""

    __slots__ = ("doubtful", "heard", "incoming", "lease_end", "link", "outgoing", "state", "tag", "total")

    def __init__(self, link: Link, tag: int, total: int, now: float) -> None:
        self.link = link
        self.tag = tag
        self.total = total  # bytes of the sealed request
        self.state = State.ASSEMBLING
        self.incoming = Incoming(total)
        self.outgoing: Outgoing | None = None
        self.heard = now
        self.lease_end = now  # until when the reply may be typed unasked
        self.doubtful = False  # the device may have crashed since its last frame

    def hear(self, now: float, lease: int) -> bool:
        """A frame of it came, with a lease of so many seconds; returns whether it was in doubt."""
        self.heard = now
        self.lease_end = now + lease
        doubtful, self.doubtful = self.doubtful, False
        return doubtful


class Link:
    """One agent's link: its token, and the newest sequence number it has used."""

    __slots__ = ("boot", "newest", "requests", "spoken", "token")

    def __init__(self, token: int, boot: int) -> None:
        self.token = token
        self.boot = boot
        self.newest = 0
        self.spoken = False  # more than HELLO has come: it is no HELLO of an old log that was printed
        self.requests: dict[int, Request] = {}

    def fresh(self, sequence: int) -> bool:
        """Whether a frame with this number is new here; notes it.

        One that a newer frame has overtaken is not: once the device has heard of the newer one it
        counts on it that no older one is answered any more.
        """
        if sequence <= self.newest:
            return False
        self.newest = sequence
        return True


@dataclass(slots=True)
class Counters:
    """What an operator may want to know of a console; all but the first three mean trouble."""

    frames: int = 0
    requests: int = 0
    lines: int = 0  # typed
    repaired: int = 0  # frames that a kernel message had cut
    damaged: int = 0  # frames that did not survive the line
    replayed: int = 0  # frames of another session, or seen before
    refused: int = 0  # intact frames that make no sense
    overflow: int = 0  # requests given up because the device has too many


@dataclass(frozen=True, slots=True)
class Received:
    """A whole request. To be answered by `Session.reply`, now or later.

    It comes again if the device repeats it over another link; its message is then the same.
    """

    request: Request
    message: bytes


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Nobody waits for this request any more, or for what its answer gave; `reason` is a clause."""

    request: Request
    reason: str


@dataclass(frozen=True, slots=True)
class Suspected:
    """The device seems to have crashed or to boot anew: what its commands wait for may be in vain."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """A command that was in doubt since `Suspected` has asked again."""


@dataclass(frozen=True, slots=True)
class Rebooted:
    """A command of another boot has asked; `reason` is a clause. What the commands before it had open is cancelled."""

    reason: str


SessionEvent = Received | Cancelled | Suspected | Cleared | Rebooted


@dataclass(slots=True)
class Session:
    """The links of one device.

    :param token: returns 32 random bits; names a link.
    :param group: 32 bits that name the group and its log.
    """

    token: Callable[[], int]
    group: int
    counters: Counters = field(default_factory=Counters)
    _links: OrderedDict[int, Link] = field(default_factory=OrderedDict)  # the one heard last is the last
    # nonce -> link token and newest sequence number of its hellos, also of links long gone
    _nonces: OrderedDict[int, tuple[int, int]] = field(default_factory=OrderedDict)
    _boots: list[int] = field(default_factory=list)
    _unanswered: dict[Request, None] = field(default_factory=dict)
    _owed: dict[Request, float] = field(default_factory=dict)  # until when the answer to its frame may wait
    _kept: OrderedDict[tuple[int, int], Request] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0
    _lines: dict[tuple[object, ...], bytes] = field(default_factory=dict)  # by what they answer
    _stale_until: float = -math.inf
    _events: list[SessionEvent] = field(default_factory=list)

    def receive_frame(self, body: bytes, now: float) -> list[SessionEvent]:
        """Take the body of an intact frame."""
        events = self._receive(body, now)
        if now < self._stale_until:
            self._hold_back(now)
        return events

    def _receive(self, body: bytes, now: float) -> list[SessionEvent]:
        self.counters.frames += 1
        try:
            packet = packets.unpack_up(body)
        except ProtocolError:
            self.counters.refused += 1
            return []
        if packet[0] == packets.HELLO:
            self._on_hello(packet, now)
            return self._drained()
        link = self._links.get(packet[1])
        if link is None or not link.fresh(packet[2]):
            self.counters.replayed += 1
            return []
        self._links.move_to_end(link.token)
        if link.boot and link.boot not in self._boots[-1:]:
            # Only now: a HELLO may come out of an old log, but who knows the token is alive.
            old = [other for other in self._links.values() if other.boot not in (0, link.boot)]
            self._end_links(old, REBOOTED)
            # Of links of an unknown boot, which go on, it would not be true that none of its commands is there any more.
            if self._boots and all(other.boot for other in self._links.values()):
                self._events.append(Rebooted(REBOOTED))
            self._boots = [*self._boots[-MAX_BOOTS:], link.boot]
        if not link.spoken:
            link.spoken = True
            self._limit_links(spoken=True)
        if packet[0] == packets.REQUEST:
            self._on_request(link, packet, now)
        elif packet[0] == packets.POLL:
            self._on_poll(link, packet[3:], now)
        else:
            self._on_cancel(link, packet[3], packet[4])
        return self._drained()

    def accept(self, request: Request) -> None:
        """The request is recorded and its reply will follow."""
        if self._owed.pop(request, None) is not None:
            self._acknowledge(request)

    def reply(self, request: Request, message: bytes, now: float) -> None:
        """Answer a request; typed at once if its frame is not answered yet, or its lease runs."""
        if request.state is not State.OPEN:
            return
        owed = self._owed.pop(request, None) is not None
        self._keep(request, message)
        if owed or now < request.lease_end:
            self._type_reply(request)

    @property
    def may_type(self) -> bool:
        """Whether a line is to be typed, or may come to be without another frame of the device."""
        return bool(self._unanswered or self._lines or self._owed)

    def end_leases(self, now: float) -> list[SessionEvent]:
        """The device may have crashed or boot anew: nothing is typed until it asks again.

        Requests that had a lease end soon if it does not.
        """
        doubtful = [request for request in self._unanswered if now < request.lease_end]
        for request in doubtful:
            request.doubtful = True
            request.heard = now + DOUBT - ABANDONED
        self._hold_back(now)
        if doubtful:
            self._events.append(Suspected())
        return self._drained()

    def went_on(self, now: float) -> None:
        """The host was stopped for a while, and what is read next may be as old as that.

        It is taken, and not answered: who wrote it may be gone, and a shell or a boot loader be there. Commands
        that still wait ask again.
        """
        self._stale_until = now + STALE
        self._hold_back(now)

    def _hold_back(self, now: float) -> None:
        """Type nothing until the device asks again."""
        self._lines.clear()
        self._owed.clear()
        for request in self._unanswered:
            request.lease_end = now
            if now < self._stale_until:
                request.heard = now + RESUMED - ABANDONED

    def end_links(self, reason: str) -> list[SessionEvent]:
        """The device's commands are all gone: nothing is typed to them any more. `reason` is a clause."""
        self._lines.clear()
        self._end_links(list(self._links.values()), reason)
        return self._drained()

    def lines(self) -> list[bytes]:
        """What is to be typed now."""
        lines = list(self._lines.values())
        self._lines.clear()
        self.counters.lines += len(lines)
        return lines

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        times = [request.heard + ABANDONED for request in self._unanswered]
        return min([*times, *self._owed.values()], default=None)

    def handle_timeout(self, now: float) -> list[SessionEvent]:
        """Answer what has waited long enough, and give up requests whose commands are gone."""
        for request in [request for request, until in self._owed.items() if now >= until]:
            self.accept(request)
        for request in list(self._unanswered):
            if now >= request.heard + ABANDONED:
                reason = "its command has stopped asking"
                self._end(request, "the device crashed or booted anew" if request.doubtful else reason)
        return self._drained()

    def _drained(self) -> list[SessionEvent]:
        events, self._events = self._events, []
        return events

    # -- frames --------------------------------------------------------------------------------

    def _on_hello(self, packet: list[Any], now: float) -> None:
        _, _, nonce, sequence, boot = packet
        token, newest = self._nonces.get(nonce, (0, 0))
        if boot in self._boots[:-1] or sequence <= newest:
            self.counters.replayed += 1
            return
        if token not in self._links:
            token = self._open_link(boot, now)
        self._links[token].fresh(sequence)
        self._nonces[nonce] = (token, sequence)
        self._nonces.move_to_end(nonce)
        if len(self._nonces) > MAX_NONCES:
            self._nonces.popitem(last=False)
        self._type(packets.WELCOME, packets.VERSION, nonce, self._links[token].newest, token, self.group)

    def _open_link(self, boot: int, now: float) -> int:
        token = self.token()
        while token in self._links:
            token = self.token()
        self._links[token] = Link(token, boot)
        self._limit_links(spoken=False)
        return token

    def _limit_links(self, spoken: bool) -> None:
        """End the link that was silent for longest, if there are too many.

        An agent that lives asks now and then; one that was killed is silent. Links of which only a HELLO came count
        apart: a log that is printed again may hold many a HELLO, and must not end a wait.
        """
        links = [link for link in self._links.values() if link.spoken is spoken]
        if len(links) > MAX_LINKS:
            self._end_links(links[:1], "the device has too many links")

    def _on_request(self, link: Link, packet: list[Any], now: float) -> None:
        _, _, _, tag, lease, offset, total, push, chunk = packet
        request = link.requests.get(tag)
        if request is None or (request.state is State.ASSEMBLING and request.total != total):
            request = self._admit(link, tag, total, push, now)
            if request is None:
                return
        if request.hear(now, lease):
            self._events.append(Cleared())
        if request.state is State.ASSEMBLING:
            message = request.incoming.add(offset, chunk)
            if message is not None:
                request.state = State.OPEN
                self.counters.requests += 1
                self._owed[request] = now + ANSWER_HOLD
                self._events.append(Received(request, message))
                return
            if not push:
                return
        elif not push:
            return
        self._answer(request, packets.REQUEST)

    def _admit(self, link: Link, tag: int, total: int, push: int, now: float) -> Request | None:
        """A new request, if the device does not ask for too much."""
        size = sum(r.incoming.total for k in self._links.values() for r in k.requests.values())
        count = sum(len(k.requests) for k in self._links.values())
        request = Request(link, tag, total, now)
        if total > MAX_REQUEST + SEAL_SIZE or count >= MAX_REQUESTS or size + total > MAX_ASSEMBLING:
            self.counters.overflow += 1
            refusal = Outgoing(
                pack_reply(LINK_FAILED, "this device has too many open requests"),
                MAX_CHUNK,
                1,
            )
            request.outgoing = refusal
            if push:
                self._type_reply(request)
            return None
        link.requests[tag] = request
        self._unanswered[request] = None
        return request

    def _on_poll(self, link: Link, fields: list[Any], now: float) -> None:
        tag, lease, have = fields
        request = link.requests.get(tag)
        if request is None:
            self._type(packets.ACK, link.token, link.newest, tag, 0)
            return
        if request.hear(now, lease):
            self._events.append(Cleared())
        if request.outgoing is not None:
            request.outgoing.acknowledge(have)
        self._answer(request, packets.POLL)

    def _on_cancel(self, link: Link, tag: int, push: int) -> None:
        request = link.requests.get(tag)
        if request is not None:
            self._end(request, "cancelled")
        if push:
            self._type(packets.FENCE, link.token, link.newest, tag)

    # -- requests ------------------------------------------------------------------------------

    def _answer(self, request: Request, frame: int) -> None:
        """The one answer to a frame of this type."""
        outgoing = request.outgoing
        if ANSWERS[request.state][frame] == packets.REPLY and outgoing is not None and not outgoing.complete:
            self._type_reply(request)
            return
        self._owed.pop(request, None)
        self._acknowledge(request)

    def _acknowledge(self, request: Request) -> None:
        # Also where the device has all of the reply: its poll crossed the end of it.
        have = request.incoming.have if request.state is State.ASSEMBLING else request.total
        self._type(packets.ACK, request.link.token, request.link.newest, request.tag, have)

    def _type_reply(self, request: Request) -> None:
        outgoing = request.outgoing
        assert outgoing is not None
        for offset, chunk, push in outgoing.burst():
            head = (request.link.token, request.link.newest, request.tag)
            self._type(packets.REPLY, *head, offset, outgoing.total, push, chunk)

    def _type(self, kind: int, *fields: object) -> None:
        # A WELCOME is for a nonce, all else for a request of a link, and a REPLY for its offset as well.
        key = (kind, fields[1]) if kind == packets.WELCOME else (kind, fields[0], *fields[2:3])
        if kind == packets.REPLY:
            key += fields[3:4]
        self._lines.pop(key, None)
        self._lines[key] = encode_line(packets.pack_packet(kind, *fields))

    def _keep(self, request: Request, message: bytes) -> None:
        request.state = State.ANSWERED
        self._unanswered.pop(request, None)
        request.incoming = Incoming(0)
        request.outgoing = Outgoing(message, MAX_CHUNK, packets.REPLY_WINDOW)
        self._kept[request.link.token, request.tag] = request
        self._kept_bytes += len(message)
        while self._kept_bytes > MAX_KEPT_REPLIES or len(self._kept) > MAX_REQUESTS // 2:
            self._forget(next(iter(self._kept.values())))

    def _forget(self, request: Request) -> None:
        request.link.requests.pop(request.tag, None)
        self._unanswered.pop(request, None)
        self._owed.pop(request, None)
        if (
            self._kept.pop((request.link.token, request.tag), None) is not None
            and request.outgoing is not None
        ):
            self._kept_bytes -= request.outgoing.total - SEAL_SIZE

    def _end(self, request: Request, reason: str) -> None:
        self._forget(request)
        if request.state is not State.ASSEMBLING:
            request.state = State.ANSWERED
            self._events.append(Cancelled(request, reason))

    def _end_links(self, links: list[Link], reason: str) -> None:
        for link in links:
            for request in list(link.requests.values()):
                self._end(request, reason)
            del self._links[link.token]
