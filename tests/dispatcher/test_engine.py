# SPDX-License-Identifier: MIT
from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher import engine as engine_module
from dispatcher.engine import Engine
from dispatcher.group.events import Joined, Left, Released, Sent, Waiting
from dispatcher.group.operations import MAX_ID, OPERATIONS
from dispatcher.grouplog import GroupLog
from dispatcher.grouplog.file import FileGroupLog
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.line.session import ABANDONED, MAX_LINKS, MAX_REQUESTS
from toolkit.wire import packets
from toolkit.wire.device_link import DeviceLink
from toolkit.wire.framing import MARKER, MAX_FRAME_BODY, encode_frame
from toolkit.wire.packets import HELLO, LEASE, POLL, REQUEST
from toolkit.wire.transfer import seal
from toolkit.wire.vocabulary import (
    INTERRUPTED,
    MAX_DATA,
    MAX_REPLY,
    NO,
    OK,
    USAGE,
    pack_request,
    unpack_reply,
)

MEMBERS = {"server-1": "server", "client-1": "client", "client-2": "client"}


class Agent:
    """The link of one device, and the replies that came over it."""

    def __init__(self, nonce: int, boot: int) -> None:
        self.link = DeviceLink(nonce, boot)
        self.replies: dict[int, tuple[int, list[Any]]] = {}


class Group:
    """An engine, and devices whose lines lose nothing and take no time."""

    def __init__(
        self, log: GroupLog | None = None, members: dict[str, str] | None = None, seed: int = 1
    ) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.log: Any = MemoryGroupLog() if log is None else log
        self.engine = Engine(self.log, lambda: self.random.getrandbits(32), epoch=1_000_000.0)
        self.agents: dict[str, list[Agent]] = {}
        self.output: dict[str, bytes] = {}
        self.typed: list[tuple[str, bytes]] = []
        for name, role in (MEMBERS if members is None else members).items():
            self.engine.join(name, role, self.now)
            self.agents[name] = [self.new_agent()]
            self.output[name] = b""

    def new_agent(self, boot: int = 9) -> Agent:
        return Agent(self.random.getrandbits(32), boot)

    def ask(self, device: str, operation: Any, *arguments: Any, identity: bytes = b"", agent: int = 0) -> int:
        """Send a request; the tag says which reply is its own."""
        identity = identity or self.random.randbytes(8)
        tag = self.agents[device][agent].link.submit(pack_request(identity, operation, *arguments), self.now)
        self.pump()
        return tag

    def reply(self, device: str, tag: int, agent: int = 0) -> tuple[int, list[Any]] | None:
        return self.agents[device][agent].replies.get(tag)

    def answer(
        self, device: str, operation: Any, *arguments: Any, **more: Any
    ) -> tuple[int, list[Any]] | None:
        """The reply that comes at once, if one does."""
        return self.reply(device, self.ask(device, operation, *arguments, **more), more.get("agent", 0))

    def feed(self, device: str, data: bytes) -> bytes:
        """Raw bytes of a console; returns what is typed into it because of them."""
        before = len(self.typed)
        self.engine.receive_data(device, data, self.now)
        self.drain()
        assert all(name == device for name, _ in self.typed[before:])
        return b"".join(line for _, line in self.typed[before:])

    def drain(self) -> list[tuple[str, bytes]]:
        for name, data in self.engine.outputs():
            self.output[name] += data
        lines = self.engine.data_to_type()
        self.typed += lines
        return lines

    def pump(self) -> None:
        moved = True
        while moved:
            moved = False
            for name, agents in self.agents.items():
                for agent in agents:
                    while agent.link.wants_to_send:
                        moved = True
                        frame = agent.link.next_frame(self.now)
                        assert frame is not None
                        self.engine.receive_data(name, frame, self.now)
            for name, data in self.drain():
                moved = True
                for line in data.split(b"\n")[:-1]:
                    for agent in self.agents[name]:
                        agent.link.receive_line(line, self.now)
            for agents in self.agents.values():
                for agent in agents:
                    agent.replies.update((tag, unpack_reply(reply)) for tag, reply in agent.link.replies())

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            times = [self.engine.next_timeout()]
            times += [agent.link.next_timeout() for agents in self.agents.values() for agent in agents]
            time = min((time for time in times if time is not None), default=end)
            self.now = max(self.now, min(time, end))
            if time > end:
                return
            self.engine.handle_timeout(self.now)
            for agents in self.agents.values():
                for agent in agents:
                    agent.link.handle_timeout(self.now)
            self.pump()
            if time == end:
                return

    def open_waits(self) -> list[bytes]:
        return [wait.waiting.message_id for wait in self.engine.coordinator.open_waits()]

    def events(self, kind: type) -> list[Any]:
        return [event for event in self.log.events if isinstance(event, kind)]


