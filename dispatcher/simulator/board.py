# SPDX-License-Identifier: MIT
"""A simulated device: its environment, its folder, its /tmp, and the pty process that it is."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.simulator.faults import Faults
from dispatcher.simulator.faultypty import FaultyPty
from dispatcher.simulator.isolation import Lab
from dispatcher.simulator.plan import PlannedDevice
from dispatcher.simulator.privatetmp import PrivateTmp

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

    def board(self, device: PlannedDevice) -> PtyProcess:
        """The device, not yet started. Raises OSError."""
        argv = [*self.shell, "-c", device.command]
        starter = None
        if self.lab is not None:
            visible = [self.invoked_in, (self.commands / "lava-self").resolve().parent]
            starter = self.lab.starter(device.name, device.directory, visible)
        elif self.private_tmp is not None:
            argv = self.private_tmp.wrap(argv, device.directory, [self.invoked_in, self.state])
        address = f"sim:{device.name}"
        options: dict[str, Any] = {
            "directory": str(device.directory),
            "environment": self._environment(device),
            "mark": f"{self.run}/{device.name}",
            "tty_variable": "LAVA_CONSOLE",
            "baud": self.baud,
            "starter": starter,
        }
        if self.faults is None:
            return PtyProcess(address, argv, **options)
        return FaultyPty(address, argv, self.faults, f"{self.fault_seed} {device.name}", **options)

    def _environment(self, device: PlannedDevice) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _CACHES}
        if self.lab is not None:
            environment = self.lab.device_environment(environment)
        environment["PATH"] = os.pathsep.join([str(self.commands), environment.get("PATH", os.defpath)])
        # What a serial console is taken for where nobody has said.
        environment["TERM"] = "vt100"
        environment["PWD"] = str(device.directory)
        if self.private_tmp is None and self.lab is None:
            folder = self.state / "caches" / device.name
            folder.mkdir(parents=True)
            environment |= {variable: str(folder / name) for variable, name in _CACHES.items()}
        return environment
