# SPDX-License-Identifier: MIT
"""Events to JSON and back: any event survives, anything else is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from dispatcher.group.coordinator import Coordinator
from dispatcher.group.events import (
    Event,
    Founded,
    Joined,
    Left,
    Lost,
    Reader,
    Released,
    Reported,
    Resting,
    Sent,
    Taken,
    UnknownEvent,
    Unlocked,
    Waiting,
    WaitKind,
    from_json,
    readable,
    to_json,
)
from dispatcher.reportable import REPORTS

DATA = Path(__file__).parents[2] / "data"

seconds = st.floats(allow_nan=False, allow_infinity=False)
# Names from a command line carry undecodable bytes as lone surrogates.
names = st.one_of(st.text(), st.binary().map(lambda name: name.decode("utf-8", "surrogateescape")))
texts = names.filter(bool)
fields = {
    "result": st.sampled_from(["pass", "fail", "skip", "unknown"]),
    "measurement": st.none() | st.floats(allow_nan=False, allow_infinity=False).map(str),
    "units": st.none() | names,
    "uuid": names,
    "status": st.none() | st.integers(-255, 255).map(str),
    "count": st.integers(1, 10**9 - 1).map(str),
}
reports = st.sampled_from(sorted(REPORTS)).flatmap(
    lambda kind: st.builds(
        Reported,
        seconds,
        names,
        st.binary(),
        st.just(kind),
        st.tuples(*(fields.get(name, texts) for name in REPORTS[kind])),
        st.integers(0),
    )
)
pairs = st.lists(st.tuples(st.binary(), st.binary())).map(tuple)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        Founded,
        seconds,
        st.binary(),
        st.none() | st.lists(st.tuples(names, names)).map(tuple),
        st.none() | st.integers(),
    ),
    st.builds(Joined, seconds, names, st.binary(), names),
    st.builds(Sent, seconds, names, st.binary(), st.binary(), pairs),
    st.builds(
        Waiting,
        seconds,
        names,
        st.binary(),
        st.sampled_from(WaitKind),
        st.binary(),
        st.none() | names | st.integers() | st.lists(names).map(tuple),
        st.none() | seconds,
        st.booleans(),
        st.integers(),
        st.lists(st.binary()).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(Taken, seconds, names, st.binary(), st.binary()),
    st.builds(Unlocked, seconds, names, st.binary(), st.binary(), st.binary()),
    st.builds(Lost, seconds, names, st.binary(), names, st.booleans()),
    st.builds(Released, seconds, st.binary(), st.binary(), st.integers(), names),
    st.builds(Resting, seconds, st.binary(), st.lists(st.binary()).map(tuple), names),
    st.builds(Left, seconds, names, st.binary(), names),
    reports,
)

WRITTEN = {
    "founded": (
        Founded(1.0, b"f", (("panda01", "client"), ("hb01", "server")), 2),
        {
            "type": "founded",
            "time": 1.0,
            "identity": "66",
            "members": [["panda01", "client"], ["hb01", "server"]],
            "size": 2,
        },
    ),
    "joined": (
        Joined(1.5, "panda01", b"j", "client"),
        {"type": "joined", "time": 1.5, "device": "panda01", "identity": "6a", "role": "client"},
    ),
    "sent": (
        Sent(2.0, "hb01", b"\x00\xff", b"ready", ((b"ip", "é".encode()), (b"raw", b"\x80\xff"))),
        {
            "type": "sent",
            "time": 2.0,
            "device": "hb01",
            "identity": "00ff",
            "message_id": "ready",
            "data": [["ip", "é"], ["raw", "\udc80\udcff"]],
        },
    ),
    "waiting": (
        Waiting(3.0, "panda01", b"r", WaitKind.WAIT_ALL, b"ready", "server", 30.0, True, 1234),
        {
            "type": "waiting",
            "time": 3.0,
            "device": "panda01",
            "identity": "72",
            "kind": "lava-wait-all",
            "message_id": "ready",
            "whom": "server",
            "timeout": 30.0,
            "own_timeout": True,
            "position": 1234,
            "or_ids": [],
            "confirms": False,
            "for_command": False,
        },
    ),
    "waiting for any": (
        Waiting(3.0, "a", b"r", WaitKind.WAIT, b"up", None, None, or_ids=(b"down", b"\xff")),
        {
            "type": "waiting",
            "time": 3.0,
            "device": "a",
            "identity": "72",
            "kind": "lava-wait",
            "message_id": "up",
            "whom": None,
            "timeout": None,
            "own_timeout": False,
            "position": 0,
            "or_ids": ["down", "\udcff"],
            "confirms": False,
            "for_command": False,
        },
    ),
    "unlocked": (
        Unlocked(3.5, "a", b"u", b"power"),
        {
            "type": "unlocked",
            "time": 3.5,
            "device": "a",
            "identity": "75",
            "name": "power",
            "request": "",
        },
    ),
    "taken": (
        Taken(3.5, "a", b"t", b"r"),
        {"type": "taken", "time": 3.5, "device": "a", "identity": "74", "request": "72"},
    ),
    "lost": (
        Lost(3.5, "a", b"l", "connection lost"),
        {
            "type": "lost",
            "time": 3.5,
            "device": "a",
            "identity": "6c",
            "reason": "connection lost",
            "boots": False,
        },
    ),
    "resting": (
        Resting(3.5, b"s", (b"r", b"q"), "its console is silent"),
        {
            "type": "resting",
            "time": 3.5,
            "identity": "73",
            "requests": ["72", "71"],
            "doubt": "its console is silent",
        },
    ),
    "released": (
        Released(4.0, b"e", b"r", 1, "timed out"),
        {
            "type": "released",
            "time": 4.0,
            "identity": "65",
            "request": "72",
            "status": 1,
            "reason": "timed out",
        },
    ),
    "left": (
        Left(5.0, "hb01", b"l", "its script ended"),
        {"type": "left", "time": 5.0, "device": "hb01", "identity": "6c", "reason": "its script ended"},
    ),
    "reported": (
        Reported(6.0, "hb01", b"r", "result", ("boot", "pass", "12.50", None), 1234),
        {
            "type": "reported",
            "time": 6.0,
            "device": "hb01",
            "identity": "72",
            "kind": "result",
            "fields": ["boot", "pass", "12.50", None],
            "position": 1234,
        },
    ),
}


@settings(deadline=None)
@given(events)
def test_every_event_survives(event: Event) -> None:
    text = json.dumps(to_json(event), allow_nan=False)
    assert text.isascii()
    assert from_json(json.loads(text)) == event
    assert Reader(pytest.fail).read_line(text.encode()) == event


@pytest.mark.parametrize(("event", "value"), WRITTEN.values(), ids=WRITTEN.keys())
def test_written_form(event: Event, value: dict[str, Any]) -> None:
    assert to_json(event) == value
    assert from_json(value) == event


@pytest.mark.parametrize(("event", "value"), WRITTEN.values(), ids=WRITTEN.keys())
def test_what_this_version_writes_is_read_in_one_step(
    event: Event, value: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = json.dumps(value).encode()
    if b"\\ud" not in line:  # bytes that are no UTF-8
        monkeypatch.delattr(Reader, "read")
    assert Reader(pytest.fail).read_line(line) == event


# Fields that an event may be without, and what they are then.
DEFAULTS = {("founded", "members"): None, ("founded", "size"): None}
DEFAULTS |= {("waiting", "own_timeout"): False, ("waiting", "position"): 0, ("waiting", "or_ids"): ()}
DEFAULTS |= {("waiting", "confirms"): False, ("waiting", "for_command"): False, ("unlocked", "request"): b""}
DEFAULTS[("lost", "boots")] = False


@pytest.mark.parametrize(("event", "value"), WRITTEN.values(), ids=WRITTEN.keys())
def test_a_field_that_lacks_is_refused_or_has_its_default(event: Event, value: dict[str, Any]) -> None:
    event_type = value["type"]
    for name in value:
        rest = {key: item for key, item in value.items() if key != name}
        if (event_type, name) in DEFAULTS:
            assert from_json(rest) == replace(event, **{name: DEFAULTS[event_type, name]})
            continue
        with pytest.raises(
            ValueError, match="there is no event type" if name == "type" else f"it has no {name}"
        ):
            from_json(rest)


@pytest.mark.parametrize(("event", "value"), WRITTEN.values(), ids=WRITTEN.keys())
def test_what_another_version_wrote_is_passed_over_and_told_of_once(
    event: Event, value: dict[str, Any]
) -> None:
    event_type = value["type"]
    told: list[str] = []
    reader = Reader(told.append)
    assert reader.read(value) == event
    assert told == []
    for _ in range(3):
        assert reader.read({**value, "more": [1], "and more": None}) == event
        assert reader.read({**value, "type": "split"}) is None
    fields = [f"the field {name!r} of {event_type} events" for name in ("and more", "more")]
    assert sorted(told) == sorted(
        f"{what} are ignored: another version of lavabox wrote them"
        for what in ("events of the kind 'split'", *fields)
    )


def test_a_log_is_read_that_was_written_before_every_event_had_an_identity() -> None:
    # Of `lavabox sim --group-log`, as it was at b371cae5.
    lines = (DATA / "group-log-without-identities.jsonl").read_text().splitlines()
    reader = Reader(pytest.fail)
    events = [event for line in lines if (event := reader.read(json.loads(line))) is not None]
    assert len(events) == len({event.identity for event in events}) == len(lines)
    waits = [event for event in events if isinstance(event, Waiting)]
    assert [(wait.kind.value, wait.whom) for wait in waits if wait.whom] == [("lava-wait-all", "b")]
    coordinator = Coordinator()
    statuses = [outcome.status for event in events for outcome in coordinator.apply(event)]
    assert (statuses.count(0), statuses.count(1)) == (9, 1)
    assert not coordinator.anybody_waits


def test_what_is_told_of_is_bounded() -> None:
    told: list[str] = []
    reader = Reader(told.append)
    for number in range(1000):
        assert reader.read({"type": f"kind {number}" + 1000 * "x"}) is None
    assert len(told) == 100
    assert max(map(len, told)) < 200


@pytest.mark.parametrize("value", [{"type": "left"}, {"type": 5}, None, [], {"type": "left", "time": "x"}])
def test_a_reader_refuses_what_is_no_event(value: object) -> None:
    with pytest.raises(ValueError, match="event"):
        Reader(lambda _: pytest.fail("nothing is passed over")).read(value)


BAD_FIELDS = [
    ("founded", "members", [["a"]]),
    ("founded", "members", [["a", "r", "x"]]),
    ("founded", "members", [["a", 1]]),
    ("founded", "members", {"a": "r"}),
    ("founded", "size", "2"),
    ("founded", "size", True),
    ("joined", "time", "1"),
    ("joined", "time", True),
    ("joined", "time", None),
    ("joined", "time", float("nan")),
    ("joined", "time", float("inf")),
    ("joined", "time", 10**400),
    ("joined", "device", 1),
    ("joined", "role", None),
    ("sent", "identity", "0"),
    ("sent", "identity", "xy"),
    ("sent", "identity", 7),
    ("released", "request", None),
    ("sent", "message_id", None),
    ("sent", "message_id", "\ud800"),
    ("sent", "data", None),
    ("sent", "data", {"k": "v"}),
    ("sent", "data", "ab"),
    ("sent", "data", ["kv"]),
    ("sent", "data", [["k"]]),
    ("sent", "data", [["k", "v", "w"]]),
    ("sent", "data", [["k", 1]]),
    ("waiting", "kind", "lava-send"),
    ("waiting", "kind", "WAIT"),
    ("waiting", "kind", []),
    ("waiting", "whom", 1.5),
    ("waiting", "whom", True),
    ("waiting", "whom", ["a", 1]),
    ("waiting", "or_ids", "x"),
    ("waiting", "or_ids", [1]),
    ("waiting", "timeout", "1"),
    ("waiting", "own_timeout", 1),
    ("waiting", "timeout", float("nan")),
    ("waiting", "own_timeout", 1),
    ("waiting", "position", 0.5),
    ("released", "status", 1.0),
    ("released", "status", False),
    ("released", "status", "1"),
    ("released", "reason", None),
    ("left", "reason", b"died"),
    ("reported", "kind", "results"),
    ("reported", "kind", []),
    ("reported", "fields", None),
    ("reported", "fields", "abcd"),
    ("reported", "fields", ["boot", "pass", None]),
    ("reported", "fields", ["boot", "pass", 1, None]),
    ("reported", "fields", ["", "pass", None, None]),
    ("reported", "fields", ["boot", "passed", None, None]),
    ("reported", "fields", ["boot", None, None, None]),
    ("reported", "fields", ["boot", "pass", "nan", None]),
    ("reported", "position", "0"),
    ("reported", "position", True),
]


@pytest.mark.parametrize(("event_type", "name", "value"), BAD_FIELDS)
def test_a_bad_field_is_refused(event_type: str, name: str, value: object) -> None:
    changed = {**WRITTEN[event_type][1], name: value}
    with pytest.raises(ValueError, match=f"bad {event_type} event: "):
        from_json(changed)
    with pytest.raises(ValueError, match=f"bad {event_type} event: "):
        Reader(pytest.fail).read_line(json.dumps(changed, default=list).encode())


@pytest.mark.parametrize("value", [None, 1, "joined", [], {}, {"type": "gone"}, {"type": 1}, {"type": []}])
def test_what_is_no_event_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="event"):
        from_json(value)


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists),
    st.sampled_from(sorted(WRITTEN)),
)
def test_no_value_of_a_field_raises_anything_else(value: object, event_type: str) -> None:
    for name in WRITTEN[event_type][1]:
        changed = {**WRITTEN[event_type][1], name: value}
        line = json.dumps(changed).encode()
        try:
            event = from_json(changed)
        except UnknownEvent:
            continue
        except ValueError:
            with pytest.raises(ValueError, match="event"):
                Reader(pytest.fail).read_line(line)
            continue
        assert from_json(to_json(event)) == event
        assert Reader(pytest.fail).read_line(line) == event


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_a_time_without_a_json_form_is_not_written(time: float) -> None:
    with pytest.raises(ValueError, match="has no JSON form"):
        to_json(Left(time, "hb01", b"l", "died"))


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(UnknownEvent, match="there is no event type 'split'") as caught:
        from_json({"type": "split", "time": 1.0})
    assert caught.value.kind == "split"


def test_a_whole_number_of_seconds_is_read() -> None:
    event = from_json({"type": "left", "time": 5, "device": "hb01", "identity": "6c", "reason": ""})
    assert isinstance(event.time, float)
    assert event == Left(5.0, "hb01", b"l", "")


# A measurement, and whether it is a number.
def test_readable() -> None:
    assert readable("gr\u00fcn \udcff\udc80\ud800 \x04") == "gr\u00fcn \\xff\\x80\\ud800 \x04"


@settings(deadline=None)
@given(names)
def test_readable_text_is_unicode(text: str) -> None:
    readable(text).encode("utf-8")
