# SPDX-License-Identifier: MIT
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dispatcher.line.multinode import MAX_REPLY_LINE, RequestScanner, TextRequest, refusal, reply
from dispatcher.line.textsignals import Malformed

STAMPED = b"[    1.234567] usb 1-1: new device\r\n"
CASES: dict[bytes, tuple[str, tuple[object, ...]]] = {
    b"<LAVA_MULTI_NODE> <LAVA_SEND ready>": ("send", (b"ready", [])),
    b"<LAVA_MULTI_NODE> <LAVA_SEND ready ip=10.0.0.1 port=80>": (
        "send",
        (b"ready", [b"ip", b"10.0.0.1", b"port", b"80"]),
    ),
    b"<LAVA_MULTI_NODE> <LAVA_SEND ready free-space=12G>": ("send", (b"ready", [b"free-space", b"12G"])),
    b"<LAVA_MULTI_NODE> <LAVA_SEND x text=two words k=a=b>": (
        "send",
        (b"x", [b"text", b"two words", b"k", b"a=b"]),
    ),
    b"<LAVA_MULTI_NODE> <LAVA_SEND x k= l=<1>": ("send", (b"x", [b"k", b"", b"l", b"<1"])),
    b"<LAVA_MULTI_NODE> <LAVA_WAIT ready>": ("wait", (b"ready", None)),
    b"<LAVA_MULTI_NODE> <LAVA_WAIT_ALL ready>": ("wait-all", (b"ready", None, None)),
    b"<LAVA_MULTI_NODE> <LAVA_WAIT_ALL ready server>": ("wait-all", (b"ready", "server", None)),
    b"<LAVA_MULTI_NODE> <LAVA_SYNC end>": ("sync", (b"end", None)),
}
MALFORMED = (
    b"BOGUS x",
    b"SEND ",
    b"SEND a=b",
    b"SEND x y",
    b"WAIT a b",
    b"WAIT_ALL a b c",
    b"SYNC a b",
    b" ",
)


@pytest.mark.parametrize("line", CASES)
def test_requests(line: bytes) -> None:
    expected = TextRequest(*CASES[line], 2)
    data = b"$ " + line + b"\r\n"
    assert RequestScanner().receive_data(data) == [expected]
    scanner = RequestScanner()
    assert [item for i in range(len(data)) for item in scanner.receive_data(data[i : i + 1])] == [expected]
    for cut in range(3, len(data) - 3):
        assert RequestScanner().receive_data(data[:cut] + STAMPED + data[cut:]) == [expected], cut


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_requests(text: bytes) -> None:
    (item,) = RequestScanner().receive_data(b"<LAVA_MULTI_NODE> <LAVA_" + text + b">\n")
    assert isinstance(item, Malformed)


def test_replies_are_comments() -> None:
    assert reply("sync").line == b"\x15# <LAVA_SYNC_COMPLETE>\n"
    assert refusal("wait-all").line == b"\x15# <LAVA_WAIT_ALL_COMPLETE nack>\n"
    pairs = [(1, b"ip", b"10.0.0.1"), (2, b"t", b"$(reboot); `reboot` | reboot & 'a\" > b")]
    typed = reply("wait", pairs)
    assert (
        typed.line
        == b"\x15# <LAVA_WAIT_COMPLETE 1:ip=10.0.0.1 2:t=$(reboot); `reboot` | reboot & 'a\" > b>\n"
    )
    assert typed.left_out == ()


@pytest.mark.parametrize(
    "value", [b"a\nreboot", b"a\rreboot", b"\x15", b"\x03", b"a\\b", b"*", b"a?", b"at 12:30", b"\x7f"]
)
def test_a_value_that_would_be_changed_or_act_is_left_out(value: bytes) -> None:
    typed = reply("wait", [(1, b"k", value), (2, b"k", b"v")])
    assert typed.line == b"\x15# <LAVA_WAIT_COMPLETE 2:k=v>\n"
    assert typed.left_out == ((1, b"k"),)


def test_a_line_fits_into_a_tty() -> None:
    typed = reply("wait", [(n, b"key", b"v" * 90) for n in range(100)])
    assert len(typed.line) <= MAX_REPLY_LINE
    assert len(typed.left_out) == 100 - typed.line.count(b":key=")


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_shell_that_reads_a_reply_runs_nothing(shell: str, tmp_path: Path) -> None:
    typed = reply(
        "wait", [(1, b"x", b"1; touch ran; echo $(touch ran) `touch ran` && touch ran | touch ran")]
    )
    assert not typed.left_out
    done = subprocess.run([shell, "-s"], input=typed.line[1:], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, b"", [])
