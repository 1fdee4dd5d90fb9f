# SPDX-License-Identifier: MIT
"""What the line has carried, counted from its raw bytes; and whether kernel messages came through whole."""

import re
from collections import Counter
from dataclasses import dataclass, field, fields

from dispatcher.line.demultiplexer import Damaged, Demultiplexer, Frame
from tests.kernel.device.noise import record
from tests.kernel.guest import without_kernel_messages
from toolkit.wire import packets
from toolkit.wire.framing import LINE_MARKER, MARKER, TERMINATOR
from toolkit.wire.vocabulary import ProtocolError

# What the protocol must never leave in a log.
TRACES = (MARKER, LINE_MARKER)
_FRAME = re.compile(re.escape(MARKER) + rb"[A-Za-z0-9_-]*" + re.escape(TERMINATOR))
# What may be a part of a line that was typed, and is long enough to tell.
_WORD = re.compile(rb"[A-Za-z0-9_.-]{6,}")
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
    leaked: int = 0  # frames, or parts of some, that came out as output
    overrun: int = 0  # bytes towards the devices that found no room
    lines: int = 0  # that the dispatcher typed
    echoes: int = 0  # parts of such lines that came out as output
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
    sent: dict[tuple[object, ...], int] = {}
    for now, data in received:
        for event in (*demultiplexer.handle_timeout(now), *demultiplexer.receive_data(data, now)):
            if isinstance(event, Frame):
                figures.frames += 1
                figures.cut += bool(event.text)
                figures.repaired += bool(event.text)
                figures.repeated += _repeats(event.body, sent)
            elif isinstance(event, Damaged):
                # It has to be sent again.
                figures.frames += 1
                figures.cut += 1
                figures.repeated += 1


def _repeats(body: bytes, sent: dict[tuple[object, ...], int]) -> bool:
    """Whether a frame says only what intact ones before it have said.

    :param sent: how much of its message each request has sent; 1 for what is not sent in parts.
    """
    try:
        kind, *values = packets.unpack_up(body)
    except ProtocolError:
        return False
    if kind == packets.POLL:
        # Those repeat themselves by design.
        return False
    named = dict(zip(packets.UP_FIELDS[kind], values, strict=True))
    key = (kind, named.get("nonce"), named.get("session"), named.get("tag"))
    end = named["offset"] + len(named["chunk"]) if kind == packets.REQUEST else 1
    repeats = end <= sent.get(key, 0)
    sent[key] = max(end, sent.get(key, 0))
    return repeats


def count_echoes(figures: Figures, typed: bytes, log: bytes) -> None:
    """Count the lines that the dispatcher typed, and how many words of its log are parts of them."""
    figures.lines += typed.count(LINE_MARKER)
    figures.echoes += sum(word in typed for word in _WORD.findall(without_kernel_messages(log)))


def without_leaks(output: bytes, received: list[tuple[float, bytes]]) -> tuple[bytes, int]:
    """Output without frames that could not be told from it, nor repaired; and how many these were.

    :param output: in which there are no kernel messages.
    """
    output, count = _FRAME.subn(b"", output)
    demultiplexer = Demultiplexer()
    for now, data in received:
        for event in (*demultiplexer.handle_timeout(now), *demultiplexer.receive_data(data, now)):
            rest = without_kernel_messages(event.text) if isinstance(event, Damaged) else b""
            if rest and rest in output:
                output = output.replace(rest, b"", 1)
                count += 1
    return output, count


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
