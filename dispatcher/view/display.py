# SPDX-License-Identifier: MIT
"""The live view of a run: what the devices print, line by line, each with the device's name before it.

    server-1 | complete lines stand behind a bar
    client-1 | login:
    client-1 + goes on behind a plus, when a part of the line was shown already
    server-1 ! what lavabox has to say of this device
    client-1 = pass  a result, with what was measured [12.5 s]  (2 passed, 1 failed)

Only the view is cleaned of what could harm or confuse a terminal; logs are not. No I/O
and no clock: text goes to a function, time is an argument.
"""

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from dispatcher.group.events import readable
from dispatcher.group.results import Case, Counts

# Seconds after which a line without an end is shown: a prompt, or a command that works on something.
PARTIAL_LINE_DELAY = 1.0
# Characters after which a line is shown in parts; memory is bounded by it.
MAX_LINE = 4096
# Characters that are shown of the id of a test case.
MAX_ID = 100

_RESET = "\x1b[0m"
# Of the 256 colours those that can be read on black and on white.
_PALETTE = (33, 166, 35, 133, 37, 136, 61, 125, 64, 160)
_RED, _GREEN = "\x1b[31m", "\x1b[32m"
_COLOURS = {"pass": _GREEN, "fail": _RED}

# Single characters that control something: C0 and C1 but for tabs and line feeds, line separators, and those
# that turn the direction of the text. An ESC may begin SGR (colours), or another sequence of the same form
# (move the cursor, erase, ...). The set comes first: then the search for it is fast.
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
    r"(?:(?<=\x1b)\[(?:(?P<colour>[0-9;:]{0,32}m)|(?P<sequence>[0-?]*[ -/]*[@-~])))?"
)
_ASCII_CONTROL = bytes([*range(9), *range(10, 32), 127])
# A CR belongs to the end of its line; on its own it begins the line anew, as progress displays do.
_CARRIAGE_RETURNS = re.compile(r"\r++\n?")


@dataclass(frozen=True, slots=True)
class Row:
    """One device in the table at the end.

    :param by_results: it is not good, but for its failed results alone, which are told of anyway.
    """

    device: str
    role: str
    result: str
    good: bool
    seconds: float
    by_results: bool = False


