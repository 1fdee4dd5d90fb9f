# SPDX-License-Identifier: MIT
"""The group log in NATS with a real server: what is its own, beside what every kind of log promises."""

import asyncio
import contextlib
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from dispatcher.group.events import Ended, Event, Founded, Joined, Left, Sent, to_json
from dispatcher.group.state import GroupState
from dispatcher.grouplog import GroupLogError
from dispatcher.grouplog.nats import groups
from dispatcher.grouplog.nats import lab as lab_module
from dispatcher.grouplog.nats import log as log_module
from dispatcher.grouplog.nats.address import Address, Credentials, parse_address, read_credentials
from dispatcher.grouplog.nats.lab import Consumer, Lab, Refused, Unavailable
from dispatcher.grouplog.nats.log import NatsGroupLog
from tests.dispatcher.grouplog.natsserver import PATIENCE, NatsServer, free_ports, url
from tests.dispatcher.grouplog.proxy import Proxy

FOUNDED = Founded(0.0, b"founded")


class Host:
    """One dispatcher's log, and the group as it sees it."""

    def __init__(self, address: Address, group: str = "group", founded: Founded = FOUNDED) -> None:
        self.log = NatsGroupLog(address, group)
        self.founded = founded
        self.state = GroupState()
        self.order: list[bytes] = []  # the identities of what the fold took
        self.events: list[Event] = []  # with what came twice
        self.failed: list[tuple[bytes, str]] = []
        self.notices: list[str] = []
        self.news = asyncio.Event()
        self.broken: asyncio.Future[GroupLogError] = asyncio.get_running_loop().create_future()

    async def open(self) -> "Host":
        await self.log.open(
            self.founded, self._deliver, self._fail, self.notices.append, self.broken.set_result
        )
        return self

    def _deliver(self, event: Event) -> None:
        self.events.append(event)
        if not self.state.known(event.identity):
            self.order.append(event.identity)
        self.state.apply(event)
        self.news.set()

    def _fail(self, identity: bytes, why: str, /, *, may_come: bool = False) -> None:
        self.failed.append((identity, why))
        self.news.set()

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self.news.clear()
                await self.news.wait()

    async def has(self, *identities: bytes) -> None:
        await self.until(lambda: all(self.state.known(identity) for identity in identities))


@contextlib.asynccontextmanager
async def hosts(address: Address, count: int = 1, group: str = "group") -> AsyncIterator[list[Host]]:
    opened = []
    try:
        for _ in range(count):
            opened.append(await Host(address, group).open())
        yield opened
    finally:
        for host in opened:
            await host.log.close()


def joined(name: str, role: str = "client") -> Joined:
    return Joined(1.0, name, name.encode(), role)


def at(server: NatsServer, lab: str = "lab", credentials: Credentials | None = None) -> Address:
    return Address([server.host], lab, credentials=credentials or Credentials())


@pytest.fixture
def address(tmp_path: Path) -> Address:
    return parse_address(url(tmp_path))[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "server") as started:
        yield started


async def ask(address: Address, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    lab = Lab(address)
    await lab.connect()
    try:
        return await lab.api(name, body)
    finally:
        await lab.close()


async def publish(address: Address, payload: bytes, group: str = "group") -> None:
    lab = Lab(address)
    await lab.connect()
    try:
        await lab.check_stream(create=True)
        await lab.publish(lab.subject(group), payload, hashlib.sha256(payload).hexdigest())
    finally:
        await lab.close()


# -- what servers answer -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (10158, Unavailable),  # this message is under way already, and may get lost
        (10164, Unavailable),  # another first message of the group is under way, and may get lost
        (10008, Unavailable),  # there is no leader
        (10071, Refused),  # there is a first message
        (10077, Refused),  # the stream is full
    ],
)
def test_what_is_not_known_yet_is_not_refused(address: Address, code: int, raised: type[Exception]) -> None:
    async def test() -> None:
        lab = Lab(address)

        async def answer(message: Msg) -> None:
            await message.respond(json.dumps({"error": {"err_code": code, "description": "so"}}).encode())

        await lab.connect()
        try:
            # On the same connection, so that the server knows of it when it gets the message.
            await lab._client.subscribe(lab.subject("g"), cb=answer)
            with pytest.raises(raised, match="so"):
                await lab.publish(lab.subject("g"), b"x", "identity", first=True)
        finally:
            await lab.close()

    asyncio.run(test())


