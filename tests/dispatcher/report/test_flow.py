# SPDX-License-Identifier: MIT
"""Flows: what is folded from a group's log, the table that is drawn of it, and `lavabox flow`."""

import fcntl
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher import cli
from dispatcher.group.coordinator import Coordinator
from dispatcher.group.events import Event, Sent, Waiting, to_json
from dispatcher.report.flow import page, table, tables, words
from dispatcher.report.flow.files import written
from dispatcher.report.flow.model import Flow, Fold, How
from dispatcher.report.flow.table import Cell, Column, Kind, Row, Table
from tests.dispatcher.group.play import joined, left, parse, released, reported
from tests.dispatcher.report.written_log import SYNC, WAIT, WAIT_ALL, Log, fold, reference


def cells(drawn: Table) -> list[list[str]]:
    return [[table.shown(cell).partition(" (")[0] for cell in row.cells] for row in drawn.rows]


# The model


def test_waits_know_what_released_them() -> None:
    flow = reference().flow()
    assert all(wait.how is How.FULFILLED for wait in flow.waits)
    ready = flow.waits[3]
    assert (ready.call, ready.device) == ("lava-wait-all ready server", "c")
    assert [flow.messages[number].device for number in ready.needed] == ["s"]
    assert ready.last is not None
    assert flow.messages[ready.last].released == [3]
    assert ready.seconds == pytest.approx(0.302)
    observer = flow.waits[4]
    assert {flow.messages[number].device for number in observer.needed} == {"s", "c", "o"}
    assert observer.last is not None
    assert flow.messages[observer.last].wait == 6  # the client's lava-sync came last
    assert flow.end == pytest.approx(0.608)


def test_a_sync_that_stands_for_one_in_vain_sends_nothing() -> None:
    log = Log(a="x", b="x").wait(SYNC, "a", "go", timeout=1).release("a", 1, "timed out waiting for b", 1)
    flow = log.wait(SYNC, "a", "go").wait(SYNC, "b", "go").flow()
    assert [message.device for message in flow.messages] == ["a", "b"]
    assert [wait.how for wait in flow.waits] == [How.TIMED_OUT, How.FULFILLED, How.FULFILLED]
    assert flow.waits[0].missing == ("b",)


def test_how_waits_end() -> None:
    log = Log(a="x", b="y", c="z")
    log.wait(WAIT_ALL, "a", "1", "nobody")
    log.wait(WAIT, "a", "2").release("a", 130, "cancelled")
    log.wait(WAIT_ALL, "a", "3", "y").leave("b")
    log.wait(WAIT, "a", "4")
    flow = log.wait(WAIT, "c", "5").leave("c").flow()
    assert [wait.how for wait in flow.waits] == [
        How.FAILED,
        How.INTERRUPTED,
        How.FAILED,
        How.FAILED,
        How.INTERRUPTED,
    ]
    assert flow.waits[2].missing == ("b",)
    assert [wait.stuck for wait in flow.waits] == [False, False, False, False, True]


def test_a_message_that_goes_back_goes_to_the_next_wait() -> None:
    lines = (
        "join a r",
        "join b r",
        "send b x n=1 as s",
        "wait-next a x lent as 1",
        "release 1 130",
        "wait-next a x as 2",
    )
    flow = fold([parse(line.split(), float(number)) for number, line in enumerate(lines)])
    first, second = flow.waits
    assert (first.how, first.last, first.stuck) == (How.INTERRUPTED, None, False)
    assert (second.how, second.last) == (How.FULFILLED, 0)
    assert flow.messages[0].released == [1]


def test_who_is_blocked_at_the_end() -> None:
    log = Log(s="server", a="client", b="client").send("s", "redy")
    log.wait(WAIT_ALL, "a", "ready", "server").wait(WAIT_ALL, "b", "ready", "server").wait(SYNC, "s", "fin")
    flow = log.flow()
    assert words.ending(flow) == "3 of 3 devices are still blocked after 400 ms."
    first, second = words.troubles(flow)
    assert words.sentence(first) == (
        "a and b have been blocked for 200 ms in 'lava-wait-all ready server', waiting for s."
    )
    assert words.sentence(second) == "s has been blocked for 0 ms in 'lava-sync fin', waiting for a and b."
    assert words.doings(flow, first) == ["s is blocked itself, in 'lava-sync fin'; it sent 'redy' and 'fin'."]
    assert not words.good(flow)
    assert words.good(reference().flow())


