# SPDX-License-Identifier: MIT
"""Multi-device requests of a device's box, handed on to LAVA's own dispatcher as its text, one at a time.

    Sent(ready, ip=10.0.0.1)     <LAVA_MULTI_NODE> <LAVA_SEND ready ip=10.0.0.1>     no answer
    Waiting(WAIT, ready)         <LAVA_MULTI_NODE> <LAVA_WAIT ready>                 <LAVA_WAIT_COMPLETE 12:ip=10.0.0.1>
    Waiting(WAIT_ALL, x, role)   <LAVA_MULTI_NODE> <LAVA_WAIT_ALL x role>            <LAVA_WAIT_ALL_COMPLETE ...>
    Waiting(SYNC, end)           <LAVA_MULTI_NODE> <LAVA_SYNC end>                   <LAVA_SYNC_COMPLETE>

LAVA reads a request from what the console says, and types the answer, with three line breaks behind it. It takes
requests only inside of a run, and no other one until it has typed the answer. So requests wait for their turn here,
and what is typed is held back as long as it may be the answer. If something else is typed, LAVA has given the wait
up: it never types anything else while it waits.

LAVA's text carries words of a few thousand characters. An id, a key or a value that it can't carry is written as
`__`, and each of its bytes that is no letter or digit of ASCII as `_` and two hexadecimal digits: `a b` is `__a_20b`.
So is one that begins with `__`. A relay at the other end reads that again.

No I/O and no clock.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from dispatcher.group.events import Sent, Waiting, WaitKind
from dispatcher.group.wording import command, duration, shown
from dispatcher.line.lavasignals import NOT_CARRIED, Runs
from toolkit.wire.vocabulary import MAX_REPLY, NO, OK, pack_reply

# Characters of a request: LAVA looks back no further than 4000 on some connections.
MAX_REQUEST = 3500
# Requests that wait for their turn, and answered ones that are kept in case they are asked again.
MAX_QUEUED, MAX_ANSWERED = 64, 1024
# Seconds that the rest of an answer may take; LAVA may pause for some tenths of a second at each character.
ANSWER_PAUSE = 5.0
# Bytes of an answer: longer ones are none.
_MAX_ANSWER = 2 * MAX_REPLY

_WORDS = {WaitKind.WAIT: "WAIT", WaitKind.WAIT_ALL: "WAIT_ALL", WaitKind.SYNC: "SYNC"}
# What LAVA takes as one word on every way that it goes, in all of its versions. A pair has one "=".
_WORD = re.compile(rf"(?!__)[^={NOT_CARRIED}]+")
# LAVA finds the beginning of a pair by this.
_KEY = re.compile(r"(?!__)[A-Za-z0-9_]+")
_QUOTED = re.compile(rb"__(?:(?:[A-Za-z0-9]*_[0-9A-F]{2})+[A-Za-z0-9]*)?")
_LINE_BREAKS = 3


@dataclass(slots=True, eq=False)
class _Request:
    """One that waits for its turn, or for LAVA's answer.

    :param until: when it times out.
    :param handles: whom to tell; nobody, once it has timed out or was cancelled.
    """

    asked: Sent | Waiting
    line: str
    until: float | None
    handles: list[object] = field(default_factory=list)


class Relay:
    """The requests of one device.

    Call `ask`; then, and after each other call, print what `lines` returns, each as a line of its own, and give
    `answers` to those who asked. Everything that is typed to the device has to go through `receive_keys`.

    :param device: its name in LAVA's group: the id of its job.
    :param roles: that devices of the group have.
    """

    def __init__(self, device: str, roles: Collection[str]) -> None:
        self.runs = Runs()
        self._device = device
        self._roles = roles
        self._queue: deque[_Request] = deque()
        self._current: _Request | None = None  # what LAVA works at
        self._known: OrderedDict[bytes, _Request | bytes] = OrderedDict()  # by identity; packed replies
        self._held = bytearray()  # what was typed and may be the answer
        self._held_until = 0.0
        self._line_breaks = 0  # that are still to come behind an answer
        self._lines: list[str] = []
        self._answers: list[tuple[object, bytes]] = []

    def ask(self, handle: object, asked: Sent | Waiting, now: float) -> None:
        """Carry out a request, once however often it is asked.

        :param handle: what `answers` is to give back with the reply.
        """
        known = self._known.get(asked.identity)
        if isinstance(known, bytes):
            self._answers.append((handle, known))
            return
        if known is not None:
            known.handles.append(handle)
            return
        line = _request(asked)
        until = now + asked.timeout if isinstance(asked, Waiting) and asked.timeout is not None else None
        request = _Request(asked, line, until, [handle])
        if refusal := self._refusal(request):
            self._answers.append((handle, pack_reply(NO, refusal)))
            return
        self._known[asked.identity] = request
        if self._current is not None and not self._current.handles and self._current.line == line:
            # LAVA still works at what this device has given up, and now asks for again.
            self._current = request
            return
        self._queue.append(request)
        self._next()

    def cancel(self, handle: object) -> None:
        """Nobody waits for this answer any more."""
        for request in self._open():
            if handle in request.handles:
                request.handles.remove(handle)
                if not request.handles:
                    self._give_up(request)

    def receive_keys(self, data: bytes, now: float) -> bytes:
        """Take what is typed to the device; returns what is to reach it."""
        rest = data
        if self._line_breaks:
            rest = self._skip_line_breaks(rest)
        if self._current is None:
            return rest
        self._held += rest
        self._held_until = now + ANSWER_PAUSE
        return self._read_answer()

    def lines(self) -> list[str]:
        """What LAVA is to read."""
        lines, self._lines = self._lines, []
        return lines

    def answers(self) -> list[tuple[object, bytes]]:
        """Handles of requests, and their packed replies."""
        answers, self._answers = self._answers, []
        return answers

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        times = [request.until for request in self._open() if request.until is not None and request.handles]
        if self._held:
            times.append(self._held_until)
        return min(times, default=None)

    def handle_timeout(self, now: float) -> bytes:
        """Let waits time out; returns what is to reach the device of the keys that were held back."""
        for request in self._open():
            if request.until is not None and now >= request.until and request.handles:
                after = duration(request.asked.timeout or 0.0) if isinstance(request.asked, Waiting) else ""
                self._answer(request, pack_reply(NO, f"timed out after {after}, and LAVA has not answered"))
                self._give_up(request)
        if self._held and now >= self._held_until:
            return self._no_answer()
        return b""

    # Inside

    def _open(self) -> list[_Request]:
        return [*self._queue, *([self._current] if self._current else [])]

    def _refusal(self, request: _Request) -> str:
        """Why LAVA can't be asked this; "" if it can."""
        asked = request.asked
        if not self.runs.open:
            return "LAVA takes multi-device requests only in a test run, between its STARTRUN and ENDRUN"
        if len(request.line) > MAX_REQUEST:
            return (
                f"LAVA's text carries {MAX_REQUEST} characters, and this takes {len(request.line)}; "
                "with `lavabox coordinator` messages may be longer"
            )
        if isinstance(asked, Waiting) and isinstance(asked.whom, str):
            if asked.whom not in self._roles:
                # LAVA's coordinator would end by it, for all groups.
                roles = ", ".join(sorted(map(shown, self._roles)))
                return f"no device has the role '{shown(asked.whom)}'; the roles are {roles}"
            if re.search(r"[\s<>]", asked.whom):
                return f"LAVA's text carries no role with such characters: '{shown(asked.whom)}'"
        if len(self._queue) >= MAX_QUEUED:
            return f"{MAX_QUEUED} requests of this device wait for LAVA's answer to an earlier one"
        return ""

    def _next(self) -> None:
        """Hand on what can be."""
        while self._current is None and self._queue:
            request = self._queue.popleft()
            self._lines.append(request.line)
            if isinstance(request.asked, Sent):
                self._answer(request, pack_reply(OK))
            else:
                self._current = request

    def _answer(self, request: _Request, reply: bytes) -> None:
        self._known[request.asked.identity] = reply
        while len(self._known) > MAX_ANSWERED + MAX_QUEUED:
            self._known.popitem(last=False)
        self._answers += ((handle, reply) for handle in request.handles)
        request.handles.clear()

    def _give_up(self, request: _Request) -> None:
        """Nobody wants its answer. If LAVA works at it already, that comes all the same."""
        if isinstance(self._known.get(request.asked.identity), _Request):
            del self._known[request.asked.identity]
        if request is not self._current:
            self._queue.remove(request)

    def _read_answer(self) -> bytes:
        """Look at the keys that were held back; returns those that are for the device."""
        assert self._current is not None
        asked = self._current.asked
        assert isinstance(asked, Waiting)
        answer = b"<LAVA_%b_COMPLETE" % _WORDS[asked.kind].encode()
        if not answer.startswith(self._held[: len(answer)]) or len(self._held) > _MAX_ANSWER:
            return self._no_answer()
        text, end, _ = self._held[len(answer) :].partition(b"\n")
        if not end:
            return b""
        if not text.rstrip(b"\r").endswith(b">"):
            return self._no_answer()
        rest = bytes(self._held[len(answer) + len(text) + 1 :])
        self._held.clear()
        request, self._current = self._current, None
        self._answer(request, self._reply(bytes(text.rstrip(b"\r")[:-1]), asked))
        self._line_breaks = _LINE_BREAKS - 1
        self._next()
        return self._skip_line_breaks(rest)

    def _no_answer(self) -> bytes:
        """What was typed is no answer: LAVA has gone on to something else."""
        keys = bytes(self._held)
        self._held.clear()
        request, self._current = self._current, None
        if request is not None:
            assert isinstance(request.asked, Waiting)
            self._answer(request, pack_reply(NO, f"LAVA has given up {command(request.asked)}"))
        self._next()
        return keys

    def _skip_line_breaks(self, data: bytes) -> bytes:
        while data and self._line_breaks and data[0] in b"\r\n":
            self._line_breaks -= data[0] in b"\n"
            data = data[1:]
        if data:
            self._line_breaks = 0
        return data

    def _reply(self, text: bytes, asked: Waiting) -> bytes:
        if text.split() == [b"nack"]:
            return pack_reply(NO, f"LAVA's coordinator has refused {command(asked)}")
        values: dict[str, list[bytes | str]] = {}
        for pair in re.split(rb" (?=[^\s:=]+:[^\s=]+=)", text):
            sender, _, rest = pair.strip(b" ").partition(b":")
            key, equals, value = rest.partition(b"=")
            name = sender.decode("utf-8", "replace")
            if equals and name != self._device:
                values.setdefault(name, [name]).extend((plain(key), plain(value)))
        return pack_reply(OK, *values.values())


def _request(asked: Sent | Waiting) -> str:
    words: Sequence[str]
    if isinstance(asked, Sent):
        words = ["SEND", quoted(asked.message_id)]
        words += [f"{quoted(key, _KEY)}={quoted(value)}" for key, value in asked.data]
    else:
        words = [_WORDS[asked.kind], quoted(asked.message_id)]
        if isinstance(asked.whom, str):
            words.append(asked.whom)
    return f"<LAVA_MULTI_NODE> <LAVA_{' '.join(words)}>"


def quoted(data: bytes, allowed: re.Pattern[str] = _WORD) -> str:
    """An id or a value, or with `_KEY` a key, as a word that LAVA carries."""
    text = data.decode("utf-8", "surrogateescape")
    if allowed.fullmatch(text):
        return text
    return "__" + "".join(
        chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else f"_{byte:02X}" for byte in data
    )


def plain(word: bytes) -> bytes:
    """The way back."""
    if not _QUOTED.fullmatch(word):
        return word
    return re.sub(rb"_([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), word[2:])
