# SPDX-License-Identifier: MIT
"""Holding a console for a moment beside a shell that reads it, too."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import termios
import tty
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.terminal import OURS, Terminal, needs_tiocsti
from toolkit import sharing as sharing_module
from toolkit.sharing import Sharing, without
from toolkit.wire.framing import LINE_KILL

LFLAG, CC = 3, 6
# Seconds after which a shell is taken to be idle, whatever it does.
LONG = 1.0


@pytest.fixture
def shell() -> Iterator[int]:
    """A process that sleeps, as a shell at its prompt does."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    process.stdout.read(1)
    while sharing_module._activity(process.pid) == 0:
        os.sched_yield()
    yield process.pid
    process.kill()
    process.communicate()


def taken(sharing: Sharing, others: int, begin: float = 100.0) -> list[bool]:
    """Ask every 10 ms, until it is taken or LONG seconds are over."""
    answers: list[bool] = []
    while not (answers and answers[-1]) and len(answers) < LONG / 0.01:
        answers.append(sharing.take(begin + 0.01 * len(answers), others))
    return answers


def raw(terminal: Terminal) -> None:
    tty.setraw(terminal.slave)


def readable(terminal: Terminal) -> bool:
    return bool(select.select([terminal.slave], [], [], 0)[0])


def test_beside_a_program(terminal: Terminal, shell: int) -> None:
    before = termios.tcgetattr(terminal.slave)
    sharing = Sharing(terminal.console)
    assert len(taken(sharing, shell)) == 6
    assert not sharing.muffled and not terminal.lflag & termios.ECHO
    sharing.release()
    assert termios.tcgetattr(terminal.slave) == before
    assert not sharing.held


def test_between_two_commands_it_waits_whether_a_prompt_comes(terminal: Terminal, shell: int) -> None:
    sharing = Sharing(terminal.console)
    raw(terminal)
    assert not sharing.take(100.0, shell)
    for begin in (100.01, 100.2):
        terminal.stty(on=termios.ICANON)
        for number in range(18):
            assert not sharing.take(begin + 0.01 * number, shell)
        raw(terminal)
        assert not sharing.take(begin + 0.18, shell)
    terminal.stty(on=termios.ICANON)
    assert len(taken(sharing, shell, 100.4)) == 21
    sharing.release()
    assert len(taken(sharing, os.getpid(), 100.7)) == 6


def test_a_line_editor_at_its_prompt_is_kept_asleep(terminal: Terminal, shell: int) -> None:
    raw(terminal)
    before = termios.tcgetattr(terminal.slave)
    sharing = Sharing(terminal.console)
    assert taken(sharing, shell)[-1] and sharing.muffled
    terminal.type(OURS)
    terminal.until_waiting(len(OURS))
    assert not readable(terminal)
    assert [line[-len(OURS) + 2 :] for line in terminal.console.read_lines()] == [OURS[1:-1]]
    sharing.release()
    assert termios.tcgetattr(terminal.slave) == before


