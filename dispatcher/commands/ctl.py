# SPDX-License-Identifier: MIT
"""`lavabox ctl`: change a lab that is being served."""

import argparse

from dispatcher.errors import UsageError
from dispatcher.lab.config import DEFAULT_CONTROL
from dispatcher.lab.control import call

SUMMARY = "change a lab that is being served"

DESCRIPTION = """\
Change what `lavabox serve LAB.toml` serves: add, remove or restart a device, end a group, or
read the file again. What is added here is gone at the next start, and when the file is read again.
"""

EPILOGUE = """\
exit status: 0 when it is done; 1 when it can't be; 2 usage.

examples:
  lavabox ctl add panda02 console=/dev/ttyUSB1 role=client group=lab
  lavabox ctl restart panda02
  lavabox ctl end-group lab
"""

# What can be done, and what it is done to.
_ACTIONS = {"add": "device", "remove": "device", "restart": "device", "end-group": "group", "reload": None}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_control(parser)
    parser.add_argument("action", choices=list(_ACTIONS), help="what to do")
    parser.add_argument("name", metavar="NAME", nargs="?", help="the device, or the group of end-group")
    parser.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="settings of a device that is added, as in the file"
    )


def add_control(parser: argparse.ArgumentParser) -> None:
    """The option that names the control socket."""
    parser.add_argument(
        "--control",
        metavar="PATH",
        default=DEFAULT_CONTROL,
        help="the control socket of the lab (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it. Raises UsageError or SetupError."""
    action, target = arguments.action, _ACTIONS[arguments.action]
    if (target is None) != (arguments.name is None):
        raise UsageError(
            f"ctl {action} takes no name" if target is None else f"ctl {action}: name the {target}"
        )
    if arguments.settings and action != "add":
        raise UsageError(f"ctl {action} takes nothing behind the name")
    request: dict[str, object] = {"do": action}
    if target is not None:
        request[target] = arguments.name
    if action == "add":
        request["settings"] = _settings(arguments.settings)
    call(arguments.control, request)
    return 0


def _settings(texts: list[str]) -> dict[str, object]:
    settings: dict[str, object] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r}: write KEY=VALUE, for example console=/dev/ttyUSB0")
        settings[key] = int(value) if key == "speed" and value.isascii() and value.isdigit() else value
    return settings
