# SPDX-License-Identifier: MIT
"""Commands typed into interactive shells with job control, each on a pty that a dispatcher reads.

The shell and the commands share one terminal: what a person types has to reach the shell, and what the
dispatcher types only the commands.
"""

import itertools
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.group.events import Sent
from tests.consoles import Board, Lab

SHELLS = {
    "bash": "bash --norc -i",
    "bash without readline": "bash --norc --noediting -i",
    "dash": "dash -i",
    "busybox sh": "busybox sh -i",
}
PROMPT = "ready> "
# Busybox asks the terminal behind it where the cursor is.
AT_PROMPT = re.escape(PROMPT.encode()) + rb"(\x1b\[6n)?$"
COMMENT = re.compile(re.escape(PROMPT.encode()) + rb"#L1\.[A-Za-z0-9_.-]*\r\n")
CTRL_C, CTRL_Z = b"\x03", b"\x1a"


class Shell:
    """An interactive shell on a board's console. Starts it, and waits for its prompt."""

    def __init__(self, board: Board, command: str) -> None:
        self.board = board
        self._numbers = itertools.count(1)
        environment = {"PS1": PROMPT, "TERM": "vt100", "HISTFILE": "/dev/null", "HOME": str(board.directory)}
        board.start(f"exec {command}", environment=environment)
        self.wait_for_prompt(0)

    def until(self, pattern: bytes, start: int) -> re.Match[bytes]:
        """Wait for output behind `start`."""
        compiled = re.compile(pattern)
        board = self.board
        board.lab.wait_for(lambda: compiled.search(board.output, start) is not None, repr(pattern))
        match = compiled.search(board.output, start)
        assert match is not None
        return match

    def wait_for_prompt(self, start: int) -> None:
        self.until(AT_PROMPT, start)

    def begin(self, line: str) -> int:
        """Type a line and wait for nothing; returns where its output begins."""
        start = len(self.board.output)
        self.board.type(line.encode() + b"\n")
        return start

    def run(self, line: str) -> tuple[int, bytes]:
        """Type a line; returns the status that the shell has afterwards, and what was printed."""
        number = next(self._numbers)
        # What is echoed differs from what is printed.
        end = f'echo "<$(({number}+0)):$?>"'
        start = self.begin(f"{line} {end}" if line.endswith("&") else f"{line}; {end}")
        match = self.until(rb"<%d:(\d+)>\r\n" % number, start)
        self.wait_for_prompt(match.end())
        return int(match[1]), self.board.output[start : match.start()]

    def check_typing(self, number: int) -> None:
        """A line that is typed runs as it was typed."""
        status, output = self.run(f"echo typed$(({number}+0))")
        assert status == 0, output
        assert b"typed%d\r\n" % number in output, output
        assert b"not found" not in output

    def modes(self) -> bytes:
        """The modes of the terminal as its programs find them."""
        status, output = self.run("stty -g")
        assert status == 0
        modes: list[bytes] = re.findall(rb"[0-9a-f]+(?::[0-9a-f]+){10,}", output)
        return modes[-1]

    def sent(self) -> list[bytes]:
        """The ids that this board has sent, sorted."""
        events = self.board.lab.events(Sent)
        return sorted(
            event.message_id
            for event in events
            if isinstance(event, Sent) and event.device == self.board.name
        )


@pytest.fixture
def lab(box: Path, tmp_path: Path) -> Iterator[Lab]:
    with Lab(box, tmp_path, {"panda01": "tester", "hb01": "tester"}) as lab:
        yield lab


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Shell]:
    """The shell under test; afterwards it works as ever, and shows no trace of the protocol."""
    command = SHELLS[request.param]
    program = command.split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    shell = Shell(lab["panda01"], command)
    modes = shell.modes()
    yield shell
    shell.check_typing(99)
    assert shell.modes() == modes
    assert lab.open_waits() == []
    # A line editor may have got a reply in the wrong moment: to it that is a comment, and no more.
    output = COMMENT.sub(b"", shell.board.output)
    for trace in (b"5282;", b"#L1."):
        assert trace not in output, re.findall(rb".{0,99}" + trace + rb".{0,99}", output, re.DOTALL)


