# SPDX-License-Identifier: MIT
"""The agent and its commands as processes, on ptys that an engine serves.

The timers and the states of the link are tested without them: tests/toolkit/wire/test_device_link.py.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import toolkit.agent
from dispatcher.group.events import Sent, Waiting
from tests.consoles import PATIENCE, Board, Lab, eventually
from tests.terminal import Terminal
from toolkit.agent import COMMAND, CONNECTED, CONSOLE, GONE, WAITING, Agent, _Command
from toolkit.console import Console
from toolkit.thin import LENGTH_SIZE
from toolkit.wire.vocabulary import pack_request

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def used_lab(box: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One in which other tests have run before."""
    with Lab(box, tmp_path_factory.mktemp("lab"), {"a": "server", "b": "client"}) as lab:
        yield lab


def send(lab: Lab, message_id: str, *pairs: str) -> None:
    """From the other device."""
    assert lab["b"].run(f"lava-send {message_id} {' '.join(pairs)}") == 0


# -- wherever a command stands -------------------------------------------------------------------

# What a script prints, and its status.
SCRIPTS = {
    "as it is": ("lava-self; echo $?", "a\n0\n", 0),
    "in a substitution": ('x=$(lava-role); echo "[$x]"', "[server]\n", 0),
    "in backquotes, in a list": ("for r in `lava-role list`; do echo .$r; done", ".server\n.client\n", 0),
    "from /dev/null": ("lava-self </dev/null", "a\n", 0),
    "with stdin closed": ("lava-self <&-", "a\n", 0),
    "to a pipe": ("lava-group | sort | tr '\\t' ' '", "a server\nb client\n", 0),
    "to a file": ("lava-self >out; cat out", "a\n", 0),
    "all of them elsewhere": ("lava-self </dev/null >out 2>err; cat err out", "a\n", 0),
    "with errors elsewhere": ("lava-group nobody 2>/dev/null; echo $?", "1\n", 0),
    "in a subshell": ("(lava-self; (lava-role))", "a\nserver\n", 0),
    "in the background": ("lava-self >out & wait $!; echo $?; cat out", "0\na\n", 0),
    "under set -e": ("set -e; lava-send x; lava-self", "a\n", 0),
    "failing under set -e": ("set -e; lava-group nobody; echo not reached", "", 1),
    "in a condition": ("if lava-group client >/dev/null; then echo yes; fi", "yes\n", 0),
    "in a loop that reads": (
        "printf '1\\n2\\n3\\n' | while read i; do lava-send m$i; echo $i; done",
        "1\n2\n3\n",
        0,
    ),
    "in a loop that reads a file": (
        "printf 'x\\ny\\n' >list; while read l; do lava-self; echo $l; done <list",
        "a\nx\na\ny\n",
        0,
    ),
    "one after the other": ("for i in 1 2 3 4 5 6 7 8; do lava-send n$i; done; echo done", "done\n", 0),
    "with an empty environment": ("env -i $(command -v lava-self)", "a\n", 0),
    "somewhere else": ("mkdir gone; cd gone; rmdir ../gone; lava-self 2>/dev/null", "a\n", 0),
    "a console that is named": ("t=$(tty); LAVA_CONSOLE=$t setsid lava-self </dev/null | cat", "a\n", 0),
    "a wait that is over already": ("lava-send m k=v; lava-wait-all m server; echo $?", "0\n", 0),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_commands_talk_to_the_console_wherever_they_stand(used_lab: Lab, name: str) -> None:
    script, printed, status = SCRIPTS[name]
    board = used_lab["a"]
    board.output = b""
    assert board.run(script) == status
    used_lab.wait_for(lambda: len(board.output) >= len(printed.replace("\n", "\r\n")), f"{printed!r}")
    assert board.output.decode() == printed.replace("\n", "\r\n")
    assert board.echoes
    assert used_lab.open_waits() == []


def test_a_wait_with_its_output_in_a_pipe(lab: Lab, board: Board) -> None:
    process = board.start("lava-wait go </dev/null | cat >log; cat cache; echo done")
    lab.until_waiting("go")
    send(lab, "go", "k=v")
    assert process.wait(PATIENCE) == 0
    board.until_printed("done")
    assert board.output == b"k=v\r\ndone\r\n"


def test_sixteen_at_once(lab: Lab, board: Board) -> None:
    """In the background of a script; each gets its own answer, and none is late."""
    process = board.start(
        "for i in $(seq 16); do"
        " (LAVA_MULTI_NODE_CACHE=$PWD/cache$i lava-wait m$i; echo $? >status$i) & done; wait; echo all"
    )
    lab.until_waiting(*(f"m{i}" for i in range(1, 17)))
    assert len(board.agents()) == 1
    assert lab["b"].run("for i in $(seq 16); do lava-send m$i n=$i & done; wait") == 0
    assert process.wait(PATIENCE) == 0
    for i in range(1, 17):
        assert (board.directory / f"status{i}").read_text() == "0\n"
        assert (board.directory / f"cache{i}").read_text() == f"n={i}\n"
    assert len(lab.events(Sent)) == 16 and len(lab.events(Waiting)) == 16
    assert board.echoes and lab["b"].echoes


def test_many_that_come_at_once_are_looked_at_together(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    """Whether a command has the foreground is read from a file: never once more for all whenever one comes."""
    looked: list[int] = []
    monkeypatch.setattr(toolkit.agent, "has_foreground", lambda pid, _: bool(looked.append(pid)) or True)
    count = 50
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind("")
        listener.listen(count)
        listener.setblocking(False)
        agent = Agent(listener, terminal.console)
        for number in range(count):
            command = stack.enter_context(socket.socket(socket.AF_UNIX))
            command.connect(listener.getsockname())
            request = pack_request(b"%08d" % number, "self")
            command.sendall(len(request).to_bytes(LENGTH_SIZE, "big") + request)
        agent._turn()
        agent._turn()
        assert [command.state for command in agent._commands.values()] == [WAITING] * count
        assert len(looked) <= 2 * count
        for fd in agent._commands:
            os.close(fd)


def test_two_consoles_have_nothing_to_do_with_each_other(lab: Lab) -> None:
    processes = [lab[name].start("for i in 1 2 3; do lava-sync s || exit; done; lava-self") for name in "ab"]
    assert [process.wait(PATIENCE) for process in processes] == [0, 0]
    for name in "ab":
        lab.wait_for(lambda name=name: lab[name].output == f"{name}\r\n".encode(), "its name")  # type: ignore[misc]


def test_long_messages_both_ways(lab: Lab, board: Board) -> None:
    value = "v" * 60_000
    (board.directory / "value").write_text(value)
    # (No argument can be longer than 128 KiB.)
    assert board.run('lava-send big "k=$(cat value)"') == 0
    assert lab["b"].run("lava-wait big") == 0
    assert (lab["b"].directory / "cache").read_text() == f"k={value}\n"
    assert board.output == lab["b"].output == b""


# -- what ends a command -------------------------------------------------------------------------


SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "bash without line editing": ["bash", "--norc", "--noprofile", "--noediting", "-i"],
    "dash": ["dash", "-i"],
    "busybox": ["busybox", "sh", "-i"],
}


@pytest.mark.parametrize("name", [name for name, command in SHELLS.items() if shutil.which(command[0])])
def test_a_waiting_command_that_is_killed_leaves_nothing_behind(lab: Lab, board: Board, name: str) -> None:
    """The dispatcher is told, the echo is back, and the next command line runs as it was typed."""
    board.start(f"exec {' '.join(SHELLS[name])}", environment={"PS1": "ready> ", "HISTFILE": "/dev/null"})
    for turn in range(2):
        lab.wait_for(lambda turn=turn: board.output.count(b"ready> ") > turn, "a prompt")  # type: ignore[misc]
        board.type(b"lava-wait never\n")
        lab.until_waiting("never")
        if turn % 2:
            eventually(lambda: not board.echoes, "no echo while it waits")
        (command,) = board.commands("lava-wait")
        typed, prompts = len(lab.typed), board.output.count(b"ready> ")
        os.kill(command, signal.SIGKILL)
        lab.wait_for(lambda prompts=prompts: board.output.count(b"ready> ") > prompts, "a prompt")  # type: ignore[misc]
        board.type(b"echo un''touched %d; stty -a >modes\n" % turn)
        board.until_printed(f"untouched {turn}")
        lab.until_waiting()
        assert len(lab.typed) == typed, "the dispatcher typed into a shell"
    board.type(b"stty -a >modes; echo la''st\n")
    board.until_printed("last")
    assert " echo " in (board.directory / "modes").read_text()


def test_ctrl_c(lab: Lab, board: Board) -> None:
    process = board.start('trap : INT; lava-wait never; echo "status $?"; lava-self')
    lab.until_waiting("never")
    board.type(b"\x03")
    assert process.wait(PATIENCE) == 0
    board.until_printed("status 130\r\na\r\n")
    assert lab.open_waits() == [] and board.echoes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals(lab: Lab, board: Board, number: signal.Signals) -> None:
    """Of `timeout` for instance: what comes next may read the console, and gets what was typed."""
    process = board.start('lava-wait never; echo "status $?"; read line; echo "read <$line>"')
    lab.until_waiting("never")
    (command,) = board.commands("lava-wait")
    os.kill(command, number)
    board.until_printed(f"status {128 + number}")
    assert lab.open_waits() == [] and board.echoes
    board.type(b"hello\n")
    assert process.wait(PATIENCE) == 0
    board.until_printed("read <hello>")


def test_an_agent_that_is_killed_is_replaced(lab: Lab, board: Board) -> None:
    process = board.start("lava-wait go; echo status $?")
    for _ in range(2):
        lab.until_waiting("go")
        (agent,) = board.agents()
        os.kill(agent, signal.SIGKILL)
        eventually(lambda agent=agent: board.agents() not in ([], [agent]), "a new agent")  # type: ignore[misc]
    send(lab, "go")
    assert process.wait(PATIENCE) == 0
    board.until_printed("status 0")
    # For the dispatcher it was one request all the time.
    assert len(lab.events(Waiting)) == 1


def test_an_agent_that_is_asked_to_end_tidies_up(lab: Lab, board: Board) -> None:
    process = board.start("lava-wait go; echo status $?")
    lab.until_waiting("go")
    (agent,) = board.agents()
    os.kill(agent, signal.SIGTERM)
    eventually(lambda: board.agents() not in ([], [agent]), "a new agent")
    send(lab, "go")
    assert process.wait(PATIENCE) == 0
    board.until_printed("status 0")
    assert board.echoes


def test_the_agent_ends_when_nobody_needs_it(lab: Lab, board: Board) -> None:
    assert board.run("lava-self") == 0
    assert len(board.agents()) == 1
    assert board.run("lava-self") == 0
    assert len(board.agents()) == 1
    eventually(lambda: board.agents() == [], "its end")


def test_a_terminal_that_is_hung_up(lab: Lab, board: Board) -> None:
    """The command ends, with a sentence, though nobody can read it there."""
    process = board.start("trap '' HUP; lava-wait never 2>err; echo $? >status")
    lab.until_waiting("never")
    board.hang_up()
    assert process.wait(PATIENCE) in (0, 1, 2)
    assert (board.directory / "status").read_text() in ("69\n", "75\n")
    error = (board.directory / "err").read_text()
    assert error.startswith("lava-wait: the console /dev/pts/") and "is gone" in error


# (The kernel may take its time with a Ctrl-C: on the same console it would end what runs next.)
@pytest.mark.parametrize("sent_before", [False, True])
def test_a_reply_at_the_moment_of_ctrl_c(lab: Lab, board: Board, sent_before: bool) -> None:
    """Whoever wins, the command ends and nothing stays open."""
    process = board.start('trap : INT; lava-wait go 2>/dev/null; echo "ended: $?"')
    lab.until_waiting("go")
    sender = lab["b"].start("lava-send go")
    if sent_before:
        sender.wait(PATIENCE)
    board.type(b"\x03")
    assert process.wait(PATIENCE) == 0 and sender.wait(PATIENCE) == 0
    board.until_printed("ended: ")
    assert board.output.split(b"ended: ")[1].split()[0] in (b"0", b"130")
    lab.until_waiting()
    eventually(lambda: board.echoes, "the echo")


# -- no dispatcher, no console -------------------------------------------------------------------


def test_a_console_that_nobody_reads(lab: Lab, board: Board) -> None:
    lab.deaf = True
    assert board.run("lava-self 2>err") == 69
    error = (board.directory / "err").read_text()
    assert error.startswith(f"lava-self: no dispatcher answers on the console {board.path}: ")
    assert "tmux" in error and "LAVA_CONSOLE" in error and error.count("\n") == 1
    assert board.echoes
    # What went out was small, and shows on no terminal.
    os.set_blocking(board.master, False)
    data = os.read(board.master, 4096)
    assert len(data) < 400 and data.count(b"\x1b]5282;") == data.count(b"\x1b\\") > 1


CONSOLES = {
    "off": "switched off by LAVA_CONSOLE=off",
    "/dev/null": "the console /dev/null is not a terminal",
    "/nonexistent": "can't open the console /nonexistent: No such file or directory",
    "/": "can't open the console /: Is a directory",
}


@pytest.mark.parametrize("path", CONSOLES)
def test_consoles_that_are_none(lab: Lab, board: Board, path: str) -> None:
    assert board.run("lava-self 2>err", environment={"LAVA_CONSOLE": path}) == 69
    assert (board.directory / "err").read_text() == f"lava-self: {CONSOLES[path]}\n"


IMPATIENT = """
import sys
sys.path.insert(0, sys.argv[1])
import toolkit.agent
toolkit.agent.LINK_TIMEOUT = 1
"""
STOPPED = (
    IMPATIENT
    + """
from toolkit.cli import main
sys.exit(main(["lava-self"]))
"""
)
# The first frame is too small to find no room.
CRAMPED = (
    IMPATIENT
    + """
import os, signal
from toolkit.console import Console
signal.signal(signal.SIGALRM, toolkit.agent._stop_writing)
agent = toolkit.agent.Agent(None, Console(os.environ["LAVA_CONSOLE"]))
agent._state = toolkit.agent.ALONE
agent._link.submit(b"request", 0.0)
agent._link.next_frame = lambda now, backlog: b"f" * 720
try:
    agent._write_console()
except OSError as error:
    sys.exit(error.strerror)
"""
)


@pytest.mark.parametrize("program", [STOPPED, CRAMPED], ids=["stopped", "cramped"])
def test_a_console_that_takes_no_output(program: str) -> None:
    """Stopped by Ctrl-S, or with room for a part of a frame only: nothing hangs for ever."""
    master, slave = os.openpty()
    if program is STOPPED:
        termios.tcflow(slave, termios.TCOOFF)
    else:
        leave_room(master, slave, 20)
    try:
        result = subprocess.run(
            [sys.executable, "-c", program, str(ROOT)],
            env={**os.environ, "LAVA_CONSOLE": os.ttyname(slave)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        assert result.returncode in (1, 69, 75)
        assert b"takes no output" in result.stderr
    finally:
        os.close(master)
        os.close(slave)


def leave_room(master: int, slave: int, room: int) -> None:
    """Fill the pty but for so many bytes: `poll` says that it takes more, and a long frame blocks in it."""
    os.set_blocking(slave, False)
    poll = select.poll()
    poll.register(slave, select.POLLOUT)

    def fill(most: int) -> int:
        # (The kernel moves what was written on in the background.)
        time.sleep(0.02)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while count < most and poll.poll(0):
                count += os.write(slave, b"x")
        return count

    size = fill(1_000_000)
    for most in (1_000_000, 0):
        while not poll.poll(1):
            os.read(master, 256)
        size = fill(most or size - room)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_agent_serves_its_own_user_only(lab: Lab, board: Board) -> None:
    process = board.start("lava-wait go")
    lab.until_waiting("go")
    console = Console(board.path)
    name = b"\0lavabox/0/" + console.key().encode()
    os.close(console.read_fd)
    os.close(console.write_fd)
    request = pack_request(b"intruder", "send", b"go", [])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"?"
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as agent:
                agent.connect(name)
                try:
                    agent.sendall(len(request).to_bytes(LENGTH_SIZE, "big") + request)
                    answer = agent.recv(100) and b"served"
                except OSError:
                    answer = b""
        finally:
            os.write(writer, b"answer: " + answer)
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"answer: "
    os.close(reader)
    os.close(writer)
    assert lab.events(Sent) == [] and process.poll() is None


# -- a socket that another user has taken ----------------------------------------------------------

SQUATTER = """
import socket, sys, time
taken = socket.socket(socket.AF_UNIX)
taken.bind(b"\\0lavabox/0/" + sys.argv[1].encode())
if sys.argv[2] == "listens":
    taken.listen()
print("taken", flush=True)
time.sleep(1000)
"""
SQUATTERS = {
    "listens": ([], "listens"),
    "does not listen": ([], "sleeps"),
    # Root of a name space of its own.
    "is root elsewhere": (["unshare", "--user", "--map-root-user"], "listens"),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("name", SQUATTERS)
def test_a_socket_that_another_user_has_taken_is_passed_by(lab: Lab, board: Board, name: str) -> None:
    wrapper, what = SQUATTERS[name]
    python = "/usr/bin/python3"
    if shutil.which("setpriv") is None or not os.path.exists(python):
        pytest.skip("no setpriv, or no Python for everybody")
    if wrapper and subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user name spaces here")
    console = Console(board.path)
    become = ["setpriv", "--reuid", "65534", "--clear-groups"]
    squatter = subprocess.Popen(
        [*become, *wrapper, python, "-c", SQUATTER, console.key(), what], stdout=subprocess.PIPE
    )
    console.close()
    try:
        assert squatter.stdout is not None and squatter.stdout.readline() == b"taken\n"
        process = board.start("lava-wait go & lava-wait go & lava-self; wait $! && lava-send up; echo $?")
        lab.until_waiting("go", "go")
        # One that came second may not have ended yet.
        lab.wait_for(lambda: len(board.agents()) == 1, "one agent")
        send(lab, "go")
        assert process.wait(PATIENCE) == 0
        board.until_printed("a\r\n0\r\n")
    finally:
        squatter.kill()
        squatter.communicate()


def test_an_agent_that_was_stopped_goes_on(lab: Lab, board: Board) -> None:
    process = board.start("lava-wait go; echo status $?")
    lab.until_waiting("go")
    (agent,) = board.agents()
    os.kill(agent, signal.SIGSTOP)
    send(lab, "go")
    os.kill(agent, signal.SIGCONT)
    assert process.wait(PATIENCE) == 0
    board.until_printed("status 0")
    assert board.echoes


# -- the tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [COMMAND, CONSOLE], ids=["commands", "console"])
def test_the_tables_are_closed(table: dict[str, dict[str, str | None]]) -> None:
    """An event that is missing in a state, or misspelt, is a KeyError."""
    assert len({tuple(row) for row in table.values()}) == 1
    states = {state for row in table.values() for state in row.values() if state}
    assert states - {GONE} <= set(table)
    assert set(table) <= states | {CONNECTED}
    command = _Command(1)
    with pytest.raises(KeyError):
        command.step("stopp")


# -- what somebody types meanwhile -----------------------------------------------------------------


def test_what_is_typed_during_a_wait_is_read_by_nobody_else(lab: Lab, board: Board) -> None:
    process = board.start('lava-wait go; read line; echo "read <$line>"')
    lab.until_waiting("go")
    eventually(lambda: not board.echoes, "that it waits")
    board.type(b"reboot\n")
    eventually(lambda: board.unread() == 0, "that the agent has read it")
    send(lab, "go")
    eventually(lambda: board.echoes, "its end")
    board.type(b"second\n")
    assert process.wait(PATIENCE) == 0
    board.until_printed("read <second>")


def test_lines_of_the_host_reach_no_reader(lab: Lab, board: Board) -> None:
    """Between many short commands somebody reads: he gets what was typed, and nothing else."""
    process = board.start("for i in 1 2 3 4 5 6 7 8; do lava-self >/dev/null; done; cat")
    eventually(
        lambda: process.poll() is None and not board.commands("lava-self") and bool(board.commands("cat")),
        "cat",
    )
    assert board.echoes
    board.type(b"typed\n\x04")
    assert process.wait(PATIENCE) == 0
    board.until_printed("typed\r\ntyped\r\n")
    assert board.output == b"typed\r\ntyped\r\n"
    assert len(lab.typed) >= 9


def test_somebody_elses_modes_stay(lab: Lab, board: Board) -> None:
    """A script that turns the echo off while a command waits finds it off after that."""
    process = board.start(
        "lava-wait go & stty -echo; lava-send up; wait $!; stty -a | grep -o -- '-echo '; stty echo"
    )
    lab.until_waiting("go")
    lab.wait_for(lambda: len(lab.group.log) >= 4, "the message")
    send(lab, "go")
    assert process.wait(PATIENCE) == 0
    board.until_printed("-echo ")
