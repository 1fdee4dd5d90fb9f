# SPDX-License-Identifier: MIT
"""Consoles of simulated devices on the user's own terminal: in turns, or in windows of tmux."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol

from dispatcher.consoles import Console
from dispatcher.view.display import Display


class Keyboard(Protocol):
    """What takes keys for a device."""

    console: Console

    def type(self, data: bytes) -> bool:
        """Type to the device; False if it can't take that much at the moment."""


class ConsoleDisplay(Display):
    """A display that also takes what a person types to the devices."""

    @abstractmethod
    async def open(self, keyboards: Mapping[str, Keyboard], leave: Callable[[], None]) -> None:
        """Begin to take it, as soon as the devices are started. Raises SetupError.

        :param leave: called when the person wants to end it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give the terminal back; from then on it is a plain display. May be called without `open`."""
