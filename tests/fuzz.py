# SPDX-License-Identifier: MIT
"""`make fuzz`: coverage-guided fuzzing, by atheris, of everything that parses bytes from the line,
and of files: jobs, scripts, device configuration, group logs.

    python tests/fuzz.py [--runs N] [--seed S] [TARGET ...]

Each target runs in a process of its own, and ends it at the first exception, at an input that
takes more than TIME_LIMIT seconds of processor time, or when it takes more than MEMORY_LIMIT. What fell is then in
build/fuzz/TARGET/, and `python tests/fuzz.py TARGET build/fuzz/TARGET/crash-...` repeats it.

Checksums would keep a fuzzer out, so where they protect something the target puts the right one on.
"""

import argparse
import contextlib
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

# As on the devices; and compiled code can't be looked into.
os.environ["MSGPACK_PUREPYTHON"] = "1"
with atheris.instrument_imports(include=["toolkit", "dispatcher", "msgpack"]):
    from bench.puregroup import PureGroup
    from dispatcher.errors import SetupError, UsageError
    from dispatcher.group import deadend
    from dispatcher.group.configuration import parse_configuration
    from dispatcher.group.coordinator import Coordinator
    from dispatcher.group.doings import doings
    from dispatcher.group.events import (
        Event,
        Joined,
        Left,
        Released,
        Reported,
        Sent,
        Unlocked,
        Waiting,
        WaitKind,
        Whom,
    )
    from dispatcher.jobs.model import Definition, Place, Role, Step, TestAction
    from dispatcher.jobs.reader import read_job
    from dispatcher.jobs.repositories import Repositories
    from dispatcher.line.demultiplexer import Demultiplexer
    from dispatcher.line.textsignals import MARKER as SIGNAL
    from dispatcher.line.textsignals import MAX_SIGNAL, Malformed, Scanner
    from dispatcher.plan.calls import ScriptFile
    from dispatcher.plan.expected import expect
    from dispatcher.plan.lint import findings
    from dispatcher.plan.plantable import expected_table
    from dispatcher.plan.programs import programs
    from dispatcher.report.flow import table
    from dispatcher.report.flow.files import written
    from dispatcher.report.flow.model import Fold
    from dispatcher.view.statusview import statuses
    from toolkit.wire import packets
    from toolkit.wire.device_link import DeviceLink
    from toolkit.wire.framing import (
        MARKER,
        MAX_FRAME_BODY,
        MAX_LINE_BODY,
        TERMINATOR,
        encode_frame,
        encode_line,
    )
    from toolkit.wire.transfer import seal
    from toolkit.wire.vocabulary import ProtocolError, pack, pack_request, unpack_reply

TIME_LIMIT = 10  # seconds of processor time for one input, in instrumented code
ENDLESS = 600  # seconds of any time, after which libFuzzer says where it is
MEMORY_LIMIT = 1024  # MiB
MAX_INPUT = 4096
TOKEN = 0x12345678
HELLO = packets.pack_packet(packets.HELLO, packets.VERSION, 1, 1, 1)


