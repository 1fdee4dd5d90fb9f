# SPDX-License-Identifier: MIT
"""How mistakes on the command line are told: alike, with what was probably meant, and with status 2."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from dispatcher.host.options import duration, positive_duration
from tests.dispatcher.lavabox_process import ROOT, Lavabox

MISTAKES = {
    "a command": (("smi",), "lavabox: there is no command 'smi'; did you mean 'sim'?"),
    "no such command": (
        ("xyzzy", "--help"),
        "lavabox: there is no command 'xyzzy'; there are sim, serve, hook, ctl, console, status, coordinator, flow, group, box",
    ),
    "a command of the devices": (
        ("lava-wait", "x"),
        "lavabox: lava-wait is a command of the devices; this `lavabox` is the one of the host",
    ),
    "no command": ((), "lavabox: the following arguments are required: COMMAND"),
    "an option": (
        ("sim", "--tiemout", "5", "--role", "a=x"),
        "lavabox sim: there is no option '--tiemout'; did you mean '--timeout'?",
    ),
    "an option with a value": (
        ("serve", "--gracee=5"),
        "lavabox serve: there is no option '--gracee'; did you mean '--grace'?",
    ),
    "no such option": (("flow", "--xyzzy"), "lavabox flow: there is no option '--xyzzy'"),
    "a word": (("flow", "a", "b"), "lavabox flow: too many arguments, from 'b' on"),
    "no value": (("sim", "--role"), "lavabox sim: --role: expected one argument"),
    "an option of --console for a lab": (
        ("serve", "lab.toml", "--log-dir", "logs"),
        "lavabox serve: --log-dir goes with --console; a lab has its settings in its file",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path) -> None:
    arguments, sentence = MISTAKES[name]
    with Lavabox(*arguments, cwd=tmp_path) as process:
        assert process.finish() == 2
    program = sentence.partition(":")[0]
    assert process.text == f"{sentence}\nTry `{program} --help`.\n"


@pytest.mark.parametrize(
    ("command", "option"),
    [("", "-h"), *((command, "--help") for command in ("", "sim", "serve", "flow", "box"))],
)
def test_help(command: str, option: str, tmp_path: Path) -> None:
    with Lavabox(*command.split(), option, cwd=tmp_path) as process:
        assert process.finish() == 0
    assert process.text.startswith(f"usage: lavabox {command}".rstrip())


JOB = """\
actions:
- test: {definitions: [{from: git, repository: "\\e[2Jx\\nlavabox flow: all is well", path: x.yaml, name: x}]}
"""


@pytest.mark.parametrize("command", [("sim",), ("flow", "--plan")])
def test_what_a_job_has_told_is_text_of_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    with Lavabox(*command, "job.yaml", cwd=tmp_path) as process:
        assert process.finish() == 2
    assert "there is no folder \\x1b[2Jx\\nlavabox flow: all is well in " in process.text
    assert process.text.count("\n") == 1


@pytest.mark.parametrize("command", [("sim",), ("flow", "--plan")])
def test_a_job_that_can_not_be_read(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [\n")
    for file, sentence in (("bad.yaml", "bad.yaml, line 2: this is not YAML"), ("no.yaml", "no.yaml: ")):
        with Lavabox(*command, file, cwd=tmp_path) as process:
            assert process.finish() == 2
        assert process.text.startswith(f"lavabox {command[0]}: {sentence}")
        # The command line is not what is wrong.
        assert "--help" not in process.text


DURATIONS = {"90": 90, "1.5m": 90, "0": 0, "10h": 36000, "1d": 86400, "1e3": 1000, ".5s": 0.5}


@pytest.mark.parametrize("text", DURATIONS)
def test_durations(text: str) -> None:
    assert duration(text) == DURATIONS[text]


@pytest.mark.parametrize("text", ["", "m", "nan", "inf", "-1", "5 m", "5M", "1.2.3", "1e99", "5mm"])
def test_no_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no time; write it as in"):
        duration(text)
    with pytest.raises(argparse.ArgumentTypeError):
        positive_duration("0")


# The box


def test_the_box(tmp_path: Path) -> None:
    with Lavabox("box", "-o", "new/box", cwd=tmp_path) as process:
        assert process.finish() == 1
    assert "lavabox box: there is no folder" in process.text
    with Lavabox("box", cwd=tmp_path) as process:
        assert process.finish() == 0
    done = subprocess.run([tmp_path / "lavabox", "lava-send", "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.startswith("usage: lava-send")) == (0, True)


def test_the_box_of_an_installed_package(tmp_path: Path) -> None:
    """All that it is made of is installed, and none of it comes from the source tree."""
    source, installed = tmp_path / "source", tmp_path / "installed"
    names = ("toolkit", "dispatcher", "build_zipapp.py", "pyproject.toml", "README.md", "LICENSE")
    source.mkdir()
    for name in names:
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--no-index", "--target", installed, source], check=True)
    code = f"import sys; sys.path.insert(0, {str(installed)!r}); from dispatcher.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, "box", "-o", tmp_path / "box"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    here = subprocess.run([sys.executable, ROOT / "build_zipapp.py", "-o", tmp_path / "same"])
    assert here.returncode == 0
    assert (tmp_path / "box").read_bytes() == (tmp_path / "same").read_bytes()


def test_only_the_command_that_is_meant_is_imported():
    """To import all of them takes longer than a hook takes to start."""
    script = (
        "import sys; from dispatcher.cli import main; main(['hook', '--', 'true'])\n"
        "print(*(name for name in sys.modules if name.startswith('dispatcher.commands.')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["dispatcher.commands.hook"]
