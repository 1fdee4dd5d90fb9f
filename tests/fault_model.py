# SPDX-License-Identifier: MIT
"""A seeded model of devices, lines, hosts and a group log, with everything that goes wrong.

It runs the real cores (DeviceLink, Channel, Engine, GroupState) in virtual time,
over lines that cut, drop, flip, double and delay bytes, and a log that takes its
time, fails, and delivers twice; with commands and agents that are killed, devices
that reboot, logs that are replayed and dispatchers that are restarted. It asserts
at every step:

* output intact: what the device printed comes out, in order; and nothing else,
  unless a byte of a frame was damaged on the way,
* once only: no request takes effect twice, and none that was acknowledged not at all,
* nothing is typed outside a lease, and nothing at all to a device at rest,
* a lock is never had by two devices at once, by what their own commands believe,
* progress: once the faults stop, every command ends within a bounded time,
* at the end all hosts know the same of their group, and it is what the log holds,
* and what the plain rules (group_rules.py) make of it: which wait ended well, who got which message or lock,
* messages of `lava-wait --next` were printed by the commands that took them in order, without a gap, each once,
* each text signal in the output is in the results, once.

The same seed gives the same run. Nothing is looked at before it is due: each device and each host
knows when its next byte arrives or its next deadline is over, and whoever does something to it says so (`stir`).
"""

from __future__ import annotations

import heapq
import math
import random
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial

from group_rules import Rules

from dispatcher.engine import Engine
from dispatcher.group.events import Event, Founded, Sent
from dispatcher.group.state import GroupState
from dispatcher.line.channel import Asked, Channel, Item, Output
from dispatcher.line.session import Cancelled, Cleared, Rebooted, Request, Suspected
from dispatcher.line.textsignals import MARKER, Malformed, Signal
from toolkit.wire.device_link import DeviceLink
from toolkit.wire.framing import LINE_KILL
from toolkit.wire.framing import MARKER as FRAME_MARKER
from toolkit.wire.packets import LEASE, LINK_TIMEOUT
from toolkit.wire.vocabulary import (
    INTERRUPTED,
    LINK_FAILED,
    NO,
    NO_DISPATCHER,
    OK,
    pack_request,
    unpack_reply,
)

# Seconds that an agent stays after its last command.
AGENT_STAYS = 2.0
# Why a device is lost that prints what a boot loader or a crash does.
BOOTS = "its console shows that it crashed or boots anew"
# Lines that show it.
BOOT_SIGNS = (b"U-Boot 2026.01", b"[    0.000000] Linux version 6.12.1", b"Kernel panic - not syncing: Oops")
# What lends to a command what it gets, until that has taken it.
LENDING = ("wait-next", "lock")
OPERATIONS = (
    *("self", "group", "send", "send", "send", "wait", "wait-any", "wait-next", "wait-next"),
    *("wait-all", "wait-devices", "sync", "sync-some", "sync-some", "lock", "lock", "event"),
)
IDS = [b"m%d" % number for number in range(12)]
LOCKS = (b"l0", b"l1", b"l2")
# A whole signal, and kernel messages that have cut one.
# Also of a name that the line has damaged, or with a key in small letters, as LAVA reads it.
SIGNAL = re.compile(rb"<LAVA_SIGNAL_TESTCASE +(?i:TEST_CASE_ID)=([^\s<>]+) +(?i:RESULT)=pass>")
KERNEL_LINES = re.compile(rb"\[ *\d+\.\d{6}\] [^\n]*\n")
WORDS = b"noise usb eth0: link up, 1000Mbps ADDRCONF(NETDEV_UP) 0x7f Call Trace: #L1. \x1b[1m ok".split(b" ")


def _or_never(deadline: float | None) -> float:
    return math.inf if deadline is None else deadline


@dataclass(frozen=True)
class Faults:
    """Rates: for bytes a probability each, for the rest events a second and device."""

    printk: float = 0.0  # kernel lines a second
    stamps: bool = True  # with time stamps
    drop: float = 0.0
    flip: float = 0.0
    double: float = 0.0
    delay: float = 0.0  # pauses of up to a second
    echo: bool = False  # the tty echoes what the host types
    cancel: float = 0.0  # commands that are killed
    kill: float = 0.0  # agents that are killed
    reboot: float = 0.0
    replay: float = 0.0  # an old part of the raw log is printed again
    background: float = 0.0  # changes between foreground and background
    restart: float = 0.0  # of a host's dispatcher, the group's log being kept
    baud: int = 115200
    outage: float = 0.0  # the line is silent for up to 3 s
    leave: float = 0.0  # devices leave, and come back
    members: bool = False  # the devices are declared, and some come late
    log_delay: float = 0.0  # seconds, at most, to the log and again from it
    log_failure: float = 0.0  # probability that an event is not appended
    log_double: float = 0.0  # probability that it is delivered twice

    @property
    def damage(self) -> float:
        """Of how many bytes something becomes that they were not."""
        return self.drop + self.flip + self.double

    @property
    def damaging(self) -> bool:
        return bool(self.damage or self.outage)

    def calm(self) -> Faults:
        """The same line without faults."""
        return Faults(baud=self.baud, echo=self.echo)


