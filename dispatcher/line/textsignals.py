# SPDX-License-Identifier: MIT
"""LAVA's own text signals, read from what a device prints.

    <LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass MEASUREMENT=0.4 UNITS=ms>

Scripts print them on stdout or write them to /dev/kmsg, so they stand anywhere in the
output, alone on a line or behind a time stamp. They carry no checksum: damage to them
can't be repaired, only noticed. One kind can be undone, since it shows itself: a kernel
message with a time stamp that cuts into a signal. It goes to the end of its line, and the
signal goes on behind it. Any other line break in a signal means that something else came
in between, and nobody can tell what: the signal is malformed.

Signals stay in the output; this only reads along. No I/O; memory is bounded, and the time
linear in the number of bytes.
"""

import re
from collections.abc import Callable, Iterable
from typing import ClassVar, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from dispatcher.reportable import check_report

MARKER = b"<LAVA_SIGNAL_"
# Bytes of a signal. LAVA itself looks back no further than 8184.
MAX_SIGNAL = 8192
# Bytes that are kept of a malformed one.
MAX_SHOWN = 200
# So many malformed ones in a row, which nothing but a flood has, are found as one.
MANY = 64
# Behind so many malformed ones that came one by one, rows that kernel messages cut are looked for in so many bytes.
ROW, STRETCH = 8, 32768
# Numbers: to compare bytes, and to look for them in others, takes longer.
_LINE_FEED, _ANGLE, _END = b"\n<>"

Item = TypeVar("Item")

# What a kernel message begins with: a time stamp, the level before it in syslog's format, the
# caller behind it. And what may yet become that, at the end of the data.
_STAMP = re.compile(rb"(?:\[|<\d{1,3}>\[) {0,11}\d{1,8}\.\d{6}\][ \[]")
_STAMP_BEGUN = re.compile(
    rb"(?:<(?:\Z|\d{1,3}(?:\Z|>)))?"
    rb"(?:\Z|\[ {0,11}(?:\Z|\d{1,8}(?:\Z|\.(?:\d{0,6}\Z|\d{6}\]\Z))))"
)
_LINES = rb"(?>(?:%b[^\n]*\n)+)" % _STAMP.pattern
# A bracket with which neither a message begins nor a text.
_BRACKET = rb"(?:<(?![L\[]|<\d|<?\Z|\d{1,3}(?:>?\Z|>\[))|\[(?! {0,11}(?:\d|\Z)))"
# A message with no text of a grammar in it.
_MESSAGE = re.compile(rb"(%b[^<\n]*+\n)" % _STAMP.pattern)


def _beginning_of(text: bytes) -> bytes:
    """A pattern for as much of the beginning of `text` as there is, nothing included."""
    pattern = b""
    for character in reversed(text.decode()):
        pattern = b"(?:%b%b)?" % (re.escape(character.encode()), pattern)
    return pattern


