# SPDX-License-Identifier: MIT
"""Reports: JUnit XML and JSON that hold any text and fit their schemas, and what people read."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.group import results
from dispatcher.group.configuration import parse_configuration
from dispatcher.group.events import readable
from dispatcher.group.results import Results
from dispatcher.line import textsignals
from dispatcher.report import Report, jsonfile, junit, table
from dispatcher.view.display import Row
from tests.dispatcher.group.play import joined, left, reported

ROOT = Path(__file__).parents[3]
JUNIT = xmlschema.XMLSchema(ROOT / "tests" / "data" / "junit.xsd")
SCHEMA = json.loads((ROOT / "docs" / "results.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()

GOOD = [Row("a", "client", "succeeded", True, 3.0), Row("b", "server", "succeeded", True, 2.0)]


def fold(*told: tuple[Any, ...]) -> Results:
    """Results of what devices tell, `(device, kind, fields...)`, a second and 10 bytes between."""
    folded = Results()
    folded.apply(joined("a", "client", START))
    folded.apply(joined("b", "server", START))
    for number, (device, kind, *fields) in enumerate(told, start=1):
        if kind == "left":
            folded.apply(left(device, *fields, time=START + number))
        else:
            folded.apply(reported(device, kind, *fields, time=START + number, position=10 * number))
    return folded


def report(*told: tuple[Any, ...], rows: list[Row] = GOOD, over: bool = True) -> Report:
    return Report(fold(*told), rows, over)


def junit_of(made: Report) -> ElementTree.Element:
    document = junit.document(made)
    JUNIT.validate(document.decode())
    return ElementTree.fromstring(document)


def json_of(made: Report) -> Any:
    document = json.loads(jsonfile.document(made))
    VALIDATOR.validate(document)
    return document


def text_of(made: Report) -> list[str]:
    """The table, its cells joined by spaces, and the sentences."""
    return [" ".join(cells) for cells in table.rows(made)] + table.sentences(made)


EVERYTHING = report(
    ("a", "result", "outside", "pass", None, None),
    ("a", "run-start", "0_smoke", "u-1"),
    ("a", "case-start", "ping"),
    ("a", "case-end", "ping"),
    ("a", "result", "ping", "fail", "12.50", "ms"),
    ("a", "set-start", "net"),
    ("a", "reference", "log", "skip", "http://x/?a=1&b=2"),
    ("a", "result", "speed", "unknown", "9", None),
    ("a", "set-stop"),
    ("a", "raise", "no network"),
    ("a", "event", "halfway"),
    ("a", "feedback", "ns"),
    ("a", "run-end", "0_smoke", "u-1", "1"),
    ("b", "run-start", "lost", None),
    ("b", "malformed", "<LAVA_SIGNAL_X y", "there is no signal 'X'"),
    ("b", "left", "was killed by SIGKILL"),
    rows=[GOOD[0], Row("b", "server", "was killed by SIGKILL", False, 2.0)],
)


# JUnit


def test_junit() -> None:
    assert (
        junit.document(EVERYTHING).decode()
        == """\
<?xml version='1.0' encoding='utf-8'?>
<testsuites name="lavabox" tests="8" failures="1" errors="4">
  <testsuite name="a" hostname="a" tests="1" failures="0" errors="0" skipped="0" time="0.000" timestamp="2026-03-01T12:00:01">
    <properties>
      <property name="role" value="client" />
    </properties>
    <testcase name="outside" classname="a" />
  </testsuite>
  <testsuite name="a.0_smoke" hostname="a" tests="5" failures="1" errors="2" skipped="2" time="11.000" timestamp="2026-03-01T12:00:02">
    <properties>
      <property name="role" value="client" />
      <property name="uuid" value="u-1" />
      <property name="measurement.ping" value="12.50" />
      <property name="units.ping" value="ms" />
      <property name="reference.net.log" value="http://x/?a=1&amp;b=2" />
      <property name="measurement.net.speed" value="9" />
    </properties>
    <testcase name="ping" classname="a.0_smoke" time="1.000">
      <failure type="fail" message="test 'ping' failed (run '0_smoke')">The output of the test is bytes 30 to 40 of a.log.</failure>
    </testcase>
    <testcase name="log" classname="a.0_smoke.net">
      <skipped />
    </testcase>
    <testcase name="speed" classname="a.0_smoke.net">
      <skipped type="unknown" message="the result is unknown" />
    </testcase>
    <testcase name="(run)" classname="a.0_smoke">
      <error type="run" message="run '0_smoke' ended with status 1" />
    </testcase>
    <testcase name="(raise)" classname="a.0_smoke">
      <error type="raise" message="lava-test-raise: no network" />
    </testcase>
  </testsuite>
  <testsuite name="b" hostname="b" tests="1" failures="0" errors="1" skipped="0" time="0.000">
    <properties>
      <property name="role" value="server" />
    </properties>
    <testcase name="(device)" classname="b">
      <error type="device" message="was killed by SIGKILL" />
    </testcase>
  </testsuite>
  <testsuite name="b.lost" hostname="b" tests="1" failures="0" errors="1" skipped="0" time="2.000" timestamp="2026-03-01T12:00:14">
    <properties>
      <property name="role" value="server" />
      <property name="uuid" value="" />
    </properties>
    <testcase name="(run)" classname="b.lost">
      <error type="run" message="run 'lost' ended early: the device was killed by SIGKILL" />
    </testcase>
  </testsuite>
