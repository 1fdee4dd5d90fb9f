# SPDX-License-Identifier: MIT
"""The group of a LAVA job where only LAVA's own coordinator is there, as the attachment of its device sees it.

    Attachment --Asked--> LavaGroup --send, wait, wait-all, sync--> Relay --text--> LAVA's dispatcher
                                    <--answers--------------------- Relay <--keys-- LAVA's dispatcher
                                    --everything else--> Group, on this host

Names and roles are those of the job file. Reports are noted in a group on this host.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dispatcher.engine import Answer
from dispatcher.group.events import Sent, Waiting
from dispatcher.group.operations import OPERATIONS, Call, decoded
from dispatcher.host.group import Group
from dispatcher.host.lavajob import LavaJob
from dispatcher.host.lavarelay import Relay
from dispatcher.host.timer import Timer
from dispatcher.line.channel import Asked, refusal
from dispatcher.line.session import Request
from dispatcher.line.textsignals import Found, Signal
from toolkit.wire.vocabulary import NO, ProtocolError, pack_reply

if TYPE_CHECKING:
    from dispatcher.host.attachment import Attachment

_RELAYED = ("send", "wait", "wait-all", "sync")
# What LAVA's coordinator has no request for, and the commands that ask it.
_NOT_LAVA = {
    "wait-any": "lava-wait --any",
    "wait-next": "lava-wait --next",
    "wait-devices": "lava-wait-all --device",
    "sync-some": "lava-sync --role or --count",
    "lock": "lava-lock",
    "unlock": "lava-unlock",
    "state": "lava-group --state",
}
# Seconds before keys are typed again that the console had no room for.
_ROOM_PAUSE = 0.05


class LavaGroup:
    """The membership of one device. Give it to one `Attachment`, and what is typed to the device to `receive_keys`.

    :param group: on this host, open, and with no devices yet.
    :param device: its name on this host.
    :param print_line: takes a line that LAVA is to read.
    """

    def __init__(self, job: LavaJob, group: Group, device: str, print_line: Callable[[str], object]) -> None:
        self._job = job
        self._group = group
        # What LAVA has no part in.
        self.detach = group.detach
        self.lose = group.lose
        self.regain = group.regain
        self.reboot = group.reboot
        self.hear = group.hear
        self.wake = group.wake
        self._device = device
        self._print_line = print_line
        self._relay = Relay(job.job_id, {*job.roles.values(), job.role})
        self._attachment: Attachment | None = None
        self._loop = asyncio.get_running_loop()
        self._timer = Timer(self._handle_timeout)

    def receive_keys(self, data: bytes) -> bytes:
        """Take what is typed to the device; returns what is to reach it."""
        keys = self._relay.receive_keys(data, self._loop.time())
        self._print()
        return keys

    def close(self) -> None:
        """Hand nothing on any more."""
        self._timer.cancel()
        self._attachment = None

    # What the attachment calls

    @property
    def number(self) -> int:
        """32 bits that name the group."""
        return self._group.number

    def attach(self, attachment: Attachment, role: str) -> None:
        """The device's console is here."""
        now = self._loop.time()
        for name, other in self._job.roles.items():
            if name not in (self._job.job_id, self._device):
                self._group.engine.join(name, other, now)
        self._group.attach(attachment, role)
        self._attachment = attachment

    def request(self, device: str, asked: Asked, now: float) -> None:
        """Carry out what the device asks for, or hand it on; `Attachment.answer` follows."""
        if asked.operation in _NOT_LAVA:
            sentence = (
                f"LAVA's own coordinator has nothing like {_NOT_LAVA[asked.operation]}; "
                "with `lavabox coordinator` on the worker it works"
            )
            self._answer(asked.request, pack_reply(NO, sentence))
            return
        if asked.operation in ("run-start", "run-end"):
            self._relay.runs.note(asked.operation, list(map(decoded, asked.arguments)))
        if asked.operation not in _RELAYED:
            self._group.request(device, asked, now)
            return
        engine = self._group.engine
        call = Call(
            *(device, asked.identity, asked.operation, asked.arguments),
            *(time.time(), asked.position, engine.configuration),
        )
        try:
            event = OPERATIONS[asked.operation](engine.state, call)
        except ProtocolError as error:
            self._answer(asked.request, refusal(error))
            return
        assert isinstance(event, Sent | Waiting)
        self._relay.ask(asked.request, event, now)
        self._print()

    def cancel(self, request: Request, reason: str, now: float) -> None:
        """Nobody waits for this answer any more."""
        self._relay.cancel(request)
        self._group.cancel(request, reason, now)

    def report(self, device: str, found: Found, now: float) -> None:
        """Note what the device reports by text."""
        if isinstance(found, Signal):
            self._relay.runs.note(found.kind, found.fields)
        self._group.report(device, found, now)

    # Inside

    def _print(self) -> None:
        """Let LAVA read what it is to read, and tell those whose requests are answered."""
        for line in self._relay.lines():
            self._print_line(line)
        for handle, reply in self._relay.answers():
            self._answer(handle, reply)
        self._timer.set(self._relay.next_timeout())

    def _answer(self, handle: object, reply: bytes) -> None:
        self._loop.call_soon(self._tell, Answer(self._device, handle, reply))

    def _tell(self, answer: Answer) -> None:
        if self._attachment is not None:
            now = self._loop.time()
            self._attachment.answer(answer, now)
            self._attachment.flush(now)

    def _handle_timeout(self) -> None:
        keys = self._relay.handle_timeout(self._loop.time())
        self._print()
        self._type(keys)

    def _type(self, keys: bytes) -> None:
        if keys and self._attachment is not None and not self._attachment.type(keys):
            self._loop.call_later(_ROOM_PAUSE, self._type, keys)
