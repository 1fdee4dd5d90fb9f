# SPDX-License-Identifier: MIT
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.line.lavasignals import MAX_MESSAGE, MAX_WORD, SignalWriter, word
from dispatcher.line.textsignals import Scanner, Signal
from dispatcher.reportable import REPORTS

# As LAVA's dispatcher finds a signal.
LAVA = re.compile(r"<LAVA_SIGNAL_(\S+) ([^>]+)>")
# What LAVA looks back on connections by docker, ssh or qemu.
WINDOW = 4000


@pytest.fixture
def writer():
    """In a run."""
    writer = SignalWriter()
    writer.write("run-start", ("0_smoke", "u1"))
    return writer


@pytest.mark.parametrize(
    ("kind", "fields", "signal"),
    [
        ("case-start", ("a",), "<LAVA_SIGNAL_STARTTC a>"),
        ("case-end", ("a",), "<LAVA_SIGNAL_ENDTC a>"),
        (
            "result",
            ("a", "pass", None, None),
            "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a RESULT=pass>",
        ),
        (
            "result",
            ("a", "fail", "1.5", "MB/s"),
            "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=a RESULT=fail MEASUREMENT=1.5 UNITS=MB/s>",
        ),
        (
            "reference",
            ("a", "pass", "http://x/y?z=1"),
            "<LAVA_SIGNAL_TESTREFERENCE a pass http://x/y?z=1>",
        ),
        ("set-start", ("s",), "<LAVA_SIGNAL_TESTSET START s>"),
        ("set-stop", (), "<LAVA_SIGNAL_TESTSET STOP>"),
        ("raise", ("no disk here",), "<LAVA_SIGNAL_TESTRAISE no disk here>"),
        ("event", ("half way",), "<LAVA_SIGNAL_TESTEVENT half way>"),
        ("feedback", ("other",), "<LAVA_SIGNAL_TESTFEEDBACK other>"),
        ("run-end", ("0_smoke", "u1", "0"), "<LAVA_SIGNAL_ENDRUN 0_smoke u1>"),
        # As with LAVA's own run.sh, whose last line is not reached.
        ("run-end", ("0_smoke", "u1", "3"), ""),
        ("refused", ("lava-test-case x", "why"), ""),
        ("malformed", ("<LAVA_", "why"), ""),
    ],
)
def test_each_kind_has_its_signal(writer, kind, fields, signal):
    assert writer.write(kind, fields) == signal


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain-1.2/x=y", "plain-1.2/x=y"),
        ("Grüße", "Grüße"),
        ("two words", "two%20words"),
        ("a>b<c", "a%3Eb%3Cc"),
        ("tab\tline\n", "tab%09line%0A"),
        ("nbsp\xa0", "nbsp%C2%A0"),
        ("\udcff", "%FF"),
        ("50%", "50%"),
        ("a%20b", "a%2520b"),
    ],
)
def test_what_no_word_can_hold_is_escaped(text, written):
    assert word(text) == written


def test_long_words_are_cut_and_stay_different():
    first, second = word("x" * 5000 + "1"), word("x" * 5000 + "2")
    assert len(first) == len(second) == MAX_WORD
    assert first != second


def test_a_cut_leaves_no_half_escape():
    assert re.fullmatch(r"(%20)+~[0-9a-f]{8}", word(" " * 300))


def test_messages_keep_their_single_spaces(writer):
    assert writer.write("event", (" a  b > c ",)) == "<LAVA_SIGNAL_TESTEVENT %20a %20b %3E c%20>"
    assert len(writer.write("event", ("x" * 9999,))) < MAX_MESSAGE + 40


@given(
    st.sampled_from(sorted(set(REPORTS) - {"run-start", "run-end", "malformed", "refused"})),
    st.lists(st.text(st.characters(codec=None), min_size=1), min_size=4, max_size=4),
)
def test_whatever_is_reported_lava_finds_one_signal_with_the_words_that_it_expects(kind, texts):
    writer = SignalWriter()
    writer.write("run-start", ("r", "u"))
    signal = writer.write(kind, tuple(texts[: len(REPORTS[kind])]))
    match = LAVA.fullmatch(signal)
    assert match is not None
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", signal)
    assert len(signal) < WINDOW
    signal.encode()
    words = match.group(2).split()
    counts = {"result": 4, "reference": 3, "set-start": 2}
    if kind not in ("raise", "event"):
        assert len(words) == counts.get(kind, 1)


@pytest.mark.parametrize("kind", sorted(set(REPORTS) - {"run-start", "run-end", "malformed", "refused"}))
def test_our_own_scanner_reads_what_was_written(kind, writer):
    values = {"result": "pass", "measurement": "1.5"}
    fields = tuple(values.get(name, "x") for name in REPORTS[kind])
    found = Scanner().receive_data(writer.write(kind, fields).encode())
    assert [(item.kind, item.fields) for item in found if isinstance(item, Signal)] == [(kind, fields)]


def test_nothing_is_written_outside_of_a_run():
    writer = SignalWriter()
    assert writer.write("result", ("a", "pass", None, None)) == ""
    assert writer.write_multinode("sync", "x", passed=True) == ""
    assert writer.left_out == 2
    writer.write("run-start", ("r", "u"))
    writer.write("run-end", ("r", "u", "0"))
    assert writer.write("event", ("x",)) == ""


def test_only_the_outermost_of_nested_runs_is_written():
    writer = SignalWriter()
    assert writer.write("run-start", ("outer", "1")) == "<LAVA_SIGNAL_STARTRUN outer 1>"
    assert writer.write("run-start", ("inner", None)) == ""
    assert writer.write("result", ("a", "pass", None, None)) != ""
    assert writer.write("run-end", ("inner", None, "0")) == ""
    assert writer.write("run-end", ("outer", "1", "0")) == "<LAVA_SIGNAL_ENDRUN outer 1>"


def test_a_run_without_a_uuid_has_two_words_all_the_same():
    assert SignalWriter().write("run-start", ("r", None)) == "<LAVA_SIGNAL_STARTRUN r ->"


def test_a_run_that_the_device_prints_itself_is_not_written_again():
    writer = SignalWriter()
    writer.note("run-start", ("r", "u"))
    assert writer.write("run-start", ("r", "u")) == ""
    assert writer.write("result", ("a", "pass", None, None)) != ""
    writer.note("run-end", ("r", "u", None))
    assert writer.write("run-end", ("r", "u", "0")) == ""


def test_a_multi_device_command_is_a_result_as_in_lava(writer):
    assert writer.write_multinode("wait-all", "Ready", passed=False) == (
        "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=multinode-wait_all-ready RESULT=fail>"
    )