@pytest.fixture
def other(lab: Lab) -> Shell:
    """Another device, whose shell is no matter."""
    return Shell(lab["hb01"], "sh -i")


def test_a_wait_in_the_background_rests_while_the_shell_reads(lab: Lab, shell: Shell, other: Shell) -> None:
    start = shell.begin("lava-wait ready")
    lab.until_waiting("ready")
    shell.board.type(CTRL_Z)
    shell.wait_for_prompt(start)
    shell.run("bg")
    typed = len(lab.typed)
    assert other.run("lava-send ready k=v")[0] == 0
    for number in range(3):
        shell.check_typing(number)
    assert [name for name, _ in lab.typed[typed:]].count("panda01") == 0
    # Now it does not read any more.
    assert shell.run("wait")[0] == 0
    assert b"k=v" in (shell.board.directory / "cache").read_bytes()


def test_a_command_that_starts_beside_a_prompt_is_refused(lab: Lab, shell: Shell) -> None:
    # By then the shell is at its prompt.
    start = shell.begin("{ sleep 0.3; lava-wait ready; echo ended with $?; } &")
    refusal = shell.until(rb"lava-wait: (\S+) \(process \d+\) reads the console [^\r]*\r\n", start)
    assert refusal[1] in (b"bash", b"dash", b"busybox")
    assert b"run this command in the foreground" in refusal[0]
    shell.until(rb"ended with 69\r\n", refusal.end())
    assert lab.typed == []
    shell.check_typing(1)


def test_commands_in_the_background_of_a_line_that_waits(shell: Shell) -> None:
    status, output = shell.run("for i in 0 1 2 3 4; do lava-send y$i & done; wait")
    assert status == 0, output
    assert shell.sent() == [b"y%d" % number for number in range(5)]


def test_the_line_after_a_killed_wait_runs_untouched(lab: Lab, shell: Shell) -> None:
    for number in range(3):
        start = shell.begin(f"lava-wait never{number}")
        lab.until_waiting(f"never{number}")
        (process,) = shell.board.commands("lava-wait")
        os.kill(process, signal.SIGKILL)
        shell.wait_for_prompt(start)
        shell.check_typing(number)
        lab.until_waiting()


def test_ctrl_c_ends_a_wait(lab: Lab, shell: Shell) -> None:
    start = shell.begin("lava-wait never")
    lab.until_waiting("never")
    shell.board.type(CTRL_C)
    shell.wait_for_prompt(start)
    _, output = shell.run("echo status=$?")
    assert b"status=130\r\n" in output
    lab.until_waiting()


def test_a_stopped_wait_goes_on_later(lab: Lab, shell: Shell, other: Shell) -> None:
    start = shell.begin("lava-wait ready")
    lab.until_waiting("ready")
    shell.board.type(CTRL_Z)
    shell.wait_for_prompt(start)
    for number in range(3):
        shell.check_typing(number)
    # It is in nobody's way.
    assert shell.run("lava-send meanwhile")[0] == 0
    status, output = shell.run("lava-self")
    assert (status, output.splitlines()[-1]) == (0, b"panda01")
    assert other.run("lava-send ready")[0] == 0
    assert shell.run("fg")[0] == 0


def test_sixteen_commands_at_once_in_a_script(lab: Lab, shell: Shell, other: Shell) -> None:
    (shell.board.directory / "script.sh").write_text("""\
for i in 0 1 2 3 4 5 6 7; do
    LAVA_MULTI_NODE_CACHE=$PWD/got-$i lava-wait w$i & pids="$pids $!"
    lava-send v$i k=$i & pids="$pids $!"
done
for pid in $pids; do wait $pid || exit 1; done
""")
    start = shell.begin("sh script.sh; echo ended with $?")
    lab.until_waiting(*(f"w{number}" for number in range(8)))
    status, _ = other.run("for i in 7 6 5 4 3 2 1 0; do lava-send w$i k=$i || break; done")
    assert status == 0
    match = shell.until(rb"ended with (\d+)\r\n", start)
    assert match[1] == b"0"
    shell.wait_for_prompt(match.end())
    assert shell.sent() == [b"v%d" % number for number in range(8)]
    for number in range(8):
        assert b"k=%d\n" % number in (shell.board.directory / f"got-{number}").read_bytes()
