# SPDX-License-Identifier: MIT
"""Results that a test definition's own pattern finds in what its tests print: `parse: pattern`.

A line of output at a time; a result for each place in it that fits. Patterns come with jobs, and some
take for ever on some lines: lines are bounded, and so is the time for each. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import regex

from dispatcher.line.textsignals import MAX_SHOWN, Found, Malformed, Signal
from dispatcher.reportable import check_report

# Bytes of a line that are looked at. A terminal's line has no more.
MAX_LINE = 4096
# Results of one line.
MAX_FOUND = 100
# Seconds of processor time for one line, which takes microseconds.
MAX_SECONDS = 0.5

# What words for results mean where the definition says nothing of them.
_SPELLINGS = {"PASS": "pass", "FAIL": "fail", "SKIP": "skip", "UNKNOWN": "unknown"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression with the groups test_case_id and result, and perhaps measurement and units.

    `fixups` are what its words for results mean.
    """

    expression: str
    fixups: Mapping[str, str] = field(default_factory=dict)


class LineScanner:
    """Reads the output of one run of a definition."""

    def __init__(self, pattern: Pattern, offset: int) -> None:
        """
        :param offset: of the first byte that will come, in the output of the device.
        """
        self._search = regex.compile(pattern.expression)
        self._fixups = {**_SPELLINGS, **pattern.fixups}
        self._line = bytearray()
        self._offset = offset  # of the line
        self._end = offset
        self._given_up = False

    def receive_data(self, data: bytes) -> list[Found]:
        """Take output in any chunking; returns the results in the lines that end in it."""
        found: list[Found] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._take(piece)
            self._end += len(piece) + 1
            found += self._read_line()
            self._offset = self._end
            self._line.clear()
        self._take(rest)
        self._end += len(rest)
        return found

    def flush(self) -> list[Found]:
        """The run has ended, perhaps inside a line."""
        return self._read_line() if self._line else []

    def _take(self, piece: bytes) -> None:
        self._line += piece[: MAX_LINE + 1 - len(self._line)]

    def _read_line(self) -> list[Found]:
        if self._given_up:
            return []
        if len(self._line) > MAX_LINE:
            # Only looked at as far as it goes: a result further on is not there for LAVA either.
            del self._line[MAX_LINE:]
        text = self._line.rstrip(b"\r").decode("utf-8", "surrogateescape")
        found: list[Found] = []
        try:
            for match in self._search.finditer(text, timeout=MAX_SECONDS):
                result = self._result(match)
                if result is not None:
                    found.append(result)
                if len(found) == MAX_FOUND:
                    break
        except TimeoutError:
            self._given_up = True
            message = (
                f"'parse: pattern' takes more than {MAX_SECONDS} s for a line of {len(text)} characters: "
                "the rest of this run is not searched, so results may be missing; make the pattern simpler"
            )
            found.append(Signal("raise", (message,), self._offset))
        return found

    def _result(self, match: "regex.Match[str]") -> Found | None:
        groups = match.groupdict()
        case_id, word = groups["test_case_id"], groups["result"]
        if not case_id or word is None:
            return None
        fields = (
            case_id.strip(),
            self._fixups.get(word, word),
            groups.get("measurement") or None,
            groups.get("units") or None,
        )
        try:
            check_report("result", fields)
        except ValueError as error:
            return self._malformed(match.group(), str(error))
        if " " in fields[0]:
            return self._malformed(match.group(), "the id of a test case has a space in it")
        return Signal("result", fields, self._offset)

    def _malformed(self, text: str, reason: str) -> Malformed:
        return Malformed(
            text.encode("utf-8", "surrogateescape")[:MAX_SHOWN],
            f"{reason} (found by 'parse: pattern')",
            self._offset,
        )
