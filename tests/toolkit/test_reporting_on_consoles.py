# SPDX-License-Identifier: MIT
"""The commands of a test definition as processes, on ptys that an engine serves, by every Python there is."""

from __future__ import annotations

import json
import os
import select
from pathlib import Path

import pytest

from dispatcher.group.events import Reported
from tests.consoles import PATIENCE, Board, Lab, eventually
from tests.dispatcher.lavabox_process import Lavabox


def reports(lab: Lab) -> list[tuple[str | None, ...]]:
    return [(event.kind, *event.fields) for event in lab.events(Reported) if isinstance(event, Reported)]


def text(board: Board) -> str:
    """All that came out of the console, once the engine has read what is on its way."""
    board.lab.wait_for(lambda: not select.select([board.master], [], [], 0)[0], "the end of the output")
    return board.output.decode().replace("\r\n", "\n")


RESULTS = r"""
set -e
printf 'no end' >file
lava-test-set start 'net  work'
lava-test-case 'pass > it' --shell 'echo "$TEST_CASE_ID" | tr a-z A-Z; cd /; pwd'
lava-test-case fails --shell 'exit 3'
lava-test-case several --shell printf '%s|' 'a  b' '' '*'
lava-test-case known --measurement 1.50 --units 'MB > s' --result skip
lava-test-case shown --result unknown --output file
echo
lava-test-set stop 'net  work'
lava-test-case outer --shell lava-test-case inner --result fail
lava-test-reference ref --result pass --reference 'http://h/?a b&c=>'
lava-test-event 'an  event'
lava-test-feedback --namespace other
lava-test-raise no 'disk  here' || echo "raise $?"
printf '1\n2\n' | while read i; do lava-test-case "loop-$i" --result pass; done
x=$(lava-test-case quiet --shell 'echo inside'); echo "[$x]"
lava-test-case "$(printf 'line\nbreak \377')" --result pass
lava-test-case "$(head -c 10240 /dev/zero | tr '\0' x)" --result pass
"""

REPORTED = [
    ("set-start", "net  work"),
    ("case-start", "pass > it"),
    ("case-end", "pass > it"),
    ("result", "pass > it", "pass", None, None),
    ("case-start", "fails"),
    ("case-end", "fails"),
    ("result", "fails", "fail", None, None),
    ("case-start", "several"),
    ("case-end", "several"),
    ("result", "several", "pass", None, None),
    ("result", "known", "skip", "1.50", "MB > s"),
    ("case-start", "shown"),
    ("case-end", "shown"),
    ("result", "shown", "unknown", None, None),
    ("set-stop",),
    ("case-start", "outer"),
    ("result", "inner", "fail", None, None),
    ("case-end", "outer"),
    ("result", "outer", "pass", None, None),
    ("reference", "ref", "pass", "http://h/?a b&c=>"),
    ("event", "an  event"),
    ("feedback", "other"),
    ("raise", "no disk  here"),
    ("result", "loop-1", "pass", None, None),
    ("result", "loop-2", "pass", None, None),
    ("case-start", "quiet"),
    ("case-end", "quiet"),
    ("result", "quiet", "pass", None, None),
    ("result", "line\nbreak \udcff", "pass", None, None),
    ("result", "x" * 10_240, "pass", None, None),
]

PRINTED = "PASS > IT\n/\na  b||*|no end\nraise 1\n[inside]\n"


def path_of(interpreter: Path, folder: Path, lab: Lab) -> dict[str, str]:
    """A PATH whose python3 is the interpreter."""
    folder = folder / "python"
    folder.mkdir()
    (folder / "python3").symlink_to(interpreter)
    return {"PATH": f"{lab.commands}:{folder}:/usr/sbin:/usr/bin:/sbin:/bin"}


def test_results_arrive(lab: Lab, board: Board, interpreter: Path, tmp_path: Path) -> None:
    process = board.start(RESULTS, environment=path_of(interpreter, tmp_path, lab))
    assert process.wait(4 * PATIENCE) == 0, board.output
    assert reports(lab) == REPORTED
    assert text(board) == PRINTED


