# SPDX-License-Identifier: MIT
"""Commands of a service, which has no terminal, on a console that somebody else may read.

One rule for all readers: beside one, nothing is asked, nothing is typed, and a new command is refused.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pytest

from dispatcher.group.events import Sent
from tests.consoles import PATIENCE, Board, Lab, eventually

TIOCVHANGUP = 0x5437

READERS = {
    "dash": "dash -i",
    "bash": "bash --norc -i",
    "bash without readline": "bash --norc --noediting -i",
    "busybox sh": "busybox sh -i",
    "busybox getty": "busybox getty -L 115200 - vt100",
    "agetty": "agetty --noclear -L 115200 - vt100",
    "read": 'read line; echo "read <$line>"',
    "cat": "cat >/dev/null",
}

# Who begins to read between a question and its answer gets the answer: a comment.
READ_LINE = 'while read line; do case "$line" in "#"*) ;; *) break ;; esac; done'


def service(board: Board, script: str, *command: str) -> subprocess.Popen[bytes]:
    """Start it without a terminal; it may name the console."""
    process = subprocess.Popen(
        command or ["sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=board.directory,
        env={
            "PATH": f"{board.lab.commands}:{Path(sys.executable).resolve().parent}:{os.environ['PATH']}",
            "LAVA_CONSOLE": board.path,
            "LAVA_MULTI_NODE_CACHE": str(board.directory / "cache"),
        },
        start_new_session=True,
    )
    board.processes.append(process)
    return process


def reads(board: Board) -> bool:
    """Whether somebody is in read(2) on this console, or edits lines there."""
    if not termios.tcgetattr(board.slave)[3] & termios.ICANON:
        return True
    fd = os.open(board.path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        os.read(fd, 0)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@pytest.mark.parametrize("name", READERS)
def test_beside_a_reader_a_command_is_refused_and_nothing_is_typed(lab: Lab, board: Board, name: str) -> None:
    program = READERS[name].split()[0]
    if program != "read" and shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    script = READERS[name] if name in ("read", "cat") else f"exec {READERS[name]}"
    board.start(script, environment={"PS1": "ready> ", "HISTFILE": "/dev/null", "TERM": "dumb"})
    eventually(lambda: reads(board), "that it reads")
    modes = termios.tcgetattr(board.slave)
    refused = service(board, "lava-wait go; echo $?; lava-send up; echo $?")
    assert refused.stdout is not None and refused.stderr is not None
    assert refused.wait(PATIENCE) == 0
    assert refused.stdout.read() == b"69\n69\n"
    first, second, end = refused.stderr.read().decode().split("\n")
    assert first.startswith("lava-wait: ") and second.startswith("lava-send: ") and end == ""
    assert f"reads the console {board.path}, and would get the answers: run this" in first
    if name != "agetty":  # it wakes up now and then, and sets other modes
        assert termios.tcgetattr(board.slave) == modes
    assert lab.typed == [] and board.unread() == 0
    with lab.lock:
        assert b"5282" not in board.output and b"incorrect" not in board.output
    if name == "read":
        board.type(b"typed\n")
        board.until_printed("read <typed>")


def test_where_nobody_reads_it_is_served_and_the_terminal_stays_as_it_is(lab: Lab, board: Board) -> None:
    board.start("sleep 1000")
    eventually(lambda: bool(board.commands("sleep")), "the sleep")
    before = termios.tcgetattr(board.slave)
    waiting = service(board, "lava-wait go && lava-send up")
    lab.until_waiting("go")
    counters = lab.counters("a")
    frames = counters.frames
    # As long as it takes to ask twice how things stand.
    lab.wait_for(lambda: counters.frames >= frames + 2, "two polls")
    assert termios.tcgetattr(board.slave) == before
    assert lab["b"].run("lava-send go k=v") == 0
    assert waiting.wait(PATIENCE) == 0
    assert (board.directory / "cache").read_text() == "k=v\n"
    assert lab["b"].run("lava-wait up") == 0
    assert termios.tcgetattr(board.slave) == before
    assert board.output == b""


def test_a_wait_rests_beside_a_reader_that_comes_later(lab: Lab, board: Board) -> None:
    for fifo in ("first", "second"):
        os.mkfifo(board.directory / fifo)
    board.start(f'read x <first; {READ_LINE}; echo "read <$line>"; read x <second')
    waiting = service(board, "lava-wait go")
    lab.until_waiting("go")
    with (board.directory / "first").open("w") as file:
        file.write("x\n")
    eventually(lambda: reads(board), "that the script reads")
    assert lab["b"].run("lava-send go") == 0
    board.type(b"typed\n")
    board.until_printed("read <typed>")
    assert board.output.count(b"read <") == 1
    assert waiting.wait(PATIENCE) == 0
    with (board.directory / "second").open("w") as file:
        file.write("x\n")


IMPATIENT = """
import sys
sys.path.insert(0, sys.argv[1])
import toolkit.agent
toolkit.agent.LINK_TIMEOUT = 1
toolkit.agent.KEEP_INTERVAL = 0.1
from toolkit.cli import main
sys.exit(main(["lava-wait", "go"]))
"""


def test_a_wait_does_not_rest_for_ever(lab: Lab, board: Board) -> None:
    os.mkfifo(board.directory / "fifo")
    board.start(f"read x <fifo; {READ_LINE}; echo end")
    command = [sys.executable, "-c", IMPATIENT, str(Path(__file__).parents[2])]
    waiting = service(board, "", *command)
    lab.until_waiting("go")
    with (board.directory / "fifo").open("w") as file:
        file.write("x\n")
    eventually(lambda: reads(board), "that the script reads")
    typed = len(lab.typed)
    assert waiting.wait(PATIENCE) == 69
    # The dispatcher is told, and had been told before that the wait goes on; it has typed nothing for that.
    lab.until_waiting()
    assert len(lab.typed) == typed
    board.type(b"typed\n")
    board.until_printed("end")


def test_a_console_that_hangs_up_and_is_there_again(lab: Lab, board: Board) -> None:
    waiting = service(board, "lava-wait go")
    lab.until_waiting("go")
    with lab.lock:
        fcntl.ioctl(board.slave, TIOCVHANGUP)
        os.close(board.slave)
        board.slave = os.open(board.path, os.O_RDWR | os.O_NOCTTY)
    assert lab["b"].run("lava-send go k=v") == 0
    assert waiting.wait(PATIENCE) == 0
    assert (board.directory / "cache").read_text() == "k=v\n"
    assert waiting.stderr is not None and waiting.stderr.read() == b""


def test_as_another_user_in_a_script_of_root(lab: Lab, board: Board, box: Path) -> None:
    """`su` gives the session up, too: what is left of the terminal is an inherited file."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become somebody else, and by setpriv")
    if not os.path.exists("/usr/bin/python3"):
        pytest.skip("there is no Python for everybody")
    os.chmod(board.path, 0o600)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        send = shutil.copy(box, f"{folder}/lava-send")
        # (The Python of the tests may lie where only root can go.)
        become = "PATH=/usr/bin:/bin setpriv --reuid 65534 --clear-groups"
        board.start(
            f"{become} {send} one; echo $?; {become} setsid -w {send} two; echo $?; "
            f"LAVA_CONSOLE=$(tty) {become} setsid -w {send} three; echo $?; lava-send four; echo $?"
        ).wait(PATIENCE)
    board.until_printed("0\r\n0\r\n0\r\n0\r\n")
    assert [event.message_id for event in lab.events(Sent) if isinstance(event, Sent)] == [
        b"one",
        b"two",
        b"three",
        b"four",
    ]
    assert board.echoes
