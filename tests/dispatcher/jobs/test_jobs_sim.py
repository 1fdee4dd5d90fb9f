# SPDX-License-Identifier: MIT
"""Job files and test definitions, run whole by `lavabox sim`."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from dispatcher.jobs.model import Checkout, Definition, Place, Role, TestAction
from dispatcher.jobs.repositories import Repositories
from dispatcher.jobs.simulation import Simulation
from dispatcher.simulator.plan import PlannedDevice
from tests.dispatcher.isolation import why_not
from tests.dispatcher.simulating import Simulator

TestAction.__test__ = False  # type: ignore[attr-defined]
PLACE = Place("job.yaml", 1)


def results_of(sim: Simulator, job: str) -> tuple[int, list[tuple[str, ...]]]:
    """The exit status, and run, id and result of all that was reported."""
    status, text = sim.run_job(job, "--results", "results.json")
    document = json.loads((sim.folder / "results.json").read_text())
    found = [
        (device["name"], device["runs"][case["run"]]["name"], case["id"], case["result"])
        for device in document["devices"]
        for case in device["results"]
    ]
    assert found, text
    return status, found


def roles(**counts: str) -> str:
    """The beginning of a job with these roles, each with what its mapping says."""
    lines = "".join(f"      {name}: {{device_type: x, {rest}}}\n" for name, rest in counts.items())
    return f"job_name: trial\nprotocols:\n  lava-multinode:\n    roles:\n{lines}actions:\n"


def test(role: str, *steps: str, more: str = "", name: str = "it", rest: str = "") -> str:
    """A test action with an inline definition."""
    listed = "".join(f"          - {json.dumps(step)}\n" for step in steps)
    return (
        f"- test:\n    role: [{role}]\n{more}    definitions:\n    - from: inline\n      name: {name}\n"
        f"      path: inline/{name}.yaml\n{rest}      repository:\n"
        f"        metadata: {{format: Lava-Test Test Definition 1.0, name: {name}}}\n"
        f"        run:\n          steps:\n{listed}"
    )


test.__test__ = False  # type: ignore[attr-defined]


def again(*steps: str, name: str) -> str:
    """A further definition of the test action before it."""
    return test("x", *steps, name=name).partition("definitions:\n")[2]


def test_roles_talk(sim: Simulator) -> None:
    status, text = sim.run_job(
        roles(server="count: 1", client="count: 2")
        + test("server", "lava-send ready ip=10.0.0.1", "lava-wait-all done client")
        + test(
            "client", "lava-wait ready", "cat /tmp/lava_multi_node_cache.txt", "lava-self", "lava-send done"
        )
    )
    assert status == 0, text
    assert "client-2 | ip=10.0.0.1\n" in text
    assert "client-1 | client-1\n" in text


def test_steps_are_one_shell_with_parameters(sim: Simulator) -> None:
    job = roles(a="count: 1") + test(
        *("a", "if [ $ONE = 1 ]; then", "echo yes", "fi", "cd /", "x='$TWO'", 'pwd; echo "$x <$TWO> $ONE"'),
        *("lava-test-case first --shell \"echo a b | awk '{print $2}'\"", 'echo "ends [$UUID]"'),
        rest='      parameters: {ONE: 1, TWO: "it\'s  $HOME"}\n',
    )
    status, text = sim.run_job(job)
    assert status == 0, text
    for line in ("yes", "/", "$TWO <it's  $HOME> 1", "b"):
        assert f"a-1 | {line}\n" in text


def test_parameters_of_the_command_line_hold(sim: Simulator) -> None:
    job = roles(a="count: 1") + test("a", 'echo "$ONE $TWO"', rest="      parameters: {ONE: 1}\n")
    assert "a-1 | 7 a b\n" in sim.run_job(job, "--param", "ONE=7", "--param", "TWO=a b")[1]


def test_next_definition_runs_after_a_failed_one_and_the_run_fails(sim: Simulator) -> None:
    job = (
        roles(a="count: 1")
        + test("a", "false", "echo never", name="bad")
        + again("lava-test-case one --result pass", name="good")
        + test("a", "lava-test-case two --result pass", name="later")
    )
    status, results = results_of(sim, job)
    assert status == 1
    assert results == [("a-1", "1_good", "one", "pass"), ("a-1", "2_later", "two", "pass")]
    status, text = sim.run_job(job)
    assert "a-1: run '0_bad' ended with status 1" in text
    assert "a-1 | never" not in text


def test_failed_installation_ends_the_device(sim: Simulator) -> None:
    job = (
        roles(a="count: 1")
        + test("a", "echo never")
        + "        install: {steps: ['echo preparing', 'false']}\n"
        + test("a", "echo never", name="later")
    )
    status, text = sim.run_job(job)
    assert status == 1
    assert "a-1 | preparing" in text
    assert "a-1 | never" not in text
    assert "install.sh ended with status 1" in text


def test_deploy_and_boot_are_said_to_be_skipped_and_dependencies_not_to_be_installed(sim: Simulator) -> None:
    job = (
        roles(a="count: 2")
        + "- deploy: {role: a, to: tftp}\n- boot: {role: a, method: x}\n- boot: {role: a, method: x}\n"
        + test("a", "true")
        + "        install: {deps: [iperf3, ethtool]}\n"
    )
    status, text = sim.run_job(job)
    assert status == 0, text
    assert text.count("deploy and boot are not carried out") == 1
    assert "job.yaml, line 7: deploy and boot" in text
    assert text.count("deps iperf3 ethtool is skipped") == 1


REQUEST = "    protocols:\n      lava-multinode:\n      - {{action: multinode-test, request: {}, messageID: {}{}}}\n"


def test_requests_are_carried_out_before_the_action(sim: Simulator) -> None:
    job = (
        roles(server="count: 1", client="count: 1")
        + "- boot:\n    role: [client]\n    method: x\n"
        + REQUEST.format("lava-send", "booted", ", message: {ip: 10.0.0.9, text: two words}")
        + test(
            *("server", "cat /tmp/lava_multi_node_cache.txt || echo untouched"),
            *("lava-wait booted", "cat /tmp/lava_multi_node_cache.txt"),
            more=REQUEST.format("lava-wait", "booted", ", timeout: {minutes: 1}"),
        )
        + test("client", "true")
    )
    status, text = sim.run_job(job)
    assert status == 0, text
    assert text.index("server-1 | untouched\n") < text.index("server-1 | ip=10.0.0.9\n")
    assert "server-1 | text=two words\n" in text


def test_request_that_fails_ends_the_device(sim: Simulator) -> None:
    job = (
        roles(a="count: 1", b="count: 1")
        + test("a", "echo never", more=REQUEST.format("lava-wait", "x", ", timeout: {seconds: 1}"))
        + test("b", "lava-wait y || true")
    )
    status, text = sim.run_job(job)
    assert status == 1
    assert "a-1 | never" not in text
    assert "a-1 ! ended with status 1" in text


def test_devices_start_when_the_other_role_says_so(sim: Simulator) -> None:
    job = (
        roles(
            host="count: 1",
            guest="count: 1, connection: ssh, request: lava-start, expect_role: host, host_role: host",
        )
        + test("guest", "lava-send here", "lava-wait tell", "cat /tmp/lava_multi_node_cache.txt")
        + test("host", "sent=$(date +%s%N)", "lava-send lava_start", "lava-wait here", "lava-send tell x=1")
    )
    status, text = sim.run_job(job)
    assert status == 0, text
    assert text.index("+ lava-send lava_start") < text.index("guest-1 | + lava-send here")


def test_device_is_stopped_at_the_time_out_of_its_action(sim: Simulator) -> None:
    job = (
        roles(a="count: 1", b="count: 1")
        + test("a", "lava-send begun", "exec sleep 1000", more="    timeout: {seconds: 1}\n")
        + test("b", "lava-wait begun", "lava-wait never || echo gone")
    )
    status, text = sim.run_job(job)
    assert status == 1
    assert "a-1 ! stopped at the time-out of its test action (1 s)" in text
    assert "b-1 | gone\n" in text
    assert "b-1     b     1 failed result" in text


def test_time_out_bounds_its_own_action_only(sim: Simulator) -> None:
    job = (
        roles(a="count: 1")
        + test("a", "true", more="    timeout: {seconds: 1}\n")
        + test("a", "sleep 1.5", "echo whole")
    )
    status, text = sim.run_job(job)
    assert status == 0, text
    assert "a-1 | whole\n" in text


def test_time_out_of_the_job(sim: Simulator) -> None:
    job = "timeouts: {job: {seconds: 2}}\n" + roles(a="count: 1") + test("a", "exec sleep 1000")
    status, text = sim.run_job(job)
    assert status == 1
    assert "timed out: the run was ended after 2 s" in text


def test_waits_have_the_time_out_of_the_role(sim: Simulator) -> None:
    job = roles(a="count: 1, timeout: {seconds: 1}", b="count: 1") + (
        test("a", "lava-wait never || echo $?") + test("b", "lava-wait-all never a || echo ended")
    )
    status, text = sim.run_job(job)
    # The time-out is the job's, and no plan of the script: both have failed.
    assert status == 1, text
    # By the time-out, or since nobody can send it: the job has failed.
    assert "multinode-wait-never" in text and "failed" in text


@pytest.mark.parametrize("essential", [True, False])
def test_essential_device_that_fails_ends_the_run(sim: Simulator, essential: bool) -> None:
    job = (
        roles(server=f"count: 1, essential: {str(essential).lower()}", client="count: 1", other="count: 1")
        + test("server", "lava-wait go", "false")
        + test("client", "lava-send go", "lava-wait-all never server || echo on")
        + test("other", "lava-wait-all never client || echo on")
    )
    status, text = sim.run_job(job)
    assert status == 1
    assert (
        "server-1 has failed, and its role is essential (job.yaml, line 5): the run ends" in text
    ) is essential
    assert ("other-1  | on\n" in text) is not essential


def test_results_by_pattern(sim: Simulator) -> None:
    job = roles(a="count: 1") + test("a", "set +x", "printf 'ping: OK 1.5 ms\\nno result\\npong: BAD\\nlast: OK'") + (
        "        parse:\n"
        "          pattern: '^(?P<test_case_id>\\w+): (?P<result>OK|BAD)( (?P<measurement>[\\d.]+) (?P<units>\\w+))?'\n"
        "          fixupdict: {OK: pass, BAD: fail}\n"
    )  # fmt: skip
    job += again("echo 'other: OK 3 s'", name="second")
    status, results = results_of(sim, job)
    assert status == 1
    assert results == [
        ("a-1", "0_it", "ping", "pass"),
        ("a-1", "0_it", "pong", "fail"),
        ("a-1", "0_it", "last", "pass"),
    ]
    assert "ping [1.5 ms]" in sim.run_job(job)[1]


def test_bare_definition(sim: Simulator) -> None:
    sim.write("data.txt", "what lies beside it\n")
    sim.write("ping.yaml", "params: {COUNT: 1}\nrun: {steps: ['echo $COUNT', cat data.txt, lava-sync end]}\n")
    sim.write("server.yml", "run: {steps: [echo serving, lava-sync end]}\n")
    status, text = sim.run(
        *("ping.yaml", "--role", "client*2", "--role", "server=server.yml", "--device", "panda:other"),
        *("--role", "plain=lava-sync end", "--param", "COUNT=3"),
    )
    assert status == 0, text
    for line in ("client-1 | 3", "client-2 | what lies beside it", "server-1 | serving", "panda    | 3"):
        assert f"{line}\n" in text


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_definitions_of_a_clone_at_a_branch(sim: Simulator) -> None:
    clone = sim.folder / "clone"
    sim.write("clone/tests/say.yaml", "run: {steps: [cd tests, ./say.sh, touch here]}\n")
    sim.write("clone/tests/say.sh", "#!/bin/sh\necho of the branch\n")
    (clone / "tests" / "say.sh").chmod(0o755)
    git(clone, "init", "-q")
    git(clone, "checkout", "-q", "-b", "stable")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "x")
    git(clone, "checkout", "-q", "-b", "main")
    sim.write("clone/tests/say.sh", "#!/bin/sh\necho of the work tree\n")
    git(clone, "commit", "-q", "-a", "-m", "y")
    url = "https://example.org/tests.git"
    entry = "    - {{from: git, repository: '{}', path: tests/say.yaml, name: say{}}}\n"
    job = roles(a="count: 2") + "- test:\n    role: a\n    definitions:\n"
    job += (
        entry.format(url, ", branch: stable")
        + entry.format("clone", "")
        + entry.format(url, ", branch: gone")
    )
    status, text = sim.run_job(job, "--repo", f"https://example.org/tests={clone}")
    assert status == 0, text
    assert text.count("| of the branch\n") == 2
    assert text.count("| of the work tree\n") == 4
    assert text.count("has no branch gone: its work tree is used") == 1
    assert not (clone / "tests" / "here").exists()


def test_job_in_the_clone_of_its_own_repository_needs_no_option(sim: Simulator) -> None:
    sim.write("tests/say.yaml", "run: {steps: [echo said]}\n")
    git(sim.folder, "init", "-q")
    git(sim.folder, "remote", "add", "origin", "https://example.org/tests.git")
    git(sim.folder, "add", "-A")
    job = roles(a="count: 1") + (
        "- test:\n    definitions:\n"
        "    - {from: git, repository: 'https://example.org/tests', path: tests/say.yaml, name: say}\n"
    )
    status, text = sim.run_job(job)
    assert status == 0, text
    assert "a-1 | said\n" in text


def test_repositories_of_an_installation(sim: Simulator) -> None:
    sim.write("lib/tool.txt", "a tool\n")
    job = roles(a="count: 1") + test("a", "cat lib/tool.txt") + (
        "        install: {git-repos: ['https://example.org/lib.git', 'https://example.org/none.git']}\n"
    )  # fmt: skip
    status, text = sim.run_job(job, "--repo", f"https://example.org/lib={sim.folder}/lib")
    assert status == 0, text
    assert "a-1 | a tool\n" in text
    assert "git-repos https://example.org/none.git is not here" in text


def test_a_device_that_reboots_goes_on_with_the_next_action(sim: Simulator) -> None:
    job = (
        roles(a="count: 1")
        + test("a", "false", name="fails")
        + test("a", "lava-test-case before --result pass", "lava-reboot", name="reboots")
        + test("a", "lava-test-case after --result pass", name="goes-on")
    )
    status, found = results_of(sim, job)
    assert status == 1
    assert found == [("a-1", "1_reboots", "before", "pass"), ("a-1", "2_goes-on", "after", "pass")]
    _, text = sim.run_job(job)
    assert "a-1: run '1_reboots' ended early" in text
    # What came before the reboot counts.
    assert "a-1     a     ended with status 1" in text


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("job.yaml", "--role", "a=true"), 2, "--role: the devices are those of the job"),
        (("one.yaml",), 2, "one.yaml is a test definition: say which devices run it"),
        (("one.yaml", "--role", "a=true"), 2, "no device runs one.yaml"),
        (("--role", "a=none.yaml"), 2, "none.yaml: this file can't be read"),
        (("--role", "a=job.yaml"), 2, "job.yaml: this is a job, not a test definition"),
        (("job.yaml", "--repo", "x"), 2, "write URL=DIR"),
        (("job.yaml", "--repo", "x=/none"), 2, "there is no folder /none"),
        (("job.yaml", "--param", "a-b=1"), 2, "write NAME=VALUE"),
        (("--role", "a=true", "--param", "A=1"), 2, "belong to jobs and test definitions"),
        (("bad.yaml",), 2, "bad.yaml, line 5: role 'a' has no count; add 'count: 1'"),
    ],
)
def test_mistakes(sim: Simulator, arguments: tuple[str, ...], status: int, sentence: str) -> None:
    sim.write("one.yaml", "run: {steps: [true]}\n")
    sim.write("job.yaml", roles(a="count: 1") + test("a", "true"))
    sim.write("bad.yaml", roles(a="tags: []") + test("a", "true"))
    ended, text = sim.run(*arguments)
    assert (ended, sentence in text) == (status, True), text


@pytest.mark.parametrize("options", [(), ("--isolate",)])
def test_copies_of_a_repository_are_the_devices_own(sim: Simulator, options: tuple[str, ...]) -> None:
    """Isolated devices have the files in common, until one writes."""
    if options and why_not():
        pytest.skip(why_not())
    steps = "[echo more >>file, lava-sync written, wc -l <file, chmod 700 file, lava-sync changed, stat -c %a file]"
    sim.write("tests/def.yaml", f"run: {{steps: {steps}}}\n")
    sim.write("tests/file", "first\n")
    (sim.folder / "tests" / "file").chmod(0o644)
    status, text = sim.run(*options, "--role", "a*3=tests/def.yaml")
    assert status == 0, text
    assert [text.count(f"a-{number} | 2\n") for number in (1, 2, 3)] == [1, 1, 1], text
    assert (sim.folder / "tests" / "file").read_text() == "first\n"
    assert (sim.folder / "tests" / "file").stat().st_mode & 0o777 == 0o644


def test_copies_have_files_in_common_or_not(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    role = Role(
        "a",
        2,
        PLACE,
        (TestAction(PLACE, definitions=(Definition("d", PLACE, checkout=Checkout(tmp_path)),)),),
    )
    devices = [PlannedDevice(name, "a", "", tmp_path) for name in ("a-1", "a-2")]
    simulation = Simulation(devices, Repositories(), {device.name: role for device in devices})
    for link, names in ((True, 2), (False, 1)):
        with tempfile.TemporaryDirectory() as folder:
            simulation.lay_out(Path(folder) / "devices", None, link=link)
            assert os.listdir(folder) == ["devices"]
            for device in devices:
                file = Path(folder) / "devices" / device.name / "0" / "tests" / "0_d" / "x"
                assert (file.read_text(), file.stat().st_nlink) == ("x", names)
