# SPDX-License-Identifier: MIT
"""A connection to the servers of a lab, and the stream that holds its groups.

Of the client library only the connection is used, not its reconnection and not its view of JetStream:
what was under way on a connection ends with it, and what is to be sent again is decided in one place.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from dispatcher.grouplog import GroupLogError
from dispatcher.grouplog.nats.address import Address
from dispatcher.grouplog.nats.follower import HEARTBEAT, Arrival, Follower

# The oldest server that keeps what it has acknowledged with `sync_interval: always`: nats-server #8475.
OLDEST = (2, 15, 0)
# Seconds for one server to let us in, and for one answer.
CONNECT_TIMEOUT = 3.0
ANSWER_TIMEOUT = 3.0
# Seconds until servers that are there have to be ready: they may be choosing a leader.
START_PATIENCE = 15.0
# Seconds between two tries.
PAUSE = 0.25
# Seconds to end a connection in peace.
_CLOSE_TIMEOUT = 1.0
# A server that does not answer a ping of every second is left after three.
_PING_INTERVAL, _MAX_PINGS = 1, 2
# For how long a server remembers the identities of messages. That is only a help: the fold remembers for ever.
_DUPLICATE_WINDOW = 120 * 10**9
# Bytes of a server's messages that may wait for us, beyond which the server sends no more for the moment.
_PENDING_BYTES = 64 * 1024 * 1024

# asyncio warns of how the client library reads from TLS whenever such a connection ends.
logging.getLogger("asyncio").addFilter(lambda record: "eof_received" not in record.msg)

_NO_ANSWER = "no answer"
# Codes of JetStream's errors.
NO_STREAM = 10059
WRONG_LAST_SEQUENCE = 10071
NO_MESSAGE = 10037
_STREAM_EXISTS = 10058
_NO_PEERS = 10005
_NO_CLUSTER = 10074
# There is no leader, or the cluster is not ready or has too much to do: it comes to itself.
_TRANSIENT = {10004, 10007, 10008, 10009, 10010, 10041, 10118, 10119, 10163, 10167}
# A cluster is about to write the same message, or another first one of the group, and may yet fail to.
_TRANSIENT |= {10158, 10164}
_NO_JETSTREAM = {10035, 10039, 10076}


class Unavailable(Exception):
    """The servers did not do it now, or it is not known whether they did; the text is a clause."""


class Unreachable(Unavailable):
    """No server lets us connect.

    :param late: whether one of them is there and has not answered in time; it may be busy.
    """

    def __init__(self, text: str, *, late: bool) -> None:
        super().__init__(text)
        self.late = late


class Refused(Exception):
    """The servers won't do it; the text is a clause, `code` JetStream's own."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class _Client(Client):
    """That of the library, which would tell a server its password unencrypted if the server wants to have it so.

    :param encrypted: whether it is not to.
    """

    def __init__(self, *, encrypted: bool) -> None:
        super().__init__()
        self._encrypted = encrypted

    def _connect_command(self) -> bytes:
        if self._encrypted and not self._server_info.get("tls_required"):
            raise nats.errors.Error("it does not speak TLS, which tls:// asks for")
        command: bytes = super()._connect_command()
        return command


class Consumer:
    """What the servers send of a group. Give it to `Lab.consume`, and then to `Lab.end`.

    :param follower: tells where it begins, and whether something lacks.
    :param take: gets the payload of each message of the group.
    """

    def __init__(self, follower: Follower, take: Callable[[bytes], object]) -> None:
        self.follower = follower
        self.take = take
        # A message is missing, the connection is lost, or whoever takes wants no more; nothing is taken then.
        self.over = asyncio.Event()