# -- several hosts -----------------------------------------------------------------------------


def test_all_hosts_see_the_same_order(address: Address) -> None:
    async def test() -> None:
        async with hosts(address, 3) as some:
            for number in range(50):
                for place, host in enumerate(some):
                    host.log.append(joined(f"{place}-{number}"))
                if number % 10 == 0:
                    await asyncio.sleep(0)
            for host in some:
                await host.until(lambda host=host: len(host.order) == 151)
            assert some[0].order == some[1].order == some[2].order
            for place in range(3):
                of_host = [one for one in some[0].order if one.startswith(b"%d-" % place)]
                assert of_host == [b"%d-%d" % (place, number) for number in range(50)]

    asyncio.run(test())


def test_one_of_many_hosts_founds_the_group(address: Address) -> None:
    async def test() -> None:
        many = [Host(address, founded=Founded(0.0, b"by-%d" % number)) for number in range(8)]
        await asyncio.gather(*(host.open() for host in many))
        assert len({host.order[0] for host in many}) == 1
        assert all(len(host.events) == 1 for host in many)
        await asyncio.gather(*(host.log.close() for host in many))

    asyncio.run(test())


def test_groups_of_a_lab_and_labs_do_not_see_each_other(address: Address) -> None:
    async def test() -> None:
        elsewhere = Address(address.servers, address.lab + "-2")
        async with (
            hosts(address, group="one") as (one,),
            hosts(address, group="two") as (two,),
            hosts(elsewhere, group="one") as (other,),
        ):
            for host in (one, two, other):
                host.log.append(joined("a"))
                await host.has(b"a")
                assert len(host.events) == 2

    asyncio.run(test())


def test_what_comes_twice_changes_nothing(address: Address) -> None:
    async def test() -> None:
        async with hosts(address) as (host,):
            host.log.append(joined("a"))
            host.log.append(Sent(2.0, "a", b"sent", b"ready", ()))
            await host.has(b"sent")
            # A message with the same events and another identity, as after the end of the window.
            again = [json.dumps(event) for event in map(to_json, host.events)]
            await publish(address, "\n".join(again).encode())
            host.log.append(joined("b"))
            await host.has(b"b")
            assert len(host.events) == 7
            assert host.order == [b"founded", b"a", b"sent", b"b"]
            assert host.state.coordinator.times_sent("a", b"ready") == 1
        async with hosts(address) as (host,):
            assert host.order == [b"founded", b"a", b"sent", b"b"]

    asyncio.run(test())


# -- faults ------------------------------------------------------------------------------------


def test_a_server_that_is_killed_and_comes_back(server: NatsServer) -> None:
    async def test() -> None:
        async with hosts(at(server), 2) as (one, two):
            one.log.append(joined("a"))
            await two.has(b"a")
            server.kill()
            one.log.append(joined("b"))
            two.log.append(joined("c"))
            server.start()
            await one.has(b"b", b"c")
            await two.has(b"b", b"c")
            assert one.order == two.order
            assert one.failed == two.failed == []

    asyncio.run(test())


def test_a_server_that_is_paused(server: NatsServer) -> None:
    async def test() -> None:
        async with hosts(at(server), 2) as (one, two):
            server.pause()
            one.log.append(joined("a"))
            lab = one.log._lab
            async with asyncio.timeout(PATIENCE):
                while lab is not None and lab.connected:
                    await asyncio.sleep(0.05)
            server.go_on()
            one.log.append(joined("b"))
            await two.has(b"a", b"b")
            await one.has(b"a", b"b")
            assert one.order == two.order == [b"founded", b"a", b"b"]

    asyncio.run(test())