class Grammar(Generic[Item]):
    """Texts of one kind, which stand between a marker and `>`: the patterns that find them.

    `read` makes an item of the text behind the marker, or None where it is of no interest; it raises
    ValueError with a sentence for a person. It gets the offsets of the text's beginning and end. `words` are those
    that a text may begin with.
    """

    def __init__(
        self, marker: bytes, words: Iterable[bytes], read: Callable[[bytes, int, int], Item | None]
    ) -> None:
        self.marker = marker
        self.words = list(words)
        self.read = read
        rest, begun = re.escape(marker[1:]), _beginning_of(marker[1:])
        # A marker, or the beginning of one where the data ends, and outside of kernel messages where one may begin.
        self.in_message = re.compile(rb"<(?=L|\Z)(?:%b|%b\Z)" % (rest, begun))
        self.start = re.compile(
            rb"<(?!<[<\[L])(?=L|\[|<\d|<?\Z)(?:%b|%b(?=%b|%b))"
            % (rest, begun, _STAMP.pattern, _STAMP_BEGUN.pattern)
        )
        # Texts in a row that are malformed for certain: another one begins in them, or they have a line break or a
        # word that is none; and what stands between them. Of a marker with `>` in it, the first part ends a text,
        # so none begins in another one.
        whole = re.escape(marker)
        head, end, tail = map(re.escape, marker.partition(b">"))
        self.nests = not end
        one_of_the_words = b"|".join(map(re.escape, self.words))
        # A text as nearly all are: with a word that is one, and nothing inside that may be more than text.
        self.simple = re.compile(
            rb"%b((?:%b)(?=[\s>])[^\[<>\n]{0,%d}+)>" % (whole, one_of_the_words, MAX_SIGNAL)
        )
        another = rb"|(?=%b)" % whole if self.nests else b""
        begun_anew = rb"|%b>(?:%b(?=%b))?" % (head, tail, whole) if end else b""
        no_word = rb"(?!\s*+(?:%b)[\s>])" % one_of_the_words

        def one_malformed(inside: bytes, between: bytes) -> bytes:
            return rb"%b(?:%b(?:\n%b)|%b%b(?:>%b))%b" % (
                *(whole, inside, another, no_word, inside, begun_anew, between),
            )

        self.malformed = re.compile(
            rb"(?>(?:%b)+)" % one_malformed(rb"[^\[<>\n]{0,4096}+", rb"[^\[<]{0,4096}+")
        )
        # The same, of texts without kernel messages: also with brackets that begin nothing.
        self.one_malformed = re.compile(
            one_malformed(
                rb"[^\[<>\n]{0,4096}+(?>(?:%b[^\[<>\n]{0,64}+){0,32})" % _BRACKET,
                rb"[^\[<]{0,4096}+(?>(?:%b[^\[<]{0,64}+)*)" % _BRACKET,
            )
        )
        self.malformed_and_brackets = re.compile(rb"(?>(?:%b){%d,})" % (self.one_malformed.pattern, MANY))
        # What simply belongs to a text: up to its end, a line break, a kernel message, another one. What begins
        # none of these within two or three characters is told first, as it may come by the thousand.
        self.plain = re.compile(
            rb"[^\[<>\n]*+(?>(?:(?:\[+(?=\[)|(?>(?:\[ {1,11}+(?=\[))+)|\[ {0,11}+(?:(?![ \d]|\Z)|\d{1,8}+(?![\d.]|\Z))"
            rb"|<+(?=<<)|<(?!L|\[|\d|<\d|<?\Z)|(?!%b|%b|%b)[\[<])[^\[<>\n]*+)*)"
            % (_STAMP.pattern, _STAMP_BEGUN.pattern, self.start.pattern)
        )


# Beginnings of one character, and the messages behind them, where no marker goes on.
_STRAYS = re.compile(rb"(?:<%b(?=<%b|[^L<\[]))+" % (_LINES, _STAMP.pattern))


class Signal(Struct, frozen=True, gc=False):
    """`kind` and `fields` as in `events.Reported`.

    `offset` is where it begins in the output; that of "case-start" is where it ends.
    """

    kind: str
    fields: tuple[str | None, ...]
    offset: int


class Malformed(Struct, frozen=True, gc=False):
    """What begins as a signal and is none: its first bytes, and a reason for a person.

    `count` is how many stood there in a row, of which this is the first.
    """

    text: bytes
    reason: str
    offset: int
    count: int = 1

    kind: ClassVar[str] = "malformed"

    @property
    def fields(self) -> tuple[str | None, ...]:
        """As they are reported, like those of a `Signal`."""
        count = str(self.count) if self.count > 1 else None
        return self.text.decode("utf-8", "surrogateescape"), self.reason, count


Found = Signal | Malformed


