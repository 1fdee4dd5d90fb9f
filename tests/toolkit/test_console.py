# SPDX-License-Identifier: MIT
from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import termios
import tty
from pathlib import Path

import pytest

from tests.terminal import OURS, Terminal
from toolkit import console as console_module
from toolkit.console import Console, HungUp, find, kernel_consoles, nobody_answers
from toolkit.wire.framing import MAX_FRAME
from toolkit.wire.vocabulary import NO_DISPATCHER, CommandError

LFLAG = 3
TIOCVHANGUP = 0x5437
OSPEED = 5


# -- finding it --------------------------------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No terminal, and a /sys whose list of consoles is the file that is returned."""
    null = os.open("/dev/null", os.O_RDWR)
    monkeypatch.setattr(console_module, "_STANDARD", (null, null, null))
    monkeypatch.setattr(console_module, "_TTY", str(tmp_path / "none"))
    monkeypatch.setattr(console_module, "_CONSOLE", str(tmp_path / "none"))
    monkeypatch.setattr(console_module, "_ACTIVE", str(tmp_path / "active"))
    return tmp_path / "active"


def found(environ: dict[str, str]) -> str:
    port = find(environ)
    port.close()
    return port.path


def test_the_variable_names_it(terminal: Terminal, nowhere: Path) -> None:
    path = terminal.console.path
    assert found({"LAVA_CONSOLE": path}) == found({"LAVA_CONSOLE": path.removeprefix("/dev/")}) == path


def test_a_name_without_a_folder_is_a_device(nowhere: Path) -> None:
    with pytest.raises(CommandError, match="can't open the console /dev/ttyNONE0: No such file"):
        find({"LAVA_CONSOLE": "ttyNONE0"})


def test_it_can_be_switched_off() -> None:
    with pytest.raises(CommandError, match="LAVA_CONSOLE=off") as caught:
        find({"LAVA_CONSOLE": "off"})
    assert caught.value.status == NO_DISPATCHER


