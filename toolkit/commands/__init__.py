# SPDX-License-Identifier: MIT
"""The commands of the box: one module each, found by name (lava-wait-all is lava_wait_all.py).

A module has USAGE, which is what --help prints, and
`run(arguments: list[str], context: Context) -> int`, the exit status.
To add a command, write its module, its name here, and its line in the help text of the box (box.py).
"""

COMMANDS = (
    "lava-add-keys",
    "lava-add-sources",
    "lava-background-process-start",
    "lava-background-process-stop",
    "lava-common-functions",
    "lava-echo-config",
    "lava-echo-ipv4",
    "lava-group",
    "lava-install-packages",
    "lava-installed-packages",
    "lava-lock",
    "lava-network",
    "lava-os-build",
    "lava-probe-channel",
    "lava-probe-ip",
    "lava-role",
    "lava-self",
    "lava-send",
    "lava-start-vms",
    "lava-sync",
    "lava-target-ip",
    "lava-target-mac",
    "lava-target-storage",
    "lava-test-case",
    "lava-test-case-attach",
    "lava-test-case-metadata",
    "lava-test-event",
    "lava-test-feedback",
    "lava-test-raise",
    "lava-test-reference",
    "lava-test-run-attach",
    "lava-test-runner",
    "lava-test-set",
    "lava-test-shell",
    "lava-unlock",
    "lava-vland-names",
    "lava-vland-self",
    "lava-vland-tags",
    "lava-wait",
    "lava-wait-all",
    "lava-wait-for-vms",
)

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