def test_a_host_that_is_cut_off_for_longer_than_the_window(server: NatsServer) -> None:
    async def test() -> None:
        address = at(server)
        async with Proxy(server.port) as proxy, hosts(address) as (near,):
            stream = "lavabox-lab"
            configuration = (await ask(address, f"STREAM.INFO.{stream}"))["config"]
            await ask(address, f"STREAM.UPDATE.{stream}", {**configuration, "duplicate_window": 100_000_000})
            async with hosts(Address([f"127.0.0.1:{proxy.port}"], "lab")) as (far,):
                # What it says arrives, and the answers do not.
                proxy.deaf = True
                far.log.append(joined("far"))
                await near.has(b"far")
                assert not far.state.known(b"far")
                # Longer than the servers know what they have had.
                await asyncio.sleep(0.3)
                near.log.append(joined("near"))
                await near.has(b"near")
                proxy.cut()
                far.log.append(joined("further"))
                proxy.heal()
                await far.has(b"far", b"near", b"further")
                await near.has(b"further")
                assert near.order == far.order == [b"founded", b"far", b"near", b"further"]
                assert far.failed == []

    asyncio.run(test())


def test_what_is_not_in_the_log_in_time_has_failed(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatcher.grouplog.nats.outbox.PATIENCE", 1.0)
    monkeypatch.setattr(log_module, "_CLOSE_PATIENCE", 0.5)

    async def test() -> None:
        async with hosts(at(server)) as (host,):
            server.kill()
            host.log.append(joined("a"))
            host.log.append(joined("b"))
            await host.until(lambda: len(host.failed) == 2)
            assert host.failed == [(name, "no answer of the servers for lab") for name in (b"a", b"b")]
            # It is tried again, as the engine does.
            monkeypatch.undo()
            server.start()
            host.log.append(joined("a"))
            await host.has(b"a")

    asyncio.run(test())


def test_an_end_without_servers_says_what_it_waits_for(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "_CLOSE_PATIENCE", 1.0)
    monkeypatch.setattr(log_module, "_CLOSE_SILENCE", 0.1)

    async def test() -> None:
        async with hosts(at(server)) as (host,):
            server.kill()
            host.log.append(joined("a"))
        waiting, lost = host.notices[-2:]
        assert waiting.endswith("waiting for the servers to take the last events, up to 1.0 s")
        assert lost.endswith("the last events of this host are perhaps not in the group's log")

    asyncio.run(test())


@pytest.mark.parametrize("loss", ["tail", "all"])
def test_servers_that_have_lost_what_they_acknowledged(server: NatsServer, tmp_path: Path, loss: str) -> None:
    async def test() -> None:
        async with hosts(at(server)) as (host,):
            host.log.append(joined("a"))
            await host.has(b"a")
            server.kill()
            store = tmp_path / "server" / "jetstream"
            if loss == "tail":
                shutil.copytree(store, tmp_path / "kept")
                server.start()
                host.log.append(joined("b"))
                await host.has(b"b")
                server.kill()
            shutil.rmtree(store)
            if loss == "tail":
                shutil.copytree(tmp_path / "kept", store)
            server.start()
            if loss == "all":
                await ask(at(server), "STREAM.CREATE.lavabox-lab", configuration(at(server)))
            error = await asyncio.wait_for(host.broken, PATIENCE)
            assert "lab/group: the servers have lost events that they had acknowledged" in str(error)
            host.log.append(joined("c"))
            assert host.failed[-1][0] == b"c"

    asyncio.run(test())


@pytest.mark.parametrize("how", ["stream", "group"])
def test_what_is_removed_while_a_host_is_at_work(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(log_module, "START_PATIENCE", 0.5)
    monkeypatch.setattr("dispatcher.grouplog.nats.follower.SILENCE", 1.0)

    async def test() -> None:
        async with hosts(at(server)) as (host,):
            host.log.append(joined("a"))
            await host.has(b"a")
            if how == "stream":
                await ask(at(server), "STREAM.DELETE.lavabox-lab")
            else:
                assert await groups.remove(at(server), "group") == 3
            sentence = str(await asyncio.wait_for(host.broken, PATIENCE))
            assert "or the group was removed" in sentence or "was removed by `lavabox group rm`" in sentence
            host.log.append(joined("b"))
            assert host.failed == [(b"b", sentence)]
        # Its name is free again.
        again = await Host(at(server), founded=Founded(0.0, b"anew")).open()
        assert again.order == [b"anew"]
        await again.log.close()

    asyncio.run(test())


def configuration(address: Address) -> dict[str, Any]:
    return {**Lab(address)._configuration(), "num_replicas": 1}


def test_a_stream_that_is_full(server: NatsServer) -> None:
    async def test() -> None:
        address = at(server)
        limits = {"max_msgs_per_subject": 2, "discard_new_per_subject": True}
        await ask(address, "STREAM.CREATE.lavabox-lab", {**configuration(address), **limits})
        async with hosts(address) as (full,), hosts(address, group="other") as (other,):
            full.log.append(joined("a"))
            await full.has(b"a")
            full.log.append(joined("b"))
            await full.until(lambda: full.failed)
            assert full.failed == [(b"b", "maximum messages per subject exceeded")]
            other.log.append(joined("b"))
            await other.has(b"b")

    asyncio.run(test())


def test_a_host_that_is_slow(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # A little more than a message: the client library drops what comes beyond that.
    monkeypatch.setattr(lab_module, "_PENDING_BYTES", 70_000)

    async def test() -> None:
        async with hosts(at(server)) as (one,):
            one.log.append(joined("a"))
            for number in range(200):
                one.log.append(Sent(2.0, "a", b"%d" % number, b"x" * 20_000, ()))
            await one.until(lambda: len(one.order) == 202)
            begun = []
            consume = lab_module.Lab.consume

            async def counted(lab: Lab, subject: str, consumer: Consumer) -> None:
                begun.append(consumer)
                await consume(lab, subject, consumer)

            monkeypatch.setattr(lab_module.Lab, "consume", counted)
            two = await Host(at(server)).open()
            assert two.order == one.order
            # It began anew, as something was dropped.
            assert len(begun) > 1
            await two.log.close()

    asyncio.run(test())


# -- groups that have ended --------------------------------------------------------------------


async def end(address: Address, group: str, time: float) -> None:
    """A group of one device that came and left."""
    host = await Host(address, group, Founded(time, b"founded", (("a", "client"),))).open()
    for event in (joined("a"), Left(time, "a", b"left", "ended"), Ended(time, b"end")):
        host.log.append(event)
    await host.has(b"end")
    await host.log.close()


def test_groups_that_ended_long_ago_are_removed_and_no_living_one(address: Address) -> None:
    now = time.time()

    async def test() -> None:
        await end(address, "old", now - 7200)
        await end(address, "young", now - 60)
        await end(address, "revived", now - 7200)
        # What ends a group does nothing where somebody has come before it, whom its host had not seen.
        async with hosts(address, group="overtaken") as (host,):
            for event in (joined("a"), Left(1.0, "a", b"left", "ended"), Ended(1.0, b"end")):
                host.log.append(event)
            await host.has(b"end")
            assert not host.state.coordinator.ended
        async with hosts(address, group="open") as (host,):
            host.log.append(joined("a"))
            await host.has(b"a")
        await publish(address, b"hello", "foreign")
        log = NatsGroupLog(address, "new", purge=log_module.Purge(3600.0))
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await log.open(
            FOUNDED, lambda event: None, lambda *_, **__: None, told.set_result, told.set_exception
        )
        assert await asyncio.wait_for(told, PATIENCE) == (
            f"removed old and revived of the lab {address.lab}: ended 1 h ago, or more"
        )
        await log.close()
        left = [group.name for group in await groups.list_groups(address)]
        assert left == ["foreign", "new", "open", "overtaken", "young"]

    asyncio.run(test())


# -- TLS ---------------------------------------------------------------------------------------


def openssl(folder: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ca` has signed those of `server` and `host`; `other` is another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name in ("ca", "other"):
        openssl(
            folder,
            "req",
            "-x509",
            *key,
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
        )
    (folder / "names").write_text("subjectAltName = IP:127.0.0.1")
    for name in ("server", "host"):
        openssl(folder, "req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(
            folder,
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-extfile", "names", "-out", f"{name}.pem"),
        )
    return folder


def test_tls(certificates: Path, tmp_path: Path) -> None:
    settings = f"""\
tls {{
  cert_file: "{certificates}/server.pem"
  key_file: "{certificates}/server.key"
  ca_file: "{certificates}/ca.pem"
  verify: true
}}
"""

    def with_credentials(text: str, *, scheme: str = "tls", host: str = "127.0.0.1") -> Address:
        file = certificates / "credentials.toml"
        file.write_text(text)
        return parse_address(f"{scheme}://{host}:{server.port}/lab", read_credentials(file))[0]

    known = 'ca = "ca.pem"\n'
    ours = 'cert = "host.pem"\nkey = "host.key"\n'
    with NatsServer(tmp_path / "server", settings=settings) as server:

        async def test(address: Address, group: str) -> None:
            async with hosts(address, 2, group) as (one, two):
                one.log.append(joined("a"))
                await two.has(b"a")

        asyncio.run(test(with_credentials(known + ours), "one"))
        # The server wants it, whatever the address says.
        asyncio.run(test(with_credentials(known + ours, scheme="nats"), "two"))
        # Whom we do not know, or whose name is another one; who does not know us.
        for address, sentence in (
            (
                with_credentials(ours),
                "its certificate is not trusted: unable to get local issuer certificate; see `ca`",
            ),
            (
                with_credentials('ca = "other.pem"\n' + ours),
                "its certificate is not trusted: unable to get local issuer",
            ),
            (
                with_credentials(known + ours, host="localhost"),
                "its certificate is not trusted: Hostname mismatch",
            ),
            (with_credentials(known), "see `cert` and `key` in the file of --group-log-credentials"),
            (at(server), "its certificate is not trusted: unable to get local issuer certificate; see `ca`"),
        ):
            told = refused(address)
            assert sentence in told, told
    with NatsServer(tmp_path / "plain") as server:
        told = refused(with_credentials(known))
        assert told.endswith("it does not speak TLS, which tls:// asks for"), told


# -- bad input ---------------------------------------------------------------------------------


def refused(address: Address, founded: Founded = FOUNDED) -> str:
    """Why a log can't be opened."""

    async def test() -> str:
        host = Host(address, founded=founded)
        with pytest.raises(GroupLogError) as caught:
            await host.open()
        assert len(asyncio.all_tasks()) == 1
        return str(caught.value)

    return asyncio.run(test())


def test_no_server(capfd: pytest.CaptureFixture[str]) -> None:
    one, two = free_ports(2)
    address, _ = parse_address(f"nats://127.0.0.1:{one},127.0.0.1:{two}/lab")
    assert refused(address) == (
        f"no server of {address} can be reached: 127.0.0.1:{one}: nobody listens there; "
        f"127.0.0.1:{two}: nobody listens there"
    )
    assert capfd.readouterr() == ("", "")


def test_the_first_server_is_down(server: NatsServer) -> None:
    async def test() -> None:
        async with hosts(Address([f"127.0.0.1:{free_ports(1)[0]}", server.host], "lab")) as (host,):
            assert host.order == [b"founded"]

    asyncio.run(test())


def test_a_server_that_does_not_answer(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_module, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(lab_module, "START_PATIENCE", 1.0)
    server.pause()
    assert refused(at(server)) == f"no server of {at(server)} can be reached: {server.host}: no answer"


def test_a_connection_that_is_lost_while_starting(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, check = 0, Lab.check_stream

    async def test() -> None:
        async with Proxy(server.port) as proxy:

            async def lose_it(lab: Lab, *, create: bool) -> dict[str, Any]:
                nonlocal checked
                checked += 1
                if checked == 1:
                    proxy.cut()
                    proxy.heal()
                return await check(lab, create=create)

            monkeypatch.setattr(Lab, "check_stream", lose_it)
            async with hosts(Address([f"127.0.0.1:{proxy.port}"], "lab")) as (host,):
                assert host.order == [b"founded"]
                assert checked == 2

    asyncio.run(test())


def test_something_else_that_listens() -> None:
    async def test() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            writer.close()

        other = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(GroupLogError, match=f"127.0.0.1:{port}: "):
            await Host(Address([f"127.0.0.1:{port}"], "lab")).open()
        other.close()

    asyncio.run(test())


def test_credentials(tmp_path: Path) -> None:
    settings = "authorization { user: panda, password: bamboo }\n"
    file = tmp_path / "credentials"
    with NatsServer(tmp_path / "server", settings=settings) as server:
        for text in ("", 'user = "panda"\npassword = "leaves"', 'token = "bamboo"'):
            file.write_text(text)
            sentence = refused(at(server, credentials=read_credentials(file)))
            assert sentence.startswith(f"{server.host} refuses the connection: wrong or missing user")
        file.write_text('user = "panda"\npassword = "bamboo"\n')

        async def test() -> None:
            async with hosts(at(server, credentials=read_credentials(file))) as (host,):
                host.log.append(joined("a"))
                await host.has(b"a")

        asyncio.run(test())


def test_a_server_without_jetstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_module, "START_PATIENCE", 0.5)
    with NatsServer(tmp_path / "server", jetstream=False) as server:
        assert "JetStream is off, or has no leader" in refused(at(server))


def test_servers_that_do_not_see_each_other_yet_are_waited_for(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that have just been started: what three of them answer for a moment is played here."""
    created, api = 0, Lab.api

    async def refuse_once(lab: Lab, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        nonlocal created
        if name.startswith("STREAM.CREATE."):
            created += 1
            if created == 1:
                raise Refused("no suitable peers for placement, peer offline", lab_module._NO_PEERS)
        return await api(lab, name, body)

    async def test() -> None:
        async with hosts(at(server)) as (host,):
            assert host.order == [b"founded"]

    monkeypatch.setattr(Lab, "api", refuse_once)
    asyncio.run(test())
    assert created > 1


def test_servers_that_never_see_each_other(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(lab: Lab, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        code = lab_module._NO_PEERS if name.startswith("STREAM.CREATE.") else lab_module.NO_STREAM
        raise Refused("no suitable peers for placement", code)

    monkeypatch.setattr(Lab, "api", refuse)
    monkeypatch.setattr(lab_module, "START_PATIENCE", 0.5)
    assert "is not ready: the stream lavabox-" in (sentence := refused(at(server)))
    assert "needs three servers that see each other: no suitable peers" in sentence


def test_an_account_without_jetstream(tmp_path: Path) -> None:
    settings = "accounts { other: { users: [{user: a, password: b}] } }\n"
    with NatsServer(tmp_path / "server", settings=settings) as server:
        sentence = refused(at(server, credentials=Credentials("a", "b")))
        assert "has no JetStream for us" in sentence


def test_an_old_server() -> None:
    async def test() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            info = {
                "server_id": "x",
                "version": "2.14.5",
                "max_payload": 1_000_000,
                "headers": True,
                "proto": 1,
            }
            writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
            writer.close()

        old = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = old.sockets[0].getsockname()[1]
        with pytest.raises(
            GroupLogError, match=r"is nats-server 2\.14\.5: before 2\.15\.0 .* install a newer"
        ):
            await Host(Address([f"127.0.0.1:{port}"], "lab")).open()
        old.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"max_age": 10**12},
            "max_age removes the first events of a group that is still in use; set it to 0",
        ),
        ({"discard": "old"}, "discard is 'old', not 'new'"),
        ({"subjects": ["lab.lab.*", "diary"]}, "subjects is"),
        ({"retention": "workqueue"}, "retention is 'workqueue'"),
        ({"storage": "memory"}, "storage is 'memory'"),
        ({"no_ack": True}, "no_ack is set"),
    ],
    ids=["max_age", "discard", "subjects", "retention", "memory", "no_ack"],
)
def test_a_stream_with_other_settings(server: NatsServer, settings: dict[str, object], sentence: str) -> None:
    address = at(server)
    asyncio.run(ask(address, "STREAM.CREATE.lavabox-lab", {**configuration(address), **settings}))
    told = refused(address)
    assert told.startswith("the stream lavabox-lab can't hold groups: ") and sentence in told
    assert told.endswith("Change it, or name another lab")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"hello", "lab/group, message 1: this is no event of a group"),
        (b'{"type":"joined","time":1,"device":"a","identity":"61","role":"c"}', "does not found a group"),
        (b'{"type":"split"}', "does not found a group"),
    ],
    ids=["text", "no beginning", "unknown kind"],
)
def test_a_subject_that_holds_something_else(server: NatsServer, content: bytes, sentence: str) -> None:
    asyncio.run(publish(at(server), content))
    assert sentence in refused(at(server))


def test_foreign_content_in_a_living_group_is_told_and_passed_over(address: Address) -> None:
    async def test() -> None:
        async with hosts(address) as (host,):
            await publish(address, b"hello")
            await publish(address, b'{"type":"split","time":1.0}')
            host.log.append(joined("a"))
            await host.has(b"a")
            assert len(host.notices) == 2
            assert "message 2: this is no event of a group" in host.notices[0].replace(
                "message 3", "message 2"
            )
            assert host.notices[1].startswith("events of the kind 'split' are ignored")

    asyncio.run(test())


def test_what_another_version_writes_is_passed_over_and_said_once(address: Address) -> None:
    async def test() -> None:
        async with hosts(address, 2) as (one, two):
            newer = [
                {**to_json(joined("a")), "colour": "red"},
                {"type": "split", "time": 1.0, "device": "a"},
                {**to_json(Sent(2.0, "a", b"sent", b"x", ())), "colour": "blue", "weight": 7},
                {"type": "split", "time": 2.0, "device": "a"},
                {**to_json(Sent(3.0, "a", b"sent again", b"x", ())), "weight": 8},
            ]
            for event in newer:
                await publish(address, json.dumps(event).encode())
            two.log.append(joined("b"))
            for host in (one, two):
                await host.has(b"b")
                assert host.order == [b"founded", b"a", b"sent", b"sent again", b"b"]
                ends = "ignored: another version of lavabox wrote them"
                assert host.notices == [
                    f"the field 'colour' of joined events are {ends}",
                    f"events of the kind 'split' are {ends}",
                    f"the field 'colour' of sent events are {ends}",
                    f"the field 'weight' of sent events are {ends}",
                ]

    asyncio.run(test())


def test_an_event_that_is_too_large_for_the_server(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "server", settings="max_payload: 2000\n") as server:

        async def test() -> None:
            async with hosts(at(server)) as (host,):
                host.log.append(joined("a"))
                host.log.append(Sent(2.0, "a", b"large", b"x" * 3000, ()))
                host.log.append(joined("b"))
                await host.has(b"b")
                await host.until(lambda: host.failed)
                assert host.failed[0][1] == "it is larger than the server's max_payload of 2000 bytes"

        asyncio.run(test())


def test_a_group_that_has_ended_takes_nobody_in(address: Address) -> None:
    async def test() -> None:
        founded = Founded(0.0, b"founded", (("a", "client"),))
        host = await Host(address, founded=founded).open()
        for event in (joined("a"), Left(2.0, "a", b"left", "ended"), Ended(3.0, b"end")):
            host.log.append(event)
        await host.has(b"end")
        assert host.state.coordinator.ended
        with pytest.raises(ValueError, match="has ended"):
            host.state.apply(joined("b"))
        await host.log.close()

    asyncio.run(test())
