# SPDX-License-Identifier: MIT
"""`lavabox` with a group on several hosts, as processes; and the commands that look at it from outside."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dispatcher.grouplog.natsserver import NatsServer, url
from tests.dispatcher.host.coordinator_process import Coordinator
from tests.dispatcher.host.lavaclient import Job
from tests.dispatcher.lavabox_process import ROOT, Lavabox

CLIENT = "lava-send ready from=$(lava-self); lava-wait go; cat $LAVA_MULTI_NODE_CACHE; lava-sync end"
SERVER = "lava-group; lava-role list; lava-wait-all ready client; lava-send go ip=10.0.0.1; lava-sync end"


def lavabox(folder: Path, *arguments: str) -> tuple[int, str]:
    with Lavabox(*arguments, cwd=folder) as process:
        return process.finish(), process.text


@pytest.fixture
def lab(tmp_path: Path) -> str:
    return url(tmp_path)


@pytest.fixture
def sim(box: Path) -> tuple[str, ...]:
    """`lavabox sim` with the box of all tests: each run would build one."""
    return ("sim", "--box", str(box))


def test_a_group_on_three_hosts(lab: str, tmp_path: Path, sim: tuple[str, ...]) -> None:
    (tmp_path / "members").write_text("server  # on the first host\n\nclient*2\nlast:client\n")
    options = (*sim, "--group-log", lab, "--group", "k7", "--members", "members", "--timeout", "120")
    setup = "export LAVA_MULTI_NODE_CACHE=$PWD/$(lava-self).cache; "
    with (
        Lavabox(*options, "--role", f"server={SERVER}", cwd=tmp_path) as one,
        Lavabox(*options, "--role", f"client*2={setup}{CLIENT}", cwd=tmp_path) as two,
        Lavabox(*options, "--device", f"last:client={setup}{CLIENT}", cwd=tmp_path) as three,
    ):
        for process in (one, two, three):
            assert process.finish() == 0, process.text
    for name, role in (
        ("client-1", "client"),
        ("client-2", "client"),
        ("last", "client"),
        ("server-1", "server"),
    ):
        assert f"server-1 | {name}\t{role}\n" in one.text
    for text, name in ((two.text, "client-1"), (two.text, "client-2"), (three.text, "last")):
        assert f"{name} | ip=10.0.0.1\n" in text
    # All have left: it is over, and can be looked at.
    status, text = lavabox(tmp_path, *options, "--role", "server=true")
    assert (status, "the group has ended" in text) == (1, True), text
    status, text = lavabox(tmp_path, "flow", f"{lab}/k7")
    assert status == 0
    assert "server-1 (server)" in text and "All devices have ended" in text
    status, text = lavabox(tmp_path, "group", "list", lab)
    assert status == 0
    assert text.splitlines()[1].split()[:3] == ["k7", "ended", "4"]
    assert lavabox(tmp_path, "group", "rm", lab, "--ended-for", "1h") == (0, "")
    status, text = lavabox(tmp_path, "group", "rm", lab, "k7")
    assert (status, text.startswith("removed k7: ")) == (0, True)
    status, text = lavabox(tmp_path, "flow", f"{lab}/k7")
    assert (status, "has no group k7" in text) == (1, True)


def test_every_kind_of_dispatcher_in_one_group(
    lab: str, tmp_path: Path, box: Path, sim: tuple[str, ...]
) -> None:
    """A hook alone, a hook and a dispatcher of LAVA's at a coordinator, a console of a served lab, a simulator."""
    commands = tmp_path / "bin"
    commands.mkdir()
    subprocess.run([box, "--install", "-s", commands], check=True, stdout=subprocess.DEVNULL)
    script = tmp_path / "script"
    script.write_text(
        f"PATH={commands}:$PATH; unset LAVA_CONSOLE; export LAVA_MULTI_NODE_CACHE={tmp_path}/$1.cache\n"
        "lava-send here from=$(lava-self); lava-wait-all here; cat $LAVA_MULTI_NODE_CACHE; lava-group\n"
        "lava-sync end; echo met $?\n"
    )
    (tmp_path / "lab.toml").write_text(
        f'control = "{tmp_path}/control"\ngroup-log = "{lab}"\nlog-dir = "logs"\n[groups.g]\nsize = 5\n'
        f'[devices.served]\ngroup = "g"\nrole = "r"\nconsole = "exec:sh -c \'sh {script} served; sleep 1000\'"\n'
    )
    group = ("--group-log", lab, "--group", "g", "--group-size", "5")
    hook = ("hook", "--role", "r")
    with (
        Coordinator(tmp_path, "--group-log", lab) as coordinator,
        Lavabox("serve", "lab.toml", cwd=tmp_path) as served,
        Lavabox(*hook, *group, "--name", "hooked", "--", "sh", str(script), "hooked", cwd=tmp_path) as hooked,
    ):
        served.until("control by")
        job = Job(coordinator.port, "g", "job", "r", size=5)
        job.ask("group_data")
        job.send("here", **{"from": "job"})
        there = ("--coordinator", coordinator.socket, "--group", "g", "--name", "there")
        with (
            Lavabox(*hook, *there, "--", "sh", str(script), "there", cwd=tmp_path) as hooked_there,
            Lavabox(*sim, *group, "--device", f"sim:r=sh {script} sim", cwd=tmp_path) as simulated,
        ):
            assert len(job.poll("lava_wait_all", messageID="here", waitrole=None)["message"]) == 5
            assert job.poll("lava_sync", messageID="end")["response"] == "ack"
            for process in (hooked, hooked_there, simulated):
                assert process.finish() == 0, process.text
        members = {"job", "there", "hooked", "sim", "served"}
        for text in (
            hooked.text,
            hooked_there.text,
            simulated.text,
            (tmp_path / "logs/served.log").read_text(),
        ):
            lines = {line.removeprefix("sim | ").strip() for line in text.splitlines()}
            assert {f"{name}\tr" for name in members} <= lines, text
            assert text.count(":from=") == 4, text
            assert "met 0" in lines, text


