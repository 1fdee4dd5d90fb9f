# SPDX-License-Identifier: MIT
"""What goes wrong on a simulated line: seeded faults, bytes in and bytes out.

    kernel lines --\
    device bytes ---+-- drop, flip, double --> cut --> pauses --> host
    host bytes   ------ drop, flip, double ---------> pauses --> device

A line of the kernel comes out whole, at any byte of what the device writes just then: so
that of a real process, which is quicker on a pty than any line, is cut all the same. The kernel's
lines themselves are spared by the other faults, so that a log can be searched for them.
"""

import math
import random
from dataclasses import dataclass, fields

from dispatcher.errors import UsageError

# Seconds that a kernel line which is due waits for something to cut.
PATIENCE = 0.05
# The longest pause, in seconds.
LONGEST_PAUSE = 1.0
# More kernel lines a second, or pauses, leave no room for anything else.
_MOST_LINES = 1000.0
_MOST_PAUSES = 10.0
# A device that reboots more often does nothing else.
_MOST_REBOOTS = 1.0

# Each is told from the others of a log by its number. Some begin with characters that frames have, too.
_TEXTS = (
    "usb 1-1: new high-speed USB device number {} using xhci_hcd",
    "random: crng reseeded, entropy {}",
    "IPv6: ADDRCONF(NETDEV_CHANGE): eth{}: link becomes ready",
    "EXT4-fs (mmcblk0p2): re-mounted, opts: (null), try {}",
    "mmc0: Timeout waiting for hardware cmd interrupt {}.",
    "x{}",
    "Call Trace: {} <IRQ> ? asm_common_interrupt+0x22/0x40",
    'audit: type=1400 audit(1700000000.123:{}): apparmor="STATUS"',
    "watchdog: BUG: soft lockup - CPU#0 stuck for {}s! [kworker/0:1:12]",
)


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong, for each device."""

    printk: float = 0.0  # kernel lines a second
    stamps: bool = True  # with time stamps
    drop: float = 0.0  # probability for each byte, in both directions; so are the next two
    flip: float = 0.0
    double: float = 0.0
    delay: float = 0.0  # pauses a second, in each direction, of up to LONGEST_PAUSE
    reboot: float = 0.0  # reboots a second, of the device


def parse_faults(text: str) -> Faults:
    """The faults that NAME=NUMBER,... names. Raises UsageError."""
    values: dict[str, float] = {}
    for item in text.split(","):
        name, equals, number = item.partition("=")
        if name not in _RANGES:
            raise UsageError(f"there is no fault {name!r}; there are {', '.join(_RANGES)}")
        if name in values:
            raise UsageError(f"{name} is given twice")
        most, meaning = _RANGES[name]
        try:
            value = float(number) if equals else math.nan
        except ValueError:
            value = math.nan
        if not 0 <= value <= most or (name == "stamps" and value not in (0, 1)):
            raise UsageError(f"{name}={number}: {meaning}" if equals else f"{name}: {meaning}")
        values[name] = value
    if sum(values.get(name, 0.0) for name in _DAMAGES) > 1:
        raise UsageError(f"{', '.join(_DAMAGES)} must not be more than 1 together")
    stamps = bool(values.pop("stamps", 1.0))
    return Faults(stamps=stamps, **values)


_DAMAGES = ("drop", "flip", "double")
_PROBABILITY = (1.0, "it must be a probability for each byte, from 0 to 1")
# The greatest number, and what a wrong one is answered with.
_RANGES = {
    "printk": (_MOST_LINES, f"it must be a number of kernel lines a second, from 0 to {_MOST_LINES:g}"),
    "stamps": (1.0, "it must be 1 (kernel lines with time stamps) or 0 (without)"),
    **dict.fromkeys(_DAMAGES, _PROBABILITY),
    "delay": (_MOST_PAUSES, f"it must be a number of pauses a second, from 0 to {_MOST_PAUSES:g}"),
    "reboot": (_MOST_REBOOTS, f"it must be a number of reboots a second, from 0 to {_MOST_REBOOTS:g}"),
}


class KernelLog:
    """What the kernel of one device has to say: with the same seed the same, but for the time stamps."""

    def __init__(self, seed: str, stamps: bool) -> None:
        self._random = random.Random(seed)
        self._stamps = stamps
        self._count = 0

    def next_line(self, now: float) -> bytes:
        """The next line, with its line break."""
        self._count += 1
        text = self._random.choice(_TEXTS).format(self._count)
        stamp = f"[{now:12.6f}] " if self._stamps else ""
        return f"{stamp}{text}\r\n".encode()


class FaultyLine:
    """One direction of a line.

    What `receive_data` and `handle_timeout` return comes out of the line at that moment.

    :param seed: with the same one the same bytes suffer, and the times are as far apart.
    :param kernel: writes lines into this direction; None: nobody does.
    :param now: when the line begins to carry. As everywhere: any clock in seconds that does not go back.
    """

    def __init__(self, faults: Faults, seed: str, kernel: KernelLog | None, now: float) -> None:
        self._faults = faults
        self._random = random.Random(seed)
        self._damage = faults.drop + faults.flip + faults.double
        self._unharmed = self._distance()  # bytes until the next one that suffers
        self._kernel = kernel
        self._line_due = now + self._interval(faults.printk if kernel is not None else 0.0)
        self._pause_due = now + self._interval(faults.delay)
        self._still_until = now
        self._held = b""

    def receive_data(self, data: bytes, now: float) -> bytes:
        """Bytes enter the line, in any chunking; the kernel lines that are due cut them somewhere."""
        data = self._damaged(data)
        cut = self._random.randrange(len(data) + 1)
        return self._carry(data[:cut] + self._kernel_lines(now) + data[cut:], now)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has to be called."""
        time = self._line_due + PATIENCE
        if self._held:
            time = min(time, self._still_until)
        return time if math.isfinite(time) else None

    def handle_timeout(self, now: float) -> bytes:
        """Some time has passed."""
        return self._carry(self._kernel_lines(now) if now >= self._line_due + PATIENCE else b"", now)

    def flush(self) -> bytes:
        """The line ends: what it still holds comes out."""
        held, self._held = self._held, b""
        return held

    def _kernel_lines(self, now: float) -> bytes:
        """Those that are due: all in one go, as the kernel writes them once it has the console."""
        lines = b""
        while self._kernel is not None and self._line_due <= now:
            lines += self._kernel.next_line(self._line_due)
            self._line_due += self._interval(self._faults.printk)
        return lines

    def _carry(self, data: bytes, now: float) -> bytes:
        while self._pause_due <= now:
            end = self._pause_due + self._random.random() * LONGEST_PAUSE
            self._still_until = max(self._still_until, end)
            self._pause_due += self._interval(self._faults.delay)
        self._held += data
        return b"" if now < self._still_until else self.flush()

    def _damaged(self, data: bytes) -> bytes:
        out = bytearray()
        position = 0
        while len(data) - position > self._unharmed:
            victim = position + int(self._unharmed)
            out += data[position:victim] + self._harm(data[victim])
            position = victim + 1
            self._unharmed = self._distance()
        self._unharmed -= len(data) - position
        return bytes(out + data[position:])

    def _harm(self, byte: int) -> bytes:
        weights = [getattr(self._faults, name) for name in _DAMAGES]
        what = self._random.choices(_DAMAGES, weights)[0]
        if what == "drop":
            return b""
        if what == "flip":
            return bytes((byte ^ 1 << self._random.randrange(8),))
        return bytes((byte, byte))

    def _distance(self) -> float:
        """Bytes before the next one that suffers."""
        if self._damage == 0:
            return math.inf
        if self._damage >= 1:
            return 0
        return math.log(1 - self._random.random()) // math.log(1 - self._damage)

    def _interval(self, rate: float) -> float:
        return self._random.expovariate(rate) if rate else math.inf


def in_words(faults: Faults) -> str:
    """The faults as `parse_faults` takes them."""
    return ",".join(f"{field.name}={getattr(faults, field.name):g}" for field in fields(faults))
