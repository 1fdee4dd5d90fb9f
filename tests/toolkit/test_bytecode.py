# SPDX-License-Identifier: MIT
"""What an agent has compiled, for the commands after it: used where it is ours and fits, and else as if it were not there."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from tests.consoles import Lab, eventually
from tests.frombox import IMPORTER
from toolkit import VERSION

# Stands in kept bytecode in the place of the version, to show that it is used.
OTHER = "9" * len(VERSION)

KEEP = (
    IMPORTER
    + """
import os, toolkit, toolkit.cli
toolkit.BUILD = sys.meta_path[0].build
from toolkit.bytecode import keep
keep(sys.meta_path[0])
"""
)


@pytest.fixture(scope="module")
def plain(box: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box that has no bytecode for any Python here."""
    content = box.read_bytes()
    for old, new in (
        (MAGIC_NUMBER + b"__main__", b"none__main__"),
        (MAGIC_NUMBER.hex().encode(), b"6e6f6e65"),
    ):
        assert content.count(old) == 1
        content = content.replace(old, new)
    path = tmp_path_factory.mktemp("plain") / "lavabox"
    path.write_bytes(content)
    path.chmod(0o755)
    return path


def keep(interpreter: Path | str, box: Path, folder: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run(
        [interpreter, "-I", "-S", "-c", KEEP, box], env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def mark(kept: Path) -> None:
    content = kept.read_bytes()
    assert content.count(VERSION.encode()) == 1
    kept.write_bytes(content.replace(VERSION.encode(), OTHER.encode()))


def version(interpreter: Path | str, box: Path, folder: Path) -> str:
    """What a command says, which stands in the kept bytecode."""
    environ = {"LAVABOX_PYTHON": str(interpreter), "XDG_RUNTIME_DIR": str(folder)}
    said = subprocess.run([box, "lava-send", "--version"], env=environ, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout.split()[-1]


def test_every_python_keeps_its_own(plain: Path, interpreter: Path, tmp_path: Path) -> None:
    keep(interpreter, plain, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert version(interpreter, plain, tmp_path) == VERSION
    mark(kept)
    assert version(interpreter, plain, tmp_path) == OTHER


def test_an_agent_keeps_what_it_has_compiled(plain: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with Lab(plain, tmp_path, {"a": "server"}) as lab:
        assert lab["a"].run("lava-self", environment={"XDG_RUNTIME_DIR": str(run)}) == 0
        # When it ends, under its name at once and whole.
        name = f"lavabox-{sys.implementation.cache_tag}"
        eventually(lambda: os.listdir(run) == [name], "what the agent compiled")
    mark(next(run.iterdir()))
    assert version(sys.executable, plain, run) == OTHER


def test_with_bytecode_for_this_python_there_is_nothing_to_keep(box: Path) -> None:
    script = IMPORTER + "import toolkit.cli\nassert not sys.meta_path[0].compiled"
    subprocess.run([sys.executable, "-I", "-S", "-c", script, box], check=True)


def hard_link(kept: Path) -> None:
    (kept.parent / "second name").hardlink_to(kept)


def link(kept: Path) -> None:
    kept.symlink_to(kept.rename(kept.parent / "elsewhere"))


def fifo(kept: Path) -> None:
    kept.unlink()
    os.mkfifo(kept)


def folder(kept: Path) -> None:
    kept.unlink()
    kept.mkdir()


def foreign(kept: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(kept, 12345, -1)


def another_box(kept: Path) -> None:
    kept.write_bytes(b"x" + kept.read_bytes()[1:])  # no hexadecimal digit


def another_python(kept: Path) -> None:
    content = kept.read_bytes()
    assert content[16:].startswith(sys.version.encode())
    kept.write_bytes(content[:16] + b"9" + content[17:])


def cut_off(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:-1000])


def something_else(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[: 16 + len(sys.version)] + b"i\0\0\0\0")


REFUSED = [
    *(hard_link, link, fifo, folder, foreign, another_box, another_python, cut_off, something_else),
    lambda kept: kept.chmod(0o664),
    lambda kept: kept.chmod(0o646),
]


@pytest.mark.parametrize("change", REFUSED, ids=[change.__name__ for change in REFUSED])
def test_what_is_not_ours_or_does_not_fit_is_as_if_it_were_not_there(
    change: Callable[[Path], None], plain: Path, tmp_path: Path
) -> None:
    keep(sys.executable, plain, tmp_path)
    (kept,) = tmp_path.iterdir()
    mark(kept)
    change(kept)
    assert version(sys.executable, plain, tmp_path) == VERSION


@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=oct)
def test_nothing_is_kept_in_a_folder_that_others_can_write_to(mode: int, plain: Path, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    keep(sys.executable, plain, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert version(sys.executable, plain, tmp_path) == VERSION
