# SPDX-License-Identifier: MIT
"""Text signals: whole, in pieces, among kernel messages, and damaged."""

import re
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dispatcher.line import multinode, textsignals
from dispatcher.line.textsignals import (
    MARKER,
    MAX_SHOWN,
    MAX_SIGNAL,
    Found,
    Grammar,
    Malformed,
    Scanner,
    Signal,
    TextScanner,
)


def scan(*chunks: bytes) -> list[Found]:
    scanner = Scanner()
    found = [item for chunk in chunks for item in scanner.receive_data(chunk)]
    return found + scanner.flush()


def in_bytes(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


def said(data: bytes) -> list[tuple[object, ...]]:
    """Kind and fields of the signals, "malformed" and the reason of others."""
    return [
        (item.kind, *item.fields) if isinstance(item, Signal) else ("malformed", item.reason)
        for item in scan(data)
    ]


# Name, output, what is found in it.
PING = ("result", "ping", "pass", None, None)
CASES = {
    "a result": (b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass>\r\n", [PING]),
    "a measurement": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=fail UNITS=ms MEASUREMENT=1.50>",
        [("result", "ping", "fail", "1.50", "ms")],
    ),
    "a measurement in another order": (
        b"<LAVA_SIGNAL_TESTCASE MEASUREMENT=-2e3 UNITS= RESULT=skip TEST_CASE_ID=a=b>",
        [("result", "a=b", "skip", "-2e3", None)],
    ),
    "keys in lower case, a result in upper case, a key that LAVA has no use for": (
        b"<LAVA_SIGNAL_TESTCASE test_case_id=ping result=PASS x=y>",
        [PING],
    ),
    "every spelling": (
        b"".join(
            b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a RESULT=%b>" % word
            for word in (b"FAIL", b"SKIP", b"UNKNOWN")
        ),
        [("result", "a", word, None, None) for word in ("fail", "skip", "unknown")],
    ),
    "in the middle of a line": (b"+ echo '<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass>'\r\n", [PING]),
    "two in a line": (
        b"<LAVA_SIGNAL_STARTTC a><LAVA_SIGNAL_ENDTC a>",
        [("case-start", "a"), ("case-end", "a")],
    ),
    "a run": (
        b"<LAVA_SIGNAL_STARTRUN 0_smoke 12_1.2.3>\r\n<LAVA_SIGNAL_ENDRUN 0_smoke 12_1.2.3>\r\n",
        [("run-start", "0_smoke", "12_1.2.3"), ("run-end", "0_smoke", "12_1.2.3", None)],
    ),
    "a set": (
        b"<LAVA_SIGNAL_TESTSET START net work>\r\n<LAVA_SIGNAL_TESTSET STOP net>\r\n",
        [("set-start", "net"), ("set-stop",)],
    ),
    "a reference": (
        b"<LAVA_SIGNAL_TESTREFERENCE boot PASS http://x/?a=1&b=2>",
        [("reference", "boot", "pass", "http://x/?a=1&b=2")],
    ),
    "messages": (
        b"<LAVA_SIGNAL_TESTRAISE no  network > <LAVA_SIGNAL_TESTEVENT a<b><LAVA_SIGNAL_TESTFEEDBACK ns>",
        [("raise", "no  network"), ("event", "a<b"), ("feedback", "ns")],
    ),
    "not UTF-8": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=\xff\xc3\xa9 RESULT=pass>",
        [("result", "\udcffé", "pass", None, None)],
    ),
    "white space that is not ASCII": (
        "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a\u00a0b RESULT=pass>".encode(),
        [("result", "a\u00a0b", "pass", None, None)],
    ),
    "of LAVA's dispatcher": (b"<LAVA_SIGNAL_RETRUNCODE 0>", []),
    "nearly": (
        b"<LAVA_SIGNA_TESTCASE x><LAVA_MULTI_NODE> <LAVA_SEND x> LAVA_SIGNAL_STARTTC x> <lava_signal_x>",
        [],
    ),
    "after a few beginnings": (b"<<LAVA<LAVA_SIG<LAVA_SIGNAL_STARTTC x>", [("case-start", "x")]),
    # Through /dev/kmsg
    "a time stamp": (b"[   12.345678] <LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass>\r\n", [PING]),
    "a level and a time stamp": (
        b"<8>[    1.234567] <LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass>\r\n",
        [PING],
    ),
    "a caller": (
        b"[    1.234567][  T123] <LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass>\r\n",
        [PING],
    ),
    # A kernel message inside
    "cut": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RES[   12.345678] usb 1-1: <new> a -> b\r\nULT=pass>\r\n",
        [PING],
    ),
    "cut in the marker": (
        b"<LAVA_SIG[12345678.345678] x\r\nNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass>",
        [PING],
    ),
    "cut behind its first character": (
        b"<[    2.000000] x\r\nLAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass>",
        [PING],
    ),
    "cut before its last character": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass[    2.000000][    C1] x\r\n>",
        [PING],
    ),
    "cut by two messages at one place and one at another": (
        b"<LAVA_SIGNAL_TEST[    2.000000] x\r\n[    2.000001] y\r\nCASE TEST_CASE_ID=p"
        b"<12>[    3.000000] z>\r\ning RESULT=pass>",
        [PING],
    ),
    "cut by another signal": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RES[   12.345678] <LAVA_SIGNAL_STARTTC x>\r\nULT=pass>",
        [("case-start", "x"), PING],
    ),
    "cut by a message with half a signal": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RES[   12.345678] <LAVA_SIGNAL_STARTTC x\r\nULT=pass>",
        [("malformed", "there is a line break in it"), PING],
    ),
    "cut, with brackets of its own": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping[1] RES[1.5] <1>\n",
        [("malformed", "'RES[1.5]' is no KEY=VALUE")],
    ),
    "cut by a message without a time stamp": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESnoise\r\nULT=pass><LAVA_SIGNAL_STARTTC x>",
        [("malformed", "there is a line break in it"), ("case-start", "x")],
    ),
    "a message in what is no signal after all": (
        b"<LAVA[    2.000000] <LAVA_SIGNAL_STARTTC x>\r\n<LAVA_SIGNAL_ENDTC x>",
        [("case-start", "x"), ("case-end", "x")],
    ),
    # Damaged
    "its end lost": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RES<LAVA_SIGNAL_STARTTC x>",
        [("malformed", "another one begins in it"), ("case-start", "x")],
    ),
    "its end lost, and the next one cut": (
        b"<LAVA_SIGNAL_STARTTC a<LAVA_SI[    2.000000] x\r\nGNAL_STARTTC b>",
        [("malformed", "another one begins in it"), ("case-start", "b")],
    ),
    "the output ends": (b"<LAVA_SIGNAL_STARTTC x", [("malformed", "the output ended inside it")]),
    "the output ends in a message": (
        b"<LAVA_SIGNAL_STARTTC x[    2.000000] <LAVA_SIGNAL_ENDTC",
        [("malformed", "the output ended inside it")] * 2,
    ),
    "the output ends in a marker": (b"<LAVA_SIGNAL", []),
    "another name": (b"<LAVA_SIGNAL_TESTCSE x=y>", [("malformed", "there is no signal 'TESTCSE'")]),
    "no name": (b"<LAVA_SIGNAL_>", [("malformed", "there is no signal ''")]),
    "no result": (b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=x>", [("malformed", "the result is missing")]),
    "no id": (b"<LAVA_SIGNAL_TESTCASE RESULT=pass>", [("malformed", "the id is missing")]),
    "an id with a space": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a b RESULT=pass>",
        [("malformed", "'b' is no KEY=VALUE")],
    ),
    "another result": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a RESULT=$1>",
        [("malformed", "a result is one of pass, fail, skip, unknown, not '$1'")],
    ),
    "a measurement that is none": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a RESULT=pass MEASUREMENT=1,5>",
        [("malformed", "a measurement is a number, not '1,5'")],
    ),
    "an empty measurement": (
        b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a RESULT=pass MEASUREMENT=>",
        [("malformed", "a measurement is a number, not ''")],
    ),
    "half a run": (
        b"<LAVA_SIGNAL_STARTRUN x>",
        [("malformed", "it should have the name of a run and a uuid")],
    ),
    "no case": (b"<LAVA_SIGNAL_ENDTC >", [("malformed", "it should have the id of a test case")]),
    "a set without a name": (
        b"<LAVA_SIGNAL_TESTSET START>",
        [("malformed", "it should have START and a name, or STOP")],
    ),
    "a URL with a space": (
        b"<LAVA_SIGNAL_TESTREFERENCE a pass b c>",
        [("malformed", "it should have the id of a test case, a result and a URL without spaces")],
    ),
    "no message": (b"<LAVA_SIGNAL_TESTEVENT >", [("malformed", "the message is missing")]),
}


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str) -> None:
    data, expected = CASES[name]
    assert said(data) == expected
    assert scan(*in_bytes(data)) == scan(data)


