# SPDX-License-Identifier: MIT
"""The user's terminal as that of one device at a time; a key leads to the next one.

keyboard --> EscapeKeys --> console of the current device
screen <-- output of the current device, byte for byte; that of the others waits in a Backlog
"""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dispatcher.consoles.ptyprocess import PtyProcess
from dispatcher.view.interactive import ConsoleDisplay, Keyboard, on_a_line
from dispatcher.view.interactive.escapekeys import EscapeKeys

_KEYBOARD, _SCREEN = 0, 1
# Ctrl-], and the keys behind it; any other one shows the help.
_ESCAPE, _NEXT, _LEAVE = 0x1D, ord("n"), ord("q")
_HELP = "Ctrl-] n: the next device; Ctrl-] q: leave; Ctrl-] Ctrl-]: Ctrl-] itself"


@contextmanager
def kept_modes() -> Iterator[None]:
    """Leave the terminal as it was, whatever happens in the block."""
    modes = termios.tcgetattr(_KEYBOARD)
    try:
        yield
    finally:
        # It may be gone.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(_KEYBOARD, termios.TCSANOW, modes)


class TerminalDisplay(ConsoleDisplay):
    """Shows the console of one device as it is."""

    def __init__(
        self, write: Callable[[str], object], devices: Sequence[str], *, colour: bool, chosen: str
    ) -> None:
        super().__init__(write, devices, colour=colour, chosen=chosen)
        self._keys = EscapeKeys(_ESCAPE)
        self._modes: list[object] | None = None  # what the terminal had; None: it is not open

    # As a terminal of the run

    async def open(self, keyboards: Mapping[str, Keyboard], leave: Callable[[], None]) -> None:
        """Begin to pass on what is typed."""
        self._keyboards = keyboards
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        sys.stdout.flush()
        self._modes = termios.tcgetattr(_KEYBOARD)
        tty.setraw(_KEYBOARD, termios.TCSANOW)
        self._loop.add_reader(_KEYBOARD, self._typed)
        self._loop.add_signal_handler(signal.SIGWINCH, self._resize)
        self._resize()
        self._say(_HELP)
        self._show_current()

    async def close(self) -> None:
        """Give the terminal back."""
        if self._modes is None:
            return
        self._loop.remove_reader(_KEYBOARD)
        self._loop.remove_signal_handler(signal.SIGWINCH)
        with contextlib.suppress(OSError, termios.error):
            self._put(b"\r\n")
            termios.tcsetattr(_KEYBOARD, termios.TCSANOW, self._modes)  # type: ignore[arg-type]
        self._modes = None

    def _typed(self) -> None:
        try:
            data = os.read(_KEYBOARD, 4096)
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(_KEYBOARD)
            self._leave()
        for item in self._keys.receive(data):
            if isinstance(item, bytes):
                self._keyboards[self._chosen].type(item)
            elif item == _LEAVE:
                self._leave()
            elif item == _NEXT:
                following = self._devices.index(self._chosen) + 1
                self._chosen = self._devices[following % len(self._devices)]
                self._show_current()
            else:
                self._say(_HELP)

    def _show_current(self) -> None:
        self._say(f"this is {self._chosen}")
        self._put(self._backlogs[self._chosen].take())

    def _resize(self) -> None:
        size = os.get_terminal_size(_SCREEN)
        for keyboard in self._keyboards.values():
            if isinstance(keyboard.console, PtyProcess):
                keyboard.console.resize(size.lines, size.columns)

    def _put(self, data: bytes) -> None:
        while data:
            data = data[os.write(_SCREEN, data) :]

    def _say(self, sentence: str) -> None:
        self._put(on_a_line(sentence))

    # As a display

    def output(self, device: str, data: bytes, now: float) -> None:
        """Show the bytes, now or later."""
        if self._modes is not None and device == self._chosen:
            self._put(data)
        else:
            self._backlogs[device].add(data)

    def notice(self, device: str, sentence: str, *, bad: bool = False) -> None:
        """Say something about a device."""
        if self._modes is None:
            super().notice(device, sentence, bad=bad)
        else:
            self._say(f"{device} {sentence}")

    def message(self, sentence: str) -> None:
        """Say something that is not about one device."""
        if self._modes is None:
            super().message(sentence)
        else:
            self._say(sentence)
