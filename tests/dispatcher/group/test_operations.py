# SPDX-License-Identifier: MIT
"""What devices report and ask of their configuration: carried out once, at its place, or refused."""

from typing import Any

import pytest

from dispatcher.group.configuration import Configuration
from dispatcher.group.events import Event, Reported, Waiting
from dispatcher.group.operations import OPERATIONS, Call
from dispatcher.group.state import GroupState
from tests.dispatcher.group.play import founded, joined
from toolkit.wire.vocabulary import MAX_NAME, MAX_TEXT, NO, OK, ProtocolError, unpack_reply

CONFIGURATION = Configuration(
    {"a": {"target-ip": ["192.168.1.7"], "target-storage": ["UMS", "/dev/x", "SATA", "/dev/y"]}}, "for all"
)


class Group:
    """The state of a group with the devices "a" and "b", and what the operations added to its log."""

    def __init__(self) -> None:
        self.state = GroupState()
        self.configuration = CONFIGURATION
        self.events: list[Event] = []
        for event in (founded(), joined("a", "role"), joined("b", "role")):
            self.state.apply(event)

    def ask(
        self, operation: str, *arguments: Any, device: str = "a", identity: bytes = b"1.0"
    ) -> tuple[int, list[Any]] | Event | None:
        """The reply to a request, or the event that it adds."""
        call = Call(device, identity, operation, list(arguments), 1001.0, 77, self.configuration)
        done = OPERATIONS[operation](self.state, call)
        if isinstance(done, bytes):
            return unpack_reply(done)
        if done is not None:
            self.events.append(done)
            self.state.apply(done)
        return done


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
def test_what_is_reported_is_an_event(group: Group, name: str) -> None:
    arguments, fields = CALLS[name]
    kind = name.partition(" ")[0]
    assert group.ask(kind, *arguments) == Reported(1001.0, "a", b"1.0", kind, tuple(fields), 77)


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
    assert group.events == []


# Sets


def test_sets_do_not_nest(group: Group) -> None:
    """The command warns, and goes on."""
    assert isinstance(group.ask("set-start", b"outer", identity=b"1"), Reported)
    assert group.ask("set-start", b"inner", identity=b"2") == (NO, ["a test set is open already: outer"])
    assert isinstance(group.ask("set-start", b"inner", device="b", identity=b"3"), Reported)
    assert isinstance(group.ask("set-stop", identity=b"4"), Reported)
    assert group.ask("set-stop", identity=b"5") == (NO, ["no test set is open"])
    # The replies were lost: what was asked for has been done.
    for operation, identity in ((("set-start", b"outer"), b"1"), (("set-stop",), b"4")):
        assert isinstance(group.ask(*operation, identity=identity), Reported)


def test_a_name_that_is_no_text_is_said_readably(group: Group) -> None:
    group.ask("set-start", b"\xff" + b"x" * 1000, identity=b"1")
    assert group.ask("set-start", b"y", identity=b"2") == (
        NO,
        ["a test set is open already: \\xff" + "x" * 196],
    )


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
    assert group.events == []


def test_shared_configuration(group: Group) -> None:
    assert group.ask("shared-config") == (OK, ["for all"])
    group.configuration = Configuration()
    assert group.ask("shared-config") == (OK, [])


# Who waits for what


def test_what_a_wait_waits_for(group: Group) -> None:
    for identity, (operation, arguments) in enumerate(
        [("wait", [b"x"]), ("wait-all", [b"x", "role"]), ("sync", [b"x"])]
    ):
        for milliseconds in (None, 0, 1500):
            wait = group.ask(
                operation, *arguments, milliseconds, identity=f"{identity} {milliseconds}".encode()
            )
            assert isinstance(wait, Waiting)
            assert wait.timeout == (None if milliseconds is None else milliseconds / 1000)
            assert wait.position == 77
            assert wait.role == ("role" if operation == "wait-all" else None)


def test_the_group_is_told_when_all_have_joined() -> None:
    group = Group()
    assert group.ask("group") == (OK, [["a", "role"], ["b", "role"]])
    group.state = GroupState()
    for event in (founded(size=2), joined("a", "role")):
        group.state.apply(event)
    assert group.ask("group") is None
    group.state.apply(joined("b", "x"))
    assert group.ask("group", device="b") == (OK, [["a", "role"], ["b", "x"]])
    assert group.ask("role", device="b") == (OK, ["x"])


# What commands have refused, and whose time-out a wait has


def test_a_refused_command_fails_the_run(group: Group) -> None:
    group.ask("refused", b"lava-test-case x --result bogus", "no such result")
    reason = "refused: lava-test-case x --result bogus: no such result"
    assert [failure.sentence for failure in group.state.results.failures(over=False)] == [reason]


@pytest.mark.parametrize(
    ("operation", "before"), [("wait", [b"x"]), ("wait-all", [b"x", None]), ("sync", [b"x"])]
)
@pytest.mark.parametrize(("more", "own"), [([], False), ([False], False), ([True], True)])
def test_a_wait_tells_whether_its_script_gave_the_time_out(
    group: Group, operation: str, before: list[Any], more: list[Any], own: bool
) -> None:
    wait = group.ask(operation, *before, 5000, *more)
    assert isinstance(wait, Waiting)
    assert (wait.timeout, wait.own_timeout) == (5.0, own)


@pytest.mark.parametrize("given", [None, 1, "yes"])
def test_whether_it_did_is_yes_or_no(group: Group, given: object) -> None:
    with pytest.raises(ProtocolError, match="yes or no"):
        group.ask("wait", b"x", 5000, given)
