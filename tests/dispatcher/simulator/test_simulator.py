# SPDX-License-Identifier: MIT
"""`lavabox sim`, whole: real shells on real ptys, the built box, and every way to end."""

import json
import os
import pty
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatcher.simulator.box import REBOOT
from dispatcher.simulator.privatetmp import PrivateTmp, listening_sockets, outermost_in_tmp, probe
from tests.dispatcher.isolation import why_not
from tests.dispatcher.lavabox_process import PATIENCE, Lavabox, processes_with, variables
from tests.dispatcher.simulating import Simulator

CACHE = "/tmp/lava_multi_node_cache.txt"


def private_tmp_permitted(state: Path) -> bool:
    return isinstance(probe(state, os.environ), PrivateTmp)


def table(text: str) -> dict[str, tuple[str, str]]:
    """The table at the end: role and result by device."""
    lines = text[text.index("\ndevice ") + 1 :].split("\n\n", maxsplit=1)[0].splitlines()[1:]
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


@pytest.mark.parametrize("failing", ["exit 3", "lava-test-case x --result fail; sleep 1000"])
def test_fail_fast(sim: Simulator, failing: str) -> None:
    status, text = sim.run(
        "--fail-fast", "--role", f"a=lava-sync s; {failing}", "--role", "b=lava-sync s; sleep 1000"
    )
    assert status == 1
    why = "a-1 has failed" if failing == "exit 3" else "a-1 has a failed result"
    assert f"lavabox: {why}: the run ends (--fail-fast)\n" in text
    assert table(text)["b-1"] == ("b", "stopped")


def test_timestamps(sim: Simulator) -> None:
    status, text = sim.run(
        *("--timestamps", "--log-dir", "logs", "--role", "a=echo one; printf two; lava-self; printf end")
    )
    assert status == 0
    shown, table = text.split("\n\n", maxsplit=1)
    clock = r"\d\d:\d\d:\d\d\.\d\d\d"
    for line in ("a-1 | one", "a-1 | twoa-1", r"a-1 ! ended with status 0"):
        assert re.search(f"^{clock} {re.escape(line)}$", shown, re.MULTILINE)
    assert not re.search(f"^{clock}", table, re.MULTILINE)
    log = (sim.folder / "logs" / "a-1.log").read_bytes()
    assert log == b"one\r\ntwoa-1\r\nend"
    stamped = (sim.folder / "logs" / "a-1.stamped").read_bytes()
    stamp = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
    assert re.sub(stamp, b"", stamped) == log
    assert len(re.findall(b"^" + stamp, stamped, re.MULTILINE)) == 3