def test_marks_stand_where_the_output_of_the_test_is(lab: Lab, board: Board) -> None:
    script = (
        "echo before; lava-test-case boot --shell 'printf inside'; lava-test-case x --result pass --output f"
    )
    assert board.run("printf shown >f; " + script) == 0
    assert text(board) == "before\ninsideshown"
    events = [event for event in lab.events(Reported) if isinstance(event, Reported)]
    at = {(event.kind, event.fields[0]): event.position for event in events}
    assert board.output[at["case-start", "boot"] : at["case-end", "boot"]] == b"inside"
    assert board.output[at["case-start", "x"] : at["case-end", "x"]] == b"shown"


REFUSED = [
    ("lava-test-case x --shell", 2),
    ("lava-test-case x --result good", 2),
    ("lava-test-case x --result pass --measurement 1,5", 2),
    ("lava-test-case x --result pass --status y", 2),
    ("lava-test-set stop", 0),
    ("lava-test-set start", 2),
    ("lava-test-reference x --result pass", 2),
    ("lava-test-raise", 2),
    ("lava-test-event", 0),
    ("lava-test-feedback", 2),
    ("lava-background-process-stop x", 0),
    ("lava-background-process-start x --cmd sleep 5", 2),
    ("lava-network broadcast nope0", 1),
    ("lava-network query a ipv4", 1),
    ("lava-vland-self", 1),
    ("lava-test-case-metadata x --shell true", 1),
    ("lava-test-runner missing", 1),
    ("lava-target-storage UMS", 1),
    ("lava-echo-config", 1),
    ("lava-test-case $(head -c 20000 /dev/zero | tr '\\0' x) --result pass", 2),
]


def test_bad_input_has_its_status_and_records_nothing(lab: Lab, board: Board) -> None:
    statuses = "; ".join(f"{command} 2>err; echo $?; wc -l <err" for command, _ in REFUSED)
    environment = {"LAVA_MULTI_NODE_NETWORK_CACHE": "network", "LAVA_RESULT_DIR": str(board.directory)}
    assert board.start(statuses, environment=environment).wait(4 * PATIENCE) == 0
    lines = [line for line in text(board).splitlines() if not line.startswith("<LAVA_TEST_RUNNER")]
    assert list(zip(REFUSED, map(int, lines[::2]), strict=True)) == [(row, row[1]) for row in REFUSED]
    # A sentence; after wrong usage, the usage too. Nothing at all where there is no such storage.
    assert all(
        said <= 6 and (said >= 1 or "storage" in row[0])
        for row, said in zip(REFUSED, map(int, lines[1::2]), strict=True)
    )
    # Of those that would have lost a result the dispatcher is told, and of nothing else.
    assert {kind for kind, *_ in reports(lab)} == {"refused"}


def test_sets_do_not_nest(lab: Lab, board: Board) -> None:
    script = "lava-test-set start a; lava-test-set start b; echo $?; lava-test-set stop; lava-test-set stop; echo $?"
    assert board.run(script) == 0
    assert text(board) == (
        "lava-test-set: a test set is open already: a\n0\nlava-test-set: no test set is open\n0\n"
    )
    assert reports(lab) == [("set-start", "a"), ("set-stop",), ("set-start", "b"), ("set-stop",)]


def test_ctrl_c_ends_a_test_and_records_no_result(lab: Lab, board: Board) -> None:
    # The shell goes on, since it has a trap.
    process = board.start("trap : INT; lava-test-case x --shell 'echo begun; sleep 1000'; echo $?; lava-self")
    board.until_printed("begun")
    board.type(b"\x03")
    assert process.wait(PATIENCE) == 0
    assert text(board).replace("^C", "") == "begun\nlava-test-case: interrupted\n130\na\n"
    assert reports(lab) == [("case-start", "x")]


