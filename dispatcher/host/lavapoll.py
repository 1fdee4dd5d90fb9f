# SPDX-License-Identifier: MIT
"""What LAVA's coordinator protocol asks, carried out by the engine of a group. No I/O and no clock.

A request of LAVA's is answered at once, "wait" if there is nothing to say yet, and asked again after some
seconds. So each wait is a wait of the group as any other from its first poll on, and a poll only looks how it is. What
differs from the commands of the box is LAVA's own way: a message of a device's own is enough for its lava_wait, a
lava_wait_all also needs the device that waits, and is refused as long as nobody has sent the message,
and the first poll of a lava_sync gets "wait" even if it is the last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

from dispatcher.engine import Engine
from dispatcher.group.events import Event, Sent, Waiting, WaitKind
from dispatcher.host.lavawire import LavaRequest, encode_response
from toolkit.wire.vocabulary import OK, unpack_reply

# What the identities of such requests begin with; four random bytes follow. They tell a restarted coordinator
# which waits of its log are asked again, by polls.
MARK = b"LAVA"
# How often LAVA's coordinator says "wait" when all bundles are there. Nothing has sent any since 2017.
_BUNDLE_WAITS = 2

NACK = encode_response("nack")
_WAIT = encode_response("wait")
_ACK = encode_response("ack")

# Requests that wait, and the operations of the engine that they are.
_WAITS = {"lava_wait": WaitKind.WAIT, "lava_wait_all": WaitKind.WAIT_ALL, "lava_sync": WaitKind.SYNC}
_OPERATIONS = {WaitKind.WAIT: "wait", WaitKind.WAIT_ALL: "wait-all", WaitKind.SYNC: "sync"}
# What is waited for: polls for the same, and an event of the log, have the same.
_What = tuple[WaitKind, bytes, str | None]


@dataclass(slots=True, eq=False)
class _Asked:
    """A wait that was asked, as the engine holds it: called with its reply."""

    what: _What
    identity: bytes
    polled: bool = False
    reply: bytes | None = None

    def __call__(self, reply: bytes | None) -> None:
        self.reply = reply or self.reply

    @property
    def failed(self) -> bool:
        return self.reply is not None and unpack_reply(self.reply)[0] != OK


class LavaClients:
    """The clients of one group.

    :param random: returns so many random bytes.
    """

    def __init__(self, engine: Engine, random: Callable[[int], bytes]) -> None:
        self.engine = engine
        self._random = random
        self._asked: dict[str, _Asked] = {}  # the wait that each client polls for
        self._last: dict[str, _Asked] = {}  # of the run before: what each client asked last
        self._bundles: dict[str, Any] = {}
        self._bundle_waits = _BUNDLE_WAITS

    def replay(self, event: Sent | Waiting) -> None:
        """Take an event that was in the log when it was opened, and that `replays`."""
        self._last.pop(event.device, None)
        if isinstance(event, Waiting):
            role = event.whom if isinstance(event.whom, str) else None
            what = (event.kind, event.message_id, role)
            self._last[event.device] = _Asked(what, event.identity[: len(MARK) + 4])

    def ask(self, request: LavaRequest, answer: Callable[[bytes], object], now: float) -> bool:
        """Begin to carry out a request of a client that is in the group.

        Returns whether `look` has to be called, once this turn's events are in the log; otherwise `answer` is called.

        :param answer: takes the response.
        """
        client = request.client
        kind = _WAITS.get(request.kind)
        what = None if kind is None else (kind, _id(request), request.waitrole)
        asked = self._asked.get(client)
        if not request.message_id and (what is not None or request.kind == "lava_send"):
            answer(NACK)
            return False
        if asked is not None and asked.what != what and request.kind != "group_data":
            # The dispatcher of a job does one thing at a time: it has given that wait up.
            self.forget(client, now)
        if request.kind == "lava_send":
            self._last.pop(client, None)
            self._send(request, answer, now)
            return False
        if request.kind == "aggregate":
            answer(self._aggregate(request))
            return False
        if what is not None and client not in self._asked and self._may_wait(request):
            self._wait(client, what, now)
        return True

    def look(self, request: LavaRequest) -> bytes:
        """The response to a request that was asked in this turn."""
        match request.kind:
            case "group_data":
                return self._group_data(request)
            case "lava_wait":
                done = bool(self._senders(request))
            case "lava_wait_all":
                if not self._senders(request) and request.waitrole is None:
                    return NACK
                done = self._all_have_sent(request)
            case "lava_sync":
                return self._sync(request.client)
            case _:
                return _ACK
        asked = self._asked.get(request.client)
        if done:
            self._asked.pop(request.client, None)
            return encode_response("ack", message=self._messages(request))
        if asked is not None and asked.failed:
            del self._asked[request.client]
            return NACK
        return _WAIT

    def forget(self, client: str, now: float) -> None:
        """The client waits no more, for instance as it has ended its job."""
        asked = self._asked.pop(client, None)
        if asked is not None:
            self.engine.cancel(asked, "its job no longer asks for it", now)

    # Inside

    def _may_wait(self, request: LavaRequest) -> bool:
        """Whether the request is not to be answered at once."""
        if request.kind == "lava_sync":
            return True
        if request.kind == "lava_wait":
            return not self._senders(request)
        return not self._all_have_sent(request) and (
            request.waitrole is not None or bool(self._senders(request))
        )

    def _wait(self, client: str, what: _What, now: float) -> None:
        last = self._last.pop(client, None)
        if last is not None and last.what == what:
            asked = last
            asked.polled = True
        else:
            asked = _Asked(what, MARK + self._random(4))
        kind, message_id, role = what
        arguments: list[Any] = [message_id, role, None] if kind is WaitKind.WAIT_ALL else [message_id, None]
        self._asked[client] = asked
        self.engine.request(client, asked, asked.identity, _OPERATIONS[kind], arguments, 0, now)

    def _sync(self, client: str) -> bytes:
        asked = self._asked[client]
        if asked.failed:
            del self._asked[client]
            return NACK
        if asked.reply is None or not asked.polled:
            asked.polled = True
            return _WAIT
        del self._asked[client]
        return encode_response("ack", message=_plain(asked.what[1]).decode())

    def _send(self, request: LavaRequest, answer: Callable[[bytes], object], now: float) -> None:
        def done(reply: bytes | None) -> None:
            if reply is not None:
                answer(_ACK if unpack_reply(reply)[0] == OK else NACK)

        data: list[bytes] = []
        for key, value in request.message.items():
            data += (_quoted(key), value.encode("utf-8", "replace"))
        arguments = [_id(request), data]
        self.engine.request(request.client, done, MARK + self._random(4), "send", arguments, 0, now)

    def _group_data(self, request: LavaRequest) -> bytes:
        members = self.engine.state.coordinator.members
        founded = self.engine.state.founded
        size = (founded.size if founded is not None else None) or request.size or 0
        if len(members) < size:
            return _WAIT
        return encode_response("group_data", roles=dict(members))

    def _senders(self, request: LavaRequest) -> dict[str, int]:
        return self.engine.state.coordinator.senders(_id(request))

    def _all_have_sent(self, request: LavaRequest) -> bool:
        coordinator = self.engine.state.coordinator
        wanted = {name for name, role in coordinator.members if request.waitrole in (None, role)}
        return coordinator.complete and bool(wanted) and wanted <= self._senders(request).keys()

    def _messages(self, request: LavaRequest) -> dict[str, dict[str, str]]:
        """What all have sent, the client itself as well."""
        messages: dict[str, dict[str, str]] = {sender: {} for sender in self._senders(request)}
        pairs = self.engine.state.coordinator.data_for("", _id(request))
        for sender, key, value in pairs:
            messages[sender][_plain(key).decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        return messages

    def _aggregate(self, request: LavaRequest) -> bytes:
        if request.bundle is None or not request.sub_id:
            return NACK
        self._bundles[request.client] = request.bundle
        if not request.sub_id.endswith(".0"):
            return _ACK
        founded = self.engine.state.founded
        if founded is None or len(self._bundles) < (founded.size or 0):
            self._bundle_waits = _BUNDLE_WAITS
            return _WAIT
        if self._bundle_waits:
            self._bundle_waits -= 1
            return _WAIT
        self._bundle_waits = _BUNDLE_WAITS
        return encode_response("ack", message={"bundle": self._bundles})


def replays(event: Event) -> TypeGuard[Sent | Waiting]:
    """Whether a restarted coordinator has to know of this event."""
    return isinstance(event, Sent | Waiting) and event.identity.startswith(MARK)


def _id(request: LavaRequest) -> bytes:
    return _quoted(request.message_id)


def _quoted(text: str) -> bytes:
    """The text, with %XX for what no id and no key of the box has in it: white space, control characters, "="."""
    return _NOT_IN_IDS.sub(lambda match: b"%%%02X" % match[0][0], text.encode("utf-8", "replace"))


def _plain(data: bytes) -> bytes:
    """The way back."""
    return _QUOTED.sub(lambda match: bytes.fromhex(match[1].decode()), data)


_NOT_IN_IDS = re.compile(rb"[\0-\x20\x7f=%]")
_QUOTED = re.compile(rb"%([0-9A-F]{2})")