def test_output_of_a_failed_test_in_junit(sim: Simulator) -> None:
    script = "echo before; lava-test-case bad --shell 'echo of the test; false'; lava-test-case good --shell echo no"
    for logs in ((), ("--log-dir", "logs")):
        status, _ = sim.run("--role", f"a={script}", "--junit", "junit.xml", *logs)
        assert status == 1
        text = (sim.folder / "junit.xml").read_text()
        assert "<system-out>of the test\n</system-out>" in text
        assert text.count("system-out") == 2
        assert (".log." in text) == bool(logs)


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
    if os.geteuid() != 0:
        pytest.skip("only root can give up the right to make namespaces")
    command = [
        *("setpriv", "--bounding-set=-sys_admin", sys.executable, "-m", "dispatcher", "sim"),
        *("--box", str(sim.box), "--role", 'a=echo "<$LAVA_MULTI_NODE_CACHE>"'),
    ]
    done = subprocess.run(
        command, cwd=sim.folder, env=variables(TMPDIR=str(sim.temporary)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^lavabox: the devices share this machine's /tmp.*\(unshare: ", done.stdout, re.MULTILINE
    )
    assert "/lava_multi_node_cache.txt>\n" in done.stdout


def below_a_mount(sim: Simulator, folder: Path, script: str, *arguments: str) -> str:
    """What `lavabox sim` prints, called below a file system that is mounted on `folder`.

    :param script: shell text that fills the file system first, from within.
    """
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    text = f'mount -t tmpfs none "$1" && cd "$1" && {script} && shift && exec "$@"'
    command = [sys.executable, "-m", "dispatcher", "sim", "--box", str(sim.box), *arguments]
    done = subprocess.run(
        ["unshare", *users, "--mount", "sh", "-c", text, "sh", str(folder), *command],
        env=variables(TMPDIR=str(sim.temporary)),
        capture_output=True,
        text=True,
    )
    if "unshare: " in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder_in_tmp() -> Iterator[Path]:
    folder = Path("/tmp") / f"lavabox-test-{secrets.token_hex(8)}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("options", [(), ("--shared-tmp",), ("--isolate",)], ids=" ".join)
def test_work_below_a_mount_below_tmp(options: tuple[str, ...], sim: Simulator, folder_in_tmp: Path) -> None:
    if "--isolate" in options and why_not():
        pytest.skip(why_not())
    fill = "mkdir project && cd project && echo 'echo found' >run.sh && chmod +x run.sh"
    text = below_a_mount(sim, folder_in_tmp, fill, *options, "--role", "a=./run.sh; pwd")
    assert f"a-1 | found\na-1 | {folder_in_tmp}/project\n" in text


def test_temporary_files_below_a_mount_below_tmp(sim: Simulator, folder_in_tmp: Path) -> None:
    fill = "mkdir temporary && export TMPDIR=$PWD/temporary"
    text = below_a_mount(
        sim, folder_in_tmp, fill, "--role", "a=lava-self; touch /tmp/x; ls -A $TMPDIR | wc -l"
    )
    assert "a-1 | a-1\na-1 | 1\n" in text


@pytest.mark.parametrize("options", [(), ("--isolate",)], ids=" ".join)
@pytest.mark.parametrize("name", ["a:b", "a,b", "a b", "ü", 'a"b'])
def test_names_of_the_folder_for_temporary_files(name: str, options: tuple[str, ...], sim: Simulator) -> None:
    if "--isolate" in options and why_not():
        pytest.skip(why_not())
    temporary = sim.folder / name
    temporary.mkdir()
    status, text = sim.run(*options, "--role", "a*2=lava-sync x; lava-self", TMPDIR=str(temporary))
    assert status == 0, text
    assert "a-2 | a-2\n" in text
    assert list(temporary.iterdir()) == []


def test_sockets_in_tmp_are_those_of_this_machine(sim: Simulator, folder_in_tmp: Path) -> None:
    path = folder_in_tmp / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r}); print('connected')"
        (sim.folder / "connect.py").write_text(connect)
        status, text = sim.run("--role", "a=python3 connect.py")
    assert status == 0, text
    assert "a-1 | connected\n" in text


def test_what_stays_real() -> None:
    table = (
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 25681 /tmp/a b/socket\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 25682 /tmp/a b/socket\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 25683 @/tmp/abstract\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 25684\n"
    )
    assert listening_sockets(table) == [Path("/tmp/a b/socket")]
    paths = [Path("/tmp/a/b"), Path("/tmp/a"), Path("/tmp"), Path("/usr"), Path("/tmp/ab")]
    assert outermost_in_tmp(paths) == [Path("/tmp/a"), Path("/tmp/ab")]


def test_cache_files_of_the_caller_are_not_taken_over(sim: Simulator) -> None:
    status, text = sim.run("--role", 'a=echo "<$LAVA_MULTI_NODE_CACHE>"', LAVA_MULTI_NODE_CACHE="/mine")
    assert status == 0
    assert "/mine" not in text