class TextScanner(Generic[Item]):
    """Reads the output of one device, or a kernel message inside it, for the texts of a grammar."""

    def __init__(self, grammar: Grammar[Item], offset: int = 0, *, inside_message: bool = False) -> None:
        """
        :param offset: of the first byte that will come.
        :param inside_message: kernel messages do not cut into each other.
        """
        self._grammar = grammar
        self._begin = grammar.in_message if inside_message else grammar.start
        self._end = offset  # of what has come
        self._held = b""  # the end of it, if that may be the beginning of a marker or time stamp
        self._inside_message = inside_message
        self._message: TextScanner[Item] | None = None  # reads the kernel message that has begun
        # The signal that has begun: its text so far, and where that begins in the output; and where another one
        # may begin in it, 0: nowhere, and in the output.
        self._text = bytearray()
        self._start = 0
        self._another = self._another_start = 0
        # Rows are looked for from this offset on, and rows that kernel messages cut from that one on.
        self._short_until = self._few_until = 0

    def receive_data(self, data: bytes) -> list[Item | Malformed]:
        """Take output in any chunking; returns the signals that end in it."""
        found: list[Item | Malformed] = []
        self._end += len(data)
        data, self._held = self._held + data, b""
        position = 0
        while position < len(data):
            if self._message is not None:
                position = self._read_message(self._message, data, position, found)
            elif self._text:
                position = self._read_signal(data, position, found)
            else:
                position = self._find_start(data, position, found)
        return found

    def flush(self) -> list[Item | Malformed]:
        """The output has ended, perhaps inside a signal."""
        found: list[Item | Malformed] = [] if self._message is None else self._message.flush()
        if self._begun:
            found.append(self._malformed("the output ended inside it"))
        self._message, self._held = None, b""
        self._drop(len(self._text))
        return found

    # Each of these takes some of the data, and returns the position behind it.

    def _find_start(self, data: bytes, position: int, found: list[Item | Malformed]) -> int:
        match = self._begin.search(data, position)
        if match is None:
            return len(data)
        start, end = match.span()
        simple = self._grammar.simple.match(data, start)
        if simple is not None and (size := simple.end() - start) <= MAX_SIGNAL:
            offset = self._offset(data, start)
            found += self._read(simple[1], offset, offset + size)
            return simple.end()
        many = self._find_many(data, start, found)
        if many is not None:
            found.append(many[0])
            return many[1]
        if end - start == 1 and (strays := _STRAYS.match(data, start)):
            found += TextScanner(self._grammar, self._offset(data, start), inside_message=True).receive_data(
                strays.group()
            )
            return strays.end()
        if end - start < len(self._grammar.marker) and not _STAMP.match(data, end):
            return self._hold(data, start)
        return self._add(data, start, end, found)

    def _find_many(
        self, data: bytes, start: int, found: list[Item | Malformed]
    ) -> tuple[Malformed, int] | None:
        """Malformed ones in a row that begin here, and where they end; None if there are not so many."""
        if self._inside_message:
            return None
        offset = self._offset(data, start)
        if offset >= self._short_until and (many := self._grammar.malformed.match(data, start)) is not None:
            shortest = MANY * len(self._grammar.marker)
            if many.end() - start >= shortest and (count := self._count(many.group())) >= MANY:
                return self._first_of(many.group(), count, offset), many.end()
            self._short_until = self._offset(data, many.end())
        if offset < self._few_until or len(found) < ROW:
            return None
        row = [item.offset for item in found[-ROW:] if isinstance(item, Malformed)]
        if len(row) < ROW or row[-1] - row[0] > ROW * STRETCH // MANY:
            return None
        # Texts and, between them, messages.
        pieces = _MESSAGE.split(data[start : start + STRETCH])
        text, end = b"".join(pieces[::2]), min(len(data), start + STRETCH)
        many = self._grammar.malformed_and_brackets.match(text)
        if many is None:
            self._few_until = self._offset(data, end)
            return None
        rest = len(text) - many.end()
        while rest > len(pieces[-1]):
            rest -= len(pieces[-1])
            end -= len(pieces.pop()) + len(pieces.pop())
        return self._first_of(many.group(), self._count(many.group()), offset), end - rest

    def _count(self, many: bytes) -> int:
        grammar = self._grammar
        return many.count(grammar.marker) if grammar.nests else len(grammar.one_malformed.findall(many))

    def _first_of(self, many: bytes, count: int, offset: int) -> Malformed:
        marker = self._grammar.marker
        second = many.index(marker, len(marker)) + len(marker)
        (first,) = TextScanner(self._grammar, offset, inside_message=True).receive_data(many[:second])
        assert isinstance(first, Malformed)
        return replace(first, count=count)

    def _read_signal(self, data: bytes, position: int, found: list[Item | Malformed]) -> int:
        character = data[position]
        if character in b"<[" and not self._inside_message:
            if _STAMP.match(data, position):
                return self._begin_message(data, position)
            if _STAMP_BEGUN.match(data, position):
                return self._hold(data, position)
        if self._begun:
            if character == _END:
                found += self._whole(self._offset(data, position + 1))
                return position + 1
            if character == _LINE_FEED:
                found.append(self._malformed("there is a line break in it"))
                self._drop(len(self._text))
                return position + 1
            if character == _ANGLE and self._begin.match(data, position) is not None:
                many = self._find_many(data, position, found) if self._grammar.nests else None
                if many is not None:
                    found += self._malformed("another one begins in it"), many[0]
                    self._drop(len(self._text))
                    return many[1]
                self._another, self._another_start = len(self._text), self._offset(data, position)
        return self._add(data, position, position + 1, found)

    def _begin_message(self, data: bytes, position: int) -> int:
        """A kernel message begins here. One that is whole, and has no marker in it, is passed by."""
        end = data.find(b"\n", position) + 1
        if end and self._grammar.in_message.search(data, position, end) is None:
            return end
        self._message = TextScanner(self._grammar, self._offset(data, position), inside_message=True)
        return position

    def _read_message(
        self, message: "TextScanner[Item]", data: bytes, position: int, found: list[Item | Malformed]
    ) -> int:
        end = data.find(b"\n", position) + 1
        if end:
            self._message = None
        else:
            end = len(data)
        found += message.receive_data(data[position:end])
        return end

    def _add(self, data: bytes, start: int, end: int, found: list[Item | Malformed]) -> int:
        """Take a piece of a signal, if it is one, and what simply belongs to it behind that."""
        text, marker = self._text, self._grammar.marker
        if (plain := self._grammar.plain.match(data, end)) is not None:
            end = min(plain.end(), start + MAX_SIGNAL - len(text))
        if len(text) < len(marker) and not data.startswith(marker[len(text) :][: end - start], start):
            self._drop(len(text))
            return start
        if not text:
            self._start = self._offset(data, start)
        text += data[start:end]
        if self._another and len(text) >= self._another + len(marker):
            if text.startswith(marker, self._another):
                found.append(self._malformed("another one begins in it", self._another))
                self._drop(self._another)
            self._another = 0
        if len(text) == MAX_SIGNAL:
            found.append(self._malformed(f"it is longer than {MAX_SIGNAL} bytes"))
            self._drop(self._another or len(text))
        return end

    def _hold(self, data: bytes, start: int) -> int:
        self._held = data[start:]
        return len(data)

    # The signal that has begun.

    @property
    def _begun(self) -> bool:
        """Whether its marker is there."""
        return len(self._text) >= len(self._grammar.marker)

    def _offset(self, data: bytes, position: int) -> int:
        return self._end - len(data) + position

    def _whole(self, end: int) -> list[Item | Malformed]:
        found = self._read(bytes(self._text[len(self._grammar.marker) :]), self._start, end)
        self._drop(len(self._text))
        return found

    def _read(self, text: bytes, start: int, end: int) -> list[Item | Malformed]:
        """What a whole text says that stands there in the output."""
        try:
            item = self._grammar.read(text, start, end)
        except ValueError as error:
            return [Malformed((self._grammar.marker + text)[:MAX_SHOWN], str(error), start)]
        return [] if item is None else [item]

    def _malformed(self, reason: str, size: int = MAX_SHOWN) -> Malformed:
        return Malformed(bytes(self._text[: min(size, MAX_SHOWN)]), reason, self._start)

    def _drop(self, size: int) -> None:
        """Take all of its text, or what stands before another one; that is then the one that has begun."""
        del self._text[:size]
        self._start, self._another = self._another_start, 0


