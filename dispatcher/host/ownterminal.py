# SPDX-License-Identifier: MIT
"""The terminal that this process has as its standard input, for a program that passes all bytes on.

It is made raw before anything else is imported, as whoever has started us may type at once.
"""

import contextlib
import os
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_INPUT = 0
# What it had before, if it has been made raw.
_before: "list[list[Any]]" = []


def make_raw() -> None:
    """Let it pass on bytes as they are. Does nothing if standard input is no terminal, or was made raw already."""
    with contextlib.suppress(termios.error):
        if not _before:
            _before.append(termios.tcgetattr(_INPUT))
            # What has been typed already stays.
            tty.setraw(_INPUT, termios.TCSANOW)


def modes_before() -> "list[Any] | None":
    """What `termios.tcgetattr` said before; None if there is no terminal."""
    return _before[0] if _before else None


def restore() -> None:
    """Give it its modes back, if it is still there."""
    with contextlib.suppress(termios.error):
        if _before:
            termios.tcsetattr(_INPUT, termios.TCSANOW, _before.pop())


def terminal_size() -> "tuple[int, int] | None":
    """Rows and columns; None if there is no terminal."""
    try:
        size = os.get_terminal_size(_INPUT)
    except OSError:
        return None
    return size.lines, size.columns