def test_blocked_until_stopped() -> None:
    log = Log(a="x", b="x").wait(WAIT, "a", "1").send("b", "2").release("a", 130, "cancelled")
    assert words.ending(log.flow()) == "1 of 2 devices was blocked until stopped."
    went_on = log.send("a", "3").flow()
    assert words.ending(went_on).endswith("none is blocked. Waits of 1 of 2 devices failed.")


def test_a_repeated_request_is_one() -> None:
    log = reference()
    assert fold([event for event in log.events for _ in (1, 2)]) == log.flow()


def test_times_never_run_backwards() -> None:
    events = [joined("a", "x", 100.0), Sent(90.0, "a", b"1", b"i", ()), Sent(1e300, "a", b"2", b"i", ())]
    flow = fold(events)
    assert [message.time for message in flow.messages] == [0.0, 1e12]


DEVICES = {"a": "x", "b": "x", "c": "y"}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["send", "wait", "all", "sync", "release", "leave", "join", "result", "run", "repeat"]
        ),
        st.sampled_from(sorted(DEVICES)),
        st.sampled_from([b"i", b"j"]),
        st.sampled_from([None, "x", "y", "nobody"]),
        st.floats(-1, 5),
    ),
    max_size=40,
)


def made(steps: list[tuple[str, str, bytes, str | None, float]]) -> list[Event]:
    events: list[Event] = [joined("a", "x", 0.0), joined("b", "x", 0.0)]
    here, waits, now = {"a", "b"}, [], 0.0
    for number, (what, device, message_id, role, gap) in enumerate(steps):
        now += gap
        request = bytes([number])
        if what == "join":
            here.add(device)
            events.append(joined(device, DEVICES[device], now))
        elif device not in here:
            continue
        elif what == "send":
            events.append(Sent(now, device, request, message_id, ((b"k", b"v"),)))
        elif what in ("wait", "all", "sync"):
            kind = {"wait": WAIT, "all": WAIT_ALL, "sync": SYNC}[what]
            events.append(
                Waiting(now, device, request, kind, message_id, role if what == "all" else None, 1.0)
            )
            waits.append(request)
        elif what == "release" and waits:
            events.append(released(waits[number % len(waits)], 1 if gap > 1 else 130, "for some reason", now))
        elif what == "leave":
            events.append(left(device, "ended with status 0", now))
        elif what == "result":
            events.append(reported(device, "result", "t", "fail", None, None, time=now))
        elif what == "run":
            kind_of, status = ("run-start", ()) if gap > 1 else ("run-end", ("0",))
            events.append(reported(device, kind_of, "r", "u", *status, time=now))
        elif what == "repeat":
            events.append(events[-1])
    return events


@given(STEPS)
def test_flows_agree_with_the_coordinator(steps: list[tuple[str, str, bytes, str | None, float]]) -> None:
    events = made(steps)
    flow = fold(events)
    coordinator = Coordinator()
    ended = {}
    for event in events:
        for outcome in coordinator.apply(event):
            ended[outcome.request] = outcome
    requests = dict.fromkeys(event.identity for event in events if isinstance(event, Waiting))
    assert len(flow.waits) == len(requests)
    open_ = {wait.waiting.identity: tuple(wait.missing) for wait in coordinator.open_waits()}
    for wait, request in zip(flow.waits, requests, strict=True):
        assert (wait.how is How.OPEN) == (request in open_)
        if wait.how is How.OPEN:
            assert wait.missing == open_[request]
            continue
        assert (wait.how is How.FULFILLED) == (ended[request].status == 0)
        assert wait.reason == ended[request].reason
        if wait.how is How.FULFILLED:
            senders = [flow.messages[number].device for number in wait.needed]
            assert len(set(senders)) == len(senders)
            assert wait.last is None or flow.messages[wait.last].device != wait.device
            assert all(flow.messages[number].id == wait.ids[0] for number in wait.needed)
            assert wait.ended is not None
            assert all(flow.messages[number].time <= wait.ended for number in wait.needed)
            # It ended at the very moment at which the last of them came, or began later.
            if wait.last is not None:
                assert wait.ended == max(flow.messages[wait.last].time, wait.began)
    for device in DEVICES:
        for message_id in (b"i", b"j"):
            sent = [m for m in flow.messages if (m.device, m.id) == (device, message_id.decode())]
            assert len(sent) == coordinator.times_sent(device, message_id)