class Pieces:
    """An input cut into pieces: each begins with its size, and something about it."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __iter__(self) -> "Pieces":
        return self

    def __next__(self) -> tuple[int, bytes]:
        """(a number from 0 to 255, the piece)"""
        if len(self._data) < 3:
            raise StopIteration
        number, size = self._data[0], int.from_bytes(self._data[1:3], "big") % (MAX_FRAME_BODY + 1)
        piece, self._data = self._data[3 : 3 + size], self._data[3 + size :]
        return number, piece


def console(data: bytes) -> None:
    """The demultiplexer: any bytes in any chunks. What comes out is what went in, in order."""
    demultiplexer, now = Demultiplexer(), 0.0
    events, taken = [], b""
    for number, piece in Pieces(data):
        # An escape sequence is long, and its beginning worth a byte.
        chunk = piece.replace(b"\xfe", MARKER).replace(b"\xfd", TERMINATOR)
        if number & 1:
            chunk = encode_frame(piece)[: 800 - (number >> 1)] + chunk
        taken += chunk
        now += number / 16
        events += demultiplexer.handle_timeout(now) + demultiplexer.receive_data(chunk, now)
    events += demultiplexer.flush()
    assert b"".join(event.raw for event in events) == taken


def numbers(piece: bytes, count: int, other: int) -> list[Any]:
    """The numbers that a piece begins with; if `other`, one of them is none."""
    values: list[Any] = [int.from_bytes(piece[2 * at : 2 * at + 2], "big") for at in range(count)]
    if other and piece:
        values[piece[-1] % count] = (piece[:4], "x", None, [1], {}, -1, 1.5, True)[piece[0] % 8]
    return values


def group_of(count: int) -> PureGroup:
    tokens = itertools.chain([TOKEN] * count, itertools.count(TOKEN + 1))
    group = PureGroup(lambda: next(tokens))
    for number in range(count):
        group.join(f"d{number}", "tester", 0.0)
        group.receive_data(f"d{number}", encode_frame(HELLO), 0.0)
        assert len(group.data_to_type(0.0)) == 1
    return group


def drain(group: PureGroup, now: float) -> None:
    group.data_to_type(now)
    group.engine.new_results()
    group.engine.notices()


def frames(data: bytes) -> None:
    """The session: intact frames with any body, or with the fields of a packet that are any numbers."""
    group, now = group_of(2), 0.0
    for number, piece in Pieces(data):
        body = piece
        if number & 1:
            kind = number >> 1 & 3
            fields = numbers(piece, 7, number & 64)
            body = pack([kind, TOKEN, *fields, piece[14:]][: len(packets.UP_FIELDS[kind]) + 1])
        now += number / 4
        group.handle_timeout(now)
        group.receive_data(f"d{number >> 3 & 1}", encode_frame(body[:MAX_FRAME_BODY]), now)
        drain(group, now)


def requests(data: bytes) -> None:
    """The operations: whole requests with any content, or a known operation with any arguments."""
    group, now = group_of(2), 0.0
    names = ["self", "role", "group", "send", "wait", "wait-all", "sync", "result", "reference", "config"]
    names += ["case-start", "case-end", "set-start", "set-stop", "run-start", "run-end", "raise", "feedback"]
    for sequence, (number, piece) in enumerate(Pieces(data), start=2):
        message = piece
        if number & 1:
            # An array with the right head, and any items behind it.
            head = pack_request(
                sequence.to_bytes(8, "big"), names[number % len(names)], *[None] * (number >> 5)
            )
            message = head[: len(head) - (number >> 5)] + piece
        sealed = seal(message)
        for offset in range(0, len(sealed), 400):
            chunk = sealed[offset : offset + 400]
            fields = (
                TOKEN,
                sequence * 8 + offset // 400,
                sequence,
                number & 31,
                offset,
                len(sealed),
                1,
                chunk,
            )
            frame = encode_frame(packets.pack_packet(packets.REQUEST, *fields))
            group.receive_data(f"d{number >> 4 & 1}", frame, now)
        now += number / 16
        group.handle_timeout(now)
        drain(group, now)


def signals(data: bytes) -> None:
    """LAVA's text signals: any bytes, among them the beginning of a signal."""
    scanner, offset = Scanner(), 0
    for _, piece in Pieces(data):
        chunk = piece.replace(b"\xfe", SIGNAL).replace(b"\xfd", SIGNAL + b"TESTCASE TEST_CASE_ID=")
        found = scanner.receive_data(chunk)
        offset += len(chunk)
        for item in found:
            assert item.offset <= offset
            assert not isinstance(item, Malformed) or len(item.text) <= MAX_SIGNAL
    scanner.flush()


def lines(data: bytes) -> None:
    """The device's link: any lines, and intact ones with any body or any numbers."""
    link, now = DeviceLink(1, 1, 115200), 0.0
    link.submit(pack_request(b"12345678", "wait", b"x", None), now)
    for number, piece in Pieces(data):
        body = piece[:MAX_LINE_BODY]
        if number & 1:
            kind = number >> 1 & 3
            fields = numbers(piece, 6, number & 128)
            if kind == packets.WELCOME:
                fields[:3] = [packets.VERSION, 1, 0]
            else:
                fields[0] = TOKEN
            body = pack([kind, *fields, piece[12:]][: len(packets.DOWN_FIELDS[kind]) + 1])[:MAX_LINE_BODY]
        link.receive_line(piece if number & 8 else encode_line(body), now)
        if number & 16:
            link.submit(pack_request(b"87654321", "self"), now)
        if number & 32:
            link.attend(bool(number & 64))
            if not link.attended:
                link.answer_lost()
                link.keep()
        now += number / 64
        link.handle_timeout(now)
        for _ in range(4):
            link.next_frame(now)
        link.replies()