def test_offsets() -> None:
    first, second = b"<LAVA_SIGNAL_STARTTC a>", b"<LAVA_SIGNAL_ENDTC a>"
    cut = b"<LAVA_SIG[    2.000000] <LAVA_SIGNAL_ENDTC b>\r\nNAL_END<LAVA_[    2.000000] x\r\nSIGNAL_ENDTC c>"
    torn = b"<LAVA_SIGNAL_ENDTC d[    2.000000] x\r\n<LAVA_SIGNAL_ENDTC e<LA[    2.000000] y\r\nVA_SIGNAL_ENDTC f>"
    output = b"x\r\n" + first + b"\r\nout\r\n" + second + cut + torn
    scanner = Scanner(offset=1000)
    found = [item for chunk in in_bytes(output) for item in scanner.receive_data(chunk)]
    # A test's output begins behind its first signal.
    assert found[0].offset == 1000 + output.index(first) + len(first)
    assert [item.offset - 1000 for item in found[1:]] == [
        output.index(second),
        output.index(b"<LAVA_SIGNAL_ENDTC b"),
        output.index(b"<LAVA_SIG["),
        output.index(b"<LAVA_["),
        *(output.index(text) for text in (b"<LAVA_SIGNAL_ENDTC d", b"<LAVA_SIGNAL_ENDTC e", b"<LA[")),
    ]


