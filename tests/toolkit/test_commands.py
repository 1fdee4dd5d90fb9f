# SPDX-License-Identifier: MIT
"""The commands, given a context: what they ask the dispatcher, print and leave behind."""

import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from toolkit.arguments import MAX_ID
from toolkit.commands import COMMANDS, module_name
from toolkit.wire.vocabulary import LINK_FAILED, MAX_DATA, NO, NO_DISPATCHER, OK, CommandError, UsageError

GROUP = [["panda01", "client"], ["hb01", "server"], ["hb02", "client"], ["hb03", "clients"]]
WAITING = ["lava-wait", "lava-wait-all", "lava-sync"]
NETWORKED = [*WAITING, "lava-send"]


def run(command: str, context: Any, *arguments: str) -> int:
    module = importlib.import_module("toolkit.commands." + module_name(command))
    status: int = module.run(list(arguments), context)
    return status


def raw(argument: bytes) -> str:
    """An argument as Python decodes it from the command line."""
    return os.fsdecode(argument)


# Who and what am I


@pytest.mark.parametrize(
    ("command", "arguments", "printed", "asked"),
    [
        ("lava-self", [], "panda01\n", "self"),
        ("lava-role", [], "client\n", "role"),
        ("lava-role", ["list"], "client\nserver\nclient\nclients\n", "group"),
        ("lava-group", [], "panda01\tclient\nhb01\tserver\nhb02\tclient\nhb03\tclients\n", "group"),
        ("lava-group", ["client"], "panda01\nhb02\n", "group"),
        ("lava-group", ["--", "server"], "hb01\n", "group"),
        ("lava-role", ["lists"], "client\n", "role"),
        ("lava-group", [""], "panda01\tclient\nhb01\tserver\nhb02\tclient\nhb03\tclients\n", "group"),
    ],
)
def test_answers(command: str, arguments: list[str], printed: str, asked: str, fake_context: Any) -> None:
    context = fake_context({"self": ["panda01"], "role": ["client"], "group": GROUP})
    assert run(command, context, *arguments) == OK
    assert context.written.decode() == printed
    assert context.requests == [(asked,)]


@pytest.mark.parametrize("role", ["nobody", "clien", "c.*t", "CLIENT", " client", "--role=client"])
def test_group_matches_a_role_exactly_or_prints_nothing(role: str, fake_context: Any) -> None:
    context = fake_context({"group": GROUP})
    assert run("lava-group", context, role) == NO
    assert context.written == b""


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("lava-group", [raw(b"caf\xe9")]),
        ("lava-send", []),
        ("lava-send", ["--"]),
        ("lava-send", [""]),
        ("lava-send", ["-x"]),
        ("lava-send", ["--timeout", "5", "ready"]),
        ("lava-send", ["two words"]),
        ("lava-send", ["tab\tbed"]),
        ("lava-send", ["bell\a"]),
        ("lava-send", ["del\x7f"]),
        ("lava-send", ["a=b"]),
        ("lava-send", ["i" * (MAX_ID + 1)]),
        ("lava-send", ["ready", "k=one\ntwo"]),
        ("lava-send", ["ready", "k=one\rtwo"]),
        ("lava-send", ["ready", "two words=x"]),
        ("lava-send", ["ready", "bell\a=x"]),
        *((command, []) for command in WAITING),
        *((command, [""]) for command in WAITING),
        *((command, ["two words"]) for command in WAITING),
        *((command, ["ready", "--soon"]) for command in WAITING),
        *((command, ["ready", "--timeout"]) for command in WAITING),
        *((command, ["--timeout", "soon", "ready"]) for command in WAITING),
        ("lava-wait-all", ["ready", raw(b"caf\xe9")]),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    command: str, arguments: list[str], fake_context: Any
) -> None:
    context = fake_context()
    with pytest.raises(UsageError) as caught:
        run(command, context, *arguments)
    assert caught.value.status == 2
    assert caught.value.text
    assert context.requests == []
    assert context.written == b""


# lava-send


