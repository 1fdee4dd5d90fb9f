# SPDX-License-Identifier: MIT
"""What the dispatcher is told of its devices: their addresses, probes and storage.

A file of TOML, from which lava-target-ip and its like answer:

    [devices.panda01]
    target-ip = "192.168.1.7"
    target-mac = "02:00:00:00:00:07"
    probe-ip = "192.168.1.99"
    probe-channel = 3
    storage = { UMS = "/dev/disk/by-id/usb-x", SATA = "/dev/disk/by-id/ata-y" }

    [shared]
    text = "for all devices; what lava-echo-config prints"
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispatcher.group.toml import parse_toml

# Lines of one value that are looked at to say in which line a fault is.
_MOST_LINES = 10

_KEYS = ("target-ip", "target-mac", "probe-ip", "probe-channel")


@dataclass(frozen=True, slots=True)
class Configuration:
    """`devices` holds what `values` returns, by the device's name and the key."""

    devices: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict)
    shared: str | None = None

    def values(self, device: str, key: str) -> list[str]:
        """What is known of a device: nothing, one value, or for "target-storage" methods and ids in turn."""
        return self.devices.get(device, {}).get(key, [])


def parse_configuration(text: str) -> Configuration:
    """The configuration in a file's text. Raises ValueError, naming the line, if it is no good."""
    document = parse_toml(text)
    try:
        return _checked(document)
    except ValueError as error:
        raise ValueError(f"{error} (at line {_line_of(str(error), text)})") from None


def _line_of(fault: str, text: str) -> int:
    """Where the fault begins: the first line with which the text has it.

    Each longer beginning has it, too, so a few of them are enough to find out.
    """
    lines = text.splitlines(keepends=True)
    first, last = 1, len(lines)
    while first < last:
        middle = (first + last) // 2
        if _has(fault, lines, middle):
            last = middle
        else:
            first = middle + 1
    return last


def _has(fault: str, lines: Sequence[str], number: int) -> bool:
    """Whether so many lines have the fault; of a value that goes on in the next few, all of it."""
    for end in range(number, min(number + _MOST_LINES, len(lines)) + 1):
        try:
            _checked(tomllib.loads("".join(lines[:end])))
        except tomllib.TOMLDecodeError:
            continue
        except ValueError as error:
            return str(error) == fault
        return False
    return False


def _checked(document: dict[str, Any]) -> Configuration:
    _only("the file", document, ("devices", "shared"))
    devices = {
        name: _device(f"devices.{name}", table)
        for name, table in _table("devices", document.get("devices", {})).items()
    }
    shared = _table("shared", document.get("shared", {}))
    _only("[shared]", shared, ("text",))
    text = shared.get("text")
    if text is not None and not isinstance(text, str):
        raise ValueError(f"shared.text must be text, not {text!r:.40}")
    return Configuration(devices, text)


def _device(name: str, value: object) -> dict[str, list[str]]:
    table = _table(name, value)
    _only(f"[{name}]", table, (*_KEYS, "storage"))
    values = {key: [_line(f"{name}.{key}", table[key])] for key in _KEYS if key in table}
    storage = _table(f"{name}.storage", table.get("storage", {}))
    values["target-storage"] = [
        text
        for method, identity in storage.items()
        for text in (
            _line(f"a method of {name}.storage", method),
            _line(f"{name}.storage.{method}", identity),
        )
    ]
    return values


def _only(where: str, table: Mapping[str, object], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise ValueError(f"{where} has no key {key!r}; it can have {', '.join(known)}")


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a table, not {value!r:.40}")
    return value


def _line(name: str, value: object) -> str:
    """A value that a command prints on one line."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise ValueError(f"{name} must be text of one line, not {value!r:.40}")
    return value