class _Screen:
    """What one device has printed and was not yet shown."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix  # the name, ready to be shown
        self.decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self.text = ""
        self.continued = False  # a part of this line was shown


class Display:
    """Shows the consoles of several devices in one stream of lines."""

    def __init__(self, write: Callable[[str], object], devices: Sequence[str], *, colour: bool) -> None:
        """
        :param write: takes one or more whole lines.
        :param colour: whether colours may be used: those here, and those that the devices print.
        """
        self._write = write
        self._colour = colour
        width = max(map(len, devices), default=0)
        self._screens = {
            device: _Screen(
                self._coloured(f"\x1b[38;5;{_PALETTE[number % len(_PALETTE)]}m", f"{device:<{width}}")
            )
            for number, device in enumerate(devices)
        }
        # Devices with a part of a line to show, in the order in which it came, and when it is due.
        self._due: dict[str, float] = {}

    def output(self, device: str, data: bytes, now: float) -> None:
        """Show the lines that these bytes complete."""
        screen = self._screens[device]
        text = screen.text + screen.decoder.decode(data)
        # What a CR at the end means, the next character tells.
        settled = text.rstrip("\r")
        lines, rest = self._lines(settled)
        shown = self._shown(screen, lines, ended=True) if lines else ""
        while len(rest) > MAX_LINE:
            shown += self._shown(screen, self._cleaned_lines(rest[:MAX_LINE]), ended=False)
            rest = rest[MAX_LINE:]
        if shown:
            self._write(shown)
        screen.text = rest + text[len(settled) :][:1]
        if lines or not rest:
            self._due.pop(device, None)
        if rest:
            self._due.setdefault(device, now + PARTIAL_LINE_DELAY)

    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to show."""
        return next(iter(self._due.values()), None)

    def handle_timeout(self, now: float) -> None:
        """Show the parts of lines that have stood long enough."""
        for device in [device for device, due in self._due.items() if due <= now]:
            self.flush(device)

    def flush(self, device: str) -> None:
        """Show what there is of this device's last line, complete or not."""
        self._due.pop(device, None)
        screen = self._screens[device]
        text = screen.text.rstrip("\r")
        if text:
            self._write(self._shown(screen, self._cleaned_lines(text), ended=False))
        # A line end that comes in two parts stays one.
        screen.text = screen.text[len(text) :]

    def notice(self, device: str, sentence: str, *, bad: bool = False) -> None:
        """Say something about a device, after what it has printed; in red if it is `bad`."""
        self.flush(device)
        shown = self._coloured(_RED if bad else "", harmless(sentence, colour=False))
        self._write(f"{self._screens[device].prefix} ! {shown}\n")

    def result(self, case: Case, counts: Counts) -> None:
        """Show a result that has come, and how many there are by now."""
        self.flush(case.device)
        word = self._coloured(_COLOURS.get(case.result, ""), case.result)
        name = case.id if len(case.id) <= MAX_ID else f"{case.id[:MAX_ID]}..."
        if case.measurement is not None:
            name += f" [{case.measurement} {case.units or ''}".rstrip() + "]"
        name = harmless(readable(name), colour=False)
        self._write(f"{self._screens[case.device].prefix} = {word}  {name}  ({counts})\n")

    def message(self, sentence: str) -> None:
        """Say something that is not about one device."""
        self._write(f"lavabox: {harmless(sentence, colour=False)}\n")

    def table(self, rows: Sequence[Row]) -> None:
        """Show the table of the devices, at the end."""
        for device in self._screens:
            self.flush(device)
        cells = [("device", "role", "result", "time")]
        cells += [(row.device, row.role, row.result, f"{row.seconds:.1f} s") for row in rows]
        widths = [max(len(line[column]) for line in cells) for column in range(4)]
        colours = ["", *(_GREEN if row.good else _RED for row in rows)]
        self._write("\n")
        for (device, role, result, time), colour in zip(cells, colours, strict=True):
            outcome = self._coloured(colour, f"{result:<{widths[2]}}")
            self._write(f"{device:<{widths[0]}}  {role:<{widths[1]}}  {outcome}  {time:>{widths[3]}}\n")

    def columns(self, lines: Sequence[Sequence[str]]) -> None:
        """Show a table whose first line is its head, after an empty line. Numbers stand to the right."""
        lines = [[harmless(cell, colour=False) for cell in line] for line in lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        right = [all(cell.isdecimal() for cell in column[1:]) for column in zip(*lines, strict=True)]
        self._write("\n")
        for line in lines:
            cells = [
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(line, widths, right, strict=True)
            ]
            self._write("  ".join(cells).rstrip() + "\n")

    def _lines(self, text: str) -> tuple[list[str], str]:
        """The lines that end in a text, without what controls a terminal; and what stands behind them, as it is."""
        end = "\r\n" if "\r" in text else "\n"
        *lines, rest = text.split(end)
        # Most text has nothing to clean but its line ends.
        if text.isascii() and _controls(text) == len(end) * len(lines):
            return lines, rest
        whole, ended, rest = _with_line_feeds(text).rpartition("\n")
        return self._cleaned_lines(whole) if ended else [], rest

    def _cleaned_lines(self, text: str) -> list[str]:
        lines = _cleaned(text, colour=self._colour).split("\n")
        return [line + _RESET if "\x1b" in line else line for line in lines]

    def _shown(self, screen: _Screen, lines: list[str], *, ended: bool) -> str:
        """Lines as they are to be written; `ended` is whether the last of them is whole."""
        continued, screen.continued = screen.continued, not ended
        shown = ""
        if continued:
            first, *lines = lines
            # The end of a line that was shown already is nothing to show.
            shown = f"{screen.prefix} + {first}\n" if first else ""
            if not lines:
                return shown
        # There may be a great many lines, so all are done at once.
        if "" in lines:
            lines = [f" {line}" if line else "" for line in lines]
            return f"{shown}{screen.prefix} |" + f"\n{screen.prefix} |".join(lines) + "\n"
        return f"{shown}{screen.prefix} | " + f"\n{screen.prefix} | ".join(lines) + "\n"

    def _coloured(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colour and colour else text


def harmless(text: str, *, colour: bool) -> str:
    """The text without anything that controls a terminal, but for tabs and, if wanted, colours.

    Sequences that move the cursor or erase are left out, since a log line has no use for
    them. Everything else is made visible: ^[ for an escape, \\x9b for another control
    character.
    """
    return _cleaned(text, colour=colour).replace("\n", "^J")


def _cleaned(text: str, *, colour: bool) -> str:
    """As `harmless`, but for line feeds, which stay."""
    if text.isascii() and not _controls(text):
        return text
    return _CONTROL.sub(lambda match: _visible(match, colour), text)


def _controls(text: str) -> int:
    """How many control characters there are in a text of ASCII, line ends among them and tabs not."""
    return len(text) - len(text.encode().translate(None, _ASCII_CONTROL))


def _with_line_feeds(text: str) -> str:
    """The text with one line feed for each end of a line."""
    text = text.replace("\r\n", "\n")
    return _CARRIAGE_RETURNS.sub("\n", text) if "\r" in text else text


def _visible(match: re.Match[str], colour: bool) -> str:
    if match["colour"] is not None:
        return match.group() if colour else ""
    if match["sequence"] is not None:
        return ""
    character = match.group()
    if character == "\x7f":
        return "^?"
    if character < " ":
        return "^" + chr(ord(character) + 64)
    return character.encode("unicode_escape").decode()


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to use colours on this stream: a terminal that has them, and a user who does not mind."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
