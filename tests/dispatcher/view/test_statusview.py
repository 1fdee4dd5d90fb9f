# SPDX-License-Identifier: MIT
"""The status area: what it says, and what a terminal shows of it and of the lines above it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.group.events import Waiting, WaitKind
from dispatcher.group.results import Counts
from dispatcher.view.statusview import (
    FIRST_SILENCE,
    LONGEST_SILENCE,
    REDRAW,
    TICK,
    LiveView,
    Silence,
    Status,
    area,
    statuses,
    summary,
)
from tests.dispatcher.group.play import play
from tests.dispatcher.lavabox_process import PATIENCE, variables

# What it says

GROUP = "join s-1 server\njoin c-1 client\njoin c-2 client\njoin o-1 observer\n"


def found(text: str, **more: object) -> list[Status]:
    coordinator = play(text)
    names = [name for name, _ in coordinator.members]
    return statuses(names, coordinator, **{"ended": {}, "counts": {}, **more})  # type: ignore[arg-type]


def test_area() -> None:
    text = GROUP + "wait-all c-1 ready server as 1\nsync c-2 x as 2\nwait c-2 y as 3"
    counts = {"c-1": Counts(2, 1), "o-1": Counts(3)}
    lines = area(
        found(text, ended={"o-1": "succeeded"}, counts=counts, stuck=frozenset({b"1"})),
        *(16.0, 100, 30, 125.0),
    )
    assert lines == [
        "-- 4 devices: 1 stuck, 1 waiting, 1 running, 1 gone; 2 min 5 s left " + "-" * 31,
        "s-1  running",
        "c-1  stuck    12 s  `lava-wait-all ready server` for s-1 (2 passed, 1 failed)",
        "c-2  waiting  11 s  `lava-sync x` for s-1, c-1 and o-1 (and 1 more)",
        "o-1  gone           succeeded (3 passed)",
    ]


def test_what_is_not_as_it_should_be_is_red() -> None:
    more = {
        "ended": {"o-1": "ended with status 3"},
        "failed": {"o-1", "s-1"},  # who runs may have failed results
        "offline": {"c-1": "connection lost (reset by peer)", "o-1": "of no interest any more"},
    }
    status = found(GROUP + "sync c-1 x", **more)
    lines = area(status, 16.0, 100, 30, None, colour=True)
    assert lines[0].startswith("-- 4 devices: 1 failed, 1 offline, 2 running -")
    assert lines[1:] == [
        "s-1  running",
        "\x1b[31mc-1  offline    connection lost (reset by peer)\x1b[39m",
        "c-2  running",
        "\x1b[31mo-1  failed     ended with status 3\x1b[39m",
    ]
    plain = area(status, 16.0, 100, 30, None)
    assert lines == [
        line if number not in (2, 4) else f"\x1b[31m{line}\x1b[39m" for number, line in enumerate(plain)
    ]


def test_time_left_of_a_wait() -> None:
    timed = Waiting(2.0, "a", b"1", WaitKind.WAIT, b"x", None, 60.0)
    assert Status("a", "waiting", timed, "b").said(12.0) == "`lava-wait x` for b; 50 s left"


def test_many_devices_take_a_third_of_the_height() -> None:
    text = "".join(f"join p{number} peer\n" for number in range(50)) + "sync p40 x\nsync p30 x\nwait p20 y"
    lines = area(found(text, ended={"p1": "succeeded"}), 60.0, 80, 24, None)
    assert lines == [
        "-- 50 devices: 3 waiting, 46 running, 1 gone " + "-" * 34,
        "p40  waiting  10 s  `lava-sync x` for p0, p1, p2 and 45 more",
        "p30  waiting   9 s  `lava-sync x` for p0, p1, p2 and 45 more",
        "p20  waiting   8 s  `lava-wait y` for p0, p1, p2 or 46 more",
        "p0   running",
        "p2   running",
        "p3   running",
        "... and 44 more: 43 running, 1 gone",
    ]


@given(
    st.integers(0, 200),
    st.integers(0, 100),
    st.integers(1, 60),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=" \t\r\n=\x85\xa0"), min_size=1),
)
def test_whatever_the_terminal_it_fits(width: int, height: int, devices: int, message_id: str) -> None:
    text = "".join(f"join p{number} peer\n" for number in range(devices))
    coordinator = play(text)
    for number in range(devices):
        coordinator.apply(
            Waiting(0.0, f"p{number}", b"%d" % number, WaitKind.SYNC, message_id.encode(), None, None)
        )
    names = [name for name, _ in coordinator.members]
    lines = area(statuses(names, coordinator, ended={}, counts={}), 1e6, width, height, 1e6)
    assert len(lines) <= height // 3
    for line in lines:
        assert line.isprintable()
        assert sum(2 if pyte.screens.wcwidth(character) == 2 else 1 for character in line) <= max(
            0, width - 1
        ) + sum(pyte.screens.wcwidth(character) <= 0 for character in line)


def test_summary() -> None:
    text = GROUP + "wait-all c-1 ready server as 1\nsync c-2 x as 2"
    waits = (
        "nothing has happened for 30 s: c-1 has waited 1 min 36 s in `lava-wait-all ready server` for s-1; "
        "c-2 has waited 1 min 35 s in `lava-sync x` for s-1, c-1 and o-1; "
    )
    statuses = found(text, ended={"o-1": "succeeded"})
    assert summary(statuses, 100.0, 30.0, {}) == waits + "of the others 1 running, 1 gone"
    doings = {"s-1": "runs `sleep 9`", "c-1": "runs `lava-wait-all`"}
    assert summary(statuses, 100.0, 30.0, doings) == waits + "s-1 runs `sleep 9`; of the others 1 gone"


def test_summary_of_devices_that_do_not_wait() -> None:
    assert summary(found(GROUP), 100.0, 30.0, {}) == "nothing has happened for 30 s: 4 running"
    doings = {name: f"runs `{name}`" for name in ("s-1", "c-1", "c-2", "o-1")}
    assert summary(found(GROUP), 100.0, 30.0, doings) == (
        "nothing has happened for 30 s: s-1 runs `s-1`; c-1 runs `c-1`; c-2 runs `c-2`; o-1 runs `o-1`"
    )


def test_silence_is_told_of_more_and_more_seldom() -> None:
    silence = Silence()
    assert silence.next_timeout(100.0, awaited=False) is None
    times, now = [], 100.0
    while now < 5000.0:
        due = silence.next_timeout(100.0, awaited=True)
        assert due is not None
        now = due
        times.append(now - 100)
        silence.told(now)
    assert times[:4] == [FIRST_SILENCE, 90.0, 210.0, 450.0]
    assert times[-1] - times[-2] == LONGEST_SILENCE
    assert silence.next_timeout(5000.0, awaited=True) == 5000.0 + FIRST_SILENCE


# What a terminal shows of it


class Terminal:
    """A terminal emulator, and a view that writes to it."""

    def __init__(self, width: int = 40, height: int = 12, *, reflows: bool = False) -> None:
        self.screen = pyte.HistoryScreen(width, height, history=10_000)
        self.screen.set_mode(pyte.modes.LNM)
        self._stream = pyte.Stream(self.screen)
        self.written = 0
        self.lines = ["-- 2 devices", "a  running", "b  waiting"]
        self.view = LiveView(
            self._write,
            lambda: None,
            lambda: (self.screen.columns, self.screen.lines),
            reflows=reflows,
            colour=True,
        )
        self.view.show(lambda now, width, height: [line[: width - 1] for line in self.lines])

    def _write(self, text: str) -> None:
        self.written += len(text)
        self._stream.feed(text)

    @property
    def shown(self) -> list[str]:
        lines = [line.rstrip() for line in self.screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def everything(self) -> list[str]:
        above = [
            "".join(line[column].data for column in range(self.screen.columns)).rstrip()
            for line in self.screen.history.top
        ]
        return above + self.shown


def test_lines_scroll_above_the_area() -> None:
    terminal = Terminal()
    now = 0.0
    for number in range(30):
        terminal.view.write(f"line {number}\n")
        terminal.view.flush(now)
        now += 0.05
    terminal.view.flush(now + 1)
    assert terminal.everything == [*(f"line {number}" for number in range(30)), *terminal.lines]
    assert terminal.shown[-4:] == ["line 29", *terminal.lines]


def test_area_grows_shrinks_and_goes() -> None:
    terminal = Terminal()
    terminal.view.write("one\n")
    terminal.view.flush(0.0)
    terminal.lines = ["-- many", "a", "b", "c", "d"]
    terminal.view.flush(1.0)
    assert terminal.shown == ["one", *terminal.lines]
    terminal.lines = ["-- few"]
    terminal.view.flush(2.0)
    assert terminal.shown == ["one", "-- few"]
    terminal.lines = []
    terminal.view.flush(3.0)
    assert terminal.shown == ["one"]
    terminal.lines = ["-- again", "a"]
    terminal.view.flush(4.0)
    terminal.view.close()
    assert terminal.shown == ["one"]
    assert (terminal.screen.cursor.x, terminal.screen.cursor.y) == (0, 1)
    terminal.view.write("the table\n")
    assert terminal.shown == ["one", "the table"]


def test_a_picture_is_made_five_times_a_second_at_most_and_not_written_again_if_it_is_the_same() -> None:
    terminal = Terminal()
    made = []
    terminal.view.show(lambda now, width, height: made.append(now) or ["area"])  # type: ignore[func-returns-value]
    for step in range(1000):
        terminal.view.flush(step / 1000)
    assert len(made) == round(1 / REDRAW)
    before = terminal.written
    terminal.view.flush(10.0)
    assert terminal.written == before


def test_when_it_wants_to_be_called() -> None:
    terminal = Terminal()
    terminal.view.flush(10.0)
    assert terminal.view.next_timeout() == 10.0 + TICK
    # Something has happened.
    terminal.view.flush(10.05)
    assert terminal.view.next_timeout() == 10.0 + REDRAW
    # A line came just after the area was put there, which is not put there again at once.
    terminal.view.write("line\n")
    terminal.view.flush(10.01)
    due = terminal.view.next_timeout()
    assert due is not None and due < 10.05
    assert terminal.shown == ["line"]
    terminal.view.flush(due)
    assert terminal.shown == ["line", *terminal.lines]


def test_much_output_is_not_held_up() -> None:
    terminal = Terminal()
    lines = 2000
    for number in range(lines):
        terminal.view.write("x" * 30 + "\n")
        terminal.view.flush(number / lines)
    assert terminal.written < 1.5 * lines * 31


def test_resize_of_a_terminal_that_breaks_lines_anew() -> None:
    """As told by the text that is written: up as many rows as the area takes when it is narrow."""
    terminal = Terminal(reflows=True)
    terminal.lines = ["-" * 39, "a" * 39, "b"]
    terminal.view.flush(0.0)
    written: list[str] = []
    terminal.view._write = written.append
    terminal.screen.resize(12, 15)
    terminal.view.flush(0.01)
    assert written[0].startswith("\r\x1b[6A\x1b[J")


@pytest.mark.parametrize("size", [(20, 12), (80, 12), (40, 6), (40, 30), (20, 7)])
def test_resize_of_a_terminal_that_cuts_lines(size: tuple[int, int]) -> None:
    terminal = Terminal()
    terminal.lines = ["-" * 39, "a" * 39]
    for number in range(3):
        terminal.view.write(f"line {number}\n")
    terminal.view.flush(0.0)
    terminal.screen.resize(size[1], size[0])
    terminal.view.flush(0.01)
    width = size[0]
    expected = [
        *(f"line {number}"[:width] for number in range(3)),
        *(line[: width - 1] for line in terminal.lines),
    ]
    assert terminal.shown == expected[-size[1] :]


# The whole


class OnTerminal:
    """`lavabox` on a pty, whose output goes to a terminal emulator."""

    def __init__(self, folder: Path, *arguments: str, size: tuple[int, int] = (80, 24), **more: str) -> None:
        self._master, slave = pty.openpty()
        self.screen = pyte.HistoryScreen(*size, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        self._set_size(*size)
        self.raw = b""
        # Nor does a terminal of this version break long lines anew, as others do.
        environment = variables(TERM="xterm", XTERM_VERSION="1", TMPDIR=str(folder)) | {"CI": ""} | more
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", sys.executable, "-m", "dispatcher", *arguments],
            cwd=folder,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def _set_size(self, width: int, height: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def resize(self, width: int, height: int) -> None:
        """While nothing is on its way, which would have been written for the size before."""
        pid = dispatcher_of(self)
        os.kill(pid, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            pass
        while select.select([self._master], [], [], 0)[0]:
            self._read()
        self.screen.resize(height, width)
        self._set_size(width, height)
        os.kill(pid, signal.SIGCONT)

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    @property
    def shown(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def everything(self) -> str:
        columns = self.screen.columns
        above = [
            "".join(line[column].data for column in range(columns)).rstrip()
            for line in self.screen.history.top
        ]
        return "\n".join([*above, self.shown])

    def until(self, there: Callable[[str], object]) -> None:
        """Wait until the screen is so."""
        # The area changes all the time, so that waiting for the next bytes alone would never end.
        deadline = time.monotonic() + PATIENCE
        while not there(self.shown):
            assert time.monotonic() < deadline and self._read(), f"it never came:\n{self.shown}"

    def _read(self) -> bool:
        assert select.select([self._master], [], [], PATIENCE)[0], f"nothing came any more:\n{self.shown}"
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def finish(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < deadline, f"it does not end:\n{self.shown}"
        os.close(self._master)
        return self.process.wait(PATIENCE)


@pytest.fixture
def start(box: Path, tmp_path: Path) -> Iterator[Callable[..., OnTerminal]]:
    started: list[OnTerminal] = []

    def begin(*arguments: str, **more: object) -> OnTerminal:
        started.append(OnTerminal(tmp_path, "sim", "--box", str(box), *arguments, **more))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for terminal in started:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


WAITS = (
    "--role",
    "server=read x; lava-send ready",
    "--role",
    "client*2=echo hello; lava-wait-all ready server",
)


def test_three_devices(start: Callable[..., OnTerminal]) -> None:
    server = "lava-test-case t --result pass; until [ -e go ]; do sleep 0.1; done; lava-send ready"
    terminal = start("--timeout", "500", "--role", f"server={server}", *WAITS[2:])
    wait = "`lava-wait-all ready server` for server-1"
    terminal.until(lambda text: text.count("| hello\n") == 2)
    # One picture has all of it; line by line it would be looked for in two of them, or in the lines above.
    terminal.until(
        re.compile(
            r"-- 3 devices: 2 waiting, 1 running; 8 min \d+ s left -+\n"
            r"server-1  running .* \(1 passed\)\n"
            rf"client-1  waiting +\d+ s  {wait}\nclient-2  waiting +\d+ s  {wait}\Z"
        ).search
    )
    assert terminal.shown.count("-- 3 devices: ") == 1
    (folder_of(terminal) / "go").touch()
    assert terminal.finish() == 0
    assert "-- 3 devices" not in terminal.everything
    assert "waiting" not in terminal.everything
    for name in ("server-1", "client-1", "client-2"):
        assert re.search(rf"^{name} +! ended with status 0$", terminal.everything, re.MULTILINE)
    assert terminal.shown.splitlines()[-1].startswith("server-1")
    assert terminal.screen.cursor.x == 0


def folder_of(terminal: OnTerminal) -> Path:
    return Path(f"/proc/{terminal.process.pid}/cwd").resolve()


def test_fifty_devices_on_a_narrow_terminal_that_is_resized(start: Callable[..., OnTerminal]) -> None:
    one = "until [ -e go ]; do sleep 0.1; done; echo the end; lava-sync start"
    terminal = start("--role", "peer*49=lava-sync start", "--role", f"other={one}", size=(30, 24))
    terminal.until(lambda text: "-- 50 devices: 49 waiting,..." in text)
    assert len(terminal.shown.splitlines()) <= 8
    terminal.resize(100, 60)
    terminal.until(lambda text: "... and 32 more: 31 waiting, 1 running" in text)
    assert "for other-1" in terminal.shown
    terminal.resize(60, 9)
    terminal.until(lambda text: "... and 49 more: 48 waiting, 1 running" in text)
    terminal.resize(60, 90)
    (folder_of(terminal) / "go").touch()
    assert terminal.finish() == 0
    text = terminal.everything
    assert "waiting" not in text
    assert text.count("other-1 | the end") == 1
    assert text.count("! ended with status 0") == 50
    assert text.count("succeeded") == 50


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_screen_is_clean_after_a_signal(number: signal.Signals, start: Callable[..., OnTerminal]) -> None:
    terminal = start("--role", "a=sleep 1000", "--role", "b=lava-wait x")
    terminal.until(lambda text: "1 waiting, 1 running" in text)
    os.kill(dispatcher_of(terminal), number)
    assert terminal.finish() == 128 + number
    lines = terminal.everything.splitlines()
    assert [line[:7] for line in lines] == ["lavabox", "", "device ", "a-1    ", "b-1    "][-len(lines) :]
    assert terminal.screen.cursor.x == 0


def dispatcher_of(terminal: OnTerminal) -> int:
    """`setsid` starts it as its child where it leads its process group itself."""
    children = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text().split()
    command = Path(f"/proc/{terminal.process.pid}/cmdline").read_bytes().split(b"\0")
    return terminal.process.pid if b"-m" in command[:3] else int(children[0])


def test_ctrl_z_leaves_a_clean_screen(start: Callable[..., OnTerminal]) -> None:
    terminal = start("--role", "a=sleep 1000", "--role", "b=lava-wait x")
    terminal.until(lambda text: "1 waiting, 1 running" in text)
    pid = dispatcher_of(terminal)
    os.kill(pid, signal.SIGTSTP)
    terminal.until(lambda text: "waiting" not in text)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        pass
    os.kill(pid, signal.SIGCONT)
    terminal.until(lambda text: "1 waiting, 1 running" in text)
    terminal.type(b"\x03")
    assert terminal.finish() == 130
    assert "waiting" not in terminal.everything


NOT_LIVE = {
    "--no-live": (("--no-live",), {}),
    "CI": ((), {"CI": "true"}),
    "a dumb terminal": ((), {"TERM": "dumb"}),
}


@pytest.mark.parametrize("name", NOT_LIVE)
def test_no_area(name: str, start: Callable[..., OnTerminal]) -> None:
    arguments, environment = NOT_LIVE[name]
    terminal = start(*arguments, "--role", "a=sleep 1; lava-send x", "--role", "b=lava-wait x", **environment)
    assert terminal.finish() == 0
    assert b"devices: " not in terminal.raw
    assert b"\x1b[J" not in terminal.raw
