# SPDX-License-Identifier: MIT
"""The commands that LAVA has not, on simulated devices; and boxes and dispatchers of different age."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.dispatcher.isolation import why_not
from tests.dispatcher.lavabox_process import ROOT, Lavabox

# The last commit that knew none of these commands.
BEFORE = "b371cae5"


def run(box: Path, folder: Path, *arguments: str, **devices: str) -> tuple[int, list[str]]:
    """`lavabox sim` with these devices, each of the role of its name without the digits; and its lines."""
    for name, script in devices.items():
        (folder / f"{name}.sh").write_text(
            f"#!/bin/sh\nset -u\nexport LAVA_MULTI_NODE_CACHE={folder}/{name}\n{script}\n"
        )
        (folder / f"{name}.sh").chmod(0o755)
    options = [f"--device={name}:{name.rstrip('0123456789')}={folder}/{name}.sh" for name in devices]
    log = f"--group-log={folder}/group.jsonl"
    with Lavabox("sim", "--timeout=50", "--box", str(box), log, *options, *arguments, cwd=folder) as process:
        status = process.finish()
        return status, process.text.splitlines()


def said(lines: list[str], device: str) -> list[str]:
    """What the device printed."""
    return [line.partition("| ")[2] for line in lines if re.match(rf"{device} *\| ", line)]


def test_the_first_of_several_ids_is_told_with_its_data(box: Path, tmp_path: Path) -> None:
    status, lines = run(
        box,
        tmp_path,
        a="lava-wait --any ready failed unsure; cat $LAVA_MULTI_NODE_CACHE; lava-sync end; lava-wait --any ready failed",
        b="lava-send failed why=heat; lava-sync end; lava-send ready",
    )
    assert said(lines, "a") == ["failed", "why=heat", "failed"], lines
    assert status == 0


def test_a_server_takes_requests_one_by_one(box: Path, tmp_path: Path) -> None:
    client = "for n in 1 2 3; do lava-send request from=$(lava-self) n=$n; done; lava-wait done"
    server = """
        for n in 1 2 3 4 5 6; do
            sender=$(lava-wait --next request) || exit 1
            echo "$sender $(tr '\\n' ' ' <$LAVA_MULTI_NODE_CACHE)"
        done
        lava-wait --timeout 0.2 --next request && exit 1
        lava-send done"""
    status, lines = run(box, tmp_path, server=server, client1=client, client2=client)
    got = [line.rstrip() for line in said(lines, "server") if "from=" in line]
    for name in ("client1", "client2"):
        assert [line for line in got if line.startswith(name)] == [
            f"{name} from={name} n={n}" for n in (1, 2, 3)
        ], lines
    assert (status, len(got)) == (0, 6)


def test_a_wait_that_is_killed_takes_no_message(box: Path, tmp_path: Path) -> None:
    server = """
        timeout -s KILL 1 lava-wait --next request
        timeout 0.7 lava-wait --next request
        lava-send go
        for n in 1 2 3; do lava-wait --next request >/dev/null && cat $LAVA_MULTI_NODE_CACHE; done
        lava-send done"""
    client = "lava-wait go; for n in 1 2 3; do lava-send request n=$n; done; lava-wait done"
    _, lines = run(box, tmp_path, server=server, client=client)
    assert [line for line in said(lines, "server") if line.startswith("n=")] == ["n=1", "n=2", "n=3"], lines


# Runs a command whose answer has come, but cannot be printed, and kills it then.
KILLED_AT_ITS_ANSWER = """
import fcntl, os, subprocess, sys, time
cache = os.environ["LAVA_MULTI_NODE_CACHE"]
read_end, write_end = os.pipe()
os.set_blocking(write_end, False)
try:
    while True:
        os.write(write_end, b"x")
except BlockingIOError:
    os.set_blocking(write_end, True)
command = subprocess.Popen(sys.argv[1:], stdout=write_end)
while not os.path.exists(cache) or b"n=" not in open(cache, "rb").read():
    time.sleep(0.02)