@pytest.mark.parametrize("options", [(), ("--isolate",)], ids=" ".join)
def test_what_forks_without_end_is_ended(options: tuple[str, ...], sim: Simulator) -> None:
    """Killing one of them makes room for another one. A limit for their user keeps the machine usable."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if "--isolate" in options and why_not():
        pytest.skip(why_not())
    user = 10**6 + secrets.randbelow(10**6)
    bomb = (
        f"setpriv --reuid={user} --clear-groups prlimit --nproc=100 sh -c 'f() {{ f | f & }}; f' 2>/dev/null"
    )
    status, text = sim.run(*options, "--role", f"a={bomb}; lava-self; exit 3")
    assert status == 1
    assert "a-1 | a-1\n" in text
    assert table(text)["a-1"] == ("a", "ended with status 3")
    assert "could not be ended" not in text
    assert (
        str(user) not in subprocess.run(["ps", "-eo", "uid="], capture_output=True, text=True).stdout.split()
    )


# What a test needs around it


def test_setup_and_path(sim: Simulator) -> None:
    sim.script("stand-ins/flash", "echo flashes")
    sim.script("stand-ins/lava-self", "echo not the box")
    sim.script("prepare", "flash; echo prepared >/tmp/prepared; [ $LAVABOX_BOOT = 1 ] && pwd; lava-role")
    status, text = sim.run(
        *("--setup", "./prepare", "--path", "stand-ins", "--role", "a*2=cat /tmp/prepared; lava-self")
    )
    assert status == 0, text
    said = ["flashes", str(sim.folder), "a", "prepared"]
    for name in ("a-1", "a-2"):
        assert re.findall(rf"{name} \| (.*)\n", text) == [*said, name]


def test_the_box_does_not_run_by_a_stand_in(sim: Simulator) -> None:
    """One that ends with 0 would let each wait pass."""
    sim.script("stand-ins/python3", "echo stand-in")
    status, text = sim.run(
        "--path", "stand-ins", "--role", "a=lava-self && python3 && lava-wait x", "--role", "b=true"
    )
    assert status == 1, text
    assert re.findall(r"a-1 \| (.*)\n", text)[:2] == ["a-1", "stand-in"]


def test_stand_ins_do_not_keep_a_job_from_running(sim: Simulator) -> None:
    """What is around the steps of a job uses no program of the device's PATH."""
    for name in ("mkdir", "cat", "grep", "true", "sleep", "rm", "test"):
        sim.script(f"stand-ins/{name}", "echo stand-in $0; exit 3")
    (sim.folder / "d.yaml").write_text(
        "metadata: {format: Lava-Test Test Definition 1.0, name: d}\n"
        "install: {steps: [echo installed]}\n"
        "run: {steps: ['[ $LAVABOX_BOOT = 2 ] || lava-reboot', 'echo ran']}\n"
    )
    (sim.folder / "e.yaml").write_text(
        "metadata: {format: Lava-Test Test Definition 1.0, name: e}\nrun: {steps: [echo ran]}\n"
    )
    status, text = sim.run("e.yaml", "--path", "stand-ins", "--role", "a")
    assert status == 0, text
    assert "a-1 | ran\n" in text
    _, text = sim.run("d.yaml", "--path", "stand-ins", "--role", "a")
    assert "Booting Linux" in text
    assert "a-1 | installed\n" in text
    assert "stand-in" not in text.replace("/stand-ins", "")
    status, text = sim.run("--role", "a=ls /tmp/mark || echo own tmp", PATH=f"stand-ins:{os.environ['PATH']}")
    assert "share this machine's /tmp" not in text


def test_setup_before_definitions(sim: Simulator) -> None:
    steps = "metadata: {format: Lava-Test Test Definition 1.0, name: d}\nrun: {steps: [cat /tmp/prepared]}\n"
    (sim.folder / "d.yaml").write_text(steps)
    sim.script("prepare", "echo prepared >/tmp/prepared")
    status, text = sim.run("d.yaml", "--setup", "prepare", "--role", "a")
    assert status == 0, text
    assert "a-1 | prepared\n" in text


def test_setup_that_fails_ends_the_device(sim: Simulator) -> None:
    sim.script("prepare", "exit 3")
    status, text = sim.run("--setup", "prepare", "--role", "a=echo not reached")
    assert status == 1
    assert "prepare ended with status 3; this device does nothing more\n" in text
    assert "not reached" not in text
    assert table(text)["a-1"] == ("a", "ended with status 3")


# Reboots


def test_a_device_reboots(sim: Simulator) -> None:
    seconds = f"{secrets.randbelow(10**6) + 10**6}"
    first = f"stty -echo; echo x >/tmp/x{seconds}; setsid env -i sleep {seconds} & lava-send once; lava-wait never & reboot"
    then = f"stty | grep -c -- -echo; ls /tmp/x{seconds}; lava-send twice; lava-wait end"
    status, text = sim.run(
        *("--role", f"a=echo boot $LAVABOX_BOOT; if [ $LAVABOX_BOOT = 1 ]; then {first}; else {then}; fi"),
        *("--role", "b=lava-wait once; lava-wait twice; lava-send end", "--log-dir", "logs"),
    )
    assert status == 0, text
    assert table(text)["a-1"] == ("a", "succeeded")
    log = (sim.folder / "logs" / "a-1.log").read_bytes()
    lines = [line for line in log.split(b"\r\n") if line]
    assert lines[0] == b"boot 1"
    assert lines[1].endswith(b"] reboot: Restarting system")
    assert lines[3].startswith(b"[    0.000000] Linux version ")
    missing = f"ls: cannot access '/tmp/x{seconds}': No such file or directory"
    assert lines[4:] == [b"boot 2", b"0", missing.encode()]
    assert processes_with(seconds) == []


