# SPDX-License-Identifier: MIT
"""Results as JUnit XML, as Jenkins, GitLab and GitHub's actions read it.

JUnit has no results but passed, failed, error and skipped. A result "unknown" becomes a skipped
test with that message: nobody knows that it passed, and it does not make the run a failure here
either. What makes the run a failure and is no result of a test case (a run that ended early, for
example) becomes an error of a test case made up for it, in parentheses. So the file has a failure
or an error if and only if lavabox says that the run failed.

A testcase element can have no properties: measurements and the like are those of its suite.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from dispatcher.group.events import readable
from dispatcher.group.results import Case, Failure, Run
from dispatcher.report import Report

# What no XML 1.0 document can hold, however it is written.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


# The latest time that has a date with a year of four digits.
_LATEST = 253402300799.0


@dataclass(slots=True)
class _Suite:
    """What belongs to one run of a device, or to none of its runs."""

    device: str
    role: str
    run: Run | None
    cases: list[Case] = field(default_factory=list)
    errors: list[Failure] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.device if self.run is None else f"{self.device}.{self.run.name}"


def document(report: Report) -> bytes:
    """The XML document."""
    root = Element("testsuites", name="lavabox")
    for suite in _suites(report):
        root.append(_element(report, suite))
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suites(report: Report) -> list[_Suite]:
    """In the order of the devices; of a device first what belongs to no run, if there is something."""
    results = report.results
    roles = dict(results.devices)
    places: dict[tuple[str, int | None], _Suite] = {}
    for device, role in results.devices:
        places[device, None] = _Suite(device, role, None)
    for number, run in enumerate(results.runs):
        places[run.device, number] = _Suite(run.device, roles[run.device], run)
    for case in results.cases:
        places[case.device, case.run].cases.append(case)
    for failure in report.failures:
        if failure.kind != "case":
            places[failure.device, failure.run].errors.append(failure)
    order = {device: place for place, (device, _) in enumerate(results.devices)}
    used = [suite for suite in places.values() if suite.run is not None or suite.cases or suite.errors]
    return sorted(used, key=lambda suite: order[suite.device])


def _element(report: Report, suite: _Suite) -> Element:
    element = Element("testsuite", name=_legal(suite.name), hostname=_legal(suite.device))
    element.set("tests", str(len(suite.cases) + len(suite.errors)))
    element.set("failures", str(sum(case.result == "fail" for case in suite.cases)))
    element.set("errors", str(len(suite.errors)))
    element.set("skipped", str(sum(case.result in ("skip", "unknown") for case in suite.cases)))
    _set_times(element, suite)
    properties = SubElement(element, "properties")
    for name, value in _properties(suite):
        SubElement(properties, "property", name=_legal(name), value=_legal(value))
    for case in suite.cases:
        element.append(_case(case, suite.name, report.results.failed(case)))
    for failure in suite.errors:
        made_up = SubElement(element, "testcase", name=f"({failure.kind})", classname=_legal(suite.name))
        SubElement(made_up, "error", type=failure.kind, message=_legal(failure.sentence))
    return element


def _case(case: Case, suite: str, sentence: str) -> Element:
    classname = suite if case.set is None else f"{suite}.{case.set}"
    element = Element("testcase", name=_legal(case.id), classname=_legal(classname))
    if case.seconds is not None:
        element.set("time", f"{case.seconds:.3f}")
    if case.result == "fail":
        failure = SubElement(element, "failure", type="fail", message=_legal(sentence))
        failure.text = _place(case)
    elif case.result == "skip":
        SubElement(element, "skipped")
    elif case.result == "unknown":
        SubElement(element, "skipped", type="unknown", message="the result is unknown")
    return element


def _place(case: Case) -> str:
    if case.start is None or case.end is None:
        return f"Reported at byte {case.position} of {case.device}.log."
    return f"The output of the test is bytes {case.start} to {case.end} of {case.device}.log."


def _set_times(element: Element, suite: _Suite) -> None:
    run = suite.run
    if run is not None and run.ended is not None:
        element.set("time", f"{max(0.0, run.ended - run.started):.3f}")
    else:
        element.set("time", f"{sum(case.seconds or 0.0 for case in suite.cases):.3f}")
    began = [run.started] if run is not None else [case.time for case in suite.cases]
    if began and 0 <= min(began) <= _LATEST:
        element.set("timestamp", datetime.fromtimestamp(min(began), UTC).strftime("%Y-%m-%dT%H:%M:%S"))


def _properties(suite: _Suite) -> Iterator[tuple[str, str]]:
    yield "role", suite.role
    if suite.run is not None:
        yield "uuid", suite.run.uuid
    for case in suite.cases:
        path = case.id if case.set is None else f"{case.set}.{case.id}"
        if case.measurement is not None:
            yield f"measurement.{path}", case.measurement
        if case.units is not None:
            yield f"units.{path}", case.units
        if case.reference is not None:
            yield f"reference.{path}", case.reference


def _legal(text: str) -> str:
    """The text with what XML can't hold made visible: "\\x04"."""
    return _ILLEGAL.sub(lambda match: match.group().encode("unicode_escape").decode(), readable(text))