command.kill()
command.wait()
"""


def test_a_message_comes_again_if_its_command_is_killed_before_it_has_printed_it(
    box: Path, tmp_path: Path
) -> None:
    (tmp_path / "kill.py").write_text(KILLED_AT_ITS_ANSWER)
    # The first command of a device goes the long way, as there is no agent yet, and the second one not.
    server = f"""
        for n in 1 2; do
            {sys.executable} {tmp_path}/kill.py lava-wait --next request
            lava-wait --timeout 30 --next request >/dev/null && cat $LAVA_MULTI_NODE_CACHE
        done"""
    status, lines = run(box, tmp_path, server=server, client="lava-send request n=1; lava-send request n=2")
    assert said(lines, "server") == ["n=1", "n=2"], lines
    assert status == 0


LOCKED = """
    lava-sync start
    for turn in 1 2 3; do
        lava-lock power -- 'mkdir %s/held || echo two at once; sleep 0.05; rmdir %s/held; exit 7'
        [ $? = 7 ] || echo wrong status
    done"""


def test_a_lock_is_had_by_one_at_a_time(box: Path, tmp_path: Path) -> None:
    script = LOCKED % (tmp_path, tmp_path)
    status, lines = run(box, tmp_path, a1=script, a2=script, b=script)
    assert [said(lines, name) for name in ("a1", "a2", "b")] == [[], [], []], lines
    assert status == 0


def test_a_lock_comes_back_however_its_command_or_device_ends(box: Path, tmp_path: Path) -> None:
    # Of a, a killed lava-lock, of which COMMAND goes on for a moment; of b, a lock that it never gave back.
    a = f"""
        lava-lock power -- 'lava-send has; sleep 0.7; touch {tmp_path}/over' &
        lava-wait started
        kill -9 $!
        wait
        lava-wait got
        lava-lock later -- echo a got later"""
    b = f"""
        lava-wait has
        lava-lock later
        lava-send started
        lava-lock power && [ -e {tmp_path}/over ] && echo b got power
        lava-send got"""
    _, lines = run(box, tmp_path, a=a, b=b)
    assert said(lines, "b") == ["b got power"], lines
    assert said(lines, "a")[-1:] == ["a got later"], lines


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("console", ["/dev/tty", "file 0"])
def test_a_lock_comes_back_where_another_user_has_the_terminal(
    box: Path, tmp_path: Path, console: str
) -> None:
    """What gives it back cannot open the terminal by its name."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as public:
        os.chmod(public, 0o755)
        Path(public, "own").mkdir()
        os.chown(Path(public, "own"), 65534, 65534)
        for name in ("lava-lock", "lava-send", "lava-wait"):
            shutil.copy(box, Path(public, name))
        become = "setpriv --reuid=65534 --regid=65534 --clear-groups"
        start, stdin = ("", "/dev/null") if console == "/dev/tty" else ("setsid ", "/dev/tty")
        a = f"""
            PATH={public}:$PATH LAVA_MULTI_NODE_CACHE={public}/own/cache
            {start}{become} lava-lock power -- 'lava-send has; sleep 0.2' <>{stdin} &
            {become} lava-wait started
            kill -9 $!
            {become} lava-wait got"""
        b = "lava-wait has; lava-send started; lava-lock --timeout 20 power && echo got; lava-send got"
        _, lines = run(box, tmp_path, a=a, b=b)
    assert said(lines, "b") == ["got"], lines


def test_a_dead_end_through_a_lock_is_explained(box: Path, tmp_path: Path) -> None:
    status, lines = run(
        box,
        tmp_path,
        a="lava-lock power -- 'lava-send has; lava-wait go'",
        b="lava-wait has; lava-lock power && lava-send go",
    )
    text = "\n".join(lines)
    if "perhaps a dead end" not in text:
        assert "a has 'power' and waits itself in `lava-wait go`" in text
        assert "So a and b wait for each other" in text
    assert status == 1


def test_barriers_of_some(box: Path, tmp_path: Path) -> None:
    client = "lava-sync --role client phase; echo over; lava-sync --count 2 enough; lava-sync end"
    status, lines = run(
        box,
        tmp_path,
        client1=client,
        client2=client,
        server="lava-sync --count 2 enough; lava-wait-all --device client1 --device server enough; lava-sync end",
    )
    assert [said(lines, name) for name in ("client1", "client2", "server")] == [["over"], ["over"], []], lines
    assert status == 0