@pytest.mark.parametrize(
    "before", [b"<LAVA_SIGNAL_STARTTC a", b"<LAVA", b"<LAVA[    2.000000] x", b"<LAVA[  "]
)
def test_output_that_goes_on_after_it_had_ended(before: bytes) -> None:
    """A connection was lost, and is back."""
    scanner = Scanner()
    scanner.receive_data(before)
    assert len(scanner.flush()) == before.startswith(MARKER)
    after = b"_SIGNAL_STARTTC b> <LAVA_SIGNAL_ENDTC c>"
    assert scanner.receive_data(after) == [Signal("case-end", ("c",), len(before) + after.index(b"<"))]
    assert scanner.flush() == []


def test_what_is_kept_of_a_malformed_one() -> None:
    text = b"<LAVA_SIGNAL_TESTEVENT " + b"x" * 1000
    assert scan(text + b"\n") == [Malformed(text[:MAX_SHOWN], "there is a line break in it", 0)]


@pytest.mark.parametrize("size", [MAX_SIGNAL - 1, MAX_SIGNAL, MAX_SIGNAL + 1, 3 * MAX_SIGNAL])
def test_a_long_one(size: int) -> None:
    head = b"<LAVA_SIGNAL_TESTEVENT "
    data = head + b"x" * (size - len(head)) + b"><LAVA_SIGNAL_STARTTC a>"
    *found, last = scan(data)
    assert isinstance(last, Signal)
    assert last.fields == ("a",)
    if size < MAX_SIGNAL:
        assert found == [Signal("event", ("x" * (size - len(head)),), 0)]
    else:
        assert found == [Malformed(data[:MAX_SHOWN], f"it is longer than {MAX_SIGNAL} bytes", 0)]
    assert scan(*in_bytes(data)) == scan(data)


