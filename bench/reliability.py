# SPDX-License-Identifier: MIT
"""What faults of the line do to a thousand commands: `make reliability`.

    python -m bench.reliability [--commands N] [--seed S] [--row NAME]

For each row of faults two devices, real shells on real ptys, run lava-self, lava-send (with
short, middling and long data) and lava-sync one after the other, over lines that
`lavabox sim --faults` would give them. What the commands say is held against the group's log:

    first try   done, and every frame came through as it was sent
    repaired    done; a frame was cut by a kernel message, and none was sent again
    repeated    done; a frame was lost, either way, and sent again
    failed      ended with another status than 0 and a sentence that says why
    lost        acknowledged and not in the log exactly once, unchanged; in the log twice; answered
                wrongly; or neither done nor failed
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import build_zipapp
from dispatcher.consoles import Listener
from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.engine import Engine
from dispatcher.group.events import Event, Founded, Sent, Waiting
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.host.terminalrun import Device, TerminalRun
from dispatcher.line.demultiplexer import Damaged, Demultiplexer, Frame
from dispatcher.line.demultiplexer import Event as LineEvent
from dispatcher.simulator.board import Workshop
from dispatcher.simulator.box import install_box
from dispatcher.simulator.faults import parse_faults
from dispatcher.simulator.plan import PlannedDevice
from dispatcher.view.display import Display
from dispatcher.view.statusview import Plain
from toolkit.wire.packets import HELLO, POLL, REQUEST, unpack_up
from toolkit.wire.vocabulary import ProtocolError

ROWS = {
    "none": "printk=0",
    "20 kernel lines a second": "printk=20",
    "50 kernel lines a second, no time stamps": "printk=50,stamps=0",
    "one byte in 10,000 lost": "drop=1e-4",
    "a bit flipped in one byte in 10,000": "flip=1e-4",
    "all of that": "printk=50,stamps=0,drop=1e-4,flip=1e-4,double=1e-4,delay=0.2",
}
DEVICES = ("panda01", "hb01")
# Bytes of the data of each fifth command.
SIZES = {2: 10, 3: 300, 4: 3000}
# Seconds for a row: far more than it takes, so that what hangs is found out.
LIMIT = 3600.0

# A flipped bit can make Ctrl-C of what is typed; that ends one command, and must not end the script.
SCRIPT = """\
trap : INT
name=$1 count=$2 results=$3 errors=$4
i=1
while [ $i -le $count ]; do
    case $((i % 5)) in
    0) lava-sync --timeout 120 it-$i ;;
    1) answer=$(lava-self) ;;
    2) lava-send $name-$i "data=$(printf %010d $i)" ;;
    3) lava-send $name-$i "data=$(printf %0300d $i)" ;;
    4) lava-send $name-$i "data=$(printf %03000d $i)" ;;
    esac 2>>$errors
    status=$?
    [ $((i % 5)) -ne 1 ] || [ $status -ne 0 ] || [ "$answer" = $name ] || status=wrong
    echo $i $status >>$results
    echo "$name: $i of $count"
    i=$((i+1))
done
"""


@dataclass(slots=True)
class Traffic:
    """What the host saw of one device's commands, by their identities."""

    seen: set[bytes] = field(default_factory=set)
    repaired: set[bytes] = field(default_factory=set)
    repeated: set[bytes] = field(default_factory=set)
    _demultiplexer: Demultiplexer = field(default_factory=Demultiplexer)
    _identities: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _offsets: dict[tuple[int, int], int] = field(default_factory=dict)
    _sequences: dict[int, int] = field(default_factory=dict)  # newest, by nonce or session
    _hello: int = 0
    _marks: set[str] = field(default_factory=set)  # what befell frames whose command is not known yet

    def receive_data(self, data: bytes, now: float) -> None:
        self._note(self._demultiplexer.receive_data(data, now))

    def handle_timeout(self, now: float) -> None:
        self._note(self._demultiplexer.handle_timeout(now))

    def _note(self, events: Sequence[LineEvent]) -> None:
        for event in events:
            if isinstance(event, Damaged):
                self._marks.add("repeated")
            elif isinstance(event, Frame):
                if event.text:
                    self._marks.add("repaired")
                try:
                    self._note_packet(unpack_up(event.body))
                except ProtocolError:
                    self._marks.add("repeated")

    def _note_packet(self, packet: list[int | bytes]) -> None:
        kind, fields = packet[0], packet[1:]
        if kind == HELLO:
            fields = fields[1:]
        link, sequence = int(fields[0]), int(fields[1])
        # A session goes on counting where the hello that opened it left off.
        before = self._sequences.get(link, 0 if kind == HELLO else self._hello)
        if sequence != before + 1:
            self._marks.add("repeated")
        self._sequences[link] = sequence
        if kind == HELLO:
            self._hello = sequence
        if kind not in (REQUEST, POLL):
            return
        key = (link, int(fields[2]))
        if kind == REQUEST:
            offset, chunk = int(fields[4]), fields[7]
            assert isinstance(chunk, bytes)
            if offset == 0:
                # Behind the first byte of the array.
                self._identities[key] = chunk[1:11]
            if offset <= self._offsets.get(key, -1):
                self._marks.add("repeated")
            self._offsets[key] = max(offset, self._offsets.get(key, -1))
        else:
            self._marks.add("repeated")
        identity = self._identities.get(key)
        if identity is not None:
            self.seen.add(identity)
            if "repaired" in self._marks:
                self.repaired.add(identity)
            if "repeated" in self._marks:
                self.repeated.add(identity)
            self._marks.clear()


