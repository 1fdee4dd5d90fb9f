# SPDX-License-Identifier: MIT
"""`lavabox flow --plan`, whole: files, output, exit statuses; and that what is expected is what happens."""

import argparse
import functools
import os
import re
import shlex
from pathlib import Path

import pytest

from dispatcher.commands.flowplan import roles_of
from dispatcher.commands.scriptfiles import ScriptFiles
from dispatcher.group.events import Event, Sent, Waiting
from dispatcher.grouplog.file import read_events
from dispatcher.jobs.simulation import read_simulation
from dispatcher.plan.expected import expect
from dispatcher.plan.programs import programs
from dispatcher.simulator.plan import Option
from tests.dispatcher.lavabox_process import ROOT, Lavabox

REFERENCE = """\
+-----------------+----------------------------+-----------------+
| server          | client                     | observer        |
+=================+============================+=================+
| lava-sync start | lava-sync start            | lava-sync start |
+-----------------+----------------------------+-----------------+
| server_start    | lava-wait-all ready server | lava-sync fin   |
+-----------------+----------------------------+-----------------+
| lava-send ready |                            |                 |
+-----------------+----------------------------+-----------------+
| lava-sync fin   | client_tasks               |                 |
+-----------------+----------------------------+-----------------+
|                 | lava-sync fin              |                 |
+-----------------+----------------------------+-----------------+
"""


def plan(*arguments: str, cwd: Path) -> tuple[int, str]:
    with Lavabox("flow", "--plan", *arguments, cwd=cwd) as process:
        return process.finish(), process.text


def test_the_reference_s_table() -> None:
    roles = [f"{role}=examples/flow-table/run-{role}.sh" for role in ("server", "client", "observer")]
    arguments = [word for role in roles for word in ("--role", role)]
    status, text = plan(*arguments, cwd=ROOT)
    assert status == 0
    assert text.startswith(REFERENCE)
    assert text.endswith("\nNothing is wrong with the calls, as far as they can be read.\n")


URL = "https://example.org/tests.git"

