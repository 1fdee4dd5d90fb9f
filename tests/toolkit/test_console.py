# SPDX-License-Identifier: MIT
from __future__ import annotations

import io
import os
import termios
import tty
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.terminal import OURS, Terminal, needs_tiocsti
from toolkit import console as console_module
from toolkit.console import Console, _was_ours, find
from toolkit.wire.framing import LINE_KILL, MAX_FRAME, MAX_LINE_BODY, encode_line
from toolkit.wire.vocabulary import NO_DISPATCHER, CommandError

LFLAG = 3
OSPEED = 5


# -- finding it --------------------------------------------------------------------------------


def test_the_variable_names_it() -> None:
    assert find({"LAVA_CONSOLE": "/dev/ttyS7"}) == "/dev/ttyS7"


def test_it_can_be_switched_off() -> None:
    with pytest.raises(CommandError, match="LAVA_CONSOLE=off") as caught:
        find({"LAVA_CONSOLE": "off"})
    assert caught.value.status == NO_DISPATCHER


PLACES = {
    "stdin": ({0: "/dev/a"}, True, "ttyS0", "/dev/a"),
    "stdout, stdin being a file": ({1: "/dev/b"}, True, "ttyS0", "/dev/b"),
    "stderr": ({2: "/dev/c"}, True, "ttyS0", "/dev/c"),
    "the process's terminal": ({}, True, "ttyS0", "/dev/tty"),
    "the kernel's console": ({}, False, "tty0 ttyS1\n", "/dev/ttyS1"),
}


@pytest.mark.parametrize("empty", [{}, {"LAVA_CONSOLE": ""}], ids=["not set", "set empty"])
@pytest.mark.parametrize("name", PLACES)
def test_it_is_looked_for(monkeypatch: pytest.MonkeyPatch, name: str, empty: dict[str, str]) -> None:
    names, has_terminal, active, expected = PLACES[name]
    pretend(monkeypatch, names, has_terminal, active)
    assert find(empty) == expected


@pytest.mark.parametrize("active", [None, "", "\n"])
def test_without_any_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, active: str | None) -> None:
    pretend(monkeypatch, {}, False, active)
    with pytest.raises(CommandError, match="LAVA_CONSOLE=/dev/ttyS0") as caught:
        find({})
    assert caught.value.status == NO_DISPATCHER


def pretend(
    monkeypatch: pytest.MonkeyPatch, names: dict[int, str], has_terminal: bool, active: str | None
) -> None:
    def ttyname(fd: int) -> str:
        if fd in names:
            return names[fd]
        raise OSError(25, "no tty")

    def open_tty(path: str, flags: int) -> int:
        assert path == "/dev/tty"
        if has_terminal:
            return os.dup(0)
        raise OSError(6, "no such device")

    def open_file(path: str) -> io.StringIO:
        assert path == "/sys/class/tty/console/active"
        if active is None:
            raise FileNotFoundError(path)
        return io.StringIO(active)

    monkeypatch.setattr(os, "ttyname", ttyname)
    monkeypatch.setattr(os, "open", open_tty)
    monkeypatch.setattr(console_module, "open", open_file, raising=False)


NO_CONSOLES = {
    "not there": ("{tmp}/none", "can't open the console {tmp}/none: No such file or directory"),
    "a directory": ("{tmp}", "can't open the console {tmp}: Is a directory"),
    "a file": ("{tmp}/file", "the console {tmp}/file is not a terminal"),
    "a FIFO": ("{tmp}/fifo", "the console {tmp}/fifo is not a terminal"),
    "/dev/null": ("/dev/null", "the console /dev/null is not a terminal"),
}


