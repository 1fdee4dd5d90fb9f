# SPDX-License-Identifier: MIT
"""What the line has carried, counted from its raw bytes; and whether kernel messages came through whole."""

import re
from collections import Counter
from dataclasses import dataclass, field, fields

from dispatcher.demultiplexer import Damaged, Demultiplexer, Frame
from tests.kernel.device.noise import record
from toolkit.wire import packets
from toolkit.wire.vocabulary import ProtocolError

# What the protocol must not leave in a log.
TRACES = (b"\x1b]5282;", b"#L1.")
_MESSAGE = re.compile(rb"((?:noise \d{6}|\d{6}-noise-)[^\r\n]*)\r\n")


@dataclass
class Figures:
    """Counts of one run, and everything that was not as it should be."""

    title: str
    commands: int = 0
    frames: int = 0
    cut: int = 0  # those with foreign text inside, and whatever else was damaged
    repaired: int = 0
    repeated: int = 0
    messages: int = 0  # of the kernel
    overrun: int = 0  # bytes towards the devices that found no room
    failed: int = 0  # commands that ended with an error which they should not have had
    lost: int = 0  # wrong answers; output and kernel messages that are not what was printed; hangs
    errors: list[str] = field(default_factory=list)

    def lose(self, error: str) -> None:
        """Something is lost, and this is what."""
        self.lost += 1
        self.errors.append(error)


def table(results: list[Figures]) -> str:
    """The figures of all runs, for people."""
    names = [one.name for one in fields(Figures) if one.name != "errors"]
    rows = [names, *([str(getattr(figures, name)) for name in names] for figures in results)]
    rows[0] = ["kernel messages" if name == "messages" else name for name in ["", *names[1:]]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    )


def count_frames(figures: Figures, received: list[tuple[float, bytes]]) -> None:
    """Count the frames in what came from a device, and when."""
    demultiplexer = Demultiplexer()
    seen: set[tuple[object, ...]] = set()
    for now, data in received:
        for event in (*demultiplexer.handle_timeout(now), *demultiplexer.receive_data(data, now)):
            if isinstance(event, Frame | Damaged):
                figures.frames += 1
                figures.cut += isinstance(event, Damaged) or bool(event.text)
            if isinstance(event, Frame):
                figures.repaired += bool(event.text)
                figures.repeated += _repeated(event.body, seen)


def _repeated(body: bytes, seen: set[tuple[object, ...]]) -> bool:
    """Whether a frame says again what one before it has said, but for its number."""
    try:
        kind, *values = packets.unpack_up(body)
    except ProtocolError:
        return False
    if kind == packets.POLL:
        # Those repeat themselves by design.
        return False
    named = dict(zip(packets.UP_FIELDS[kind], values, strict=True))
    key = (kind, *(named.get(name) for name in ("nonce", "session", "tag", "offset")))
    repeated = key in seen
    seen.add(key)
    return repeated


def check_messages(log: bytes, count: int) -> list[str]:
    """What is wrong with the first kernel messages in a log: each has to be there whole, and once."""
    found = Counter(_MESSAGE.findall(log))
    lines = [line.encode() for number in range(count) for line in record(number)]
    return [
        f"this kernel message is there {found[line]} times: {line!r}" for line in lines if found[line] != 1
    ]


def check_traces(log: bytes) -> list[str]:
    """What of the protocol is left in a log."""
    return [f"the log holds {trace!r} {log.count(trace)} times" for trace in TRACES if trace in log]
