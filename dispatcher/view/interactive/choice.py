# SPDX-License-Identifier: MIT
"""Which way the user's terminal is used: through tmux where that is installed, else by itself."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dispatcher.errors import UsageError
from dispatcher.view.interactive import ConsoleDisplay
from dispatcher.view.interactive.terminal import TerminalDisplay, kept_modes
from dispatcher.view.interactive.tmux import TmuxDisplay


def require_terminal() -> None:
    """Raises UsageError if there is nobody who could type."""
    if not (os.isatty(sys.stdin.fileno()) and os.isatty(sys.stdout.fileno())):
        raise UsageError("--interactive needs a terminal as stdin and stdout")


@contextmanager
def display_on_terminal(chosen: str, state: Path, several: bool) -> Iterator[Callable[..., ConsoleDisplay]]:
    """What makes the display; at the end of the block the terminal is as it was before.

    :param chosen: the device that is shown first.
    :param state: the run's own folder.
    :param several: whether there is more than one device.
    """
    tmux = shutil.which("tmux")
    with kept_modes():
        if tmux is None or not several or os.environ.get("TERM", "dumb") == "dumb":
            yield partial(TerminalDisplay, chosen=chosen)
        else:
            yield partial(TmuxDisplay, chosen=chosen, tmux=tmux, state=state)