class Lab:
    """One connection to the servers of a lab. It is not made anew: where it is lost, its consumers are over."""

    def __init__(self, address: Address) -> None:
        self.stream = f"lavabox-{address.lab}"
        self._address = address
        self._consumers: dict[Consumer, Subscription] = {}
        self._client = _Client(encrypted=address.encrypted)
        self._problems: list[str] = []
        self._distrust: asyncio.Future[ssl.SSLError]  # what is wrong with a certificate, theirs or ours
        # What ends a request otherwise than by its answer, and its subject.
        self._under_way: dict[asyncio.Future[Exception], str] = {}

    def subject(self, group: str) -> str:
        """That of a group's messages; "*" is all groups."""
        return self._address.subject(group)

    async def connect(self) -> None:
        """Connect to the first server that lets us in. Raises Unreachable, or GroupLogError if none ever will."""
        said = []
        late = False
        for server in self._address.servers:
            try:
                await self._connect_to(server)
                break
            except (OSError, nats.errors.Error, TimeoutError, ValueError) as error:
                why = self._why(error)
                if "authorization" in why.lower() or "authentication" in why.lower():
                    raise GroupLogError(
                        f"{server} refuses the connection: wrong or missing user, password or token ({why}); "
                        "see --group-log-credentials"
                    ) from None
                said.append(f"{server}: {why}")
                late = late or why == _NO_ANSWER
        else:
            raise Unreachable("; ".join(said), late=late)
        version = self._client.connected_server_version
        numbers = (version.major, version.minor, version.patch)
        if numbers < OLDEST:
            await self.close()
            raise GroupLogError(
                f"{server} is nats-server {'.'.join(map(str, numbers))}: before {'.'.join(map(str, OLDEST))} a server can lose what it "
                "has acknowledged (nats-server #8475); install a newer one"
            )

    async def _connect_to(self, server: str) -> None:
        credentials = self._address.credentials
        self._problems.clear()
        loop = asyncio.get_running_loop()
        self._distrust = loop.create_future()
        options: dict[str, Any] = {}
        if credentials.tls is not None:
            options["tls"] = credentials.tls
        connecting = loop.create_task(
            self._client.connect(
                f"{'tls' if self._address.encrypted else 'nats'}://{server}",
                error_cb=self._problem,
                closed_cb=self._closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                ping_interval=_PING_INTERVAL,
                max_outstanding_pings=_MAX_PINGS,
                user=credentials.user,
                password=credentials.password,
                token=credentials.token,
                # Own answers only, where the servers' permissions say so.
                inbox_prefix=f"_INBOX.{credentials.user}" if credentials.user else "_INBOX",
                name=f"lavabox {self._address.lab}",
                **options,
            )
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                # The client library tries again and again where one side does not trust the other.
                both: set[asyncio.Future[Any]] = {connecting, self._distrust}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not self._distrust.done():
                await connecting
        except BaseException:
            await self._give_up(connecting)
            raise
        if self._distrust.done():
            await self._give_up(connecting)
            raise self._distrust.result()

    async def _give_up(self, connecting: asyncio.Task[None]) -> None:
        connecting.cancel()
        self._client, failed = _Client(encrypted=self._address.encrypted), self._client
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.gather(connecting, return_exceptions=True)
                await failed.close()

    def _why(self, error: BaseException) -> str:
        if self._distrust.done():
            error = self._distrust.result()
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {error.verify_message}; see `ca` in the file of --group-log-credentials"
        if isinstance(error, ssl.SSLError):
            return (
                f"no TLS with it: {error.reason}; see `cert` and `key` in the file of --group-log-credentials"
            )
        if self._address.encrypted and isinstance(error, BrokenPipeError | ConnectionResetError):
            # What it says of a certificate that is missing can come too late to be read.
            return (
                "it ended the connection, perhaps because it wants a certificate; "
                "see `cert` and `key` in the file of --group-log-credentials"
            )
        if isinstance(error, TimeoutError | nats.errors.TimeoutError):
            return _NO_ANSWER
        if isinstance(error, nats.errors.NoServersError) and self._problems:
            return self._problems[-1]
        return _text(error)

    async def _problem(self, error: Exception) -> None:
        """The client tells of something that went wrong, perhaps of something that we may not do."""
        text = _text(error)
        self._problems = [*self._problems[-9:], text]
        if isinstance(error, ssl.SSLError) and not self._distrust.done():
            self._distrust.set_result(error)
        for end, subject in self._under_way.items():
            if not end.done() and f'"{subject.lower()}"' in text.lower():
                end.set_result(Refused(f"{text}; see docs/groups.md for what is needed"))

    async def _closed(self) -> None:
        for end in self._under_way:
            if not end.done():
                end.set_result(Unavailable("the connection is lost"))
        for consumer in self._consumers:
            consumer.over.set()

    @property
    def connected(self) -> bool:
        """Whether the connection holds, as far as it is known."""
        return self._client.is_connected

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message that the server takes."""
        return self._client.max_payload

    async def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._client.close()

    # -- requests ------------------------------------------------------------------------------

    async def _request(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer. Raises Unavailable or Refused."""
        if not self.connected:
            raise Unavailable("there is no connection to the servers")
        loop = asyncio.get_running_loop()
        end: asyncio.Future[Exception] = loop.create_future()
        self._under_way[end] = subject
        answer = loop.create_task(
            self._client.request(
                subject, payload, timeout=ANSWER_TIMEOUT, headers=dict(headers) if headers else None
            )
        )
        try:
            both: set[asyncio.Future[Any]] = {answer, end}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                raise end.result()
            body = json.loads(answer.result().data)
        except nats.errors.NoRespondersError:
            raise Unavailable("no server there answers for it: JetStream is off, or has no leader") from None
        except nats.errors.MaxPayloadError:
            raise Refused(f"it is larger than the server's max_payload of {self.max_payload} bytes") from None
        except (nats.errors.Error, OSError, ValueError, RecursionError) as error:
            raise Unavailable(f"no answer ({_text(error)})") from None
        finally:
            del self._under_way[end]
            answer.cancel()
        if not isinstance(body, dict):
            raise Refused(f"an invalid answer: {body!r:.80}")
        if (fault := body.get("error")) is not None:
            code, text = fault.get("err_code", 0), fault.get("description", "an error without description")
            raise Unavailable(text) if code in _TRANSIENT else Refused(text, code)
        return body

    async def api(self, name: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream, as in api("STREAM.INFO.x"). Raises Unavailable or Refused."""
        return await self._request(f"$JS.API.{name}", b"" if body is None else json.dumps(body).encode())

    async def publish(
        self, subject: str, payload: bytes, identity: str, *, first: bool = False
    ) -> tuple[int, bool]:
        """Append a message; returns its number in the stream, and whether it had been there already.

        Raises Refused if it is not in the log, Unavailable if that is not known.

        :param first: refuse it, with WRONG_LAST_SEQUENCE, if there is a message of this subject.
        """
        # The server knows identities by the stream, and so of all groups.
        headers = {"Nats-Msg-Id": f"{subject} {identity}", "Nats-Expected-Stream": self.stream}
        if first:
            headers["Nats-Expected-Last-Subject-Sequence"] = "0"
        answer = await self._request(subject, payload, headers)
        if answer.get("stream") != self.stream or not isinstance(answer.get("seq"), int):
            raise Refused(f"an invalid answer: {answer!r:.80}")
        return answer["seq"], bool(answer.get("duplicate"))

    # -- the stream ----------------------------------------------------------------------------

    async def check_stream(self, *, create: bool) -> dict[str, Any]:
        """Make sure that the lab's stream is there and does not forget; returns what the server knows of it.

        Raises GroupLogError or Unavailable.
        """
        try:
            try:
                return self._checked(await self.api(f"STREAM.INFO.{self.stream}"))
            except Refused as error:
                if error.code != NO_STREAM:
                    raise
                if not create:
                    raise GroupLogError(
                        f"there is no lab {self._address.lab} on {','.join(self._address.servers)}: "
                        "nothing has ever written to it"
                    ) from None
            try:
                info = await self.api(f"STREAM.CREATE.{self.stream}", self._configuration())
            except Refused as error:
                if error.code != _NO_CLUSTER:
                    raise
                info = await self.api(
                    f"STREAM.CREATE.{self.stream}", {**self._configuration(), "num_replicas": 1}
                )
            return self._checked(info)
        except Refused as error:
            if error.code == _NO_PEERS:
                # Servers that have just been started may not see each other yet.
                raise Unavailable(self._explained(error)) from None
            raise GroupLogError(self._explained(error)) from None

    def _explained(self, error: Refused) -> str:
        if error.code in _NO_JETSTREAM:
            return (
                f"the server has no JetStream for us ({error}); see `jetstream` in examples/nats/single.conf"
            )
        if error.code == _NO_PEERS:
            return f"the stream {self.stream} needs three servers that see each other: {error}"
        if error.code == _STREAM_EXISTS:
            return f"the stream {self.stream} has just been made with other settings; try again"
        return f"the stream {self.stream}: {error}"

    def _configuration(self) -> dict[str, Any]:
        return {
            "name": self.stream,
            "description": f"the groups of the lab {self._address.lab}",
            "subjects": [self.subject("*")],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "num_replicas": 3,
            "max_age": 0,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_msgs_per_subject": -1,
            "duplicate_window": _DUPLICATE_WINDOW,
        }

    def _checked(self, info: dict[str, Any]) -> dict[str, Any]:
        """Raises GroupLogError for a stream that is no lab's, or that would forget the beginning of a group."""
        found, wanted = info["config"], self._configuration()
        faults = [
            f"{name} is {found.get(name)!r}, not {wanted[name]!r}"
            for name in ("subjects", "retention", "discard", "storage")
            if found.get(name) != wanted[name]
        ]
        if found.get("max_age"):
            faults.append("max_age removes the first events of a group that is still in use; set it to 0")
        if found.get("max_msgs_per_subject", -1) > 0 and not found.get("discard_new_per_subject"):
            faults.append("max_msgs_per_subject without discard_new_per_subject forgets the oldest events")
        for name in ("no_ack", "mirror", "sources", "subject_transform", "sealed"):
            if found.get(name):
                faults.append(f"{name} is set")
        if found.get("persist_mode") == "async":
            faults.append("persist_mode is 'async', which acknowledges before it writes")
        if faults:
            raise GroupLogError(
                f"the stream {self.stream} can't hold groups: {'; '.join(faults)}. Change it, or name another lab"
            )
        return info

    async def find(self, which: Mapping[str, Any]) -> tuple[int, str, bytes]:
        """Number, subject and payload of a message. Raises Unavailable, or Refused: NO_MESSAGE, NO_STREAM.

        :param which: {"seq": NUMBER}, {"last_by_subj": SUBJECT}, ...
        """
        message = (await self.api(f"STREAM.MSG.GET.{self.stream}", which))["message"]
        return message["seq"], message["subject"], base64.b64decode(message.get("data", ""))

    async def consume(self, subject: str, consumer: Consumer) -> None:
        """Have all messages of a subject sent that the consumer's follower lacks. Raises Unavailable or Refused."""
        loop = asyncio.get_running_loop()
        follower = consumer.follower

        async def receive(message: Msg) -> None:
            if consumer.over.is_set():
                return
            headers = message.headers or {}
            arrival = follower.receive(
                message.reply, headers.get("Status"), headers.get("Nats-Last-Consumer"), loop.time()
            )
            if arrival is Arrival.EVENTS:
                consumer.take(message.data)
            elif arrival is Arrival.NOTHING:
                await self._answer(message)
            else:
                consumer.over.set()

        start = follower.begin(loop.time())
        inbox = self._client.new_inbox()
        try:
            subscription = await self._client.subscribe(
                inbox, cb=receive, pending_msgs_limit=-1, pending_bytes_limit=_PENDING_BYTES
            )
        except (nats.errors.Error, OSError) as error:
            raise Unavailable(_text(error)) from None
        self._consumers[consumer] = subscription
        name = inbox.rpartition(".")[2]
        configuration = {
            "name": name,
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "filter_subject": subject,
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT * 10**9),
            "inactive_threshold": 30 * 10**9,
        }
        try:
            await self.api(
                f"CONSUMER.CREATE.{self.stream}.{name}.{subject}",
                {"stream_name": self.stream, "config": configuration, "action": "create"},
            )
        except BaseException:
            await self.end(consumer)
            raise

    async def end(self, consumer: Consumer) -> None:
        """Have nothing sent any more."""
        consumer.over.set()
        with contextlib.suppress(nats.errors.Error, OSError, ValueError):
            if (subscription := self._consumers.pop(consumer, None)) is not None:
                await subscription.unsubscribe()

    async def _answer(self, sign: Msg) -> None:
        """Say that we are there and have kept up, if the server asks for it with this sign of life."""
        subject = sign.reply or (sign.headers or {}).get("Nats-Consumer-Stalled")
        if subject:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._client.publish(subject)


async def _nothing(lab: Lab) -> None:
    pass


async def open_lab(
    address: Address,
    *,
    create: bool,
    prepare: Callable[[Lab], Awaitable[None]] = _nothing,
) -> Lab:
    """A connection to a lab whose servers are ready, and whose stream is checked. Raises GroupLogError.

    :param create: whether to make the stream, if it is not there.
    :param prepare: what has to be done with it first; may raise Unavailable, and is then called again.
    """
    loop = asyncio.get_running_loop()
    too_late = loop.time() + START_PATIENCE
    while True:
        lab = Lab(address)
        try:
            await lab.connect()
            await lab.check_stream(create=create)
            await prepare(lab)
            return lab
        except Unreachable as error:
            if not error.late or loop.time() >= too_late:
                raise GroupLogError(f"no server of {address} can be reached: {error}") from None
        except Unavailable as error:
            await lab.close()
            if loop.time() >= too_late:
                raise GroupLogError(f"{address} is not ready: {error}") from None
        except BaseException:
            await lab.close()
            raise
        await asyncio.sleep(PAUSE)


def _text(error: BaseException) -> str:
    """What the client library says, without its prefix."""
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    text = str(error) or type(error).__name__
    return text.removeprefix("nats: ")
