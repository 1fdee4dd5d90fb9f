# SPDX-License-Identifier: MIT
"""Which group a run is about: where its log lives, and which devices belong to it."""

import argparse
import asyncio
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from dispatcher.errors import SetupError, UsageError
from dispatcher.files import read_text
from dispatcher.group.events import Event, Founded
from dispatcher.grouplog import GroupLog
from dispatcher.grouplog.file import FileGroupLog
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.host.options import duration
from dispatcher.names import check_name, check_no_duplicates

# Seconds that groups which have ended are kept on servers.
PURGE_AFTER = 30 * 86400.0
# More devices are no group but a mistake.
MOST_MEMBERS = 100_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say which group it is."""
    parser.add_argument(
        "--group-log",
        metavar="PLACE",
        help="where the events of the group are written: a file, a line of JSON for each event; or "
        "nats://HOST,HOST/LAB, servers that dispatchers on several hosts share",
    )
    parser.add_argument("--group", metavar="NAME", help="the name of the group on such servers")
    add_server_arguments(parser)
    add_members_arguments(parser)


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """The options about servers that hold logs."""
    add_credentials(parser)
    parser.add_argument(
        "--purge-after",
        metavar="AGE",
        type=duration,
        help="remove groups of the lab from those servers that ended longer ago than this, now and once an hour, as in "
        "90d or 12h (default: 30d; 0: never)",
    )


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """Add the option for the credentials of servers."""
    parser.add_argument(
        "--group-log-credentials",
        metavar="FILE",
        type=Path,
        help="a TOML file with the credentials for the servers of nats://: user and password, or token; ca, cert, key",
    )


def add_members_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say who belongs to the group."""
    parser.add_argument(
        "--members",
        metavar="FILE",
        type=Path,
        help="all devices of the group, also those of other hosts: a line NAME:ROLE, or ROLE*COUNT, each. Commands "
        "that need all of them wait until all have joined",
    )
    parser.add_argument(
        "--group-size", metavar="N", type=int, help="how many devices the group has, also on other hosts"
    )


def group_log(arguments: argparse.Namespace, group: str | None, *, fresh: bool = False) -> GroupLog:
    """The log that the options ask for. Raises UsageError.

    :param group: which one it is, on servers.
    :param fresh: whether a file must not hold another run.
    """
    place = arguments.group_log
    if is_shared(arguments):
        logs = shared_logs(place, arguments.group_log_credentials, arguments.purge_after)
        if group is None:
            raise UsageError(f"which group of {place}? Add --group NAME")
        return logs(group)
    check_no_servers(arguments)
    return MemoryGroupLog() if place is None else FileGroupLog(Path(place), fresh=fresh)


def check_no_servers(arguments: argparse.Namespace) -> None:
    """Raises UsageError for options about servers where there are none."""
    for option in ("group_log_credentials", "purge_after"):
        if getattr(arguments, option) is not None:
            raise UsageError(
                f"--{option.replace('_', '-')} needs --group-log nats://HOST/LAB: it is about groups on servers"
            )


def shared_logs(place: str, credentials: Path | None, purge_after: float | None) -> Callable[[str], GroupLog]:
    """What makes the logs of groups of nats://HOST/LAB, by their names. Both raise UsageError.

    :param credentials: the file of --group-log-credentials.
    :param purge_after: seconds, as --purge-after has them; None: its default.
    """
    from dispatcher.grouplog.nats.address import check_token, is_address, parse_address, read_credentials
    from dispatcher.grouplog.nats.log import NatsGroupLog, Purge

    if not is_address(place):
        raise UsageError(f"--group-log {place!r:.200}: write nats://HOST/LAB, tls://HOST/LAB, or a file")
    address, group = parse_address(place, None if credentials is None else read_credentials(credentials))
    if group is not None:
        raise UsageError(f"--group-log names a lab; write --group-log {address} --group {group}")
    after = PURGE_AFTER if purge_after is None else purge_after
    purge = Purge(after) if after else None
    return lambda name: NatsGroupLog(address, check_token("group", name), purge=purge)


def is_shared(arguments: argparse.Namespace) -> bool:
    """Whether other hosts may write to the log."""
    return arguments.group_log is not None and "://" in arguments.group_log


def log_file(arguments: argparse.Namespace) -> Path | None:
    """The file that is the log, if it is one."""
    place = arguments.group_log
    return None if place is None or is_shared(arguments) else Path(place)


def read_shared(
    place: str, credentials: Path | None, notice: Callable[[str], object]
) -> list[tuple[int, Event]]:
    """What has happened up to now in a group of nats://HOST/LAB/GROUP, with the numbers of messages.

    Raises UsageError or SetupError.

    :param credentials: the file of --group-log-credentials.
    """
    from dispatcher.grouplog.nats import groups
    from dispatcher.grouplog.nats.address import is_address, parse_address, read_credentials

    if not is_address(place):
        raise UsageError(f"{place!r:.200}: write nats://HOST[,HOST...]/LAB/GROUP")
    address, group = parse_address(place, None if credentials is None else read_credentials(credentials))
    if group is None:
        raise UsageError(
            f"which group? Write {place.rstrip('/')}/GROUP; `lavabox group list {address}` lists them"
        )
    try:
        return asyncio.run(groups.read_events(address, group, notice))
    except ValueError as error:
        raise SetupError(f"{place}, {error}") from error


def founding(arguments: argparse.Namespace) -> Founded:
    """How the group begins, if its log is new. Raises UsageError."""
    members = None if arguments.members is None else read_members(arguments.members)
    size = arguments.group_size
    if size is not None and not 1 <= size <= MOST_MEMBERS:
        raise UsageError(f"--group-size {size}: a group has 1 to {MOST_MEMBERS} devices")
    if members is not None and size not in (None, len(members)):
        raise UsageError(
            f"--group-size {size} and --members {arguments.members} with {len(members)} devices contradict each other"
        )
    return Founded(time.time(), os.urandom(8), members, size)


_COUNTED = re.compile(r"([^*:]+)(?:\*0*([1-9][0-9]{0,5}))?", re.ASCII)


def read_members(path: Path) -> tuple[tuple[str, str], ...]:
    """Names and roles of the devices that a file names. Raises UsageError with the line."""
    members: list[tuple[str, str]] = []
    try:
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            text = line.partition("#")[0].strip()
            try:
                members += _members(text) if text else []
            except UsageError as error:
                raise UsageError(f"line {number}: {error}") from None
        if not members:
            raise UsageError("it names no device")
        if len(members) > MOST_MEMBERS:
            raise UsageError(f"a group has at most {MOST_MEMBERS} devices, not {len(members)}")
        check_no_duplicates([name for name, _ in members])
    except (OSError, ValueError, UsageError) as error:
        raise UsageError(f"--members {path}: {error}") from error
    return tuple(members)


def _members(text: str) -> list[tuple[str, str]]:
    name, colon, role = text.partition(":")
    if colon:
        return [(check_name("device", name.strip()), check_name("role", role.strip()))]
    match = _COUNTED.fullmatch(text)
    if match is None:
        raise UsageError(f"write NAME:ROLE or ROLE*COUNT, not {text!r:.80}")
    role = check_name("role", match[1])
    return [(f"{role}-{number}", role) for number in range(1, int(match[2] or 1) + 1)]
