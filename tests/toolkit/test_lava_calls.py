# SPDX-License-Identifier: MIT
"""Every command beside LAVA's script of the same name: what that accepts is accepted here, too.

tests/data/lava-calls.txt has the calls, with the status that LAVA's script ended with (those of
LAVA 2026.07, for Debian where they differ, run by dash), the status that this command ends with,
and whether it warns. `LAVA_DIFFERS` has the calls that LAVA's scripts end with 0 and these do not.
"""

import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest

from toolkit import distributions
from toolkit.commands import COMMANDS, lava_add_keys, lava_add_sources, module_name
from toolkit.wire.vocabulary import CommandError

TABLE = Path(__file__).resolve().parents[1] / "data" / "lava-calls.txt"

# A program that makes the file that gpg would.
GPG = '#!/bin/sh\nfor a; do case $a in gnupg-ring:*) : >"${a#gnupg-ring:}" ;; esac; done\n'

LOST = "LAVA's script ends with 0, and the dispatcher drops the result"
NOT_SENT = "nothing arrives: LAVA's script ends with 0, and another device waits in vain"
LAVA_DIFFERS = {
    "lava-test-case x --result bogus": LOST,
    "lava-test-case x --result ''": LOST,
    "lava-test-case x --result pass --measurement ''": LOST,
    "lava-test-case x --result pass --measurement fast": LOST,
    "lava-test-case x --result pass --measurement 1,5": LOST,
    "lava-test-reference x --result bogus --reference http://h": LOST,
    "lava-test-reference x --result pass --reference ''": LOST,
    "lava-test-case x --shell": "a test that runs nothing has not passed",
    "lava-test-case x --shell ''": "a test that runs nothing has not passed",
    "lava-send 'two words'": NOT_SENT,
    "lava-send -x": "an unknown option may be a mistyped one",
    "lava-send --timeout 5 ready": "an unknown option may be a mistyped one",
    "lava-wait --soon": "an unknown option may be a mistyped one",
    "lava-wait ready --soon": "an unknown option may be a mistyped one",
    "lava-wait-all ready --soon": "an unknown option may be a mistyped one",
    "lava-test-shell --output_dir DIR": "there is nothing to run",
}


def rows() -> list[tuple[str, str, bool, str]]:
    """Status of LAVA's script, of the command, whether it warns, and the call."""
    lines = [line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    found = []
    for line in lines:
        lava, ours, warns, call = line.split(None, 3)
        found.append((lava, ours, warns == "warns", call))
    return found


def called(call: str, context: Any, tmp_path: Path) -> str:
    """The exit status."""
    words = [str(tmp_path) if word == "DIR" else word for word in shlex.split(call)]
    module = importlib.import_module("toolkit.commands." + module_name(words[0]))
    try:
        return str(module.run(words[1:], context))
    except CommandError as error:
        return str(error.status)


@pytest.fixture
def context(tmp_path: Path, fake_context: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "bin").mkdir()
    for name in ("apt-get", "gpg", "add-apt-repository", "dpkg-query"):
        (tmp_path / "bin" / name).write_text(GPG)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "os-release").write_text("ID=debian\n")
    monkeypatch.setattr(distributions, "OS_RELEASE", (str(tmp_path / "os-release"),))
    monkeypatch.setattr(lava_add_keys, "FOLDER", str(tmp_path))
    monkeypatch.setattr(lava_add_sources, "PATH", str(tmp_path / "sources.list"))
    operations = (
        *("send", "wait", "wait-all", "sync", "case-start", "case-end", "result", "reference"),
        *("set-start", "set-stop", "raise", "event", "feedback", "config", "shared-config"),
    )
    replies: dict[str, list[Any]] = {operation: [] for operation in operations}
    replies |= {"self": ["panda01"], "role": ["client"], "shared-config": ["panda01 x"]}
    replies["group"] = [["panda01", "client"], ["hb01", "server"], ["hb02", "client"]]
    environ = {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "LAVA_RESULT_DIR": str(tmp_path),
        "LAVA_MULTI_NODE_CACHE": str(tmp_path / "cache.txt"),
    }
    return fake_context(replies, environ)


@pytest.mark.parametrize(("lava", "ours", "warns", "call"), rows(), ids=[row[3] for row in rows()])
def test_beside_lavas_script(
    lava: str,
    ours: str,
    warns: bool,
    call: str,
    context: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status = called(call, context, tmp_path)
    for mark in tmp_path.glob("results/**/mark"):
        # A background process, which ends by itself.
        mark.unlink()
    assert (status, bool(context.warnings)) == (ours, warns)
    if lava == "0":
        assert (status == "0") == (call not in LAVA_DIFFERS)
    if lava != "0" and status == "0":
        assert call in MORE


# What LAVA's scripts refuse, and these take.
MORE = {
    "lava-test-case x --result=pass",
    "lava-test-case x --shell 'exit 3'",  # LAVA's ends with 3, without a result
    "lava-test-event",
    "lava-echo-config",  # LAVA has none
    "lava-echo-config x",
}


def test_the_table_has_enough_calls_of_every_command() -> None:
    calls = [row[3] for row in rows()]
    assert len(calls) == len(set(calls)) >= 150
    in_lava = set(COMMANDS) - {
        # Removed from LAVA, or to be run with more than a call.
        *("lava-network", "lava-vland-self", "lava-vland-names", "lava-vland-tags", "lava-test-runner"),
        *("lava-test-case-attach", "lava-test-run-attach", "lava-test-case-metadata"),
        *("lava-common-functions", "lava-target-storage"),
        # Ours.
        *("lava-lock", "lava-unlock"),
    }
    assert {call.split()[0] for call in calls} == in_lava
    assert set(LAVA_DIFFERS) <= set(calls)
