# SPDX-License-Identifier: MIT
"""`lavabox sim` with jobs that hang, which are found out; and with such as only look like it, which are not."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.deadends import JOBS, WrongJob, options
from tests.dispatcher.isolation import why_not
from tests.dispatcher.lavabox_process import Lavabox, processes_with


def run(box: Path, folder: Path, *arguments: str) -> tuple[int, str]:
    with Lavabox(
        "sim", "--box", str(box), "--group-log", str(folder / "group.jsonl"), *arguments, cwd=folder
    ) as process:
        return process.finish(), process.text


def without_times(text: str) -> str:
    return re.sub(r"waited (\d+ h )?(\d+ min ?)?(\d[\d.]* s)?", "waited #", text)


def results(text: str) -> dict[str, str]:
    """The table at the end."""
    lines = text[text.index("\ndevice ") + 1 :].split("\n\n", maxsplit=1)[0].splitlines()[1:]
    rows = [re.split(r"  +", line) for line in lines if line and not line.startswith("lavabox:")]
    return {row[0]: row[2] for row in rows}


# Jobs that hang


@pytest.mark.parametrize("job", JOBS, ids=[job.what for job in JOBS])
def test_a_wrong_job_is_found_out(job: WrongJob, box: Path, tmp_path: Path) -> None:
    status, text = run(box, tmp_path, *options(job))
    assert status == 1
    assert job.said in without_times(text), text


def test_the_commands_fail_and_the_run_ends(box: Path, tmp_path: Path) -> None:
    status, text = run(
        box,
        tmp_path,
        *("--role", "server=lava-wait a; echo status $?; lava-send over"),
        *("--role", "client=lava-wait b || echo I can do without; lava-wait over && echo over"),
    )
    assert status == 1
    assert (
        "server-1 | lava-wait: dead end: client-1 never sent 'a' and waits itself in `lava-wait b`\n" in text
    )
    assert "server-1 | status 1\n" in text
    # Scripts go on.
    assert "client-1 | I can do without\n" in text
    assert "client-1 | over\n" in text
    # And what they make of it does not hide it.
    expected = "1 failed result, after a dead end"
    assert results(text) == {"server-1": expected, "client-1": expected}
    events = [json.loads(line) for line in (tmp_path / "group.jsonl").read_text().splitlines()]
    released = [event for event in events if event["type"] == "released"]
    assert [event["status"] for event in released] == [1, 1]
    assert all(event["reason"].startswith("dead end: ") for event in released)


def test_a_script_that_tries_for_ever_is_ended(box: Path, tmp_path: Path) -> None:
    command = "until lava-wait {0}; do :; done"
    status, text = run(
        box, tmp_path, "--role", f"a={command.format('x')}", "--role", f"b={command.format('y')}"
    )
    assert status == 1
    assert text.count("lavabox: dead end: ") == 1
    assert "lavabox: the same dead end again\n" in text
    assert "lavabox: the scripts run into it again and again: the run ends\n" in text
    assert results(text)["a-1"] == "stopped, after a dead end"


# How a device may wait; each beside one that waits for it in vain.
WAYS = {
    "in a test case": "lava-test-case t --shell lava-sync x",
    "in a shell in a test case": "lava-test-case t --shell 'lava-wait x || lava-wait y; true'",
    "in a substitution": "v=$(lava-wait-all x)",
    "in a pipe": "lava-wait x | cat",
    "in the background": "lava-wait x & wait",
    "twice at once": "lava-wait x & lava-wait x & wait",
    "in a subshell, with an option": "(lava-wait -- x)",
    "for a role": "lava-wait-all x other",
    "for the network": "lava-network collect eth0",
    "by the box's own name": '"$(dirname "$(readlink -f "$(command -v lava-wait)")")/lavabox" lava-wait x',
    "in a session of its own": "setsid --wait lava-wait x",
    "without a mark": 'env -i PATH="$PATH" LAVA_CONSOLE="$LAVA_CONSOLE" lava-wait x',
    "named by another program": "flock flag lava-wait x; echo x | xargs lava-wait",
    "with a zombie beside it": "sh -c 'true & exec lava-wait x'",
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_wait(way: str, box: Path, tmp_path: Path) -> None:
    status, text = run(
        box, tmp_path, "--role", f"a={WAYS[way]}", "--role", "other=lava-wait never", "--timeout", "50"
    )
    assert status == 1
    assert "lavabox: dead end: " in text


def test_a_process_that_ends_without_a_word_is_noticed(box: Path, tmp_path: Path) -> None:
    """What makes the dead end is the end of a `sleep`, which nobody tells of."""
    status, text = run(box, tmp_path, "--role", "a=sleep 2 & lava-wait x", "--role", "b=lava-wait y")
    assert status == 1
    waited = re.search(r"dead end: \w-1 has waited ([\d.]+) s", text)
    assert waited is not None
    assert float(waited[1]) > 1


# Jobs that only look like it

# Something waits on each device, and all the same it goes on. `other` waits until it does.
HEALTHY = {
    "a sleep in the background": "(sleep 2; lava-send go) & lava-wait never-mind --timeout 30; wait",
    "a sleep in the background of a wait without a time-out": "(sleep 2; lava-send go) & lava-wait back",
    "timeout around it": "timeout 2 lava-wait never; lava-send go",
    "a read with a time-out in the shell": "lava-wait never & bg=$!; bash -c 'read -t 2 x </dev/tty'; "
    "kill $bg; wait $bg; lava-send go",
    "a shell that reads itself": "bash -c 'lava-wait never & read -t 2 x; kill $!; lava-send go'",
    "a shell that is busy": "lava-wait never & i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; kill $!; wait; "
    "lava-send go",
    "another program that waits with a limit": "python3 -c 'import subprocess\n"
    'try: subprocess.run(["lava-wait", "never"], timeout=2)\n'
    "except subprocess.TimeoutExpired: pass'; lava-send go",
    "a thread": "python3 -c 'import subprocess, threading, time\n"
    "def later():\n    time.sleep(2)\n    p.terminate()\n"
    'p = subprocess.Popen(["lava-wait", "never"])\n'
    "threading.Thread(target=later).start()\np.wait()'; lava-send go",
    "a trap for an alarm": "perl -e '$SIG{ALRM} = sub { kill 15, $p }; $p = fork; "
    'exec "lava-wait", "never" if !$p; alarm 2; waitpid $p, 0\'; lava-send go',
    "a daemon": "setsid sh -c 'sleep 2; lava-send go' & lava-wait back",
    "a daemon with an environment of its own": 'setsid env -i PATH="$PATH" LAVA_CONSOLE="$LAVA_CONSOLE" '
    "sh -c 'sleep 2; lava-send go' & lava-wait back",
    "a daemon that has shed all that tells whose it is": '(env -i PATH="$PATH" LAVA_CONSOLE="$LAVA_CONSOLE" '
    "setsid sh -c 'sleep 2; exec lava-send go' &); lava-wait back",
    "a time-out of its own": "lava-wait never --timeout 2; lava-send go",
    "many that are killed": "for i in 1 2 3 4 5 6; do lava-wait never-$i & sleep 0.3; kill $!; wait $!; done; "
    "lava-send go",
    "killed outright": "for i in 1 2 3 4 5 6; do lava-wait never & sleep 0.3; kill -9 $!; wait $!; done; "
    "lava-send go",
}
OTHER = "lava-wait go && lava-send back && echo got it"


@pytest.mark.parametrize("options", [(), ("--baud", "4800")], ids=["fast", "4800 baud"])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_device_that_may_go_on_is_not_judged(
    name: str, options: tuple[str, ...], box: Path, tmp_path: Path
) -> None:
    _, text = run(box, tmp_path, *options, "--role", f"a={HEALTHY[name]}", "--role", f"other={OTHER}")
    assert "other-1 | got it\n" in text, text
    assert "dead end" not in text


# Work that is handed to somebody else


# In work that is handed over, and after that: whoever shall do it may not have begun for seconds, on a busy machine.
BEGIN, UNTIL_BEGUN = "touch {0}/begun", "until [ -e {0}/begun ]; do sleep 0.1; done"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """A program that is called like one of those that start others: what is written to the FIFO, it runs."""
    shell = tmp_path / "atd"
    shutil.copy("/bin/sh", shell)
    requests = tmp_path / "requests"
    os.mkfifo(requests)
    # Opened for writing, too: otherwise a writer that closes it while it is opened anew ends the loop.
    loop = 'while read -r line; do sh -c "$line" & done <>"$1"'
    process = subprocess.Popen([shell, "-c", loop, "sh", requests], start_new_session=True)
    yield requests
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("options", [(), ("--shared-tmp",)], ids=" ".join)
def test_work_that_was_handed_to_a_server_is_not_judged(
    options: tuple[str, ...], server: Path, box: Path, tmp_path: Path
) -> None:
    begin, until_begun = BEGIN.format(tmp_path), UNTIL_BEGUN.format(tmp_path)
    work = f'PATH=$PATH LAVA_CONSOLE=$LAVA_CONSOLE sh -c "{begin}; sleep 2; lava-send go"'
    fill = 'sed "s|[$]PATH|$PATH|; s|[$]LAVA_CONSOLE|$LAVA_CONSOLE|"'
    command = f"echo '{work}' | {fill} >{server}; {until_begun}; lava-wait back"
    status, text = run(box, tmp_path, *options, "--role", f"a={command}", "--role", f"other={OTHER}")
    assert status == 0, text
    assert "other-1 | got it\n" in text
    assert "lavabox: dead end" not in text


def test_nor_is_work_of_a_server_that_nobody_knows(tmp_path: Path, box: Path) -> None:
    requests = tmp_path / "requests"
    os.mkfifo(requests)
    loop = 'while read -r line; do sh -c "$line" & done <>"$1"'
    process = subprocess.Popen(["/bin/sh", "-c", loop, "sh", requests], start_new_session=True)
    try:
        begin, until_begun = BEGIN.format(tmp_path), UNTIL_BEGUN.format(tmp_path)
        work = f"PATH=$PATH LAVA_CONSOLE=$LAVA_CONSOLE sh -c '{begin}; sleep 2; lava-send go'"
        command = f'echo "{work}" >{requests}; {until_begun}; lava-wait back'
        status, text = run(box, tmp_path, "--role", f"a={command}", "--role", f"other={OTHER}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert status == 0, text
    assert "lavabox: dead end" not in text


def test_when_such_work_has_ended_a_dead_end_is_one(server: Path, box: Path, tmp_path: Path) -> None:
    work = f"{BEGIN.format(tmp_path)}; sleep 2"
    command = f"echo '{work}' >{server}; {UNTIL_BEGUN.format(tmp_path)}; lava-wait x"
    status, text = run(box, tmp_path, "--role", f"a={command}", "--role", "other=lava-wait y")
    assert status == 1
    before, _, after = text.partition("lavabox: perhaps a dead end: ")
    assert "dead end" not in before
    # (Or work of the server of another test that runs at the same time.)
    doubt = r"[^\n]* But 'atd' \(process \d+\) has started `[^`]*` \(process \d+\) since this run began, "
    assert re.match(doubt + r"perhaps for a device\. The waits go on\n", after), text
    assert after.count("perhaps a dead end") == 0
    assert "\nlavabox: dead end: " in after


def test_a_time_out_that_the_script_did_not_give_hides_no_dead_end(box: Path, tmp_path: Path) -> None:
    status, text = run(
        box, tmp_path, "--role", "a=LAVA_WAIT_TIMEOUT=1000 lava-wait x", "--role", "b=lava-wait y"
    )
    assert status == 1
    assert "lavabox: dead end: " in text


def test_isolated_devices_can_not_hand_work_to_anybody(server: Path, box: Path, tmp_path: Path) -> None:
    if why_not():
        pytest.skip(why_not())
    with (
        open(server, "w") as requests,
        Lavabox(
            *("sim", "--isolate", "--box", str(box), "--timeout", "50"),
            *("--role", "a=lava-send a; lava-wait x", "--role", "b=lava-wait a; echo begun; lava-wait y"),
            cwd=tmp_path,
        ) as process,
    ):
        process.until("| begun")
        requests.write("sleep 1000\n")
        requests.flush()
        assert process.finish() == 1
    assert "lavabox: dead end: " in process.text
    assert "perhaps" not in process.text


# All wait but one, again and again, in turn, for so many rounds.
CHAIN = """\
i=1
self=$(lava-self); number=${self#peer-}; next=peer-$((number % 3 + 1)); before=peer-$(((number + 1) % 3 + 1))
while [ $i -le $1 ]; do
    [ $number = 1 ] || lava-wait $before-$i || exit 3
    lava-send $self-$i || exit 3
    [ $number != 1 ] || lava-wait $before-$i || exit 3
    lava-sync round || exit 3
    i=$((i+1))
done
"""
LINES = {
    "a fast line": ((), 10),
    "1200 baud": (("--baud", "1200"), 2),  # a round takes four seconds
    "kernel messages and lost bytes": (("--faults", "printk=50,drop=5e-4,flip=2e-4", "--seed", "3"), 5),
    "pauses": (("--faults", "delay=0.5,printk=10", "--seed", "4"), 5),
}


@pytest.mark.parametrize("name", LINES)
def test_a_healthy_job_is_never_judged(name: str, box: Path, tmp_path: Path) -> None:
    script = tmp_path / "chain.sh"
    script.write_text(CHAIN)
    options, rounds = LINES[name]
    status, text = run(box, tmp_path, *options, "--role", f"peer*3=sh {script} {rounds}")
    assert status == 0, text
    assert "dead end" not in text


def test_nor_is_one_on_a_busy_machine(box: Path, tmp_path: Path) -> None:
    script = tmp_path / "chain.sh"
    script.write_text(CHAIN)
    busy = [subprocess.Popen(["/bin/sh", "-c", "while :; do :; done"]) for _ in range(6)]
    try:
        status, text = run(box, tmp_path, "--role", f"peer*3=sh {script} 4")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert status == 0, text
    assert "dead end" not in text


def test_a_stopped_command_may_be_continued(box: Path, tmp_path: Path) -> None:
    stopped = "lava-wait x & sleep 1; kill -STOP $!; wait"
    status, text = run(box, tmp_path, "--timeout", "4", "--role", f"a={stopped}", "--role", "b=lava-wait y")
    assert status == 1
    assert "dead end" not in text
    assert "lavabox: timed out: the run was ended after 4 s\n" in text


def test_one_that_is_interrupted_is_stopped_as_ever(box: Path, tmp_path: Path) -> None:
    # Ids that no other process on this machine has among its arguments.
    first, second = (f"{name}-{os.getpid()}" for name in "xy")
    with Lavabox(
        *("sim", "--box", str(box)),
        *("--role", f"a=sleep 1000 & lava-wait {first}", "--role", f"b=lava-wait {second}"),
        cwd=tmp_path,
    ) as process:
        while not (processes_with(first) and processes_with(second)):
            pass
        process.interrupt(signal.SIGTERM)
        assert process.finish() == 143
    assert "dead end" not in process.text
