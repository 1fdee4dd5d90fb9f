# SPDX-License-Identifier: MIT
"""What a device reports by frames, written as the text signals that LAVA's own dispatcher reads.

    ("result", ("ping", "pass", "0.4", "ms"))
    --> <LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass MEASUREMENT=0.4 UNITS=ms>

LAVA reads words between `<` and `>`, on some connections within a window of 4000 characters, and takes a
result outside of a run for an error of the test. What its signals can't hold is written otherwise:

* A character that would end a word or a signal (white space, `<`, `>`, control characters), and a byte that is
  no UTF-8, stands as `%` and two hexadecimal digits for each of its bytes. So does a `%` before two such digits.
  In the message of a raise or an event, which LAVA takes as words, single spaces stay.
* A word of more than MAX_WORD characters, or a message of more than MAX_MESSAGE, is cut, and ends with `~` and
  the CRC-32 of the whole: two long ones that differ stay two.
* Outside of a run nothing is written. Of runs inside each other only the outermost is; what is reported in
  the others belongs to it.
* A run that ends with another status than 0 has no ENDRUN: LAVA records it as failed then. A command that was
  called wrongly has no signal.

No I/O.
"""

import re
import zlib
from collections.abc import Sequence

MAX_WORD = 250
MAX_MESSAGE = 1500

# Characters that LAVA does not carry in a word, as the inside of a set in a pattern. `\s` is what Python's `split`
# takes for white space, which is what LAVA does with a signal.
NOT_CARRIED = r"\s<>\x00-\x1f\x7f-\x9f\ud800-\udfff"
_NOT_IN_WORD = re.compile(rf"[{NOT_CARRIED}]|%(?=[0-9A-Fa-f]{{2}})")
_NOT_IN_MESSAGE = re.compile(rf"(?! )[{NOT_CARRIED}]|%(?=[0-9A-Fa-f]{{2}})|^ |(?<= ) | $")


class Runs:
    """The runs of one device that are open. Each is told of by its name and uuid, perhaps twice: by text and by a frame."""

    def __init__(self) -> None:
        self._open: list[tuple[str | None, ...]] = []  # the outermost first

    @property
    def open(self) -> bool:
        """Whether a run is."""
        return bool(self._open)

    def note(self, kind: str, fields: Sequence[str | None]) -> bool:
        """Take a report, if it is about a run; returns whether it begins or ends an outermost one."""
        run = tuple(fields[:2])
        if kind == "run-start" and run not in self._open:
            self._open.append(run)
            return len(self._open) == 1
        if kind == "run-end" and run in self._open:
            del self._open[self._open.index(run) :]
            return not self._open
        return False


class SignalWriter:
    """Writes the signals of one device, in the order of what it reports.

    A kind and its fields are those of `events.Reported`.
    """

    def __init__(self) -> None:
        self.left_out = 0  # reports outside of a run: there is no place for them
        self._runs = Runs()

    def note(self, kind: str, fields: Sequence[str | None]) -> None:
        """The device has printed this signal itself."""
        self._runs.note(kind, fields)

    def write(self, kind: str, fields: Sequence[str | None]) -> str:
        """The signal for a report; "" if there is none to be written."""
        if kind in ("run-start", "run-end"):
            name, uuid = fields[:2]
            signal = "STARTRUN" if kind == "run-start" else "ENDRUN"
            # LAVA wants both words.
            text = f"<LAVA_SIGNAL_{signal} {word(name or '-')} {word(uuid or '-')}>"
            # LAVA takes an ENDRUN for a run that has passed, and its own run.sh ends before it where a step fails.
            failed = kind == "run-end" and fields[2] not in (None, "0")
            return text if self._runs.note(kind, fields) and not failed else ""
        if kind not in _SIGNALS:
            return ""
        if not self._runs.open:
            self.left_out += 1
            return ""
        return _signal(kind, list(fields))

    def write_multinode(self, operation: str, message_id: str, passed: bool) -> str:
        """The result that LAVA records of a multi-device command (`send`, `wait`, `wait-all`, `sync`)."""
        case = f"multinode-{operation.replace('-', '_')}-{message_id}".lower()
        return self.write("result", (case, "pass" if passed else "fail", None, None))


# The signals of the other kinds, and what stands before their words.
_SIGNALS = {
    "case-start": "STARTTC",
    "case-end": "ENDTC",
    "result": "TESTCASE",
    "reference": "TESTREFERENCE",
    "set-start": "TESTSET START",
    "set-stop": "TESTSET STOP",
    "raise": "TESTRAISE",
    "event": "TESTEVENT",
    "feedback": "TESTFEEDBACK",
}
# A URL may be long; LAVA has three words for a reference.
_MAX_URL = 1000


def _signal(kind: str, fields: list[str | None]) -> str:
    texts = [field or "" for field in fields]
    if kind == "result":
        keys = ("TEST_CASE_ID", "RESULT", "MEASUREMENT", "UNITS")
        words = [f"{key}={word(text)}" for key, text in zip(keys, texts, strict=True) if text]
    elif kind in ("raise", "event"):
        words = [_shortened(_NOT_IN_MESSAGE.sub(_escape, texts[0]), texts[0], MAX_MESSAGE)]
    elif kind == "reference":
        words = [word(texts[0]), word(texts[1]), word(texts[2], _MAX_URL)]
    else:
        words = [word(text) for text in texts]
    return f"<LAVA_SIGNAL_{' '.join([_SIGNALS[kind], *words])}>"


def word(text: str, limit: int = MAX_WORD) -> str:
    """The text as one word of a signal."""
    return _shortened(_NOT_IN_WORD.sub(_escape, text), text, limit)


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in _utf8(match.group()))


def _shortened(words: str, text: str, limit: int) -> str:
    if len(words) <= limit:
        return words
    # Not inside of an escape.
    cut = re.sub(r"%[0-9A-F]?\Z", "", words[: limit - 9])
    return f"{cut}~{zlib.crc32(_utf8(text)):08x}"


def _utf8(text: str) -> bytes:
    """The bytes of a text in which those that are no UTF-8 stand as lone surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