def replies(data: bytes) -> None:
    """What a command reads: any reply."""
    try:
        status, values = unpack_reply(data)
    except ProtocolError:
        return
    assert isinstance(status, int) and isinstance(values, list)


# Files. What grows faster than its file shows as an input that takes too much time or memory: each
# piece of an input says how often a part of a file stands there, so that few bytes make a long file.

SCRIPT = (
    *("a=$a$a\n", "b=$a-$b\n", "lava-send x$a\n", "lava-wait x$b\n", "lava-sync s\n", "lava-wait-all x r1\n"),
    *(
        "f() {\n",
        "}\n",
        "f $@ $a\n",
        "if [ $a = x ]; then\n",
        "else\n",
        "fi\n",
        "for i in $a $b; do\n",
        "done\n",
    ),
    *(
        "while true; do\n",
        "case $a in x*)\n",
        ";; esac\n",
        "(",
        ")",
        "$(",
        "`",
        '"',
        "'",
        "${a%x*}",
        "${a//x/$b}",
    ),
    *("set -- $@ $a\n", 'eval "$a"\n', "sh -c '", "./x.sh $a\n", ". ./x.sh\n", "shift\n", "trap 'f' EXIT\n"),
    *("cat <<END\n", "END\n", "$((a+1))", "{1..9}", " && ", " || ", " | ", " & ", "a=$(echo $a)\n", "x", " "),
    *(
        "while getopts ab: o; do\n",
        "lava-send m k$a=$b\n",
        "export a\n",
        "local a=$b\n",
        "unset a\n",
        "return\n",
    ),
)
JOB = (
    *(
        "job_name: x\n",
        "actions:\n",
        "- test:\n",
        "    role: a\n",
        "    definitions:\n",
        "    - from: inline\n",
    ),
    *("      name: x\n      path: x\n", "      repository: {run: {steps: [lava-sync x]}}\n", "protocols:\n"),
    *(
        "  lava-multinode:\n",
        "    roles:\n",
        "      a: {count: 3}\n",
        "      b: {count: 900}\n",
        "&a ",
        "*a ",
        "- ",
    ),
    *(
        "[",
        "]",
        "{",
        "}",
        ": ",
        ",",
        "x",
        "\n",
        " ",
        "'",
        '"',
        "    repeat: 900\n",
        "<<: *a\n",
        "!!str ",
        "? ",
        "|\n",
    ),
)
CONFIGURATION = (
    *(
        "[devices.a]\n",
        "[devices.b]\n",
        "[shared]\n",
        "[devices.a.storage]\n",
        "target-ip = '1'\n",
        "a.",
        "b = 1\n",
    ),
    *("text = '''\n", "'''\n", "x = [\n", "]\n", "{a=", "}", ",", "[[", "]]", "'", '"', "\n", "#", "1", "x"),
)


def made(data: bytes, parts: Sequence[str]) -> str:
    """A file of these parts, each as often as a byte says; 1 MB at most."""
    pairs = zip(data[::2], data[1::2], strict=False)
    return "".join(parts[part % len(parts)] * (1 + times) for part, times in pairs)[:1_000_000]


def devices_of(roles: Sequence[Role]) -> list[tuple[str, Role]]:
    return [(f"{role.name}-{number + 1}", role) for role in roles for number in range(role.count)]


def scripts(data: bytes) -> None:
    """Scripts of definitions, planned for two roles: any shell text."""
    half = len(data) // 2
    place, roles = Place("x", 1), []
    texts = [made(data[:half], SCRIPT), made(data[half:], SCRIPT)]
    for number, text in enumerate(texts):
        definition = Definition("x", place, steps=(Step(text, place),))
        roles.append(Role(f"r{number}", 2, place, (TestAction(place, definitions=(definition,)),)))
    expected = expect(programs(devices_of(roles), lambda _: lambda path: ScriptFile(path, texts[0][:5000])))
    findings(expected)
    table.text(expected_table(expected, "device"), 120)


def jobs(data: bytes) -> None:
    """Job files: any text, among it the parts of a job."""
    path = ROOT / "build" / "fuzz" / f"job-{os.getpid()}.yaml"
    path.write_text(made(data, JOB))
    try:
        job = read_job(path, Repositories())
        if sum(role.count for role in job.roles) <= 1000:
            findings(expect(programs(devices_of(job.roles), lambda _: lambda _: None)))
    except (SetupError, UsageError):
        pass
    finally:
        path.unlink()


def configurations(data: bytes) -> None:
    """Device configurations: any text, among it tables and values."""
    with contextlib.suppress(ValueError):
        parse_configuration(made(data, CONFIGURATION))


