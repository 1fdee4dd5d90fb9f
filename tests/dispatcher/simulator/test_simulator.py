# SPDX-License-Identifier: MIT
"""`lavabox sim`, whole: real shells on real ptys, the built box, and every way to end."""

import os
import pty
import re
import secrets
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

import build_zipapp
from dispatcher.simulator.privatetmp import PrivateTmp, probe
from tests.dispatcher.lavabox_process import PATIENCE, Lavabox, processes_with, variables

CACHE = "/tmp/lava_multi_node_cache.txt"


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_zipapp.build(tmp_path_factory.mktemp("box") / "lavabox")


class Simulator:
    """Starts `lavabox sim` in a folder, and looks afterwards for what it should have taken away."""

    def __init__(self, folder: Path, box: Path, temporary: Path) -> None:
        self.folder = folder
        self.box = box
        self.temporary = temporary

    def start(self, *arguments: str, **environment: str) -> Lavabox:
        environment = {"TMPDIR": str(self.temporary), **environment}
        return Lavabox("sim", "--box", str(self.box), *arguments, cwd=self.folder, environment=environment)

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        with self.start(*arguments, **environment) as process:
            return process.finish(), process.text

    def script(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def sim(tmp_path: Path, box: Path) -> Iterator[Simulator]:
    folder, temporary = tmp_path / "here", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    yield Simulator(folder, box, temporary)
    assert list(temporary.iterdir()) == []


def private_tmp_permitted(state: Path) -> bool:
    return isinstance(probe(state, os.environ), PrivateTmp)


def table(text: str) -> dict[str, tuple[str, str]]:
    """The table at the end: role and result by device."""
    lines = text[text.index("\ndevice ") + 1 :].splitlines()[1:]
    rows = [re.split(r"  +", line) for line in lines]
    return {row[0]: (row[1], row[2]) for row in rows}


# What a run is


def test_devices_talk(sim: Simulator) -> None:
    status, text = sim.run(
        *("--role", "server=lava-self; lava-send ready k=v; lava-sync end"),
        *("--role", "client*2=lava-role; lava-wait ready; lava-sync end"),
        *("--device", "panda01:observer=lava-group; lava-sync end"),
    )
    assert status == 0
    assert "server-1 | server-1\n" in text
    assert "client-2 | client\n" in text
    group = ["server-1\tserver", "client-1\tclient", "client-2\tclient", "panda01\tobserver"]
    assert [line.partition("panda01  | ")[2] for line in text.splitlines() if "\t" in line] == group
    assert table(text) == {
        "server-1": ("server", "succeeded"),
        "client-1": ("client", "succeeded"),
        "client-2": ("client", "succeeded"),
        "panda01": ("observer", "succeeded"),
    }


def test_box_is_built_when_none_is_named(sim: Simulator) -> None:
    with Lavabox(
        "sim", "--role", "a=lava-self", cwd=sim.folder, environment={"TMPDIR": str(sim.temporary)}
    ) as process:
        assert process.finish() == 0
    assert "a-1 | a-1\n" in process.text


def test_device_is_a_shell_on_a_terminal_of_its_own(sim: Simulator) -> None:
    status, text = sim.run("--role", 'a*2=tty; echo "$LAVA_CONSOLE $TERM"; echo open >/dev/tty; stty -a')
    assert status == 0
    terminals = re.findall(r"a-(\d) \| (/dev/pts/\d+)$", text, re.MULTILINE)
    assert len(set(terminals)) == 2
    for number, terminal in terminals:
        assert f"a-{number} | {terminal} vt100\n" in text
        assert f"a-{number} | open\n" in text
    # As on every serial line, what is typed comes back.
    assert " echo " in text


def test_other_shell(sim: Simulator) -> None:
    command = "[[ $BASH ]] && echo bash; false; echo not reached"
    status, text = sim.run("--shell", "bash -e", "--role", f"a={command}")
    assert status == 1
    assert "a-1 | bash\n" in text
    assert "not reached" not in text


def test_script_runs_in_its_folder(sim: Simulator) -> None:
    sim.script("deep/run.sh", 'pwd; echo "$0 $*"; echo written >here')
    status, text = sim.run("--role", "a=deep/run.sh 'x  y'", "--role", "b=pwd")
    assert status == 0
    assert f"a-1 | {sim.folder}/deep\n" in text
    assert "a-1 | ./run.sh x  y\n" in text
    assert f"b-1 | {sim.folder}\n" in text
    assert (sim.folder / "deep" / "here").read_text() == "written\n"


# /tmp and the cache files

# What was there before, what came, and, after a sync, nothing.
PRIVATE = (
    "cat {cache} 2>/dev/null; "
    "lava-send x from=$(lava-self); lava-wait x; cat {cache}; "
    "lava-sync y; cat {cache}"
)


@pytest.fixture
def host_cache() -> Iterator[bytes]:
    """What this machine's own cache file holds, one that this makes if there is none."""
    path = Path(CACHE)
    if path.exists():
        yield path.read_bytes()
        return
    path.write_bytes(b"of the host\n")
    yield b"of the host\n"
    path.unlink()


def test_each_device_has_its_own_tmp(sim: Simulator, tmp_path: Path, host_cache: bytes) -> None:
    (tmp_path / "state").mkdir()
    if not private_tmp_permitted(tmp_path / "state"):
        pytest.skip("this machine permits no mount namespaces")
    mark = f"/tmp/lavabox-test-{secrets.token_hex(8)}"
    command = PRIVATE.format(cache=CACHE) + f"; lava-self >{mark}; lava-sync z; cat {mark}"
    status, text = sim.run("--role", f"a*2={command}")
    assert status == 0
    lines = [line for line in text.splitlines() if re.match(r"a-\d \|", line)]
    assert sorted(lines) == ["a-1 | a-1", "a-1 | from=a-2", "a-2 | a-2", "a-2 | from=a-1"]
    assert Path(CACHE).read_bytes() == host_cache
    assert not Path(mark).exists()


def test_shared_tmp_with_cache_files_of_their_own(sim: Simulator) -> None:
    command = PRIVATE.format(cache='"$LAVA_MULTI_NODE_CACHE"') + "; echo ${LAVA_MULTI_NODE_NETWORK_CACHE##*/}"
    status, text = sim.run("--shared-tmp", "--role", f"a*2={command}")
    assert status == 0
    assert "a-1 | from=a-2\n" in text
    assert "a-2 | from=a-1\n" in text
    assert text.count("| lava_multi_node_network_cache.txt\n") == 2


def test_what_is_not_permitted_is_said(sim: Simulator) -> None:
    tools = sim.folder / "tools"
    sim.script("tools/unshare", "echo no way >&2; exit 1")
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    status, text = sim.run("--role", 'a=echo "<$LAVA_MULTI_NODE_CACHE>"', PATH=path)
    assert status == 0
    assert re.search(r"^lavabox: the devices share this machine's /tmp.*\(no way\)", text, re.MULTILINE)
    assert "/lava_multi_node_cache.txt>\n" in text


def test_cache_files_of_the_caller_are_not_taken_over(sim: Simulator) -> None:
    status, text = sim.run("--role", 'a=echo "<$LAVA_MULTI_NODE_CACHE>"', LAVA_MULTI_NODE_CACHE="/mine")
    assert status == 0
    assert "/mine" not in text


# How devices end


def test_exit_statuses(sim: Simulator) -> None:
    status, text = sim.run("--role", "good=true", "--role", "bad=exit 3", "--role", "dead=kill -KILL $$")
    assert status == 1
    assert table(text) == {
        "good-1": ("good", "succeeded"),
        "bad-1": ("bad", "ended with status 3"),
        "dead-1": ("dead", "was killed by SIGKILL"),
    }
    assert "dead-1 ! was killed by SIGKILL\n" in text


def test_others_are_told_of_a_device_that_dies(sim: Simulator) -> None:
    with sim.start("--role", "dies=echo ready; read x", "--role", "waits=lava-wait-all never") as process:
        process.until("dies-1  | ready")
        (shell,) = [pid for pid in processes_with("echo ready; read x") if os.getsid(pid) == pid]
        os.kill(shell, signal.SIGKILL)
        assert process.finish() == 1
    assert "waits-1 | lava-wait-all: dies-1 ended without sending 'never'\n" in process.text
    assert table(process.text)["waits-1"] == ("waits", "ended with status 1")


def test_device_ends_with_its_shell_and_takes_what_it_left_along(sim: Simulator) -> None:
    seconds = f"{secrets.randbelow(10**6) + 10**6}"
    leave = f"(trap '' HUP; sleep {seconds}) & setsid sleep {seconds} & setsid env -i sleep {seconds} &"
    with sim.start("--role", f"a={leave} lava-self", "--role", "b=lava-wait go") as process:
        process.until("a-1 ! ended with status 0")
        assert process.finish() == 1
    assert processes_with(seconds) == []


def test_time_out(sim: Simulator) -> None:
    seconds = f"{secrets.randbelow(10**6) + 10**6}"
    status, text = sim.run(
        *("--timeout", "3", "--role", f"busy=sleep {seconds}; true"),
        *("--role", "waits=printf unfinished; lava-wait go", "--role", "done=true"),
    )
    assert status == 1
    assert "lavabox: the time is over: 3 s\n" in text
    assert "waits-1 | unfinished\n" in text
    assert "busy-1  ! is still running, and waits for no other device\n" in text
    assert "waits-1 ! is still running, and waits in `lava-wait go` for busy-1\n" in text
    assert table(text) == {
        "busy-1": ("busy", "stopped at the time-out"),
        "waits-1": ("waits", "stopped at the time-out"),
        "done-1": ("done", "succeeded"),
    }
    assert processes_with(seconds) == []


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted(sim: Simulator, number: signal.Signals, expected: int) -> None:
    seconds = f"{secrets.randbelow(10**6) + 10**6}"
    stubborn = f"trap '' INT TERM HUP; setsid sleep {seconds} & echo ready; sleep {seconds}"
    with sim.start("--role", f"a={stubborn}", "--role", "b*2=echo ready; lava-wait go") as process:
        process.until(" | ready", times=3)
        process.interrupt(number)
        assert process.finish() == expected
    assert table(process.text) == {name: (name[0], "stopped") for name in ("a-1", "b-1", "b-2")}
    assert processes_with(seconds) == []


def test_interrupted_twice(sim: Simulator) -> None:
    with sim.start("--role", "a=trap 'while :; do sleep 1; done' TERM; echo ready; read x") as process:
        process.until("a-1 | ready")
        process.interrupt()
        process.interrupt()
        assert process.finish() == 130


def read_until(text: bytes, terminal: int) -> bytes:
    data = b""
    while text not in data:
        assert select.select([terminal], [], [], PATIENCE)[0], f"{text!r} did not come: {data!r}"
        data += os.read(terminal, 4096)
    return data


def test_ctrl_c_on_a_terminal(sim: Simulator) -> None:
    """Colours, Ctrl-C typed, and a terminal that is as it was."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [
            *("setsid", "--ctty", "--wait", sys.executable, "-m", "dispatcher", "sim", "--box", str(sim.box)),
            *("--role", "a=printf 'ready\\033[31m\\n'; sleep 1000"),
        ],
        cwd=sim.folder,
        env=variables(TMPDIR=str(sim.temporary), TERM="xterm"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    text = read_until(b"ready", master)
    os.write(master, b"\x03")
    text += read_until(b"stopped", master)
    assert process.wait(PATIENCE) == 130
    assert re.search(rb"\x1b\[38;5;\d+ma-1\x1b\[0m \| ready\x1b\[31m\x1b\[0m\r\n", text)
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)


def test_reader_of_the_output_goes_away(sim: Simulator) -> None:
    seconds = f"{secrets.randbelow(10**6) + 10**6}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "dispatcher", "sim", "--box", str(sim.box)),
            *("--role", f"a=while :; do echo more; done & sleep {seconds}"),
        ],
        cwd=sim.folder,
        env=variables(TMPDIR=str(sim.temporary)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (141, b"")
    assert processes_with(seconds) == []


# Options


def test_logs_hold_the_output_byte_for_byte(sim: Simulator) -> None:
    data = bytes(range(256)) + b"\x1b]0;no frame\x1b\\ \x1b[2J no line end"
    (sim.folder / "data").write_bytes(data)
    command = "stty -opost; cat data; lava-send x k=v; cat data; lava-self >/dev/null; cat data"
    (sim.folder / "logs").mkdir()
    (sim.folder / "logs" / "a-1.log").write_text("of an earlier run")
    status, text = sim.run(
        "--role", f"a={command}", "--role", "b=lava-wait x; echo done", "--log-dir", "logs"
    )
    assert status == 0
    assert (sim.folder / "logs" / "a-1.log").read_bytes() == 3 * data
    assert (sim.folder / "logs" / "b-1.log").read_bytes() == b"done\r\n"
    assert "\x1b" not in text


def test_log_that_can_not_be_written(sim: Simulator) -> None:
    (sim.folder / "logs").mkdir()
    (sim.folder / "logs" / "a-1.log").symlink_to("/dev/full")
    status, text = sim.run("--role", "a=echo hello", "--log-dir", "logs")
    assert status == 1
    assert "a-1 | hello\n" in text
    assert "a-1 ! the log of this device ends here: [Errno 28]" in text


def test_slow_lines(sim: Simulator) -> None:
    status, text = sim.run(
        *("--baud", "9600", "--role", "a=stty; seq 100; lava-sync x; lava-send y k=v"),
        *("--role", "b=lava-sync x; lava-wait y; lava-group", "--log-dir", "logs"),
    )
    assert status == 0
    log = (sim.folder / "logs" / "a-1.log").read_bytes()
    assert b"speed 9600 baud" in log
    assert log.endswith(b"".join(b"%d\r\n" % number for number in range(1, 101)))
    assert "b-1 | a-1\ta\n" in text


def test_seed_is_shown(sim: Simulator) -> None:
    status, text = sim.run("--seed", "7", "--role", "a=lava-self")
    assert status == 0
    assert text.startswith("lavabox: seed 7\n")


def test_group_log(sim: Simulator) -> None:
    arguments = ("--group-log", "group.jsonl", "--role", "a=lava-send x")
    status, _ = sim.run(*arguments)
    assert status == 0
    assert len((sim.folder / "group.jsonl").read_text().splitlines()) == 3
    status, text = sim.run(*arguments)
    assert status == 2
    assert "group.jsonl holds another run" in text


def test_many_devices(sim: Simulator) -> None:
    status, text = sim.run("--role", "a*20=lava-sync x; lava-group | wc -l; lava-sync y")
    assert status == 0
    assert text.count("| 20\n") == 20


REFUSED = {
    "no device": ((), 2, "lavabox sim: there is no device"),
    "a name": (
        ("--role", "a/b=x"),
        2,
        "lavabox sim: --role 'a/b=x': the name of a role can't have '/' in it",
    ),
    "a time-out": (("--timeout", "0", "--role", "a=x"), 2, "--timeout 0: a time is a positive number"),
    "a time-out of nan": (
        ("--timeout", "nan", "--role", "a=x"),
        2,
        "--timeout nan: a time is a positive number",
    ),
    "a speed": (("--baud", "1", "--role", "a=x"), 2, "--baud 1: a speed is a number from"),
    "a speed that is no number": (("--baud", "fast", "--role", "a=x"), 2, "invalid int value: 'fast'"),
    "a shell": (("--shell", "nosuch", "--role", "a=x"), 2, "--shell 'nosuch': there is no such program"),
    "no shell": (("--shell", "", "--role", "a=x"), 2, "--shell '': there is no such program"),
    "one file for two": (
        ("--role", "a=x", "--junit", "x.md", "--flow", "./x.md"),
        2,
        "lavabox sim: --junit and --flow: x.md can't be both; give one of them another name",
    ),
    "half a quote": (("--shell", "'", "--role", "a=x"), 2, "No closing quotation"),
    "an option": (("--role", "a=x", "--nosuch"), 2, "lavabox sim: unknown argument '--nosuch'"),
    "no abbreviations": (("--role", "a=x", "--time", "3"), 2, "unknown argument '--time'"),
    "a log folder": (("--role", "a=x", "--log-dir", "/dev/null/x"), 1, "--log-dir: can't write there"),
    "a group log": (("--role", "a=x", "--group-log", "/nosuch/x"), 1, "lavabox sim: --group-log: "),
    "a box": (("--role", "a=x", "--box", "nosuch"), 1, "--box nosuch: there is no such executable file"),
    "a box that is none": (("--role", "a=x", "--box", "/bin/false"), 1, "ended with status 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(sim: Simulator, name: str) -> None:
    arguments, expected, message = REFUSED[name]
    status, text = sim.run(*arguments)
    assert (status, message in text) == (expected, True), text
    assert "Traceback" not in text


@pytest.mark.parametrize("arguments", [("--help",), ("sim", "--help"), ("serve", "--help")])
def test_help(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with Lavabox(*arguments, cwd=tmp_path) as process:
        assert process.finish() == 0
    assert "lavabox" in process.text


@pytest.mark.parametrize("command", ["sim --role a=true", "flow x"])
def test_without_a_standard_output(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m dispatcher {command} >&-"],
        cwd=tmp_path,
        env=variables(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"lavabox {command[:4].strip()}: standard output is closed")
    assert "Traceback" not in done.stderr


def test_version(tmp_path: Path) -> None:
    with Lavabox("--version", cwd=tmp_path) as process:
        assert process.finish() == 0
    assert re.fullmatch(r"lavabox \d+\.\d+\.\d+\n", process.text)
