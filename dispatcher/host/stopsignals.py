# SPDX-License-Identifier: MIT
"""What a user, a shell or a supervisor ends a program by, before and after a run has handlers of its own."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Ctrl-C, kill, a terminal that is closed, Ctrl-\.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def unwind_when_told_to_end() -> None:
    """Let the signals raise SystemExit, so that what is under way is taken back."""
    for number in STOP_SIGNALS:
        # nohup has one ignored, and is to have its way.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put the signals off until the block has ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
