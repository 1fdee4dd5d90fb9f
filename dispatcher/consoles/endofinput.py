# SPDX-License-Identifier: MIT
"""Lets a command on a pty read the end of its input.

In raw mode a terminal has no end of file but its own. So it is given canonical mode, and the key that says so.
As the command may set its own mode just then, this is done again, after growing pauses.
"""

import asyncio
import contextlib
import os
import signal
import termios

from dispatcher.consoles.pseudoterminal import PseudoTerminal

# Seconds between looks at whether the command has read its input to the end, at first and at last; and what ends it
# then.
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 30.0
_END_OF_FILE = b"\x04"


class EndOfInput:
    """Begins at once, and goes on until `cancel` is called; the terminal and the processes have to be there until then.

    :param group: of processes, that the command leads.
    """

    def __init__(self, terminal: PseudoTerminal, group: int) -> None:
        self._terminal = terminal
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._pause = _FIRST_PAUSE
        self._was_read = False  # when we looked last
        self._timer = self._loop.call_later(self._pause, self._look)

    def cancel(self) -> None:
        """Do no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if self._terminal.unread:
            self._was_read = False
        elif not self._was_read:
            # What was written may be on its way to the other end.
            self._was_read = True
        else:
            self._was_read = False
            self._pause *= 2
            self._end()
        if self._pause < _LAST_PAUSE:
            self._timer = self._loop.call_later(self._pause, self._look)

    def _end(self) -> None:
        slave = self._terminal.slave
        modes = termios.tcgetattr(slave)
        modes[3] |= termios.ICANON
        modes[6][termios.VEOF] = _END_OF_FILE
        # An end that was not read goes away. (TCSAFLUSH would wait for whoever reads the output.)
        termios.tcflush(slave, termios.TCIFLUSH)
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        # Who waits in a read that has begun in raw mode waits for a byte. This lets the read begin anew.
        for number in (signal.SIGSTOP, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, number)
        self._loop.call_later(self._pause / 4, self._terminal.write, _END_OF_FILE)
