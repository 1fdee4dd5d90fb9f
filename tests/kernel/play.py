# SPDX-License-Identifier: MIT
"""What happens on the guests: a script on both, and what a person may do at a prompt."""

import asyncio
import hashlib
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.figures import Figures, without_leaks
from tests.kernel.guest import PATIENCE, Guest, GuestError
from tests.kernel.serve import Serve

# Seconds that the script may take.
SESSION = 240.0
_LOOK = 0.02
# Waits that are in the background of a prompt, one every half second.
_WAITS = 18
# Seconds that a lava-wait runs before it is killed: while Python starts, while it says hello, while it waits.
_LIVES = (0, 0.1, 0.2, 0.3, 0.4, 0.6, 1)


@dataclass(frozen=True)
class Transcript:
    """What came of what the script printed, and the checksum of what it printed."""

    guest: Guest
    output: bytes
    checksum: bytes


async def run_session(
    figures: Figures, guests: tuple[Guest, Guest], syncs: int, size: int
) -> list[Transcript]:
    """The script on both guests. It judges the answers; what it printed is to be judged afterwards."""
    pattern = r"@@ said (\w+) commands=(\d+) failed=(\d+) wrong=(\d+)\r\n"
    sessions = [guest.run(f"sh session.sh {syncs} {size}", pattern, SESSION) for guest in guests]
    transcripts = []
    for guest, match in zip(guests, await asyncio.gather(*sessions), strict=True):
        commands, failed, wrong = map(int, match.groups()[1:])
        figures.commands += commands
        figures.failed += failed
        figures.lost += wrong
        output = match.string[: match.start()].partition(b"@@ begin\r\n")[2]
        transcripts.append(Transcript(guest, output, match[1]))
    return transcripts


def judge(figures: Figures, transcript: Transcript) -> None:
    """Take a while to find out whether output has come through whole."""
    guest, output = transcript.guest, transcript.output
    for line in output.splitlines():
        if line.startswith((b"@@ failed", b"@@ wrong")):
            figures.errors.append(f"{guest.name}: {line.decode(errors='backslashreplace')}")
    if _sum(output) != transcript.checksum:
        output, leaked = without_leaks(output, guest.line.received)
        figures.leaked += leaked
    if _sum(output) != transcript.checksum:
        figures.lose(f"{guest.name}: the output of the script is not what it printed")


def _sum(output: bytes) -> bytes:
    return hashlib.md5(output.replace(b"\r\n", b"\n")).hexdigest().encode()


async def use_shell(figures: Figures, guest: Guest, other: Guest, shell: str, group_log: Path) -> None:
    """At the prompt of this shell: commands are killed and interrupted."""
    figures.commands += len(_LIVES) + 5
    await guest.run(shell, "")
    for life in _LIVES:
        guest.line.type(f"sh kill.sh {life}\r")
        await guest.expect(f"@@ killed after {life}\r\n")
        _compare(figures, guest, shell, await _type_untouched(guest), f"killed after {life} s")

    mark = shell.replace(" ", "-").replace("--", "")
    guest.line.type(f"lava-wait never-{mark}\r")
    await _entry(group_log, type="waiting", message_id=f"never-{mark}")
    guest.line.type("\x03")
    await guest.expect("ready> ")
    _compare(figures, guest, shell, await _type_untouched(guest), "Ctrl-C", status=130)

    guest.line.type(f"lava-wait later-{mark}\r")
    await _entry(group_log, type="waiting", message_id=f"later-{mark}")
    await other.run(f"lava-send later-{mark}", "")
    await guest.expect("ready> ")

    await _agent_is_killed(guest, other, mark, group_log)
    await guest.run("sh echo.sh", "@@ echo on\r\n")
    await guest.run("exit", "")


async def wait_in_background(figures: Figures, guest: Guest, shell: str) -> None:
    """At the prompt of this shell: it sets modes while waits in its background ask, and end by their time-outs."""
    figures.commands += _WAITS
    await guest.run(shell, "")
    waits = "lava-wait z$i --timeout 2 >/dev/null 2>&1 & sleep .5"
    await guest.run(
        f"for i in $(seq {_WAITS}); do {waits}; done; wait; echo waited-$((6*7))", "waited-42\r\n"
    )
    await guest.run("exit", "")


