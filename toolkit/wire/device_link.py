# SPDX-License-Identifier: MIT
"""The device's end of the link: sends requests, asks again, collects replies.

No input or output, no clock, no randomness: the agent passes input lines and
the time in, takes frames and replies out, and comes back at `next_timeout()`.

The device drives every exchange. The host answers frames, and may type
unasked only while a lease runs: the reply to a wait, once. So all repetition
is here, and a host that hears nothing types nothing.

The link goes through the states of LINK: after too long a silence it says HELLO
again, and its requests, which keep their identities, begin anew in the new
session. Each request goes through the states of TRANSITIONS. Both tables have
an entry for each event in each state, None where it changes nothing; an event
that is not in them is a KeyError.
"""

from . import packets
from .framing import MAX_FRAME_BODY, MAX_LINE, decode_line, encode_frame
from .packets import ACK, CANCEL, FENCE, HELLO, POLL, REPLY, REQUEST, WELCOME
from .timing import Timing
from .transfer import SEAL_SIZE, Incoming, Outgoing
from .vocabulary import LINK_FAILED, MAX_REPLY, NO_DISPATCHER, ProtocolError, pack_reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# States of the link.
CLOSED = "CLOSED"  # nothing is asked
CALLING = "CALLING"  # a HELLO is to be sent
CALLED = "CALLED"  # it was sent
OPEN = "OPEN"  # the host has welcomed it

_LINK_EVENTS = ("request", "hello sent", "time-out", "answer lost", "welcome", "silence", "close")
# fmt: off
_LINK_ROWS = {
    CLOSED:  (CALLING, None,   None,    None,    None, None,    None),
    CALLING: (None,    CALLED, None,    None,    OPEN, None,    CLOSED),
    CALLED:  (None,    None,   CALLING, CALLING, OPEN, None,    CLOSED),
    OPEN:    (None,    None,   None,    None,    None, CALLING, CLOSED),
}
# fmt: on
LINK = {state: dict(zip(_LINK_EVENTS, row)) for state, row in _LINK_ROWS.items()}

# States of a request.
SENDING = "SENDING"  # the host has not all of it
WAITING = "WAITING"  # the host has it, and no reply yet
RECEIVING = "RECEIVING"  # part of the reply is here
SETTLING = "SETTLING"  # the reply is whole, but a frame may still be answered
CANCELLING = "CANCELLING"  # nobody wants the reply; the host has to know
DONE = "DONE"

_EVENTS = {
    # event: the state that follows, in the order of _STATES; None: nothing changes
    "part acknowledged": (SENDING, SENDING, SENDING, None, None),
    "all acknowledged": (WAITING, WAITING, None, None, None),
    "part of reply": (RECEIVING, RECEIVING, RECEIVING, None, None),
    "whole reply": (SETTLING, SETTLING, SETTLING, None, None),
    "welcome": (SENDING, SENDING, SENDING, DONE, None),
    "time-out": (SENDING, WAITING, RECEIVING, DONE, CANCELLING),
    "answer lost": (SENDING, WAITING, RECEIVING, DONE, DONE),
    "cancel": (CANCELLING, CANCELLING, CANCELLING, None, None),
    "link failed": (DONE, DONE, DONE, DONE, DONE),
    "settled": (None, None, None, DONE, None),
    "fence": (None, None, None, None, DONE),
    "gave up": (None, None, None, None, DONE),
}
_STATES = (SENDING, WAITING, RECEIVING, SETTLING, CANCELLING)
TRANSITIONS = {state: {event: row[i] for event, row in _EVENTS.items()} for i, state in enumerate(_STATES)}

# Frames of one request that go before an answer is due: at first one, as a line has to show what it carries.
FIRST_WINDOW = 1
MAX_WINDOW = 8
# While so many bytes are unanswered (of frames, with what their answers take), no request begins to
# send. A slow line needs two seconds for them.
MAX_UNANSWERED = 2048
MAX_CHUNK = MAX_FRAME_BODY - packets.OVERHEAD
# On a slow line a long frame is likely to be cut by a kernel message.
SLOW_CHUNK = 200

# Seconds after which nobody is taken to listen, where nobody ever answered.
HELLO_TIMEOUT = 5.0
# Output of others that may lie in buffers between us and the host (bytes).
HIDDEN_QUEUE = 8192
CANCEL_TRIES = 3


