# SPDX-License-Identifier: MIT
"""`lavabox group`: the groups that servers hold for a lab."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispatcher.errors import SetupError, UsageError
from dispatcher.group.wording import columns, counted
from dispatcher.host import groupoptions
from dispatcher.host.options import duration

if TYPE_CHECKING:
    from dispatcher.grouplog.nats.address import Address
    from dispatcher.grouplog.nats.groups import Group

SUMMARY = "list and remove the groups of a lab whose dispatchers share a log"

DESCRIPTION = """\
List the groups that are on the servers of a lab, or remove some. A group ends when all its
declared devices have come and left. It is kept, to be looked at, until it is removed by this
command, or by a dispatcher of the lab (--purge-after).
"""

EPILOGUE = """\
exit status: 0 when it is done; 1 when the servers can't be reached, there is no such group,
or a group is not removed since it has not ended; 2 usage.

examples:
  lavabox group list nats://nats1,nats2,nats3/farm
  lavabox group rm nats://nats1,nats2,nats3/farm kernel-7
  lavabox group rm nats://nats1,nats2,nats3/farm --ended-for 30d
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("action", choices=("list", "rm"), help="what to do")
    parser.add_argument("lab", metavar="nats://HOST,HOST/LAB", help="the servers, and the lab")
    parser.add_argument("groups", metavar="GROUP", nargs="*", help="the groups to remove")
    parser.add_argument(
        "--ended-for",
        metavar="AGE",
        type=duration,
        help="remove all groups that have ended, and in which nothing has happened for this time, as in 30d, 12h, 90m",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="remove groups that have not ended, too; a dispatcher that is at work on one ends its run",
    )
    groupoptions.add_credentials(parser)


def run(arguments: argparse.Namespace) -> int:
    """List or remove; returns the exit status. Raises UsageError or SetupError."""
    from dispatcher.grouplog.nats import groups
    from dispatcher.grouplog.nats.address import check_token, is_address, parse_address, read_credentials

    if not is_address(arguments.lab):
        raise UsageError(f"{arguments.lab!r:.200}: write nats://HOST[,HOST...]/LAB")
    path = arguments.group_log_credentials
    address, group = parse_address(arguments.lab, None if path is None else read_credentials(path))
    if group is not None:
        raise UsageError(f"write the group apart: {address} {group}")
    wanted = [check_token("group", name) for name in arguments.groups]
    if arguments.action == "list":
        if wanted or arguments.ended_for is not None or arguments.force:
            raise UsageError("list takes the lab alone")
        _show(asyncio.run(groups.list_groups(address)))
        return 0
    if bool(wanted) == (arguments.ended_for is not None):
        raise UsageError("rm takes either the names of groups, or --ended-for AGE")
    known = {group.name: group for group in asyncio.run(groups.list_groups(address))}
    if wanted:
        for name in wanted:
            if name not in known:
                raise SetupError(f"the lab {address.lab} has no group {name}")
            if not arguments.force and not (known[name].ended and _has_ended(address, name)):
                raise SetupError(f"{name} has not ended; --force removes it all the same")
    else:
        before = time.time() - arguments.ended_for
        wanted = [
            group.name
            for group in known.values()
            if group.ended
            and group.last is not None
            and group.last <= before
            and _has_ended(address, group.name)
        ]
    for name in wanted:
        removed = asyncio.run(groups.remove(address, name))
        print(f"removed {name}: {counted(removed, 'message')}")
    return 0


def _has_ended(address: "Address", name: str) -> bool:
    from dispatcher.grouplog.nats.groups import has_ended

    try:
        return asyncio.run(has_ended(address, name))
    except ValueError:
        return False  # somebody has to look at it


def _show(groups: "Sequence[Group]") -> None:
    lines: list[tuple[str, ...]] = [("group", "state", "devices", "messages", "begun", "last event")]
    for group in groups:
        state = "ended" if group.ended else "open" if group.began is not None else "damaged"
        size = "-" if group.size is None else str(group.size)
        lines.append((group.name, state, size, str(group.messages), _time(group.began), _time(group.last)))
    print("\n".join(columns(lines)))


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
