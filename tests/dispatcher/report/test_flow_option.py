# SPDX-License-Identifier: MIT
"""`lavabox sim --flow`: what really happened on simulated devices, drawn at the end."""

from pathlib import Path

import pytest

from tests.dispatcher.lavabox_process import Lavabox

DEVICES = (
    *("--role", "server=lava-wait-all up client; lava-send ready port=5201"),
    *("--role", "client*2=lava-send up; lava-wait ready"),
)


def run(box: Path, folder: Path, *arguments: str) -> tuple[int, str]:
    with Lavabox("sim", "--box", str(box), *arguments, cwd=folder) as process:
        return process.finish(), process.text


def test_a_run_is_drawn_in_every_form(box: Path, tmp_path: Path) -> None:
    status, text = run(box, tmp_path, "--flow", "flow.html", "--group-log", "group.log", *DEVICES)
    assert status == 0, text
    page = (tmp_path / "flow.html").read_text()
    assert "<title>Flow of server-1, client-1 and client-2</title>" in page
    assert "lava-send ready port=5201" in page
    with Lavabox("flow", "group.log", cwd=tmp_path) as process:
        assert process.finish() == 0
        assert "client (2 devices)" in process.text
        assert "lava-send ready port=5201" in process.text
    status, text = run(box, tmp_path, "--flow", "flow.md", *DEVICES)
    assert status == 0
    assert (
        (tmp_path / "flow.md").read_text().startswith("| time | `server-1 (server)` | `client (2 devices)` |")
    )
    status, text = run(box, tmp_path, "--flow", "-", *DEVICES)
    assert status == 0
    assert text.index("| time") > text.index("\ndevice ")


def test_a_run_that_hangs_is_drawn_too(box: Path, tmp_path: Path) -> None:
    devices = ("--role", "a=lava-wait never", "--role", "b=lava-wait-all never a")
    status, text = run(box, tmp_path, "--timeout", "5", "--flow", "flow.txt", *devices)
    assert status == 1, text
    flow = (tmp_path / "flow.txt").read_text()
    assert "lava-wait never" in flow
    assert "a-1" in flow.partition("lava-wait-all never a'")[2]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("flow.pdf", 2, "--flow: the format of flow.pdf is not known; give it the suffix .html, .md or .txt"),
        ("flow", 2, "--flow: the format of flow is not known"),
        ("missing/flow.html", 1, "--flow: there is no folder"),
        ("folder.html", 1, "--flow: folder.html is a folder"),
    ],
)
def test_what_can_not_be_written_is_said_first(
    path: str, status: int, sentence: str, box: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder.html").mkdir()
    got, text = run(box, tmp_path, "--flow", path, "--role", "a=echo began")
    assert got == status
    assert sentence in text
    assert "began" not in text
