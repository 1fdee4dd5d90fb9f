# SPDX-License-Identifier: MIT
"""A simulated device: a command on a pty, which can reboot.

Whoever writes a line into the FIFO of the device asks for it, as `lava-reboot` does; in an isolated device also
whoever calls reboot(2), as `reboot -f` does. Then all its processes are killed, what a boot prints comes out of
its console, and the command is started again. The pty stays, as a serial line does.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dispatcher.consoles import Listener
from dispatcher.consoles.ptyprocess import PtyProcess

# The number of the boot, from 1 on, in the environment of the command.
BOOT_VARIABLE = "LAVABOX_BOOT"
# The FIFO.
POWER_VARIABLE = "LAVABOX_POWER"
# A command that reboots each time that it is started is ended after so many boots.
MOST_BOOTS = 100


def boot_lines(uptime: float) -> bytes:
    """What a board prints when it reboots, and then when its kernel starts.

    :param uptime: seconds since the boot before.
    """
    lines = (
        f"[{uptime:12.6f}] reboot: Restarting system",
        "",
        f"[{0:12.6f}] Booting Linux on physical CPU 0x0",
        f"[{0:12.6f}] Linux version {os.uname().release} (a device that lavabox simulates)",
    )
    return "".join(line + "\r\n" for line in lines).encode()


class SimulatedDevice(PtyProcess):
    """A PtyProcess that reboots when it is told to.

    :param power: the path of its FIFO, which this makes. Raises OSError.
    :param options: as PtyProcess has them.
    """

    def __init__(self, address: str, argv: Sequence[str], power: Path, **options: Any) -> None:
        super().__init__(address, argv, **options)
        os.mkfifo(power)
        # A test may change to another user.
        power.chmod(0o666)
        self._power_path = power
        self._power: int | None = None
        self._boot = 1
        self._booted = 0.0
        self._environment[BOOT_VARIABLE] = "1"

    async def open(self, listener: Listener) -> None:
        """Start the command. Raises ConsoleError."""
        await super().open(listener)
        self._booted = time.monotonic()
        # For both: it never ends, and whoever writes is never kept waiting.
        self._power = os.open(self._power_path, os.O_RDWR | os.O_NONBLOCK)
        self._loop.add_reader(self._power, self._told)

    async def close(self) -> None:
        """Let the command end, or make it, with all that it started."""
        if self._power is not None:
            self._loop.remove_reader(self._power)
            os.close(self._power)
            self._power = None
        await super().close()

    def reboot(self) -> None:
        """Kill all processes and start the command again. Without effect on a device that ends or boots just now."""
        if self._boot == MOST_BOOTS:
            self._give_up(f"has booted {MOST_BOOTS} times")
            return
        if self._restart():
            # At once, and again when they all have been killed: until then one may begin to wait.
            self._listener.rebooted()
            self._boot += 1
            self._environment[BOOT_VARIABLE] = str(self._boot)

    def _between(self) -> bytes:
        self._listener.rebooted()
        uptime, self._booted = time.monotonic() - self._booted, time.monotonic()
        return boot_lines(uptime)

    def _told(self) -> None:
        assert self._power is not None
        with contextlib.suppress(BlockingIOError):
            if b"reboot" in os.read(self._power, 4096):
                self.reboot()

    def _notice_exit(self) -> None:
        # In a process namespace, reboot(2) kills the first process by this signal, which no command can do.
        if self._starter is not None and self._killed_by() == signal.SIGHUP:
            self.reboot()
        super()._notice_exit()

    def _killed_by(self) -> int | None:
        """The signal that the process was killed by; it is not reaped."""
        ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return ended.si_status if ended is not None and ended.si_code == os.CLD_KILLED else None
