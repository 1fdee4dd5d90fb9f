# SPDX-License-Identifier: MIT
"""A seeded model of devices, lines and a dispatcher, with everything that goes wrong.

It runs the real cores (DeviceLink, Demultiplexer, Session, Engine, Coordinator)
in virtual time over lines that cut, drop, flip, double and delay bytes, with
commands and agents that are killed, devices that reboot, logs that are replayed
and dispatchers that are restarted, and asserts at every step:

* output intact: what the device printed comes out, in order; and nothing else,
  unless a byte of a frame was damaged on the way,
* once only: no request takes effect twice, and none that was acknowledged not at all,
* nothing is typed outside a lease, and nothing at all to a device at rest,
* progress: once the faults stop, every command ends within a bounded time.

The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from dispatcher.engine import Engine
from dispatcher.group.events import Sent, Waiting
from dispatcher.grouplog.memory import MemoryGroupLog
from toolkit.wire.device_link import DeviceLink
from toolkit.wire.packets import LEASE, LINK_TIMEOUT
from toolkit.wire.vocabulary import LINK_FAILED, NO, NO_DISPATCHER, OK, pack_request, unpack_reply

WORDS = b"noise usb eth0: link up, 1000Mbps ADDRCONF(NETDEV_UP) 0x7f Call Trace: #L1. \x1b[1m ok".split(b" ")


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
    restart: float = 0.0  # of the dispatcher, the group's log being kept
    baud: int = 115200
    outage: float = 0.0  # the line is silent for up to 3 s

    @property
    def damaging(self) -> bool:
        return bool(self.drop or self.flip or self.double or self.outage)

    def calm(self) -> Faults:
        """The same line without faults."""
        return Faults(baud=self.baud, echo=self.echo)


@dataclass
class Command:
    device: Device
    identity: bytes
    operation: str
    message: bytes
    started: float
    tag: int = 0
    status: int | None = None
    values: list[object] = field(default_factory=list)
    accepted: bool = False


class Line:
    """One direction: bytes in, with their kind, and out again later, perhaps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.queue: deque[tuple[float, bytes]] = deque()
        self.free = 0.0

    def push(self, data: bytes) -> None:
        world = self.world
        start = max(world.now, self.free)
        self.free = start + len(data) * 10 / world.faults.baud
        if world.faults.delay and world.random.random() < world.faults.delay:
            self.free += world.random.random()
        # In pieces, as serial adapters deliver.
        while data:
            size = world.random.choice((1, 7, 16, 64, 4096))
            self.queue.append((self.free, data[:size]))
            data = data[size:]

    def damaged(self, data: bytes) -> bytes:
        faults, rng = self.world.faults, self.world.random
        if not (faults.drop or faults.flip or faults.double):
            return data
        out = bytearray()
        for byte in data:
            chance = rng.random()
            if chance < faults.drop:
                continue
            flipped = chance < faults.drop + faults.flip
            out.append(byte ^ (1 << rng.randrange(8)) if flipped else byte)
            if chance > 1 - faults.double:
                out.append(out[-1])
        return bytes(out)


