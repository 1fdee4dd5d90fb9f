# SPDX-License-Identifier: MIT
"""lava-lock: have something for oneself that all devices of the group share.

The dispatcher keeps who has the lock, and who is next. With COMMAND, a process of its own
(the keeper) gives the lock back if lava-lock is killed: it waits for the end of a pipe that
only lava-lock and COMMAND hold open.
"""

from toolkit.arguments import parse, parse_message_id, parse_timeout
from toolkit.wire.vocabulary import LINK_FAILED, NO_DISPATCHER, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.context import Context

USAGE = """\
usage: lava-lock [--timeout TIME] NAME
       lava-lock [--timeout TIME] NAME -- COMMAND [ARGUMENT ...]

Wait until no other device of the group has the lock of this name, and take it. Devices
get it in the order in which they ask. The device keeps it, also over reboots, until it
calls `lava-unlock NAME` or has ended. A device that asks for a lock that it has already
goes on at once.

With COMMAND, run that, and give the lock back when COMMAND has ended (also if lava-lock
itself was killed before), or when the device reboots. One argument is shell code;
several are run as they are quoted. If the device had the lock before, it keeps it.

Options:
  --timeout TIME  give up after this time: seconds, or as in 1.5m, 2h (default: never).
                  It does not limit COMMAND
  -h, --help, --version

Environment:
  LAVA_WAIT_TIMEOUT  the default of --timeout

Exit status:
  0    the device has the lock; with COMMAND: that of COMMAND
  1    the device did not get it: timed out, or those that wait for it and the one that
       has it wait for each other
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-lock power-supply -- ./measure.sh
"""

# Seconds between the keeper's tries to give the lock back, and how many there are.
_PAUSE, _TRIES = 5.0, 720


def run(arguments: "list[str]", context: "Context") -> int:
    command = None
    if "--" in arguments:
        place = arguments.index("--")
        arguments, command = arguments[:place], arguments[place + 1 :]
        if not command or command == [""]:
            raise UsageError("a command is missing after --")
    operands, options = parse(arguments, 1, 1, ("--timeout",), context)
    name = parse_message_id(operands[0], "name of a lock")
    timeout = parse_timeout(options, context.environ)
    if command is not None:
        context.need_device()
    context.borrow("lock", name, command is not None, *timeout)
    if command is None:
        context.take()
        return OK
    from toolkit.processes import command_line, environment, run

    tell_keeper = _start_keeper(name, context)
    context.take()
    try:
        return run(command_line(command), environment(context.environ))
    finally:
        context.request("unlock-of", name, context.borrowed)
        tell_keeper()


def _start_keeper(name: bytes, context: "Context") -> "Callable[[], object]":
    """Fork the process that gives the lock back if this one is killed; returns what tells it that it need not."""
    import os

    from toolkit.console import find

    port = find(context.environ)
    # One that can't be opened by a name is found again as it was found now.
    console = context.environ.get("LAVA_CONSOLE", "") if port.inherited else port.path
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(read_end)
        # While COMMAND runs, also without us, the lock is in use.
        os.set_inheritable(write_end, True)
        return lambda: os.write(write_end, b"d")
    try:
        os.close(write_end)
        _keep(name, context.borrowed, console, read_end)
    finally:
        os._exit(0)


def _keep(name: bytes, request: bytes, console: str, pipe: int) -> None:
    import _signal
    import os
    import time

    # Of the same session: /dev/tty may be all that there is.
    os.setpgid(0, 0)
    for number in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGTERM):
        _signal.signal(number, _signal.SIG_IGN)
    # Only now: without bytecode these take long to compile, and until here ^C ends the keeper.
    from toolkit.agent import let_go_of_files
    from toolkit.client import Client

    # Whoever reads what COMMAND prints does not wait for the keeper, and the agent sees when lava-lock ends.
    # File 0 may be all that there is of the console.
    let_go_of_files({pipe, 0})
    if os.read(pipe, 1):
        return
    context = Client("lava-lock", {"LAVA_CONSOLE": console})
    for _ in range(_TRIES):
        try:
            context.request("unlock-of", name, request)
        except CommandError as error:
            if error.status in (NO_DISPATCHER, LINK_FAILED):
                time.sleep(_PAUSE)
                continue
        return