# What mixtures are made of. Each fault is often absent, as a rare one hides behind many.
_OFTEN = (0.0, 0.0, 0.05, 0.5)
_BYTES = (0.0, 0.0, 1e-4, 1e-3)
MIXTURES: dict[str, tuple[float, ...]] = {
    "printk": (0.0, 5.0, 20.0, 50.0),
    "stamps": (True, True, False),
    "drop": _BYTES,
    "flip": _BYTES,
    "double": _BYTES,
    "delay": (0.0, 0.02),
    "echo": (False, False, True),
    "cancel": _OFTEN,
    "kill": _OFTEN,
    "reboot": _OFTEN,
    "replay": _OFTEN,
    "background": _OFTEN,
    "restart": _OFTEN,
    "baud": (9600, 115200, 3_000_000),
    "outage": (0.0, 0.05),
    "leave": (0.0, 0.0, 0.05),
    "members": (False, True),
    "log_delay": (0.0, 0.0, 0.01, 0.3, 2.0),
    "log_failure": (0.0, 0.0, 0.02, 0.1),
    "log_double": (0.0, 0.0, 0.1),
}


def _told(message: Sent) -> list[object]:
    """A message as a lava-wait --next gets it."""
    return [message.device, *(item for pair in message.data for item in pair)]


@dataclass(eq=False)
class Command:
    device: Device
    identity: bytes
    operation: str
    arguments: tuple[object, ...]
    message: bytes
    started: float
    boot: int
    lent: Command | None = None  # the one whose gain this one takes
    link: DeviceLink | None = None
    tag: int = 0
    status: int | None = None
    values: list[object] = field(default_factory=list)

    @property
    def name(self) -> bytes:
        """The id or lock that it is about."""
        name = self.arguments[0]
        assert isinstance(name, bytes)
        return name

    @property
    def of_command(self) -> bool:
        """Whether it is a lava-lock with COMMAND, whose keeper gives the lock back."""
        return self.operation == "lock" and self.arguments[1] is True

    @property
    def key(self) -> bytes:
        """The identity in the log."""
        return self.identity + self.device.name.encode()


class Locks:
    """Which commands believe that their device has a lock, from `taken` until they begin to give it back."""

    def __init__(self) -> None:
        self._claims: dict[bytes, Command] = {}

    def claim(self, lock: Command) -> None:
        """Raises AssertionError if another device believes that it has this lock."""
        if lock.started <= lock.device.unlocked.get(lock.name, -1.0):
            return  # a lava-unlock of its device was on the way, which may have given this back
        for other in self._claims.values():
            assert other.name != lock.name or other.device is lock.device, (
                f"{lock.device.name} and {other.device.name} have a lock"
            )
        self._claims[lock.identity] = lock

    def unclaim(self, lock: Command) -> None:
        self._claims.pop(lock.identity, None)

    def drop(self, device: Device, name: bytes | None = None, *, of_commands: bool = False) -> None:
        """A device has its locks no more: all, the one of this name, or those of a COMMAND."""
        for claim in list(self._claims.values()):
            if (
                claim.device is device
                and name in (None, claim.name)
                and (claim.arguments[1] or not of_commands)
            ):
                self.unclaim(claim)


