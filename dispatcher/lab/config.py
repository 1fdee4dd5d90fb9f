# SPDX-License-Identifier: MIT
"""The file that describes a lab, in TOML. No I/O.

log-dir = "/var/log/lavabox"        # NAME.log as printed, NAME.time.log with time stamps
log-size = 64                       # MiB, after which a log is put aside
log-keep = 4                        # how many of those are kept
group-log = "/var/lib/lavabox/groups"
purge-after = 30                    # days after which a group that has ended is removed from servers; 0: never
control = "/run/lavabox/control"    # for lavabox ctl, console and status
http = "127.0.0.1:8008"
socket = "/run/lavabox/coordinator" # for lavabox hook
lava = "127.0.0.1:3079"             # for LAVA's dispatchers
grace = 60                          # seconds of silence until it is said that a group is in a dead end; 0: never
fail-dead-ends = false              # whether its waits fail then
device-config = "devices.toml"

[groups.lab]
size = 2

[devices.panda01]
console = "/dev/ttyUSB0"
speed = 115200
role = "client"
group = "lab"
tcp = "127.0.0.1:4001"              # the clean console, to read and to write
telnet = "127.0.0.1:4002"           # the same, for telnet
watch = "127.0.0.1:4003"            # to read alone
pty = "/run/lavabox/panda01"        # a link to a terminal
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from dispatcher.errors import UsageError
from dispatcher.group.toml import parse_toml
from dispatcher.names import check_name

DEFAULT_CONTROL = "/run/lavabox/control"
DEFAULT_GROUP = "lab"
# Seconds or days, more than which are a slip.
_LONGEST = 1e9
# What numbers mean that are no seconds.
_UNITS = {"purge-after": "days"}


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A device of the lab; addresses are HOST:PORT, "" where there is none."""

    name: str
    console: str
    role: str = "device"
    group: str = DEFAULT_GROUP
    speed: int = 115200
    tcp: str = ""
    telnet: str = ""
    watch: str = ""
    pty: str = ""


@dataclass(frozen=True, slots=True)
class LabConfig:
    """A lab. What it is called in the file has dashes for underscores.

    `grace` is for how many seconds all devices of a group have to wait in silence until that is called a dead end;
    0: it never is. `fail_dead_ends` is whether their waits fail then.
    """

    log_dir: str = ""
    log_size: int = 64
    log_keep: int = 4
    group_log: str = ""
    group_log_credentials: str = ""
    purge_after: float = 30.0
    control: str = DEFAULT_CONTROL
    http: str = ""
    socket: str = ""
    lava: str = ""
    device_config: str = ""
    grace: float = 60.0
    fail_dead_ends: bool = False
    sizes: Mapping[str, int] = field(default_factory=dict)
    devices: Mapping[str, DeviceConfig] = field(default_factory=dict)


class _Fault(Exception):
    def __init__(self, sentence: str, *path: str) -> None:
        super().__init__(sentence)
        self.path = path


_LAB_KEYS = {
    item.name.replace("_", "-"): item for item in fields(LabConfig) if item.name not in ("sizes", "devices")
}
_DEVICE_KEYS = {item.name: item for item in fields(DeviceConfig) if item.name != "name"}


def parse_lab(text: str, name: str) -> LabConfig:
    """The lab that a file describes. Raises UsageError, naming the file, the line, and what may have been meant.

    :param name: of the file.
    """
    try:
        document = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    try:
        return _lab(document)
    except _Fault as fault:
        raise UsageError(f"{name}, line {_line_of(text, fault.path)}: {fault}") from None


def device_config(name: str, table: Mapping[str, Any]) -> DeviceConfig:
    """A device of `lavabox ctl add`. Raises UsageError."""
    try:
        return _device(name, table)
    except _Fault as fault:
        raise UsageError(str(fault)) from None


def _lab(document: dict[str, Any]) -> LabConfig:
    _check_keys(document, (*_LAB_KEYS, "groups", "devices"), ())
    values: dict[str, Any] = {
        _LAB_KEYS[key].name: _value(value, _LAB_KEYS[key].type, key)
        for key, value in document.items()
        if key in _LAB_KEYS
    }
    sizes = {}
    for name, table in _tables(document, "groups"):
        _check_keys(table, ("size",), ("groups", name))
        if "size" in table:
            sizes[name] = _value(table["size"], int, "groups", name, "size")
    devices = {name: _device(name, table) for name, table in _tables(document, "devices")}
    for where in ("tcp", "telnet", "watch", "pty"):
        _check_unique(devices.values(), where)
    return LabConfig(**values, sizes=sizes, devices=devices)


def _check_unique(devices: Iterable[DeviceConfig], key: str) -> None:
    seen: dict[str, str] = {}
    for device in devices:
        address = getattr(device, key)
        if address and address in seen:
            raise _Fault(f"{seen[address]} has the {key} {address} already", "devices", device.name, key)
        seen[address] = device.name


def _device(name: str, table: Mapping[str, Any]) -> DeviceConfig:
    path = ("devices", name)
    _check_keys(table, tuple(_DEVICE_KEYS), path)
    if "console" not in table:
        raise _Fault(f'{name} has no console; write console = "/dev/ttyUSB0" or a URL', *path)
    values = {key: _value(value, _DEVICE_KEYS[key].type, *path, key) for key, value in table.items()}
    device = DeviceConfig(name, **values)
    try:
        check_name("device", name)
    except UsageError as error:
        raise _Fault(str(error), *path) from None
    for kind in ("role", "group"):
        try:
            check_name(kind, getattr(device, kind))
        except UsageError as error:
            raise _Fault(str(error), *path, kind) from None
    return device


def _tables(document: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise _Fault(f"{key} is a table; write [{key}.NAME]", key)
    for name, table in value.items():
        if not isinstance(table, dict):
            raise _Fault(f"{key}.{name} is a table; write [{key}.{name}]", key, name)
    return list(value.items())


def _value(value: object, kind: object, *path: str) -> Any:
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise _Fault(f"{'.'.join(path)} is a positive whole number, not {value!r:.40}", *path)
    elif kind is float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _LONGEST:
            unit = _UNITS.get(path[-1], "seconds")
            raise _Fault(f"{'.'.join(path)} is a number of {unit}, not {value!r:.40}", *path)
    elif kind is bool:
        if not isinstance(value, bool):
            raise _Fault(f"{'.'.join(path)} is true or false, not {value!r:.40}", *path)
    elif not isinstance(value, str) or not value or "\0" in value:
        raise _Fault(f"{'.'.join(path)} is a text, not {value!r:.40}", *path)
    return value


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], path: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            meant = get_close_matches(key, known, 1, 0.6)
            hint = f"did you mean '{meant[0]}'?" if meant else f"it has {', '.join(known)}"
            where = ".".join(path) if path else "a lab"
            raise _Fault(f"{where} knows no '{key}'; {hint}", *path, key)


def _line_of(text: str, path: tuple[str, ...]) -> int:
    """The line that gives the last name of the path; that of its table if it is in none; 1 if there is neither."""
    best = 1
    open_table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            open_table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            if open_table == path:
                return number
            if open_table and path[: len(open_table)] == open_table:
                best = number
            continue
        key = re.match(r"""\s*["']?([^\s"'=]+)["']?\s*=""", line)
        if key and (*open_table, *key[1].split(".")) == path:
            return number
    return best