@pytest.mark.parametrize("empty", [{}, {"LAVA_CONSOLE": ""}], ids=["not set", "set empty"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_standard_file_is_looked_at(
    terminal: Terminal, nowhere: Path, monkeypatch: pytest.MonkeyPatch, place: int, empty: dict[str, str]
) -> None:
    files = list(console_module._STANDARD)
    files[place] = terminal.slave
    monkeypatch.setattr(console_module, "_STANDARD", tuple(files))
    assert found(empty) == terminal.console.path


def test_then_the_terminal_of_the_process(
    terminal: Terminal, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere.write_text("ttyNONE0\n")
    monkeypatch.setattr(console_module, "_TTY", terminal.console.path)
    assert found({}) == terminal.console.path


KERNEL = {
    "ttyAMA0 tty1": ["ttyAMA0", "tty1"],
    "tty1 ttyAMA0": ["ttyAMA0", "tty1"],
    "tty0 ttyS0 ttyS1\n": ["ttyS1", "ttyS0", "tty0"],
    "tty0": ["tty0"],
    "hvc0 tty0 ttynull": ["hvc0", "ttynull", "tty0"],
    "": [],
    "\n": [],
}


@pytest.mark.parametrize("active", KERNEL)
def test_then_the_kernel_s_which_is_no_screen_if_there_is_another(nowhere: Path, active: str) -> None:
    nowhere.write_text(active)
    assert kernel_consoles() == ["/dev/" + name for name in KERNEL[active]]


def test_one_of_the_kernel_s_that_cannot_be_opened_is_passed_by(terminal: Terminal, nowhere: Path) -> None:
    nowhere.write_text(f"{terminal.console.path[len('/dev/') :]} ttyNONE0")
    assert found({}) == terminal.console.path


def test_without_sys_it_is_dev_console(
    terminal: Terminal, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "_CONSOLE", terminal.console.path)
    assert found({}) == terminal.console.path


@pytest.mark.parametrize("active", [None, "", "\n"])
def test_without_any_it_says_what_to_do(nowhere: Path, active: str | None) -> None:
    if active is not None:
        nowhere.write_text(active)
    with pytest.raises(CommandError, match="LAVA_CONSOLE=/dev/ttyS0") as caught:
        find({})
    assert caught.value.status == NO_DISPATCHER


def test_when_nobody_answers_the_other_consoles_are_named(nowhere: Path) -> None:
    nowhere.write_text("tty1 ttyS0 ttyS1")
    text = nobody_answers("/dev/ttyS1")
    assert "on the console /dev/ttyS1:" in text and "the kernel also has ttyS0, tty1)" in text
    nowhere.write_text("ttyS1")
    assert "the kernel also has" not in nobody_answers("/dev/ttyS1")


# -- the terminal of another user ----------------------------------------------------------------

# What a child says that cannot open the terminal by name: root may open anything, so it is another user.
OTHER_USER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from toolkit.console import find
from toolkit.wire.vocabulary import CommandError
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    port = find(os.environ)
except CommandError as error:
    print(error.text)
else:
    print(port.path, port.inherited, "%x" % port.number)
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def as_other_user(terminal: Terminal, *, ctty: bool, stdin: bool, named: str = "") -> str:
    command = [sys.executable, "-c", OTHER_USER, str(Path(__file__).parents[2])]
    result = subprocess.run(
        ["setsid", "--ctty", *command] if ctty else ["setsid", *command],
        stdin=terminal.slave if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "LAVA_CONSOLE": named},
        text=True,
        check=True,
        timeout=60,
    )
    return result.stdout.strip()


@needs_root
@pytest.mark.parametrize("named", [False, True])
def test_of_another_user_it_is_dev_tty_or_the_inherited_file(terminal: Terminal, named: bool) -> None:
    os.chmod(terminal.console.path, 0o600)
    number = f"{terminal.console.number:x}"
    name = terminal.console.path if named else ""
    assert as_other_user(terminal, ctty=True, stdin=True, named=name) == f"/dev/tty False {number}"
    assert as_other_user(terminal, ctty=False, stdin=True, named=name) == f"inherited file 0 True {number}"


@needs_root
def test_another_user_without_it_is_told_what_to_do(terminal: Terminal) -> None:
    os.chmod(terminal.console.path, 0o600)
    other = Terminal()
    os.chmod(other.console.path, 0o600)
    for stdin in (other, None):
        text = as_other_user(
            stdin or terminal, ctty=False, stdin=stdin is not None, named=terminal.console.path
        )
        assert text.startswith(f"can't open the console {terminal.console.path}: Permission denied; run the")
    other.close()


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
    # But for the echo: that it was off in what he found was our doing. (A line editor sets it anyway.)
    assert terminal.lflag == (modes | termios.ECHO if mode == termios.ISIG else modes)


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


# -- who reads it --------------------------------------------------------------------------------


def test_a_terminal_that_nobody_reads_is_free_and_stays_as_it_is(terminal: Terminal) -> None:
    before = termios.tcgetattr(terminal.slave)
    assert terminal.console.free()
    terminal.type(b"typed ahead\n")
    terminal.until_waiting(12)
    assert terminal.console.free()
    assert terminal.input() == b"typed ahead\n" and termios.tcgetattr(terminal.slave) == before


def test_who_is_in_a_read_has_it(terminal: Terminal) -> None:
    reader = subprocess.Popen(["head", "-n", "1"], stdin=terminal.slave, stdout=subprocess.PIPE)
    while terminal.console.free():
        os.sched_yield()
    terminal.type(b"half")
    assert not terminal.console.free()
    # It got all of it, and nothing from us.
    terminal.type(b" a line\n")
    assert reader.communicate(timeout=60)[0] == b"half a line\n"
    assert terminal.console.free()


def test_who_edits_lines_has_it(terminal: Terminal) -> None:
    tty.setcbreak(terminal.slave)
    assert not terminal.console.free()


def test_what_cannot_be_told_of_an_inherited_file_does_not_block(terminal: Terminal) -> None:
    reader = subprocess.Popen(["cat"], stdin=terminal.slave, stdout=subprocess.PIPE)
    while terminal.console.free():
        os.sched_yield()
    inherited = Console("inherited file", terminal.slave)
    assert inherited.free()
    inherited.close()
    reader.kill()
    reader.communicate()


# -- hung up -------------------------------------------------------------------------------------


def test_a_terminal_that_was_hung_up_is_opened_again(terminal: Terminal) -> None:
    fcntl.ioctl(terminal.slave, TIOCVHANGUP)
    with pytest.raises(HungUp):
        terminal.console.write(b"frame")
    terminal.console.reopen()
    assert terminal.console.free()
    terminal.console.write(b"frame")
    assert os.read(terminal.master, 100) == b"frame"
    # For whoever closes it.
    os.close(terminal.slave)
    terminal.slave = os.open(terminal.console.path, os.O_RDWR | os.O_NOCTTY)


def test_a_terminal_that_is_gone_is_not_waited_for() -> None:
    terminal = Terminal()
    os.close(terminal.master)
    with pytest.raises(HungUp):
        terminal.console.write(b"frame")
    with pytest.raises(OSError, match=r"No such file|Input/output"):
        terminal.console.reopen()
    os.close(terminal.slave)
