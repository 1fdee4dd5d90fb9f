# SPDX-License-Identifier: MIT
"""Whether what a console prints is text at all: at a wrong speed it is not. No I/O, no clock."""

# Bytes that are looked at together; a kernel that crashes, or a boot loader, prints less than that of anything odd.
_WINDOW = 512
# Bytes that are looked at of what comes at once.
_SAMPLE = 4096
# Which part of them makes it garbage.
_MOST = 0.3
# What text has beside what can be printed: line ends, the bell, shifts, control sequences of terminals.
_CONTROLS = b"\a\b\t\n\v\f\r\x0e\x0f\x1b"


class Legibility:
    """Looks at the output of one connection."""

    def __init__(self) -> None:
        self._window = b""
        self._told = False

    def receive_output(self, data: bytes) -> bool:
        """Take what came; returns whether it is now to be said that this is no text. That is True once."""
        if self._told:
            return False
        self._window += data[:_SAMPLE]
        if len(self._window) >= _WINDOW:
            window, self._window = self._window, b""
            self._told = _odd(window) > _MOST * len(window)
        return self._told


def _odd(data: bytes) -> int:
    """How many of these bytes are no text."""
    rest = data.translate(None, _CONTROLS)
    # Other writings than Latin are text, too.
    text = rest.decode("utf-8", "ignore")
    odd = len(rest) - len(text.encode())
    return odd if text.isprintable() else odd + sum(not character.isprintable() for character in text)