@given(STEPS, st.sampled_from(["role", "device"]), st.integers(20, 200))
def test_any_flow_can_be_drawn(
    steps: list[tuple[str, str, bytes, str | None, float]], by: str, width: int
) -> None:
    flow = fold(made(steps))
    drawn = tables.table(flow, by)
    for row in drawn.rows:
        assert len(row.cells) == len(drawn.columns)
        assert any(cell.kind is Kind.CALL for cell in row.cells)
    lines = table.text(drawn, width).splitlines()
    assert max(map(len, lines)) <= max(width, 45)
    columns = {line.count(" | ") for line in table.markdown(drawn).splitlines() if line.startswith("| ")}
    assert columns == {len(drawn.columns)}


# The table


def test_the_table_is_the_references() -> None:
    drawn = tables.table(reference().flow())
    assert [column.name for column in drawn.columns] == ["s", "c", "o"]
    assert cells(drawn) == [
        ["lava-sync start", "lava-sync start", "lava-sync start"],
        ["...", "lava-wait-all ready server", "lava-sync fin"],
        ["lava-send ready", "", ""],
        ["lava-sync fin", "...", ""],
        ["", "lava-sync fin", ""],
    ]


def test_a_message_stands_between_the_wait_that_it_ended_and_what_came_of_it() -> None:
    log = Log(a="x", b="y", c="z")
    log.step = 0.001
    log.send("c", "other").wait(WAIT, "b", "go").send("a", "go").send("b", "went")
    log.now += 5
    assert cells(tables.table(log.leave("c").flow())) == [
        ["...", "lava-wait go", "lava-send other"],
        ["lava-send go", "", "..."],
        ["...", "lava-send went", "..."],
        ["...", "...", "ended with status 0"],
    ]


def test_devices_of_a_role_that_do_the_same_share_a_column() -> None:
    log = Log(s="server", a="client", b="client")
    log.wait(WAIT, "a", "ready").wait(WAIT, "b", "ready").send("s", "ready", ip="::1")
    log.send("a", "done", by="a").send("b", "done", by="b")
    drawn = tables.table(log.flow())
    assert [(column.name, column.detail) for column in drawn.columns] == [
        ("s", "server"),
        ("client", "2 devices"),
    ]
    assert [[table.shown(cell) for cell in row.cells] for row in drawn.rows] == [
        ["...", "lava-wait ready (100 ms to 200 ms)"],
        ["lava-send ready ip=::1", ""],
        ["...", "lava-send done by=..."],
    ]
    assert len(tables.table(log.flow(), "device").columns) == 3
    differently = tables.table(log.send("b", "more").flow())
    assert [column.name for column in differently.columns] == ["s", "a", "b"]


def test_of_many_devices_those_that_differ_stand_apart() -> None:
    names = {f"c{number}": "client" for number in range(50)}
    log = Log(**names)
    for name in names:
        log.send(name, "hello")
    log.send("c7", "odd")
    drawn = tables.table(log.flow())
    assert [(column.name, column.detail) for column in drawn.columns] == [
        ("client", "49 of 50 devices: c0, c1, c2 and 46 more"),
        ("c7", "client"),
    ]


def test_results_and_what_went_wrong_stand_in_the_table() -> None:
    log = Log(a="x", b="y").report("a", "run-start", "smoke", "u")
    log.report("a", "result", "t1", "pass", None, None).report("a", "result", "t2", "fail", None, None)
    log.report("a", "run-end", "smoke", "u", "1").wait(WAIT, "a", "never", timeout=1)
    log.release("a", 1, "timed out waiting for b", 1).report("a", "raise", "help").wait(WAIT, "b", "x")
    drawn = tables.table(log.flow())
    own = [
        (row.cells[0].text, row.cells[0].note, row.cells[0].bad) for row in drawn.rows if row.cells[0].text
    ]
    assert own == [
        ("begin run smoke", "", False),
        ("1 pass, 1 fail", "failed: t2", True),
        ("run smoke ended", "status 1", True),
        ("lava-wait never", "1.10 s", False),
        ("timed out", "waiting for b", True),
        ("lava-test-raise help", "", True),
    ]
    assert (drawn.rows[-1].cells[1].text, drawn.rows[-1].cells[1].note) == ("still blocked", "waits for a")