@pytest.mark.parametrize(
    ("arguments", "message_id", "data"),
    [
        (["ready"], b"ready", []),
        (["--", "-1"], b"-1", []),
        (["ready", "k=v"], b"ready", [b"k", b"v"]),
        (["ready", "b=2", "a=1", "b=3"], b"ready", [b"b", b"2", b"a", b"1", b"b", b"3"]),
        (["ready", "empty="], b"ready", [b"empty", b""]),
        (["ready", "url=http://h/?a=1&b=2"], b"ready", [b"url", b"http://h/?a=1&b=2"]),
        (["ready", "free-space=1G"], b"ready", [b"free-space", b"1G"]),
        (["ready", "--timeout=5"], b"ready", [b"--timeout", b"5"]),
        (["ready", "k= a  b %s \\n > \" ' "], b"ready", [b"k", b" a  b %s \\n > \" ' "]),
        (["fünf", raw(b"k=\xff\xfe\x01\x1b[0m")], "fünf".encode(), [b"k", b"\xff\xfe\x01\x1b[0m"]),
        (["i" * MAX_ID], b"i" * MAX_ID, []),
    ],
)
def test_send_carries_keys_and_values_byte_for_byte(
    arguments: list[str], message_id: bytes, data: list[bytes], fake_context: Any
) -> None:
    context = fake_context({"send": []})
    assert run("lava-send", context, *arguments) == OK
    assert context.requests == [("send", message_id, data)]
    assert context.written == b""
    assert context.warnings == []


@pytest.mark.parametrize("argument", ["bare", "=value", "", "--", "--help"])
def test_send_leaves_out_what_is_no_pair_and_says_so(argument: str, fake_context: Any) -> None:
    context = fake_context({"send": []})
    assert run("lava-send", context, "ready", "a=1", argument, "b=2") == OK
    assert context.requests == [("send", b"ready", [b"a", b"1", b"b", b"2"])]
    (warning,) = context.warnings
    assert repr(argument) in warning


def test_send_takes_as_much_data_as_a_message_may_carry(fake_context: Any) -> None:
    context = fake_context({"send": []})
    assert run("lava-send", context, "ready", "k=" + "x" * (MAX_DATA - 1)) == OK
    assert len(context.requests) == 1


