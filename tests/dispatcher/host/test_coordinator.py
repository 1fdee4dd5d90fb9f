# SPDX-License-Identifier: MIT
"""`lavabox coordinator` as a process: LAVA's protocol, hooked devices, both in one group, restarts, hostile input."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.host.lavawire import LavaDecoder, LavaRequest, encode_response
from dispatcher.host.remote import Card, GroupRefused, RemoteGroup
from tests.dispatcher.host.coordinator_process import Coordinator
from tests.dispatcher.host.lavaclient import Job, ask, exchange, packed
from tests.dispatcher.host.test_remote import Console
from tests.dispatcher.lavabox_process import Lavabox
from toolkit.wire.vocabulary import NO, OK, ProtocolError


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    with Coordinator(tmp_path, "--group-log", str(tmp_path / "logs")) as coordinator:
        yield coordinator


def two_jobs(coordinator: Coordinator, group: str = "g") -> tuple[Job, Job]:
    one, two = Job(coordinator.port, group, "11", "server"), Job(coordinator.port, group, "12", "client")
    assert one.ask("group_data") == {"response": "wait"}
    roles = {"response": "group_data", "roles": {"11": "server", "12": "client"}}
    assert two.ask("group_data") == roles and one.ask("group_data") == roles
    return one, two


def test_jobs_send_wait_and_sync(coordinator: Coordinator) -> None:
    one, two = two_jobs(coordinator)
    assert two.ask("lava_wait", messageID="ready") == {"response": "wait"}
    assert one.send("ready", ip="10.0.0.1", text="a > b = c  d") == {"response": "ack"}
    message = {"11": {"ip": "10.0.0.1", "text": "a > b = c  d"}}
    assert two.poll("lava_wait", messageID="ready") == {"response": "ack", "message": message}
    assert one.ask("lava_sync", messageID="s")["response"] == "wait"
    assert two.poll("lava_sync", messageID="s")["response"] == "ack"
    assert one.poll("lava_sync", messageID="s")["response"] == "ack"


def test_a_sync_that_is_used_again_is_a_barrier_each_time(coordinator: Coordinator) -> None:
    one, two = two_jobs(coordinator)
    passed: list[tuple[str, int]] = []

    def loop(job: Job, name: str) -> None:
        for number in range(5):
            assert job.poll("lava_sync", messageID="loop")["response"] == "ack"
            passed.append((name, number))

    threads = [threading.Thread(target=loop, args=args) for args in ((one, "one"), (two, "two"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(passed) == sorted((name, number) for name in ("one", "two") for number in range(5))
    for index, (_, number) in enumerate(passed):
        assert abs(number - index // 2) <= 1, passed


def test_an_unknown_role_and_an_unknown_group_are_refused(coordinator: Coordinator) -> None:
    one, _ = two_jobs(coordinator)
    assert one.poll("lava_wait_all", messageID="x", waitrole="clent") == {"response": "nack"}
    assert Job(coordinator.port, "other", "1", "r").send("x") == {"response": "nack"}
    assert one.send("") == {"response": "nack"}
    assert one.send("x", text="two\nlines") == {"response": "nack"}


def test_a_job_that_ends_fails_the_waits_for_it(coordinator: Coordinator) -> None:
    """Not at once: LAVA also says so when a wait has timed out and the job goes on."""
    one, two = two_jobs(coordinator)
    assert two.ask("clear_group") == {"response": "ack"}
    assert one.ask("lava_wait", messageID="late") == {"response": "wait"}
    assert two.send("late") == {"response": "ack"}
    assert one.poll("lava_wait", messageID="late")["response"] == "ack"
    assert two.ask("clear_group") == two.ask("clear_group") == {"response": "ack"}
    assert one.send("more") == {"response": "ack"}, "one job alone has ended, however often it says so"
    assert two.ask("clear_group") == one.ask("clear_group") == {"response": "ack"}
    assert one.send("more") == {"response": "nack"}
    assert len(list((coordinator.directory / "logs" / "ended").iterdir())) == 1


def hooked(coordinator: Coordinator, device: str, role: str, group: str = "g") -> RemoteGroup:
    card = Card(group, device, role, f"board-{device}", device, 2)
    return RemoteGroup(coordinator.socket, card, os.urandom(8))


def test_a_hooked_device_and_an_unmodified_dispatcher_are_in_one_group(coordinator: Coordinator) -> None:
    async def story() -> None:
        group = hooked(coordinator, "11", "server")
        await group.open()
        console = Console(group)
        job = Job(coordinator.port, "g", "12", "client")
        answer = await asyncio.to_thread(job.poll, "group_data")
        assert answer["roles"] == {"11": "server", "12": "client"}
        wait = console.ask("wait", b"ready", None, False)
        await console.recorded(wait)
        assert await asyncio.to_thread(job.send, "ready", ip="10.0.0.2") == {"response": "ack"}
        assert await console.reply(wait) == (OK, [["12", b"ip", b"10.0.0.2"]])
        sync = console.ask("sync", b"both", None, False)
        await console.recorded(sync)
        assert (await asyncio.to_thread(job.poll, "lava_sync", messageID="both"))["response"] == "ack"
        assert await console.reply(sync) == (OK, [])
        # LAVA's own dispatcher of the hooked device asks in the same name.
        own = Job(coordinator.port, "g", "11", "server")
        assert (await asyncio.to_thread(own.ask, "group_data"))["response"] == "group_data"
        wait = console.ask("wait", b"never", None, False)
        await console.recorded(wait)
        assert await asyncio.to_thread(job.ask, "clear_group") == {"response": "ack"}
        status, (sentence,) = await console.reply(wait)
        assert status == NO and "12 ended without sending 'never'" in sentence
        await group.close()

    asyncio.run(story())


def test_dead_ends_are_told_and_fail_where_all_consoles_are_seen(tmp_path: Path) -> None:
    async def story(coordinator: Coordinator) -> None:
        groups = [hooked(coordinator, name, "r") for name in ("11", "12")]
        consoles = []
        for group in groups:
            await group.open()
            consoles.append(Console(group))
        waits = [console.ask("wait", b"never", None, False) for console in consoles]
        for console, wait in zip(consoles, waits, strict=True):
            await console.recorded(wait)
            status, (sentence,) = await console.reply(wait)
            assert status == NO and "dead end: " in sentence
        for group in groups:
            await group.close()

    with Coordinator(tmp_path, "--grace", "0.1", "--fail-dead-ends") as coordinator:
        asyncio.run(story(coordinator))
        coordinator.process.until("g: dead end: ")
        # What the devices of LAVA's own dispatchers do meanwhile nobody knows.
        one, two = two_jobs(coordinator, "of-lava")
        for job in (one, two):
            assert job.ask("lava_wait", messageID="never") == {"response": "wait"}
        coordinator.process.until("of-lava: perhaps a dead end: ")
        assert "But the consoles of 11 and 12 can't be seen here" in coordinator.process.text
        assert one.ask("lava_wait", messageID="never") == {"response": "wait"}


def test_it_shows_who_waits_for_whom(coordinator: Coordinator) -> None:
    async def story() -> None:
        group = hooked(coordinator, "11", "server")
        await group.open()
        console = Console(group)
        Job(coordinator.port, "g", "12", "client").ask("group_data")
        await console.recorded(console.ask("wait", b"ready", None, False))
        with Lavabox(
            "status", "--control", f"{coordinator.socket}.control", cwd=coordinator.directory
        ) as status:
            assert status.finish() == 0
        header, hook, other, of_group = status.text.splitlines()
        assert hook.split()[:4] == ["11", "(board-11)", "server", "g"] and " hooked " in hook
        assert "lava-wait ready for 12, " in hook
        assert other.split()[1:5] == ["(board-12)", "client", "g", "elsewhere"] and header.startswith(
            "device"
        )
        assert of_group == "group g: 2 devices; results: none"
        await group.close()

    asyncio.run(story())


def test_groups_outlive_a_coordinator_that_is_killed(coordinator: Coordinator) -> None:
    one, two = two_jobs(coordinator)
    one.send("before", k="v")
    assert one.ask("lava_sync", messageID="s") == {"response": "wait"}
    coordinator.process.interrupt(signal.SIGKILL)
    coordinator.process.finish()
    coordinator.start()
    assert "1 group restored" in coordinator.process.text
    assert two.ask("lava_wait", messageID="before") == {"response": "ack", "message": {"11": {"k": "v"}}}
    assert two.poll("lava_sync", messageID="s")["response"] == "ack"
    assert one.poll("lava_sync", messageID="s")["response"] == "ack"
    events = [
        json.loads(line) for line in (coordinator.directory / "logs" / "g.jsonl").read_text().splitlines()
    ]
    assert sum(event["type"] == "waiting" for event in events) == 2


def test_a_damaged_log_leaves_the_other_groups_alone(coordinator: Coordinator) -> None:
    one, two = two_jobs(coordinator)
    one.send("before", k="v")
    coordinator.process.interrupt(signal.SIGTERM)
    coordinator.process.finish()
    logs = coordinator.directory / "logs"
    (logs / "bad.jsonl").write_text((logs / "g.jsonl").read_text() + '{"type": "no"\n{"type":"sent"}\n')
    coordinator.start()
    assert "1 group restored" in coordinator.process.text
    assert two.ask("lava_wait", messageID="before") == {"response": "ack", "message": {"11": {"k": "v"}}}


def test_a_sync_that_was_over_when_the_coordinator_was_killed_is_over(coordinator: Coordinator) -> None:
    one, two = two_jobs(coordinator)
    assert one.ask("lava_sync", messageID="s") == {"response": "wait"}
    assert two.poll("lava_sync", messageID="s")["response"] == "ack"
    coordinator.process.interrupt(signal.SIGKILL)
    coordinator.process.finish()
    coordinator.start()
    assert one.ask("lava_sync", messageID="s")["response"] == "ack"


NONSENSE = [
    b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8",
    b"GET / HTTP/1.1\r\n\r\n",
    b"+0000x_2{}",
    b"FFFFFFFF{}",
    b"00000002[]",
    b"00000004null",
    b"00000003\xff\xff\xff",
    b"00000010{",
    b"",
    packed(request=7),
    packed(request="lava_send"),
    packed(request="group_data", group_name="g", client_name="1", role="r", group_size="many"),
    packed(request="group_data", group_name="g\n", client_name="1", role="r", group_size=2),
    packed(request="group_data", group_name="g", client_name="1", group_size=2),
    packed(request="group_data", group_name=["g"], client_name="1", role="r", group_size=2),
    b"%08X" % 200_000 + b"[" * 200_000,
]


def test_nonsense_is_refused_and_nobody_else_notices(coordinator: Coordinator) -> None:
    one, _ = two_jobs(coordinator)
    for data in NONSENSE:
        with contextlib.suppress(ConnectionError):
            answer = exchange(coordinator.port, data)
            assert answer in (b"", encode_response("nack")), data
        assert one.send("x") == {"response": "ack"}, data


def test_connections_that_are_reset_or_never_finish_hold_nobody_up(coordinator: Coordinator) -> None:
    request = packed(request="lava_send", group_name="g", client_name="11", role="server", messageID="x")
    idle = [socket.create_connection(("127.0.0.1", coordinator.port)) for _ in range(50)]
    for connection in idle[:25]:
        connection.sendall(request[:20])
    for connection in idle[25:35]:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(request)
        connection.close()
    one, two = two_jobs(coordinator)
    assert one.send("x") == {"response": "ack"}
    assert two.poll("lava_wait", messageID="x")["response"] == "ack"
    for connection in idle:
        connection.close()


def test_more_connections_than_are_allowed_push_out_the_oldest(coordinator: Coordinator) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(socket.create_connection(("127.0.0.1", coordinator.port)))
        for _ in range(2100):
            stack.enter_context(socket.create_connection(("127.0.0.1", coordinator.port)))
        one, _ = two_jobs(coordinator)
        assert one.send("x") == {"response": "ack"}
        with contextlib.suppress(ConnectionResetError):
            assert first.recv(1) == b""


def test_it_says_what_keeps_it_from_listening(coordinator: Coordinator, tmp_path: Path) -> None:
    assert stat.S_IMODE(os.stat(coordinator.socket).st_mode) == 0o660
    lava = f"127.0.0.1:{coordinator.port}"
    with Lavabox("coordinator", "--socket", "other", "--lava", lava, cwd=tmp_path) as second:
        assert second.finish() == 1
        assert "is a lava-coordinator running?" in second.text
    with Lavabox("coordinator", "--socket", coordinator.socket, "--lava", "", cwd=tmp_path) as second:
        assert second.finish() == 1
        assert "another process serves it" in second.text
    for wrong in (("--lava", "nowhere"), ("--lava", "127.0.0.1:x"), ("--socket-mode", "rw")):
        with Lavabox("coordinator", *wrong, cwd=tmp_path) as second:
            assert second.finish() == 2


def test_it_ends_well(coordinator: Coordinator) -> None:
    coordinator.process.interrupt(signal.SIGTERM)
    assert coordinator.process.finish() == 0
    assert not os.path.exists(coordinator.socket)


def test_a_full_disk_is_a_no_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A log that can't grow: what was acknowledged is there after a restart, what was not was refused."""
    with Coordinator(tmp_path, "--group-log", str(tmp_path / "logs")) as coordinator:
        one, two = two_jobs(coordinator)
        assert one.send("kept", k="v") == {"response": "ack"}
        limit = os.path.getsize(tmp_path / "logs" / "g.jsonl") + 1000
        resource.prlimit(coordinator.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        assert one.send("lost", k="v" * 2000) == {"response": "nack"}
        resource.prlimit(
            coordinator.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        assert one.send("again", k="v" * 2000) == {"response": "ack"}
        coordinator.process.interrupt(signal.SIGKILL)
        coordinator.process.finish()
        coordinator.start()
        assert two.ask("lava_wait", messageID="kept")["response"] == "ack"
        assert two.ask("lava_wait", messageID="again")["response"] == "ack"
        assert two.ask("lava_wait", messageID="lost")["response"] == "wait"


def test_a_job_of_another_id_on_the_same_board_is_refused(coordinator: Coordinator) -> None:
    async def story() -> None:
        first = RemoteGroup(coordinator.socket, Card("g", "11", "r", "board", "11", 2), bytes(8))
        await first.open()
        second = RemoteGroup(coordinator.socket, Card("h", "12", "r", "board", "12", 2), bytes(8))
        with pytest.raises(GroupRefused, match="the console board is held by job 11"):
            await second.open()
        await first.close()

    asyncio.run(story())


REQUEST = packed(
    request="lava_send",
    group_name="g",
    client_name=12,
    role="r",
    hostname="board",
    messageID="x",
    message={"k": "ä", "n": 1},
)


@given(st.data())
def test_any_chunking_gives_the_same_request(data: st.DataObject) -> None:
    decoder, rest, requests = LavaDecoder(), REQUEST, []
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        requests.append(decoder.receive_data(rest[:count]))
        rest = rest[count:]
    expected = LavaRequest(
        "lava_send", "g", "12", "r", "board", None, "x", {"k": "ä", "n": "1"}, None, "", None
    )
    assert requests == [None] * (len(requests) - 1) + [expected]


@given(st.binary() | st.binary().map(lambda data: b"%08X" % len(data) + data))
def test_any_bytes_are_a_request_or_none(data: bytes) -> None:
    with contextlib.suppress(ValueError, ProtocolError):
        LavaDecoder().receive_data(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    st.lists,
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {
            "request": st.sampled_from(
                ["group_data", "lava_send", "lava_wait_all", "aggregate", "clear_group"]
            )
        },
        optional={
            key: json_values | st.dictionaries(st.text(), json_values, max_size=3)
            for key in ("group_name", "client_name", "role", "hostname", "group_size", "messageID", "message")
        },
    )
)
def test_any_json_is_a_request_or_refused(document: dict[str, object]) -> None:
    with contextlib.suppress(ProtocolError):
        LavaDecoder().receive_data(packed(**document))


def test_the_port_takes_what_lava_takes(coordinator: Coordinator) -> None:
    """A client whose request comes in pieces, each in a packet of its own."""
    two_jobs(coordinator)
    request = packed(
        request="lava_send",
        group_name="g",
        client_name="11",
        role="server",
        messageID="x",
        message={"k": "ä" * 3000},
    )
    with socket.create_connection(("127.0.0.1", coordinator.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), 1001):
            connection.sendall(request[start : start + 1001])
        assert connection.recv(100) == encode_response("ack")
    assert ask(
        coordinator.port, request="lava_wait", group_name="g", client_name="12", role="client", messageID="x"
    )["message"] == {"11": {"k": "ä" * 3000}}
