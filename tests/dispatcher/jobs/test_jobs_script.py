# SPDX-License-Identifier: MIT
"""What is laid out for a device, the copies that definitions run in, and when a device is stopped."""

import itertools
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.errors import UsageError
from dispatcher.group.events import Reported
from dispatcher.jobs.device_script import lay_out
from dispatcher.jobs.model import Checkout, Definition, Place, Request, Role, Step, TestAction
from dispatcher.jobs.repositories import Repositories, parse_repositories
from dispatcher.jobs.rules import JobRules, TimedAction
from tests.dispatcher.group.play import left

HERE = Place("job.yaml", 1)


TestAction.__test__ = False  # type: ignore[attr-defined]


def definition(name: str, *steps: str, **more: object) -> Definition:
    return Definition(name, HERE, steps=tuple(Step(step, HERE) for step in steps), **more)  # type: ignore[arg-type]


def laid_out(folder: Path, *actions: TestAction, **more: object) -> Path:
    numbers = map(str, itertools.count())
    lay_out(
        Role("a", 1, HERE, actions, **more),
        folder / "dev",
        "/bin/sh",
        lambda: next(numbers),
        Repositories().copy,
    )  # type: ignore[arg-type]
    return folder / "dev"


def test_folder_of_a_device(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "run.sh").write_text("of the repository\n")
    actions = (
        TestAction(
            HERE, definitions=(definition("x", "echo", checkout=Checkout(tmp_path / "repo")), definition("y"))
        ),
        TestAction(HERE, definitions=(definition("z"),), timeout=5),
    )
    folder = laid_out(tmp_path, *actions)
    assert (folder / "0/lava-test-runner.conf").read_text() == "run/0_x\nrun/1_y\n"
    assert (folder / "1/lava-test-runner.conf").read_text() == "run/2_z\n"
    assert (folder / "0/tests/0_x/run.sh").read_text() == "of the repository\n"
    assert (folder / "0/run/1_y/uuid").read_text() == "1\n"
    assert not (folder / "0/run/0_x/install.sh").exists()


def test_start_script(tmp_path: Path) -> None:
    requests = (
        Request("lava-send", "up", HERE, data=(("ip", "1 2"), ("q", "it's"))),
        Request("lava-wait-all", "-x", HERE, role="b c", timeout=2.5),
    )
    folder = laid_out(
        tmp_path,
        TestAction(HERE, requests),
        wait_timeout=30.0,
        starts_after="host",
        environment=(("A", "x y"),),
    )
    text = (folder / "start.sh").read_text().replace(f"LAVA_MULTI_NODE_CACHE={folder}/requested ", "%")
    text = text.replace(f"{folder}/", "~/")
    assert text.splitlines()[1:] == [
        "export LAVA_WAIT_TIMEOUT=30",
        "export A='x y'",
        "# After a reboot, the device goes on with the action that follows.",
        "status=0; [ ! -e ~/failed ] || status=1",
        "%lava-wait-all -- lava_start host || exit",
        "if [ ! -e ~/begun-0 ]; then : >~/begun-0 || exit",
        "%lava-send -- up 'ip=1 2' 'q=it'\"'\"'s' || exit",
        "%lava-wait-all --timeout 2.5 -- -x 'b c' || exit",
        "fi",
        "exit $status",
    ]


@given(st.text(alphabet=st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])))
def test_parameters_arrive_as_they_are(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    folder = laid_out(
        tmp_path_factory.mktemp("x"),
        TestAction(
            HERE,
            definitions=(
                definition("x", "set +x; printf '<%s>' \"$V\"", parameters=(("V", "0"), ("V", value))),
            ),
        ),
    )
    done = subprocess.run(["sh", "-e", folder / "0/run/0_x/run.sh"], capture_output=True, check=True)
    assert done.stdout.decode() == f"<{value}>"


def test_positions_in_a_step_are_those_of_the_command_that_it_hands_on(tmp_path: Path) -> None:
    steps = ("lava-test-case x --shell \"awk '{print $1 $10}'\" $x", "echo $1")
    folder = laid_out(tmp_path, TestAction(HERE, definitions=(definition("x", *steps),)))
    assert (folder / "0/run/0_x/run.sh").read_text().splitlines()[-2:] == [
        "lava-test-case x --shell \"awk '{print \\$1 \\$10}'\" $x",
        "echo $1",
    ]


# Copies


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_copy_of_a_clone_is_its_work_tree_without_what_git_ignores(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    git(clone, "init", "-q")
    for name in ("kept", "changed", "new", "ignored", "gone"):
        (clone / name).write_text(name)
    (clone / ".gitignore").write_text("ignored\n")
    (clone / "link").symlink_to("kept")
    git(clone, "add", "kept", "changed", "gone", ".gitignore")
    git(clone, "commit", "-q", "-m", "x")
    commit = git(clone, "rev-parse", "HEAD")
    (clone / "changed").write_text("by hand")
    (clone / "gone").unlink()
    Repositories().copy(Checkout(clone), tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [
        *(".gitignore", "changed", "kept", "link", "new"),
    ]
    assert (tmp_path / "copy" / "changed").read_text() == "by hand"
    assert (tmp_path / "copy" / "link").is_symlink()
    Repositories().copy(Checkout(clone, commit), tmp_path / "old")
    assert (tmp_path / "old" / "changed").read_text() == "changed"
    assert Repositories().list_files(Checkout(clone, commit)) == [".gitignore", "changed", "gone", "kept"]


def test_copy_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    script = tmp_path / "folder" / "deep" / "x.sh"
    script.write_text("x")
    script.chmod(0o755)
    Repositories().copy(Checkout(tmp_path / "folder"), tmp_path / "copy")
    assert (tmp_path / "copy" / "deep" / "x.sh").stat().st_mode & 0o777 == 0o755


def test_repositories_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    url = "https://example.org/x.git?a=b"
    assert parse_repositories([f"{url}=here", "https://example.org/y.git/=here"], tmp_path) == {
        url: tmp_path / "here",
        "https://example.org/y": tmp_path / "here",
    }
    with pytest.raises(UsageError, match="there is no folder"):
        parse_repositories(["x=there"], tmp_path)


# When a device is stopped


def run(kind: str, uuid: str, time: float) -> Reported:
    fields = ("x", uuid) if kind == "run-start" else ("x", uuid, "0")
    return Reported(time, "a-1", f"{kind}{uuid}".encode(), kind, fields, 0)


def test_action_lasts_from_its_first_run_to_its_last() -> None:
    rules = JobRules({"a-1": [TimedAction("1", "2", 10), TimedAction("3", "3", 5)]}, {})
    assert rules.next_timeout() is None
    rules.apply(run("run-start", "1", 100))
    rules.apply(run("run-end", "1", 105))
    rules.apply(run("run-start", "2", 106))
    assert rules.next_timeout() == 110
    assert rules.expired(109.9) == []
    rules.apply(run("run-end", "2", 108))
    assert rules.next_timeout() is None
    rules.apply(run("run-start", "3", 120))
    assert rules.expired(125) == [("a-1", "stopped at the time-out of its test action (5 s)")]
    assert rules.expired(126) == []


def test_next_action_takes_the_place_of_one_whose_end_was_not_told() -> None:
    rules = JobRules({"a-1": [TimedAction("1", "1", 10), TimedAction("2", "2", 50)]}, {})
    rules.apply(run("run-start", "1", 100))
    rules.apply(run("run-start", "2", 105))
    rules.apply(run("run-start", "2", 107))
    assert rules.next_timeout() == 155
    rules.apply(left("a-1", "ended", 110))
    assert rules.next_timeout() is None
