# SPDX-License-Identifier: MIT
"""lava-test-runner and lava-test-shell: directories as LAVA's dispatcher lays them out, and real scripts."""

import os
from pathlib import Path
from typing import Any

import pytest

from toolkit.commands import lava_test_runner, lava_test_shell
from toolkit.wire.vocabulary import LINK_FAILED, NO, NO_DISPATCHER, OK, CommandError, UsageError

YES: dict[str, list[Any]] = {"self": ["hb01"], "run-start": [], "run-end": [], "raise": []}
EXIT = b"<LAVA_TEST_RUNNER EXIT>\n"


class Stage:
    """/lava-1234/0, and the test definitions in it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "0"
        self.path.mkdir()
        self._list = self.path / "lava-test-runner.conf"
        self._list.touch()

    def add(self, name: str, run: str | None, install: str | None = None, uuid: str | None = None) -> Path:
        directory = self.path / "tests" / name
        directory.mkdir(parents=True)
        for file, text in (("run.sh", run), ("install.sh", install), ("uuid", uuid)):
            if text is not None:
                (directory / file).write_text(text + "\n")
        with self._list.open("a") as lines:
            lines.write(f"{directory}\n")
        return directory

    def results(self, name: str) -> Path:
        (folder,) = (self.path / "results").glob(f"{name}-*")
        return folder


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def context(fake_context: Any) -> Any:
    return fake_context(YES, {"PATH": "/usr/bin:/bin"})


def test_all_is_installed_and_then_run(stage: Stage, context: Any, capfd: pytest.CaptureFixture[str]) -> None:
    first = stage.add("0_smoke", "echo run $PWD; echo $LAVA_RESULT_DIR", "echo install $PWD", "1234_1.2.3")
    second = stage.add("1_other", "echo second; pwd", "echo install second")
    third = stage.add("2_third", "echo third")
    assert lava_test_runner.run([str(stage.path)], context) == OK
    assert capfd.readouterr().out.splitlines() == [
        f"install {first}",
        "install second",
        f"run {first}",
        str(stage.results("0_smoke")),
        "second",
        str(second),
        "third",
    ]
    assert context.requests == [
        ("self",),
        ("run-start", b"0_smoke", b"1234_1.2.3"),
        ("run-end", b"0_smoke", b"1234_1.2.3", 0),
        ("run-start", b"1_other", b""),
        ("run-end", b"1_other", b"", 0),
        ("run-start", b"2_third", b""),
        ("run-end", b"2_third", b"", 0),
    ]
    assert context.written == EXIT
    assert (stage.results("0_smoke") / "install_return_code").read_text() == "0\n"
    assert (stage.results("0_smoke") / "return_code").read_text() == "0\n"
    assert not (stage.results("2_third") / "install_return_code").exists()
    assert third.exists()


def test_the_list_is_renamed_so_that_nothing_runs_again(stage: Stage, context: Any) -> None:
    stage.add("0_smoke", "true")
    before = (stage.path / "lava-test-runner.conf").read_text()
    assert lava_test_runner.run([str(stage.path)], context) == OK
    (renamed,) = stage.path.glob("lava-test-runner.conf*")
    assert renamed.name.startswith("lava-test-runner.conf-")
    assert renamed.read_text() == before
    with pytest.raises(CommandError, match="cannot begin with") as caught:
        lava_test_runner.run([str(stage.path)], context)
    assert caught.value.status == NO
    assert context.written == 2 * EXIT


def test_a_run_that_ends_otherwise_is_noted_and_the_next_goes_on(stage: Stage, context: Any) -> None:
    stage.add("0_a", "false\ntouch reached")
    stage.add("1_b", "kill -KILL $$")
    last = stage.add("2_c", "touch reached")
    assert lava_test_runner.run([str(stage.path)], context) == NO
    ends = [asked for asked in context.requests if asked[0] == "run-end"]
    assert [end[3] for end in ends] == [1, 137, 0]
    assert context.warnings == ["0_a: run.sh ended with status 1", "1_b: run.sh ended with status 137"]
    assert not (stage.path / "tests" / "0_a" / "reached").exists()
    assert (last / "reached").exists()
    assert (stage.results("1_b") / "return_code").read_text() == "137\n"


def test_an_installation_that_fails_ends_everything(stage: Stage, context: Any) -> None:
    first = stage.add("0_a", "touch reached")
    stage.add("1_b", "true", "exit 3")
    with pytest.raises(CommandError, match=r"1_b: install.sh ended with status 3") as caught:
        lava_test_runner.run([str(stage.path)], context)
    assert caught.value.status == NO
    assert context.requests == [("self",), ("raise", b"1_b: install.sh ended with status 3")]
    assert context.written == b"<LAVA_TEST_RUNNER INSTALL_FAIL>\n" + EXIT
    assert not (first / "reached").exists()
    assert (stage.results("1_b") / "install_return_code").read_text() == "3\n"


def test_a_script_that_names_its_interpreter_has_it(
    stage: Stage, context: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    text = "#!/bin/cat\nshown"
    (stage.add("0_a", text) / "run.sh").chmod(0o755)
    stage.add("1_b", "#!/bin/cat\necho run")
    assert lava_test_runner.run([str(stage.path)], context) == OK
    assert capfd.readouterr().out == text + "\nrun\n"


@pytest.mark.parametrize(("text", "kmsg"), [("# USE_KMSG", "true"), ("# no", "")])
def test_kmsg(text: str, kmsg: str, stage: Stage, context: Any, capfd: pytest.CaptureFixture[str]) -> None:
    stage.add("0_a", f'{text}\necho "$KMSG"')
    assert lava_test_runner.run([str(stage.path)], context) == OK
    assert capfd.readouterr().out == kmsg + "\n"


def test_commands_beside_the_stage_come_first(
    stage: Stage, context: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = stage.path.parent / "bin"
    commands.mkdir()
    (commands / "ls").write_text("#!/bin/sh\necho ours\n")
    (commands / "ls").chmod(0o755)
    stage.add("0_a", "ls", "ls")
    monkeypatch.chdir(stage.path.parent)
    assert lava_test_runner.run(["0"], context) == OK
    assert capfd.readouterr().out == "ours\nours\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_commands_that_another_user_has_put_beside_the_stage_are_not_run(
    stage: Stage, context: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = stage.path.parent / "bin"
    commands.mkdir()
    (commands / "ls").write_text("#!/bin/sh\necho theirs\n")
    (commands / "ls").chmod(0o755)
    os.chown(commands, 1234, 1234)
    stage.add("0_a", "ls -d .")
    assert lava_test_runner.run([str(stage.path)], context) == OK
    assert capfd.readouterr().out == ".\n"
    assert "bin belongs to user 1234" in context.warnings[0]


def test_relative_directories_and_blank_lines(stage: Stage, context: Any) -> None:
    directory = stage.add("0_a", "touch reached")
    (stage.path / "lava-test-runner.conf").write_text("\n  tests/0_a/  \n\n")
    assert lava_test_runner.run([str(stage.path)], context) == OK
    assert (directory / "reached").exists()
    assert context.requests[1] == ("run-start", b"0_a", b"")


def test_an_empty_list(stage: Stage, context: Any) -> None:
    assert lava_test_runner.run([str(stage.path)], context) == OK
    assert context.requests == [("self",)]
    assert context.written == EXIT


def test_without_dispatcher_nothing_is_changed(stage: Stage, fake_context: Any) -> None:
    directory = stage.add("0_a", "touch reached", "touch installed")
    context = fake_context({"self": CommandError(NO_DISPATCHER, "none")})
    with pytest.raises(CommandError) as caught:
        lava_test_runner.run([str(stage.path)], context)
    assert caught.value.status == NO_DISPATCHER
    assert sorted(path.name for path in stage.path.iterdir()) == ["lava-test-runner.conf", "tests"]
    assert sorted(path.name for path in directory.iterdir()) == ["install.sh", "run.sh"]
    assert context.written == EXIT


def test_a_run_that_cannot_be_announced_is_not_run(stage: Stage, fake_context: Any) -> None:
    directory = stage.add("0_a", "touch reached")
    context = fake_context({**YES, "run-start": CommandError(LINK_FAILED, "cut")}, {"PATH": "/bin"})
    with pytest.raises(CommandError):
        lava_test_runner.run([str(stage.path)], context)
    assert not (directory / "reached").exists()


def test_a_definition_without_a_script(stage: Stage, context: Any) -> None:
    stage.add("0_a", None)
    with pytest.raises(CommandError, match=r"there is no .*run\.sh") as caught:
        lava_test_runner.run([str(stage.path)], context)
    assert caught.value.status == NO
    assert [asked for asked in context.requests if asked[0] == "run-start"] == []


def test_interrupted_it_says_that_it_ends(
    stage: Stage, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_in(*arguments: object) -> int:
        raise KeyboardInterrupt

    stage.add("0_a", "true")
    monkeypatch.setattr(lava_test_runner, "run_in", run_in)
    with pytest.raises(KeyboardInterrupt):
        lava_test_runner.run([str(stage.path)], context)
    assert context.written == EXIT
    # The dispatcher sees the run begin, and not end.
    assert context.requests[-1][0] == "run-start"


def test_the_directory_that_lava_takes_without_an_argument(
    stage: Stage, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_test_runner, "DEFAULT", str(stage.path))
    stage.add("0_a", "true")
    assert lava_test_runner.run([], context) == OK
    assert ("run-start", b"0_a", b"") in [(*asked[:2], b"") for asked in context.requests]


def test_lines_that_end_with_cr_lf_are_named(stage: Stage, context: Any) -> None:
    stage.add("0_a", "true\r\n")
    lava_test_runner.run([str(stage.path)], context)
    assert any("CR LF" in warning for warning in context.warnings)


# lava-test-shell


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", 'echo "$LAVA_RESULT_DIR|$1"; exit 7', "sh", "a  b"], 7),
        (["./script"], 5),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["/nowhere/x"], 127),
    ],
)
def test_shell_runs_a_program_and_writes_its_status(
    command: list[str],
    status: int,
    tmp_path: Path,
    context: Any,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script").write_text("exit 5\n")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "results").mkdir()
    assert lava_test_shell.run(["--output_dir", "results", *command], context) == OK
    assert (tmp_path / "results" / "return_code").read_text() == f"{status}\n"
    if "echo" in str(command):
        assert capfd.readouterr().out == f"{tmp_path}/results|a  b\n"
    assert context.requests == []


def test_shell_with_an_equals_sign(tmp_path: Path, context: Any) -> None:
    assert lava_test_shell.run([f"--output_dir={tmp_path}", "true", "--x"], context) == OK
    assert (tmp_path / "return_code").read_text() == "0\n"


@pytest.mark.parametrize("place", ["missing", "file"])
def test_shell_without_a_place_for_results_runs_nothing(place: str, tmp_path: Path, context: Any) -> None:
    (tmp_path / "file").touch()
    arguments = ["--output_dir", str(tmp_path / place), "touch", str(tmp_path / "reached")]
    with pytest.raises(CommandError, match="cannot use the directory") as caught:
        lava_test_shell.run(arguments, context)
    assert caught.value.status == NO
    assert not (tmp_path / "reached").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["true"],
        ["--output_dir"],
        ["--output_dir", ""],
        ["--output_dir", "/tmp"],
    ],
)
def test_wrong_arguments_of_the_shell(arguments: list[str], context: Any) -> None:
    with pytest.raises(UsageError):
        lava_test_shell.run(arguments, context)
    assert not os.path.exists("/tmp/return_code")