def test_a_signal_that_begins_where_a_long_one_is_given_up() -> None:
    head = b"<LAVA_SIGNAL_TESTEVENT "
    for missing in range(len(MARKER) + 2):
        data = head + b"x" * (MAX_SIGNAL - len(head) - missing) + b"<LAVA_SIGNAL_STARTTC a>"
        found = scan(data)
        assert [type(item) for item in found] == [Malformed, Signal]
        assert found[1].offset == len(data)
        assert scan(*in_bytes(data)) == found


def test_time_is_linear_and_memory_bounded() -> None:
    """Every kind of beginning that is none: also where each is tried, the cost is that of its length."""
    pieces = [
        *(MARKER[:size] for size in range(1, len(MARKER) + 1)),
        *(
            b"<LAVA_SIG[    2.000000] ",
            b"<LAVA_SIGNAL_[",
            b"<[",
            b"<1",
            b"<LAVA<12>[   1",
            b"[    2.000000] ",
        ),
        b"<LAVA_SIGNAL_STARTTC a[    2.000000] <LAVA_SIGNAL_",
    ]
    for piece in pieces:
        scanner = Scanner()
        count = 50_000 // len(piece)
        start = time.process_time()
        for _ in range(count):
            scanner.receive_data(piece)
        # Some 0.1 s on a slow machine; 100 times that, should it be quadratic.
        assert time.process_time() - start < 5
        held = [scanner] + [inner for inner in (scanner._message,) if inner is not None]
        assert sum(len(item._held) + len(item._text) for item in held) < 4 * MAX_SIGNAL


PIECES = st.sampled_from(
    [
        *(MARKER, MARKER[:4], MARKER[4:], b"<", b">", b"\n", b"\r\n", b" ", b"[", b"x", b"<8>", b"]", b"1."),
        *(b"[    2.000000] ", b"<4>[   12.345678] ", b"TESTCASE TEST_CASE_ID=a RESULT=pass>", b"STARTTC a>"),
        *(b"TESTSET STOP>", b"[    2.000000] usb\r\n", b"\xff", b"TESTRAISE "),
    ]
)


@settings(deadline=None)
@given(st.lists(PIECES | st.binary(max_size=4), max_size=30), st.lists(st.integers(1, 40), min_size=1))
def test_any_chunking_finds_the_same(pieces: list[bytes], sizes: list[int]) -> None:
    data = b"".join(pieces)
    whole = scan(data)
    assert scan(*in_bytes(data)) == whole
    chunks, position = [], 0
    while position < len(data):
        chunks.append(data[position : position + sizes[len(chunks) % len(sizes)]])
        position += len(chunks[-1])
    assert scan(*chunks) == whole
    for item in whole:
        if isinstance(item, Signal) and item.kind == "case-start":
            assert data[item.offset - 1 : item.offset] == b">"
        else:
            assert data[item.offset : item.offset + 1] == b"<"


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from([b"usb 1-1: new\r\n", b"a -> <b>\r\n", b"\n"])),
        max_size=5,
    )
)
def test_kernel_messages_with_time_stamps_cost_nothing(cuts: list[tuple[int, bytes]]) -> None:
    data = b"x<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=ping RESULT=pass>y"
    for position, text in sorted(cuts, key=lambda cut: -cut[0]):
        data = data[:position] + b"[   12.345678] " + text + data[position:]
    signals = [item for item in scan(data) if isinstance(item, Signal)]
    assert [(signal.kind, *signal.fields) for signal in signals] == [PING]


LAVA_PATTERN = re.compile(rb"<LAVA_SIGNAL_(\S+) ([^>]+)>")


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"STARTTC", b"ENDTC"]), max_size=5), st.binary(max_size=20))
def test_finds_what_lava_finds(names: list[bytes], between: bytes) -> None:
    """Where nothing is damaged."""
    between = between.replace(b"<", b"").replace(b"[", b"")
    data = between.join(b"<LAVA_SIGNAL_%b id-%d>" % (name, number) for number, name in enumerate(names))
    kinds = {b"STARTTC": "case-start", b"ENDTC": "case-end"}
    assert said(data) == [(kinds[name], text.decode()) for name, text in LAVA_PATTERN.findall(data)]