class Line:
    """One direction: bytes in, with their kind, and out again later, perhaps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: deque[tuple[float, bytes]] = deque()
        self.free = 0.0
        self.intact = self._distance()  # so many bytes are yet to come before the next damaged one

    def push(self, data: bytes) -> None:
        world = self.world
        self.free = max(world.now, self.free)
        if world.faults.delay and world.random.random() < world.faults.delay:
            self.free += world.random.random()
        # In pieces, as serial adapters deliver: at least every 20 ms.
        most = max(1, world.faults.baud // 500)
        while data:
            size = min(most, world.random.choice((1, 7, 16, 64, 256)))
            self.free += len(data[:size]) * 10 / world.faults.baud
            self.queue.append((self.free, data[:size]))
            data = data[size:]

    def next(self) -> float:
        """When the next bytes come out."""
        return self.queue[0][0] if self.queue else math.inf

    def pull(self) -> Iterator[bytes]:
        """What has come out by now, piece by piece."""
        while self.next() <= self.world.now:
            yield self.queue.popleft()[1]

    def damaged(self, data: bytes) -> bytes:
        if not self.world.faults.damage:
            return data
        out = b""
        position = 0
        while self.intact < len(data) - position:
            place = position + self.intact
            out += data[position:place] + self._damage(data[place])
            position = place + 1
            self.intact = self._distance()
        self.intact -= len(data) - position
        return out + data[position:]

    def _distance(self) -> int:
        """How many bytes stay what they are before one is damaged: as if each had its chance."""
        rate = self.world.faults.damage
        return int(math.log(1 - self.world.random.random()) / math.log(1 - rate)) if rate else 0

    def _damage(self, byte: int) -> bytes:
        faults, rng = self.world.faults, self.world.random
        kind = rng.random() * faults.damage
        if kind < faults.drop:
            return b""
        if kind < faults.drop + faults.flip:
            return bytes([byte ^ (1 << rng.randrange(8))])
        return bytes([byte, byte])


class Device:
    """A device: a tty, at most one agent, commands, and programs that print."""

    def __init__(self, world: World, name: str, role: str) -> None:
        self.world = world
        self.name = name
        self.role = role
        self.boot = world.random.getrandbits(32)
        self.link: DeviceLink | None = None
        self.idle_since: float | None = None
        self.channel = world.new_channel()
        self.host: Host | None = None
        self.due = 0.0  # when `turn` wants to be called
        self.up = Line(world)
        self.down = Line(world)
        self.input = b""
        self.commands: dict[int, Command] = {}
        self.printed = bytearray()  # what has to come out
        self.frame_bytes = 0  # of frames that were pushed, as a bound of what may come out besides
        self.raw = bytearray()  # all that went up the line
        self.output = bytearray()
        self.checked = [0, 0]  # how far `printed` was found in `output`
        self.strays: list[bytes] = []  # lines that no agent read
        self.silent_until = 0.0
        self.heard = -1e9  # when the host last got a fresh byte of it
        self.clean = True  # nothing was damaged, killed or cut so far
        self.replayed = False  # an old log was printed, perhaps with a boot in it
        self.torn = False  # a frame or an echo is broken off, and the marker of a frame has not ended it
        self.here = False  # it has joined, and not left
        self.unlocked: dict[bytes, float] = {}  # when the newest lava-unlock of a lock ended; inf: it has not
        self.scanned = 0  # how far `output` was looked through for signals
        self.found: Counter[str] = Counter()  # what this channel made of them
        self.malformed = 0  # the same
        self.reported: Counter[str] = Counter()  # what all channels did
        self.may_lose: Counter[str] = (
            Counter()
        )  # reported to a dispatcher that ended before they were in the log

    def stir(self) -> None:
        """Something was done to it, or to its channel."""
        self.due = self.world.now

    def turn(self) -> None:
        """Bytes arrive at either end of the line, deadlines are over at either end, frames are written."""
        now = self.world.now
        for data in self.up.pull():
            self.heard = now
            self._hear(self.channel.receive_data(data, now))
        deadline = self.channel.next_timeout()
        if deadline is not None and deadline <= now:
            self._hear(self.channel.handle_timeout(now))
        self._take(self.channel.data_to_type(now))
        for data in self.down.pull():
            self._receive(data)
        if self.link is not None:
            deadline = self.link.next_timeout()
            if deadline is not None and deadline <= now:
                self.link.handle_timeout(now)
            self._settle()
        self._write_frames()
        self.due = self._next_due()

    def _next_due(self) -> float:
        due = min(self.up.next(), self.down.next())
        deadline = self.channel.next_timeout()
        if deadline is not None and deadline < due:
            due = deadline
        if self.link is None:
            return due
        deadline = self.link.next_timeout()
        if deadline is not None and deadline < due:
            due = deadline
        if self.link.wants_to_send:
            due = min(due, max(self.world.now, self.up.free - 0.25))
        if self.idle_since is not None:
            due = min(due, self.idle_since + AGENT_STAYS)
        return due

    # -- what the device does

    def say(self, text: bytes) -> None:
        if self.up.free - self.world.now > 1.0:
            return  # who prints waits for the line, the kernel too
        data = self.up.damaged(text)
        if self.torn:
            # What it begins with might be taken for a part of that (docs/protocol.md).
            data = b" " + data
        if self.world.now >= self.silent_until:
            self.printed += data
        self._emit(data)

    def _write_frames(self) -> None:
        if self.link is None:
            return
        while self.up.free - self.world.now < 0.3:
            backlog = max(0, int((self.up.free - self.world.now) * self.world.faults.baud / 10))
            frame = self.link.next_frame(self.world.now, backlog)
            if frame is None:
                return
            self.world.counts["frames"] += 1
            self._write_cut(frame)

    def _write_cut(self, frame: bytes) -> None:
        """A frame, with what the kernel has to say meanwhile."""
        faults, rng = self.world.faults, self.world.random
        damaged = self.up.damaged(frame)
        if damaged != frame:
            self.world.counts["frames damaged"] += 1
            self.clean = False
        chance = faults.printk * max(len(frame) * 10 / faults.baud, 0.02)
        if not faults.stamps and damaged != frame:
            # Where a character is lost at a cut, the message's first one may take its place.
            chance = 0.0
        out = b""
        position = 0
        while rng.random() < chance and position < len(damaged):
            cut = rng.randrange(position, len(damaged))
            whole = self._printk()
            text = self.up.damaged(whole)
            if text != whole:
                self.clean = False  # no longer lines
            if self.world.now >= self.silent_until:
                self.printed += text
            if cut > 0:
                self.world.counts["frames cut"] += 1
                if cut < 9 or cut > len(damaged) - 9:
                    self.clean = False  # marker or terminator: the frame may be lost
            out += damaged[position:cut] + text
            position = cut
            # Two messages without time stamps can be told from the frame, but not always from each
            # other: a character may belong to either.
            chance = chance / 3 if faults.stamps else 0.0
        self.frame_bytes += len(damaged)
        self._emit(out + damaged[position:])

    def _printk(self) -> bytes:
        rng = self.world.random
        lines = b""
        for _ in range(rng.choice((1, 1, 1, 3))):
            text = b" ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 9))).replace(b"\x1b[1m", b"")
            stamp = b"[%12.6f] " % self.world.now if self.world.faults.stamps else b""
            lines += stamp + text.replace(b"#L1.", b"") + b" \r\n"
        return lines

    def _emit(self, data: bytes) -> None:
        if self.world.now < self.silent_until:
            self.clean = False
            return
        self.raw += data
        self.torn = self.torn and FRAME_MARKER not in data
        self.up.push(data)

    def signal(self) -> None:
        """A result by a text signal, which a kernel message may cut."""
        world = self.world
        world.signals += 1
        text = b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=t%d RESULT=pass>\r\n" % world.signals
        if world.faults.stamps and world.random.random() * 50 < world.faults.printk:
            cut = world.random.randrange(1, len(text) - 2)
            text = text[:cut] + self._printk() + text[cut:]
        self.say(text)

    def start(self, operation: str, *arguments: object, lent: Command | None = None) -> Command:
        identity = self.world.random.randbytes(8)
        if operation == "event":
            arguments = (identity.hex(),)
        message = pack_request(identity, operation, *arguments)
        command = Command(self, identity, operation, arguments, message, self.world.now, self.boot, lent)
        self.world.all_commands.append(command)
        self._submit(command)
        return command

    def ask(self) -> None:
        self.start("self")

    def _submit(self, command: Command) -> None:
        self.idle_since = None
        if self.link is None:
            self.link = DeviceLink(self.world.random.getrandbits(32), self.boot, self.world.faults.baud)
        command.link, command.tag = self.link, self.link.submit(command.message, self.world.now)
        self.commands[command.tag] = command

    def _end_agent(self) -> None:
        if self.link is not None:
            self.world.counts["repeats"] += self.link.repeats
        self.link = None

    def cancel(self) -> None:
        """`kill -9` of a command."""
        if self.commands and self.link:
            command = self.commands.pop(self.world.random.choice(list(self.commands)))
            command.status = -9
            self.link.cancel(command.tag, self.world.now)
            if command.lent is not None and command.lent.link is self.link:
                self.link.cancel(command.lent.tag, self.world.now)
            if command.lent is not None and command.lent.of_command:
                self.world.at(self.world.now, partial(self._unlock, command.lent))

    def turn_round(self) -> None:
        """Ctrl-Z, bg, fg: the shell reads, or again only the agent."""
        if self.link is not None:
            self.link.attend(not self.link.attended)

    def kill_agent(self) -> None:
        """`kill -9` of the agent: its commands find or make another."""
        if self.link is None:
            return
        orphans = list(self.commands.values())
        self._end_agent()
        self.commands, self.clean = {}, False
        for command in orphans:
            self._submit(command)

    def reboot(self) -> None:
        """It boots anew; a host that has powered it knows."""
        self._end_commands()
        self.boot = self.world.random.getrandbits(32)
        self.up.free = self.world.now
        if self.world.random.random() < 0.5:
            assert self.host is not None
            self._hear(self.channel.end_links("it was powered"))
            self.host.engine.reboot(self.name, "it was powered", self.world.now)
            self.host.stir()
        self.say(b"\r\n%b\r\n" % self.world.random.choice(BOOT_SIGNS))

    def leave(self) -> None:
        """Its console ends, and the device comes back later. (One stays, or the group would be over.)"""
        if self.here and self is not self.world.devices[0]:
            assert self.host is not None
            self.world.counts["departures"] += 1
            self._end_commands()
            self.world.locks.drop(self)
            self.lose_line()
            self.close_channel()
            self.here = False
            self.host.engine.leave(self.name, "has left", self.world.now)
            self.host.stir()
            self.world.at(self.world.now + 1 + 5 * self.world.random.random(), self.come)

    def come(self) -> None:
        assert self.host is not None
        self.here = True
        self.host.engine.join(self.name, self.role, self.world.now)
        self.host.stir()

    def _end_commands(self) -> None:
        for command in self.commands.values():
            command.status = -1
        self.commands = {}
        self.world.locks.drop(self, of_commands=True)
        self._end_agent()
        self.input = b""
        self.clean = False

    def lose_line(self) -> None:
        """What was on the line is gone: it is no longer due. What the host holds back may come out all the same."""
        self.up.queue.clear()
        self.down.queue.clear()
        self.clean = False
        self.torn = True
        self.frame_bytes += len(self.printed) - self.checked[0]
        self.printed = self.printed[: self.checked[0]]

    def replay(self) -> None:
        if len(self.raw) > 100:
            start = self.world.random.randrange(len(self.raw))
            old = bytes(self.raw[start : start + 3000])
            self.clean = False
            self.replayed = self.torn = True
            self.frame_bytes += len(old)
            self.up.push(old)

    # -- what comes to the host, and what it types

    def _hear(self, items: list[Item]) -> None:
        """What the channel makes of the bytes: output, and what the engine is asked."""
        for item in items:
            if isinstance(item, Output):
                self.output += item.data
        self._check_output()
        assert self.host is not None
        self.host.carry_out(self, items)

    def _take(self, data: bytes) -> None:
        """What the host types."""
        if not data:
            return
        world = self.world
        assert world.now <= self.heard + LEASE, "typed outside a lease"
        world.counts["lines"] += data.count(b"\n")
        damaged = self.down.damaged(data)
        if damaged != data and world.faults.echo:
            self.clean = False
        if world.now >= self.silent_until:
            self.down.push(damaged)

    def close_channel(self) -> None:
        """The host's dispatcher ends: what its channel held back comes out; another one will have its own."""
        self.clean = False
        self._hear(self.channel.close(self.world.now))
        self.check_signals()
        self.channel = self.world.new_channel()

    # -- what comes to the device

    def _receive(self, data: bytes) -> None:
        *lines, self.input = (self.input + data).split(b"\n")
        for line in lines:
            self._line(line.rpartition(LINE_KILL)[2])

    def _line(self, line: bytes) -> None:
        if self.world.faults.echo:
            self._echo(line)
        if self.link is None or not self.link.listening():
            self.strays.append(line)
            faults = self.world.faults
            if self.clean and not (faults.damaging or faults.delay):
                raise AssertionError(f"typed into a shell: {line!r}")
            return
        self.link.receive_line(line, self.world.now)
        self._settle()

    def _echo(self, line: bytes) -> None:
        data = self.up.damaged(line + b"\r\n")
        self.frame_bytes += len(data)
        if data != line + b"\r\n":
            self.clean, self.torn = False, True
        self._emit(data)

    def _settle(self) -> None:
        if self.link is None:
            return
        for tag, reply in self.link.replies():
            command = self.commands.pop(tag, None)
            if command is not None:
                command.status, command.values = unpack_reply(reply)
                self.world.counts[f"status {command.status}"] += 1
                self.world.finished(command)
                self._go_on(command)
        if not self.link.idle:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = self.world.now
        elif self.world.now >= self.idle_since + AGENT_STAYS:
            self._end_agent()

    def _go_on(self, command: Command) -> None:
        """What a command does behind its reply."""
        world = self.world
        if command.status == OK and command.operation in LENDING:
            if world.faults.cancel and world.random.random() < 0.1:
                command.status = -9  # killed before it has done anything with it
                assert self.link is not None
                self.link.cancel(command.tag, world.now)
            else:
                self.start("taken", command.identity, lent=command)
        elif command.status == OK and command.operation == "taken":
            assert command.lent is not None
            world.counts[f"taken by {command.lent.operation}"] += 1
            if command.lent.operation == "lock":
                world.locks.claim(command.lent)
                world.at(world.now + 3 * world.random.random(), partial(self._unlock, command.lent))
        elif command.operation == "unlock" and command.status != LINK_FAILED:
            if not any(
                (other.operation, other.arguments) == ("unlock", command.arguments)
                for other in self.commands.values()
            ):
                self.unlocked[command.name] = world.now
        elif (
            command.lent is not None
            and command.status in (LINK_FAILED, NO_DISPATCHER)
            and (command.operation != "taken" or command.lent.of_command)
        ):
            # A script, and the keeper of a COMMAND, try again.
            world.at(world.now + 1, partial(self._unlock, command.lent))

    def _unlock(self, lock: Command) -> None:
        name, for_command = lock.arguments[:2]
        if for_command and lock.boot == self.boot and self.here:
            self.world.locks.unclaim(lock)
            self.start("unlock-of", name, lock.identity, lent=lock)
        elif not for_command and self.here:
            self.world.locks.drop(self, lock.name)
            self.unlocked[lock.name] = math.inf
            self.start("unlock", name, lent=lock)
        self.stir()

    def check_signals(self) -> None:
        """All signals that stand in the output of this channel were found, and no other ones."""
        text = bytes(self.output[self.scanned :])
        self.scanned = len(self.output)
        lost = _names(text) - self.found
        assert not lost, f"{self.name}: signals in the output that nobody found: {lost}"
        if self.clean:
            text = KERNEL_LINES.sub(b"", text)
            assert self.found == _names(text)
            assert self.found.total() + self.malformed == text.count(MARKER)
        self.reported += self.found
        if not (self.world.mixture.damaging or self.replayed):
            assert max(self.reported.values(), default=1) == 1, f"{self.name}: a signal was found twice"
        self.found, self.malformed = Counter(), 0

    def recorded(self) -> Counter[str]:
        """The results of its signals in the log; a wait that fails has one, too."""
        cases = self.world.log.state.results.cases
        return Counter(c.id for c in cases if c.device == self.name and not c.id.startswith("multinode-"))

    def _check_output(self) -> None:
        """`printed`, as far as it must be out, is in `output`, in order."""
        here, there = self.checked
        while here < len(self.printed) and there < len(self.output):
            size = min(len(self.printed) - here, len(self.output) - there)
            if self.printed[here : here + size] == self.output[there : there + size]:
                here += size
                there += size
                break
            # Bytes that were damaged in frames.
            if self.printed[here] == self.output[there]:
                here += 1
            there += 1
        self.checked = [here, there]
        extra = len(self.output) - here
        if self.clean:
            assert extra == 0, (
                f"{self.name}: not what was printed: {bytes(self.output[-200:])!r} "
                f"{bytes(self.printed[max(0, len(self.output) - 200) : len(self.output) + 50])!r}"
            )
        assert extra <= self.frame_bytes, f"{self.name}: {extra} bytes invented or lost"


