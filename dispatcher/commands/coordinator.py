# SPDX-License-Identifier: MIT
"""`lavabox coordinator`: the groups of a LAVA worker, for hooked devices and for unmodified dispatchers."""

import argparse
import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dispatcher.errors import SetupError, UsageError
from dispatcher.files import told
from dispatcher.group.wording import counted
from dispatcher.host import groupoptions
from dispatcher.host.deadwatch import QuietWatch
from dispatcher.host.groups import GroupLogs, Groups
from dispatcher.host.groupserver import GroupServer
from dispatcher.host.lavaserver import LavaServer
from dispatcher.host.listening import parse_address
from dispatcher.host.options import add_fail_dead_ends, add_grace, check_fail_dead_ends
from dispatcher.host.remotewire import CONTROL_SUFFIX, DEFAULT_SOCKET
from dispatcher.host.service import allow_descriptors, stop_event, tell
from dispatcher.host.systemd import notify
from dispatcher.lab.control import ControlServer

SUMMARY = "keep the groups of a LAVA worker, in place of lava-coordinator"

DESCRIPTION = """\
Keep the groups of devices whose consoles other processes of this machine read (`lavabox
hook`), and of LAVA's own dispatchers, which speak LAVA's coordinator protocol. A group may
have devices of both kinds. It takes the place of the lava-coordinator daemon; LAVA is not
changed.
"""

EPILOGUE = """\
exit status: 0 when interrupted or ended by SIGTERM; 1 when it can't listen or can't write
the logs; 2 usage.

examples:
  lavabox coordinator --group-log /var/lib/lavabox/groups
  lavabox coordinator --group-log nats://nats1,nats2,nats3/farm
  lavabox coordinator --socket /tmp/groups --lava 127.0.0.1:3079
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=DEFAULT_SOCKET,
        help="the socket that hooks connect to (default: %(default)s)",
    )
    parser.add_argument(
        "--socket-mode",
        metavar="MODE",
        default="660",
        help="the permissions of the socket, as chmod takes them in digits (default: %(default)s)",
    )
    parser.add_argument(
        "--control",
        metavar="PATH",
        help="the control socket, for `lavabox status` (default: the path of --socket with .control appended)",
    )
    parser.add_argument(
        "--lava",
        metavar="HOST:PORT",
        default="127.0.0.1:3079",
        help="the address that LAVA's dispatchers connect to; '' for none. Whoever reaches it may take part in every group "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--group-log",
        metavar="PLACE",
        help="keep the logs of the groups so that they outlive a restart: in a folder, or with nats://HOST,HOST/LAB on "
        "servers, where devices of other hosts are in the same groups",
    )
    groupoptions.add_server_arguments(parser)
    add_grace(parser)
    add_fail_dead_ends(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; returns the exit status. Raises UsageError or SetupError."""
    check_fail_dead_ends(arguments)
    try:
        mode = int(arguments.socket_mode, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise UsageError(f"--socket-mode {arguments.socket_mode}: permissions are digits such as 660")
    try:
        address = parse_address(arguments.lava) if arguments.lava else None
    except ValueError as error:
        raise UsageError(f"--lava {error}") from error
    try:
        if groupoptions.is_shared(arguments):
            credentials, after = arguments.group_log_credentials, arguments.purge_after
            logs = GroupLogs(None, groupoptions.shared_logs(arguments.group_log, credentials, after))
        else:
            groupoptions.check_no_servers(arguments)
            logs = GroupLogs(None if arguments.group_log is None else Path(arguments.group_log))
    except OSError as error:
        raise SetupError(f"--group-log: {told(error)}") from error
    allow_descriptors()
    groups = Groups(
        logs,
        tell,
        watch=lambda engine, unseen: QuietWatch(
            engine, arguments.grace, unseen, fails=arguments.fail_dead_ends, shared=logs.shared
        ),
    )
    control = arguments.control or f"{arguments.socket}{CONTROL_SUFFIX}"
    asyncio.run(_serve(arguments.socket, mode, control, address, groups))
    return 0


async def _serve(path: str, mode: int, control: str, address: tuple[str, int] | None, groups: Groups) -> None:
    stop = stop_event()
    lava = LavaServer(groups, tell)
    server = GroupServer(groups, tell)
    started = time.time()

    async def status(request: Mapping[str, Any]) -> Mapping[str, Any]:
        of_groups = groups.status(asyncio.get_running_loop().time())
        return {"status": {"started": started, "time": time.time(), "devices": [], "groups": of_groups}}

    control_server = ControlServer({"status": status}, None)
    await groups.open()
    try:
        await control_server.open(control)
        if address is not None:
            port = await lava.open(*address)
            tell(f"LAVA's dispatchers connect to {address[0]} port {port}")
        await server.open(path, mode)
        tell(f"hooks connect to {path}; {counted(len(groups.groups), 'group')} restored")
        notify("READY=1")
        await groups.tidy_up_until(stop)
        notify("STOPPING=1")
    finally:
        control_server.close()
        await server.close()
        await lava.close()
        await groups.close()