class _Request:
    __slots__ = (
        "asked",
        "burst",
        "deadline",
        "incoming",
        "last_sequence",
        "leased",
        "outgoing",
        "reply",
        "state",
        "tag",
        "tries",
    )

    def __init__(self, tag: int, outgoing: Outgoing) -> None:
        self.tag = tag
        self.outgoing = outgoing
        self.state = SENDING
        self.burst = []  # type: list[tuple[int, bytes, int]]
        self.incoming = None  # type: Incoming | None
        self.reply = b""
        self.deadline = None  # type: float | None
        self.tries = 0  # unanswered transmissions in a row
        self.asked = False  # that frame wants an answer, and has none yet
        self.last_sequence = 0  # of this request's newest frame; 0: none was sent
        self.leased = False  # that frame gave the host a lease


class DeviceLink:
    """One link of one agent.

    :param nonce: 32 random bits that name the agent.
    :param boot: 32 bits that change with every boot of the device.
    :param baud: line speed in bits per second, 0 where unknown.
    :param nobody: the sentence for commands that no dispatcher answers.
    """

    def __init__(
        self, nonce: int, boot: int, baud: int = 0, nobody: str = "no dispatcher answers on this console"
    ) -> None:
        self._nonce = nonce
        self._boot = boot
        self._nobody = nobody
        self._timing = Timing(baud)
        self._state = CLOSED
        self._session = 0
        self._group = None  # type: int | None
        self._sequence = 0  # of our newest frame
        self._answered = 0  # the newest that the host has seen
        self._requests = {}  # type: dict[int, _Request]
        self._queue = []  # type: list[int]
        self._unasked = []  # type: list[tuple[int, int, tuple[object, ...]]]
        self._next_tag = 1
        self._replies = []  # type: list[tuple[int, bytes]]
        self._hello_deadline = None  # type: float | None
        self._hello_tries = 0
        self.attended = True  # set by `attend`
        self.repeats = 0  # frames sent again

    # -- what the agent calls ------------------------------------------------------------------

    def submit(self, message: bytes, now: float) -> int:
        """Send a packed request; returns the tag that its reply will carry."""
        while self._next_tag in self._requests:
            self._next_tag = self._next_tag % 0xFFFF + 1
        tag = self._next_tag
        self._next_tag = tag % 0xFFFF + 1
        chunk = SLOW_CHUNK if self._timing.slow else MAX_CHUNK
        request = _Request(tag, Outgoing(message, MAX_CHUNK, MAX_WINDOW, chunk, FIRST_WINDOW))
        self._requests[tag] = request
        if self._state == OPEN:
            self._start(request)
        else:
            self._call("request")
        return tag

    def cancel(self, tag: int, now: float, gone: bool = False) -> None:
        """Nobody waits for this reply any more, or for what it gave; the host is told if it knows of the request.

        `gone`: nor does anybody wait for the console to be clean, and who reads it next, a shell at its
        prompt, must not have an answer in its input.
        """
        request = self._requests.get(tag)
        if request is None:
            self._give_back(tag)
        elif gone:
            request.reply = b""
            self._abandon(request)
            if self._state != OPEN and not self._requests:
                self._stop_greeting(now)
        elif self._state != OPEN or request.last_sequence == 0:
            self._drop(request)
            if not self._requests:
                self._stop_greeting(now)
        elif self._step(request, "cancel"):
            request.tries = 0
            self._enqueue(request)
        elif request.state == SETTLING:
            self._give_back(tag)

    def receive_line(self, line: bytes, now: float) -> bool:
        """One line of input. Returns False for what is not a line of this protocol."""
        body = decode_line(line)
        if body is None:
            return False
        try:
            packet = packets.unpack_down(body)
        except ProtocolError:
            return True
        if packet[0] == WELCOME:
            self._on_welcome(packet, len(line), now)
        elif self._state == OPEN and packet[1] == self._session:
            self._note_answer(packet[2], len(line), now)
            request = self._requests.get(packet[3])
            if request is not None:
                if packet[2] >= request.last_sequence:
                    request.asked = False
                self._on_packet(request, packet, now)
            self._look_for_losses(now)
            self._settle(now)
        return True

    def next_frame(self, now: float, backlog: int = 0) -> "bytes | None":
        """The next frame to write, or None. `backlog`: bytes not yet out on the line."""
        if self._state == CALLING:
            return self._hello(now, backlog)
        if self._unasked:
            kind, tag, fields = self._unasked.pop(0)
            self._sequence += 1
            return self._encode(kind, self._session, self._sequence, tag, *fields)
        request = self._next_in_queue()
        if request is None:
            return None
        self._queue.remove(request.tag)
        frame = self._transmit(request)
        self._timing.sent(self._sequence, len(frame), now)
        # Of a burst only the last frame is answered.
        request.asked = not request.burst
        request.deadline = None
        if request.asked:
            request.deadline = now + self._timing.patience(request.tries, len(frame) + backlog)
        return frame

    def _hello(self, now: float, backlog: int) -> bytes:
        if self._hello_tries == 0 and self._group is None:
            self._timing.listen(now)
        self._sequence += 1
        frame = self._encode(HELLO, packets.VERSION, self._nonce, self._sequence, self._boot)
        self._timing.sent(self._sequence, len(frame), now)
        self._hello_deadline = now + self._timing.patience(self._hello_tries, len(frame) + backlog)
        self._advance("hello sent")
        return frame

    def attend(self, attended: bool) -> None:
        """Whether the agent alone reads the console; otherwise no lease is given, nor kept."""
        if attended == self.attended:
            return
        self.attended = attended
        for request in self._requests.values():
            if request.state == WAITING:
                self._enqueue(request)

    def answer_lost(self) -> None:
        """Somebody else reads the console, and so the answers: what was asked is asked again.

        To be called where no lease is given, before the next frame is written.
        """
        if self._advance("answer lost"):
            self._hello_deadline = None
            self._hello_tries = 0
            if not self._requests:
                self._close()
        for request in list(self._requests.values()):
            if request.state == CANCELLING:
                self._step(request, "answer lost")
                self._abandon(request)
            elif request.state == SETTLING:
                self._step(request, "answer lost")
                self._finish(request)
            elif request.asked and self._step(request, "answer lost"):
                request.tries = 0
                request.asked = False
                self._repeat(request)

    def refuse(self, tag: int, status: int, text: str) -> None:
        """End this request with this answer: it could not be asked about for too long."""
        request = self._requests.get(tag)
        if request is None:
            return
        answered = request.state == SETTLING
        self._fail(request, status, text)
        if answered:
            return
        if request.last_sequence:
            self._give_back(tag)
        if self._state == CALLING and not self._requests:
            self._close()

    def accepted(self, tag: int) -> bool:
        """Whether the host has all of this request."""
        return tag in self._requests and self._requests[tag].state != SENDING

    def keep(self) -> None:
        """Tell the host that the waits go on, and ask for no answer."""
        for request in self._requests.values():
            if self._state == OPEN and request.state == WAITING:
                self._unasked.append((REQUEST, request.tag, (0, 0, request.outgoing.total, 0, b"")))

    def listening(self) -> bool:
        """Whether the agent has to read: the host may be about to type, or we are about to ask it."""
        if self.attended:
            return not self.idle
        return self._greeting or any(
            r.asked or r.state != WAITING or r.tag in self._queue for r in self._requests.values()
        )

    def replies(self) -> "list[tuple[int, bytes]]":
        """Replies that came since the last call, as `(tag, packed reply)`."""
        replies, self._replies = self._replies, []
        return replies

    @property
    def idle(self) -> bool:
        """True when the host has nothing more to say: the console is free for others."""
        return not self._requests and not self._greeting

    @property
    def _greeting(self) -> bool:
        """Whether a HELLO is due, or may still be answered."""
        return self._state in (CALLING, CALLED)

    def active(self, tag: int) -> bool:
        """Whether the host may still type because of this request."""
        return tag in self._requests or self._state == CALLED

    @property
    def wants_to_send(self) -> bool:
        return self._state == CALLING or bool(self._unasked) or self._next_in_queue() is not None

    @property
    def wants_no_answer(self) -> bool:
        """Whether the next frame will not be answered."""
        return bool(self._unasked) and self._state != CALLING

    def next_timeout(self) -> "float | None":
        """When `handle_timeout` has to be called, on the clock of `now`."""
        deadlines = [r.deadline for r in self._requests.values() if r.deadline is not None]
        if self._hello_deadline is not None:
            deadlines.append(self._hello_deadline)
        return min(deadlines) if deadlines else None

    def handle_timeout(self, now: float) -> None:
        if self._hello_deadline is not None and now >= self._hello_deadline:
            self._on_hello_timeout(now)
        for request in list(self._requests.values()):
            if request.deadline is not None and now >= request.deadline:
                self._on_request_timeout(request, now)
        wanted = any(request.state in (SENDING, WAITING, RECEIVING) for request in self._requests.values())
        if self._timing.silent and wanted:
            self._call("silence")

    def abort(self, status: int, text: str) -> None:
        """End every request with this answer: there is no link any more."""
        for request in list(self._requests.values()):
            self._fail(request, status, text)
        self._close()

    # -- the link ------------------------------------------------------------------------------

    def _advance(self, event: str) -> bool:
        """Whether this event changes the state of the link; does so."""
        state = LINK[self._state][event]
        if state is None:
            return False
        self._state = state
        return True

    def _call(self, event: str) -> None:
        """Something happened after which the host may have to be greeted."""
        if not self._advance(event):
            return
        self._queue = []
        self._unasked = []
        for request in list(self._requests.values()):
            if request.state == CANCELLING:
                # A host that is there hears no more of it, and gives it up.
                self._step(request, "gave up")
                self._finish(request)
            elif request.state != SETTLING:
                request.deadline = None
        self._hello_tries = 0

    def _on_hello_timeout(self, now: float) -> None:
        self._hello_deadline = None
        known = self._group is not None
        patience = packets.LINK_TIMEOUT if known else HELLO_TIMEOUT + HIDDEN_QUEUE / self._timing.rate
        if not self._requests:
            self._close()
        elif now - self._timing.heard < patience:
            self._hello_tries += 1
            self._advance("time-out")
        elif known:
            self.abort(LINK_FAILED, "the dispatcher has not answered for %d seconds" % patience)
        else:
            self.abort(NO_DISPATCHER, self._nobody)

    def _stop_greeting(self, now: float) -> None:
        """Nobody needs the link any more; what may still come is the answer to the last HELLO."""
        if self._state == CALLED and self._hello_deadline is not None:
            self._hello_deadline = min(self._hello_deadline, now + self._timing.patience(0))
        else:
            self._close()

    def _close(self) -> None:
        self._advance("close")
        self._group = None
        self._unasked = []
        self._hello_deadline = None

    def _on_welcome(self, packet: "list[Any]", size: int, now: float) -> None:
        _, version, nonce, answers, session, group = packet
        if nonce != self._nonce or not self._greeting:
            return
        if version != packets.VERSION:
            self.abort(
                NO_DISPATCHER,
                "the dispatcher speaks version %d of the protocol, this box version %d: use matching versions"
                % (version, packets.VERSION),
            )
            return
        lost = self._group not in (None, group)
        self._advance("welcome")
        self._session = session
        self._group = group
        self._hello_deadline = None
        self._note_answer(answers, size, now)
        for request in list(self._requests.values()):
            if lost and request.state in (WAITING, RECEIVING):
                text = "the dispatcher was restarted, and has lost the group's messages"
                self._fail(request, LINK_FAILED, text)
            elif self._step(request, "welcome"):
                if request.state == SENDING:
                    self._start(request)
                else:
                    self._finish(request)

    def _note_answer(self, answers: int, size: int, now: float) -> None:
        """A line of `size` bytes came, typed when `answers` was the newest frame."""
        self._answered = max(self._answered, min(answers, self._sequence))
        self._timing.answered(answers, size, now)

    def _look_for_losses(self, now: float) -> None:
        """The host answers in order: a frame it has not come to is late, one it has passed is lost."""
        for request in self._requests.values():
            if request.asked and request.deadline is not None and request.state != SETTLING:
                if request.last_sequence > self._answered:
                    request.deadline = max(request.deadline, now + self._timing.patience(request.tries))
                else:
                    request.deadline = now

    @staticmethod
    def _encode(kind: int, *fields: object) -> bytes:
        return encode_frame(packets.pack_packet(kind, *fields))

    # -- one request ---------------------------------------------------------------------------

    def _step(self, request: _Request, event: str) -> bool:
        """Whether this event changes anything for the request; sets its state."""
        state = TRANSITIONS[request.state][event]
        if state is None:
            return False
        request.state = state
        if state != SENDING:
            request.burst = []
        return True

    def _start(self, request: _Request) -> None:
        """Send the request from its beginning."""
        request.outgoing.acknowledged = 0
        request.incoming = None
        request.tries = 0
        self._send_burst(request)

    def _send_burst(self, request: _Request) -> None:
        request.burst = request.outgoing.burst()
        self._enqueue(request)

    def _enqueue(self, request: _Request) -> None:
        request.deadline = None
        if request.tag not in self._queue:
            self._queue.append(request.tag)

    def _next_in_queue(self) -> "_Request | None":
        """Whose frame is due: in turn, but no request begins to send while much is unanswered."""
        if self._state == OPEN:
            # (What a cancelled request has sent may stay without an answer.)
            room = self._timing.unanswered < MAX_UNANSWERED or not any(
                request.asked and request.deadline is not None for request in self._requests.values()
            )
            for tag in self._queue:
                request = self._requests[tag]
                if room or not request.burst or request.burst[0][0] > request.outgoing.acknowledged:
                    return request
        return None

    def _transmit(self, request: _Request) -> bytes:
        self._sequence += 1
        request.last_sequence = self._sequence
        head = (self._session, request.last_sequence, request.tag)
        lease = packets.LEASE if self.attended else 0
        request.leased = lease > 0
        if request.state == SENDING and request.burst:
            offset, chunk, push = request.burst.pop(0)
            if request.burst:
                # Others may send in between: nobody starves behind a long request.
                self._queue.append(request.tag)
            return self._encode(REQUEST, *(head + (lease, offset, request.outgoing.total, push, chunk)))
        if request.state == CANCELLING:
            return self._encode(CANCEL, *(head + (1,)))
        have = request.incoming.have if request.incoming else 0
        return self._encode(POLL, *(head + (lease, have)))

    def _on_packet(self, request: _Request, packet: "list[Any]", now: float) -> None:
        if packet[0] == ACK:
            self._on_ack(request, packet, now)
        elif packet[0] == REPLY:
            self._on_reply(request, packet, now)
        elif packet[0] == FENCE and self._step(request, "fence"):
            self._finish(request)

    def _on_ack(self, request: _Request, packet: "list[Any]", now: float) -> None:
        have = packet[4]
        if have == request.outgoing.total:
            if self._step(request, "all acknowledged"):
                request.outgoing.acknowledge(have)
                request.incoming = None
                request.tries = 0
                self._unqueue(request)
                interval = packets.POLL_INTERVAL if self.attended else packets.UNATTENDED_POLL_INTERVAL
                request.deadline = now + interval
                if request.leased and not self.attended:
                    # It was on its way when another reader came: the next frame takes the lease back.
                    self._enqueue(request)
        elif request.burst or packet[2] < request.last_sequence:
            pass  # The answer to an earlier try says nothing: that to the newest is on its way.
        elif self._step(request, "part acknowledged"):
            request.outgoing.acknowledge(have)
            request.incoming = None
            request.tries = 0
            self._send_burst(request)

    def _on_reply(self, request: _Request, packet: "list[Any]", now: float) -> None:
        _, _, _, _, offset, total, push, chunk = packet
        if total > MAX_REPLY + SEAL_SIZE or request.state not in (SENDING, WAITING, RECEIVING):
            return
        if request.incoming is None or request.incoming.total != total:
            request.incoming = Incoming(total)
        message = request.incoming.add(offset, chunk)
        if message is not None:
            self._step(request, "whole reply")
            self._unqueue(request)
            request.reply = message
            # What may still come is the answer to a frame of ours that crossed the reply.
            request.deadline = now + self._timing.patience(0)
            return
        self._step(request, "part of reply")
        request.tries = 0
        if push and packet[2] >= request.last_sequence:
            self._enqueue(request)
        else:
            self._unqueue(request)
            request.deadline = now + self._timing.patience(0, packets.REPLY_WINDOW * MAX_LINE)

    def _settle(self, now: float) -> None:
        for request in list(self._requests.values()):
            if (
                request.state == SETTLING
                and self._answered >= request.last_sequence
                and self._step(request, "settled")
            ):
                self._finish(request)

    def _on_request_timeout(self, request: _Request, now: float) -> None:
        if request.state == CANCELLING and request.tries >= CANCEL_TRIES:
            self._step(request, "gave up")
        else:
            polling = request.state == WAITING and request.tries == 0
            self._step(request, "time-out")
        if request.state == DONE:
            self._finish(request)
            return
        if not polling:
            self.repeats += 1
            self._timing.unheard(request.last_sequence, self._sequence)
        request.tries += 1
        self._repeat(request)

    def _repeat(self, request: _Request) -> None:
        """Send again what the host may not have got, or ask for what it may have answered."""
        if request.state == SENDING:
            request.outgoing.lost()
            self._send_burst(request)
        else:
            self._enqueue(request)

    def _fail(self, request: _Request, status: int, text: str) -> None:
        if request.state not in (SETTLING, CANCELLING):
            request.reply = pack_reply(status, text)
        self._step(request, "link failed")
        self._finish(request)

    def _finish(self, request: _Request) -> None:
        if request.reply:
            self._replies.append((request.tag, request.reply))
        self._drop(request)

    def _abandon(self, request: _Request) -> None:
        """End it now."""
        self._finish(request)
        if request.last_sequence:
            self._give_back(request.tag)

    def _give_back(self, tag: int) -> None:
        """Cancel, and have no answer to that: the host is told twice, as nothing says whether it has heard."""
        if self._state == OPEN:
            self._unasked += [(CANCEL, tag, (0,))] * 2

    def _drop(self, request: _Request) -> None:
        self._requests.pop(request.tag, None)
        self._unqueue(request)

    def _unqueue(self, request: _Request) -> None:
        if request.tag in self._queue:
            self._queue.remove(request.tag)
