# SPDX-License-Identifier: MIT
"""The engine: requests in, events to the log and back, answers out; with one host and with several."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dispatcher import engine as engine_module
from dispatcher.engine import ABANDONED, IMPATIENT, MAX_MALFORMED_SHOWN
from dispatcher.group import appends
from dispatcher.group import identities as identities_module
from dispatcher.group.appends import RETRY_PAUSE
from dispatcher.group.events import (
    Ended,
    Event,
    Founded,
    Joined,
    Left,
    Lost,
    Released,
    Reported,
    Resting,
    Sent,
    Taken,
    Unlocked,
    Waiting,
    WaitKind,
)
from dispatcher.group.misuse import MANY_CALLS
from dispatcher.group.operations import MAX_ID, OPERATIONS
from tests.dispatcher.hosts import EPOCH, MEMBERS, Asked, Lab
from toolkit.wire.vocabulary import INTERRUPTED, LINK_FAILED, MAX_DATA, MAX_REPLY, NO, OK, USAGE

FULL = "/x/group.log: No space left on device"
NOT_WRITTEN = f"the dispatcher could not write it to the group log: {FULL}"


@pytest.fixture
def lab() -> Lab:
    return Lab()


def nothing_is_left(lab: Lab) -> bool:
    """Whether the engine has forgotten all requests that have ended."""
    engine = lab.engine
    waiters = engine._waiters
    return not (
        waiters.of_request
        or waiters.by_handle
        or engine._borrowers.of_request
        or engine._borrowers.by_handle
        or engine._borrowed
        or engine._appends.pending
        or engine._given_up
        or engine._held
    )


# -- the operations ----------------------------------------------------------------------------


def test_who_and_with_whom(lab: Lab) -> None:
    assert lab.answer("client-1", "self") == (OK, ["client-1"])
    assert lab.answer("client-1", "role") == (OK, ["client"])
    assert lab.answer("client-1", "group") == (OK, [[name, role] for name, role in MEMBERS.items()])
    assert len(lab.log.events) == 1 + len(MEMBERS)


def test_send_and_wait(lab: Lab) -> None:
    wait = lab.ask("client-1", "wait", b"ready", None)
    assert (wait.reply, wait.accepted) == (None, 1)
    assert lab.open_waits() == [b"ready"]
    assert lab.answer("server-1", "send", b"ready", [b"ip", b"10.0.0.1", b"empty", b""]) == (OK, [])
    expected = (OK, [["server-1", b"ip", b"10.0.0.1", b"empty", b""]])
    assert wait.reply == expected
    # It stays, for whoever asks later.
    assert lab.answer("client-2", "wait", b"ready", 5) == expected
    assert lab.answer("client-1", "wait", b"ready", None) == expected
    # But not for the sender itself.
    assert lab.answer("server-1", "wait", b"ready", None) is None
    (sent,) = lab.events(Sent)
    assert sent.time == EPOCH + lab.now
    assert (sent.device, sent.message_id) == ("server-1", b"ready")
    assert sent.data == ((b"ip", b"10.0.0.1"), (b"empty", b""))


def test_wait_all_of_a_role(lab: Lab) -> None:
    wait = lab.ask("server-1", "wait-all", b"up", "client", None)
    lab.ask("client-1", "send", b"up", [b"n", b"1"])
    assert wait.reply is None
    lab.ask("client-2", "send", b"up", [b"n", b"2"])
    assert wait.reply == (OK, [["client-1", b"n", b"1"], ["client-2", b"n", b"2"]])
    status, (sentence,) = lab.answer("server-1", "wait-all", b"up", "nobody", None) or (None, [""])
    assert status == NO
    assert "'nobody'" in sentence
    assert "server, client" in sentence


def test_sync_is_a_barrier_each_time(lab: Lab) -> None:
    for _ in range(3):
        first, second = (lab.ask(name, "sync", b"start", None) for name in ("server-1", "client-1"))
        assert first.reply is second.reply is None
        third = lab.ask("client-2", "sync", b"start", None)
        assert first.reply == second.reply == third.reply == (OK, [])


def test_any_bytes_come_through(lab: Lab) -> None:
    value = bytes(set(range(256)) - set(b"\0\r\n"))
    key = bytes(set(range(0x21, 256)) - set(b"=\x7f"))
    assert lab.answer("server-1", "send", key, [key, value]) == (OK, [])
    assert lab.answer("client-1", "wait", key, None) == (OK, [["server-1", key, value]])


BAD_CALLS: dict[str, tuple[Any, ...]] = {
    "no such operation": ("reboot",),
    "an empty operation": ("",),
    "an operation in capitals": ("SELF",),
    "an operation of 2000 characters": ("x" * 2000,),
    "self with an argument": ("self", 1),
    "group with a role": ("group", "client"),
    "send without anything": ("send",),
    "send without data": ("send", b"id"),
    "send with too much": ("send", b"id", [], 1),
    "send: id is text": ("send", "id", []),
    "send: id is empty": ("send", b"", []),
    "send: id has a space": ("send", b"a b", []),
    "send: id has a line break": ("send", b"a\nb", []),
    "send: id has a DEL": ("send", b"a\x7f", []),
    "send: id has a =": ("send", b"a=b", []),
    "send: id is too long": ("send", b"i" * (MAX_ID + 1), []),
    "send: id is a number": ("send", 5, []),
    "send: id is a list": ("send", [b"id"], []),
    "send: data is nothing": ("send", b"id", None),
    "send: data is a map": ("send", b"id", {"k": b"v"}),
    "send: data is bytes": ("send", b"id", b"kv"),
    "send: a key without a value": ("send", b"id", [b"k"]),
    "send: a key that is text": ("send", b"id", ["k", b"v"]),
    "send: a value that is text": ("send", b"id", [b"k", "v"]),
    "send: a value that is a list": ("send", b"id", [b"k", [b"v"]]),
    "send: an empty key": ("send", b"id", [b"", b"v"]),
    "send: a key with a =": ("send", b"id", [b"k=", b"v"]),
    "send: a key with a space": ("send", b"id", [b"k k", b"v"]),
    "send: a value with a line feed": ("send", b"id", [b"k", b"a\nb"]),
    "send: a value with a carriage return": ("send", b"id", [b"k", b"a\rb"]),
    "send: a value with a NUL": ("send", b"id", [b"k", b"a\0b"]),
    "wait without a time-out": ("wait", b"id"),
    "wait: id is text": ("wait", "id", None),
    "wait: time-out is negative": ("wait", b"id", -1),
    "wait: time-out is true": ("wait", b"id", True),
    "wait: time-out is a fraction": ("wait", b"id", 1.5),
    "wait: time-out is text": ("wait", b"id", "1"),
    "wait: id is empty": ("wait", b"", None),
    "wait-all without a role": ("wait-all", b"id", None),
    "wait-all: role is bytes": ("wait-all", b"id", b"client", None),
    "wait-all: role is a number": ("wait-all", b"id", 1, None),
    "sync: id has a tab": ("sync", b"a\tb", None),
    "sync with a role": ("sync", b"id", None, None),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_are_refused_and_leave_nothing_behind(lab: Lab, name: str) -> None:
    status, values = lab.answer("client-1", *BAD_CALLS[name]) or (None, [])
    assert status == USAGE
    (sentence,) = values
    assert sentence.startswith("the dispatcher refused the request: ")
    assert len(sentence) < 200
    assert sentence.isprintable()
    assert len(lab.log.events) == 1 + len(MEMBERS)
    assert lab.open_waits() == []
    assert nothing_is_left(lab)
    assert lab.answer("client-1", "self") == (OK, ["client-1"])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*OPERATIONS, "other"]),
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers(-2, 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
            max_leaves=6,
        ),
        max_size=4,
    ),
)  # fmt: skip
def test_whatever_is_asked_is_answered_or_waited_for(operation: str, arguments: list[Any]) -> None:
    lab = Lab()
    asked = lab.ask("client-1", operation, *arguments)
    if asked.reply is None:
        (waiting,) = lab.events(Waiting)
        assert waiting.device == "client-1"
        assert asked.accepted == 1
    else:
        assert asked.reply[0] in (OK, NO, USAGE)
    lab.pass_time(30)
    assert lab.answer("client-2", "self") == (OK, ["client-2"])


@pytest.mark.parametrize("size", [1, 64, 65531])
def test_64_kib_pass_and_one_byte_more_does_not(lab: Lab, size: int) -> None:
    data = []
    for number in range(MAX_DATA // (size + 5)):
        data += [b"%05d" % number, b"v" * size]
    data[-1] += b"v" * (MAX_DATA - sum(map(len, data)))
    assert sum(map(len, data)) == MAX_DATA
    assert lab.answer("server-1", "send", b"big", data) == (OK, [])
    assert lab.answer("client-1", "wait", b"big", None) == (OK, [["server-1", *data]])
    data[-1] += b"v"
    status, (sentence,) = lab.answer("server-1", "send", b"bigger", data) or (None, [""])
    assert status == USAGE
    assert "65536" in sentence
    assert "65537" in sentence


def test_64_kib_in_the_shortest_pairs(lab: Lab) -> None:
    data = [b"k", b""] * MAX_DATA
    assert lab.answer("server-1", "send", b"big", data) == (OK, [])
    assert lab.answer("client-1", "wait", b"big", None) == (OK, [["server-1", b"k", b""]])


def test_more_data_than_a_reply_holds_is_said() -> None:
    members = {f"d{number}": "r" for number in range(MAX_REPLY // MAX_DATA + 2)}
    lab = Lab(members)
    for number, name in enumerate(list(members)[1:]):
        assert lab.answer(name, "send", b"big", [b"k%d" % number, b"v" * 65000]) == (OK, [])
    status, (sentence,) = lab.answer("d0", "wait", b"big", None) or (None, [""])
    assert status == NO
    assert "a reply holds 1048576" in sentence


# -- waits that end otherwise ------------------------------------------------------------------


def test_time_outs(lab: Lab) -> None:
    slow = lab.ask("client-1", "wait", b"never", 30_000)
    fast = lab.ask("client-2", "wait-all", b"never", None, 500)
    lab.pass_time(0.4)
    assert fast.reply is None
    lab.pass_time(0.2)
    assert fast.reply == (NO, ["timed out waiting for 'never' from server-1 and client-1"])
    lab.pass_time(28)
    assert slow.reply is None
    lab.pass_time(2)
    assert slow.reply == (NO, ["timed out waiting for 'never' from server-1 or client-2"])
    assert lab.open_waits() == []
    assert [event.time - EPOCH for event in lab.events(Released)] == [0.5, 30.0]
    assert lab.engine.next_timeout() is None


def test_a_time_out_of_nothing_asks_once(lab: Lab) -> None:
    asked = lab.ask("client-1", "wait", b"never", 0)
    lab.pass_time(0)
    assert (asked.reply or (None,))[0] == NO


def test_a_wait_that_has_ended_has_no_time_out(lab: Lab) -> None:
    asked = lab.ask("client-1", "wait", b"ready", 1000)
    lab.ask("server-1", "send", b"ready", [])
    lab.pass_time(5)
    assert asked.reply == (OK, [])
    assert lab.events(Released) == []


def test_a_huge_time_out_is_one(lab: Lab) -> None:
    lab.ask("client-1", "wait", b"never", 2**64 - 1)
    lab.pass_time(1000)
    assert lab.open_waits() == [b"never"]


def test_a_cancelled_wait_leaves_nothing_open(lab: Lab) -> None:
    asked = lab.ask("client-1", "wait", b"never", None)
    lab.cancel(asked)
    assert lab.open_waits() == []
    assert asked.reply is None
    (released,) = lab.events(Released)
    assert (released.status, released.reason) == (INTERRUPTED, "cancelled")
    assert nothing_is_left(lab)
    lab.cancel(asked)
    assert len(lab.events(Released)) == 1


def test_a_device_that_leaves_ends_what_waits_for_it(lab: Lab) -> None:
    asked = lab.ask("server-1", "wait-all", b"up", "client", None)
    lab.leave("client-2")
    assert asked.reply == (NO, ["client-2 ended without sending 'up'"])
    assert lab.notices == [
        ("server-1", "waited 0.0 s in `lava-wait-all up client`: client-2 ended without sending 'up'")
    ]
    assert isinstance(lab.log.events[-1], Left)


def test_a_device_that_leaves_takes_its_waits_with_it(lab: Lab) -> None:
    asked = lab.ask("client-1", "wait", b"x", None)
    lab.leave("client-1")
    assert asked.reply == (INTERRUPTED, ["the device has ended"])
    assert lab.open_waits() == []
    # That is no failure of the test, and nothing to tell.
    assert lab.hosts[0].results == []
    assert lab.notices == []


def test_a_message_that_is_sent_again_is_told_of_once_it_is_waited_for(lab: Lab) -> None:
    sentence = "sent 'progress' again: a repeated key replaces the earlier message, new keys add to it"
    for number in range(3):
        lab.ask("server-1", "send", b"progress", [b"percent", b"%d" % number])
    assert lab.notices == []
    assert lab.answer("client-1", "wait", b"progress", None) == (OK, [["server-1", b"percent", b"2"]])
    assert lab.notices == [("server-1", sentence)]
    for number in range(2):
        lab.ask("server-1", "send", b"progress", [b"percent", b"%d" % number])
    assert lab.notices == [("server-1", sentence)] * 3


@pytest.mark.parametrize("early", [False, True])
def test_messages_that_are_read_one_by_one_are_not_told_of(lab: Lab, early: bool) -> None:
    """`lava-wait --next` gets each of them."""
    if early:
        lab.ask("client-1", "wait-next", b"job", None, False)
    for _ in range(2):
        lab.ask("server-1", "send", b"job", [b"n", b"1"])
    lab.ask("client-1", "wait-next", b"job", None, False)
    lab.ask("server-1", "send", b"job", [b"n", b"2"])
    assert lab.notices == []


def test_a_loop_of_waits_is_told_of(lab: Lab) -> None:
    """Each ends at once: it has come, or nobody is left to send it."""
    lab.ask("server-1", "send", b"up", [])
    for _ in range(MANY_CALLS * 10):
        lab.ask("client-1", "wait", b"up", None)
    sentence = "has called `lava-wait up` %d times without a pause: in a loop that should end?"
    assert lab.notices == [("client-1", sentence % (MANY_CALLS * factor)) for factor in (1, 10)]


def test_polling_requests_and_barriers_are_no_such_loop(lab: Lab) -> None:
    for _ in range(MANY_CALLS + 1):
        lab.ask("client-1", "wait", b"stop", 1000, True)
        lab.pass_time(1)
        lab.ask("server-1", "send", b"job", [])
        lab.ask("client-2", "wait-next", b"job", None, False)
        for device in ("client-2", "server-1"):
            lab.ask(device, "sync", b"round", "server", None)
    assert lab.notices == []


def test_failed_waits_are_failed_results(lab: Lab) -> None:
    lab.ask("client-1", "wait", b"own", 500, True)  # the script itself gave it a time-out
    lab.ask("client-1", "wait-all", b"role", "nobody", None)
    lab.ask("client-2", "wait-all", b"gone", "server", None, position=77)
    lab.cancel(lab.ask("client-2", "wait", b"cancelled", None))
    lab.ask("client-2", "wait", b"time", None)
    lab.pass_time(1)
    lab.leave("server-1")
    lab.engine.end_waits("client-2", NO, "the run timed out", lab.now)
    lab.turn()
    found = [(case.device, case.id, case.result, case.position) for case, _ in lab.hosts[0].results]
    assert found == [
        ("client-1", "multinode-wait-all-role", "fail", 0),
        ("client-2", "multinode-wait-all-gone", "fail", 77),
        ("client-2", "multinode-wait-time", "fail", 0),
    ]
    assert [counts.failed for _, counts in lab.hosts[0].results] == [1, 2, 3]


# -- once only -------------------------------------------------------------------------------------

IDENTITY = b"12345678"


def test_one_identity_over_two_links_is_one_request(lab: Lab) -> None:
    """An agent is killed, and its commands send their requests again through another."""
    for _ in range(4):
        assert lab.answer("client-1", "send", b"once", [b"k", b"v"], identity=IDENTITY) == (OK, [])
    assert len(lab.events(Sent)) == 1
    syncs = [lab.ask("client-1", "sync", b"barrier", None, identity=b"sync-one") for _ in range(2)]
    assert len(lab.events(Waiting)) == 1
    lab.ask("client-2", "sync", b"barrier", None)
    lab.ask("server-1", "sync", b"barrier", None)
    # Both links are told.
    assert [sync.reply for sync in syncs] == [(OK, [])] * 2
    assert nothing_is_left(lab)


def test_a_request_that_is_repeated_while_its_event_is_on_the_way_is_appended_once(lab: Lab) -> None:
    lab.log.holding = True
    asked = [lab.ask("client-1", "send", b"once", [], identity=IDENTITY) for _ in range(3)]
    assert len(lab.log.queue) == 1
    assert [each.reply for each in asked] == [None] * 3
    lab.deliver()
    assert [each.reply for each in asked] == [(OK, [])] * 3
    assert nothing_is_left(lab)


def test_a_wait_goes_on_when_one_of_its_links_is_cancelled(lab: Lab) -> None:
    first, second = (lab.ask("client-1", "wait", b"x", None, identity=IDENTITY) for _ in range(2))
    lab.cancel(first)
    assert lab.open_waits() == [b"x"]
    lab.ask("server-1", "send", b"x", [])
    assert (second.reply or (None,))[0] == OK
    assert first.reply is None


def test_a_wait_whose_every_link_is_cancelled_ends(lab: Lab) -> None:
    for asked in [lab.ask("client-1", "wait", b"x", None, identity=IDENTITY) for _ in range(2)]:
        lab.cancel(asked)
    assert lab.open_waits() == []
    assert nothing_is_left(lab)


def test_devices_cannot_use_each_others_identities(lab: Lab) -> None:
    wait = lab.ask("client-1", "wait", b"x", None, identity=IDENTITY)
    # The same identity from another device is another request ...
    assert lab.answer("client-2", "send", b"y", [b"k", b"v"], identity=IDENTITY) == (OK, [])
    assert lab.open_waits() == [b"x"]
    assert len(lab.events(Sent)) == 1
    # ... and cancelling that one leaves the first alone.
    lab.cancel(lab.ask("client-2", "wait", b"z", None, identity=b"z" * 8))
    assert lab.open_waits() == [b"x"]
    lab.ask("server-1", "send", b"x", [])
    assert (wait.reply or (None,))[0] == OK
    identities = [event.identity for event in lab.log.events]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("names", [("a", "aa"), ("x", "8x"), ("d", "d" * 9)])
def test_no_name_and_identity_make_that_of_another(names: tuple[str, str]) -> None:
    lab = Lab(dict.fromkeys(names, "r"))
    for name in names:
        for identity in (b"8" * 8, b"a" * 8, b"d" * 8, b"x" * 8):
            assert lab.answer(name, "send", b"id", [], identity=identity) == (OK, [])
    assert len({event.identity for event in lab.events(Sent)}) == 8


def test_all_events_have_their_own_identities() -> None:
    lab = Lab()
    lab.add_host({"other-1": "observer"})
    for device in (*MEMBERS, "other-1"):
        lab.report(device, "event", "x")
        lab.report(device, "event", "x")
        lab.cancel(lab.ask(device, "wait", b"x", None))
    for device in (*MEMBERS, "other-1"):
        lab.leave(device)
    identities = [event.identity for event in lab.log.events]
    assert len(set(identities)) == len(identities) == 1 + 4 * 6


# -- the log takes its time, or fails --------------------------------------------------------------


def test_nothing_is_answered_before_it_is_in_the_log(lab: Lab) -> None:
    lab.log.holding = True
    send = lab.ask("server-1", "send", b"x", [])
    wait = lab.ask("client-1", "wait", b"x", None)
    report = lab.ask("client-1", "event", b"x")
    assert [asked.reply for asked in (send, wait, report)] == [None] * 3
    assert wait.accepted == 0
    # What changes nothing is answered at once.
    assert lab.answer("client-1", "self") == (OK, ["client-1"])
    lab.deliver(1)
    assert (send.reply, wait.reply, report.reply) == ((OK, []), None, None)
    lab.deliver()
    assert wait.reply == report.reply == (OK, [])


def test_a_request_whose_append_fails_ends_with_75_and_can_be_made_again(lab: Lab) -> None:
    lab.log.failure = FULL
    for operation in (("send", b"x", []), ("wait", b"x", None), ("event", b"x")):
        for _ in range(2):
            assert lab.answer("client-1", *operation, identity=operation[0].encode()) == (
                LINK_FAILED,
                [NOT_WRITTEN],
            )
    # The operator is told once.
    assert lab.notices == [(None, f"the group log can't be written: {FULL}; trying again")]
    assert lab.answer("client-1", "self") == (OK, ["client-1"])
    assert lab.engine.next_timeout() is None
    assert nothing_is_left(lab)
    lab.log.failure = ""
    assert lab.answer("client-1", "send", b"x", [], identity=b"send") == (OK, [])
    assert lab.answer("client-2", "wait", b"x", None) == (OK, [])
    lab.log.failure = FULL
    lab.ask("client-1", "send", b"x", [])
    assert len(lab.notices) == 2


def test_what_no_command_waits_for_is_appended_again_until_it_is_there(lab: Lab) -> None:
    waiting = [
        lab.ask(name, "wait", b"never", timeout) for name, timeout in (("client-1", 500), ("client-2", None))
    ]
    lab.log.failure = FULL
    lab.pass_time(0.5)  # one wait is over
    lab.cancel(waiting[1])
    lab.report("server-1", "event", "one")
    lab.report("server-1", "event", "two")
    assert waiting[0].reply is None
    assert lab.engine.next_timeout() == lab.now + RETRY_PAUSE
    lab.pass_time(10 * RETRY_PAUSE)
    assert len(lab.notices) == 1
    lab.log.failure = ""
    lab.pass_time(RETRY_PAUSE)
    assert waiting[0].reply == (NO, ["timed out waiting for 'never' from server-1 or client-2"])
    assert [event.fields for event in lab.events(Reported)] == [("one",), ("two",)]
    assert [event.time - EPOCH for event in lab.events(Released)] == [0.5, 0.5]
    assert lab.engine.next_timeout() is None
    assert nothing_is_left(lab)


def test_what_is_kept_for_later_is_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appends, "MAX_UNAPPENDED", 3)
    lab.log.failure = FULL
    for number in range(10):
        lab.report("server-1", "event", str(number))
    assert [sentence for _, sentence in lab.notices][1:] == [
        "3 events wait for the group log; further ones are lost"
    ]
    lab.log.failure = ""
    lab.pass_time(2 * RETRY_PAUSE)
    assert [event.fields for event in lab.events(Reported)] == [("0",), ("1",), ("2",)]


def test_a_wait_that_is_cancelled_before_it_is_in_the_log(lab: Lab) -> None:
    lab.log.holding = True
    lab.cancel(lab.ask("client-1", "wait", b"x", None))
    assert len(lab.log.queue) == 1
    lab.deliver()
    assert lab.open_waits() == []
    assert [event.reason for event in lab.events(Released)] == ["cancelled"]
    assert nothing_is_left(lab)


def test_a_wait_that_is_cancelled_and_asked_for_again_goes_on(lab: Lab) -> None:
    lab.log.holding = True
    lab.cancel(lab.ask("client-1", "wait", b"x", None, identity=IDENTITY))
    again = lab.ask("client-1", "wait", b"x", None, identity=IDENTITY)
    lab.deliver()
    assert lab.open_waits() == [b"x"]
    assert again.accepted == 1


@pytest.mark.parametrize("operation", [("send", b"x", []), ("wait", b"x", None)])
def test_what_is_cancelled_and_then_fails_is_forgotten(lab: Lab, operation: tuple[Any, ...]) -> None:
    lab.log.holding = True
    lab.cancel(lab.ask("client-1", *operation))
    lab.log.failure = FULL
    lab.deliver()
    assert nothing_is_left(lab)
    assert lab.engine.next_timeout() is None


def test_nothing_of_a_device_overtakes_that_it_has_joined(lab: Lab) -> None:
    lab.log.holding = True
    lab.join(lab.hosts[0], "late-1", "observer")
    early = [lab.ask("late-1", "send", b"x", []), lab.ask("late-1", "self"), lab.ask("late-1", "role")]
    assert [asked.reply for asked in early] == [None] * 3
    lab.deliver()
    assert [asked.reply for asked in early] == [(OK, []), (OK, ["late-1"]), (OK, ["observer"])]
    assert [type(event) for event in lab.log.events[-2:]] == [Joined, Sent]


def test_a_device_whose_joining_fails_is_told_and_joins_later(lab: Lab) -> None:
    lab.log.holding = True
    lab.join(lab.hosts[0], "late-1", "observer")
    early = lab.ask("late-1", "self")
    lab.log.failure = FULL
    lab.deliver()
    assert early.reply == (LINK_FAILED, [NOT_WRITTEN])
    lab.log.failure, lab.log.holding = "", False
    waiting = lab.ask("late-1", "self")
    lab.pass_time(RETRY_PAUSE)
    assert waiting.reply == (OK, ["late-1"])
    assert nothing_is_left(lab)


def test_what_is_told_of_a_device_stands_behind_that_it_has_joined(lab: Lab) -> None:
    """Also if the log does not take that, but what comes next: nobody could make sense of it."""
    lab.log.holding = True
    lab.join(lab.hosts[0], "late-1", "observer")
    lab.report("late-1", "event", "one")
    lab.engine.lose("late-1", "the connection is gone", lab.now)
    lab.turn()
    lab.log.failure = FULL
    lab.log.deliver(lab.hosts, 1)
    lab.log.failure, lab.log.holding = "", False
    lab.pass_time(RETRY_PAUSE)
    assert [type(event) for event in lab.log.events[-3:]] == [Joined, Reported, Lost]
    assert [sentence for _, sentence in lab.notices if "ignored" in sentence] == []
    assert nothing_is_left(lab)


@pytest.mark.parametrize("then", ["leave", "report"])
def test_a_declared_device_that_is_lost_at_once_has_joined_before_all_else(then: str) -> None:
    """Its role is known before it has joined; the log takes neither that, nor that it is lost, at first."""
    lab = Lab({}, log=[Founded(EPOCH, b"founded", (("a", "r"), ("b", "r")))])
    (host,) = lab.hosts
    lab.join(host, "a", "r")
    lab.log.holding = True
    lab.join(host, "b", "r")
    lab.engine.lose("b", "the connection is gone", lab.now)
    lab.turn()
    lab.log.failure, lab.log.holding = FULL, False
    lab.deliver()
    lab.log.failure = ""
    lab.pass_time(2 * RETRY_PAUSE)
    assert lab.engine.state.coordinator.complete
    if then == "leave":
        lab.leave("b")
    else:
        lab.report("b", "event", "one")
    assert [type(event) for event in lab.log.events[2:]] == [
        Joined,
        Lost,
        Left if then == "leave" else Reported,
    ]
    assert nothing_is_left(lab)


@pytest.mark.parametrize("asks", [False, True])
def test_a_device_that_comes_again_joins_behind_that_it_has_left(lab: Lab, asks: bool) -> None:
    """Also where the log does not take that at first: the waits that it has now would end by it."""
    (host,) = lab.hosts
    assert lab.ask("client-1", "wait", b"before", None, False).accepted
    lab.log.holding = True
    lab.leave("client-1")
    lab.join(host, "client-1", "client")
    asked = lab.ask("client-1", "wait", b"x", None, False) if asks else None
    lab.log.failure = FULL
    lab.deliver(1)
    if asked is not None:
        assert asked.reply == (LINK_FAILED, [NOT_WRITTEN])
    lab.log.failure, lab.log.holding = "", False
    again = lab.ask("client-1", "wait", b"x", None, False)
    lab.pass_time(RETRY_PAUSE)
    assert [type(event) for event in lab.log.events[-3:]] == [Left, Joined, Waiting]
    assert again.accepted and again.reply is None
    assert lab.open_waits() == [b"x"]
    assert lab.engine.state.coordinator.here("client-1")


OF_DEVICES: list[Event] = [
    Sent(0.0, "d", b"sent", b"x", ()),
    *(
        Waiting(0.0, "d", kind.value.encode(), kind, b"x", whom, None, confirms=confirms)
        for kind in WaitKind
        for whom in (None, "nosuch", ("nosuch",), 5)
        for confirms in (False, True)
    ),
    Taken(0.0, "d", b"taken", b"of a"),
    Unlocked(0.0, "d", b"unlocked", b"lock"),
    Unlocked(0.0, "d", b"unlocked", b"lock", b"of a"),
    Lost(0.0, "d", b"lost", "it boots", boots=True),
    Left(0.0, "d", b"left", "ended"),
    Reported(0.0, "d", b"reported", "result", ("t", "fail", None, None), 0),
    Resting(0.0, b"resting", (b"of d", b"of a"), ""),
    Released(0.0, b"released", b"of d", 1, "timed out"),
]


@pytest.mark.parametrize("at_work", [False, True])
@pytest.mark.parametrize("members", [None, (("a", "r"), ("d", "r"))])
def test_what_another_host_says_of_a_device_that_has_not_joined_does_no_harm(
    members: tuple[tuple[str, str], ...] | None, at_work: bool
) -> None:
    for event in OF_DEVICES:
        log: list[Event] = [
            Founded(EPOCH, b"founded", members),
            Joined(0.0, "a", b"joined", "r"),
            Waiting(0.0, "a", b"of a", WaitKind.LOCK, b"lock", None, None, confirms=True),
        ]
        lab = Lab({"a": "r"} if at_work else {}, log=log)
        before = lab.engine.state.changes
        of_device = not isinstance(event, Released | Resting)
        for _ in range(2):  # the second one may find what the first one has left
            lab.engine.receive_event(event, lab.now)
        # A wait that began all the same would fail now.
        lab.engine.receive_event(Released(0.0, b"end", event.identity, 1, "timed out"), lab.now)
        lab.turn()
        told = [sentence for _, sentence in lab.notices]
        refused = "ignored an invalid event of the group log: 'd' never joined the group"
        assert told == [refused, refused] * of_device
        assert lab.engine.state.changes == before + 1 + (not of_device)
        assert lab.engine.state.coordinator.holder(b"lock") == "a"


def test_that_a_device_is_lost_or_there_is_not_appended_again_once_it_is_over(lab: Lab) -> None:
    def lose() -> None:
        lab.engine.lose("client-1", "it boots", lab.now, boots=True)

    def regain() -> None:
        lab.engine.regain("client-1", lab.now)

    for first, second, left in ((lose, regain, Joined), (regain, lose, Lost)):
        lab.log.holding = True
        first()
        second()
        lab.turn()
        lab.log.failure = FULL
        lab.log.deliver(lab.hosts, 1)
        lab.log.failure, lab.log.holding = "", False
        lab.pass_time(2 * RETRY_PAUSE)
        assert [type(event) for event in lab.log.events[-1:]] == [left]
        lose()
        lab.turn()
    assert len(lab.events(Joined)) == len(MEMBERS) + 1


def test_what_a_device_asked_before_it_joined_goes_with_it(lab: Lab) -> None:
    lab.log.holding = True
    lab.join(lab.hosts[0], "late-1", "observer")
    lab.ask("late-1", "send", b"x", [])
    lab.leave("late-1")
    lab.deliver()
    assert lab.events(Sent) == []
    assert nothing_is_left(lab)


@example(
    [("server-1", what, b"x") for what in ("event", "cancel", "fail", "deliver", "again")]
)  # asked for again while it waits to be appended again
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(MEMBERS)),
            st.sampled_from(["send", "wait", "sync", "event", "cancel", "deliver", "fail", "work", "again"]),
            st.sampled_from([b"x", b"y"]),
        ),
        max_size=40,
    )
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_log_does_each_request_has_one_answer_and_one_effect(
    steps: list[tuple[str, str, bytes]],
) -> None:
    lab = Lab()
    lab.log.holding = True
    asked: list[tuple[Asked, tuple[Any, ...]]] = []
    cancelled = []
    for device, what, name in steps:
        if what == "cancel" and asked:
            cancelled.append(asked[len(steps) % len(asked)][0])
            lab.cancel(cancelled[-1])
        elif what == "deliver":
            lab.deliver(1)
        elif what in ("fail", "work"):
            lab.log.failure = FULL if what == "fail" else ""
        elif what == "again" and asked:
            earlier, operation = asked[0]
            asked.append((lab.ask(earlier.device, *operation, identity=earlier.identity), operation))
        elif what in ("send", "wait", "sync", "event"):
            arguments = {"send": (name, []), "event": (name,)}.get(what, (name, 60_000))
            asked.append((lab.ask(device, what, *arguments), (what, *arguments)))
    lab.log.failure = ""
    lab.deliver()
    lab.pass_time(100)
    lab.deliver()
    lab.pass_time(100)
    identities = [event.identity for event in lab.log.events]
    assert len(set(identities)) == len(identities)
    for each, _ in asked:
        in_log = each.identity + each.device.encode() in identities
        if each not in cancelled:
            assert each.reply is not None
            assert each.reply[0] in (OK, NO, LINK_FAILED, INTERRUPTED)
            assert in_log or each.reply[0] == LINK_FAILED
        else:
            assert len(each.replies) <= 1
    assert lab.open_waits() == []
    assert nothing_is_left(lab)


# -- other hosts -----------------------------------------------------------------------------------


@pytest.fixture
def two_hosts() -> Lab:
    lab = Lab({"a": "client"})
    lab.add_host({"b": "server"})
    return lab


def test_devices_of_two_hosts_are_one_group(two_hosts: Lab) -> None:
    lab = two_hosts
    for device in "ab":
        assert lab.answer(device, "group") == (OK, [["a", "client"], ["b", "server"]])
    wait = lab.ask("a", "wait", b"x", None)
    assert lab.answer("b", "send", b"x", [b"k", b"v"]) == (OK, [])
    assert wait.reply == (OK, [["b", b"k", b"v"]])
    syncs = [lab.ask(device, "sync", b"end", None) for device in "ab"]
    assert [sync.reply for sync in syncs] == [(OK, [])] * 2
    assert all(nothing_is_left(lab) for _ in lab.hosts)


def test_only_the_host_of_a_device_keeps_the_time_of_its_waits(two_hosts: Lab) -> None:
    lab = two_hosts
    wait = lab.ask("a", "wait", b"x", 1000)
    first, second = (host.engine for host in lab.hosts)
    assert first.next_timeout() == 1.0
    assert second.next_timeout() is None
    lab.now = 5.0
    second.handle_timeout(lab.now)
    lab.turn()
    assert wait.reply is None
    first.handle_timeout(lab.now)
    lab.turn()
    assert (wait.reply or (None,))[0] == NO
    assert len(lab.events(Released)) == 1


def test_a_device_that_moves_to_another_host_stays_in_the_group(two_hosts: Lab) -> None:
    """The old host's last word of it comes after the new one's first."""
    lab = two_hosts
    lab.join(lab.hosts[1], "a", "client")
    lab.hosts[0].engine.leave("a", "was unplugged", lab.now)
    lab.turn()
    assert lab.engine.state.coordinator.gone == frozenset()
    wait = lab.ask("b", "wait", b"x", None)
    lab.ask("a", "send", b"x", [])
    assert wait.reply == (OK, [])


def test_sent_again_is_told_by_the_host_of_the_device(two_hosts: Lab) -> None:
    lab = two_hosts
    for _ in range(2):
        lab.ask("b", "send", b"x", [])
    lab.ask("a", "wait", b"x", None)
    assert lab.hosts[0].notices == []
    assert len(lab.hosts[1].notices) == 1


def test_an_event_that_comes_twice_changes_nothing(lab: Lab) -> None:
    wait = lab.ask("client-1", "wait", b"x", 5000)
    lab.ask("server-1", "send", b"x", [])
    lab.ask("server-1", "result", b"t", "fail", None, None)
    before = lab.engine.state.changes
    for event in list(lab.log.events):
        lab.engine.receive_event(event, lab.now)
    lab.turn()
    assert lab.engine.state.changes == before
    assert wait.reply == (OK, [])
    assert len(lab.hosts[0].results) == 1
    assert lab.notices == []


def test_an_event_that_makes_no_sense_is_passed_over(lab: Lab) -> None:
    for event in (Sent(0.0, "stranger", b"s", b"x", ()), Founded(0.0, b"again")):
        lab.engine.receive_event(event, lab.now)
    lab.turn()
    begin = "ignored an invalid event of the group log: "
    assert [sentence for _, sentence in lab.notices] == [
        begin + "'stranger' never joined the group",
        begin + "the group is founded twice",
    ]
    assert lab.answer("client-1", "self") == (OK, ["client-1"])


# -- groups that are not complete ------------------------------------------------------------------


def test_who_asks_for_the_group_waits_until_all_are_there() -> None:
    lab = Lab({"a": "x"}, log=[Founded(EPOCH, b"f", None, 3)])
    groups = [lab.ask("a", "group"), lab.ask("a", "group")]
    assert lab.answer("a", "self") == (OK, ["a"])
    lab.cancel(groups[1])
    lab.add_host({"b": "y"})
    assert groups[0].reply is None
    lab.join(lab.hosts[0], "c", "x")
    assert groups[0].reply == (OK, [["a", "x"], ["b", "y"], ["c", "x"]])
    assert groups[1].reply is None
    assert nothing_is_left(lab)


@pytest.mark.parametrize(
    "declared",
    [Founded(EPOCH, b"f", None, 2), Founded(EPOCH, b"f", (("a", "x"), ("b", "y")))],
    ids=["size", "members"],
)
def test_a_group_ends_when_all_that_were_declared_have_come_and_left(declared: Founded) -> None:
    lab = Lab({"a": "x"}, log=[declared])
    lab.leave("a")
    lab.join(lab.hosts[0], "a", "x")
    lab.add_host({"b": "y"})
    lab.leave("a")
    assert not lab.events(Ended)
    lab.leave("b")
    assert [event.identity for event in lab.events(Ended)] == [b"endedf"]
    assert lab.engine.state.coordinator.ended
    lab.join(lab.hosts[0], "a", "x")
    assert "joins a group that has ended" in lab.notices[-1][1]


def test_a_group_of_which_nothing_was_declared_does_not_end(lab: Lab) -> None:
    for device in MEMBERS:
        lab.leave(device)
    assert not lab.events(Ended)


def test_a_wait_that_comes_into_the_log_after_it_was_given_up_is_released(lab: Lab) -> None:
    lab.log.holding = True
    wait = lab.ask("client-1", "wait", b"x", None)
    ((_, event),) = lab.log.queue
    lab.engine.append_failed(event.identity, "no answer", lab.now, may_come=True)
    lab.turn()
    assert wait.reply == (LINK_FAILED, ["the dispatcher could not write it to the group log: no answer"])
    lab.deliver()
    assert lab.open_waits() == []
    assert len(lab.events(Released)) == 1
    assert nothing_is_left(lab)


def test_only_declared_members_join() -> None:
    lab = Lab({"a": "x"}, log=[Founded(EPOCH, b"f", (("a", "x"), ("b", "y")))])
    with pytest.raises(ValueError, match="c is not one of the declared members of the group"):
        lab.engine.join("c", "x", lab.now)
    with pytest.raises(ValueError, match="b has the role 'y' in this group, not 'x'"):
        lab.engine.join("b", "x", lab.now)
    lab.join(lab.hosts[0], "b", "y")
    assert lab.answer("a", "group") == (OK, [["a", "x"], ["b", "y"]])


# -- what is lent ------------------------------------------------------------------------------


def test_a_message_is_lent_until_its_command_has_it(lab: Lab) -> None:
    lab.ask("server-1", "send", b"job", [b"n", b"1"])
    first = lab.ask("client-1", "wait-next", b"job", None, False)
    assert first.reply == (OK, [["server-1", b"n", b"1"]])
    second = lab.ask("client-1", "wait-next", b"job", None, False)
    # The agent was killed, say: the command asks again, and has still what it was given.
    again = lab.ask("client-1", "wait-next", b"job", None, False, identity=first.identity)
    assert again.reply == first.reply
    lab.cancel(first)
    assert second.reply is None
    taken = lab.ask("client-1", "taken", first.identity)
    assert taken.reply == (OK, [])
    assert lab.answer("client-1", "taken", first.identity, identity=taken.identity) == (OK, [])
    assert second.reply is None
    lab.ask("server-1", "send", b"job", [b"n", b"2"])
    assert second.reply == (OK, [["server-1", b"n", b"2"]])
    # It is killed, and its agent says so.
    lab.cancel(second, "cancelled")
    third = lab.ask("client-1", "wait-next", b"job", None, False)
    assert third.reply == second.reply
    status, (sentence,) = lab.answer("client-1", "taken", second.identity) or (None, [""])
    assert (status, "taken back" in sentence) == (NO, True)
    assert lab.answer("client-1", "taken", third.identity) == (OK, [])
    assert nothing_is_left(lab)


def test_what_nobody_takes_goes_back_after_a_while(lab: Lab) -> None:
    lab.ask("server-1", "send", b"job", [])
    lab.ask("client-1", "wait-next", b"job", None, False)
    lab.ask("client-1", "lock", b"power", False, None, False)
    lab.pass_time(ABANDONED - 1)
    assert len(lab.engine.state.coordinator.lent()) == 2
    lab.pass_time(1)
    assert lab.engine.state.coordinator.lent() == []
    lab.ask("client-1", "wait-next", b"job", None, False)
    lab.ask("client-1", "lock", b"power", False, None, False)
    waits = [
        lab.ask("client-1", "wait-next", b"job", None, False),
        lab.ask("client-2", "lock", b"power", True, None, False),
    ]
    # Somebody else wants it, so it goes back sooner.
    lab.pass_time(IMPATIENT - 1)
    assert [wait.reply for wait in waits] == [None, None]
    lab.pass_time(1)
    assert [wait.reply for wait in waits] == [(OK, [["server-1"]]), (OK, [])]
    assert all(lab.answer(wait.device, "taken", wait.identity) == (OK, []) for wait in waits)
    lab.pass_time(2 * ABANDONED)
    assert lab.engine.state.coordinator.holder(b"power") == "client-2"
    assert lab.engine.next_timeout() is None
    assert nothing_is_left(lab)


def test_what_a_command_got_that_was_not_there_any_more_goes_to_the_next_one(lab: Lab) -> None:
    """It was killed, with its agent, while the dispatcher was away."""
    lab.ask("client-1", "wait-next", b"job", None, False, identity=b"waiting!")
    lab.ask("client-2", "wait-next", b"job", None, False, identity=b"borrower")
    second = again(lab.log.events, MEMBERS)
    asks = second.ask("client-2", "wait-next", b"job", None, False, identity=b"borrower")
    next_one = second.ask("client-1", "wait-next", b"job", None, False, identity=b"next one")
    second.ask("server-1", "send", b"job", [b"n", b"1"])
    assert asks.reply == (OK, [["server-1", b"n", b"1"]])
    assert next_one.reply is None
    third = again(second.log.events, MEMBERS)
    next_one = third.ask("client-1", "wait-next", b"job", None, False, identity=b"next one")
    third.pass_time(IMPATIENT)
    assert next_one.reply == asks.reply


def test_a_wait_that_nobody_asks_for_any_more_ends(lab: Lab) -> None:
    for name in (b"waiting!", b"asks too"):
        lab.ask("client-1", "wait", b"x", None, identity=name)
    second = again(lab.log.events, MEMBERS)
    asks = second.ask("client-1", "wait", b"x", None, identity=b"asks too")
    second.pass_time(ABANDONED)
    assert [event.request for event in second.events(Released)] == [b"waiting!client-1"]
    assert asks.reply is None


def test_a_loan_that_ends_with_its_device_or_by_unlock_is_forgotten(lab: Lab) -> None:
    lab.ask("client-1", "lock", b"one", False, None, False)
    lab.ask("client-2", "lock", b"other", False, None, False)
    lab.ask("client-2", "unlock", b"other")
    lab.leave("client-1")
    assert lab.engine.state.coordinator.lent() == []
    assert not lab.engine._borrowed and not lab.engine._borrowers.of_request


def test_a_reboot_ends_what_a_device_waits_for_and_what_runs_there(lab: Lab) -> None:
    for name, for_command in ((b"kept", False), (b"of-command", True)):
        lock = lab.ask("client-1", "lock", name, for_command, None, False)
        lab.ask("client-1", "taken", lock.identity)
    lab.ask("server-1", "send", b"job", [b"n", b"1"])
    lent = lab.ask("client-1", "wait-next", b"job", None, False)
    wait = lab.ask("client-1", "wait", b"x", None)
    lab.log.holding = True
    on_its_way = lab.ask("client-1", "wait", b"y", None)
    lab.engine.reboot("client-1", "the device rebooted", lab.now)
    lab.log.holding = False
    lab.deliver()
    assert wait.reply == on_its_way.reply == (INTERRUPTED, ["the device rebooted"])
    assert lab.open_waits() == []
    assert lab.engine.state.coordinator.locks_of("client-1") == [b"kept"]
    assert lab.answer("client-1", "wait-next", b"job", None, False) == lent.reply
    for device in ("server-1", "client-2"):
        lab.leave(device)
    assert lab.hosts[0].results == []


# -- devices that can't be spoken to -----------------------------------------------------------


def state_of(lab: Lab, device: str) -> list[str]:
    """What `lava-group --state` says of the device: its state, and what there is to add."""
    status, rows = lab.answer("server-1", "state") or (None, [])
    assert status == OK
    ((_, _, *found),) = [row for row in rows if row[0] == device]
    return found


def test_a_device_without_connection_is_lost(lab: Lab) -> None:
    wait = lab.ask("client-1", "wait", b"x", None)
    assert state_of(lab, "client-1")[0] == "waiting"
    lab.engine.lose("client-1", "connection lost (no carrier)", lab.now)
    lab.turn()
    assert state_of(lab, "client-1") == ["lost", "connection lost (no carrier)"]
    assert state_of(again(lab.log.events, {"server-1": "server"}), "client-1") == [
        "lost",
        "connection lost (no carrier)",
    ]
    lab.engine.regain("client-1", lab.now)
    lab.engine.regain("client-2", lab.now)
    lab.turn()
    assert state_of(lab, "client-1")[0] == "waiting"
    lab.engine.lose("client-1", "connection lost", lab.now)
    lab.turn()
    # Whatever comes of it shows that it is there, also what stands nowhere in the log.
    assert lab.answer("client-1", "self") == (OK, ["client-1"])
    assert state_of(lab, "client-1")[0] == "waiting"
    for device in ("server-1", "client-2"):
        lab.leave(device)
    assert wait.reply is not None
    assert wait.reply[0] == NO
    assert [case.id for case, _ in lab.hosts[0].results] == ["multinode-wait-x"]


def test_a_wait_of_a_device_that_seems_to_boot_is_none_that_failed(lab: Lab) -> None:
    wait = lab.ask("client-1", "wait", b"x", None)
    lab.engine.lose("client-1", "its console shows that it boots", lab.now, boots=True)
    lab.turn()
    assert state_of(lab, "client-1") == ["lost", "its console shows that it boots"]
    for device in ("server-1", "client-2"):
        lab.leave(device)
    assert wait.reply == (INTERRUPTED, ["its console shows that it boots"])
    assert lab.hosts[0].results == []
    # Its next boot is a new matter.
    assert (lab.answer("client-1", "wait", b"x", None) or (None,))[0] == NO
    assert [case.id for case, _ in lab.hosts[0].results] == ["multinode-wait-x"]


# -- a log that goes on ----------------------------------------------------------------------------


def again(log: list[Event], members: dict[str, str] | None = None) -> Lab:
    """The same group, by a dispatcher that is started again."""
    return Lab(members, log=list(log), seed=2)


def test_a_new_engine_goes_on_from_the_log(lab: Lab) -> None:
    lab.ask("server-1", "send", b"early", [b"k", b"v"], identity=IDENTITY)
    lab.ask("client-1", "wait", b"late", 60_000, identity=b"waiting!")
    second = again(lab.log.events)
    assert second.engine.state.number == lab.engine.state.number
    assert second.hosts[0].results == []
    assert second.open_waits() == [b"late"]
    assert second.answer("client-1", "wait", b"early", None) == (OK, [["server-1", b"k", b"v"]])
    # The sender did not get its answer; it asks again.
    assert second.answer("server-1", "send", b"early", [b"k", b"v"], identity=IDENTITY) == (OK, [])
    assert len(second.events(Sent)) == 1
    # So does the one that waits.
    wait = second.ask("client-1", "wait", b"late", 60_000, identity=b"waiting!")
    assert len(second.events(Waiting)) == 2
    assert wait.accepted == 1
    second.ask("client-2", "send", b"late", [b"k", b"v"])
    assert wait.reply == (OK, [["client-2", b"k", b"v"]])


@pytest.mark.parametrize("before", [0.0, 3600.0], ids=["as it was", "set back"])
def test_time_outs_are_kept_over_a_restart_whatever_the_clock(lab: Lab, before: float) -> None:
    lab.now = before
    lab.ask("client-1", "wait", b"x", 10_000)
    second = again(lab.log.events)
    second.pass_time(9.9)
    assert second.open_waits() == [b"x"]
    second.pass_time(0.2)
    assert second.open_waits() == []


def test_waits_that_expired_meanwhile_end_at_once(lab: Lab) -> None:
    lab.ask("client-1", "wait", b"x", 10_000)
    second = again(lab.log.events, {})
    second.now = 20.0
    # Nobody keeps the time of a device that is not here.
    assert second.engine.next_timeout() is None
    second.join(second.hosts[0], "client-1", "client")
    due = second.engine.next_timeout()
    assert due is not None
    assert due <= second.now
    second.pass_time(0)
    assert second.open_waits() == []
    assert second.events(Released)[0].status == NO


def test_a_device_of_the_log_that_is_not_there_now_is_one_of_the_group(lab: Lab) -> None:
    lab.ask("client-2", "wait", b"x", 1000)
    lab.ask("client-2", "wait", b"y", None)
    second = again(lab.log.events, {"client-1": "client"})
    second.pass_time(10)
    assert second.open_waits() == [b"x", b"y"]
    assert second.answer("client-1", "group") == (OK, [[name, role] for name, role in MEMBERS.items()])
    dead_end = second.engine.find_dead_end(MEMBERS, second.now)
    assert dead_end is None
    second.engine.end_waits("client-2", NO, "the run timed out", second.now)
    second.turn()
    assert second.open_waits() == []


def test_a_device_keeps_its_role(lab: Lab) -> None:
    second = again(lab.log.events, {})
    with pytest.raises(ValueError, match="client-1 has the role 'client' in this group, not 'server'"):
        second.engine.join("client-1", "server", 0.0)
    second.join(second.hosts[0], "client-1", "client")


def test_joining_twice(lab: Lab) -> None:
    with pytest.raises(ValueError, match="client-1 is in the group already"):
        lab.engine.join("client-1", "client", 0.0)
    assert len(lab.events(Joined)) == len(MEMBERS)


# -- what is kept is bounded -----------------------------------------------------------------------


def test_what_one_device_puts_into_the_log_is_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_BYTES", 200_000)
    value = bytes(100).replace(b"\0", b"v")

    def statuses(lab: Lab) -> list[int | None]:
        return [
            (lab.answer("client-1", "send", b"id%d" % n, [b"k", value]) or (None,))[0] for n in range(300)
        ]

    found = statuses(lab)
    accepted = found.count(OK)
    assert 50 < accepted < 200
    assert found == [OK] * accepted + [USAGE] * (300 - accepted)
    # Many pairs are as dear as much data.
    pairs = [item for n in range(800) for item in (b"%d" % n, b"")]
    assert (lab.answer("client-2", "send", b"a", pairs) or (None,))[0] == OK
    assert (lab.answer("client-2", "send", b"b", pairs) or (None,))[0] == USAGE
    # Others go on, and so does what needs no room, or is there already.
    assert lab.answer("server-1", "send", b"x", []) == (OK, [])
    assert lab.answer("client-1", "self") == (OK, ["client-1"])
    # A dispatcher that is started again knows it.
    assert statuses(again(lab.log.events)) == [USAGE] * 300


def test_text_signals_of_a_device_whose_share_is_used_up_are_passed_over(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.ask("client-1", "event", b"x", identity=IDENTITY)
    monkeypatch.setattr(engine_module, "MAX_BYTES", 5000)
    for _ in range(10):
        lab.report("client-1", "event", "x")
    assert 1 < len(lab.events(Reported)) < 6
    assert lab.notices == [
        (
            "client-1",
            "this device has sent more than a group's log may hold of one device; its text signals are ignored",
        )
    ]
    assert (lab.answer("client-1", "event", b"y") or (None,))[0] == USAGE
    assert lab.answer("client-1", "event", b"x", identity=IDENTITY) == (OK, [])
    assert lab.answer("client-2", "event", b"x") == (OK, [])


# -- reports ---------------------------------------------------------------------------------------


def test_text_signals_are_recorded(lab: Lab) -> None:
    lab.pass_time(2)
    lab.report("client-1", "result", "raw", "pass", None, None, position=5)
    lab.report("client-1", "result", "raw", "pass", None, None, position=9)
    first, _ = lab.events(Reported)
    assert (first.device, first.time, first.position) == ("client-1", EPOCH + 2, 5)
    assert len(lab.engine.state.results.cases) == 2
    with pytest.raises(ValueError, match="a result is one of"):
        lab.report("client-1", "result", "raw", "passed", None, None)


def test_malformed_signals_are_counted_and_the_first_ones_shown(lab: Lab) -> None:
    number = MAX_MALFORMED_SHOWN + 3
    for _ in range(number):
        lab.report("client-1", "malformed", "<LAVA_SIGNAL_STARTTC \udcff\r", "there is a line break in it")
    assert lab.engine.state.results.malformed("client-1")[0] == number
    *shown, last = lab.notices
    sentence = "malformed signal '<LAVA_SIGNAL_STARTTC \\xff\r': there is a line break in it"
    assert shown == [("client-1", sentence)] * MAX_MALFORMED_SHOWN
    assert last == ("client-1", "more malformed signals are counted, not shown")


def test_new_results(lab: Lab) -> None:
    lab.ask("client-1", "result", b"one", "pass", None, None)
    lab.report("client-2", "result", "two", "fail", None, None)
    lab.ask("client-1", "event", b"x")
    assert [(case.device, case.id, str(counts)) for case, counts in lab.hosts[0].results] == [
        ("client-1", "one", "1 passed"),
        ("client-2", "two", "1 passed, 1 failed"),
    ]


# -- dead ends -------------------------------------------------------------------------------------


def test_the_waits_of_a_dead_end_fail_once(lab: Lab) -> None:
    waits = [lab.ask(name, "wait", name.encode(), None) for name in MEMBERS]
    lab.pass_time(5)
    dead_end = lab.engine.find_dead_end(MEMBERS, lab.now)
    assert dead_end is not None
    for _ in range(2):
        lab.engine.fail(dead_end, lab.now)
        lab.turn()
    for wait in waits:
        status, (sentence,) = wait.reply or (None, [""])
        assert status == NO
        assert sentence.startswith("dead end: ")
    assert len(lab.events(Released)) == 3


def test_silence_is_broken_by_what_devices_do_and_not_by_time(lab: Lab) -> None:
    lab.pass_time(5)
    lab.ask("client-1", "self")
    assert lab.engine.heard == 5.0
    lab.pass_time(5)
    lab.engine.handle_timeout(lab.now)
    assert lab.engine.heard == 5.0
    lab.report("client-1", "event", "x")
    assert lab.engine.heard == 10.0


def test_a_clock_that_was_set_between_two_runs_of_a_host_makes_no_wait_longer() -> None:
    lab = Lab()
    lab.ask("client-1", "wait", b"x", 5000)
    events = list(lab.log.events)
    # The next run of the host has a clock that is an hour behind.
    again = Lab({}, log=[replace(e, time=e.time + 3600) for e in events], seed=2)
    again.join(again.hosts[0], "client-1", "client")
    again.pass_time(4.9)
    assert again.open_waits() == [b"x"]
    again.pass_time(0.2)
    assert again.open_waits() == []


def test_a_device_that_two_hosts_have_is_told(lab: Lab) -> None:
    other = lab.add_host({})
    assert not any("another host" in sentence for _, sentence in lab.notices)
    other.engine.join("client-1", "client", lab.now)
    lab.turn()
    assert lab.notices[-1] == (
        "client-1",
        "another host has a console of this device as well; let one of them have it",
    )
    # Either can go on, as one device.
    lab.ask("client-1", "send", b"x", [])
    assert other.engine.state.coordinator.times_sent("client-1", b"x") == 1


# -- cost ------------------------------------------------------------------------------------------


def lines_of_one_exchange(devices: int) -> int:
    """Lines that are executed, in a group of so many devices, while two of them talk and the others wait."""
    lab = Lab({f"d{number}": "r" for number in range(devices)})
    for number in range(2, devices):
        lab.ask(f"d{number}", "wait", b"never", 10**6)
    lines = 0

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return trace

    def exchange() -> None:
        wait = lab.ask("d0", "wait", b"x", 1000)
        lab.ask("d1", "send", b"x", [b"k", b"v"])
        lab.cancel(lab.ask("d0", "wait", b"y", 1000))
        lab.report("d1", "event", "x")
        lab.answer("d0", "self")
        lab.ask("d1", "result", b"t", "pass", None, None)
        lab.pass_time(2.0)
        assert wait.reply == (OK, [["d1", b"k", b"v"]])

    exchange()
    before = sys.gettrace()
    # What the garbage collector finalizes of other tests would count, too.
    gc.collect()
    gc.disable()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        exchange()
    finally:
        sys.settrace(before)
        gc.enable()
    return lines


def test_what_an_exchange_costs_does_not_depend_on_how_many_devices_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # How many identities share a string, which is searched to its place, is up to chance.
    monkeypatch.setattr(identities_module, "_STRINGS", 1 << 60)
    # The first one may fill what the standard library remembers.
    _, few, some, many = (lines_of_one_exchange(devices) for devices in (10, 10, 100, 1000))
    # The same work, but for the depth of a heap.
    assert few == some == many