def _names(text: bytes) -> Counter[str]:
    """Of the results in it."""
    return Counter(name.decode("utf-8", "surrogateescape") for name in SIGNAL.findall(text))


class Log:
    """The group's log: one order for all, that of arrival; each host reads it at its own pace."""

    def __init__(self, world: World, members: tuple[tuple[str, str], ...] | None) -> None:
        self.world = world
        self.events: list[Event] = [Founded(0.0, b"founded", members)]
        self.state = GroupState()  # what the log says
        self.state.apply(self.events[0])
        self.on_the_way: list[tuple[float, int, Host, Event]] = []
        self._number = 0

    def append(self, host: Host, event: Event) -> None:
        # What one host appends stays in its order.
        host.appended = max(host.appended, self.world.now + self._delay())
        self._number += 1
        heapq.heappush(self.on_the_way, (host.appended, self._number, host, event))

    def _delay(self) -> float:
        return self.world.random.random() * self.world.faults.log_delay

    def next(self) -> float:
        return self.on_the_way[0][0] if self.on_the_way else math.inf

    def turn(self) -> None:
        world = self.world
        while self.on_the_way and self.on_the_way[0][0] <= world.now:
            _, _, host, event = heapq.heappop(self.on_the_way)
            if world.random.random() < world.faults.log_failure:
                world.counts["appends failed"] += 1
                if host in world.hosts:
                    host.engine.append_failed(event.identity, "no space left on device", world.now)
                    host.stir()
                continue
            self.state.apply(event)
            times = 2 if world.random.random() < world.faults.log_double else 1
            self.events += times * [event]
            for each in world.hosts:
                for _ in range(times):
                    each.deliveries.append(max(each.delivered, world.now + self._delay()))
                    each.delivered = each.deliveries[-1]
                    each.due = min(each.due, each.delivered)