@pytest.fixture
def group() -> Group:
    return Group()


# -- the operations ----------------------------------------------------------------------------


def test_who_and_with_whom(group: Group) -> None:
    assert group.answer("client-1", "self") == (OK, ["client-1"])
    assert group.answer("client-1", "role") == (OK, ["client"])
    assert group.answer("client-1", "group") == (OK, [[name, role] for name, role in MEMBERS.items()])
    assert len(group.log.events) == len(MEMBERS)


def test_send_and_wait(group: Group) -> None:
    tag = group.ask("client-1", "wait", b"ready", None)
    assert group.reply("client-1", tag) is None and group.open_waits() == [b"ready"]
    assert group.answer("server-1", "send", b"ready", [b"ip", b"10.0.0.1", b"empty", b""]) == (OK, [])
    expected = (OK, [["server-1", b"ip", b"10.0.0.1", b"empty", b""]])
    assert group.reply("client-1", tag) == expected
    # It stays, for whoever asks later.
    assert group.answer("client-2", "wait", b"ready", 5) == expected
    assert group.answer("client-1", "wait", b"ready", None) == expected
    # But not for the sender itself.
    assert group.answer("server-1", "wait", b"ready", None) is None
    (sent,) = group.events(Sent)
    assert sent.time == 1_000_000.0 + group.now
    assert (sent.device, sent.message_id) == ("server-1", b"ready")
    assert sent.data == ((b"ip", b"10.0.0.1"), (b"empty", b""))


def test_wait_all_of_a_role(group: Group) -> None:
    tag = group.ask("server-1", "wait-all", b"up", "client", None)
    group.ask("client-1", "send", b"up", [b"n", b"1"])
    assert group.reply("server-1", tag) is None
    group.ask("client-2", "send", b"up", [b"n", b"2"])
    assert group.reply("server-1", tag) == (OK, [["client-1", b"n", b"1"], ["client-2", b"n", b"2"]])
    status, (sentence,) = group.answer("server-1", "wait-all", b"up", "nobody", None) or (None, [""])
    assert status == NO and "'nobody'" in sentence and "server, client" in sentence


def test_sync_is_a_barrier_each_time(group: Group) -> None:
    for _ in range(3):
        tags = {name: group.ask(name, "sync", b"start", None) for name in list(MEMBERS)[:2]}
        assert [group.reply(name, tag) for name, tag in tags.items()] == [None, None]
        tags["client-2"] = group.ask("client-2", "sync", b"start", None)
        assert [group.reply(name, tag) for name, tag in tags.items()] == [(OK, [])] * 3


def test_any_bytes_come_through(group: Group) -> None:
    value = bytes(set(range(256)) - set(b"\0\r\n"))
    key = bytes(set(range(0x21, 256)) - set(b"=\x7f"))
    assert group.answer("server-1", "send", key, [key, value]) == (OK, [])
    assert group.answer("client-1", "wait", key, None) == (OK, [["server-1", key, value]])


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
def test_bad_calls_are_refused_and_leave_nothing_behind(group: Group, name: str) -> None:
    status, values = group.answer("client-1", *BAD_CALLS[name]) or (None, [])
    assert status == USAGE
    assert len(values) == 1 and values[0].startswith("the dispatcher refused the request: ")
    assert len(values[0]) < 200 and values[0].isprintable()
    assert len(group.log.events) == len(MEMBERS) and group.open_waits() == []
    assert group.answer("client-1", "self") == (OK, ["client-1"])


