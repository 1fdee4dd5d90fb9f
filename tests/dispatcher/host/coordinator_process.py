# SPDX-License-Identifier: MIT
"""`lavabox coordinator` as a process of its own."""

import re
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.dispatcher.lavabox_process import Lavabox


class Coordinator:
    """A coordinator with its socket in `directory`; `port` is where it speaks LAVA's protocol."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.directory = directory
        self.socket = str(directory / "coordinator")
        self._arguments = arguments
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, again on the same port."""
        self.process = Lavabox(
            *("coordinator", "--socket", self.socket, "--lava", f"127.0.0.1:{self.port}"),
            *self._arguments,
            cwd=self.directory,
        )
        self.process.until("hooks connect to")
        found = re.search(r"connect to 127\.0\.0\.1 port (\d+)", self.process.text)
        assert found is not None
        self.port = int(found[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.__exit__(kind, error, traceback)