def group_logs(data: bytes) -> None:
    """Group logs: any events, some of them many times; drawn, judged, and told of as a run does."""
    fold, group, count = Fold(), Coordinator(), 0
    for number, times in zip(data[::2], data[1::2], strict=False):
        for _ in range(1 + times):
            count += 1
            device, request = f"d{number >> 4 if number & 8 else count % 500}", b"%d" % count
            if count > 20_000:
                break
            join = Joined(count, device, b"j" + device.encode(), f"r{number & 1}")
            for event in (join, _event(number, count, device, request)):
                fold.apply(event)
                group.apply(event)
    names = [name for name, _ in group.members]
    doings(group, count)
    statuses(names, group, ended={}, counts={})
    deadend.find(group, names, count)
    flow = fold.finish()
    for form in ("text", "html"):
        written(flow, form, "x")


def _event(number: int, count: int, device: str, request: bytes) -> Event:
    """One of these, about the same messages as others or a new one."""
    message = b"m%d" % (count if number & 8 else number >> 6)
    role, some, names = (
        f"r{number >> 7}",
        1 + count % 30,
        tuple(f"d{count % 500 + place}" for place in range(3)),
    )
    waits: tuple[tuple[WaitKind, Whom], ...] = (
        *((WaitKind.WAIT, None), (WaitKind.NEXT, None), (WaitKind.LOCK, None), (WaitKind.WAIT_ALL, None)),
        *(
            (WaitKind.WAIT_ALL, role),
            (WaitKind.WAIT_ALL, names),
            (WaitKind.SYNC, None),
            (WaitKind.SYNC, some),
        ),
    )
    match number & 7:
        case 0:
            return Sent(count, device, request, message, ((b"k", b"v"),) * (number >> 5))
        case 1 | 2:
            kind, whom = waits[number >> 5]
            return Waiting(count, device, request, kind, message, whom, 1.0 if number & 16 else None)
        case 3:
            return Unlocked(count, device, request, message)
        case 4:
            return Reported(count, device, request, "result", (f"c{count}", "fail", None, None), 0)
        case 5:
            return Released(count, b"r%d" % count, b"%d" % (count - 1), 1, f"reason {count}")
        case _:
            return Left(count, device, b"l%d" % count, "ended")


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        *(console, frames, requests, signals, lines, replies),
        *(scripts, jobs, configurations, group_logs),
    )
}


def run_target(name: str, arguments: list[str]) -> None:
    """Fuzz in this process; does not return."""

    def measured(data: bytes) -> None:
        started = time.process_time()
        TARGETS[name](data)
        # Other programs do not count, on a machine that does not only fuzz.
        assert time.process_time() - started < TIME_LIMIT

    atheris.Setup([sys.argv[0], *arguments], measured)
    atheris.Fuzz()


def run_all(names: list[str], runs: int, seed: int) -> int:
    print(
        "| target | what | executions | seconds | new coverage last at |\n|---|---|---|---|---|", flush=True
    )
    for name in names:
        folder = ROOT / "build" / "fuzz" / name
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
        options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={MAX_INPUT}", f"-timeout={ENDLESS}"]
        options += [f"-rss_limit_mb={MEMORY_LIMIT}", f"-artifact_prefix={folder}/", str(folder / "corpus")]
        started = time.monotonic()
        command = [sys.executable, __file__, "--in-process", name, *options]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        match = re.search(r"Done (\d+) runs", done.stderr)
        if done.returncode != 0 or match is None:
            print(done.stdout + done.stderr, file=sys.stderr)
            print(f"{name}: fell; the input is in {folder}", file=sys.stderr)
            return 1
        newest = re.findall(r"#(\d+)\s+(?:NEW|REDUCE)", done.stderr)
        what = (TARGETS[name].__doc__ or "").partition(":")[0]
        seconds = time.monotonic() - started
        print(f"| `{name}` | {what} | {match[1]} | {seconds:.0f} | {(newest or ['0'])[-1]} |", flush=True)
    return 0


def main() -> int:
    if sys.argv[1:2] == ["--in-process"]:
        run_target(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200_000, help="of each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)"
    )
    arguments = parser.parse_args()
    names: list[str] = arguments.targets
    if len(names) == 2 and names[0] in TARGETS and Path(names[1]).is_file():
        run_target(names[0], [names[1]])
    for name in names:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}")
    return run_all(names or list(TARGETS), arguments.runs, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
