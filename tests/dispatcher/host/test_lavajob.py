# SPDX-License-Identifier: MIT
import subprocess
import sys

import pytest

from dispatcher.host.lavajob import LavaJob, coordinator_is_here, find_job, read_job

MULTINODE = """\
protocols:
  lava-multinode:
    target_group: 1f9c
    role: server
    roles: {'12': client, 13: server}
    group_size: 2
"""


@pytest.mark.parametrize(
    ("job", "device", "expected"),
    [
        (
            MULTINODE,
            "hostname: b7\n",
            LavaJob("13", "b7", "server", "1f9c", {"12": "client", "13": "server"}, 2),
        ),
        ("job_name: x\n", "hostname: b7\n", LavaJob("13", "b7", "device", None, {}, 1)),
        ("job_name: x\n", "not: [closed\n", LavaJob("13", "13", "device", None, {}, 1)),
        ("protocols: {lava-lxc: {name: x}}\n", "x: !reset y\n", LavaJob("13", "13", "device", None, {}, 1)),
        ("just text\n", "hostname: b7\n", None),
        ("", "", None),
        # A merge key that doubles the mapping in each line, and lists without an end.
        (
            "a0: &a0 {x: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [*a{n}, *a{n}]}}\n" for n in range(30)),
            "",
            None,
        ),
        ("a: " + "[" * 100_000, "", None),
    ],
)
def test_reads_what_lava_writes_beside_its_output(tmp_path, job, device, expected):
    (tmp_path / "job.yaml").write_text(job)
    (tmp_path / "device.yaml").write_text(device)
    assert read_job(tmp_path, "13") == expected


@pytest.mark.parametrize(
    ("environment", "arguments", "job_id"),
    [
        ({"LAVA_JOB_ID": "7"}, [], "7"),
        ({}, ["lava-run [job: 8]"], "8"),
        ({}, ["--job-id=9"], "9"),
        ({}, ["--job-id", "10"], "10"),
        ({}, [], "folder"),
    ],
)
def test_finds_the_job_above_a_wrapper(tmp_path, environment, arguments, job_id):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "job.yaml").write_text(MULTINODE)
    with (folder / "stdout").open("wb") as stdout:
        # Stands for lava-run; its child for a wrapper of the hook.
        script = "import subprocess, sys; subprocess.run(['sh', '-c', 'echo $$ >&2; read x; :'], stdout=2)"
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
    assert process.stdin is not None and process.stderr is not None
    wrapper = int(process.stderr.readline())
    job = find_job(wrapper, environment)
    process.stdin.close()
    process.wait()
    process.stderr.close()
    assert job is not None
    assert (job.job_id, job.group) == (job_id, "1f9c")


def test_finds_none_where_there_is_none():
    assert find_job(1, {}) is None


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ('{"coordinator_hostname": "localhost", "port": 3079}', True),
        ('{"coordinator_hostname": "192.0.2.1"}', False),  # of no machine (RFC 5737)
        ("no JSON", True),
        ("[]", True),
        (None, True),
    ],
)
def test_whether_lavas_coordinator_is_on_this_machine(tmp_path, text, here):
    file = tmp_path / "lava-coordinator.conf"
    if text is not None:
        file.write_text(text)
    assert coordinator_is_here(file) == here
