# SPDX-License-Identifier: MIT
"""The commands of the box: one module each, found by name (lava-wait-all is lava_wait_all.py).

A module has USAGE, which is what --help prints, and
`run(arguments: list[str], context: Context) -> int`, the exit status.
To add a command, write its module and a line here.
"""

# Name, and what it does in one line.
COMMANDS = {
    "lava-add-keys": "let apt trust further signing keys",
    "lava-add-sources": "add package sources to apt",
    "lava-background-process-start": "run something while the test goes on",
    "lava-background-process-stop": "end what lava-background-process-start has started",
    "lava-common-functions": "shell functions, to be sourced",
    "lava-echo-config": "print what the dispatcher has for all devices",
    "lava-echo-ipv4": "print the IPv4 address of a network interface",
    "lava-group": "list the devices of the group, or those of one role",
    "lava-install-packages": "install packages",
    "lava-installed-packages": "list the packages that are installed",
    "lava-lock": "take a lock, which one device of the group has at a time",
    "lava-network": "tell the group this device's addresses, look up those of others",
    "lava-os-build": "print what system this device runs",
    "lava-probe-channel": "print the channel of the measuring probe of this device",
    "lava-probe-ip": "print the IP address of the measuring probe of this device",
    "lava-role": "print the role of this device, or the roles of all",
    "lava-self": "print the name of this device",
    "lava-send": "send a message to the group",
    "lava-start-vms": "(old) send lava_vm_start",
    "lava-sync": "wait until all devices, those of a role, or any N have come to the same point",
    "lava-target-ip": "print the IP address of this device",
    "lava-target-mac": "print the MAC address of this device",
    "lava-target-storage": "print the storage devices that a test may write to",
    "lava-test-case": "run a test and record its result, or record a known one",
    "lava-test-case-attach": "(old) keep a file with the results of a test case",
    "lava-test-case-metadata": "(gone) refused, as LAVA no longer has it",
    "lava-test-event": "note in the dispatcher's log that something has happened",
    "lava-test-feedback": "ask the dispatcher to look at another console",
    "lava-test-raise": "say that the test run cannot go on",
    "lava-test-reference": "record a result, and where to read more of it",
    "lava-test-run-attach": "(old) keep a file with the results of a test run",
    "lava-test-runner": "install and run the test definitions of a directory",
    "lava-test-set": "put the test cases that follow into a named set",
    "lava-test-shell": "run a program with a folder for its results",
    "lava-unlock": "give a lock back",
    "lava-vland-names": "(gone) refused, as LAVA no longer has it",
    "lava-vland-self": "(gone) refused, as LAVA no longer has it",
    "lava-vland-tags": "(gone) refused, as LAVA no longer has it",
    "lava-wait": "wait until any other device has sent a message, or one of several",
    "lava-wait-all": "wait until all others, those of a role, or some by name, have sent a message",
    "lava-wait-for-vms": "(old) send and wait for lava_vm_stop",
}

# Those that report, send, wait or lock.
_TELLING = (
    "lava-lock",
    "lava-send",
    "lava-sync",
    "lava-test-case",
    "lava-test-event",
    "lava-test-feedback",
    "lava-test-raise",
    "lava-test-reference",
    "lava-test-set",
    "lava-unlock",
    "lava-wait",
    "lava-wait-all",
)

# If one of these is refused for what stands on its command line, the dispatcher is told: without it a test may seem to
# have gone well.
TOLD_IF_REFUSED = (*_TELLING, "lava-network")

# Those that need nothing but their context, or say so by `context.need_device()`: the agent can run them for a thin
# client.
NEED_ONLY_CONTEXT = (
    *_TELLING,
    "lava-echo-config",
    "lava-group",
    "lava-probe-channel",
    "lava-probe-ip",
    "lava-role",
    "lava-self",
    "lava-target-ip",
    "lava-target-mac",
    "lava-target-storage",
)

# To be read by shells, which know nothing of the box: `--install` writes what it prints to a file.
SOURCED = "lava-common-functions"


def module_name(command: str) -> str:
    return command.replace("-", "_")