def test_wide_tables_are_parted() -> None:
    columns = tuple(Column(f"device-{number}") for number in range(50))
    cell = Cell(Kind.CALL, "lava-wait-all ready server")
    text = table.text(Table(columns, (Row((cell,) * 50, "0.1 s"),), "time"), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert set(re.findall(r"device-\d+", text)) == {column.name for column in columns}
    assert text.count("| time ") > 5


def test_texts_cannot_harm() -> None:
    hostile = "\x1b[2Ja|b`c``<script>\n\u202e\udcff"
    drawn = Table(
        (Column(hostile),), (Row((Cell(Kind.CALL, hostile, hostile),), hostile),), "time", (hostile,)
    )
    text = table.text(drawn, 100)
    assert text.replace("\n", "").isprintable()
    assert "\\xff" in text
    markdown = table.markdown(drawn).splitlines()
    assert markdown[2].startswith("| a\\|b\\`c\\`\\`\\<script\\>")
    assert "``` a\\|b`c``<script>^J\\u202e\\xff ```" in markdown[2].replace("```a", "``` a").replace(
        "ff```", "ff ```"
    )


# lavabox flow


def store(path: Path, events: list[Event]) -> Path:
    path.write_text("".join(json.dumps(to_json(event)) + "\n" for event in events))
    return path


def test_a_stored_log_is_drawn(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    log = store(tmp_path / "group.log", reference().events)
    assert cli.main(["flow", str(log)]) == 0
    assert b"lava-wait-all ready server" in capsysbinary.readouterr().out
    for suffix, begin in ((".html", b"<!DOCTYPE html>"), (".md", b"| time |"), (".txt", b"+----")):
        path = tmp_path / f"flow{suffix}"
        assert cli.main(["flow", str(log), "-o", str(path)]) == 0
        assert path.read_bytes().startswith(begin)
    assert cli.main(["flow", str(log), "--format", "markdown", "-o", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other").read_bytes() == (tmp_path / "flow.md").read_bytes()


def test_what_another_version_wrote_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = store(tmp_path / "group.log", reference().events)
    assert cli.main(["flow", str(log)]) == 0
    plain = capsys.readouterr()
    assert plain.err == ""
    log.write_text(log.read_text() + 2 * '{"type": "split"}\n')
    assert cli.main(["flow", str(log)]) == 0
    told = capsys.readouterr()
    assert told.out == plain.out
    assert told.err.count("events of the kind 'split' are ignored") == 1


def test_a_log_that_is_being_written_is_only_read(tmp_path: Path) -> None:
    log = store(tmp_path / "group.log", reference().events)
    with open(log, "ab") as file:
        file.write(b'{"type":"se')
    before = log.read_bytes()
    assert cli.main(["flow", str(log), "-o", str(tmp_path / "flow.md")]) == 0
    assert log.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["bad.log"], 1, "bad.log, line 2: bad left event: it has no time and no device"),
        (["stranger.log"], 1, "stranger.log, line 1: 'a' never joined the group"),
        (["empty.log"], 1, "empty.log is empty"),
        (["missing.log"], 1, "missing.log"),
        (["good.log", "-o", "flow.pdf"], 2, "give it the suffix .html, .md or .txt"),
        (["good.log", "-o", "missing/flow.md"], 1, "there is no folder"),
        ([], 2, "name the log of a group"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str],
    status: int,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    good = store(tmp_path / "good.log", reference().events).read_text()
    (tmp_path / "bad.log").write_text(good.splitlines()[0] + '\n{"type": "left"}\n')
    store(tmp_path / "stranger.log", [left("a", "gone", 1.0)])
    (tmp_path / "empty.log").touch()
    assert cli.main(["flow", *arguments]) == status
    assert sentence in capsys.readouterr().err


def test_a_log_that_goes_on_is_measured_to_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "group.log"
    began = time.time() - 30
    store(
        path,
        [
            joined("a-1", "a", began),
            joined("b-1", "b", began),
            Waiting(began, "a-1", b"1", WAIT, b"x", None, None),
        ],
    )
    with open(path) as log:
        # As a dispatcher does that has it open.
        fcntl.flock(log, fcntl.LOCK_EX)
        assert cli.main(["flow", str(path)]) == 0
        out = capsys.readouterr().out
        assert re.search(r"a-1 has been blocked for 3\d\.\d s in 'lava-wait x'", out), out
        assert re.search(r"still blocked after 3\d\.\d s", out), out
    assert cli.main(["flow", str(path)]) == 0
    assert "a-1 has been blocked for 0 ms" in capsys.readouterr().out


def test_rows_never_go_back_in_time() -> None:
    """Both clients have sent only after the server's wait began, and their messages stand below it."""
    log = Log(s="server", a="client", b="client")
    log.send("a", "x").wait(WAIT_ALL, "s", "x", "client").send("b", "x").send("a", "y").send("b", "y")
    log.wait(WAIT, "s", "y")
    for by in ("role", "device"):
        heads = [row.head for row in tables.table(log.flow(), by).rows]
        assert heads == sorted(heads)


@given(STEPS, st.sampled_from(["role", "device"]))
def test_no_flow_goes_back_in_time(steps: list[tuple[str, str, bytes, str | None, float]], by: str) -> None:
    heads = tables._Layout(flow := fold(made(steps)), _items(flow, by)).heads
    assert heads == sorted(heads)


def _items(flow: Flow, by: str) -> list[list[tables._Item]]:
    sequences = tables._sequences(flow)
    return [
        tables._lined_up([sequences[name] for name in group]) for group in tables._groups(flow, sequences, by)
    ]


def test_what_is_too_much_for_a_table_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_COLUMNS", 2)
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    monkeypatch.setattr(tables, "_MOST_TROUBLES", 1)
    log = Log(a="r", b="s", c="t")
    for number in range(4):
        log.wait(WAIT, "a", f"x{number}").release("a", 1, "timed out").send("b", "y", at=str(number))
    drawn = tables.table(log.flow())
    assert [column.name for column in drawn.columns] == ["a", "b"]
    assert len(drawn.rows) == 3
    with monkeypatch.context() as patch:
        patch.setattr(tables, "MOST_CELLS", 4)
        assert len(tables.table(log.flow()).rows) == 2
    assert drawn.remarks[-3:] == (
        "There are 4 sentences about waits, of which these are the first 1.",
        "There are 3 columns, of which these are the first 2.",
        f"There are {len(tables._Layout(log.flow(), _items(log.flow(), 'role')).heads)} rows, of which these are the first 3.",
    )


MANY = 10_000
BARRIER = range(1500)


@pytest.mark.parametrize("form", ["text", "html"])
@pytest.mark.parametrize(
    "events",
    [
        [reported("a", "result", f"case{n}", "pass", None, None, time=n) for n in range(MANY)],
        [joined(f"d{n}", f"r{n}", n) for n in range(MANY)],
        [Waiting(n, "a", b"%d" % n, WAIT, b"m%d" % n, None, None) for n in range(MANY)],
        [
            *(joined(f"d{n}", "r") for n in BARRIER),
            *(
                Waiting(1, name, name.encode(), SYNC, b"x", None, None)
                for name in ("a", "b", *(f"d{n}" for n in BARRIER))
            ),
        ],
    ],
    ids=["results", "devices", "open waits", "barrier"],
)
def test_long_logs(events: list[Event], form: str) -> None:
    """Each would take a minute or more if the time grew with the square of the length."""
    fold_ = Fold()
    for event in (joined("a", "a"), joined("b", "b"), *events):
        fold_.apply(event)
    assert written(fold_.finish(), form, "x")


@pytest.mark.parametrize("most", [1, 2, 7, 50, 10_000])
def test_the_newest_part_of_a_flow_belongs_together(most: int) -> None:
    """Whatever is referred to is there, and is what the whole flow refers to; nothing of it touches the fold."""
    log = reference().report("s", "run-start", "r", "u").report("s", "result", "case", "pass", None, None)
    fold_ = Fold()
    for event in log.wait(WAIT, "o", "never").report("c", "raise", "oh").events:
        fold_.apply(event)
    now = log.now + 5
    part = fold_.recent(most, now)
    whole = fold_.finish(now)
    assert part.end == whole.end and part.begin <= part.end
    assert part.waits[-1].missing == whole.waits[-1].missing == ("s", "c")
    assert part.waits[-1].seconds == whole.waits[-1].seconds > 5
    for wait in part.waits:
        (same,) = [
            w for w in whole.waits if (w.device, w.began, w.ids) == (wait.device, wait.began, wait.ids)
        ]
        assert [part.messages[n].time for n in wait.needed] == [whole.messages[n].time for n in same.needed]
        assert wait.how is same.how and wait.stuck == same.stuck and wait.device in part.devices
    for number, message in enumerate(part.messages):
        assert message.number == number
        assert all(part.waits[wait].last == number for wait in message.released)
    assert all(part.runs[case.run].name == "r" for case in part.cases if case.run is not None)
    if most == 10_000:
        assert (part.waits, part.messages, part.cases) == (whole.waits, whole.messages, whole.cases)
        assert (part.devices, part.runs, part.remarks) == (whole.devices, whole.runs, whole.remarks)
    assert page.document(part, None, "x", "1")