class Host:
    """One host: an engine, and the consoles of some devices."""

    def __init__(self, world: World, devices: list[Device]) -> None:
        self.world = world
        self.devices = {device.name: device for device in devices}
        self.engine = Engine(world.random.randbytes(8))
        self.appended = 0.0  # when its newest event is in the log
        self.delivered = 0.0  # when it has read the newest event
        self.deliveries: deque[float] = deque()  # when it reads the next ones
        self.read = 0
        self.due = world.now  # when `turn` wants to be called
        for event in world.log.events:
            self._receive(event)
        for device in devices:
            device.host = self
            if device.here:
                self.engine.join(device.name, device.role, world.now)

    def _receive(self, event: Event) -> None:
        self.read += 1
        self.engine.receive_event(event, self.world.now)

    def stir(self) -> None:
        """Something was done to its engine."""
        self.due = self.world.now

    def turn(self) -> None:
        """Events come from the log and go to it, deadlines are over, answers go to the channels."""
        now = self.world.now
        while self.deliveries and self.deliveries[0] <= now:
            self.deliveries.popleft()
            self._receive(self.world.log.events[self.read])
        deadline = self.engine.next_timeout()
        if deadline is not None and deadline <= now:
            self.engine.handle_timeout(now)
        for event in self.engine.events_to_append():
            self.world.log.append(self, event)
        for answer in self.engine.answers():
            assert isinstance(answer.request, Request)
            device = self.devices[answer.device]
            if answer.reply is None:
                device.channel.accept(answer.request)
            else:
                device.channel.reply(answer.request, answer.reply, now)
            device.stir()
        self.world.notices += self.engine.notices()
        self.due = min(_or_never(self.engine.next_timeout()), *list(self.deliveries)[:1], math.inf)

    def carry_out(self, device: Device, items: list[Item]) -> None:
        now = self.world.now
        for item in items:
            if isinstance(item, Asked):
                request = (item.request, item.identity, item.operation, item.arguments, item.position)
                self.engine.request(device.name, *request, now)
                self.stir()
            elif isinstance(item, Cancelled):
                self.engine.cancel(item.request, item.reason, now)
                self.stir()
            elif isinstance(item, Suspected):
                self.engine.lose(device.name, BOOTS, now, boots=True)
                self.stir()
            elif isinstance(item, Cleared):
                self.engine.regain(device.name, now)
                self.stir()
            elif isinstance(item, Rebooted):
                self.engine.reboot(device.name, item.reason, now)
                self.stir()
            elif isinstance(item, Signal | Malformed):
                if isinstance(item, Malformed):
                    device.malformed += item.count
                elif item.kind == "result" and item.fields[0] is not None:
                    device.found[item.fields[0]] += 1
                self.engine.report(device.name, item.kind, item.fields, item.offset, now)
                self.stir()