@pytest.mark.parametrize(
    "message",
    [b"", b"\xc1", msgpack.packb(5), msgpack.packb([]), msgpack.packb([b"short", "self"]), b"\x91" * 3000],
)
def test_requests_that_are_none(group: Group, message: bytes) -> None:
    agent = group.agents["client-1"][0]
    tag = agent.link.submit(message, group.now)
    group.pump()
    status, values = agent.replies[tag]
    assert status == USAGE and len(values[0]) < 200


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
    group = Group()
    reply = group.answer("client-1", operation, *arguments)
    if reply is None:
        assert len(group.open_waits()) == 1
        (waiting,) = group.events(Waiting)
        assert waiting.device == "client-1"
    else:
        assert reply[0] in (OK, NO, USAGE)
    group.pass_time(30)
    assert group.answer("client-2", "self") == (OK, ["client-2"])


@pytest.mark.parametrize("size", [1, 64, 65531])
def test_64_kib_pass_and_one_byte_more_does_not(group: Group, size: int) -> None:
    data = []
    for number in range(MAX_DATA // (size + 5)):
        data += [b"%05d" % number, b"v" * size]
    data[-1] += b"v" * (MAX_DATA - sum(map(len, data)))
    assert sum(map(len, data)) == MAX_DATA
    assert group.answer("server-1", "send", b"big", data) == (OK, [])
    assert group.answer("client-1", "wait", b"big", None) == (OK, [["server-1", *data]])
    data[-1] += b"v"
    status, values = group.answer("server-1", "send", b"bigger", data) or (None, [])
    assert status == USAGE and "65536" in values[0] and "65537" in values[0]


def test_64_kib_in_the_shortest_pairs(group: Group) -> None:
    data = [b"k", b""] * MAX_DATA
    assert group.answer("server-1", "send", b"big", data) == (OK, [])
    assert group.answer("client-1", "wait", b"big", None) == (OK, [["server-1", b"k", b""]])


def test_more_data_than_a_reply_holds_is_said() -> None:
    members = {f"d{number}": "r" for number in range(MAX_REPLY // MAX_DATA + 2)}
    group = Group(members=members)
    for number, name in enumerate(list(members)[1:]):
        assert group.answer(name, "send", b"big", [b"k%d" % number, b"v" * 65000]) == (OK, [])
    status, values = group.answer("d0", "wait", b"big", None) or (None, [])
    assert status == NO and "a reply holds 1048576" in values[0]


# -- waits that end otherwise ------------------------------------------------------------------


def test_time_outs(group: Group) -> None:
    slow = group.ask("client-1", "wait", b"never", 30_000)
    fast = group.ask("client-2", "wait-all", b"never", None, 500)
    group.pass_time(0.4)
    assert group.reply("client-2", fast) is None
    group.pass_time(0.2)
    assert group.reply("client-2", fast) == (NO, ["timed out waiting for 'never' from server-1 and client-1"])
    group.pass_time(28)
    assert group.reply("client-1", slow) is None
    group.pass_time(2)
    assert group.reply("client-1", slow) == (NO, ["timed out waiting for 'never' from server-1 or client-2"])
    assert group.open_waits() == []
    assert [event.time - 1_000_000 for event in group.events(Released)] == [0.5, 30.0]


def test_a_time_out_of_nothing_asks_once(group: Group) -> None:
    tag = group.ask("client-1", "wait", b"never", 0)
    group.pass_time(0)
    status, _ = group.reply("client-1", tag) or (None, None)
    assert status == NO


def test_a_wait_that_has_ended_has_no_time_out(group: Group) -> None:
    tag = group.ask("client-1", "wait", b"ready", 1000)
    group.ask("server-1", "send", b"ready", [])
    group.pass_time(5)
    assert group.reply("client-1", tag) == (OK, [])
    assert group.events(Released) == []


def test_a_huge_time_out_is_one(group: Group) -> None:
    group.ask("client-1", "wait", b"never", 2**64 - 1)
    group.pass_time(1000)
    assert group.open_waits() == [b"never"]


def test_a_cancelled_wait_leaves_nothing_open(group: Group) -> None:
    tag = group.ask("client-1", "wait", b"never", None)
    group.agents["client-1"][0].link.cancel(tag, group.now)
    group.pump()
    assert group.open_waits() == [] and group.agents["client-1"][0].link.idle
    (released,) = group.events(Released)
    assert (released.status, released.reason) == (INTERRUPTED, "cancelled")


def test_a_command_that_falls_silent_is_given_up(group: Group) -> None:
    group.ask("client-1", "wait", b"never", None)
    group.agents["client-1"] = [group.new_agent()]
    group.pass_time(ABANDONED - 1)
    assert group.open_waits() == [b"never"]
    group.pass_time(2)
    assert group.open_waits() == []
    assert [event.reason for event in group.events(Released)] == ["its command has stopped asking"]


def test_a_reboot_ends_the_waits_and_keeps_the_messages(group: Group) -> None:
    group.ask("client-1", "send", b"up", [b"k", b"v"])
    group.ask("client-1", "wait", b"never", None)
    group.agents["client-1"] = [group.new_agent(boot=10)]
    tag = group.ask("client-1", "wait", b"later", None)
    assert group.open_waits() == [b"later"]
    assert [event.reason for event in group.events(Released)] == ["the device rebooted"]
    assert group.answer("server-1", "wait", b"up", None) == (OK, [["client-1", b"k", b"v"]])
    group.ask("server-1", "send", b"later", [])
    assert (group.reply("client-1", tag) or (None,))[0] == OK


def test_a_device_that_leaves_ends_what_waits_for_it(group: Group) -> None:
    tag = group.ask("server-1", "wait-all", b"up", "client", None)
    group.engine.leave("client-2", "its script ended", group.now)
    group.pump()
    assert group.reply("server-1", tag) == (NO, ["client-2 ended without sending 'up'"])
    assert group.engine.notices() == [
        ("server-1", "waited 0.0 s in `lava-wait-all up client`: client-2 ended without sending 'up'")
    ]
    assert isinstance(group.log.events[-1], Left)


def test_a_message_that_is_sent_again_is_noted_once(group: Group) -> None:
    for number in range(5):
        group.ask("server-1", "send", b"progress", [b"percent", b"%d" % number])
    assert group.engine.notices() == [("server-1", "sent 'progress' again: its newest values hold")]
    assert group.answer("client-1", "wait", b"progress", None) == (OK, [["server-1", b"percent", b"4"]])


# -- once only -------------------------------------------------------------------------------------

IDENTITY = b"12345678"


def test_one_identity_over_two_links_is_one_request(group: Group) -> None:
    """An agent is killed, and its commands send their requests again through another."""
    group.agents["client-1"].append(group.new_agent())
    for _ in range(2):
        for agent in range(2):
            assert group.answer(
                "client-1", "send", b"once", [b"k", b"v"], identity=IDENTITY, agent=agent
            ) == (OK, [])
    assert len(group.events(Sent)) == 1
    tags = [
        group.ask("client-1", "sync", b"barrier", None, identity=b"sync-one", agent=agent)
        for agent in range(2)
    ]
    assert len(group.events(Waiting)) == 1
    group.ask("client-2", "sync", b"barrier", None)
    group.ask("server-1", "sync", b"barrier", None)
    # Both links are told.
    assert [group.reply("client-1", tag, agent) for agent, tag in enumerate(tags)] == [(OK, [])] * 2


def test_a_wait_goes_on_when_one_of_its_links_is_cancelled(group: Group) -> None:
    group.agents["client-1"].append(group.new_agent())
    tags = [group.ask("client-1", "wait", b"x", None, identity=IDENTITY, agent=agent) for agent in range(2)]
    group.agents["client-1"][0].link.cancel(tags[0], group.now)
    group.pump()
    assert group.open_waits() == [b"x"]
    group.ask("server-1", "send", b"x", [])
    assert (group.reply("client-1", tags[1], 1) or (None,))[0] == OK
    assert group.reply("client-1", tags[0]) is None


def test_a_wait_whose_every_link_is_cancelled_ends(group: Group) -> None:
    group.agents["client-1"].append(group.new_agent())
    tags = [group.ask("client-1", "wait", b"x", None, identity=IDENTITY, agent=agent) for agent in range(2)]
    for agent, tag in enumerate(tags):
        group.agents["client-1"][agent].link.cancel(tag, group.now)
        group.pump()
    assert group.open_waits() == []
    assert group.engine._waiters == {} and group.engine._waiting == {}


def test_devices_cannot_use_each_others_identities(group: Group) -> None:
    waits = group.ask("client-1", "wait", b"x", None, identity=IDENTITY)
    # The same identity from another device is another request ...
    assert group.answer("client-2", "send", b"y", [b"k", b"v"], identity=IDENTITY) == (OK, [])
    assert group.open_waits() == [b"x"] and len(group.events(Sent)) == 1
    # ... and cancelling that one leaves the first alone.
    other = group.ask("client-2", "wait", b"z", None, identity=b"z" * 8)
    group.agents["client-2"][0].link.cancel(other, group.now)
    group.pump()
    assert group.open_waits() == [b"x"]
    group.ask("server-1", "send", b"x", [])
    assert (group.reply("client-1", waits) or (None,))[0] == OK
    requests = [event.request for event in group.events(Sent) + group.events(Waiting)]
    assert len(set(requests)) == len(requests)


@pytest.mark.parametrize("names", [("a", "aa"), ("x", "8x"), ("d", "d" * 9)])
def test_no_name_and_identity_make_that_of_another(names: tuple[str, str]) -> None:
    group = Group(members=dict.fromkeys(names, "r"))
    for name in names:
        for identity in (b"8" * 8, b"a" * 8, b"d" * 8, b"x" * 8):
            assert group.answer(name, "send", b"id", [], identity=identity) == (OK, [])
    assert len({event.request for event in group.events(Sent)}) == 8


def test_a_frame_of_one_device_means_nothing_on_anothers_console(group: Group) -> None:
    """Session tokens are secret only by being random; a device that knows one can still not use it."""
    group.ask("client-1", "wait", b"x", None)
    token = next(iter(group.engine._devices["client-1"].session._links))
    data = seal(pack_request(b"forged!!", "send", b"x", []))
    for packet in (
        (POLL, token, 50, 1, LEASE, 0),
        (packets.CANCEL, token, 51, 1, 1),
        (REQUEST, token, 52, 9, LEASE, 0, len(data), 1, data),
    ):
        assert group.feed("client-2", encode_frame(packets.pack_packet(*packet))) == b""
    assert group.open_waits() == [b"x"] and group.events(Sent) == []
    assert group.engine.counters("client-2").replayed == 3
    assert group.engine.counters("client-1").replayed == 0


# -- the group's log -------------------------------------------------------------------------------


def test_a_new_engine_goes_on_from_the_log(tmp_path: Path) -> None:
    with FileGroupLog(tmp_path / "log") as log:
        first = Group(log)
        first.ask("server-1", "send", b"early", [b"k", b"v"], identity=IDENTITY)
        tag = first.ask("client-1", "wait", b"late", 60_000, identity=b"waiting!")
    with FileGroupLog(tmp_path / "log") as log:
        second = Group(log, seed=2)
        assert second.open_waits() == [b"late"]
        assert second.answer("client-1", "wait", b"early", None) == (OK, [["server-1", b"k", b"v"]])
        # The sender did not get its answer; it asks again.
        assert second.answer("server-1", "send", b"early", [b"k", b"v"], identity=IDENTITY) == (OK, [])
        assert len(second.events(Sent)) == 1
        # So does the one that waits, through its old agent.
        second.agents["client-1"] = first.agents["client-1"]
        second.pass_time(20)
        assert len(second.events(Waiting)) == 2
        second.ask("client-2", "send", b"late", [b"k", b"v"])
        assert second.reply("client-1", tag) == (OK, [["client-2", b"k", b"v"]])


def test_an_engine_without_the_log_ends_what_the_old_one_began() -> None:
    first = Group()
    tag = first.ask("client-1", "wait", b"x", None)
    second = Group(seed=2, members={"client-1": "client", "server-1": "server"})
    second.agents["client-1"] = first.agents["client-1"]
    second.engine.join("other", "r", 5.0)
    second.pass_time(30)
    status, values = second.reply("client-1", tag) or (None, [])
    assert status == 75 and "restarted" in values[0]


def test_time_outs_are_kept_over_a_restart() -> None:
    log = MemoryGroupLog()
    first = Group(log)
    first.ask("client-1", "wait", b"x", 10_000)
    events = list(log.events)
    second = Group(MemoryGroupLog(events), seed=2)
    second.pass_time(9.9)
    assert second.open_waits() == [b"x"]
    second.pass_time(0.2)
    assert second.open_waits() == []


def test_joining(group: Group) -> None:
    with pytest.raises(ValueError, match="client-1"):
        group.engine.join("client-1", "client", 0.0)
    assert len(group.events(Joined)) == len(MEMBERS)


# -- output ----------------------------------------------------------------------------------------


def test_output_is_what_the_device_printed(group: Group) -> None:
    link = group.agents["client-1"][0].link
    link.submit(pack_request(IDENTITY, "self"), 0.0)
    frame = link.next_frame(0.0) or b""
    data = b"before\r\n" + frame + b"after\x1b[0m \xff"
    for byte in data:
        group.engine.receive_data("client-1", bytes((byte,)), 0.0)
    group.drain()
    assert group.output["client-1"] == b"before\r\nafter\x1b[0m \xff"
    group.feed("client-1", b"end" + MARKER[:4])
    assert group.output["client-1"].endswith(b"end")
    group.engine.close("client-1", 1.0)
    group.drain()
    assert group.output["client-1"].endswith(b"end" + MARKER[:4])
    assert group.output["client-2"] == b""


def test_what_is_held_back_comes_out_in_time(group: Group) -> None:
    group.feed("client-1", b"x" + MARKER + b"AAAA")
    assert group.output["client-1"] == b"x"
    group.pass_time(10)
    assert group.output["client-1"] == b"x" + MARKER + b"AAAA"
    assert group.engine.next_timeout() is None


# -- anything at all -----------------------------------------------------------------------------


def frames_of(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return data.map(lambda body: encode_frame(body[:MAX_FRAME_BODY]))


small = st.integers(0, 3)


def request_frame(sequence: int, tag: int, operation: str, arguments: list[Any]) -> bytes:
    data = seal(pack_request(IDENTITY, operation, *arguments))[:400]
    return encode_frame(packets.pack_packet(REQUEST, 1, sequence, tag, LEASE, 0, len(data), 1, data))


console_data = st.one_of(
    st.binary(max_size=60),
    frames_of(st.binary(max_size=60)),
    frames_of(st.lists(st.integers(-2, 2**33) | st.binary(max_size=9), max_size=9).map(msgpack.packb)),
    st.builds(lambda n, s: encode_frame(packets.pack_packet(HELLO, 1, n, s, 1)), small, st.integers(0, 50)),
    st.builds(
        request_frame,
        st.integers(1, 60),
        small,
        st.sampled_from([*OPERATIONS]),
        st.lists(
            st.sampled_from([b"id", b"k", None, 5, "client", [b"k", b"v"], [], 2**64 - 1, True, 0.5]),
            max_size=4,
        ),
    ),
    st.builds(
        lambda s, t: encode_frame(packets.pack_packet(POLL, 1, s, t, LEASE, 0)), st.integers(1, 60), small
    ),
    st.builds(
        lambda s, t: encode_frame(packets.pack_packet(packets.CANCEL, 1, s, t, 1)), st.integers(1, 60), small
    ),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(MEMBERS)[:2]), console_data), max_size=40), st.integers(1, 50))
def test_no_bytes_break_the_engine_or_disturb_others(pieces: list[tuple[str, bytes]], size: int) -> None:
    tokens = itertools.cycle([1, 2, 3])
    group = Group()
    group.engine._devices["client-1"].session.token = group.engine._devices["server-1"].session.token = (
        lambda: next(tokens)
    )
    for device, data in pieces:
        for position in range(0, len(data), size):
            group.engine.receive_data(device, data[position : position + size], group.now)
        group.now += 0.5
        group.engine.handle_timeout(group.now)
        for name, _ in group.drain():
            assert name in list(MEMBERS)[:2]
        for name in list(MEMBERS)[:2]:
            session = group.engine._devices[name].session
            assert len(session._links) <= MAX_LINKS
    assert group.output["client-2"] == b""
    assert group.answer("client-2", "self") == (OK, ["client-2"])
    for name in list(MEMBERS)[:2]:
        # The lines of a device that spoke nonsense still serve who speaks sense.
        group.engine.close(name, group.now)
        group.drain()
        group.agents[name] = [group.new_agent(boot=1)]
        group.engine._devices[name].session.token = lambda: group.random.getrandbits(32)
        assert group.answer(name, "self") == (OK, [name])
    assert all(isinstance(event.data, tuple) for event in group.events(Sent))


def test_what_one_device_puts_into_the_log_is_bounded(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_BYTES", 200_000)
    statuses = [
        (group.answer("client-1", "send", b"id%d" % n, [b"k", bytes(100).replace(b"\0", b"v")]) or (None,))[0]
        for n in range(300)
    ]
    accepted = statuses.count(OK)
    assert 50 < accepted < 200 and statuses == [OK] * accepted + [USAGE] * (300 - accepted)
    # Many pairs are as dear as much data.
    pairs = [item for n in range(800) for item in (b"%d" % n, b"")]
    assert (group.answer("client-2", "send", b"a", pairs) or (None,))[0] == OK
    assert (group.answer("client-2", "send", b"b", pairs) or (None,))[0] == USAGE
    # Others go on, and so does what needs no room.
    assert group.answer("server-1", "send", b"x", []) == (OK, [])
    assert group.answer("client-1", "self") == (OK, ["client-1"])


def test_an_operator_is_told_of_frames_that_make_no_sense(group: Group) -> None:
    group.engine.notices()
    for number in range(1, 1001):
        group.feed("client-2", encode_frame(b"\xc0"))
        notices = group.engine.notices()
        assert len(notices) == (number in (10, 100, 1000)), number
        for device, sentence in notices:
            assert device == "client-2" and sentence.startswith(
                f"{number} frames from this console made no sense"
            )


def test_many_open_requests_of_one_device_leave_others_alone(group: Group) -> None:
    link = group.agents["client-1"][0].link
    for number in range(2 * MAX_REQUESTS):
        link.submit(pack_request(b"%08d" % number, "wait", b"id%d" % number, None), group.now)
    group.pump()
    assert len(group.open_waits()) == MAX_REQUESTS
    assert group.engine.counters("client-1").overflow >= MAX_REQUESTS
    assert group.answer("client-2", "self") == (OK, ["client-2"])
    for tag in list(link._requests):
        link.cancel(tag, group.now)
    group.pump()
    assert group.open_waits() == [] and group.engine._waiting == {}
