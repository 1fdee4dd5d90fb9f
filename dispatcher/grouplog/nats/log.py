# SPDX-License-Identifier: MIT
"""A group log in NATS JetStream: everything that comes and goes, and when it is tried again.

Two tasks. One follows the group: it has a connection and a consumer, and makes new ones where they are
lost. The other publishes what the outbox has. Both live through everything that may become better; of what
will not, as of a log that has lost its end, whoever opened the log is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time

from dispatcher.group.events import Event, Founded, Reader
from dispatcher.group.wording import duration, enumerated
from dispatcher.grouplog import Broken, Deliver, Failed, GroupLogError, Notice, check_founding, to_line
from dispatcher.grouplog.nats import groups
from dispatcher.grouplog.nats.address import Address
from dispatcher.grouplog.nats.follower import Follower
from dispatcher.grouplog.nats.lab import (
    NO_MESSAGE,
    NO_STREAM,
    PAUSE,
    START_PATIENCE,
    WRONG_LAST_SEQUENCE,
    Consumer,
    Lab,
    Refused,
    Unavailable,
    open_lab,
)
from dispatcher.grouplog.nats.outbox import Outbox

# Seconds in which the log may stand still while it is replayed.
_REPLAY_PATIENCE = 10.0
# Seconds between looks at which groups of the lab ended long ago.
_PURGE_EVERY = 3600.0
# Seconds for the last events of a run, and those after which it is said what this waits for.
_CLOSE_PATIENCE = 20.0
_CLOSE_SILENCE = 1.0


class Purge:
    """When one of the group logs of a process removes groups of its lab that have ended.

    :param after: seconds from their ends.
    """

    def __init__(self, after: float) -> None:
        self.after = after
        self._due = -math.inf

    def take(self, now: float) -> bool:
        """Whether it is time to, and nobody else in this process has taken it."""
        if now < self._due:
            return False
        self._due = now + _PURGE_EVERY
        return True


class NatsGroupLog:
    """A group log that dispatchers on several hosts share.

    An event is in the log before it is delivered: with one server on its disk as soon as
    that syncs, with three with two of them.

    :param purge: when groups of the lab that have ended are removed; None: they are kept.
    """

    def __init__(self, address: Address, group: str, *, purge: Purge | None = None) -> None:
        self._purge = purge
        self._address = address
        self._name = f"{address.lab}/{group}"
        self._subject = address.subject(group)
        self._follower = Follower()
        self._outbox = Outbox()
        self._lab: Lab | None = None
        self._tail = ""  # a hash of the last message that came
        self._missing_since: float | None = None  # the stream, as the servers say
        self._consumer = Consumer(self._follower, self._take)
        self._stir = asyncio.Event()  # something for the publisher
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._founded: Founded | None = None
        self._error: GroupLogError | None = None

    async def open(
        self, founded: Founded, deliver: Deliver, failed: Failed, notice: Notice, broken: Broken
    ) -> None:
        """Found the group, or deliver what its log holds. Raises GroupLogError."""
        self._loop = asyncio.get_running_loop()
        self._deliver, self._failed, self._notice, self._broken = deliver, failed, notice, broken
        self._reader = Reader(notice)
        self._wanted = founded
        try:
            self._lab = await open_lab(self._address, create=True, prepare=self._found)
            self._tasks.append(self._loop.create_task(self._follow()))
            await self._replayed()
        except BaseException:
            await self._end()
            raise
        self._tasks.append(self._loop.create_task(self._publish()))
        if self._purge is not None:
            self._tasks.append(self._loop.create_task(self._remove_old(self._purge)))

    async def _found(self, lab: Lab) -> None:
        """Begin the log, if it is new. Raises GroupLogError or Unavailable."""
        founded = self._wanted
        try:
            await lab.publish(self._subject, to_line(founded), founded.identity.hex(), first=True)
        except Refused as error:
            if error.code != WRONG_LAST_SEQUENCE:
                raise GroupLogError(f"{self._name}: {error}") from None

    async def _replayed(self) -> None:
        """All that the log held has been delivered. Raises GroupLogError."""
        while not self._follower.caught_up and self._error is None:
            self._arrived.clear()
            try:
                async with asyncio.timeout(_REPLAY_PATIENCE):
                    await self._arrived.wait()
            except TimeoutError:
                raise GroupLogError(
                    f"{self._address}: the servers have stopped sending the log of {self._name}; try again"
                ) from None
        if self._error is not None:
            raise self._error

    # -- what comes ----------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Have a consumer as long as the log is open."""
        try:
            while self._error is None:
                try:
                    await self._consume()
                except Unavailable:
                    await asyncio.sleep(PAUSE)
                except Refused as error:
                    raise GroupLogError(f"{self._name}: {error}") from None
        except GroupLogError as error:
            self._break(error)

    async def _consume(self) -> None:
        """Make a consumer, and return when it is of no use any more. Raises Unavailable or Refused."""
        lab = self._lab
        if lab is None or not lab.connected:
            lab = await self._connect_again()
        await self._check_tail(lab)
        consumer = self._consumer = Consumer(self._follower, self._take)
        await lab.consume(self._subject, consumer)
        self._stir.set()
        try:
            while not consumer.over.is_set() and self._loop.time() < self._follower.next_timeout():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self._follower.next_timeout()):
                        await consumer.over.wait()
        finally:
            await lab.end(consumer)

    async def _connect_again(self) -> Lab:
        """Raises Unavailable, or GroupLogError if we are not let in any more."""
        if self._lab is not None:
            lost, self._lab = self._lab, None
            await lost.close()
        lab = Lab(self._address)
        await lab.connect()
        self._lab = lab
        return lab

    async def _check_tail(self, lab: Lab) -> None:
        """Raises GroupLogError if the servers have no longer what they gave us last."""
        if not self._follower.last:
            return
        kept = False
        try:
            _, subject, payload = await lab.find({"seq": self._follower.last})
            kept = subject == self._subject and _hash(payload) == self._tail
            self._missing_since = None
        except Refused as error:
            if error.code != NO_MESSAGE:
                self._missing_since = self._missing_since or self._loop.time()
                if error.code != NO_STREAM:
                    raise
                # Servers that have just been started may not know of the stream yet.
                if self._loop.time() < self._missing_since + START_PATIENCE:
                    raise Unavailable(str(error)) from None
        if not kept:
            raise GroupLogError(
                f"{self._name}: the servers have lost events that they had acknowledged, or the group was removed. "
                "What the devices of the group know of each other can't be trusted; begin again in a new group"
            )

    def _take(self, payload: bytes) -> None:
        """Deliver what a message of the group holds."""
        self._tail = _hash(payload)
        try:
            for line in payload.split(b"\n"):
                self._take_line(line)
        except GroupLogError as error:
            self._break(error)
        except Exception as error:
            # The client library would go on with the next message, and no event of a group may be left out.
            self._break(GroupLogError(f"{self._name}: an event could not be taken: {error!r}"))
            self._loop.call_exception_handler({"message": str(error), "exception": error})
        self._arrived.set()
        self._stir.set()

    def _take_line(self, line: bytes) -> None:
        """Raises GroupLogError for a log that can't be a group's."""
        where = f"{self._name}, message {self._follower.last}"
        if line == groups.REMOVED and self._founded is not None:
            raise GroupLogError(f"{self._name}: the group was removed by `lavabox group rm`; begin a new one")
        try:
            event = self._reader.read_line(line)
        except ValueError as error:
            sentence = f"{where}: {error}; was it written by another program?"
            if self._founded is None:
                raise GroupLogError(sentence) from None
            # One who may write there can't end the run of everybody else by it.
            self._notice(sentence)
            return
        if self._founded is None:
            if not isinstance(event, Founded):
                raise GroupLogError(f"{where}: this does not found a group; name another one, or remove it")
            check_founding(self._wanted, event, self._name)
            self._founded = event
        if event is not None:
            self._outbox.came_back(event.identity)
            self._deliver(event)

    # -- what goes -----------------------------------------------------------------------------

    def append(self, event: Event) -> None:
        """Publish the event; it comes back, or fails after half a minute."""
        if self._error is not None:
            self._failed(event.identity, str(self._error))
            return
        self._outbox.append(event.identity, to_line(event), self._loop.time())
        self._stir.set()

    async def _publish(self) -> None:
        while True:
            self._stir.clear()
            lab = self._lab
            if lab is not None and lab.connected and await self._publish_with(lab):
                continue
            for identity in self._outbox.expire(self._loop.time()):
                self._failed(identity, f"no answer of the servers for {self._address.lab}", may_come=True)
            due = self._outbox.next_timeout()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._stir.wait()

    async def _publish_with(self, lab: Lab) -> bool:
        """Publish one message; returns whether there may be more to do at once."""
        message = self._outbox.message()
        if message is None:
            return False
        try:
            sequence, _ = await lab.publish(self._subject, message.payload, message.identity)
        except Unavailable:
            await asyncio.sleep(PAUSE)
            # Else it waits for a connection.
            self._stir.set()
            return False
        except Refused as error:
            for identity in self._outbox.refused(message):
                self._failed(identity, str(error))
            return True
        self._outbox.accepted(message, sequence, self._follower.last)
        return True

    # -- groups of long ago --------------------------------------------------------------------

    async def _remove_old(self, purge: Purge) -> None:
        while True:
            try:
                if self._lab is not None and purge.take(self._loop.time()):
                    removed = await groups.purge(self._lab, time.time() - purge.after)
                    if removed:
                        ago = duration(purge.after)
                        self._notice(
                            f"removed {enumerated(removed)} of the lab {self._address.lab}: ended {ago} ago, or more"
                        )
            except Unavailable:
                pass  # there is time
            except Refused as error:
                self._notice(
                    f"groups that ended long ago are not removed from the lab {self._address.lab}: {error}"
                )
                return
            await asyncio.sleep(_PURGE_EVERY)

    # -- the end -------------------------------------------------------------------------------

    def _break(self, error: GroupLogError) -> None:
        """The log can't go on."""
        if self._error is not None:
            return
        self._error = error
        self._consumer.over.set()
        self._arrived.set()
        if len(self._tasks) > 1:
            self._broken(error)

    async def close(self) -> None:
        """Wait until what was appended has come back, a while at most; nothing is delivered afterwards."""
        began, told = self._loop.time(), False
        while not self._outbox.empty and self._error is None and self._loop.time() < began + _CLOSE_PATIENCE:
            if not told and self._loop.time() >= began + _CLOSE_SILENCE:
                told = True
                patience = duration(_CLOSE_PATIENCE)
                self._notice(
                    f"{self._name}: waiting for the servers to take the last events, up to {patience}"
                )
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await self._arrived.wait()
        if not self._outbox.empty:
            self._notice(f"{self._name}: the last events of this host are perhaps not in the group's log")
        await self._end()

    async def _end(self) -> None:
        self._consumer.over.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._lab is not None:
            await self._lab.close()


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