def test_a_dead_end_over_every_kind_of_dispatcher(lab: str, tmp_path: Path, box: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    subprocess.run([box, "--install", "-s", commands], check=True, stdout=subprocess.DEVNULL)
    script = tmp_path / "script"
    script.write_text(
        f"PATH={commands}:$PATH; unset LAVA_CONSOLE; export LAVA_MULTI_NODE_CACHE={tmp_path}/$1.cache\n"
        "lava-sync start; lava-wait never; echo status $?\n"
    )
    (tmp_path / "lab.toml").write_text(
        f'control = "{tmp_path}/control"\ngroup-log = "{lab}"\ngrace = 0.5\nfail-dead-ends = true\n'
        f'[groups.g]\nsize = 3\n[devices.served]\ngroup = "g"\nrole = "r"\n'
        f"console = \"exec:sh -c 'sh {script} served; sleep 1000'\"\n"
    )
    hook, grace = ("hook", "--role", "r"), ("--grace", "0.5")
    group = ("--group-log", lab, "--group", "g", "--group-size", "3", *grace, "--name", "alone")
    with (
        Coordinator(tmp_path, "--group-log", lab, *grace) as coordinator,
        Lavabox("serve", "lab.toml", cwd=tmp_path) as served,
        Lavabox(*hook, *group, "--", "sh", str(script), "alone", cwd=tmp_path) as alone,
    ):
        # Whoever founds the group has to say how many belong to it.
        served.until("control by")
        there = ("--coordinator", coordinator.socket, "--group", "g", "--name", "there")
        with Lavabox(*hook, *there, "--", "sh", str(script), "there", cwd=tmp_path) as hooked:
            # Each host has said of its own that they are silent: so it is certain, and the one that is to fail them does.
            served.until("g: dead end: ")
            for process in (alone, hooked):
                assert process.finish() == 0
                assert "dead end: " in process.text and "status 1" in process.text


def test_devices_on_another_host_learn_that_a_run_was_stopped(
    lab: str, tmp_path: Path, sim: tuple[str, ...]
) -> None:
    options = (*sim, "--group-log", lab, "--group", "g", "--group-size", "2", "--timeout", "120")
    with (
        Lavabox(*options, "--role", "a=lava-sync x; echo synced; sleep 1000", cwd=tmp_path) as one,
        Lavabox(*options, "--role", "b=lava-sync x; lava-wait y", cwd=tmp_path) as two,
    ):
        one.until("a-1 | synced")
        one.interrupt()
        assert one.finish() == 130
        assert two.finish() == 1
        assert "b-1 | lava-wait: a-1 ended without sending 'y'" in two.text


def test_devices_on_two_hosts_that_wait_for_each_other(
    lab: str, tmp_path: Path, sim: tuple[str, ...]
) -> None:
    options = (*sim, "--group-log", lab, "--group", "g", "--group-size", "2", "--timeout", "120")
    with (
        Lavabox(*options, "--role", "a=lava-wait x || echo over; lava-sync end", cwd=tmp_path) as one,
        Lavabox(*options, "--role", "b=lava-wait y || echo over; lava-sync end", cwd=tmp_path) as two,
    ):
        for process, name, other in ((one, "a", "b"), (two, "b", "a")):
            assert process.finish() == 1, process.text
            wait = {"a": "x", "b": "y"}
            reason = f"{other}-1 never sent '{wait[name]}' and waits itself in `lava-wait {wait[other]}`"
            assert f"{name}-1 | lava-wait: dead end: {reason}\n{name}-1 | over\n" in process.text
            assert ", after a dead end" in process.text
    # One has found it, the other has heard of it.
    assert "lavabox: dead end: " in one.text + two.text


def test_clocks_that_differ_by_an_hour(lab: str, tmp_path: Path, sim: tuple[str, ...]) -> None:
    """Waits have their own time-outs; and what needs all devices waits for those of the other host."""
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "sitecustomize.py").write_text(
        "import time\nreal = time.time\ntime.time = lambda: real() + 3600\n"
    )
    late = {"PYTHONPATH": str(tmp_path / "late")}
    options = (*sim, "--group-log", lab, "--group", "g", "--group-size", "2", "--timeout", "120")
    script = (
        "echo asking; lava-role list; lava-group; lava-wait --timeout 1 never || echo status $?; "
        "lava-wait go; echo went; lava-wait --timeout 600 over; lava-sync end"
    )
    with Lavabox(*options, "--role", f"a={script}", cwd=tmp_path, environment=late) as one:
        one.until("a-1 | asking")
        # It looks from a third clock, and while the group waits for somebody.
        status, text = lavabox(tmp_path, "status", f"{lab}/g")
        assert status == 0
        assert text.splitlines()[1].split()[:3] == ["a-1", "a", "running"]
        assert text.splitlines()[-1] == "open: 1 device; waiting for 1 more device; results: none"
        other = "lava-wait --timeout 1 never || echo status $?; lava-send go; lava-wait never --timeout 1; lava-send over; lava-sync end"
        with Lavabox(*options, "--role", f"b={other}", cwd=tmp_path) as two:
            assert two.finish() == 0, two.text
        assert one.finish() == 0, one.text
    assert "a-1 | a-1\ta\na-1 | b-1\tb\n" in one.text, one.text
    for text, other in ((one.text, "b-1"), (two.text, "a-1")):
        assert f"lava-wait: timed out waiting for 'never' from {other}" in text
        assert "status 1" in text
    assert "a-1 | went" in one.text
    status, text = lavabox(tmp_path, "status", "--json", f"{lab}/g")
    assert status == 0
    told = json.loads(text)
    assert (told["state"], [device["state"] for device in told["devices"]]) == ("ended", ["ended"] * 2)


