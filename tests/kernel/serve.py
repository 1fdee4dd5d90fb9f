# SPDX-License-Identifier: MIT
"""The dispatcher under test: `lavabox serve` as a process, which can be killed and started again."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from tests.kernel.guest import GuestError
from tests.kernel.line import Line

# Seconds until it has connected to all consoles.
_PATIENCE = 30.0


class Serve:
    """`lavabox serve` for the devices at these lines; logs stand in `folder`."""

    def __init__(self, folder: Path, lines: dict[str, Line]) -> None:
        """:param lines: by the names of the devices, of which the part before the dash is the role."""
        self.group_log = folder / "group.log"
        self._lines = lines
        self._output = folder / "serve.txt"
        self._command = [sys.executable, "-m", "dispatcher", "serve", "--log-dir", str(folder)]
        self._command += ["--group-log", str(self.group_log)]

    async def start(self) -> None:
        """Start it, and wait until it is connected."""
        consoles = []
        for name, line in self._lines.items():
            consoles += ["--console", f"{name}:{name.partition('-')[0]}=socket://127.0.0.1:{line.port}"]
        with self._output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, *consoles, stdout=output, stderr=output
            )
        await self._wait(line.wait_for_dispatcher() for line in self._lines.values())

    async def restart(self) -> None:
        """Kill it, and start another one."""
        self._process.kill()
        await self._process.wait()
        for line in self._lines.values():
            await line.wait_for_no_dispatcher()
        await self.start()

    async def _wait(self, events: Iterable[Coroutine[None, None, None]]) -> None:
        """Raises GuestError if it ends instead, or takes too long."""
        connected: asyncio.Future[Any] = asyncio.gather(*events)
        ended: asyncio.Future[Any] = asyncio.ensure_future(self._process.wait())
        await asyncio.wait({connected, ended}, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not connected.done():
            connected.cancel()
            raise GuestError(f"lavabox serve did not come up:\n{self._output.read_text()}")

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
            await self._process.wait()