def test_a_device_that_always_reboots_is_ended(sim: Simulator) -> None:
    status, text = sim.run("--role", "a=lava-reboot")
    assert status == 1
    assert table(text)["a-1"] == ("a", "has booted 100 times")
    assert text.count("Linux version") == 99


def test_a_device_that_reboots_may_be_ended(sim: Simulator) -> None:
    with sim.start("--role", "a*3=echo boot $LAVABOX_BOOT; lava-reboot") as process:
        process.until("| boot 2", times=3)
        process.interrupt()
        assert process.finish() == 130
    assert set(table(process.text).values()) == {("a", "stopped")}


def test_reboots_as_a_fault(sim: Simulator) -> None:
    command = "echo boot $LAVABOX_BOOT; [ $LAVABOX_BOOT -ge 3 ] || sleep 1000"
    status, text = sim.run("--faults", "reboot=1", "--seed", "1", "--role", f"a*2={command}")
    assert status == 0, text
    # (One that was rebooted before it came to its first command has said nothing.)
    assert int(re.findall(r"a-2 \| boot (\d+)\n", text)[-1]) >= 3


def test_nothing_but_simulated_devices_is_rebooted(tmp_path: Path) -> None:
    for name in ("lava-reboot", "reboot"):
        program = tmp_path / name
        program.write_text(REBOOT.replace("@POWER@", str(tmp_path / "none")))
        program.chmod(0o755)
        done = subprocess.run([program], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        assert done.returncode == 69
        assert done.stderr.startswith(f"{name}: this is no simulated device")


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
    assert "lavabox: timed out: the run was ended after 3 s\n" in text
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
    assert "a-1 ! the log of this device ends here: logs/a-1.log: No space left on device" in text
    # Also where it is not overlooked: the table says that all has succeeded.
    end = "lavabox: --log-dir: the end of a console log is missing: logs/a-1.log: No space left on device\n"
    assert text.endswith(end)


def test_a_log_that_is_a_pipe_without_a_reader(sim: Simulator) -> None:
    (sim.folder / "logs").mkdir()
    os.mkfifo(sim.folder / "logs" / "a-1.log")
    status, text = sim.run("--role", "a=echo hello", "--log-dir", "logs")
    assert status == 1
    assert "--log-dir: can't write logs/a-1.log: it is a named pipe or a socket that nobody reads" in text


def test_a_device_configuration_that_is_a_pipe(sim: Simulator) -> None:
    os.mkfifo(sim.folder / "pipe")
    status, text = sim.run("--role", "a=echo hello", "--device-config", "pipe")
    assert status == 2
    assert "--device-config pipe: it is a named pipe, and not a file" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system, which only root may")
def test_a_disk_that_gets_full(sim: Simulator) -> None:
    """The run goes on; what could not be written is named; what was acknowledged is there."""
    disk = sim.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "lavabox-test", disk], check=True)
    try:
        send = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); lava-send m$i v=$(printf %01000d 0) || break; done"
        status, text = sim.run(
            *("--role", f"a={send}; echo sent until $i; head -c 100000 /dev/zero; echo; echo still here"),
            *("--role", "b=lava-wait m1; echo had m1"),
            *("--group-log", "disk/group.jsonl", "--log-dir", "disk/logs", "--junit", "junit.xml"),
        )
        events = [json.loads(line) for line in (disk / "group.jsonl").read_text().splitlines()]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
    assert status == 1
    full = "disk/group.jsonl: No space left on device"
    assert f"lavabox: the group log can't be written: {full}; trying again" in text
    assert "lavabox: --log-dir: disk/logs/stats.txt could not be written: No space left on device" in text
    assert f"a-1 | lava-send: the dispatcher could not write it to the group log: {full}" in text
    assert "a-1 ! the log of this device ends here: disk/logs/a-1.log: No space left on device" in text
    assert "a-1 | still here\n" in text
    assert "\nb-1     b     succeeded " in text
    found = re.search("sent until ([0-9]+)", text)
    assert found is not None
    acknowledged = {f"m{number}" for number in range(1, int(found[1]))}
    assert {event["message_id"] for event in events if event["type"] == "sent"} == acknowledged
    assert (sim.folder / "junit.xml").exists()


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
    assert len((sim.folder / "group.jsonl").read_text().splitlines()) == 4
    status, text = sim.run(*arguments)
    assert status == 1
    assert "lavabox sim: --group-log: group.jsonl holds another run; name a new file" in text


