# SPDX-License-Identifier: MIT
"""Commands that LAVA has no more, and the functions that scripts source."""

import importlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from toolkit import attachments
from toolkit.commands import lava_common_functions, module_name
from toolkit.wire.vocabulary import NO, OK, CommandError, UsageError

GONE = {
    "lava-test-case-metadata": ("2018.2", "lava-test-case"),
    "lava-vland-self": ("2026.06", "parameter"),
    "lava-vland-names": ("2026.06", "parameter"),
    "lava-vland-tags": ("2026.06", "parameter"),
}


def module(command: str) -> Any:
    return importlib.import_module("toolkit.commands." + module_name(command))


@pytest.mark.parametrize("arguments", [[], ["x", "--shell", "true"]])
@pytest.mark.parametrize("command", GONE)
def test_what_is_gone_says_since_when_and_what_to_use(
    command: str, arguments: list[str], fake_context: Any
) -> None:
    context = fake_context()
    with pytest.raises(CommandError) as caught:
        module(command).run(arguments, context)
    since, instead = GONE[command]
    assert caught.value.status == NO
    assert f"gone since LAVA {since}" in caught.value.text
    assert instead in caught.value.text
    assert "\n" not in caught.value.text
    assert caught.value.text in module(command).USAGE


def test_what_lava_still_ships_sends_what_it_sends(tmp_path: Path, fake_context: Any) -> None:
    environ = {"LAVA_MULTI_NODE_CACHE": str(tmp_path / "cache")}
    context = fake_context({"send": [], "wait-all": []}, environ)
    assert module("lava-start-vms").run([], context) == OK
    assert module("lava-wait-for-vms").run([], context) == OK
    assert context.requests == [
        ("send", b"lava_vm_start", []),
        ("send", b"lava_vm_stop", []),
        ("wait-all", b"lava_vm_stop", None, None, False),
    ]
    assert all("gone since LAVA 2017.9" in warning for warning in context.warnings)


# Attachments


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "boot log.txt"
    path.write_bytes(b"\0\xff text")
    return path


@pytest.mark.parametrize(
    ("command", "before", "folder"),
    [
        ("lava-test-case-attach", ["two words"], "results/two words/attachments"),
        ("lava-test-run-attach", [], "attachments"),
    ],
)
@pytest.mark.parametrize("mime_type", [[], ["text/plain"]])
def test_an_attachment_is_kept_and_that_is_said(
    command: str, before: list[str], folder: str, mime_type: list[str], log: Path, fake_context: Any
) -> None:
    results = log.parent / "result"
    context = fake_context({}, {"LAVA_RESULT_DIR": str(results)})
    assert module(command).run([*before, str(log), *mime_type], context) == OK
    kept = {path.name: path.read_bytes() for path in (results / folder).iterdir()}
    expected = {"boot log.txt": b"\0\xff text"}
    if mime_type:
        expected["boot log.txt.mimetype"] = b"text/plain\n"
    assert kept == expected
    (warning,) = context.warnings
    assert "since LAVA 2018.2" in warning and "lava-test-case" in warning and str(results) in warning
    assert context.requests == []


@pytest.mark.parametrize("name", ["missing", "."])
def test_an_attachment_that_cannot_be_read(name: str, tmp_path: Path, fake_context: Any) -> None:
    context = fake_context({}, {"LAVA_RESULT_DIR": str(tmp_path / "result")})
    with pytest.raises(CommandError, match="cannot attach") as caught:
        module("lava-test-run-attach").run([str(tmp_path / name)], context)
    assert caught.value.status == NO
    assert not (tmp_path / "result").exists()


def test_an_attachment_that_is_too_large(
    log: Path, fake_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "MAX_SIZE", 6)
    context = fake_context({}, {"LAVA_RESULT_DIR": str(log.parent / "result")})
    with pytest.raises(CommandError, match="more than 6 bytes"):
        module("lava-test-run-attach").run([str(log)], context)
    assert not (log.parent / "result").exists()


def test_an_attachment_without_a_place(log: Path, fake_context: Any) -> None:
    with pytest.raises(CommandError, match="gone since LAVA 2018") as caught:
        module("lava-test-run-attach").run([str(log)], fake_context())
    assert caught.value.status == NO


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("lava-test-run-attach", []),
        ("lava-test-run-attach", ["a", "b", "c"]),
        ("lava-test-case-attach", ["boot"]),
        ("lava-test-case-attach", ["a/b", "file"]),
        ("lava-test-case-attach", ["..", "file"]),
        ("lava-test-case-attach", ["", "file"]),
        ("lava-test-case-attach", ["a", "b", "c", "d"]),
    ],
)
def test_wrong_arguments(command: str, arguments: list[str], fake_context: Any) -> None:
    with pytest.raises(UsageError):
        module(command).run(arguments, fake_context({}, {"LAVA_RESULT_DIR": "/nowhere"}))


# lava-common-functions

SIGNALS = [
    ("signal '<LAVA_SIGNAL_TESTSET START a  b>'", "<LAVA_SIGNAL_TESTSET START a  b>\n"),
    ("signal 'LAVA_SIGNAL_TESTSET STOP'", "<LAVA_SIGNAL_TESTSET STOP>\n"),
    ("signal LAVA_SIGNAL_STARTTC 'a\\nb %s'", "<LAVA_SIGNAL_STARTTC a\\nb %s>\n"),
    ("CHARACTER_DELAY=0; signal x", "<x>\n"),
]


@pytest.mark.parametrize(("script", "printed"), SIGNALS)
@pytest.mark.parametrize("shell", ["sh", "dash", "bash", "busybox", "mksh"])
def test_scripts_source_it_through_path(
    shell: str, script: str, printed: str, box: Path, tmp_path: Path
) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([box, "--install", "-s", tmp_path], check=True)
    done = subprocess.run(
        [
            path,
            *(["sh"] if shell == "busybox" else []),
            "-euc",
            f". lava-common-functions; {script}; echo on",
        ],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, printed + "on\n", "")


def test_it_is_printed_for_eval(fake_context: Any) -> None:
    context = fake_context()
    assert lava_common_functions.run([], context) == OK
    script = 'eval "$1"; signal x; KMSG=; signal y'
    done = subprocess.run(["sh", "-c", script, "sh", context.written], capture_output=True, text=True)
    assert done.stdout == "<x>\n<y>\n"


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/kmsg", os.W_OK), reason="no kernel log to write to"
)
def test_with_kmsg_it_goes_to_the_kernels_log(fake_context: Any) -> None:
    context = fake_context()
    lava_common_functions.run([], context)
    script = 'eval "$1"; KMSG=true; signal "<lavabox test>"'
    done = subprocess.run(["sh", "-c", script, "sh", context.written], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