@example(pieces=[multinode.MARKER, b"[", multinode.MARKER, b">", multinode.MARKER, b">"])
@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"<LAVA_SIGNAL_",
                b"<LAVA_SIGNAL_X>",
                b"<LAVA_SIGNAL_TESTEVENT a>",
                b"<LAVA_SIGNAL_TESTCASE ",
                b"<LAVA_MULTI_NODE> <LAVA_",
                b"<LAVA_MULTI_NODE> <LAVA_SEND a>",
                b"SEND b>",
                *(b"<LAVA_SIG", b"NAL_", b"<LAVA_", b"TEST", b"EVENT a>", b"<6>[    1.234567] <X\n"),
                *(b"\n", b" ", b"\t", b"x", b">", b"<", b"["),
                *(b"[    1.234567] x\n", b"<6>[    1.234567] x\n"),
            ]
        ),
        max_size=30,
    )
)
@example([b"<LAVA_MULTI_NODE> <LAVA_"] * 2 + [b"\n", b"<LAVA_MULTI_NODE> <LAVA_", b">"])
@pytest.mark.parametrize("grammar", [textsignals.SIGNALS, multinode._REQUESTS])
def test_malformed_ones_in_a_row_are_counted(grammar: Grammar[Any], pieces: list[bytes]) -> None:
    """They are what they would have been one by one, and so is all else."""

    def told(many: int) -> tuple[list[Any], int]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(textsignals, "MANY", many)
            patch.setattr(textsignals, "ROW", min(many, textsignals.ROW) // 2)
            scanner = TextScanner(Grammar(grammar.marker, grammar.words, grammar.read))
        found = scanner.receive_data(b"".join(pieces)) + scanner.flush()
        malformed = [item for item in found if isinstance(item, Malformed)]
        return [item for item in found if item not in malformed], sum(item.count for item in malformed)

    assert told(2) == told(1_000_000)


def test_a_stray_bracket_in_a_row_costs_no_more_than_itself() -> None:
    message = b"[    1.234567] usb: hello\n"
    row = (b"<LAVA_SIGNAL_" + message) * 9 + b"x\n" + (b"<LAVA_SIGNAL_" + message + b"q>") * 150
    clean, stray = (len(Scanner().receive_data(data)) for data in (row, row.replace(b"x", b"<x")))
    assert clean == stray < 20


def test_a_flood_of_malformed_ones_is_one() -> None:
    flood = b"<LAVA_SIGNAL_X>" * 1000
    assert Scanner(7).receive_data(flood) == [Malformed(b"<LAVA_SIGNAL_X", "there is no signal 'X'", 7, 1000)]
    flood = b"<LAVA_MULTI_NODE> <LAVA_" * 1000
    (malformed,) = multinode.RequestScanner().receive_data(flood)
    assert isinstance(malformed, Malformed)
    assert malformed.count == 500


MESSAGE = b"<12>[    1.234567] usb 1-1: new device\r\n"


@pytest.mark.parametrize(
    "one",
    [
        *(b"<LAVA_SIGNAL_X>"[:cut] + MESSAGE + b"<LAVA_SIGNAL_X>"[cut:] for cut in (1, 8, 13, 14)),
        *(b"<<LAVA_SIGNAL_X>", b"<LAVA_SIGNAL_[ <>\n"),
    ],
)
def test_a_flood_of_malformed_ones_with_brackets_is_a_few(one: bytes) -> None:
    """Those of kernel messages, and such as begin nothing."""
    flood = one * 1000
    *malformed, last = Scanner(7).receive_data(flood + b"<LAVA_SIGNAL_STARTTC a>")
    assert len(malformed) < 200
    assert sum(item.count for item in malformed if isinstance(item, Malformed)) == 1000
    assert last == Signal("case-start", ("a",), 7 + len(flood) + len(b"<LAVA_SIGNAL_STARTTC a>"))