@pytest.mark.parametrize("state", ["runs", "wakes up again and again"])
def test_a_line_editor_that_is_busy_is_let_alone(
    state: str, terminal: Terminal, shell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw(terminal)
    before = termios.tcgetattr(terminal.slave)
    numbers = iter(range(1, 1000))
    monkeypatch.setattr(sharing_module, "_activity", lambda pid: 0 if state == "runs" else next(numbers))
    sharing = Sharing(terminal.console)
    assert not any(taken(sharing, shell))
    assert termios.tcgetattr(terminal.slave) == before
    # Rather than let a command fail.
    assert sharing.take(100.0 + sharing_module._HURRY, shell) and sharing.muffled


def test_a_line_editor_whose_output_is_on_the_way_is_let_alone(
    terminal: Terminal, shell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw(terminal)
    monkeypatch.setattr(type(terminal.console), "backlog", lambda console: 1)
    assert not any(taken(Sharing(terminal.console), shell))


def test_activity() -> None:
    assert sharing_module._activity(os.getpid()) == 0
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    seen = set()
    for _ in range(3):
        process.stdin.write(b"x")
        process.stdin.flush()
        process.stdout.read(1)
        while sharing_module._activity(process.pid) == 0:
            os.sched_yield()
        seen.add(sharing_module._activity(process.pid))
    assert len(seen) == 3
    process.communicate()


def test_nobody_that_is_known_of(terminal: Terminal) -> None:
    raw(terminal)
    sharing = Sharing(terminal.console)
    assert sharing.take(100.0, 0) and sharing.muffled


@pytest.mark.parametrize("editor", [False, True])
def test_a_shell_that_begins_to_read_has_what_comes(editor: bool, terminal: Terminal, shell: int) -> None:
    """It goes to its prompt, or on to the next one."""
    if editor:
        raw(terminal)
    sharing = Sharing(terminal.console)
    assert taken(sharing, shell)[-1] and not sharing.lost()
    raw(terminal)
    assert sharing.lost()
    now = termios.tcgetattr(terminal.slave)
    terminal.type(b"typed")
    terminal.until_waiting(5)
    sharing.release()
    assert termios.tcgetattr(terminal.slave) == now
    assert terminal.input() == b"typed"


def test_a_shell_that_goes_on_to_a_command_has_its_modes(terminal: Terminal, shell: int) -> None:
    before = termios.tcgetattr(terminal.slave)
    raw(terminal)
    sharing = Sharing(terminal.console)
    assert taken(sharing, shell)[-1]
    termios.tcsetattr(terminal.slave, termios.TCSANOW, before)
    assert sharing.lost()
    sharing.release()
    assert termios.tcgetattr(terminal.slave) == before


def test_modes_that_a_shell_took_over_are_mended(terminal: Terminal, shell: int) -> None:
    before = termios.tcgetattr(terminal.slave)
    sharing = Sharing(terminal.console)
    sharing.mend()
    assert termios.tcgetattr(terminal.slave) == before
    raw(terminal)
    sharing.mend()
    assert taken(sharing, shell)[-1]
    # What it was about to set was undone, what it finds now it puts back later.
    found = termios.tcgetattr(terminal.slave)
    sharing.mend()
    assert termios.tcgetattr(terminal.slave) == found
    raw(terminal)
    sharing.release()
    sharing.mend()
    termios.tcsetattr(terminal.slave, termios.TCSANOW, found)
    sharing.mend()
    assert termios.tcgetattr(terminal.slave) == before


def test_what_a_killed_agent_has_left_is_mended(terminal: Terminal, shell: int) -> None:
    raw(terminal)
    assert taken(Sharing(terminal.console), shell)[-1]
    Sharing(terminal.console).mend()
    modes = termios.tcgetattr(terminal.slave)
    for flag in (termios.ICANON, termios.ECHO, termios.ISIG):
        assert modes[LFLAG] & flag
    assert modes[0] & termios.ICRNL
    terminal.type(b"line\r")
    terminal.until_waiting(5)
    assert terminal.input() == b"line\n"


def test_a_job_that_comes_to_the_foreground_has_no_muffled_console(terminal: Terminal, shell: int) -> None:
    before = termios.tcgetattr(terminal.slave)
    sharing = Sharing(terminal.console)
    sharing.mend()
    raw(terminal)
    assert taken(sharing, shell)[-1]
    sharing.take(101.0, os.getpid())
    sharing.mend()
    assert termios.tcgetattr(terminal.slave) == before


@needs_tiocsti
def test_keys_are_given_back_in_their_order(terminal: Terminal, shell: int) -> None:
    raw(terminal)
    sharing = Sharing(terminal.console)
    assert taken(sharing, shell)[-1]
    terminal.type(b"ec" + LINE_KILL + OURS[1:-1] + b"\n" + b"ho ")
    for line in terminal.lines():
        terminal.console.sort(line, OURS[1:-1] in line)
    terminal.type(b"hello\r")
    terminal.until_waiting(6)
    sharing.release()
    assert terminal.input() == b"echo hello\r"


@needs_tiocsti
def test_keys_that_come_while_others_are_given_back(
    terminal: Terminal, shell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw(terminal)
    sharing = Sharing(terminal.console)
    assert taken(sharing, shell)[-1]
    terminal.type(b"abc")
    terminal.until_waiting(3)
    give_back = terminal.console.give_back
    late = [b"d", b"ef"]

    def interrupted(self: object, typed: bytes) -> bool:
        if late:
            give_back(typed[:2])
            terminal.type(late[0])
            terminal.until_waiting(2 + len(late[0]))
            late.pop(0)
            typed = typed[2:]
        return give_back(typed)

    monkeypatch.setattr(type(terminal.console), "give_back", interrupted)
    sharing.release()
    assert terminal.input() == b"abcdef"


@given(st.data())
def test_a_part_is_taken_out(data: st.DataObject) -> None:
    part = data.draw(st.binary(max_size=6))
    late = data.draw(st.binary(max_size=6).filter(lambda late: not set(late) & set(part)))
    mixed, rest = bytearray(), list(late)
    for byte in part:
        for _ in range(data.draw(st.integers(0, len(rest)))):
            mixed.append(rest.pop(0))
        mixed.append(byte)
    assert without(bytes(mixed) + bytes(rest), part) == late


def test_a_terminal_that_is_gone(shell: int) -> None:
    terminal = Terminal()
    os.close(terminal.master)
    sharing = Sharing(terminal.console)
    assert sharing.take(100.0, shell)
    assert not sharing.lost()
    sharing.mend()
    sharing.release()
    for fd in (terminal.slave, terminal.console.read_fd, terminal.console.write_fd):
        os.close(fd)


def test_the_process_runs_as_before() -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with sharing_module._Undisturbed():
        pass
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