JOB = """\
job_name: hello
protocols:
  lava-multinode:
    roles:
      server: {device_type: qemu, count: 1}
      client: {device_type: qemu, count: 2}
actions:
- test:
    role: [server]
    definitions:
    - {from: git, repository: https://example.org/tests.git, path: hello.yaml, name: hello}
- test:
    role: [client]
    definitions:
    - from: inline
      name: wait
      path: inline/wait.yaml
      repository:
        metadata: {name: wait}
        run:
          steps:
          - echo hello
          - lava-wait READY
"""
DEFINITION = """\
metadata: {name: hello}
params: {ID: ready}
run:
  steps:
  - cd scripts
  - ./hello.sh "$ID"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tests" / "scripts").mkdir(parents=True)
    (tmp_path / "tests" / "hello.yaml").write_text(DEFINITION)
    (tmp_path / "tests" / "scripts" / "hello.sh").write_text('#!/bin/sh\n\nlava-send "$1"\n')
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "good.yaml").write_text(JOB.replace("READY", "ready"))
    return tmp_path


def test_a_job(folder: Path) -> None:
    repo = ("--repo", f"{URL}=tests")
    status, text = plan("good.yaml", *repo, cwd=folder)
    assert status == 0
    assert "| lava-send ready | lava-wait ready    |" in text
    assert "| server          | client (2 devices) |" in text
    status, text = plan("job.yaml", *repo, cwd=folder)
    assert status == 1
    assert "client-1 and client-2 stay blocked in 'lava-wait READY' (job.yaml, line 23)." in text
    finding = "job.yaml, line 23: error: role client waits for 'READY', which no other device sends."
    assert finding in text
    assert "tests/scripts/hello.sh, line 3: note: nobody waits for 'ready'. [unwaited]\n" in text
    assert text.endswith("\n1 error, 1 note.\n")
    status, text = plan("good.yaml", *repo, "--param", "ID=a b", cwd=folder)
    assert status == 1 and "[refused]" in text


def test_a_definition_on_roles(folder: Path) -> None:
    arguments = ("tests/hello.yaml", "--role", "all*2", "--role", "other=lava-wait-all ready")
    status, text = plan(*arguments, "--by", "device", cwd=folder)
    assert status == 0
    assert "all-1 (all)" in text and "other-1 (other)" in text
    assert text.endswith("\n1 warning.\n")


def test_markdown_into_a_file(folder: Path) -> None:
    assert plan("--role", "a=lava-wait x|y", "--role", "b=true", "-o", "plan.md", cwd=folder) == (1, "")
    text = (folder / "plan.md").read_text()
    assert text.startswith("| `a` | `b` |\n| --- | --- |\n| **`lava-wait x`** (stays blocked) |")
    assert r"role a waits for 'x', which no other device sends" in text
    assert text.endswith("\n1 error.\n")


def test_mistakes(folder: Path) -> None:
    for arguments, reason in (
        ((), "name a job"),
        (("nowhere.yaml",), "can't be read"),
        (("job.yaml",), f"add --repo {URL}=DIR"),
        (("job.yaml", "--format", "html"), "not as html"),
        (("job.yaml", "--repo", f"{URL}=tests", "--role", "a=b"), "the devices are those of the job"),
        (("--role", "a"), "the command is missing"),
        (("--role", "a=true", "--repo", "x"), "write URL=DIR"),
        (("tests/hello.yaml",), "say which devices run it"),
    ):
        status, text = plan(*arguments, cwd=folder)
        assert (status, reason in text) == (2, True), text
    with Lavabox("flow", "--role", "a=true", cwd=folder) as process:
        assert process.finish() == 2
        assert "--role and --device: only with --plan" in process.text


def test_test_actions_that_are_left_out_may_send(folder: Path) -> None:
    left_out = "- test:\n    role: [server]\n    interactive: []\n"
    (folder / "good.yaml").write_text(
        JOB.split("- test:", maxsplit=1)[0] + left_out + "- test:" + JOB.split("- test:")[2]
    )
    status, text = plan("good.yaml", cwd=folder)
    assert status == 0
    assert "note: role client waits for 'READY', which no other device sends; perhaps" in text


def test_files_outside_the_definition_are_not_read(folder: Path) -> None:
    secret = folder / "secret.sh"
    secret.write_text("lava-send READY\n")
    script = folder / "tests" / "scripts" / "hello.sh"
    os.mkfifo(folder / "tests" / "scripts" / "pipe.sh")
    for path in ("../../secret.sh", str(secret), "./link.sh", "./pipe.sh", "../scripts"):
        script.write_text(f"#!/bin/sh\n{path}\n. {path}\n")
        (folder / "tests" / "scripts" / "link.sh").unlink(missing_ok=True)
        (folder / "tests" / "scripts" / "link.sh").symlink_to(secret)
        _, text = plan("job.yaml", "--repo", f"{URL}=tests", cwd=folder)
        assert "lava-send" not in text.split("\n\n")[0], path


# What is expected, and what happens


EXAMPLES = {
    f"{path.parent.name} {command}": (path.parent, shlex.split(command))
    for path in sorted((ROOT / "examples").glob("*/README.md"))
    for command in re.findall(r"`lavabox sim (.*?)`", path.read_text())
}


def calls_by_device(events: list[Event]) -> dict[str, list[tuple[str, ...]]]:
    """The calls that each device made, in order."""
    calls: dict[str, list[tuple[str, ...]]] = {}
    for event in events:
        if isinstance(event, Sent):
            call = ("lava-send", event.message_id.decode(), *(key.decode() for key, _ in event.data))
        elif isinstance(event, Waiting):
            call = (event.kind.value, event.message_id.decode(), event.whom or "")
        else:
            continue
        calls.setdefault(event.device, []).append(call)
    return calls


def expected_of(arguments: list[str], folder: Path) -> list[Event]:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=Path)
    for option in Option:
        make = functools.partial(lambda option, text: (option, text), option)
        parser.add_argument(option.value, dest="devices", action="append", default=[], type=make)
    parser.add_argument("--param", action="append", default=[])
    asked = parser.parse_args(arguments, argparse.Namespace(repo=[]))
    if asked.file is not None:
        asked.file = folder / asked.file
    simulation = read_simulation(asked, folder)
    return expect(programs(roles_of(simulation), ScriptFiles(folder, simulation.repositories).of)).events


# In the isolated one a Python program makes calls, too, which nobody expects.
@pytest.mark.parametrize("name", [name for name in EXAMPLES if "--isolate" not in name])
def test_what_is_expected_of_the_examples_happens(name: str, box: Path, tmp_path: Path) -> None:
    folder, arguments = EXAMPLES[name]
    log = tmp_path / "group.log"
    options = ("--box", str(box), "--timeout", "60", "--group-log", str(log))
    with Lavabox("sim", *options, *arguments, cwd=folder) as process:
        assert process.finish() == 0, process.text
    assert calls_by_device(expected_of(arguments, folder)) == calls_by_device(
        [event for _, event in read_events(log, pytest.fail)]
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_is_wrong_with_the_examples(name: str) -> None:
    folder, arguments = EXAMPLES[name]
    status, text = plan(*(word for word in arguments if word != "--isolate"), cwd=folder)
    assert status == 0
    told = re.findall(r": (error|warning|note): .* \[(.*)\]", text)
    # The reference's own example has a key that LAVA's scripts do not take.
    known = {"1-client-server": [("note", "spoilt-by-lava")], "2-iperf": [("note", "spoilt-by-lava")]}
    assert told == known.get(folder.name, []), text
