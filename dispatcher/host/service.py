# SPDX-License-Identifier: MIT
"""A program that runs for months: its messages, its end, and how many files it may open."""

import asyncio
import resource
import signal
import sys
import time
from collections.abc import Callable

from dispatcher.errors import on_one_line
from dispatcher.host.stopsignals import STOP_SIGNALS

# Characters of a message.
_MAX_MESSAGE = 2000


def tell(sentence: str) -> None:
    """Write a line for the operator to standard error, with the time where it is no journal that has its own."""
    text = sentence if len(sentence) <= _MAX_MESSAGE else sentence[:_MAX_MESSAGE] + "..."
    try:
        print(f"{time.strftime('%H:%M:%S')} {on_one_line(text)}", file=sys.stderr, flush=True)
    except OSError:
        # Nobody looks any more; that ends no service.
        return


def stop_event(reload: Callable[[], object] | None = None) -> asyncio.Event:
    """What is set once a signal tells the program to end.

    :param reload: is called on SIGHUP; None: that ends the program as well.
    """
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    for number in STOP_SIGNALS:
        # nohup has one ignored, and is to have its way.
        if signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGHUP:
            continue
        if number == signal.SIGHUP and reload is not None:
            loop.add_signal_handler(number, reload)
        else:
            loop.add_signal_handler(number, event.set)
    return event


def allow_descriptors() -> None:
    """Let as many files be open as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
