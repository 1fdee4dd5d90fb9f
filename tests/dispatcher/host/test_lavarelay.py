# SPDX-License-Identifier: MIT
"""Requests handed on to LAVA as its text: whole, once, one at a time; and its typed answers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.group.events import Sent, Waiting, WaitKind
from dispatcher.host.lavarelay import MAX_REQUEST, Relay, plain, quoted
from toolkit.wire.vocabulary import NO, OK, unpack_reply

RUN = ("0_x", "u1")


class Device:
    """A device in a run, whose requests go to LAVA."""

    def __init__(self, *, running: bool = True) -> None:
        self.relay = Relay("13", {"client", "server"})
        if running:
            self.relay.runs.note("run-start", RUN)
        self._count = 0

    def send(self, message_id: bytes, *pairs: tuple[bytes, bytes], now: float = 0.0) -> str:
        handle = self._handle()
        self.relay.ask(handle, Sent(0.0, "13", handle.encode(), message_id, pairs), now)
        return handle

    def wait(
        self,
        message_id: bytes,
        kind: WaitKind = WaitKind.WAIT,
        role: str | None = None,
        timeout: float | None = None,
        now: float = 0.0,
    ) -> str:
        handle = self._handle()
        event = Waiting(0.0, "13", handle.encode(), kind, message_id, role, timeout)
        self.relay.ask(handle, event, now)
        return handle

    def _handle(self) -> str:
        self._count += 1
        return f"request {self._count}"

    def answers(self) -> dict[str, tuple[int, list[object]]]:
        return {str(handle): unpack_reply(reply) for handle, reply in self.relay.answers()}

    def type(self, data: bytes, now: float = 0.0) -> bytes:
        return self.relay.receive_keys(data, now)


def test_each_request_is_lavas_text():
    device = Device()
    device.send(b"ready", (b"ip", b"10.0.0.1"), (b"port", b"80"))
    device.wait(b"x")
    device.type(b"<LAVA_WAIT_COMPLETE>\n\n\n")
    device.wait(b"x", WaitKind.WAIT_ALL)
    device.type(b"<LAVA_WAIT_ALL_COMPLETE>\n\n\n")
    device.wait(b"x", WaitKind.WAIT_ALL, "server")
    device.type(b"<LAVA_WAIT_ALL_COMPLETE>\n\n\n")
    device.wait(b"end", WaitKind.SYNC)
    assert device.relay.lines() == [
        "<LAVA_MULTI_NODE> <LAVA_SEND ready ip=10.0.0.1 port=80>",
        "<LAVA_MULTI_NODE> <LAVA_WAIT x>",
        "<LAVA_MULTI_NODE> <LAVA_WAIT_ALL x>",
        "<LAVA_MULTI_NODE> <LAVA_WAIT_ALL x server>",
        "<LAVA_MULTI_NODE> <LAVA_SYNC end>",
    ]


def test_a_send_is_done_when_it_is_handed_on():
    device = Device()
    handle = device.send(b"ready")
    assert device.answers() == {handle: (OK, [])}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_answer_is_taken_out_of_the_keys_in_any_chunking(size):
    device = Device()
    handle = device.wait(b"x")
    keys = b"<LAVA_WAIT_COMPLETE 12:ip=10.0.0.1 12:words=two words 14:ip=10.0.0.2 13:own=1>\n\n\nls\n"
    passed = b"".join(device.type(keys[start : start + size]) for start in range(0, len(keys), size))
    assert passed == b"ls\n"
    # What the device has sent itself LAVA tells, too.
    assert device.answers() == {
        handle: (OK, [["12", b"ip", b"10.0.0.1", b"words", b"two words"], ["14", b"ip", b"10.0.0.2"]])
    }


def test_a_nack_is_a_refusal():
    device = Device()
    handle = device.wait(b"x", WaitKind.WAIT_ALL)
    device.type(b"<LAVA_WAIT_ALL_COMPLETE nack>\n\n\n")
    status, (sentence,) = device.answers()[handle]
    assert status == NO and "`lava-wait-all x`" in str(sentence)


def test_keys_pass_where_lava_owes_no_answer():
    device = Device()
    # LAVA's own scripts are answered so.
    assert device.type(b"<LAVA_WAIT_COMPLETE 12:a=b>\n\n\n") == b"<LAVA_WAIT_COMPLETE 12:a=b>\n\n\n"
    device.send(b"x")
    assert device.type(b"ls\n") == b"ls\n"


def test_a_request_waits_until_lava_has_answered_the_one_before():
    device = Device()
    first, second = device.wait(b"a"), device.wait(b"b", WaitKind.SYNC)
    third = device.send(b"c")
    assert device.relay.lines() == ["<LAVA_MULTI_NODE> <LAVA_WAIT a>"]
    device.type(b"<LAVA_WAIT_COMPLETE>\n\n\n")
    assert device.relay.lines() == ["<LAVA_MULTI_NODE> <LAVA_SYNC b>"]
    # The line breaks of the answer before may come late.
    device.type(b"<LAVA_SYNC_COMPLETE>\n")
    assert device.type(b"\n\n") == b""
    assert device.relay.lines() == ["<LAVA_MULTI_NODE> <LAVA_SEND c>"]
    assert list(device.answers()) == [first, second, third]


def test_a_request_that_comes_again_is_handed_on_once():
    device = Device()
    event = Waiting(0.0, "13", b"same", WaitKind.WAIT, b"x", None, None)
    device.relay.ask("one", event, 0.0)
    device.relay.ask("two", event, 1.0)
    device.type(b"<LAVA_WAIT_COMPLETE 12:a=b>\n\n\n")
    device.relay.ask("three", event, 2.0)
    assert len(device.relay.lines()) == 1
    assert {handle: status for handle, (status, _) in device.answers().items()} == {
        "one": OK,
        "two": OK,
        "three": OK,
    }


def test_a_wait_that_has_timed_out_is_taken_up_again_by_the_same_wait():
    device = Device()
    first = device.wait(b"x", timeout=5.0)
    other = device.wait(b"y", timeout=1.0)
    assert device.relay.next_timeout() == 1.0
    device.relay.handle_timeout(1.0)
    device.relay.handle_timeout(5.0)
    assert {handle: status for handle, (status, _) in device.answers().items()} == {first: NO, other: NO}
    assert device.relay.next_timeout() is None
    again = device.wait(b"x", timeout=5.0, now=6.0)
    assert device.relay.lines() == ["<LAVA_MULTI_NODE> <LAVA_WAIT x>"]
    device.type(b"<LAVA_WAIT_COMPLETE 12:a=b>\n\n\n", 7.0)
    assert device.answers() == {again: (OK, [["12", b"a", b"b"]])}


def test_the_answer_to_a_wait_that_was_cancelled_does_not_reach_the_device():
    device = Device()
    handle = device.wait(b"x")
    device.relay.cancel(handle)
    later = device.wait(b"y")
    assert device.type(b"<LAVA_WAIT_COMPLETE 12:a=b>\n\n\n") == b""
    assert device.answers() == {}
    device.relay.cancel(later)
    assert device.relay.lines() == ["<LAVA_MULTI_NODE> <LAVA_WAIT x>", "<LAVA_MULTI_NODE> <LAVA_WAIT y>"]


def test_other_keys_mean_that_lava_has_given_the_wait_up():
    device = Device()
    handle = device.wait(b"x")
    assert device.type(b"<LAVA") == b""
    assert device.type(b"_SHELL\n") == b"<LAVA_SHELL\n"
    status, (sentence,) = device.answers()[handle]
    assert status == NO and "given up `lava-wait x`" in str(sentence)


def test_keys_that_may_begin_an_answer_are_held_back_for_a_while_only():
    device = Device()
    handle = device.wait(b"x")
    assert device.type(b"<LA", 10.0) == b""
    timeout = device.relay.next_timeout()
    assert timeout is not None and timeout > 10.0
    assert device.relay.handle_timeout(timeout) == b"<LA"
    assert device.answers()[handle][0] == NO


def test_outside_of_a_run_lava_would_take_a_request_for_an_error():
    device = Device(running=False)
    first = device.wait(b"x")
    device.relay.runs.note("run-start", RUN)
    device.relay.runs.note("run-end", (*RUN, None))
    second = device.send(b"x")
    answers = device.answers()
    assert device.relay.lines() == []
    assert [answers[handle][0] for handle in (first, second)] == [NO, NO]


def test_what_lavas_text_can_not_carry_is_refused():
    device = Device()
    long = device.send(b"x", (b"key", b"v" * MAX_REQUEST))
    role = device.wait(b"x", WaitKind.WAIT_ALL, "nobody")
    answers = device.answers()
    assert device.relay.lines() == []
    assert answers[long][0] == NO and "lavabox coordinator" in str(answers[long][1])
    assert answers[role] == (NO, ["no device has the role 'nobody'; the roles are client, server"])


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"10.0.0.1", "10.0.0.1"),
        (b"http://x/a%20b?c", "http://x/a%20b?c"),
        (b"", "__"),
        (b"a  b", "__a_20_20b"),
        (b"a>b", "__a_3Eb"),
        (b"a=b", "__a_3Db"),
        (b"__a", "___5F_5Fa"),
        ("ä".encode(), "ä"),
        ("ä b".encode(), "___C3_A4_20b"),
        (b"\xff", "___FF"),
    ],
)
def test_words_that_lava_does_not_carry_are_written_otherwise(data, word):
    assert quoted(data) == word
    assert plain(word.encode()) == data


@given(st.binary(max_size=40))
def test_every_value_comes_out_of_lavas_text_as_it_was(data):
    word = quoted(data)
    # What LAVA's dispatcher does with a request, and with the pair in it.
    request = re.search(r"<LAVA_(\S+) ([^>]+)>", f"<LAVA_SEND x k={word}>")
    assert request is not None
    _, pair = re.split(r"\s+(?=\w+(?:=))", request[2])
    key, value = pair.split("=")
    device = Device()
    handle = device.wait(b"x")
    device.type(f"<LAVA_WAIT_COMPLETE 12:{key}={value} 12:z=1>\n\n\n".encode())
    assert device.answers()[handle] == (OK, [["12", b"k", data, b"z", b"1"]])


@pytest.mark.parametrize("key", [b"server-ip", b"a.b", b"_x_", b"__x", "ä".encode()])
def test_a_key_is_made_of_letters_and_digits(key):
    device = Device()
    device.send(b"x", (key, b"1"))
    (line,) = device.relay.lines()
    word = line.split()[3].partition("=")[0]
    assert re.fullmatch(r"\w+", word, re.ASCII)
    assert plain(word.encode()) == key


def test_a_plain_device_may_begin_a_value_with_the_same_characters():
    assert plain(b"__init__") == b"__init__"
    assert plain(b"__x") == b"__x"