class Device:
    """A device: a tty, at most one agent, commands, and programs that print."""

    def __init__(self, world: World, name: str, role: str) -> None:
        self.world = world
        self.name = name
        self.role = role
        self.boot = world.random.getrandbits(32)
        self.link: DeviceLink | None = None
        self.idle_since = 0.0
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

    # -- what the device does

    def say(self, text: bytes) -> None:
        if self.up.free - self.world.now > 1.0:
            return  # who prints waits for the line, the kernel too
        data = self.up.damaged(text)
        if self.world.now >= self.silent_until:
            self.printed += data
        self._emit(data)

    def write_frames(self) -> None:
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
            chance = 0
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
            chance = chance / 3 if faults.stamps else 0
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
        self.up.push(data)

    def start(self, operation: str, *arguments: object) -> Command:
        identity = self.world.random.randbytes(8)
        message = pack_request(identity, operation, *arguments)
        command = Command(self, identity, operation, message, self.world.now)
        self.world.all_commands.append(command)
        self._submit(command)
        return command

    def _submit(self, command: Command) -> None:
        if self.link is None:
            self.link = DeviceLink(self.world.random.getrandbits(32), self.boot, self.world.faults.baud)
        command.tag = self.link.submit(command.message, self.world.now)
        self.commands[command.tag] = command

    def cancel(self) -> None:
        """`kill -9` of a command."""
        if self.commands and self.link:
            tag = self.world.random.choice(list(self.commands))
            self.commands.pop(tag).status = -9
            self.link.cancel(tag, self.world.now)

    def turn_round(self) -> None:
        """Ctrl-Z, bg, fg: the shell reads, or again only the agent."""
        if self.link is not None:
            self.link.attend(not self.link.attended)

    def kill_agent(self) -> None:
        """`kill -9` of the agent: its commands find or make another."""
        if self.link is None:
            return
        orphans = list(self.commands.values())
        self.link, self.commands, self.clean = None, {}, False
        for command in orphans:
            self._submit(command)

    def reboot(self) -> None:
        for command in self.commands.values():
            command.status = -1
        self.commands = {}
        self.link = None
        self.input = b""
        self.clean = False
        self.boot = self.world.random.getrandbits(32)
        self.up.free = self.world.now
        self.say(b"\r\nU-Boot 2026.01\r\n")

    def replay(self) -> None:
        if len(self.raw) > 100:
            start = self.world.random.randrange(len(self.raw))
            old = bytes(self.raw[start : start + 3000])
            self.clean = False
            self.frame_bytes += len(old)
            self.up.push(old)

    # -- what comes to the device

    def receive(self, data: bytes) -> None:
        for byte in data:
            if byte == 0x15:
                self.input = b""
            elif byte == 0x0A:
                line, self.input = self.input, b""
                self._line(line)
            else:
                self.input += bytes((byte,))

    def _line(self, line: bytes) -> None:
        if self.world.faults.echo:
            self._echo(line)
        if self.link is None or not self.link.listening():
            self.strays.append(line)
            faults = self.world.faults
            if self.clean and not (faults.damaging or faults.delay or faults.background):
                raise AssertionError(f"typed into a shell: {line!r}")
            return
        self.link.receive_line(line, self.world.now)
        self.settle()

    def _echo(self, line: bytes) -> None:
        data = self.up.damaged(line + b"\r\n")
        self.frame_bytes += len(data)
        if data != line + b"\r\n":
            self.clean = False
        self._emit(data)

    def settle(self) -> None:
        if self.link is None:
            return
        for tag, reply in self.link.replies():
            command = self.commands.pop(tag, None)
            if command is not None:
                command.status, command.values = unpack_reply(reply)
                self.world.counts[f"status {command.status}"] += 1
                self.world.finished(command)
        if not self.link.idle:
            self.idle_since = self.world.now
        elif self.world.now > self.idle_since + 2:
            self.world.counts["repeats"] += self.link.repeats
            self.link = None

    def check_output(self) -> None:
        """`printed`, as far as it must be out, is in `output`, in order."""
        here, there = self.checked
        while here < len(self.printed) and there < len(self.output):
            if self.printed[here] == self.output[there]:
                here += 1
            there += 1
        self.checked = [here, there]
        if self.clean:
            assert self.printed.startswith(self.output), (
                f"{self.name}: not what was printed: {bytes(self.output[-200:])!r} {bytes(self.printed[len(self.output) - 200 : len(self.output) + 50])!r}"
            )
        extra = len(self.output) - here
        assert extra <= self.frame_bytes, f"{self.name}: {extra} bytes invented or lost"