# What the signals say. Each reader takes the text behind the signal's name, and returns the kind and the
# fields. Words that it does not look at LAVA does not look at either.

_Fields = list[bytes | None]

# Of LAVA's own dispatcher, or of versions long gone: nothing to record.
_IGNORED = {
    *(b"RETRUNCODE", b"RETURNCODE", b"LXCDEVICEADD", b"LXCDEVICEWAITADD"),
    *(b"START_METADATA_CAPTURE", b"END_METADATA_CAPTURE"),
}
# How results are spelled besides the words themselves.
_SPELLINGS = {b"PASS": b"pass", b"FAIL": b"fail", b"SKIP": b"skip", b"UNKNOWN": b"unknown"}


def _read(text: bytes, start: int, end: int) -> Signal | None:
    """What a signal says; None if that is nothing to record."""
    name, _, rest = text.partition(b" ")
    if name in _IGNORED:
        return None
    if name not in _READERS:
        raise ValueError(f"there is no signal '{name[:40].decode(errors='backslashreplace')}'")
    kind, values = _READERS[name](rest)
    fields = tuple([None if value is None else value.decode("utf-8", "surrogateescape") for value in values])
    check_report(kind, fields)
    return Signal(kind, fields, end if kind == "case-start" else start)


def _first_words(text: bytes, number: int, what: str) -> _Fields:
    words = text.split()
    if len(words) < number:
        raise ValueError(f"it should have {what}")
    return [*words[:number]]