@pytest.mark.parametrize("name", NO_CONSOLES)
def test_what_is_no_console(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    path, text = (each.format(tmp=tmp_path) for each in NO_CONSOLES[name])
    with pytest.raises(CommandError) as caught:
        Console(path)
    assert (caught.value.status, caught.value.text) == (NO_DISPATCHER, text)


def test_each_terminal_has_a_key_of_its_own(terminal: Terminal) -> None:
    other = Terminal()
    assert terminal.console.key() != other.console.key()
    assert Console(terminal.console.path).key() == terminal.console.key()
    # (A socket's abstract name has room for 107 bytes, and is text.)
    assert len(terminal.console.key()) < 40 and terminal.console.key().isascii()
    other.close()


@pytest.mark.parametrize("baud", [9600, 115200, 1500000])
def test_the_speed(terminal: Terminal, baud: int) -> None:
    modes = termios.tcgetattr(terminal.slave)
    modes[OSPEED] = modes[OSPEED - 1] = getattr(termios, f"B{baud}")
    termios.tcsetattr(terminal.slave, termios.TCSANOW, modes)
    assert terminal.console.baud() == baud


# -- modes ---------------------------------------------------------------------------------------


def test_hushed_and_restored(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.slave)
    for _ in range(2):
        terminal.console.hush()
        assert not terminal.lflag & termios.ECHO and terminal.lflag & termios.ICANON
        # Ctrl-C still works.
        assert terminal.lflag & termios.ISIG
        terminal.console.restore()
        assert termios.tcgetattr(terminal.slave) == before


def test_hushed_again_after_somebody_else_has_set_modes(terminal: Terminal) -> None:
    terminal.console.hush()
    terminal.console.hush()
    hushed = terminal.lflag
    terminal.stty(on=termios.ECHO, off=termios.ECHOK)
    before = terminal.lflag
    terminal.console.hush()
    assert terminal.lflag == hushed & ~termios.ECHOK
    terminal.console.restore()
    assert terminal.lflag == before


def test_a_terminal_without_echo_stays_so(terminal: Terminal) -> None:
    terminal.stty(off=termios.ECHO)
    before = terminal.lflag
    terminal.console.hush()
    terminal.console.restore()
    assert terminal.lflag == before


def test_a_raw_terminal_is_raw_again(terminal: Terminal) -> None:
    tty.setraw(terminal.slave)
    before = terminal.lflag
    terminal.console.hush()
    terminal.console.hush()
    terminal.console.restore()
    assert terminal.lflag == before


@pytest.mark.parametrize("mode", [termios.ECHO, termios.ICANON, termios.ISIG])
def test_modes_that_somebody_else_has_set_since_are_his(terminal: Terminal, mode: int) -> None:
    terminal.console.hush()
    modes = terminal.lflag ^ mode
    terminal.stty(on=modes, off=~modes)
    terminal.console.restore()
    assert terminal.lflag == modes


def test_the_echo_comes_back_after_an_agent_was_killed(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.slave)
    terminal.console.hush()
    successor = Console(terminal.console.path)
    successor.hush()
    assert not terminal.lflag & termios.ECHO
    successor.restore()
    assert termios.tcgetattr(terminal.slave) == before


def test_restoring_what_was_not_hushed_changes_nothing(terminal: Terminal) -> None:
    terminal.stty(off=termios.ECHO)
    before = terminal.lflag
    terminal.console.restore()
    assert terminal.lflag == before


def test_a_terminal_that_is_gone_is_nobodys_fault(terminal: Terminal) -> None:
    other = Terminal()
    os.close(other.master)
    other.console.hush()
    other.console.restore()
    other.console.baud()
    assert other.console.backlog() >= 0
    for fd in (other.slave, other.console.read_fd, other.console.write_fd):
        os.close(fd)


# -- reading and writing -------------------------------------------------------------------------


INPUTS = {
    "a line": (b"hello\n", [b"hello"]),
    "several": (b"a\nb\n\nc\n", [b"a", b"b", b"", b"c"]),
    "half a line stays with the terminal": (b"hel", []),
    "one of ours": (OURS, [OURS[1:-1]]),
    "one of ours behind something half typed": (b"rm -rf /" + OURS, [OURS[1:-1]]),
    "an end of file": (b"\x04", []),
    "text up to an end of file, and a line": (b"he\x04llo\n", [b"hello"]),
    "an erased character": (b"hex\x7fllo\n", [b"hello"]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_lines(terminal: Terminal, name: str) -> None:
    data, expected = INPUTS[name]
    terminal.console.hush()
    terminal.type(data)
    assert terminal.lines() == expected


def test_lines_of_a_terminal_in_raw_mode(terminal: Terminal) -> None:
    tty.setraw(terminal.slave)
    lines = []
    for part in (OURS[:10], OURS[10:-1], b"\r", b"a\nb", b"c\n"):
        terminal.type(part)
        lines += terminal.lines()
    assert lines == [OURS[:-1], b"a", b"bc"]


def test_reading_never_waits(terminal: Terminal) -> None:
    with pytest.raises(BlockingIOError):
        terminal.console.read_lines()
    # And it does not make the caller's own descriptors such.
    assert os.get_blocking(terminal.slave)
    assert os.get_blocking(terminal.console.write_fd)


def test_an_endless_line_takes_bounded_memory(terminal: Terminal) -> None:
    tty.setraw(terminal.slave)
    for _ in range(30):
        terminal.type(b"x" * 1000)
        terminal.lines()
    assert len(terminal.console._input) <= 8192
    terminal.type(b"\n" + OURS)
    assert terminal.lines()[-1] == OURS[:-1]


def test_a_frame_is_written_whole(terminal: Terminal) -> None:
    terminal.console.write(b"f" * MAX_FRAME)
    assert os.read(terminal.master, 4096) == b"f" * MAX_FRAME
    assert terminal.console.backlog() == 0


# -- what is whose -------------------------------------------------------------------------------

TYPED = [
    b"",
    b"ls",
    b"exit 1",
    b"./run-tests.sh",
    b"./configure.sh --prefix=/usr",
    b"python3 run-tests.py",
    b"python3 Test.py",
    b"sh ./my-test.sh",
    b"vi results.txt",
    b"cat test-results.output",
    b"lava-test-case Boot --result pass",
    b"# a comment",
    b"root",
    b"aVeryLongPasswordWithCapitals1234567890",
    b"http://192.168.1.1/Image.gz",
    "grüße an alle".encode(),
]


@pytest.mark.parametrize("line", TYPED)
def test_what_people_type_is_theirs(line: bytes) -> None:
    assert not _was_ours(line)


@settings(max_examples=300)
@given(st.binary(min_size=10, max_size=MAX_LINE_BODY), st.data())
def test_damaged_lines_of_ours_are_ours(body: bytes, data: st.DataObject) -> None:
    """A flipped, lost or doubled byte anywhere, or the beginning lost to an overrun."""
    line = encode_line(body)[1:-1]
    position = data.draw(st.integers(0, len(line) - 1))
    kind = data.draw(st.sampled_from(["flip", "drop", "double", "overrun"]))
    if kind == "flip":
        changed = line[position] ^ 1 << data.draw(st.integers(0, 7))
        damaged = line[:position] + bytes((changed,)) + line[position + 1 :]
    elif kind == "drop":
        damaged = line[:position] + line[position + 1 :]
    elif kind == "double":
        damaged = line[:position] + line[position:]
    else:
        damaged = line[min(position, len(line) - 22) :]
    if damaged.lower() == damaged:
        return  # (One body in a thousand has no capitals.)
    assert _was_ours(damaged)


@needs_tiocsti
def test_what_somebody_typed_meanwhile_is_given_back(terminal: Terminal) -> None:
    terminal.console.hush()
    for line, ours in (
        (b"echo hello", False),
        (OURS[1:-1], True),
        (OURS[1:30], False),
        (b"", False),
        (b"echo again", False),
        (b"", False),
    ):
        terminal.console.sort(line, ours)
    terminal.console.restore()
    # An empty line behind one of ours is what a terminal server makes of its end.
    assert terminal.input() == b"echo hello\necho again\n\n"
    terminal.console.hush()
    terminal.console.restore()
    assert terminal.input() == b""


@needs_tiocsti
def test_cr_lf_leaves_nothing_behind(terminal: Terminal) -> None:
    terminal.console.hush()
    terminal.type(LINE_KILL + OURS[1:-1] + b"\r\n" + b"typed\n")
    for line in terminal.lines():
        terminal.console.sort(line, line == OURS[1:-1])
    terminal.console.restore()
    assert terminal.input() == b"typed\n"


@needs_tiocsti
def test_half_a_line_is_given_back(terminal: Terminal) -> None:
    tty.setraw(terminal.slave)
    terminal.type(b"half")
    assert terminal.lines() == []
    terminal.console.restore()
    assert terminal.input() == b"half"