</testsuites>
"""
    )
    junit_of(EVERYTHING)


def test_junit_without_results() -> None:
    root = junit_of(report())
    assert root.attrib == {"name": "lavabox", "tests": "0", "failures": "0", "errors": "0"}
    assert len(root) == 0


def test_a_run_without_results_is_there() -> None:
    root = junit_of(report(("a", "run-start", "empty", "u"), ("a", "run-end", "empty", "u", "0")))
    assert [suite.get("name") for suite in root] == ["a.empty"]


def test_a_failure_without_marks_says_where_it_was_reported() -> None:
    for marks in ([], [("a", "case-start", "x")]):
        root = junit_of(report(*marks, ("a", "result", "x", "fail", None, None)))
        failure = root.find(".//failure")
        assert failure is not None
        assert failure.text == f"Reported at byte {10 * len(marks) + 10} of a.log."


def test_the_schema_refuses() -> None:
    """Else it would prove nothing."""
    document = junit.document(EVERYTHING).decode()
    for old, new in (
        ('tests="8"', 'tests="many"'),
        ("<skipped />", "<skip />"),
        ("<properties>", "<system-out/><properties>"),
        (' classname="b.lost"', ""),
        ('time="1.000"', 'time="1,000"'),
        ("2026-03-01T12:00:01", "yesterday"),
        ('hostname="b"', 'host="b"'),
    ):
        assert old in document
        assert not JUNIT.is_valid(document.replace(old, new))


# Not names of devices and roles, which are checked.
texts = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=()), min_size=1),
    st.binary(min_size=1).map(lambda text: text.decode("utf-8", "surrogateescape")),
    st.sampled_from(
        ["\x00", "]]>", "<!--", "a\r\n\tb", "&#0;", "\ufffe\uffff", "\x7f\x85\u2028", " x ", "--"]
    ),
)
told = st.one_of(
    st.tuples(st.sampled_from("ab"), st.just("result"), texts, st.sampled_from(["pass", "fail", "skip", "unknown"]),
              st.none() | st.floats(allow_nan=False, allow_infinity=False).map(str), st.none() | texts),
    st.tuples(st.sampled_from("ab"), st.just("reference"), texts, st.sampled_from(["pass", "fail"]), texts),
    st.tuples(st.sampled_from("ab"), st.just("set-start"), texts),
    st.tuples(st.sampled_from("ab"), st.just("run-start"), texts, texts),
    st.tuples(st.sampled_from("ab"), st.sampled_from(["raise", "event", "feedback"]), texts),
    st.tuples(st.sampled_from("ab"), st.just("malformed"), texts, texts),
    st.tuples(st.sampled_from("ab"), st.just("left"), texts),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(told, max_size=8), st.booleans())
def test_any_text(steps: list[tuple[Any, ...]], over: bool) -> None:
    made = report(*steps, over=over)
    cases = made.results.cases
    root, document = junit_of(made), json_of(made)
    assert len(root.findall(".//failure")) + len(root.findall(".//error")) == len(made.failures)
    for name, count in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        assert root.get(name) == str(len(root.findall(f".//{count}")))
        for suite in root:
            assert suite.get(name) == str(len(suite.findall(f".//{count}")))
    for device in document["devices"]:
        mine = [case for case in cases if case.device == device["name"]]
        assert [result["id"] for result in device["results"]] == [readable(case.id) for case in mine]
        assert [result["measurement"] for result in device["results"]] == [case.measurement for case in mine]
        assert sum(device["counts"].values()) == len(mine)
        for result, case in zip(device["results"], mine, strict=True):
            run = None if result["run"] is None else device["runs"][result["run"]]
            assert (run is None) == (case.run is None)
            if run is not None and case.run is not None:
                assert run["name"] == readable(made.results.runs[case.run].name)
    shown = text_of(made)
    assert all(line.encode("utf-8") for line in shown)


@settings(deadline=None)
@given(texts)
def test_text_that_xml_can_hold_is_carried_unchanged(text: str) -> None:
    root = junit_of(report(("a", "result", text, "pass", None, None)))
    name = root.find(".//testcase").get("name")  # type: ignore[union-attr]
    assert name == junit._legal(text)
    if all(character in "\t\r\n" or character.isprintable() for character in text):
        assert name == text


def test_what_xml_can_not_hold_is_visible() -> None:
    root = junit_of(report(("a", "result", "\x00a\x04\x1b[2J\udcff\ufffe", "pass", None, None)))
    assert root.find(".//testcase").get("name") == r"\x00a\x04\x1b[2J\xff\ufffe"  # type: ignore[union-attr]


@pytest.mark.parametrize("time", [-1e300, 1e300])
def test_a_time_that_is_no_date(time: float) -> None:
    folded = fold()
    folded.apply(reported("a", "result", "x", "pass", None, None, time=time))
    root = junit_of(Report(folded, GOOD, True))
    assert root[0].get("timestamp") is None


# JSON


def test_json() -> None:
    document = json_of(EVERYTHING)
    a, b = document["devices"]
    assert document["failures"] == [
        {"kind": "case", "device": "a", "sentence": "test 'ping' failed (run '0_smoke')"},
        {"kind": "run", "device": "a", "sentence": "run '0_smoke' ended with status 1"},
        {
            "kind": "run",
            "device": "b",
            "sentence": "run 'lost' ended early: the device was killed by SIGKILL",
        },
        {"kind": "raise", "device": "a", "sentence": "lava-test-raise: no network"},
        {"kind": "device", "device": "b", "sentence": "was killed by SIGKILL"},
    ]
    assert a["counts"] == {"pass": 1, "fail": 1, "skip": 1, "unknown": 1}
    assert a["outcome"] == {"sentence": "succeeded", "good": True, "seconds": 3.0}
    assert a["runs"] == [
        {
            **{"name": "0_smoke", "uuid": "u-1", "started": START + 2, "ended": START + 13, "status": 1},
            **{"ended_early": False, "reason": ""},
        }
    ]
    assert a["results"][1] == {
        **{"id": "ping", "result": "fail", "run": 0, "set": None, "measurement": "12.50", "units": "ms"},
        **{"reference": None, "time": START + 5, "seconds": 1.0, "position": 50},
        "output": {"start": 30, "end": 40},
    }
    assert [(result["id"], result["run"], result["set"], result["output"]) for result in a["results"]] == [
        ("outside", None, None, None),
        ("ping", 0, None, {"start": 30, "end": 40}),
        ("log", 0, "net", None),
        ("speed", 0, "net", None),
    ]
    assert a["raises"] == [{"text": "no network", "run": 0, "time": START + 10, "position": 100}]
    assert [remark["text"] for remark in a["events"] + a["feedback"]] == ["halfway", "ns"]
    # Of each device's own runs.
    assert (b["runs"][0]["name"], b["runs"][0]["ended_early"]) == ("lost", True)
    assert b["malformed_signals"] == {
        "count": 1,
        "last": [
            {
                **{"text": "<LAVA_SIGNAL_X y", "reason": "there is no signal 'X'"},
                **{"time": START + 15, "position": 150},
            }
        ],
    }


def test_a_device_that_took_no_part_this_time() -> None:
    document = json_of(report(("a", "result", "x", "pass", None, None), rows=GOOD[1:]))
    assert [device["outcome"] is None for device in document["devices"]] == [True, False]


def test_json_holds_no_lone_surrogates() -> None:
    text = jsonfile.document(report(("a", "event", "\udcff\ud800"))).decode("ascii")
    assert json.loads(text)["devices"][0]["events"][0]["text"] == r"\xff\ud800"


def test_the_schema_is_one_and_complete() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    document = json.loads(jsonfile.document(EVERYTHING))
    for path in (
        [],
        ["devices", 0],
        ["devices", 0, "results", 1],
        ["devices", 0, "runs", 0],
        ["failures", 0],
    ):
        for change in ({"more": 1}, None):
            copy = json.loads(json.dumps(document))
            value = copy
            for step in path:
                value = value[step]  # type: ignore[index]
            if change is None:
                del value[next(iter(value))]
            else:
                value.update(change)
            assert not VALIDATOR.is_valid(copy), (path, change)


# For people


def test_table() -> None:
    assert text_of(EVERYTHING) == [
        "device run set pass fail skip unknown",
        "a - - 1 0 0 0",
        "a 0_smoke - 0 1 0 0",
        "a 0_smoke net 0 0 1 1",
        "a: test 'ping' failed (run '0_smoke')",
        "a: run '0_smoke' ended with status 1",
        "b: run 'lost' ended early: the device was killed by SIGKILL",
        "a: lava-test-raise: no network",
        "b: 1 malformed signal, not recorded",
    ]


def test_no_results_no_table() -> None:
    assert text_of(report(("a", "event", "x"))) == []


def test_devices_stand_in_their_order() -> None:
    made = report(
        ("b", "result", "x", "pass", None, None),
        ("a", "run-start", "n" * 50, "u"),
        ("a", "result", "x", "pass", None, None),
        ("b", "result", "x", "pass", None, None),
        over=False,
    )
    assert text_of(made)[1:] == [f"a {'n' * 37}... - 1 0 0 0", "b - - 2 0 0 0"]


def test_a_name_that_just_fits() -> None:
    made = report(("a", "set-start", "n" * 40), ("a", "result", "x" * 80, "fail", None, None))
    assert text_of(made)[1:] == [f"a - {'n' * 40} 0 1 0 0", f"a: test '{'x' * 80}' failed (set '{'n' * 40}')"]


def test_several_malformed_signals() -> None:
    made = report(*[("a", "malformed", "<LAVA_SIGNAL_X", "why")] * 2)
    assert text_of(made) == ["a: 2 malformed signals, not recorded"]


def test_many_failures_are_not_all_told() -> None:
    number = table.MAX_SENTENCES + 3
    made = report(*(("a", "result", str(n), "fail", None, None) for n in range(number)))
    sentences = table.sentences(made)
    assert len(sentences) == table.MAX_SENTENCES + 1
    assert sentences[-1] == "and 3 more failures"


def test_what_makes_a_failure() -> None:
    assert report(("a", "result", "x", "unknown", None, None)).failures == []
    assert report(("a", "run-start", "x", "u"), over=False).failures == []
    assert len(report(("a", "run-start", "x", "u"), over=True).failures) == 1
    assert [failure.kind for failure in EVERYTHING.failures] == ["case", "run", "run", "raise", "device"]


# The document

DOCUMENT = (ROOT / "docs" / "results.md").read_text()


def test_the_document_names_every_signal() -> None:
    for name in textsignals._READERS:
        assert f"<LAVA_SIGNAL_{name.decode()} " in DOCUMENT


@pytest.mark.parametrize(
    "sentence",
    [
        f"inside each other, {results.MAX_OPEN_RUNS} at most",
        f"more than {textsignals.MAX_SIGNAL} bytes",
        "and the last ten are in",
        f'`"format": {jsonfile.FORMAT}`',
    ],
)
def test_numbers_of_the_document(sentence: str) -> None:
    assert sentence in " ".join(DOCUMENT.split())


def test_ten() -> None:
    assert results.MAX_MALFORMED == 10
    malformed = SCHEMA["$defs"]["device"]["properties"]["malformed_signals"]["properties"]
    assert malformed["last"]["maxItems"] == results.MAX_MALFORMED


def test_configuration_of_the_document() -> None:
    example = DOCUMENT.partition("```toml\n")[2].partition("```")[0]
    assert parse_configuration(example).values("panda01", "probe-channel") == ["3"]
