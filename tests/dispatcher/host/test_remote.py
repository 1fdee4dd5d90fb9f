# SPDX-License-Identifier: MIT
"""Groups behind a unix socket: a real server and real connections, and consoles that are only imagined."""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.engine import Answer
from dispatcher.group.events import Lost, Reported
from dispatcher.host import groups as groups_module
from dispatcher.host.groups import GroupLogs, Groups
from dispatcher.host.groupserver import GroupServer
from dispatcher.host.remote import Card, GroupRefused, GroupUnreachable, RemoteGroup
from dispatcher.host.remotewire import FROM_GROUP, MAX_HELLO, TO_GROUP, VERSION, Decoder, encode
from dispatcher.host.strangers import Strangers
from dispatcher.line.channel import Asked
from dispatcher.line.session import Link, Request
from dispatcher.line.textsignals import Malformed, Signal
from tests.dispatcher.fakeservers import Servers
from toolkit.wire.vocabulary import LINK_FAILED, OK, USAGE, ProtocolError, unpack_reply

# Seconds that anything may take; only a failure takes so long.
PATIENCE = 20.0


class Console:
    """Stands for an attachment: asks, and keeps the answers."""

    def __init__(self, group: RemoteGroup) -> None:
        self.name = group.card.device
        self.group = group
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()
        group.attach(self, group.card.role)  # type: ignore[arg-type]

    def answer(self, answer: Answer, now: float) -> None:
        self.answers.put_nowait(answer)

    def flush(self, now: float) -> None:
        pass

    def ask(self, operation: str, *arguments: Any, identity: bytes | None = None) -> Request:
        request = Request(Link(0, 0), 1, 10, 0.0)
        identity = identity or os.urandom(8)
        self.group.request(self.name, Asked(request, identity, operation, list(arguments), 0), 0.0)
        return request

    async def reply(self, request: Request) -> tuple[int, list[Any]]:
        """The reply to this request; what is said to it before, that it is recorded, is passed over."""
        while True:
            answer = await asyncio.wait_for(self.answers.get(), PATIENCE)
            assert answer.request is request
            if answer.reply is not None:
                return unpack_reply(answer.reply)

    async def recorded(self, request: Request) -> None:
        answer = await asyncio.wait_for(self.answers.get(), PATIENCE)
        assert answer == Answer(self.name, request, None)


