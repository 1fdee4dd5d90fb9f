# SPDX-License-Identifier: MIT
"""A simulated device: its environment, its folder, its /tmp, and the pty process that it is."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatcher.consoles.pseudoterminal import Settings
from dispatcher.simulator.device import POWER_VARIABLE, SimulatedDevice
from dispatcher.simulator.faults import Faults
from dispatcher.simulator.faultydevice import FaultyDevice
from dispatcher.simulator.isolation import Lab
from dispatcher.simulator.plan import PlannedDevice
from dispatcher.simulator.privatetmp import PrivateTmp

# $1: what each device runs first; then its command.
_AFTER_SETUP = """\
"$1" || {
    status=$?
    echo "lavabox: --setup $1 ended with status $status; this device does nothing more" >&2
    exit "$status"
}
shift
exec "$@"
"""

# Variables that name a device's cache files, and what those are called in its own folder.
_CACHES = {
    "LAVA_MULTI_NODE_CACHE": "lava_multi_node_cache.txt",
    "LAVA_MULTI_NODE_NETWORK_CACHE": "lava_multi_node_network_cache.txt",
}


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all devices of a run have in common.

    :param run: a text that no other run has.
    :param state: the run's own folder.
    :param commands: the folder with the links to the box.
    :param setup: a program that each device runs before its command; None: it does nothing before.
    :param paths: folders with programs that stand before all others, but for the box's.
    :param private_tmp: how each gets its own /tmp; None: they share this machine's.
    :param lab: where each gets a machine of its own, as it were; None: they share this one.
    :param faults: of the lines; None: they have none.
    :param fault_seed: makes the faults the same in every run.
    """

    run: str
    state: Path
    invoked_in: Path
    commands: Path
    shell: Sequence[str]
    baud: int | None
    private_tmp: PrivateTmp | None
    lab: Lab | None = None
    faults: Faults | None = None
    fault_seed: int = 0
    setup: Path | None = None
    paths: Sequence[Path] = ()

    @property
    def devices(self) -> Path:
        """The folder for those that are made for devices."""
        return self.state / "devices"

    @property
    def layered(self) -> bool:
        """Whether no device sees what another one writes to its folder in `devices`, also where both have one file."""
        return self.lab is not None or (self.private_tmp is not None and self.private_tmp.layered)

    def board(self, device: PlannedDevice) -> SimulatedDevice:
        """The device, not yet started. Raises OSError or SetupError."""
        argv = [*self.shell, "-c", device.command]
        if self.setup is not None:
            argv = ["/bin/sh", "-c", _AFTER_SETUP, "sh", str(self.setup), *argv]
        folder = self.state / "power"
        folder.mkdir(exist_ok=True)
        power = folder / device.name
        starter = None
        if self.lab is not None:
            starter = self.lab.starter(device.name, device.directory, power)
        elif self.private_tmp is not None:
            # Of a folder that was made for it, the files are those of other devices, too.
            own = self.private_tmp.layered and device.directory.parent == self.devices
            written = self.state / "written" / device.name if own else None
            argv = self.private_tmp.wrap(argv, device.directory, [self.invoked_in, self.state], written)
        options: dict[str, Any] = {
            "directory": str(device.directory),
            "environment": self._environment(device, power),
            "mark": f"{self.run}/{device.name}",
            "tty_variable": "LAVA_CONSOLE" if self.lab is None else None,
            "settings": Settings(baud=self.baud),
            "starter": starter,
        }
        address = f"sim:{device.name}"
        if self.faults is None:
            return SimulatedDevice(address, argv, power, **options)
        return FaultyDevice(address, argv, power, self.faults, f"{self.fault_seed} {device.name}", **options)

    def _environment(self, device: PlannedDevice, power: Path) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _CACHES}
        environment[POWER_VARIABLE] = str(power)
        if self.lab is not None:
            environment = self.lab.device_environment(environment)
        path = environment.get("PATH", os.defpath)
        if "LAVABOX_PYTHON" not in environment and any(
            (folder / "python3").exists() for folder in self.paths
        ):
            # The box does not run by a stand-in.
            environment["LAVABOX_PYTHON"] = self._python(path)
        environment["PATH"] = os.pathsep.join([str(self.commands), *map(str, self.paths), path])
        # What a serial console is taken for where nobody has said.
        environment["TERM"] = "vt100"
        environment["PWD"] = str(device.directory)
        if self.private_tmp is None and self.lab is None:
            folder = self.state / "caches" / device.name
            folder.mkdir(parents=True)
            environment |= {variable: str(folder / name) for variable, name in _CACHES.items()}
        return environment

    def _python(self, path: str) -> str:
        """Where a device has its Python."""
        image = None if self.lab is None else self.lab.image
        folders = [folder for folder in path.split(os.pathsep) if folder]
        found = (
            f"{folder}/python3" for folder in folders if os.path.lexists(f"{image or ''}{folder}/python3")
        )
        return next(found, "python3")
