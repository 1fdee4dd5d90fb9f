# SPDX-License-Identifier: MIT
"""The commands that LAVA has not, given a context: what they ask, print and leave behind."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from toolkit.commands import module_name
from toolkit.wire.vocabulary import NO, OK, CommandError, UsageError

MESSAGE = ["hb01", b"n", b"1", b"text", b"a b"]


def run(command: str, context: Any, *arguments: str) -> int:
    status: int = importlib.import_module("toolkit.commands." + module_name(command)).run(
        list(arguments), context
    )
    return status


ASKED = [
    ("lava-wait", ["--any", "up", "down"], ("wait-any", [b"up", b"down"], None, False)),
    ("lava-wait", ["up", "--any", "up", "down", "--timeout=2"], ("wait-any", [b"up", b"down"], 2000, True)),
    ("lava-wait", ["--any", "up"], ("wait", b"up", None, False)),
    ("lava-wait", ["--next", "--timeout", "1", "up"], ("wait-next", b"up", 1000, True)),
    (
        "lava-wait-all",
        ["--device", "b", "--device=c", "up"],
        ("wait-devices", b"up", ["b", "c"], None, False),
    ),
    ("lava-wait-all", ["up", "--device", "b"], ("wait-devices", b"up", ["b"], None, False)),
    ("lava-sync", ["--role", "client", "up"], ("sync-some", b"up", "client", None, False)),
    ("lava-sync", ["--count=3", "up", "--timeout", "2m"], ("sync-some", b"up", 3, 120000, True)),
    ("lava-lock", ["power"], ("lock", b"power", False, None, False)),
    ("lava-lock", ["--timeout", "5", "power"], ("lock", b"power", False, 5000, True)),
    ("lava-unlock", ["power"], ("unlock", b"power")),
    ("lava-unlock", ["--", "-power"], ("unlock", b"-power")),
    ("lava-group", ["--state"], ("state",)),
]


@pytest.mark.parametrize(("command", "arguments", "asked"), ASKED)
def test_what_is_asked(
    command: str, arguments: list[str], asked: tuple[object, ...], fake_context: Any, tmp_path: Path
) -> None:
    replies = {
        "wait": [MESSAGE],
        "wait-any": [b"up", MESSAGE],
        "wait-next": [MESSAGE],
        "wait-devices": [MESSAGE],
        "sync-some": [],
        "lock": [],
        "unlock": [],
        "state": [["a", "r", "running", ""]],
    }
    context = fake_context(replies, {"LAVA_MULTI_NODE_CACHE": str(tmp_path / "cache")})
    assert run(command, context, *arguments) == OK
    assert context.requests == [asked]
    assert context.taken == ([context.written] if asked[0] in ("wait-next", "lock") else [])
    assert context.warnings == []


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("lava-wait", ["--any"]),
        ("lava-wait", ["--next"]),
        ("lava-wait", ["--any", "--next", "up"]),
        ("lava-wait", ["--any=up"]),
        ("lava-wait", ["--any", "up", "two words"]),
        ("lava-wait", ["--any", "up", "--soon"]),
        ("lava-wait-all", ["--device", "b", "up", "client"]),
        ("lava-wait-all", ["--device=", "up"]),
        ("lava-wait-all", ["--device", "b", "--device=", "up"]),
        ("lava-wait-all", ["up", "--device"]),
        ("lava-wait-all", ["--count", "2", "up"]),
        ("lava-sync", ["--role", "r", "--count", "2", "up"]),
        ("lava-sync", ["--role=", "up"]),
        *(
            ("lava-sync", ["--count", count, "up"])
            for count in ("", "0", "-1", "1.5", "two", "10001", "9" * 99)
        ),
        ("lava-lock", []),
        ("lava-lock", [""]),
        ("lava-lock", ["a=b"]),
        ("lava-lock", ["power", "--"]),
        ("lava-lock", ["power", "--", ""]),
        ("lava-lock", ["--", "true"]),
        ("lava-unlock", []),
        ("lava-unlock", ["two words"]),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    command: str, arguments: list[str], fake_context: Any
) -> None:
    context = fake_context()
    with pytest.raises(UsageError):
        run(command, context, *arguments)
    assert context.requests == []
    assert context.written == b""


@pytest.mark.parametrize("prefix", ["", "1"])
@pytest.mark.parametrize(
    ("arguments", "printed"), [(["--any", "down", "up"], b"up\n"), (["--next", "up"], b"hb01\n")]
)
def test_a_wait_prints_what_it_got_and_leaves_the_data(
    arguments: list[str], printed: bytes, prefix: str, fake_context: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    environ = {"LAVA_MULTI_NODE_CACHE": str(cache), "LAVA_MULTI_NODE_CACHE_PREFIX": prefix}
    context = fake_context({"wait-any": [b"up", MESSAGE], "wait-next": [MESSAGE]}, environ)
    assert run("lava-wait", context, *arguments) == OK
    assert context.written == printed
    name = "hb01:" if prefix else ""
    assert cache.read_text() == f"{name}n=1\n{name}text=a b\n"


@pytest.mark.parametrize("arguments", [["--any", "up", "down"], ["--next", "up"]])
def test_a_wait_that_fails_prints_nothing_and_leaves_an_empty_file(
    arguments: list[str], fake_context: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.write_text("old=data\n")
    failure = CommandError(NO, "timed out")
    context = fake_context({"wait-any": failure, "wait-next": failure}, {"LAVA_MULTI_NODE_CACHE": str(cache)})
    with pytest.raises(CommandError, match="timed out"):
        run("lava-wait", context, *arguments)
    assert (context.written, cache.read_bytes()) == (b"", b"")


def test_a_message_that_could_not_be_taken_leaves_no_data(fake_context: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    replies = {"wait-next": [MESSAGE], "taken": CommandError(NO, "taken back")}
    context = fake_context(replies, {"LAVA_MULTI_NODE_CACHE": str(cache)})
    with pytest.raises(CommandError, match="taken back"):
        run("lava-wait", context, "--next", "up")
    assert cache.read_bytes() == b""


STATES = [
    ["a", "client", "waiting", "lava-wait x for b, since 2.0 s"],
    ["b", "server", "running", ""],
    ["c", "client", "ended", "ended with status 0"],
]


@pytest.mark.parametrize(
    ("arguments", "status", "lines"),
    [
        (["--state"], OK, ["a\tclient\twaiting\tlava-wait x for b, since 2.0 s", "b\tserver\trunning"]),
        (["--state", "server"], OK, ["b\tserver\trunning"]),
        (["--state", "nobody"], NO, []),
    ],
)
def test_states(arguments: list[str], status: int, lines: list[str], fake_context: Any) -> None:
    context = fake_context({"state": STATES})
    assert run("lava-group", context, *arguments) == status
    assert context.written.decode().splitlines()[: len(lines)] == lines
    assert bool(context.written) == bool(lines)