class World:
    """All of it, driven by `run`."""

    def __init__(self, seed: int, faults: Faults, devices: int = 3) -> None:
        self.random = random.Random(seed)
        self.faults = faults
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self.all_commands: list[Command] = []
        self.log = MemoryGroupLog()
        self.actions: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        roles = ("server", "client", "client")
        self.devices = [Device(self, f"d{i}", roles[i % 3]) for i in range(devices)]
        self.engine = self._new_engine()
        self.effects: Counter[bytes] = Counter()
        self.log.subscribe(self._on_event)

    def _new_engine(self) -> Engine:
        engine = Engine(self.log, lambda: self.random.getrandbits(32))
        for device in self.devices:
            engine.join(device.name, device.role, self.now)
        return engine

    def _on_event(self, event: object) -> None:
        if isinstance(event, Sent | Waiting):
            self.effects[event.request] += 1
            assert self.effects[event.request] == 1, "a request took effect twice"

    def finished(self, command: Command) -> None:
        identity = command.identity + command.device.name.encode()
        changes = command.operation in ("send", "wait", "wait-all", "sync")
        if command.status == OK and changes:
            assert self.effects[identity] == 1, "acknowledged, but not in the log"
        if command.operation == "self" and command.status == OK:
            assert command.values == [command.device.name], "another device's answer"
        if command.status == OK and command.operation == "wait":
            assert all(v[0] != command.device.name for v in command.values if isinstance(v, list))
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
                self.at(time, lambda device=device: action(device))  # type: ignore[misc]

    # -- the run

    def run(self, seconds: float, commands: float = 2.0) -> Counter[str]:
        """Faults for so many seconds, then calm until all commands have ended."""
        end = self.now + seconds
        self.every(commands, self._command, end)
        self.every(5.0, lambda device: device.say(self._text()), end)
        self.every(self.faults.printk, lambda device: device.say(device._printk()), end)
        self.every(self.faults.cancel, Device.cancel, end)
        self.every(self.faults.background, Device.turn_round, end)
        self.every(self.faults.kill, Device.kill_agent, end)
        self.every(self.faults.reboot, Device.reboot, end)
        self.every(self.faults.replay, Device.replay, end)
        self.every(self.faults.outage, self._outage, end)
        time = end
        if self.faults.restart:
            time = self.now + self.random.expovariate(self.faults.restart)
        while time < end:
            self.at(time, self._restart)
            time += self.random.expovariate(self.faults.restart)
        self.advance(end)
        self.faults = self.faults.calm()
        # A wait's own time-out of 20 s, the link's patience, and a margin.
        self.advance(end + 20 + 2 * LINK_TIMEOUT + LEASE)
        open_commands = [c for c in self.all_commands if c.status is None]
        assert not open_commands, (
            f"no progress: {[(c.operation, self.now - c.started) for c in open_commands]}"
        )
        self.counts["commands"] = len(self.all_commands)
        for device in self.devices:
            counters = self.engine.counters(device.name)
            for each in fields(counters):
                self.counts["host " + each.name] += getattr(counters, each.name)
            assert device.checked[0] == len(device.printed), f"{device.name}: output lost"
        assert all(count == 1 for count in self.effects.values())
        return self.counts

    def advance(self, until: float) -> None:
        while True:
            time = min(self._next(), until)
            self.now = max(self.now, time)
            if time >= until:
                return
            self._turn()

    def _next(self) -> float:
        times = [self.actions[0][0]] if self.actions else []
        for device in self.devices:
            for line in (device.up, device.down):
                if line.queue:
                    times.append(line.queue[0][0])
            if device.link is not None:
                deadline = device.link.next_timeout()
                if deadline is not None:
                    times.append(deadline)
                if device.link.wants_to_send:
                    times.append(max(self.now, device.up.free - 0.25))
        deadline = self.engine.next_timeout()
        if deadline is not None:
            times.append(deadline)
        return min(times, default=float("inf"))

    def _turn(self) -> None:
        while self.actions and self.actions[0][0] <= self.now:
            heapq.heappop(self.actions)[2]()
        for device in self.devices:
            while device.up.queue and device.up.queue[0][0] <= self.now:
                data = device.up.queue.popleft()[1]
                device.heard = self.now
                self.engine.receive_data(device.name, data, self.now)
                self._drain()
            while device.down.queue and device.down.queue[0][0] <= self.now:
                device.receive(device.down.queue.popleft()[1])
            if device.link is not None:
                deadline = device.link.next_timeout()
                if deadline is not None and deadline <= self.now:
                    device.link.handle_timeout(self.now)
                device.settle()
            device.write_frames()
        deadline = self.engine.next_timeout()
        if deadline is not None and deadline <= self.now:
            self.engine.handle_timeout(self.now)
        self._drain()

    def _drain(self) -> None:
        for name, text in self.engine.outputs():
            device = next(d for d in self.devices if d.name == name)
            device.output += text
            device.check_output()
        for name, data in self.engine.data_to_type():
            device = next(d for d in self.devices if d.name == name)
            assert self.now <= device.heard + LEASE, "typed outside a lease"
            self.counts["lines"] += data.count(b"\n")
            damaged = device.down.damaged(data)
            if damaged != data and self.faults.echo:
                device.clean = False
            if self.now >= device.silent_until:
                device.down.push(damaged)

    # -- what happens

    def _text(self) -> bytes:
        return b" ".join(self.random.choice(WORDS) for _ in range(self.random.randrange(1, 12))) + b"\r\n"

    def _command(self, device: Device) -> None:
        if len(device.commands) >= 16:
            return
        message_id = b"m%d" % self.random.randrange(12)
        timeout = self.random.choice((500, 5000, 20000))
        size = self.random.choice((0, 5, 5, 5, 600, 3000))
        operation = self.random.choice(("self", "send", "send", "wait", "wait-all", "sync"))
        arguments: dict[str, tuple[object, ...]] = {
            "self": (),
            "send": (message_id, [b"k", b"v" * size] if size else []),
            "wait": (message_id, timeout),
            "wait-all": (message_id, self.random.choice((None, "client")), timeout),
            "sync": (message_id, timeout),
        }
        device.start(operation, *arguments[operation])

    def _outage(self, device: Device) -> None:
        device.silent_until = self.now + self.random.random() * 3
        device.up.queue.clear()
        device.down.queue.clear()
        device.clean = False
        # What was on the line is gone: it is no longer due.
        device.printed = device.printed[: device.checked[0]]

    def _restart(self) -> None:
        for device in self.devices:
            self.engine.close(device.name, self.now)
            device.clean = False
        self._drain()
        self.counts["restarts"] += 1
        self.engine = self._new_engine()
