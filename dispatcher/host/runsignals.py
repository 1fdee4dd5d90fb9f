# SPDX-License-Identifier: MIT
"""The signals of a process that does one run, has a terminal, and is the sub-reaper of all that the run starts."""

import asyncio
import os
import signal
from collections.abc import Callable

from dispatcher.consoles.processes import become_subreaper
from dispatcher.host.stopsignals import STOP_SIGNALS
from dispatcher.view.statusview import LiveView, Plain


def take_over(
    view: Plain | LiveView,
    *,
    stop: Callable[[signal.Signals], object],
    reap: Callable[[], object],
    redraw: Callable[[], object],
) -> None:
    """Handle the signals until the loop is closed: the process must have no other use.

    :param view: a live one is drawn anew when the terminal has another size, and taken away while we are stopped.
    :param stop: is called with a signal that is to end the run.
    :param reap: is called when a child has ended.
    :param redraw: lets the view be drawn.
    """
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        # nohup has one ignored, and is to have its way.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGCHLD, reap)
    # What forks without end leaves us orphans faster than the loop takes note of their ends.
    signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)
    become_subreaper()
    if isinstance(view, LiveView):

        def suspend() -> None:
            """Ctrl-Z: the shell gets a clean screen, and we are stopped here until it lets us go on."""
            view.hide()
            os.kill(os.getpid(), signal.SIGSTOP)
            redraw()

        loop.add_signal_handler(signal.SIGWINCH, redraw)
        loop.add_signal_handler(signal.SIGTSTP, suspend)
