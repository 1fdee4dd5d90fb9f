# SPDX-License-Identifier: MIT
"""Consoles of simulated devices on the user's own terminal: in turns, or in windows of tmux."""

from abc import abstractmethod
from collections.abc import Callable, Mapping

from dispatcher.consoles import Console
from dispatcher.view.display import Display


class ConsoleDisplay(Display):
    """A display that also takes what a person types to the devices."""

    @abstractmethod
    async def open(self, consoles: Mapping[str, Console], leave: Callable[[], None]) -> None:
        """Begin to take it, as soon as the devices are started. Raises SetupError.

        :param leave: called when the person wants to end it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give the terminal back; from then on it is a plain display. May be called without `open`."""
