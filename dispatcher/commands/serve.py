# SPDX-License-Identifier: MIT
"""`lavabox serve`: the dispatcher for real devices, each behind its console."""

import argparse
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from dispatcher.consoles.opening import open_console
from dispatcher.errors import UsageError
from dispatcher.group.wording import counted
from dispatcher.host import groupoptions
from dispatcher.host.deadwatch import QuietWatch
from dispatcher.host.options import (
    HOW_TO_WRITE,
    add_fail_dead_ends,
    add_grace,
    check_fail_dead_ends,
    positive_duration,
)
from dispatcher.host.run import add_arguments, run_group
from dispatcher.host.terminalrun import Device
from dispatcher.names import check_name, check_no_duplicates

SUMMARY = "read the consoles of real devices and answer their commands"

DESCRIPTION = """\
Read the consoles of real devices, answer the lava-* commands that run there, and show
and log what the devices print, until interrupted.

A console is named by what pyserial opens (/dev/ttyUSB0, socket://HOST:PORT,
rfc2217://HOST:PORT), or by exec:COMMAND for one that a command reaches, run by /bin/sh on
a pty. A connection that is lost is tried again until it is back; a command that ends is not
started again.

With LAB.toml, serve many consoles for months, in groups, without showing what they print:
see docs/lab.md, and `lavabox status`, `ctl` and `console`.
"""

EPILOGUE = """\
exit status: 0 when interrupted or ended by SIGTERM, or when all commands of exec: ended
with 0 and no test failed; 1 when one of them did not, waits of a dead end were made to fail,
a console has no connection when --timeout is over, or a file can't be written; 2 usage.

examples:
  lavabox serve --console panda01:client=/dev/ttyUSB0 --console hb01:server=socket://localhost:7001
  lavabox serve --speed 1500000 --log-dir logs --console board:client=/dev/serial/by-id/usb-FTDI-if00-port0
  lavabox serve /etc/lavabox/lab.toml --http 127.0.0.1:8008
  lavabox serve --console vm1:server='exec:ssh -tt vm1' --console vm2:client='exec:docker exec -it vm2 sh'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "lab", metavar="LAB.toml", type=Path, nargs="?", help="serve the lab that this file describes"
    )
    parser.add_argument(
        "--http",
        metavar="HOST:PORT",
        help="with LAB.toml: serve a web page of the lab there, and metrics for Prometheus at /metrics",
    )
    parser.add_argument(
        "--console",
        metavar="NAME:ROLE=URL",
        dest="consoles",
        action="append",
        default=[],
        help="a device, its role, and how to reach its console; give it once for each device",
    )
    parser.add_argument(
        "--speed",
        metavar="BAUD",
        type=int,
        default=115200,
        help="the speed of serial ports (default: %(default)s)",
    )
    add_grace(parser)
    parser.add_argument(
        "--timeout",
        metavar="TIME",
        type=positive_duration,
        help=f"with --console: end it after this time: {HOW_TO_WRITE}",
    )
    add_fail_dead_ends(parser)
    add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted; returns the exit status. Raises UsageError or SetupError."""
    if arguments.lab is not None:
        if arguments.consoles:
            raise UsageError("give LAB.toml or --console, not both")
        if arguments.timeout is not None:
            raise UsageError("--timeout ends what --console serves; a lab is served until it is interrupted")
        _check_no_others(arguments)
        from dispatcher.lab.run import run_lab

        return run_lab(arguments.lab, arguments.http)
    if arguments.http is not None:
        raise UsageError("--http needs a lab; name its file, LAB.toml")
    if arguments.speed <= 0:
        raise UsageError(f"--speed {arguments.speed}: the speed must be more than 0")
    check_fail_dead_ends(arguments)
    devices = parse_consoles(arguments.consoles, arguments.speed)
    shared = groupoptions.is_shared(arguments)
    status = run_group(
        devices,
        arguments,
        [f"serving {counted(len(devices), 'console')}; Ctrl-C ends it"],
        must_end=False,
        timeout=arguments.timeout,
        watch=lambda engine: QuietWatch(
            engine, arguments.grace, fails=arguments.fail_dead_ends, shared=shared
        ),
    )
    return 0 if status in (128 + signal.SIGINT, 128 + signal.SIGTERM) else status


def parse_consoles(texts: Iterable[str], speed: int) -> list[Device]:
    """The devices that NAME:ROLE=URL texts name. Raises UsageError or ConsoleError."""
    devices = []
    used: dict[str, str] = {}
    for text in texts:
        head, equals, address = text.partition("=")
        name, colon, role = head.partition(":")
        if not equals or not colon or not address:
            raise UsageError(
                f"--console {text!r}: write NAME:ROLE=URL, for example panda01:client=/dev/ttyUSB0"
            )
        try:
            check_name("device", name)
            check_name("role", role)
        except UsageError as error:
            raise UsageError(f"--console {text!r}: {error}") from None
        devices.append(Device(name, role, open_console(address, speed)))
        place = os.path.realpath(address) if address.startswith("/") else address
        if used.setdefault(place, name) != name and not address.startswith(("exec:", "loop:")):
            raise UsageError(f"--console {text!r}: {used[place]} has this console already")
    if not devices:
        raise UsageError("there is no console; give at least one --console NAME:ROLE=URL")
    check_no_duplicates([device.name for device in devices])
    return devices


def _check_no_others(arguments: argparse.Namespace) -> None:
    """Raises UsageError for an option that means nothing where a lab is served."""
    parser = argparse.ArgumentParser()
    configure(parser)
    for name, default in vars(parser.parse_args([])).items():
        if name not in ("lab", "http") and getattr(arguments, name) != default:
            raise UsageError(
                f"--{name.replace('_', '-')} goes with --console; a lab has its settings in its file"
            )