class Lab:
    """A coordinator, and whoever comes to it."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "socket")
        self.told: list[str] = []
        self.logs = GroupLogs(directory / "logs")
        self.clients: list[RemoteGroup] = []

    async def start(self, logs: GroupLogs | None = None) -> None:
        self.groups = Groups(logs or self.logs, self.told.append)
        self.server = GroupServer(self.groups, self.told.append)
        await self.groups.open()
        await self.server.open(self.path)

    async def stop(self) -> None:
        await self.server.close()
        await self.groups.close()

    async def come(self, device: str, *, console: str = "", job: str = "1", size: int | None = 2) -> Console:
        card = Card("group", device, "client", console or device, job, size)
        group = RemoteGroup(self.path, card, os.urandom(8), self.told.append)
        await group.open()
        self.clients.append(group)
        return Console(group)


def in_lab(directory: Path, story: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        lab = Lab(directory)
        await lab.start()
        try:
            await asyncio.wait_for(story(lab), 3 * PATIENCE)
        finally:
            for client in lab.clients:
                await client.close()
            await lab.stop()

    asyncio.run(run())


def test_devices_of_two_connections_are_one_group(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one, two = await lab.come("one"), await lab.come("two")
        assert one.group.number == two.group.number
        wait = one.ask("wait", b"ready", None, False)
        await one.recorded(wait)
        assert await two.reply(two.ask("send", b"ready", [b"k", b"v\xff"])) == (OK, [])
        assert await one.reply(wait) == (OK, [["two", b"k", b"v\xff"]])
        assert await one.reply(one.ask("group")) == (OK, [["one", "client"], ["two", "client"]])

    in_lab(tmp_path, story)


def test_a_request_that_is_no_good_is_refused_as_on_this_host(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one = await lab.come("one")
        status, (sentence,) = await one.reply(one.ask("send", "no bytes", []))
        assert status == USAGE and "argument 1" in sentence

    in_lab(tmp_path, story)


def test_waits_go_on_over_a_restart_of_the_coordinator(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one, two = await lab.come("one"), await lab.come("two")
        wait = one.ask("sync", b"both", None, False)
        await one.recorded(wait)
        await lab.stop()
        lost = two.ask("sync", b"both", None, False)
        await lab.start()
        assert await two.reply(lost) == (OK, [])
        assert await one.reply(wait) == (OK, [])
        assert any("is lost" in text for text in lab.told) and any("is back" in text for text in lab.told)
        waits = [
            line
            for line in (tmp_path / "logs" / "group.jsonl").read_text().splitlines()
            if '"waiting"' in line
        ]
        assert len(waits) == 2, "the wait that was asked again is not in the log again"

    in_lab(tmp_path, story)


def test_a_coordinator_that_has_lost_the_group_is_told_of(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one = await lab.come("one")
        wait = one.ask("wait", b"ready", None, False)
        await one.recorded(wait)
        await lab.stop()
        await lab.start(GroupLogs(None))
        status, (sentence,) = await one.reply(wait)
        assert status == LINK_FAILED and "the group has begun again" in sentence
        status, _ = await one.reply(one.ask("self"))
        assert status == LINK_FAILED

    in_lab(tmp_path, story)


def test_a_group_whose_log_breaks_begins_anew_when_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(groups_module, "LONGEST_PAUSE", 0.02)
    servers = Servers()

    async def story(lab: Lab) -> None:
        await lab.stop()
        await lab.start(GroupLogs(None, servers.log))
        one = await lab.come("one")
        wait = one.ask("wait", b"ready", None, False)
        await one.recorded(wait)
        servers.break_all("the servers have lost events")
        # What waits ends, and what comes.
        for request in (wait, one.ask("send", b"x", [])):
            assert await one.reply(request) == (LINK_FAILED, ["the servers have lost events"])
        assert "group: the servers have lost events" in lab.told
        broken = lab.groups.groups["group"]
        attempts = len(lab.told)
        # As long as it is the same log, there is no going on with it.
        while servers.opened < 3:
            await asyncio.sleep(0.001)
        assert lab.groups.groups["group"] is broken and len(lab.told) == attempts
        del servers.logs["group"]
        while lab.groups.groups["group"] is broken:
            await asyncio.sleep(0.001)
        assert "the group group begins again" in lab.told
        # Who was in the former one learns it, who comes now is in the new one.
        while not any("begun again" in sentence for sentence in lab.told):
            await asyncio.sleep(0.001)
        status, (sentence,) = await one.reply(one.ask("send", b"x", []))
        assert status == LINK_FAILED and "the group has begun again" in sentence
        two = await lab.come("one")
        assert await two.reply(two.ask("send", b"x", [])) == (OK, [])

    in_lab(tmp_path, story)


def test_servers_that_are_away_are_tried_again(tmp_path: Path) -> None:
    servers = Servers()

    async def story(lab: Lab) -> None:
        await lab.stop()
        await lab.start(GroupLogs(None, servers.log))
        one = await lab.come("one")
        wait = one.ask("wait", b"ready", None, False)
        await one.recorded(wait)
        servers.up = False
        with pytest.raises(GroupUnreachable, match="no server can be reached"):
            await RemoteGroup(lab.path, Card("other", "x", "r", "c", "j"), bytes(8)).open()
        # A coordinator that is started again while they are away.
        await lab.stop()
        await lab.start(GroupLogs(None, servers.log))
        while servers.refused < 3:
            await asyncio.sleep(0.001)
        servers.up = True
        two = await lab.come("two")
        await two.reply(two.ask("send", b"ready", []))
        assert await one.reply(wait) == (OK, [])

    in_lab(tmp_path, story)


def test_a_second_connection_of_the_same_job_is_normal(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one = await lab.come("one", console="board", job="7")
        again = await lab.come("one", console="board", job="7")
        two = await lab.come("two")
        wait, identity = one.ask("wait", b"x", None, False, identity=b"12345678"), b"12345678"
        await one.recorded(wait)
        same = again.ask("wait", b"x", None, False, identity=identity)
        await again.recorded(same)
        assert await two.reply(two.ask("send", b"x", [])) == (OK, [])
        assert await one.reply(wait) == await again.reply(same) == (OK, [])

    in_lab(tmp_path, story)


def test_a_console_has_one_job_at_a_time(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        first = await lab.come("one", console="board", job="7")
        with pytest.raises(GroupRefused, match="board is held by job 7, so job 8"):
            await lab.come("other", console="board", job="8")
        with pytest.raises(GroupRefused, match="one is in the group group already, on the console board"):
            await lab.come("one", console="desk", job="9")
        await first.group.close()
        while lab.server.by_console:
            await asyncio.sleep(0)
        await lab.come("other", console="board", job="8")

    in_lab(tmp_path, story)


def test_a_role_that_is_not_the_known_one_is_refused(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        await lab.come("one")
        card = Card("group", "one", "server", "one", "1", 2)
        with pytest.raises(GroupRefused, match="has the role 'client'"):
            await RemoteGroup(lab.path, card, bytes(8)).open()

    in_lab(tmp_path, story)


def test_a_group_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispatcher.host.groups.MAX_MEMBERS", 2)

    async def story(lab: Lab) -> None:
        await lab.come("one")
        await lab.come("two")
        with pytest.raises(GroupRefused, match="the group has 2 devices already"):
            await lab.come("three")

    in_lab(tmp_path, story)


def test_strangers_who_say_nothing_make_place_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.host.groupserver.HELLO_TIMEOUT", 1000.0)

    async def story(lab: Lab) -> None:
        lab.server.strangers = Strangers(10)
        silent = [await asyncio.open_unix_connection(lab.path) for _ in range(10)]
        await lab.come("one")
        assert await silent[0][0].read() == b""
        for _, writer in silent:
            writer.close()

    in_lab(tmp_path, story)


def test_a_device_that_leaves_fails_the_waits_for_it_unless_it_comes_again(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one, two = await lab.come("one"), await lab.come("two")
        wait = one.ask("wait", b"x", None, False)
        await one.recorded(wait)
        hosted = lab.groups.groups["group"]

        async def tidy_up(later: float) -> None:
            while any(member.connections for member in hosted.members.values() if member.closing is not None):
                await asyncio.sleep(0)
            await lab.groups.tidy_up(asyncio.get_running_loop().time() + later)

        async def leave(console: Console) -> None:
            console.group.detach(console, "ended")  # type: ignore[arg-type]
            await console.group.close()

        # One hook of it ends, another one is there or comes soon: nobody is told.
        again = await lab.come("two")
        await leave(two)
        await tidy_up(100.0)
        await leave(again)
        await tidy_up(5.0)
        again = await lab.come("two")
        await tidy_up(100.0)
        assert hosted.engine.state.coordinator.anybody_waits
        await leave(again)
        while hosted.members["two"].closing is None:
            await asyncio.sleep(0)
        await tidy_up(100.0)
        status, (sentence,) = await one.reply(wait)
        assert status == 1 and "two ended without sending 'x'" in sentence
        await leave(one)
        while hosted.members["one"].closing is None:
            await asyncio.sleep(0)
        await tidy_up(100.0)
        while not hosted.over:
            await asyncio.sleep(0)
        await tidy_up(100.0)
        assert lab.groups.groups == {} and not (tmp_path / "logs" / "group.jsonl").exists()
        assert len(list((tmp_path / "logs" / "ended").iterdir())) == 1

    in_lab(tmp_path, story)


def test_a_device_that_boots_is_told_of(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one = await lab.come("one")
        lost: list[Lost] = []
        lab.groups.readers.append(lambda name, event: lost.append(event) if isinstance(event, Lost) else None)
        one.group.lose(one, "its console shows that it boots", boots=True)  # type: ignore[arg-type]
        while not lost:
            await asyncio.sleep(0)
        assert lost[0].boots and lost[0].device == "one"

    in_lab(tmp_path, story)


@pytest.mark.parametrize("connected", [True, False])
def test_a_device_that_has_rebooted_has_no_lock_of_a_command(tmp_path: Path, connected: bool) -> None:
    async def story(lab: Lab) -> None:
        one, two = await lab.come("one"), await lab.come("two")
        assert await one.reply(one.ask("lock", b"power", True, None, False)) == (OK, [])
        wait = two.ask("lock", b"power", False, None, False)
        await two.recorded(wait)
        if not connected:
            await lab.stop()
            while not any("is lost" in text for text in lab.told):
                await asyncio.sleep(0)
        one.group.reboot(one, "the device rebooted")  # type: ignore[arg-type]
        if not connected:
            await lab.start()
        assert await two.reply(wait) == (OK, [])

    in_lab(tmp_path, story)


def test_a_cancelled_wait_is_taken_out(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one = await lab.come("one")
        wait = one.ask("wait", b"x", None, False)
        await one.recorded(wait)
        coordinator = lab.groups.groups["group"].engine.state.coordinator
        assert coordinator.anybody_waits
        one.group.cancel(wait, "killed", 0.0)
        while coordinator.anybody_waits:
            await asyncio.sleep(0)

    in_lab(tmp_path, story)


def test_reports_come_once_whatever_is_lost(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        one = await lab.come("one")
        seen: list[tuple[str | None, ...]] = []

        def note(name: str, event: object) -> None:
            if isinstance(event, Reported):
                seen.append(event.fields)

        lab.groups.readers.append(note)
        one.group.report("one", Signal("result", ("a", "pass", None, None), 0), 0.0)
        # Neither is noted: the connection is gone before anything is read.
        await lab.stop()
        one.group.report("one", Malformed(b"x\xff", "is torn", 0), 0.0)
        await lab.start()
        lab.groups.readers.append(note)
        while one.group._reports:
            await asyncio.sleep(0.01)
        assert seen == [("a", "pass", None, None), ("x\udcff", "is torn", None)]

    in_lab(tmp_path, story)


def test_nobody_there_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        group = RemoteGroup(str(tmp_path / "none"), Card("g", "d", "r", "c", "j"), bytes(8))
        with pytest.raises(GroupUnreachable, match=r"none: .*No such file"):
            await group.open()

    asyncio.run(story())


def test_the_socket_has_its_permissions_and_only_one_owner(tmp_path: Path) -> None:
    async def story(lab: Lab) -> None:
        assert stat.S_IMODE(os.stat(lab.path).st_mode) == 0o660
        with pytest.raises(Exception, match="another process serves it"):
            await GroupServer(lab.groups, print).open(lab.path)
        # One that was killed leaves its socket behind.
        await lab.server.close()
        stale = asyncio.get_running_loop()
        server = await stale.create_unix_server(asyncio.Protocol, lab.path)
        server.close()
        assert os.path.exists(lab.path)
        lab.server = GroupServer(lab.groups, lab.told.append)
        await lab.server.open(lab.path)
        await lab.come("one")

    in_lab(tmp_path, story)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        (MAX_HELLO + 1).to_bytes(4, "big"),
        b"\0\0\0\1\xc1",
        encode("heard"),
        encode("hello", 99, "g", None, "d", "r", "c", "j", bytes(8)),
        encode("hello", VERSION, "g", None, "d\n", "r", "c", "j", bytes(8)),
        b"GET / HTTP/1.1\r\n\r\n",
        encode("hello", VERSION, "g", None, "d", "r", "c", "j", bytes(8)) + encode("nonsense"),
        encode("hello", VERSION, "g", None, "d", "r", "c", "j", bytes(8))
        + encode("report", 1, "result", [], 0),
    ],
)
def test_nonsense_ends_its_own_connection_and_nothing_else(tmp_path: Path, data: bytes) -> None:
    async def story(lab: Lab) -> None:
        one = await lab.come("one")
        reader, writer = await asyncio.open_unix_connection(lab.path)
        writer.write(data)
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        assert (await one.reply(one.ask("self"))) == (OK, ["one"])

    in_lab(tmp_path, story)


MESSAGES = [
    encode("hello", VERSION, "group", 2, "device", "role", "console", "job", b"12345678"),
    encode("ask", 1, b"12345678", "send", [b"id", [b"k", b"v"]], 7),
    encode("heard"),
    encode("leave", "ended"),
]


@given(st.lists(st.sampled_from(MESSAGES)), st.data())
def test_any_chunking_gives_the_same_messages(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(messages)
    whole = Decoder(TO_GROUP).receive_data(stream)
    decoder, pieces = Decoder(TO_GROUP), []
    while stream:
        count = data.draw(st.integers(1, len(stream)))
        pieces += decoder.receive_data(stream[:count])
        stream = stream[count:]
    assert pieces == whole and len(whole) == len(messages)


@given(st.binary())
def test_any_bytes_are_messages_or_a_protocol_error(data: bytes) -> None:
    for kinds in (TO_GROUP, FROM_GROUP):
        with contextlib.suppress(ProtocolError):
            Decoder(kinds).receive_data(len(data).to_bytes(4, "big") + data)