def test_declarations_that_contradict_each_other(lab: str, tmp_path: Path, sim: tuple[str, ...]) -> None:
    options = (*sim, "--group-log", lab, "--group", "g")
    status, _ = lavabox(tmp_path, *options, "--group-size", "2", "--timeout", "1", "--role", "a=lava-sync x")
    assert status == 1
    status, text = lavabox(tmp_path, *options, "--group-size", "3", "--role", "b=true")
    assert status == 1
    assert "/g: the group was founded with the size 2, not with the size 3" in text
    (tmp_path / "members").write_text("c:d\n")
    status, text = lavabox(tmp_path, *options, "--members", "members", "--role", "b=true")
    assert "/g: the group was founded with no members, not with the members c:d" in text


def test_a_group_that_has_not_ended_is_not_removed_by_mistake(
    lab: str, tmp_path: Path, sim: tuple[str, ...]
) -> None:
    lavabox(tmp_path, *sim, "--group-log", lab, "--group", "g", "--role", "a=true")
    status, text = lavabox(tmp_path, "group", "rm", lab, "g")
    assert (status, text) == (1, "lavabox group: g has not ended; --force removes it all the same\n")
    status, text = lavabox(tmp_path, "group", "rm", lab, "g", "--force")
    assert status == 0, text
    assert lavabox(tmp_path, "group", "list", lab)[1].splitlines()[1:] == []


