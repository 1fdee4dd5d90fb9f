# SPDX-License-Identifier: MIT
"""A lab: devices that come and go, in groups that do, for months.

LabConfig --> Lab --> Dispatcher: an Attachment for each device --> its group in Groups
                  --> logs, ports and terminals of each device
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dispatcher.consoles import ConsoleError
from dispatcher.consoles.opening import lasting_console
from dispatcher.errors import UsageError
from dispatcher.files import told
from dispatcher.grouplog import GroupLogError
from dispatcher.host.attachment import Attachment
from dispatcher.host.dispatcher import Dispatcher
from dispatcher.host.groups import FIRST_PAUSE, LONGEST_PAUSE, Groups, HostedGroup
from dispatcher.host.listening import parse_address
from dispatcher.lab.config import DeviceConfig, LabConfig
from dispatcher.lab.devicelog import DeviceLog
from dispatcher.lab.offers import HOLD, Client, Offers, Tap
from dispatcher.line.session import Counters

# Bytes of a device's newest output that are kept to be looked at.
TAIL = 4096
_MIB = 1024 * 1024


class LabDevice:
    """A device: its attachment, and all that look at it.

    :param tell: is told what an operator should see of it.
    """

    def __init__(self, config: DeviceConfig, tell: Callable[[str], object]) -> None:
        self.config = config
        self.taps: set[Tap] = set()
        self.attachment: Attachment | None = None
        self.hosted: HostedGroup | None = None
        self.refused = ""  # why there is no attachment
        self.again = False  # whether that may be over soon
        self.since = asyncio.get_running_loop().time()
        self.printed = 0  # bytes
        self.heard: float | None = None  # when it last printed something
        self.tail = bytearray()
        self.log: DeviceLog | None = None
        self.offers = Offers(self)
        self._tell = tell
        self._held: dict[Client, asyncio.TimerHandle] = {}

    def hold(self, client: Client) -> None:
        """Read nothing of the device for a while: a client can't keep up."""
        if client not in self._held and self.attachment is not None:
            self._held[client] = asyncio.get_running_loop().call_later(HOLD, client.drop)
            self.attachment.pause()

    def let_go(self, client: Client) -> None:
        """The client has caught up, or is gone."""
        timer = self._held.pop(client, None)
        if timer is not None:
            timer.cancel()
            if not self._held and self.attachment is not None:
                self.attachment.resume()

    def type(self, data: bytes) -> bool:
        """Type to the device, if its console is there. False: it can't take that yet; the taps are told when it can."""
        return self.attachment is None or self.attachment.type(data)

    def room(self) -> None:
        """The console takes keys again."""
        for tap in list(self.taps):
            tap.room()

    def output(self, data: bytes, now: float) -> None:
        """Hand on what the device printed."""
        self.printed += len(data)
        self.heard = now
        self.tail += data
        if len(self.tail) > 2 * TAIL:
            del self.tail[:-TAIL]
        # First: who has seen something finds it in the log.
        if self.log is not None:
            self.log.output(data, now)
        for tap in list(self.taps):
            tap.output(data, now)

    def notice(self, sentence: str) -> None:
        """Something about the device or its console."""
        self._tell(f"{self.config.name}: {sentence}")
        for tap in list(self.taps):
            tap.notice(sentence)

    @property
    def counters(self) -> Counters:
        """What went over the console since it was attached."""
        return Counters() if self.attachment is None else self.attachment.counters

    @property
    def state(self) -> str:
        """How its console is, in a word or a sentence."""
        if self.attachment is None:
            return self.refused or "not started"
        if self.attachment.connected:
            return "connected"
        return self.attachment.trouble or "connecting"


