# SPDX-License-Identifier: MIT
"""`lavabox serve LAB.toml`, from its start to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dispatcher.errors import SetupError, UsageError
from dispatcher.files import read_text, told
from dispatcher.group.configuration import Configuration, parse_configuration
from dispatcher.group.wording import counted
from dispatcher.host import groupoptions
from dispatcher.host.deadwatch import QuietWatch
from dispatcher.host.groups import GroupLogs, Groups
from dispatcher.host.groupserver import GroupServer
from dispatcher.host.lavaserver import LavaServer
from dispatcher.host.listening import address_text, parse_address
from dispatcher.host.service import allow_descriptors, stop_event, tell
from dispatcher.host.systemd import notify
from dispatcher.lab.config import LabConfig, device_config, parse_lab
from dispatcher.lab.control import ControlServer
from dispatcher.lab.lab import Lab
from dispatcher.lab.offers import Device


def read_lab(path: Path) -> LabConfig:
    """The lab that a file describes. Raises UsageError."""
    try:
        return parse_lab(read_text(path), str(path))
    except OSError as error:
        raise UsageError(told(error)) from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def run_lab(path: Path, http: str | None) -> int:
    """Serve the lab until interrupted; returns the exit status. Raises UsageError or SetupError.

    :param http: where the pages are, instead of what the file says.
    """
    config = read_lab(path)
    configuration = Configuration()
    if config.device_config:
        try:
            configuration = parse_configuration(read_text(Path(config.device_config)))
        except OSError as error:
            raise UsageError(f"{path}: device-config: {told(error)}") from error
        except ValueError as error:
            raise UsageError(f"{path}: device-config: {config.device_config}: {error}") from error
    try:
        pages = parse_address(http or config.http) if http or config.http else None
        lava = parse_address(config.lava) if config.lava else None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    try:
        if "://" in config.group_log:
            credentials = Path(config.group_log_credentials) if config.group_log_credentials else None
            after = config.purge_after * 86400
            logs = GroupLogs(None, groupoptions.shared_logs(config.group_log, credentials, after))
        else:
            logs = GroupLogs(Path(config.group_log) if config.group_log else None)
    except OSError as error:
        raise SetupError(f"group-log: {told(error)}") from error
    allow_descriptors()
    asyncio.run(_serve(path, config, configuration, logs, pages, lava))
    return 0


async def _serve(
    path: Path,
    config: LabConfig,
    configuration: Configuration,
    logs: GroupLogs,
    pages: tuple[str, int] | None,
    lava: tuple[str, int] | None,
) -> None:
    await _LabRun(path, config, configuration, logs).run(pages, lava)


class _LabRun:
    def __init__(self, path: Path, config: LabConfig, configuration: Configuration, logs: GroupLogs) -> None:
        self._path = path
        self._config = config
        self._groups = Groups(
            *(logs, tell, configuration),
            lambda engine, unseen: QuietWatch(
                engine, config.grace, unseen, fails=config.fail_dead_ends, shared=logs.shared
            ),
        )
        self._lab = Lab(config, self._groups, tell)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, pages: tuple[str, int] | None, lava: tuple[str, int] | None) -> None:
        stop = stop_event(self._reload_soon)
        lava_server = LavaServer(self._groups, tell)
        hooks = GroupServer(self._groups, tell)
        control = ControlServer(
            {
                "status": self._status,
                "add": self._add,
                "remove": self._remove,
                "restart": self._restart,
                "end-group": self._end_group,
                "reload": self._reload,
            },
            self._console,
        )
        site = None
        if pages is not None:
            # Imported here: aiohttp is of use only to who wants pages.
            from dispatcher.lab.http import Site

            site = Site(self._lab)
        await self._groups.open()
        try:
            await control.open(self._config.control)
            if site is not None and pages is not None:
                port = await site.open(*pages)
                tell(f"the lab is shown on http://{address_text(pages[0], port)}/")
            if self._config.socket:
                await hooks.open(self._config.socket)
            if lava is not None:
                port = await lava_server.open(*lava)
                tell(f"LAVA's dispatchers connect to {lava[0]} port {port}")
            await self._lab.start()
            tell(f"serving {counted(len(self._lab.devices), 'console')}; control by {self._config.control}")
            notify("READY=1")
            await self._groups.tidy_up_until(stop)
            notify("STOPPING=1")
        finally:
            control.close()
            if site is not None:
                await site.close()
            await hooks.close()
            await lava_server.close()
            await self._lab.close()
            await self._groups.close()

    def _reload_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._reload_or_tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_or_tell(self) -> None:
        notify("RELOADING=1")
        try:
            await self._reload({})
        except UsageError as error:
            tell(f"the lab was not changed: {error}")
        notify("READY=1")

    # What the control socket asks

    async def _reload(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._lab.reload(read_lab(self._path))
        tell(f"read {self._path} again: {counted(len(self._lab.devices), 'console')}")
        return {}

    async def _status(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"status": self._lab.status()}

    async def _add(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        settings = request.get("settings")
        if not isinstance(settings, dict):
            raise UsageError("the settings of the device are missing")
        await self._lab.add(device_config(str(request.get("device")), settings))
        return {}

    async def _remove(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._lab.remove(str(request.get("device")))
        return {}

    async def _restart(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._lab.restart(str(request.get("device")))
        return {}

    async def _end_group(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._lab.end_group(str(request.get("group")))
        return {}

    def _console(self, name: str) -> Device:
        device = self._lab.devices.get(name)
        if device is None:
            raise UsageError(f"there is no device {name}; there are {', '.join(self._lab.devices) or 'none'}")
        return device
