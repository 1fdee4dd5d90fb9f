# SPDX-License-Identifier: MIT
"""The live view: lines with names, parts of lines, and nothing that could harm a terminal."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.group.results import Case, Counts
from dispatcher.view.display import MAX_ID, MAX_LINE, PARTIAL_LINE_DELAY, Display, Row, harmless, wants_colour


class Screen:
    """A display of two devices, and the text that it has shown."""

    def __init__(self, *, colour: bool = False) -> None:
        self.text = ""
        self.display = Display(self._write, ["alpha", "b"], colour=colour)

    def _write(self, text: str) -> None:
        assert text.endswith("\n")
        self.text += text


LINES = {
    "a line": (b"hello\n", "alpha | hello\n"),
    "line ends of a tty": (b"one\r\ntwo\r\r\n", "alpha | one\nalpha | two\n"),
    "an empty line": (b"\r\n", "alpha |\n"),
    "no line yet": (b"hel", ""),
    "a progress display": (b"10%\r20%\r\n", "alpha | 10%\nalpha | 20%\n"),
    "a tab": (b"a\tb\n", "alpha | a\tb\n"),
    "UTF-8": ("Gr\u00fc\u00dfe\n".encode(), "alpha | Gr\u00fc\u00dfe\n"),
    "not UTF-8": (b"\xff\xc3\n", "alpha | \\xff\\xc3\n"),
    "moves the cursor": (b"\x1b[2J\x1b[1;1Hhere\x1b[K\n", "alpha | here\n"),
    "sets the title": (b"\x1b]0;title\x07x\n", "alpha | ^[]0;title^Gx\n"),
    "C1 control characters": (b"\xc2\x9b2J\n", "alpha | \\x9b2J\n"),
    "controls": (b"\x00\x08\x7f\n", "alpha | ^@^H^?\n"),
    "turns the text round": ("\u202eabc\n".encode(), "alpha | \\u202eabc\n"),
    "colours, not wanted": (b"\x1b[31mred\x1b[0m\n", "alpha | red\n"),
}


@pytest.mark.parametrize("name", LINES)
def test_lines(name: str) -> None:
    data, shown = LINES[name]
    whole, in_bytes = Screen(), Screen()
    whole.display.output("alpha", data, 0.0)
    for byte in data:
        in_bytes.display.output("alpha", bytes([byte]), 0.0)
    assert whole.text == shown
    assert in_bytes.text == shown


def test_names_are_aligned_and_lines_of_devices_do_not_mix() -> None:
    screen = Screen()
    screen.display.output("alpha", b"one ", 0.0)
    screen.display.output("b", b"two\n", 0.0)
    screen.display.output("alpha", b"three\n", 0.0)
    assert screen.text == "b     | two\nalpha | one three\n"


def test_part_of_a_line_is_shown_after_a_while() -> None:
    screen = Screen()
    assert screen.display.next_timeout() is None
    screen.display.output("b", b"login: ", 5.0)
    screen.display.output("alpha", b"...", 5.5)
    # More of the same line does not put it off.
    screen.display.output("b", b"ro", 5.9)
    due = screen.display.next_timeout()
    assert due == 5.0 + PARTIAL_LINE_DELAY
    screen.display.handle_timeout(due)
    assert screen.text == "b     | login: ro\n"
    assert screen.display.next_timeout() == 5.5 + PARTIAL_LINE_DELAY
    screen.display.output("b", b"ot\n# ls\n", 7.0)
    assert screen.text == "b     | login: ro\nb     + ot\nb     | # ls\n"


def test_end_of_a_line_that_was_shown_is_not_shown_again() -> None:
    screen = Screen()
    screen.display.output("b", b"prompt\r", 0.0)
    screen.display.handle_timeout(2.0)
    assert screen.display.next_timeout() is None
    screen.display.output("b", b"\nnext\n", 3.0)
    assert screen.text == "b     | prompt\nb     | next\n"


def test_an_endless_line_is_shown_in_parts_and_not_kept() -> None:
    screen = Screen()
    for _ in range(10):
        screen.display.output("b", b"x" * MAX_LINE, 0.0)
    screen.display.output("b", b"\n", 0.0)
    shown = screen.text.splitlines()
    assert [line[:7] for line in shown] == ["b     |"] + ["b     +"] * 9
    assert {len(line) for line in shown} == {8 + MAX_LINE}


def test_notice_comes_after_what_the_device_has_printed() -> None:
    screen = Screen()
    screen.display.output("b", b"dying", 0.0)
    screen.display.notice("b", "was killed\x1b[2J by SIGKILL")
    assert screen.text == "b     | dying\nb     ! was killed by SIGKILL\n"


def test_colours() -> None:
    screen = Screen(colour=True)
    screen.display.output("b", b"\x1b[1;31mred\n\x1b[2Jplain\n", 0.0)
    name = "\x1b[38;5;166mb    \x1b[0m"
    assert screen.text == f"{name} | \x1b[1;31mred\x1b[0m\n{name} | plain\n"


def test_table() -> None:
    screen = Screen()
    screen.display.output("b", b"last words", 0.0)
    rows = [
        Row("alpha", "client", "succeeded", True, 12.345),
        Row("b", "server", "ended with status 3", False, 0.5),
    ]
    screen.display.table(rows)
    assert screen.text == (
        "b     | last words\n"
        "\n"
        "device  role    result                 time\n"
        "alpha   client  succeeded            12.3 s\n"
        "b       server  ended with status 3   0.5 s\n"
    )


def case(name: str, result: str = "pass", measurement: str | None = None, units: str | None = None) -> Case:
    return Case("b", None, "set", name, result, measurement, units, None, 1.0, 0, None, None, None)


RESULTS = {
    "plain": (case("boot"), "pass  boot"),
    "any text": (case("a\x1b[2J > b\n\udcff"), "pass  a > b^J\\xff"),
    "a measurement": (case("t", "fail", "12.50", "s"), "fail  t [12.50 s]"),
    "a measurement without units": (case("t", "skip", "-0.001"), "skip  t [-0.001]"),
    "a whole number": (case("t", "unknown", "940", "Mbit/s"), "unknown  t [940 Mbit/s]"),
    "a long id": (case("x" * 1000), f"pass  {'x' * MAX_ID}..."),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results(name: str) -> None:
    result, shown = RESULTS[name]
    screen = Screen()
    screen.display.result(result, Counts(2, 0, 1))
    assert screen.text == f"b     = {shown}  (2 passed, 1 skipped)\n"


def test_result_comes_after_what_the_device_has_printed() -> None:
    screen = Screen(colour=True)
    screen.display.output("b", b"unfinished", 0.0)
    screen.display.result(case("boot", "fail"), Counts(failed=1))
    name = "\x1b[38;5;166mb    \x1b[0m"
    assert screen.text == f"{name} | unfinished\n{name} = \x1b[31mfail\x1b[0m  boot  (1 failed)\n"


def test_columns() -> None:
    screen = Screen()
    screen.display.columns([("run", "set", "pass"), ("smoke\x1b[2J", "-", "7"), ("a", "net", "10")])
    assert screen.text == "\nrun    set  pass\nsmoke  -       7\na      net    10\n"


@given(st.text(), st.booleans())
def test_harmless(text: str, colour: bool) -> None:
    shown = harmless(text, colour=colour)
    if colour:
        shown = re.sub(r"\x1b\[[0-9;:]*m", "", shown)
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", shown)


@given(st.lists(st.binary(), max_size=8), st.booleans())
def test_any_chunking_shows_the_same(chunks: list[bytes], colour: bool) -> None:
    whole, chunked = Screen(colour=colour), Screen(colour=colour)
    whole.display.output("b", b"".join(chunks), 0.0)
    for chunk in chunks:
        chunked.display.output("b", chunk, 0.0)
    whole.display.table([])
    chunked.display.table([])
    assert chunked.text == whole.text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


COLOUR_CASES = {
    "a terminal": (Terminal(), {}, True),
    "a file": (io.StringIO(), {}, False),
    "a user who minds": (Terminal(), {"NO_COLOR": "1"}, False),
    "an empty NO_COLOR says nothing": (Terminal(), {"NO_COLOR": ""}, True),
    "a terminal without": (Terminal(), {"TERM": "dumb"}, False),
}


@pytest.mark.parametrize("name", COLOUR_CASES)
def test_wants_colour(name: str) -> None:
    stream, variables, wanted = COLOUR_CASES[name]
    assert wants_colour(stream, {"TERM": "xterm", **variables}) is wanted