REFUSED = {
    "no group": (("--group-log", "nats://h/lab"), "which group of nats://h/lab? Add --group NAME"),
    "a group in the lab": (
        ("--group-log", "nats://h/lab/g"),
        "--group-log nats://h:4222/lab --group g",
    ),
    "no lab": (("--group-log", "nats://h", "--group", "g"), "the name of the lab is missing"),
    "a lab": (("--group-log", "nats://h/a.b", "--group", "g"), "letters, digits, '-' and '_'"),
    "a name": (("--group-log", "nats://h/a", "--group", "*"), "letters, digits, '-' and '_'"),
    "no host": (("--group-log", "nats://h,,i/a", "--group", "g"), "'' is no host"),
    "a port": (("--group-log", "nats://h:x/a", "--group", "g"), "write nats://HOST"),
    "a password": (
        ("--group-log", "nats://u:p@h/a", "--group", "g"),
        "a password on the command line can be seen by others",
    ),
    "a scheme": (("--group-log", "redis://h/a"), "write nats://HOST/LAB, tls://HOST/LAB, or a file"),
    "a group without servers": (("--group", "g"), "--group needs --group-log nats://"),
    "a size": (("--group-size", "0"), "a group has 1 to"),
    "no such file": (("--members", "nosuch"), "--members nosuch: "),
    "no members": (("--members", "empty"), "--members empty: it names no device"),
    "a member": (("--members", "bad"), "--members bad: line 2: write NAME:ROLE or ROLE*COUNT"),
    "twice": (("--members", "twice"), "two devices are called a-1"),
    "two sizes": (("--members", "two", "--group-size", "3"), "with 2 devices contradict each other"),
    "credentials": (
        ("--group-log", "nats://h/a", "--group", "g", "--group-log-credentials", "bad"),
        "--group-log-credentials bad: ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path, sim: tuple[str, ...]) -> None:
    for file, text in {"empty": "# none\n", "bad": "a\nb*x\n", "twice": "a\na-1:b\n", "two": "a*2\n"}.items():
        (tmp_path / file).write_text(text)
    arguments, sentence = REFUSED[name]
    status, text = lavabox(tmp_path, *sim, *arguments, "--role", "a*2=true")
    assert (status, sentence in text) == (2, True), text


# -- security ----------------------------------------------------------------------------------


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[NatsServer]:
    settings = (ROOT / "examples" / "nats" / "accounts.conf").read_text()
    with NatsServer(tmp_path / "server", settings=settings) as server:
        yield server


def credentials(folder: Path, user: str, password: str) -> tuple[str, str]:
    (folder / user).write_text(f'user = "{user}"\npassword = "{password}"\n')
    return "--group-log-credentials", user


def test_accounts(accounts: NatsServer, tmp_path: Path, sim: tuple[str, ...]) -> None:
    farm = credentials(tmp_path, "farm", "change-me-1")
    watcher = credentials(tmp_path, "farm-watcher", "change-me-2")
    bench = credentials(tmp_path, "bench", "change-me-3")
    lab = f"nats://{accounts.host}/farm"
    run = (*sim, "--group-log", lab, "--group", "g", "--role", "a*2=lava-sync x")
    status, text = lavabox(tmp_path, *run, *farm)
    assert status == 0, text
    # The watcher can read, and neither write nor remove.
    status, text = lavabox(tmp_path, "flow", f"{lab}/g", *watcher)
    assert (status, "lava-sync x" in text) == (0, True), text
    status, text = lavabox(tmp_path, "group", "list", lab, *watcher)
    assert (status, text.splitlines()[1].split()[0]) == (0, "g")
    status, text = lavabox(tmp_path, *run, *watcher)
    assert (status, "permissions violation for publish" in text.lower()) == (1, True), text
    status, text = lavabox(tmp_path, "group", "rm", lab, "g", "--force", *watcher)
    assert (status, "permissions violation for publish" in text.lower()) == (1, True), text
    status, text = lavabox(tmp_path, "status", f"{lab}/g", *watcher)
    assert (status, text.splitlines()[1].split()[:3]) == (0, ["a-1", "a", "ended"]), text
    # The other lab sees nothing of it, not even that it is there, and may use its names.
    for command in (("flow", f"{lab}/g"), ("group", "rm", lab, "g", "--force")):
        status, text = lavabox(tmp_path, *command, *bench)
        assert (status, "there is no lab farm" in text) == (1, True), text
    assert lavabox(tmp_path, *run, *bench)[0] == 0
    status, text = lavabox(tmp_path, "group", "list", lab, *farm)
    assert len(text.splitlines()) == 2
    # A dispatcher may purge, and nothing beside its lab.
    status, text = lavabox(tmp_path, "group", "rm", lab, "g", "--force", *farm)
    assert status == 0, text
    status, text = lavabox(tmp_path, "group", "list", lab.replace("farm", "other"), *farm)
    assert (status, "permissions violation for publish" in text.lower()) == (1, True), text


@pytest.mark.parametrize("name", ["single", "cluster-1", "cluster-2", "cluster-3", "accounts"])
def test_examples_are_what_a_server_takes(name: str, tmp_path: Path) -> None:
    from tests.dispatcher.grouplog.natsserver import PROGRAM

    file = ROOT / "examples" / "nats" / f"{name}.conf"
    done = subprocess.run([PROGRAM, "-t", "-c", file], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