class Watched:
    """Hands on what a console tells, and looks at its bytes."""

    def __init__(self, listener: Listener, traffic: Traffic) -> None:
        self._traffic = traffic
        self._received = listener.received
        self.drained, self.lost, self.ended = listener.drained, listener.lost, listener.ended

    def received(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._traffic.handle_timeout(now)
        self._traffic.receive_data(data, now)
        self._received(data)


def watch(board: PtyProcess, traffic: Traffic) -> None:
    """Have all bytes of this console looked at."""
    opened = board.open

    async def open_watched(listener: Listener) -> None:
        await opened(Watched(listener, traffic))

    board.open = open_watched  # type: ignore[method-assign]


@dataclass(slots=True)
class Outcome:
    """One row."""

    first_try: int = 0
    repaired: int = 0
    repeated: int = 0
    failed: int = 0
    lost: int = 0
    seconds: float = 0.0
    counters: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def measure(faults: str, count: int, seed: int, box: Path, folder: Path) -> Outcome:
    """Run a row: `count` commands on each device."""
    commands = install_box(box, folder)
    (commands / "python3").symlink_to(Path(sys.executable).resolve())
    workshop = Workshop(
        run=f"reliability-{folder.name}",
        state=folder,
        invoked_in=folder,
        commands=commands,
        shell=["/bin/sh"],
        baud=None,
        private_tmp=None,
        faults=parse_faults(faults),
        fault_seed=seed,
    )
    (folder / "script.sh").write_text(SCRIPT)
    devices = []
    traffic = {name: Traffic() for name in DEVICES}
    for name in DEVICES:
        command = f"exec sh script.sh {name} {count} {folder}/{name}.results {folder}/{name}.errors"
        board = workshop.board(PlannedDevice(name, "tester", command, folder))
        watch(board, traffic[name])
        devices.append(Device(name, "tester", board))
    events: list[Event] = []
    randomness = random.Random(seed)
    display = Display(lambda text: 0, list(DEVICES), colour=False)

    async def run() -> TerminalRun:
        run = TerminalRun(
            devices,
            Engine(randomness.randbytes(8)),
            MemoryGroupLog(),
            display,
            None,
            Plain(lambda text: 0, lambda: None),
            must_end=True,
            token=lambda: randomness.getrandbits(32),
            readers=[events.append],
        )
        await run.run(Founded(0.0, randomness.randbytes(8)), LIMIT)
        return run

    runner = asyncio.run(run())
    outcome = Outcome(seconds=max(row.seconds for row in runner.rows()))
    for name in DEVICES:
        _judge(outcome, name, count, folder, traffic[name], events)
        counters = runner.counters()[name]
        for counter in ("frames", "lines", "repaired", "damaged", "replayed", "refused"):
            outcome.counters[counter] += getattr(counters, counter)
    return outcome


def _judge(
    outcome: Outcome, name: str, count: int, folder: Path, traffic: Traffic, events: list[Event]
) -> None:
    results = _lines(folder / f"{name}.results")
    errors = _lines(folder / f"{name}.errors")
    statuses = {int(number): status for number, status in (line.split() for line in results)}
    done = sum(status == "0" for status in statuses.values())
    lost = {number for number in range(1, count + 1) if statuses.get(number, "wrong") == "wrong"}
    # Each failure has its sentence.
    unexplained = max(0, count - done - len(lost) - len(errors))
    sent = Counter(
        (event.message_id, event.data) for event in events if isinstance(event, Sent) and event.device == name
    )
    synchronised = Counter(
        event.message_id for event in events if isinstance(event, Waiting) and event.device == name
    )
    for number, status in statuses.items():
        size = SIZES.get(number % 5)
        if size is not None:
            message_id = f"{name}-{number}".encode()
            data = ((b"data", b"%0*d" % (size, number)),)
            times = sum(n for (other, _), n in sent.items() if other == message_id)
            right = sent[message_id, data] == times
        elif number % 5 == 0:
            times, right = synchronised[f"it-{number}".encode()], True
        else:
            continue
        if not right or times > 1 or (status == "0" and times != 1):
            lost.add(number)
    done = sum(status == "0" for number, status in statuses.items() if number not in lost)
    failed = count - done - len(lost)
    repeated = max(0, len(traffic.repeated) - failed)
    repaired = len(traffic.repaired - traffic.repeated)
    outcome.repeated += repeated
    outcome.repaired += repaired
    outcome.first_try += done - repeated - repaired
    outcome.failed += failed - unexplained
    outcome.lost += len(lost) + unexplained
    outcome.errors += errors


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="backslashreplace").splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commands", type=int, default=1000, help="in each row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of the faults (default: %(default)s)")
    parser.add_argument("--row", choices=ROWS, action="append", help="only this one")
    arguments = parser.parse_args()
    print(
        "| faults | `--faults` | first try | repaired | repeated | failed | **lost** | frames | cut | damaged |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    errors: list[str] = []
    lost = 0
    with tempfile.TemporaryDirectory(prefix="lavabox-reliability-") as name:
        box = build_zipapp.build(Path(name, "lavabox"))
        for number, row in enumerate(arguments.row or ROWS):
            folder = Path(name, str(number))
            folder.mkdir()
            outcome = measure(ROWS[row], arguments.commands // len(DEVICES), arguments.seed, box, folder)
            counters = outcome.counters
            print(
                f"| {row} | `{ROWS[row]}` | {outcome.first_try} | {outcome.repaired} | {outcome.repeated} "
                f"| {outcome.failed} | **{outcome.lost}** | {counters['frames']} | {counters['repaired']} "
                f"| {counters['damaged']} |",
                flush=True,
            )
            errors += outcome.errors
            lost += outcome.lost
    for sentence, times in Counter(errors).items():
        print(f"\n{times} times: {sentence}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
