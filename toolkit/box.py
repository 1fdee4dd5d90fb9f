# SPDX-License-Identifier: MIT
"""What the box does by itself, as `lavabox --list` or `lavabox --install`; and names that no command has."""

import sys

from . import VERSION
from .arguments import quote
from .commands import COMMANDS
from .missing import NOT_FOUND
from .wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .context import Context

    class Box(Protocol):
        """The zipapp: the path of its file, and the Python that it has bytecode for."""

        path: str
        version: str
        build: bytes


# Commands of the package for the host: people look for them here too.
HOST_COMMANDS = ("sim", "serve", "hook", "flow")

# So alike is a name to the one that was meant: letters to add, to take away, to replace or to exchange.
_SLIPS = 2

USAGE = """\
usage: lavabox COMMAND [ARGUMENT ...]
       lavabox --list
       lavabox --install [-s] DIRECTORY

The lava-* commands for test scripts on a device. They talk over its console to
the dispatcher that reads it. A link to this file, named after a command, starts
that command.

Options:
  --list                    print the names of the commands
  --install [-s] DIRECTORY  make a link for each command in DIRECTORY:
                            a hard link, or with -s a symbolic one. Into an
                            image (.../usr/bin) the box is copied, too, if it
                            is not in there
  -e FILE, -c TEXT          act as the shell with which LAVA's runner starts its run.sh
                            (SHELL=.../lavabox)
  -h, --help, --version

Commands (COMMAND --help says more):
  lava-add-keys                  let apt trust further signing keys
  lava-add-sources               add package sources to apt
  lava-background-process-start  run something while the test goes on
  lava-background-process-stop   end what lava-background-process-start has started
  lava-common-functions          shell functions, to be sourced
  lava-echo-config               print what the dispatcher has for all devices
  lava-echo-ipv4                 print the IPv4 address of a network interface
  lava-group                     list the devices of the group, or those of one role
  lava-install-packages          install packages
  lava-installed-packages        list the packages that are installed
  lava-lock                      take a lock, which one device of the group has at a time
  lava-network                   tell the group this device's addresses, look up those of others
  lava-os-build                  print what system this device runs
  lava-probe-channel             print the channel of the measuring probe of this device
  lava-probe-ip                  print the IP address of the measuring probe of this device
  lava-role                      print the role of this device, or the roles of all
  lava-self                      print the name of this device
  lava-send                      send a message to the group
  lava-start-vms                 (old) send lava_vm_start
  lava-sync                      wait until all devices, those of a role, or any N have come to the same point
  lava-target-ip                 print the IP address of this device
  lava-target-mac                print the MAC address of this device
  lava-target-storage            print the storage devices that a test may write to
  lava-test-case                 run a test and record its result, or record a known one
  lava-test-case-attach          (old) keep a file with the results of a test case
  lava-test-case-metadata        (gone) refused, as LAVA no longer has it
  lava-test-event                note in the dispatcher's log that something has happened
  lava-test-feedback             ask the dispatcher to look at another console
  lava-test-raise                say that the test run cannot go on
  lava-test-reference            record a result, and where to read more of it
  lava-test-run-attach           (old) keep a file with the results of a test run
  lava-test-runner               install and run the test definitions of a directory
  lava-test-set                  put the test cases that follow into a named set
  lava-test-shell                run a program with a folder for its results
  lava-unlock                    give a lock back
  lava-vland-names               (gone) refused, as LAVA no longer has it
  lava-vland-self                (gone) refused, as LAVA no longer has it
  lava-vland-tags                (gone) refused, as LAVA no longer has it
  lava-wait                      wait until any other device has sent a message, or one of several
  lava-wait-all                  wait until all others, those of a role, or some by name, have sent a message
  lava-wait-for-vms              (old) send and wait for lava_vm_stop

Exit status: that of the command; 1 where not all links could be made, 2 usage,
127 for an unknown command.

Example:
  lavabox --install -s /usr/local/bin && lava-self
"""


def run(arguments: "list[str]", context: "Context", box: "Box | None") -> int:
    """Carry out what the box itself does; returns the exit status. Raises UsageError, or OSError where nothing can be printed."""
    option = arguments[0] if arguments else ""
    if option == "--version":
        context.write("lavabox %s\n" % VERSION)
        if box is not None:
            ours = sys.implementation.cache_tag
            same = "this is one" if ours == box.version else "this is %s, and runs from source" % ours
            context.write("bytecode for %s; %s\n" % (box.version, same))
        return OK
    if arguments == ["--list"]:
        context.write("".join(name + "\n" for name in sorted(COMMANDS)))
        return OK
    if option == "--install":
        from .install import install

        return install(arguments[1:], context, box.path if box is not None else None)
    if option in ("-e", "-c"):
        from .lavashell import execute

        return execute(arguments, context, box.path if box is not None else None)
    if not option:
        raise UsageError("a command is missing")
    if option == "--list":
        raise UsageError("--list takes no arguments")
    raise UsageError("unknown option '%s'" % option)


def unknown(name: str, context: "Context") -> int:
    """Say that there is no command of this name, and which one may be meant; returns the exit status."""
    shown = quote(name)
    if name in HOST_COMMANDS:
        what = "%s runs on the lab's host, not on a device: it is a command of the Python package" % shown
    else:
        what = "there is no command %s" % shown
        alike = _most_alike(name)
        if alike:
            what += ": did you mean %s?" % alike
    context.complain("lavabox: %s\n`lavabox --list` prints the commands." % what)
    return NOT_FOUND


def _most_alike(name: str) -> str:
    """The command that was meant, or "" if there is none that is alike."""
    name = name.lower().replace("_", "-")[:64]
    if not name.startswith("lava-"):
        name = "lava-" + name
    slips, command = min([(_slips(name, command), command) for command in COMMANDS])
    return command if slips <= _SLIPS else ""


def _slips(one: str, other: str) -> int:
    """How many letters have to be added, taken away, replaced or exchanged with the next one."""
    before, row = [], list(range(len(other) + 1))  # type: tuple[list[int], list[int]]
    for i, letter in enumerate(one):
        new = [i + 1]
        for j, wanted in enumerate(other):
            best = min(row[j + 1] + 1, new[j] + 1, row[j] + (letter != wanted))
            if i and j and letter == other[j - 1] and one[i - 1] == wanted:
                best = min(best, before[j - 1] + 1)
            new.append(best)
        before, row = row, new
    return row[-1]
