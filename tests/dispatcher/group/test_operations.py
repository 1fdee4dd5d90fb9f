# SPDX-License-Identifier: MIT
"""What devices report and ask of their configuration: carried out once, at its place, or refused."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from dispatcher import engine as engine_module
from dispatcher.engine import Engine
from dispatcher.group.configuration import Configuration
from dispatcher.group.events import Reported
from dispatcher.group.operations import OPERATIONS, Call
from dispatcher.grouplog.file import FileGroupLog
from dispatcher.grouplog.memory import MemoryGroupLog
from toolkit.wire.device_link import DeviceLink
from toolkit.wire.vocabulary import (
    MAX_NAME,
    MAX_TEXT,
    NO,
    OK,
    ProtocolError,
    pack_request,
    unpack_reply,
)

CONFIGURATION = Configuration(
    {"a": {"target-ip": ["192.168.1.7"], "target-storage": ["UMS", "/dev/x", "SATA", "/dev/y"]}}, "for all"
)


class Group:
    """An engine with the devices "a" and "b", and what it put out."""

    def __init__(self, log: Any = None, position: int = 0) -> None:
        self.log = MemoryGroupLog() if log is None else log
        self.now = 0.0
        tokens = itertools.count(1)
        self.engine = Engine(self.log, lambda: next(tokens), 1000.0, CONFIGURATION)
        self.output = b""
        for name in "ab":
            self.engine.join(name, "role", self.now, position)

    def ask(
        self, operation: str, *arguments: Any, device: str = "a", identity: bytes = b""
    ) -> tuple[int, list[Any]]:
        """The reply to a request; each has another identity, if none is given."""
        self.now += 1
        identity = identity or str(self.now).encode()
        call = Call(device, identity, operation, list(arguments), self.now)
        reply = OPERATIONS[operation](self.engine, call)
        assert reply is not None
        return unpack_reply(reply)

    def print(self, data: bytes, device: str = "a") -> None:
        self.now += 1
        self.engine.receive_data(device, data, self.now)

    @property
    def reports(self) -> list[Reported]:
        return [event for event in self.log.events if isinstance(event, Reported)]

    def told(self) -> list[tuple[Any, ...]]:
        return [(event.kind, *event.fields) for event in self.reports]


@pytest.fixture
def group() -> Group:
    return Group()


ANY = b"a > b\n\t\xff \xc3\xa9"
TEXT = "a > b\n\t\udcff é"
CALLS = {
    "case-start": ([ANY], [TEXT]),
    "case-end": ([ANY], [TEXT]),
    "result": ([ANY, "pass", b"12.50", ANY], [TEXT, "pass", "12.50", TEXT]),
    "result without more": ([ANY, b"fail", None, None], [TEXT, "fail", None, None]),
    "result with empty units": ([ANY, "skip", None, b""], [TEXT, "skip", None, None]),
    "result of the longest id": (
        [b"x" * MAX_NAME, "unknown", "-1e3", "s"],
        ["x" * MAX_NAME, "unknown", "-1e3", "s"],
    ),
    "reference": ([ANY, "pass", ANY], [TEXT, "pass", TEXT]),
    "set-start": ([ANY], [TEXT]),
    "run-start": ([ANY, b"u"], [TEXT, "u"]),
    "run-start without uuid": ([ANY, b""], [TEXT, None]),
    "run-end": ([ANY, b"u", -9], [TEXT, "u", "-9"]),
    "raise": ([b"x" * MAX_TEXT], ["x" * MAX_TEXT]),
    "event": ([ANY], [TEXT]),
    "feedback": ([ANY], [TEXT]),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_reported_is_in_the_log(group: Group, name: str) -> None:
    arguments, fields = CALLS[name]
    kind = name.partition(" ")[0]
    assert group.ask(kind, *arguments) == (OK, [])
    assert group.reports == [Reported(1001.0, "a", b"1.0", kind, tuple(fields), 0)]


@pytest.mark.parametrize("name", CALLS)
def test_a_repeated_request_is_carried_out_once(group: Group, name: str) -> None:
    arguments, _ = CALLS[name]
    for _ in range(3):
        assert group.ask(name.partition(" ")[0], *arguments, identity=b"same") == (OK, [])
    assert len(group.reports) == 1


# The operation, its arguments, and a part of what is said to them.
REFUSED: dict[str, tuple[str, list[Any], str]] = {
    "no argument": ("result", [], "takes 4 arguments"),
    "one too many": ("case-start", [b"x", b"y"], "takes 1 arguments"),
    "an empty id": ("result", [b"", "pass", None, None], "argument 1 of result"),
    "an id that is a number": ("case-end", [7], "argument 1 of case-end"),
    "an id that is too long": ("case-start", [b"x" * (MAX_NAME + 1)], "argument 1 of case-start"),
    "another result": (
        "result",
        [b"x", "passed", None, None],
        "a result is one of pass, fail, skip, unknown",
    ),
    "a result in upper case": ("reference", [b"x", "PASS", b"u"], "a result is one of"),
    "no result": ("result", [b"x", None, None, None], "argument 2 of result"),
    "a measurement that is none": (
        "result",
        [b"x", "pass", "1,5", None],
        "a measurement is a number, not '1,5'",
    ),
    "a measurement that is a number": ("result", [b"x", "pass", 1.5, None], "argument 3 of result"),
    "an endless measurement": ("result", [b"x", "pass", "1e999", None], "a measurement is a number"),
    "no URL": ("reference", [b"x", "pass", b""], "argument 3 of reference"),
    "no name": ("set-start", [b""], "argument 1 of set-start"),
    "a name for a stop": ("set-stop", [b"x"], "takes 0 arguments"),
    "a status that is text": ("run-end", [b"x", b"", "0"], "argument 3 of run-end"),
    "a status that is true": ("run-end", [b"x", b"", True], "argument 3 of run-end"),
    "a status that is too large": ("run-end", [b"x", b"", 10**9], "a status is a whole number"),
    "a message that is too long": ("raise", [b"x" * (MAX_TEXT + 1)], "argument 1 of raise"),
    "a list": ("event", [[b"x"]], "argument 1 of event"),
    "a key that is bytes": ("config", [b"target-ip"], "argument 1 of config"),
    "a key for all": ("shared-config", ["x"], "takes 0 arguments"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(group: Group, name: str) -> None:
    operation, arguments, sentence = REFUSED[name]
    with pytest.raises(ProtocolError, match=sentence):
        group.ask(operation, *arguments)
    assert group.reports == []


# Sets


def test_sets_do_not_nest(group: Group) -> None:
    assert group.ask("set-start", b"outer") == (OK, [])
    assert group.ask("set-start", b"inner") == (NO, ["a test set is open already: outer"])
    assert group.ask("set-start", b"inner", device="b") == (OK, [])
    assert group.ask("set-stop") == (OK, [])
    assert group.ask("set-start", b"inner") == (OK, [])
    assert [(event.device, event.kind) for event in group.reports] == [
        *[("a", "set-start"), ("b", "set-start"), ("a", "set-stop"), ("a", "set-start")],
    ]


def test_stop_without_start(group: Group) -> None:
    assert group.ask("set-stop") == (NO, ["no test set is open"])
    assert group.reports == []


def test_sets_that_are_told_again(group: Group) -> None:
    """The reply was lost: the same request, and what it asked for has been done."""
    for identity, operation, *arguments in (
        (b"1", "set-start", b"x"),
        (b"2", "set-stop"),
        (b"3", "set-start", b"x"),
    ):
        for _ in range(2):
            assert group.ask(operation, *arguments, identity=identity) == (OK, [])
    assert len(group.reports) == 3


def test_a_name_that_is_no_text_is_said_readably(group: Group) -> None:
    group.ask("set-start", b"\xff" + b"x" * 1000)
    status, (sentence,) = group.ask("set-start", b"y")
    assert status == NO
    assert sentence == "a test set is open already: \\xff" + "x" * 196


# Configuration


@pytest.mark.parametrize(
    ("device", "key", "values"),
    [
        ("a", "target-ip", ["192.168.1.7"]),
        ("a", "target-mac", []),
        ("a", "target-storage", ["UMS", "/dev/x", "SATA", "/dev/y"]),
        ("a", "other", []),
        ("b", "target-ip", []),
    ],
)
def test_configuration(group: Group, device: str, key: str, values: list[str]) -> None:
    assert group.ask("config", key, device=device) == (OK, values)
    assert group.reports == []


def test_shared_configuration(group: Group) -> None:
    assert group.ask("shared-config") == (OK, ["for all"])
    group.engine.configuration = Configuration()
    assert group.ask("shared-config") == (OK, [])


# Positions, text signals, and both together


def test_positions() -> None:
    group = Group(position=1000)
    group.print(b"hello\r\n")
    group.ask("case-start", b"x")
    group.print(b"of the test\r\n<LAVA_SIGNAL_STARTTC y>")
    group.print(b"...<LAVA_SIGNAL_ENDTC y>\r\n", device="b")
    group.ask("case-end", b"x")
    assert [(event.kind, event.device, event.position) for event in group.reports] == [
        ("case-start", "a", 1007),
        ("case-start", "a", 1007 + 13 + 23),
        ("case-end", "b", 1003),
        ("case-end", "a", 1007 + 13 + 23),
    ]


def test_position_of_a_frame_in_the_output(group: Group) -> None:
    """Over a whole link, one byte at a time, with a kernel message inside the frame."""
    link = DeviceLink(7, 9)
    link.submit(pack_request(b"identity", "case-start", b"x"), group.now)
    group.print(b"before\r\n")
    message = b"[   12.345678] usb 1-1: new\r\n"
    cut = False
    while not group.reports:
        frame = link.next_frame(group.now)
        if frame is not None:
            if len(frame) > 60:
                frame = frame[:30] + message + frame[30:]
                cut = True
            for position in range(len(frame)):
                group.engine.receive_data("a", frame[position : position + 1], group.now)
        for _, data in group.engine.data_to_type():
            for line in data.splitlines():
                link.receive_line(line, group.now)
    assert cut
    assert group.reports[0].position == len(b"before\r\n" + message)
    assert b"".join(data for _, data in group.engine.outputs()) == b"before\r\n" + message


def test_text_signals_are_recorded_and_stay_in_the_output(group: Group) -> None:
    text = b"x<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=raw RESULT=PASS>\r\n"
    for position in range(len(text)):
        group.print(text[position : position + 1])
    assert group.told() == [("result", "raw", "pass", None, None)]
    (event,) = group.reports
    assert (event.request, event.position, event.device) == (b"", 1, "a")
    assert event.time == 1000.0 + text.index(b">") + 1
    assert b"".join(data for _, data in group.engine.outputs()) == text


def test_the_same_text_signal_twice_is_two(group: Group) -> None:
    group.print(2 * b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=raw RESULT=PASS>")
    assert len(group.engine.results.cases) == 2


def test_sets_of_both_kinds(group: Group) -> None:
    group.print(b"<LAVA_SIGNAL_TESTSET START text>")
    assert group.ask("set-start", b"frame") == (NO, ["a test set is open already: text"])
    assert group.ask("set-stop") == (OK, [])
    assert group.ask("set-start", b"frame") == (OK, [])
    group.print(b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=raw RESULT=pass><LAVA_SIGNAL_TESTSET STOP>")
    assert group.engine.results.cases[0].set == "frame"
    assert group.ask("set-stop") == (NO, ["no test set is open"])


def test_malformed_signals_are_counted_and_the_first_ones_shown(group: Group) -> None:
    number = engine_module.MAX_MALFORMED_SHOWN + 3
    group.print(number * b"<LAVA_SIGNAL_STARTTC \xff\r\n")
    assert group.engine.results.malformed("a")[0] == number
    *shown, last = group.engine.notices()
    sentence = r"malformed signal '<LAVA_SIGNAL_STARTTC \\xff\r': there is a line break in it"
    assert shown == [("a", sentence)] * engine_module.MAX_MALFORMED_SHOWN
    assert last == ("a", "further malformed signals are only counted")


def test_output_that_ends_in_a_signal(group: Group) -> None:
    group.print(b"<LAVA_SIGNAL_STARTTC x")
    group.engine.close("a", group.now)
    assert group.told() == [("malformed", "<LAVA_SIGNAL_STARTTC x", "the output ended inside it")]


def test_new_results(group: Group) -> None:
    group.ask("result", b"one", "pass", None, None)
    group.print(b"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=two RESULT=fail>", device="b")
    group.ask("event", b"x")
    new = group.engine.new_results()
    assert [(case.device, case.id, str(counts)) for case, counts in new] == [
        ("a", "one", "1 passed"),
        ("b", "two", "1 passed, 1 failed"),
    ]
    assert group.engine.new_results() == []


def test_a_device_whose_share_of_the_log_is_used_up(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_BYTES", 5 * engine_module.EVENT_BYTES)
    group.print(10 * b"<LAVA_SIGNAL_TESTEVENT x><LAVA_SIGNAL_X>")
    # A name counts as well as the event itself.
    assert len(group.reports) == 4
    shown = [sentence for _, sentence in group.engine.notices() if "malformed" not in sentence]
    assert shown == [
        "this device has sent more than a group's log may hold of one device; its text signals are passed over"
    ]
    with pytest.raises(ProtocolError, match="more than a group's log may hold"):
        group.ask("event", b"x")
    assert group.ask("event", b"x", device="b") == (OK, [])


def test_a_dispatcher_that_is_started_again(tmp_path: Path) -> None:
    """It knows the results, the set that is open, and the requests that were carried out."""
    with FileGroupLog(tmp_path / "log") as log:
        group = Group(log)
        group.ask("set-start", b"net")
        group.ask("result", b"x", "fail", b"1", None, identity=b"same")
        group.print(b"<LAVA_SIGNAL_STARTTC\r\n<LAVA_SIGNAL_STARTTC \n")
    with FileGroupLog(tmp_path / "log") as log:
        group = Group(log)
        assert group.engine.new_results() == []
        assert [case.set for case in group.engine.results.cases] == ["net"]
        assert group.engine.results.malformed("a")[0] == 2
        assert group.ask("result", b"x", "fail", b"1", None, identity=b"same") == (OK, [])
        assert len(group.engine.results.cases) == 1
        assert group.ask("set-start", b"y") == (NO, ["a test set is open already: net"])


# What commands have refused, and whose time-out a wait has


def test_a_refused_command_is_noted_once_and_fails_the_run() -> None:
    group = Group()
    for _ in range(2):
        asked = group.ask("refused", b"lava-test-case x --result bogus", "no such result", identity=b"same")
        assert asked == (OK, [])
    reason = "refused: lava-test-case x --result bogus: no such result"
    assert [failure.sentence for failure in group.engine.results.failures(over=False)] == [reason]
    assert group.engine.notices() == [("a", reason)]


@pytest.mark.parametrize(
    ("operation", "before"), [("wait", [b"x"]), ("wait-all", [b"x", None]), ("sync", [b"x"])]
)
@pytest.mark.parametrize(("more", "own"), [([], False), ([False], False), ([True], True)])
def test_a_wait_tells_whether_its_script_gave_the_time_out(
    operation: str, before: list[Any], more: list[Any], own: bool
) -> None:
    group = Group()
    call = Call("a", b"r", operation, [*before, 5000, *more], 1.0)
    assert OPERATIONS[operation](group.engine, call) is None
    (wait,) = group.engine.coordinator.waits()
    assert (wait.timeout, wait.own_timeout) == (5.0, own)


@pytest.mark.parametrize("given", [None, 1, "yes"])
def test_whether_it_did_is_yes_or_no(given: object) -> None:
    with pytest.raises(ProtocolError, match="yes or no"):
        OPERATIONS["wait"](Group().engine, Call("a", b"r", "wait", [b"x", 5000, given], 1.0))