def test_what_the_others_do(box: Path, tmp_path: Path) -> None:
    status, lines = run(
        box,
        tmp_path,
        a="until lava-group --state | grep -q 'c.*ended' && lava-group --state b | grep -q waiting; do :; done\n"
        "lava-group --state; lava-send go",
        b="lava-wait go",
        c="exit 0",
    )
    found = [line.split("\t") for line in said(lines, "a")]
    assert [row[:3] for row in found] == [["a", "a", "running"], ["b", "b", "waiting"], ["c", "c", "ended"]]
    assert found[1][3].startswith("lava-wait go for a, since ")
    assert found[2][3] == "ended with status 0"
    assert status == 0


@pytest.mark.parametrize("isolate", [False, True])
def test_a_device_that_reboots_goes_on_as_itself(box: Path, tmp_path: Path, isolate: bool) -> None:
    if isolate and why_not():
        pytest.skip(why_not())
    a = """
        if [ $LAVABOX_BOOT = 1 ]; then
            lava-lock power
            lava-test-set start settings
            lava-send before k=v
            lava-wait --next request >/dev/null
            lava-wait never &
            lava-lock brief -- '
                until lava-group --state | grep -q "lava-wait never"; do :; done; lava-send waits; lava-reboot'
        fi
        lava-wait --next request >/dev/null; cat $LAVA_MULTI_NODE_CACHE
        lava-test-set stop && lava-unlock power && echo unlocked
        lava-send after"""
    b = """
        lava-send request n=1
        lava-send request n=2
        lava-wait waits
        lava-lock brief -- echo b got brief
        lava-lock power -- echo b got power
        lava-wait before && cat $LAVA_MULTI_NODE_CACHE
        lava-wait after"""
    status, lines = run(box, tmp_path, *(["--isolate"] if isolate else []), a=a, b=b)
    assert [line for line in said(lines, "a") if line in ("n=1", "n=2", "unlocked")] == ["n=2", "unlocked"], (
        lines
    )
    assert said(lines, "b") == ["b got brief", "b got power", "k=v"], lines
    # The wait that was open at the reboot has not failed: it has ended with its device's boot.
    assert status == 0, lines
    log = (tmp_path / "group.jsonl").read_text().splitlines()
    ended = [event for event in map(json.loads, log) if event["type"] == "released"]
    assert [(event["status"], event["reason"]) for event in ended] == [(130, "the device rebooted")]


# Another age


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree before these commands, from the history."""
    folder = tmp_path_factory.mktemp("old")
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", BEFORE], capture_output=True)
    if archive.returncode:
        pytest.skip("no history to build an old box from")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


@pytest.fixture(scope="module")
def old_box(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old-box") / "lavabox"
    subprocess.run(
        [sys.executable, "build_zipapp.py", "-o", str(path)], cwd=old, check=True, capture_output=True
    )
    return path


def test_an_old_box_is_served(old_box: Path, tmp_path: Path) -> None:
    script = """
        lava-self; lava-role; lava-group | wc -l
        lava-send ready name=$(lava-self)
        lava-wait ready && cat $LAVA_MULTI_NODE_CACHE
        lava-wait-all ready && cat $LAVA_MULTI_NODE_CACHE
        lava-sync one; lava-sync one
        lava-wait --timeout 0.1 never; echo $?
        lava-test-set start s && lava-test-case t --result pass && lava-test-set stop; echo $?"""
    _, lines = run(old_box, tmp_path, a=script, b=script)
    for name, role, other in (("a", "a", "b"), ("b", "b", "a")):
        assert [line.strip() for line in said(lines, name) if "timed out" not in line] == [
            name, role, "2", f"name={other}", f"{other}:name={other}", "1", "0",
        ], lines  # fmt: skip


def test_an_old_dispatcher_says_that_it_does_not_know_a_request(box: Path, old: Path, tmp_path: Path) -> None:
    commands = ("lava-wait --next x", "lava-wait --any x y", "lava-wait-all --device a x", "lava-sync --count 1 x",
                "lava-lock x", "lava-unlock x", "lava-group --state")  # fmt: skip
    script = tmp_path / "a.sh"
    script.write_text("".join(f"{command} 2>&1; echo status $?\n" for command in commands))
    found = subprocess.run(
        [sys.executable, "-m", "dispatcher", "sim", "--box", str(box), f"--device=a:r=sh {script}"],
        cwd=old,
        env={**os.environ, "PYTHONPATH": str(old), "NO_COLOR": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = said(found.stdout.splitlines(), "a")
    assert lines.count("status 2") == len(commands), found.stdout
    assert sum("knows no operation" in line for line in lines) == len(commands), found.stdout