@pytest.mark.parametrize(
    "pairs",
    [["k=" + "x" * MAX_DATA], ["a=" + "x" * (MAX_DATA // 2), "b=" + "x" * (MAX_DATA // 2)]],
    ids=["one", "two"],
)
def test_send_refuses_more_and_says_how_much(pairs: list[str], fake_context: Any) -> None:
    context = fake_context({"send": []})
    with pytest.raises(UsageError, match=r"6553[78] bytes.* 65536"):
        run("lava-send", context, "ready", *pairs)
    assert context.requests == []


def test_a_message_shows_what_it_is_about_printably_and_in_short(fake_context: Any) -> None:
    with pytest.raises(UsageError) as caught:
        run("lava-send", fake_context(), raw(b"\x1b[31m\xff" + b"x" * 10_000 + b"="))
    assert caught.value.text.isprintable()
    assert len(caught.value.text) < 200


# lava-wait, lava-wait-all, lava-sync


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache.txt"


ROWS = [
    ["hb01", b"ip", b"10.0.0.1", b"port", b"80"],
    ["hb02"],
    ["hb01", b"b64", b"QQ=="],
    ["hb03", b"raw", b"\xff >"],
]
PLAIN = b"ip=10.0.0.1\nport=80\nb64=QQ==\nraw=\xff >\n"
PREFIXED = b"hb01:ip=10.0.0.1\nhb01:port=80\nhb01:b64=QQ==\nhb03:raw=\xff >\n"


@pytest.mark.parametrize(
    ("command", "arguments", "asked", "content"),
    [
        ("lava-wait", ["ready"], ("wait", b"ready", None, False), PLAIN),
        ("lava-wait", ["--", "--ready"], ("wait", b"--ready", None, False), PLAIN),
        ("lava-wait-all", ["ready"], ("wait-all", b"ready", None, None, False), PREFIXED),
        ("lava-wait-all", ["ready", ""], ("wait-all", b"ready", None, None, False), PREFIXED),
        ("lava-wait-all", ["ready", "server"], ("wait-all", b"ready", "server", None, False), PREFIXED),
        ("lava-wait-all", ["ready", "sérver"], ("wait-all", b"ready", "sérver", None, False), PREFIXED),
        ("lava-sync", ["ready"], ("sync", b"ready", None, False), PREFIXED),
    ],
)
def test_waits_leave_the_data_in_the_cache_file(
    command: str, arguments: list[str], asked: tuple[Any, ...], content: bytes, cache: Path, fake_context: Any
) -> None:
    context = fake_context({asked[0]: ROWS}, {"LAVA_MULTI_NODE_CACHE": str(cache)})
    assert run(command, context, *arguments) == OK
    assert context.requests == [asked]
    assert cache.read_bytes() == content
    assert context.written == b""


@pytest.mark.parametrize(("value", "content"), [("1", PREFIXED), ("0", PLAIN), ("", PLAIN)])
def test_wait_writes_the_senders_name_if_told_to(
    value: str, content: bytes, cache: Path, fake_context: Any
) -> None:
    environ = {"LAVA_MULTI_NODE_CACHE": str(cache), "LAVA_MULTI_NODE_CACHE_PREFIX": value}
    assert run("lava-wait", fake_context({"wait": ROWS}, environ), "ready") == OK
    assert cache.read_bytes() == content


@pytest.mark.parametrize("command", WAITING)
def test_without_data_the_cache_file_is_empty_and_not_missing(
    command: str, cache: Path, fake_context: Any
) -> None:
    cache.write_text("old=data\n")
    context = fake_context({command[5:]: []}, {"LAVA_MULTI_NODE_CACHE": str(cache)})
    assert run(command, context, "ready") == OK
    assert cache.read_bytes() == b""


@pytest.mark.parametrize("command", WAITING)
@pytest.mark.parametrize("status", [NO, NO_DISPATCHER, LINK_FAILED])
def test_a_wait_that_fails_leaves_an_empty_cache_file(
    command: str, status: int, cache: Path, fake_context: Any
) -> None:
    cache.write_text("old=data\n")
    context = fake_context({command[5:]: CommandError(status, "no")}, {"LAVA_MULTI_NODE_CACHE": str(cache)})
    with pytest.raises(CommandError) as caught:
        run(command, context, "ready")
    assert caught.value.status == status
    assert cache.read_text() == ""
    assert list(cache.parent.iterdir()) == [cache]


@pytest.mark.parametrize("command", WAITING)
@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, MemoryError])
def test_however_a_wait_ends_no_old_data_is_left(
    command: str, end: type[BaseException], cache: Path, fake_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is killed: the file is empty before the dispatcher is asked."""

    def request(self: object, *arguments: object) -> list[Any]:
        assert cache.read_text() == ""
        raise end

    cache.write_text("old=data\n")
    monkeypatch.setattr(fake_context, "request", request)
    with pytest.raises(end):
        run(command, fake_context({}, {"LAVA_MULTI_NODE_CACHE": str(cache)}), "ready")
    assert cache.read_text() == ""
    assert list(cache.parent.iterdir()) == [cache]


@pytest.mark.parametrize("command", WAITING)
def test_wrong_usage_leaves_the_cache_file(command: str, cache: Path, fake_context: Any) -> None:
    cache.write_text("old=data\n")
    with pytest.raises(UsageError):
        run(command, fake_context({}, {"LAVA_MULTI_NODE_CACHE": str(cache)}), "two words")
    assert cache.read_text() == "old=data\n"


@pytest.mark.parametrize("command", WAITING)
def test_nothing_is_sent_if_the_cache_file_cannot_be_written(
    command: str, tmp_path: Path, fake_context: Any
) -> None:
    context = fake_context({}, {"LAVA_MULTI_NODE_CACHE": str(tmp_path / "missing" / "cache.txt")})
    with pytest.raises(CommandError, match=r"missing/cache\.txt.*LAVA_MULTI_NODE_CACHE") as caught:
        run(command, context, "ready")
    assert caught.value.status == NO
    assert context.requests == []


@pytest.mark.parametrize("command", ["lava-self", "lava-role", "lava-group", "lava-send"])
def test_other_commands_leave_the_cache_file_alone(command: str, cache: Path, fake_context: Any) -> None:
    replies = {"self": ["panda01"], "role": ["client"], "group": GROUP, "send": []}
    context = fake_context(replies, {"LAVA_MULTI_NODE_CACHE": str(cache)})
    assert run(command, context, *(["ready", "k=v"] if command == "lava-send" else [])) == OK
    assert list(cache.parent.iterdir()) == []


@pytest.mark.parametrize("command", WAITING)
@pytest.mark.parametrize(
    ("arguments", "environment", "milliseconds"),
    [
        (["ready"], None, None),
        (["ready"], "", None),
        (["ready"], "2.5", 2500),
        (["--timeout", "10", "ready"], None, 10_000),
        (["--timeout=10", "ready"], None, 10_000),
        (["ready", "--timeout", "10"], "bad", 10_000),
        (["ready", "--timeout=.5"], "99", 500),
        (["--timeout=1", "--timeout=2", "ready"], None, 2000),
        (["ready", "--timeout=1e-9"], None, 1),
        (["ready", "--timeout=36000"], None, 36_000_000),
        (["ready", "--timeout", "90s"], None, 90_000),
        (["ready", "--timeout", "1.5m"], None, 90_000),
        (["ready", "--timeout", "10h"], None, 36_000_000),
        (["ready", "--timeout", "2d"], None, 172_800_000),
        (["ready"], "5m", 300_000),
    ],
)
def test_timeout(
    command: str,
    arguments: list[str],
    environment: str | None,
    milliseconds: int | None,
    cache: Path,
    fake_context: Any,
) -> None:
    environ = {"LAVA_MULTI_NODE_CACHE": str(cache)}
    if environment is not None:
        environ["LAVA_WAIT_TIMEOUT"] = environment
    context = fake_context({command[5:]: []}, environ)
    assert run(command, context, *arguments) == OK
    (asked,) = context.requests
    assert asked[:2] == (command[5:], b"ready")
    assert asked[-2:] == (milliseconds, any("--timeout" in argument for argument in arguments))


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "nan", "inf", "1e999", "1e10", "5w", "s", "1h30m", "0s", "1_0", " 5", "5 5", "٣", "1,5"],
)
def test_a_timeout_that_is_no_time_is_refused(text: str, fake_context: Any) -> None:
    with pytest.raises(UsageError, match="--timeout"):
        run("lava-wait", fake_context(), "--timeout", text, "ready")
    if text:
        with pytest.raises(UsageError, match="LAVA_WAIT_TIMEOUT"):
            run("lava-wait", fake_context({}, {"LAVA_WAIT_TIMEOUT": text}), "ready")


# What they say about themselves


# What asks no dispatcher; and of that, what LAVA has no more.
LOCAL = {
    *("lava-add-keys", "lava-add-sources", "lava-background-process-start", "lava-background-process-stop"),
    *("lava-common-functions", "lava-echo-ipv4", "lava-install-packages", "lava-installed-packages"),
    *("lava-os-build", "lava-test-case-attach", "lava-test-run-attach", "lava-test-shell"),
}
GONE = {
    *("lava-test-case-metadata", "lava-vland-self", "lava-vland-names", "lava-vland-tags"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_teaches(command: str) -> None:
    usage: str = importlib.import_module("toolkit.commands." + module_name(command)).USAGE
    assert re.match(rf"usage: (\. )?{command}\b", usage)
    assert usage.endswith("\n")
    for heading in ("\nOptions", "\nExit status:\n", "\nExample"):
        assert heading in usage
    if command in GONE:
        statuses = ["1 "]
    elif command in LOCAL:
        statuses = ["0 "]
    else:
        # lava-test-raise never ends with 0.
        statuses = ["1 " if command == "lava-test-raise" else "0 ", "2 ", "69 ", "75 ", "130 "]
    for status in statuses:
        assert f"\n  {status}" in usage
    assert max(map(len, usage.splitlines())) <= 88