def _start_run(text: bytes) -> tuple[str, _Fields]:
    return "run-start", _first_words(text, 2, "the name of a run and a uuid")


def _end_run(text: bytes) -> tuple[str, _Fields]:
    return "run-end", [*_first_words(text, 2, "the name of a run and a uuid"), None]


def _start_test_case(text: bytes) -> tuple[str, _Fields]:
    return "case-start", _first_words(text, 1, "the id of a test case")


def _end_test_case(text: bytes) -> tuple[str, _Fields]:
    return "case-end", _first_words(text, 1, "the id of a test case")


def _test_case(text: bytes) -> tuple[str, _Fields]:
    values = {}
    for word in text.split():
        key, equals, value = word.partition(b"=")
        if not equals:
            raise ValueError(f"'{word[:40].decode(errors='backslashreplace')}' is no KEY=VALUE")
        values[key.lower()] = value
    result = values.get(b"result")
    return "result", [
        values.get(b"test_case_id"),
        None if result is None else _SPELLINGS.get(result, result),
        values.get(b"measurement"),
        values.get(b"units") or None,
    ]


def _test_set(text: bytes) -> tuple[str, _Fields]:
    match text.split():
        case [b"START", name, *_]:
            return "set-start", [name]
        case [b"STOP", *_]:
            return "set-stop", []
    raise ValueError("it should have START and a name, or STOP")


def _test_reference(text: bytes) -> tuple[str, _Fields]:
    match text.split():
        case [case_id, result, url]:
            return "reference", [case_id, _SPELLINGS.get(result, result), url]
    raise ValueError("it should have the id of a test case, a result and a URL without spaces")


def _message(kind: str) -> Callable[[bytes], tuple[str, _Fields]]:
    return lambda text: (kind, [text.strip()])


_READERS: dict[bytes, Callable[[bytes], tuple[str, _Fields]]] = {
    b"STARTRUN": _start_run,
    b"ENDRUN": _end_run,
    b"STARTTC": _start_test_case,
    b"ENDTC": _end_test_case,
    b"TESTCASE": _test_case,
    b"TESTSET": _test_set,
    b"TESTREFERENCE": _test_reference,
    b"TESTRAISE": _message("raise"),
    b"TESTEVENT": _message("event"),
    b"TESTFEEDBACK": _message("feedback"),
}

SIGNALS = Grammar(MARKER, [*_READERS, *sorted(_IGNORED)], _read)


class Scanner(TextScanner[Signal]):
    """Reads LAVA's signals in the output of one device."""

    def __init__(self, offset: int = 0) -> None:
        """
        :param offset: of the first byte that will come.
        """
        super().__init__(SIGNALS, offset)