async def report_results(figures: Figures, guests: tuple[Guest, Guest], count: int, group_log: Path) -> None:
    """Both guests report results; each has to be in the group's log once, as it was reported."""
    pattern = r"@@ reported (\d+) failed=(\d+)\r\n"
    reports = [guest.run(f"sh results.sh {count}", pattern, count * PATIENCE) for guest in guests]
    for match in await asyncio.gather(*reports):
        figures.commands += int(match[1])
        figures.failed += int(match[2])
    wanted = [_result(number) for number in range(1, count + 1)]
    events = [json.loads(line) for line in group_log.read_bytes().splitlines()]
    for guest in guests:
        fields = [
            event["fields"]
            for event in events
            if event.get("kind") == "result" and event["device"] == guest.name
        ]
        if fields != wanted:
            wrong = [pair for pair in itertools.zip_longest(wanted, fields) if pair[0] != pair[1]]
            figures.lose(f"{guest.name}: {len(wrong)} results are wrong, the first: {wrong[0]}")


def _result(number: int) -> list[str | None]:
    """What the log has to hold of case `number` of results.sh."""
    name, kind = f"case {number}", number % 10
    if kind == 0:
        return [name, "fail", None, None]
    return [name, "pass", f"{number}.5", "ms"] if kind < 5 else [name, "skip", None, None]


async def restart_dispatcher(figures: Figures, waiting: Guest, sending: Guest, serve: Serve) -> None:
    """The dispatcher is killed while a guest waits; what that waits for is sent to the next one."""
    figures.commands += 2
    waiting.line.type("lava-wait restarted\r")
    await _entry(serve.group_log, type="waiting", message_id="restarted")
    await serve.restart()
    await sending.run("lava-send restarted; echo status $?", "status 0\r\n")
    await waiting.expect("ready> ")
    await waiting.run("echo status $?", "status 0\r\n")


async def power_cycle(figures: Figures, guest: Guest, other: Guest, group_log: Path) -> None:
    """A guest is switched off while it waits: the wait ends, its messages stay, its new commands work at once."""
    figures.commands += 4
    await guest.run("lava-send before-power-cycle; echo status $?", "status 0\r\n")
    guest.line.type("lava-wait never-after-power-cycle\r")
    await _entry(group_log, type="waiting", message_id="never-after-power-cycle")
    await guest.power_cycle()
    await guest.expect("ready> ")
    await guest.run("lava-self", f"\n{guest.name}\r\n")
    await other.run("lava-wait before-power-cycle; echo status $?", "status 0\r\n")
    await _entry(group_log, type="released", reason="the device rebooted")


async def _type_untouched(guest: Guest) -> bytes:
    """Type a line at once; returns all that came from there to the next prompt behind its output."""
    guest.line.type("echo untouched-$? $((6*7))\r")
    before = await guest.expect(r"untouched-\d+ 42\r\n")
    await guest.expect("ready> ")
    return before.string[: before.end()]


def _compare(figures: Figures, guest: Guest, shell: str, came: bytes, what: str, status: int = 0) -> None:
    strange = [word for word in (b"not found", b"rror", b"L1", b"unexpected") if word in came]
    if strange or f"untouched-{status} ".encode() not in came:
        figures.lose(f"{guest.name}, {shell}, {what}: the next line did not run untouched: {came!r}")


async def _agent_is_killed(guest: Guest, other: Guest, mark: str, group_log: Path) -> None:
    guest.line.type(f"sh agent.sh orphan-{mark}\r")
    await _entry(group_log, type="waiting", message_id=f"orphan-{mark}")
    await other.run(f"lava-send orphan-{mark}", "")
    await guest.expect("@@ after the agent was killed: 0\r\n")
    await guest.expect("ready> ")


async def _entry(group_log: Path, **wanted: str) -> None:
    """Wait until the group's log holds such an event."""
    deadline = time.monotonic() + PATIENCE
    while True:
        events = [json.loads(line) for line in group_log.read_bytes().split(b"\n")[:-1]]
        if any(wanted.items() <= {**event, "data": None}.items() for event in events):
            return
        if time.monotonic() > deadline:
            raise GuestError(f"the group log has no {wanted} after {PATIENCE:g} s")
        await asyncio.sleep(_LOOK)