class Lab:
    """Call `start`, and `close` at the end.

    :param tell: is told what an operator should see.
    """

    def __init__(self, config: LabConfig, groups: Groups, tell: Callable[[str], object]) -> None:
        self.config = config
        self.groups = groups
        self.devices: dict[str, LabDevice] = {}
        self.started = time.time()
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._epoch = time.time() - self._loop.time()
        self._dispatcher = Dispatcher(self._failed)
        self._randomness = random.SystemRandom()
        self._lock = asyncio.Lock()
        self._later: dict[str, asyncio.Task[None]] = {}  # by group: tries again those that were left out
        self._tasks: set[asyncio.Task[None]] = set()
        groups.renewed.append(self._renewed)

    async def start(self) -> None:
        """Begin with all devices of the configuration."""
        async with self._lock:
            for device in self.config.devices.values():
                await self._add(device)

    async def close(self) -> None:
        """End all consoles; the devices stay in their groups."""
        async with self._lock:
            tasks = [*self._later.values(), *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for device in self.devices.values():
                device.offers.close()
            await self._dispatcher.close()
            for device in self.devices.values():
                if device.log is not None:
                    device.log.close()

    async def add(self, config: DeviceConfig) -> None:
        """Take a device in. Raises UsageError if it is there, or can't be."""
        async with self._lock:
            if config.name in self.devices:
                raise UsageError(f"{config.name} is in the lab already")
            self._check(config)
            await self._add(config, again=False)
            device = self.devices[config.name]
            if device.refused:
                await self._remove(config.name, "was refused")
                raise UsageError(device.refused)

    async def remove(self, name: str) -> None:
        """Take a device out; it leaves its group. Raises UsageError if there is none."""
        async with self._lock:
            self._known(name)
            await self._remove(name, "was removed from the lab")

    async def restart(self, name: str) -> None:
        """Close a device's console and open it anew; its waits go on. Raises UsageError if there is none."""
        async with self._lock:
            config = self._known(name).config
            await self._remove(name, None)
            await self._add(config)

    async def end_group(self, name: str) -> None:
        """End a group, with its log; its devices begin a new one. Raises UsageError if there is none."""
        async with self._lock:
            if name not in self.groups.groups:
                raise UsageError(
                    f"there is no group {name}; there are {', '.join(self.groups.groups) or 'none'}"
                )
            if self.groups.shared:
                raise UsageError(
                    f"other hosts have devices in the group {name}; name another group for a new one"
                )
            again = [device.config for device in self.devices.values() if device.config.group == name]
            for config in again:
                await self._remove(config.name, "left the group, which an operator has ended")
            await self.groups.end(name, "an operator has ended it")
            for config in again:
                await self._add(config)

    async def reload(self, config: LabConfig) -> None:
        """Take over a changed configuration: the devices in it, and no others. Other settings count at the next start."""
        async with self._lock:
            for name in list(self.devices):
                wanted = config.devices.get(name)
                if wanted != self.devices[name].config:
                    same_place = wanted is not None and (wanted.group, wanted.role) == (
                        self.devices[name].config.group,
                        self.devices[name].config.role,
                    )
                    await self._remove(name, None if same_place else "was removed from the lab")
            added = [device for name, device in config.devices.items() if name not in self.devices]
            self.config = config
            for device in added:
                await self._add(device)

    def status(self) -> dict[str, Any]:
        """The lab as it is now, as JSON can carry it."""
        now = self._loop.time()
        groups = self.groups.status(now)
        waits = {(group["name"], one["name"]): one["waits"] for group in groups for one in group["members"]}
        devices = [
            {
                "name": device.config.name,
                "role": device.config.role,
                "group": device.config.group,
                "console": device.config.console,
                "connected": device.attachment is not None and device.attachment.connected,
                "state": device.state,
                "printed": device.printed,
                "silent": None if device.heard is None else round(now - device.heard, 1),
                "clients": len(device.taps),
                "counters": {name: getattr(device.counters, name) for name in Counters.__dataclass_fields__},
                "waits": waits.get((device.config.group, device.config.name), []),
            }
            for device in self.devices.values()
        ]
        return {"started": self.started, "time": self._epoch + now, "devices": devices, "groups": groups}

    # Inside

    def _known(self, name: str) -> LabDevice:
        device = self.devices.get(name)
        if device is None:
            raise UsageError(f"there is no device {name}; `lavabox status` shows all")
        return device

    def _check(self, config: DeviceConfig) -> None:
        """Raises UsageError for what can't be opened, however often it is tried."""
        try:
            lasting_console(config.console, config.speed)
            for address in (config.tcp, config.telnet, config.watch):
                if address:
                    parse_address(address)
        except (ConsoleError, ValueError) as error:
            raise UsageError(str(error)) from error

    async def _add(self, config: DeviceConfig, refused: str = "", *, again: bool = True) -> None:
        """What goes wrong stands in the device's `refused`; the others go on.

        :param refused: why it was left out before, as was told; "": it was not.
        :param again: whether to try again later, where that may help.
        """
        device = self.devices[config.name] = LabDevice(config, self._tell)
        try:
            self._check(config)
            position = self._open_log(device)
            if not refused and config.group in self._later:
                raise GroupLogError(f"its group {config.group} can't be opened")
            hosted = await self._group(config.group)
            device.attachment = Attachment(
                config.name,
                config.role,
                lasting_console(config.console, config.speed),
                hosted.group,
                [device],
                token=lambda: self._randomness.getrandbits(32),
                position=position,
                # Through what a command reaches there may go anything, and it has no speed.
                expects_text=not config.console.startswith("exec:"),
                room=device.room,
            )
            device.hosted = hosted
        except (UsageError, ValueError, GroupLogError, OSError) as error:
            device.refused = told(error) if isinstance(error, OSError) else str(error)
            device.again = again and isinstance(error, OSError | GroupLogError)
            if device.refused != refused:
                self._tell(
                    f"{config.name} is left out: {device.refused}{'; trying again' if device.again else ''}"
                )
            if device.again and config.group not in self._later:
                self._later[config.group] = self._loop.create_task(self._try_again(config.group))
            return
        self._dispatcher.add(device.attachment)
        await self._offer(device)

    async def _group(self, name: str) -> HostedGroup:
        """Raises GroupLogError or ValueError."""
        hosted = await self.groups.get(name, self.config.sizes.get(name))
        hosted.kept = True
        return hosted

    async def _try_again(self, name: str) -> None:
        """Let devices in that were left out for what may be over, as soon as their group can be opened."""
        pause = FIRST_PAUSE

        def left_out() -> list[LabDevice]:
            return [one for one in self.devices.values() if one.config.group == name and one.again]

        while left_out():
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if not left_out():
                # Somebody has removed them meanwhile: nobody needs the group.
                break
            with contextlib.suppress(GroupLogError, ValueError):
                await self._group(name)
                async with self._lock:
                    for device in left_out():
                        await self._remove(device.config.name, None)
                        await self._add(device.config, device.refused)
        del self._later[name]

    def _renewed(self, former: HostedGroup) -> None:
        """A group has begun anew: its devices come to it."""
        for device in self.devices.values():
            if device.hosted is former:
                self._restart_soon(device)

    def _restart_soon(self, device: LabDevice) -> None:
        task = self._loop.create_task(self._restart(device))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restart(self, device: LabDevice) -> None:
        async with self._lock:
            if self.devices.get(device.config.name) is device:
                await self._remove(device.config.name, None)
                await self._add(device.config)

    def _open_log(self, device: LabDevice) -> int:
        """Begin the device's logs, if there are to be any; returns the position of what it prints next."""
        config = self.config
        if not config.log_dir:
            return 0
        device.log = DeviceLog(
            *(Path(config.log_dir), device.config.name, config.log_size * _MIB, config.log_keep),
            *(self._epoch, device.notice),
        )
        return device.log.position

    async def _offer(self, device: LabDevice) -> None:
        config = device.config
        ports = (
            ("tcp", config.tcp, True, False),
            ("telnet", config.telnet, True, True),
            ("watch", config.watch, False, False),
        )
        for key, address, writes, telnet in ports:
            if address:
                try:
                    await device.offers.open_port(*parse_address(address), writes=writes, telnet=telnet)
                except OSError as error:
                    device.notice(f"{key} {address} can't be offered: {error.strerror or error}")
        if config.pty:
            try:
                device.offers.open_terminal(config.pty)
            except OSError as error:
                device.notice(f"pty {config.pty} can't be offered: {error.strerror or error}")

    async def _remove(self, name: str, reason: str | None) -> None:
        device = self.devices.pop(name)
        device.offers.close()
        if device.attachment is not None:
            await self._dispatcher.remove(name, reason)
            if reason is None and device.hosted is not None:
                device.hosted.group.release(device.attachment)
        if device.log is not None:
            device.log.close()

    def _failed(self, attachment: Attachment, error: BaseException) -> None:
        """A fault of ours in one console: the others go on."""
        device = self.devices.get(attachment.name)
        if device is not None:
            device.refused = f"failed: {error!r}"
            device.notice(device.refused)
        with contextlib.suppress(ValueError, KeyError):
            if device is not None and device.hosted is not None:
                device.hosted.group.release(attachment)
