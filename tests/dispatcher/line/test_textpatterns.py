# SPDX-License-Identifier: MIT
"""Results that a definition's own pattern finds in output."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.line.textpatterns import MAX_FOUND, MAX_LINE, LineScanner, Pattern
from dispatcher.line.textsignals import Found, Malformed, Signal

PATTERN = Pattern(
    r"(?P<test_case_id>[\w ]+?): (?P<result>\w+)(?: (?P<measurement>[\d.]+) (?P<units>\S+))?", {"OK": "pass"}
)


def find(*pieces: bytes, pattern: Pattern = PATTERN) -> list[Found]:
    scanner = LineScanner(pattern, 100)
    return [item for piece in pieces for item in scanner.receive_data(piece)] + scanner.flush()


def result(offset: int, *fields: str | None) -> Signal:
    return Signal("result", fields, offset)


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (b"a: OK\r\n", [result(100, "a", "pass", None, None)]),
        (b"nothing\r\nb: FAIL 1.5 ms\n", [result(109, "b", "fail", "1.5", "ms")]),
        (b"a: OK, b: skip", [result(100, "a", "pass", None, None), result(100, "b", "skip", None, None)]),
        (b"a:\nOK\n", []),
    ],
)
def test_results(output: bytes, found: list[Found]) -> None:
    if b", b" in output:
        found = [found[0], result(100, "b", "skip", None, None)]
        pattern = Pattern(r"(?P<test_case_id>\w+): (?P<result>\w+)", {"OK": "pass"})
        assert find(output, pattern=pattern) == found
    else:
        assert find(output) == found


@given(
    st.lists(st.sampled_from([b"a: OK", b"\n", b"\r\n", b"x y: fail 1 s", b" ", b"\xff: OK"])), st.randoms()
)
def test_chunking_makes_no_difference(parts: list[bytes], random: object) -> None:
    output = b"".join(parts)
    assert find(*(output[i : i + 1] for i in range(len(output)))) == find(output)


def test_word_that_is_no_result_is_told() -> None:
    (found,) = find(b"a: maybe\n")
    assert isinstance(found, Malformed)
    assert found.text == b"a: maybe"
    assert "a result is one of" in found.reason


def test_id_with_a_space_is_told() -> None:
    (found,) = find(b"two words: OK\n")
    assert isinstance(found, Malformed)


def test_lines_and_results_are_bounded() -> None:
    assert find(b"x" * MAX_LINE + b" a: OK\nb: OK\n") == [result(100 + MAX_LINE + 7, "b", "pass", None, None)]
    pattern = Pattern(r"(?P<test_case_id>a)(?P<result>pass)")
    assert len(find(b"apass" * 500, pattern=pattern)) == MAX_FOUND


def test_pattern_that_takes_for_ever_is_given_up() -> None:
    slow = Pattern(r"(?P<test_case_id>(a|aa)+)!(?P<result>pass)")
    scanner = LineScanner(slow, 0)
    (found,) = scanner.receive_data(b"a" * 60 + b"\n")
    assert isinstance(found, Signal) and found.kind == "raise"
    assert "make the pattern simpler" in str(found.fields[0])
    assert scanner.receive_data(b"a!pass\n") == []