class World:
    """All of it, driven by `run`."""

    def __init__(self, seed: int, faults: Faults, devices: int = 3, hosts: int = 2) -> None:
        self.random = random.Random(seed)
        self.faults = self.mixture = faults
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self.notices: list[tuple[str | None, str]] = []
        self.all_commands: list[Command] = []
        self.locks = Locks()
        self.signals = 0  # text signals that were printed
        self.messages = 0  # sent
        roles = ("server", "client", "client")
        members = tuple((f"d{i}", roles[i % 3]) for i in range(devices))
        self.log = Log(self, members if faults.members else None)
        self.actions: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.devices = [Device(self, name, role) for name, role in members]
        for device in self.devices:
            if faults.members and self.random.random() < 0.5:
                self.at(10 * self.random.random(), device.come)
            else:
                device.here = True
        self.hosts: list[Host] = []
        for number in range(hosts):
            self.hosts.append(Host(self, self.devices[number::hosts]))

    def new_channel(self) -> Channel:
        return Channel(lambda: self.random.getrandbits(32), self.log.state.number)

    def finished(self, command: Command) -> None:
        if command.status == OK and command.operation not in ("self", "group"):
            assert self.log.state.known(command.key), "acknowledged, but not in the log"
        if command.operation == "self" and command.status == OK:
            assert command.values == [command.device.name], "another device's answer"
        if command.operation == "group" and self.mixture.members:
            assert command.status != OK or len(command.values) == len(self.devices), "not all have come"
        if command.status == OK and command.operation == "wait":
            assert all(v[0] != command.device.name for v in command.values if isinstance(v, list))
        if command.operation in LENDING and command.values == ["its command has stopped asking"]:
            return  # for so long nobody took what it was lent: its agent was killed, or nothing came through
        if command.device.replayed and command.status == INTERRUPTED:
            # It seemed to boot anew, and for too long none of its frames came through.
            assert command.values in ([BOOTS], ["the device crashed or booted anew"])
            return
        assert command.status in (OK, NO, LINK_FAILED, NO_DISPATCHER), (command.status, command.values)

    def at(self, time: float, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self.actions, (time, self._number, action))

    def every(self, rate: float, action: Callable[[Device], None], until: float) -> None:
        """`action` so often a second, for each device, at random times."""
        for device in self.devices:
            time = self.now
            while rate:
                time += self.random.expovariate(rate)
                if time >= until:
                    break
                self.at(time, partial(self._act, action, device))

    def _act(self, action: Callable[[Device], None], device: Device) -> None:
        if device.here:
            action(device)
            device.stir()

    # -- the run

    def run(self, seconds: float, commands: float = 2.0) -> Counter[str]:
        """Faults for so many seconds, then calm until all commands have ended."""
        end = self.now + seconds
        self.every(commands, self._command, end)
        self.every(5.0, lambda device: device.say(self._text()), end)
        self.every(0.5, Device.signal, end)
        self.every(self.faults.printk, lambda device: device.say(device._printk()), end)
        self.every(self.faults.cancel, Device.cancel, end)
        self.every(self.faults.background, Device.turn_round, end)
        self.every(self.faults.kill, Device.kill_agent, end)
        self.every(self.faults.reboot, Device.reboot, end)
        self.every(self.faults.replay, Device.replay, end)
        self.every(self.faults.outage, self._outage, end)
        self.every(self.faults.leave, Device.leave, end)
        time = end
        if self.faults.restart:
            time = self.now + self.random.expovariate(self.faults.restart)
        while time < end:
            self.at(time, self._restart)
            time += self.random.expovariate(self.faults.restart)
        self.advance(end)
        self.faults = self.faults.calm()
        for device in self.devices:
            # Also a reboot is known then: what was printed again and again is through the line by now.
            self.at(end + LINK_TIMEOUT, partial(self._act, Device.ask, device))
        # A wait's own time-out of 20 s, the link's patience, and a margin.
        self.advance(end + 20 + 2 * LINK_TIMEOUT + LEASE)
        open_commands = [c for c in self.all_commands if c.status is None]
        assert not open_commands, (
            f"no progress: {[(c.operation, self.now - c.started) for c in open_commands]}"
        )
        self.counts["commands"] = len(self.all_commands)
        self.counts["signals"] = self.signals
        for device in self.devices:
            counters = device.channel.counters
            for each in fields(counters):
                self.counts["host " + each.name] += getattr(counters, each.name)
            assert device.checked[0] == len(device.printed), f"{device.name}: output lost"
            device.check_signals()
            lost = device.reported - device.may_lose - device.recorded()
            assert not lost, f"{device.name}: signals that were found, and are not in the log: {lost}"
            assert not device.recorded() - device.reported, f"{device.name}: a signal is in the log twice"
        self._compare()
        self._compare_with_rules()
        return self.counts

    def _compare(self) -> None:
        """Each event of the log has had its effect once, and all hosts know the same."""
        state = self.log.state
        told = Counter((remark.device, remark.text) for remark in state.results.remarks)
        assert all(count == 1 for count in told.values()), "reported once, and recorded twice"
        acknowledged = [c for c in self.all_commands if c.operation == "event" and c.status == OK]
        assert all(told[c.device.name, c.identity.hex()] for c in acknowledged), "acknowledged and lost"
        for host in self.hosts:
            assert host.engine.state.changes == state.changes
            assert host.engine.state.results.remarks == state.results.remarks
            coordinator = host.engine.state.coordinator
            assert coordinator.waits() == state.coordinator.waits() == [], "waits that nobody ends"
            assert coordinator.lent() == state.coordinator.lent() == [], "lent, and nobody takes it back"
            for device in self.devices:
                for message_id in IDS:
                    arguments = (device.name, message_id)
                    assert coordinator.data_for(*arguments) == state.coordinator.data_for(*arguments)
        senseless = [sentence for _, sentence in self.notices if "makes no sense" in sentence]
        assert not senseless, senseless

    def _compare_with_rules(self) -> None:
        """The group did as its rules say, and each command was told that."""
        rules, places = Rules(), dict[bytes, int]()
        for event in self.log.events:
            rules.apply(event)
            places.setdefault(event.identity, len(places))
        coordinator = self.log.state.coordinator
        for device in self.devices if not self.mixture.restart else ():
            # (A dispatcher does not know in which boot another one was.)
            assert not coordinator.claims_of_commands(device.name), f"{device.name}: a COMMAND's lock is left"
        for request, well in rules.fulfilled.items():
            outcome = coordinator.outcome(request)
            assert outcome is not None
            assert (outcome.status == OK) == well, outcome
        assert not rules.open
        for lock in LOCKS:
            assert coordinator.holder(lock) == rules.holders.get(lock)
        printed: dict[tuple[str, bytes], list[object]] = {}
        for command in sorted(self.all_commands, key=lambda one: places.get(one.key, -1)):
            if command.status == OK and command.operation == "wait-any":
                assert command.values[0] == rules.chosen[command.key], "not the first one of --any"
            if command.status == OK and command.operation == "wait-next":
                assert command.values == [_told(rules.given[command.key])], "not the next one"
            if command.operation == "taken":
                assert command.status != OK or rules.fulfilled[command.key], "taken, and not in the log"
                lent = command.lent
                assert lent is not None
                if rules.fulfilled.get(command.key) and lent.operation == "wait-next":
                    printed.setdefault((command.device.name, lent.name), []).extend(lent.values)
        for (name, message_id), values in printed.items():
            sent = [_told(message) for message in rules.sent[message_id] if message.device != name]
            assert values == sent[: len(values)], f"{name}: --next of {message_id!r} has gaps"

    def advance(self, until: float) -> None:
        while True:
            time = min(self._next(), until)
            self.now = max(self.now, time)
            if time >= until:
                return
            self._turn()

    def _next(self) -> float:
        time = self.log.next()
        if self.actions and self.actions[0][0] < time:
            time = self.actions[0][0]
        for device in self.devices:
            time = min(time, device.due)
        for host in self.hosts:
            time = min(time, host.due)
        return time

    def _turn(self) -> None:
        while self.actions and self.actions[0][0] <= self.now:
            heapq.heappop(self.actions)[2]()
        for device in self.devices:
            if device.due <= self.now:
                device.turn()
        self.log.turn()
        for host in self.hosts:
            if host.due <= self.now:
                host.turn()

    # -- what happens

    def _text(self) -> bytes:
        return b" ".join(self.random.choice(WORDS) for _ in range(self.random.randrange(1, 12))) + b"\r\n"

    def _command(self, device: Device) -> None:
        if len(device.commands) >= 16:
            return
        rng = self.random
        ids = rng.sample(IDS, 3)
        timeout = rng.choice((500, 5000, 20000))
        size = rng.choice((0, 5, 5, 5, 600, 3000))
        operation = rng.choice(OPERATIONS)
        self.messages += 1
        arguments: dict[str, tuple[object, ...]] = {
            "send": (ids[0], [b"k", b"%d" % self.messages + b"v" * size] if size else []),
            "wait": (ids[0], timeout),
            "wait-any": (ids, timeout, False),
            "wait-next": (ids[0], timeout, False),
            "wait-all": (ids[0], rng.choice((None, "client")), timeout),
            "wait-devices": (ids[0], [each.name for each in rng.sample(self.devices, 2)], timeout, False),
            "sync": (ids[0], timeout),
            "sync-some": (ids[0], rng.choice((2, 2, 3, "client")), timeout, False),
            "lock": (rng.choice(LOCKS), rng.random() < 0.5, timeout, False),
        }
        device.start(operation, *arguments.get(operation, ()))

    def _outage(self, device: Device) -> None:
        device.silent_until = self.now + self.random.random() * 3
        device.lose_line()

    def _restart(self) -> None:
        """One host's dispatcher ends, and begins again with what is in the log."""
        old = self.random.choice(self.hosts)
        for device in old.devices.values():
            device.close_channel()
            device.may_lose |= device.reported - device.recorded()
            device.stir()
        self.counts["restarts"] += 1
        # What it was about to append gets into the log, or is gone with it.
        if self.random.random() < 0.5:
            self.log.on_the_way = [entry for entry in self.log.on_the_way if entry[2] is not old]
            heapq.heapify(self.log.on_the_way)
        new = Host(self, list(old.devices.values()))
        self.hosts[self.hosts.index(old)] = new
