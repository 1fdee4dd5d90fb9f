# SPDX-License-Identifier: MIT
"""Consoles of simulated devices on the user's own terminal: in turns, or in windows of tmux."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dispatcher.consoles import Console
from dispatcher.group.events import readable
from dispatcher.group.results import Case, Counts
from dispatcher.view.display import Display, harmless
from dispatcher.view.interactive.backlog import Backlog


class Keyboard(Protocol):
    """What takes keys for a device."""

    console: Console

    def type(self, data: bytes) -> bool:
        """Type to the device; False if it can't take that much at the moment."""


class ConsoleDisplay(Display):
    """A display that also takes what a person types to the devices."""

    def __init__(
        self, write: Callable[[str], object], devices: Sequence[str], *, colour: bool, chosen: str
    ) -> None:
        """
        :param chosen: the device whose console is shown first.
        """
        super().__init__(write, devices, colour=colour)
        self._devices = list(devices)
        self._chosen = chosen  # whose console is in front
        self._backlogs = {device: Backlog() for device in devices}

    @abstractmethod
    async def open(self, keyboards: Mapping[str, Keyboard], leave: Callable[[], None]) -> None:
        """Begin to take it, as soon as the devices are started. Raises SetupError.

        :param leave: called when the person wants to end it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give the terminal back; from then on it is a plain display. May be called without `open`."""

    def result(self, case: Case, counts: Counts) -> None:
        """Show a result that has come."""
        self.notice(case.device, f"{case.result}  {readable(case.id)}")


def on_a_line(sentence: str) -> bytes:
    """A sentence of lavabox, between what a device prints."""
    return f"\r\nlavabox: {harmless(sentence, colour=False)}\r\n".encode(errors="replace")