def test_a_definition_is_run(lab: Lab, board: Board, interpreter: Path, tmp_path: Path) -> None:
    stage = board.directory / "lava-1" / "0"
    for name, install, run in (
        ("0_first", "echo installing", "lava-test-case t --shell true\necho $LAVA_RESULT_DIR\nfalse\necho no"),
        ("1_second", None, "lava-background-process-start bg --cmd 'echo up; sleep 1000'\nsleep 0.2\n"
         "lava-background-process-stop bg\n"),
    ):  # fmt: skip
        directory = stage / "tests" / name
        directory.mkdir(parents=True)
        (directory / "run.sh").write_text(run + "\n")
        (directory / "uuid").write_text(f"uuid-{name}\n")
        if install:
            (directory / "install.sh").write_text(install + "\n")
        with (stage / "lava-test-runner.conf").open("a") as lines:
            lines.write(f"{directory}\n")
    environment = path_of(interpreter, tmp_path, lab)
    process = board.start(f"lava-test-runner {stage}; echo $?", environment=environment)
    assert process.wait(2 * PATIENCE) == 0
    assert reports(lab) == [
        ("run-start", "0_first", "uuid-0_first"),
        ("case-start", "t"),
        ("case-end", "t"),
        ("result", "t", "pass", None, None),
        ("run-end", "0_first", "uuid-0_first", "1"),
        ("run-start", "1_second", "uuid-1_second"),
        ("run-end", "1_second", "uuid-1_second", "0"),
    ]
    (results,) = (stage / "results").glob("0_first-*")
    assert text(board) == (
        f"installing\n{results}\nlava-test-runner: 0_first: run.sh ended with status 1\nup\n"
        "<LAVA_TEST_RUNNER EXIT>\n1\n"
    )


def test_network_data_goes_round(lab: Lab, interpreter: Path, tmp_path: Path) -> None:
    """Of the loopback interface, which every machine has."""
    if not int(Path("/sys/class/net/lo/flags").read_text(), 16) & 1:
        pytest.skip("the loopback interface is down")
    path = path_of(interpreter, tmp_path, lab)
    both = "lava-network broadcast lo && lava-network collect lo && lava-network query a ipv4 && "
    both += "lava-network query b netmask && lava-network query a dns_99 && "
    both += "lava-network alias-hosts hosts && cut -f 1,3 hosts && lava-echo-ipv4 lo && lava-os-build >build"
    started = [
        lab[name].start(
            both,
            environment={**path, "LAVA_MULTI_NODE_NETWORK_CACHE": str(lab[name].directory / "network")},
        )
        for name in ("a", "b")
    ]
    assert [process.wait(2 * PATIENCE) for process in started] == [0, 0], lab["a"].output
    for name in ("a", "b"):
        lines = text(lab[name]).splitlines()
        assert lines[:2] == ["127.0.0.1", "255.0.0.0"]
        assert sorted(lines[3:5]) == ["127.0.0.1\tclient01", "127.0.0.1\tserver01"]
        assert lines[-1] == "127.0.0.1"
        assert (
            (lab[name].directory / "network").read_text().startswith(f"{name}:hostname={os.uname().nodename}")
        )


def test_a_background_process_does_not_hold_the_console(lab: Lab, board: Board) -> None:
    environment = {"LAVA_RESULT_DIR": str(board.directory)}
    start = "lava-background-process-start x --cmd 'sleep 1000'; sleep 0.1; lava-background-process-stop x"
    assert board.start(start, environment=environment).wait(PATIENCE) == 0
    eventually(lambda: board.agents() == [], "the agent has ended")
    assert text(board) == ""


CONFIGURATION = """
[devices.a-1]
target-ip = "192.168.1.7"
target-mac = "02:00:00:00:00:07"
probe-ip = "192.168.1.99"
probe-channel = 3
storage = { UMS = "usb-x", SATA = "ata y" }

[shared]
text = "first a-1\\nsecond a-2"
"""
ASKED = (
    "echo $(lava-target-ip) $(lava-target-mac) $(lava-probe-ip) $(lava-probe-channel).; "
    "lava-target-storage | tr '\\t' :; lava-target-storage SATA; lava-echo-config $(lava-self)"
)


def test_the_configuration_of_a_device_is_printed(box: Path, tmp_path: Path) -> None:
    (tmp_path / "devices.toml").write_text(CONFIGURATION)
    arguments = ["--box", str(box), "--device-config", "devices.toml", "--role", f"a*2={ASKED}"]
    with Lavabox("sim", *arguments, "--results", "results.json", cwd=tmp_path) as process:
        status = process.finish()
    lines = [line for line in process.text.splitlines() if " | " in line]
    of = {
        name: [line.partition(" | ")[2] for line in lines if line.startswith(name)] for name in ("a-1", "a-2")
    }
    assert of["a-1"] == [
        "192.168.1.7 02:00:00:00:00:07 192.168.1.99 3.",
        ":UMS:usb-x",
        ":SATA:ata y",
        "ata y",
        "first a-1",
    ]
    assert of["a-2"] == [".", "second a-2"]
    assert status == 0
    assert json.loads((tmp_path / "results.json").read_text())
