# SPDX-License-Identifier: MIT
"""The groups of a lab from outside: which there are, what happened in one, and how to remove one."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dispatcher.group.events import Ended, Event, Founded, Reader
from dispatcher.group.state import GroupState
from dispatcher.grouplog import GroupLogError, Notice
from dispatcher.grouplog.nats.address import Address
from dispatcher.grouplog.nats.follower import Follower
from dispatcher.grouplog.nats.lab import NO_MESSAGE, Consumer, Lab, Refused, Unavailable, open_lab

# Subjects that a server tells at a time.
_PAGE = 100_000
# The last message of a group that is removed, and seconds in which those that follow it get that.
REMOVED = b'{"type":"removed"}'
_TIME_TO_HEAR = 0.5
# Groups that `purge` looks at.
_LOOKED_AT = 200
# Seconds without anything new while a log is read.
_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Group:
    """A group of a lab.

    :param messages: how many its log has; each holds one event or several.
    :param began: when it was founded, in seconds since 1970; None if its log does not say.
    :param last: when the last event was written, by that host's clock.
    :param ended: whether it has an event that says so.
    """

    name: str
    messages: int
    began: float | None
    last: float | None
    ended: bool
    size: int | None


@asynccontextmanager
async def _opened(address: Address) -> AsyncIterator[Lab]:
    lab = await open_lab(address, create=False)
    try:
        yield lab
    except (Unavailable, Refused) as error:
        raise GroupLogError(f"{address}: {error}") from None
    finally:
        await lab.close()


async def list_groups(address: Address) -> list[Group]:
    """All groups of a lab, by name. Raises GroupLogError."""
    async with _opened(address) as lab:
        return [
            await _group(lab, subject, count) for subject, count in sorted((await _subjects(lab)).items())
        ]


async def _subjects(lab: Lab) -> dict[str, int]:
    """The subjects of all groups, and how many messages each has. Raises Unavailable or Refused."""
    counts: dict[str, int] = {}
    while True:
        page = {"subjects_filter": lab.subject("*"), "offset": len(counts)}
        info = await lab.api(f"STREAM.INFO.{lab.stream}", page)
        found: dict[str, int] = info["state"].get("subjects") or {}
        counts |= found
        if len(found) < _PAGE:
            return counts


async def _group(lab: Lab, subject: str, count: int) -> Group:
    first = await _events(lab, {"next_by_subj": subject, "seq": 1})
    last = await _events(lab, {"last_by_subj": subject})
    founded = first[0] if first and isinstance(first[0], Founded) else None
    members = None if founded is None else founded.members
    return Group(
        subject.rpartition(".")[2],
        count,
        None if founded is None else founded.time,
        last[-1].time if last else None,
        any(isinstance(event, Ended) for event in last),
        None if founded is None else len(members) if members is not None else founded.size,
    )


async def _events(lab: Lab, which: dict[str, Any]) -> list[Event]:
    """The events of one message; none if it is gone or is something else."""
    try:
        number, _, payload = await lab.find(which)
        return list(_read(number, payload, Reader(_ignored)))
    except (Refused, ValueError):
        return []


def _read(number: int, payload: bytes, reader: Reader) -> Iterator[Event]:
    """The events of a message that this version knows. Raises ValueError that names the message."""
    for line in payload.split(b"\n"):
        try:
            event = reader.read_line(line)
        except ValueError as error:
            raise ValueError(f"message {number}: {error}; was it written by another program?") from None
        if event is not None:
            yield event


async def read_events(address: Address, group: str, notice: Notice) -> list[tuple[int, Event]]:
    """What has happened in a group up to now, each event with the number of its message.

    Raises GroupLogError, or ValueError that names the message if the log is damaged.
    """
    async with _opened(address) as lab:
        subject = lab.subject(group)
        try:
            end, _, _ = await lab.find({"last_by_subj": subject})
        except Refused as error:
            if error.code != NO_MESSAGE:
                raise
            raise GroupLogError(
                f"the lab {address.lab} has no group {group}; `lavabox group list {address}` lists its groups"
            ) from None
        payloads = await _fetch(lab, subject, end)
    reader = Reader(notice)
    return [(number, event) for number, payload in payloads for event in _read(number, payload, reader)]


async def _fetch(lab: Lab, subject: str, end: int) -> list[tuple[int, bytes]]:
    """The messages of a subject up to a number. Raises Unavailable or Refused."""
    loop = asyncio.get_running_loop()
    follower = Follower()
    payloads: list[tuple[int, bytes]] = []
    consumer: Consumer

    def take(payload: bytes) -> None:
        payloads.append((follower.last, payload))
        if follower.last >= end:
            consumer.over.set()

    too_late = loop.time() + _PATIENCE
    while follower.last < end:
        if loop.time() > too_late:
            raise Unavailable("the servers have stopped sending the log; try again")
        before = follower.last
        consumer = Consumer(follower, take)
        await lab.consume(subject, consumer)
        try:
            async with asyncio.timeout(_PATIENCE):
                await consumer.over.wait()
        except TimeoutError:
            pass
        finally:
            await lab.end(consumer)
        if follower.last > before:
            too_late = loop.time() + _PATIENCE
    return payloads


async def has_ended(address: Address, group: str) -> bool:
    """Whether the group is over, by all that its log holds. Raises GroupLogError, or ValueError for a damaged log."""
    return _is_over(event for _, event in await read_events(address, group, _ignored))


def _is_over(events: Iterable[Event]) -> bool:
    """Raises ValueError if this is no log of a group."""
    state = GroupState()
    for event in events:
        state.apply(event)
    return state.coordinator.ended


async def remove(address: Address, group: str) -> int:
    """Remove a group with all its events; returns how many messages these were. Raises GroupLogError.

    Dispatchers that are at work on it are told first.
    """
    async with _opened(address) as lab:
        await lab.publish(lab.subject(group), REMOVED, os.urandom(8).hex())
        await asyncio.sleep(_TIME_TO_HEAR)
        answer = await lab.api(f"STREAM.PURGE.{lab.stream}", {"filter": lab.subject(group)})
        return int(answer.get("purged", 0))


async def purge(lab: Lab, before: float) -> list[str]:
    """Remove groups that have ended, and in which nothing has happened since `before`; returns their names.

    Of a lab with many groups some are looked at, picked at random: the next call, or another host, sees to others.
    Raises Unavailable or Refused.
    """
    subjects = sorted(await _subjects(lab))
    removed = []
    for subject in random.sample(subjects, min(_LOOKED_AT, len(subjects))):
        try:
            end, _, payload = await lab.find({"last_by_subj": subject})
            last = list(_read(end, payload, Reader(_ignored)))
            if not any(isinstance(event, Ended) for event in last) or last[-1].time > before:
                continue
            # An event that ends a group does nothing where somebody has come just before.
            events = [
                event
                for number, payload in await _fetch(lab, subject, end)
                for event in _read(number, payload, Reader(_ignored))
            ]
            if not _is_over(events):
                continue
        except ValueError:
            continue  # it is no group, or damaged, and somebody has to look at it
        except Refused as error:
            if error.code == NO_MESSAGE:
                continue  # another host has removed it
            raise
        # Not what comes later: it may have been removed meanwhile, and its name founded anew.
        await lab.api(f"STREAM.PURGE.{lab.stream}", {"filter": subject, "seq": end + 1})
        removed.append(subject.rpartition(".")[2])
    return sorted(removed)


def _ignored(sentence: str) -> None:
    """What another version wrote is of no matter here."""