def test_many_devices(sim: Simulator) -> None:
    status, text = sim.run("--role", "a*20=lava-sync x; lava-group | wc -l; lava-sync y")
    assert status == 0
    assert text.count("| 20\n") == 20


@pytest.mark.parametrize("options", [("--role", "a=./run.sh x"), ("--setup", "run.sh", "--role", "a=true")])
def test_the_cr_of_an_interpreter_is_named(options: tuple[str, ...], sim: Simulator) -> None:
    (sim.folder / "run.sh").write_bytes(b"#!/bin/sh -e\r\necho hello\r\n")
    (sim.folder / "run.sh").chmod(0o755)
    status, text = sim.run(*options)
    assert status == 2
    assert (
        "run.sh: its lines end with CR LF, so its interpreter would be '/bin/sh -e\\r'; remove the CRs"
        in text
    )


REFUSED = {
    "a setup": (("--setup", "no", "--role", "a=x"), 2, "lavabox sim: --setup no: no such file"),
    "a setup that can't be run": (
        ("--setup", "/etc/passwd", "--role", "a=x"),
        2,
        "--setup /etc/passwd: it is not executable; run `chmod +x /etc/passwd`",
    ),
    "a path": (("--path", "/etc/passwd", "--role", "a=x"), 2, "--path /etc/passwd: no such folder"),
    "no device": ((), 2, "lavabox sim: no devices; name them"),
    "a name": (
        ("--role", "a/b=x"),
        2,
        "lavabox sim: --role 'a/b=x': the name of a role can't have '/' in it",
    ),
    "a time-out": (
        ("--timeout", "0", "--role", "a=x"),
        2,
        "lavabox sim: --timeout: 0: it must be more than 0\nTry `lavabox sim --help`.\n",
    ),
    "a time-out of nan": (
        ("--timeout", "nan", "--role", "a=x"),
        2,
        "--timeout: 'nan' is no time; write it as in 90, 90s, 1.5m, 10h or 1d",
    ),
    "a speed": (("--baud", "1", "--role", "a=x"), 2, "--baud 1: it must be a number from"),
    "a speed that is no number": (
        ("--baud", "fast", "--role", "a=x"),
        2,
        "lavabox sim: --baud: invalid int value: 'fast'",
    ),
    "a shell": (("--shell", "nosuch", "--role", "a=x"), 2, "--shell 'nosuch': there is no such program"),
    "no shell": (("--shell", "", "--role", "a=x"), 2, "--shell '': there is no such program"),
    "one file for two": (
        ("--role", "a=x", "--junit", "x.md", "--flow", "./x.md"),
        2,
        "lavabox sim: --junit and --flow: x.md can't be both; give one of them another name",
    ),
    "half a quote": (("--shell", "'", "--role", "a=x"), 2, "No closing quotation"),
    "an option": (("--role", "a=x", "--nosuch"), 2, "lavabox sim: there is no option '--nosuch'\n"),
    "no abbreviations": (
        ("--role", "a=x", "--time", "3"),
        2,
        "there is no option '--time'; did you mean '--timeout'?",
    ),
    "a log folder": (
        ("--role", "a=x", "--log-dir", "/dev/null/x"),
        1,
        "--log-dir: can't write /dev/null/x: ",
    ),
    "a group log": (("--role", "a=x", "--group-log", "/nosuch/x"), 1, "lavabox sim: --group-log: "),
    "a box": (("--role", "a=x", "--box", "nosuch"), 1, "--box nosuch: no such executable file"),
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
