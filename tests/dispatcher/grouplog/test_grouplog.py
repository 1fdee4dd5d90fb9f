# SPDX-License-Identifier: MIT
"""Group logs: every reader gets every event in order, and a file keeps them."""

import logging
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatcher.group.coordinator import Coordinator
from dispatcher.group.events import Event, Joined, Left, Sent, Waiting, WaitKind
from dispatcher.grouplog import GroupLog
from dispatcher.grouplog.file import FileGroupLog, read_events
from dispatcher.grouplog.memory import MemoryGroupLog

A_JOINED = Joined(0.0, "a", "client")
B_JOINED = Joined(1.0, "b", "server")
WAITING = Waiting(2.0, "a", b"\x00" * 8, WaitKind.WAIT, b"ready", None, 30.0)
SENT = Sent(3.0, "b", b"\xff" * 8, b"ready", ((b"ip", b"10.0.0.1"), (b"raw", b"\n\r\x00\x80")))
B_LEFT = Left(4.0, "b", "its script ended")
EVENTS: list[Event] = [A_JOINED, B_JOINED, WAITING, SENT, B_LEFT]


@pytest.fixture(params=["memory", "file"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> GroupLog:
    return MemoryGroupLog() if request.param == "memory" else FileGroupLog(tmp_path / "group.log")


def test_subscribers_are_called_in_order(log: GroupLog) -> None:
    calls: list[tuple[str, Event]] = []
    log.subscribe(lambda event: calls.append(("first", event)))
    log.subscribe(lambda event: calls.append(("second", event)))
    log.append(A_JOINED)
    log.append(B_JOINED)
    assert calls == [("first", A_JOINED), ("second", A_JOINED), ("first", B_JOINED), ("second", B_JOINED)]


def test_a_late_subscriber_gets_the_whole_log(log: GroupLog) -> None:
    seen: list[Event] = []
    log.append(A_JOINED)
    log.append(B_JOINED)
    log.subscribe(seen.append)
    assert seen == [A_JOINED, B_JOINED]
    log.append(WAITING)
    assert seen == [A_JOINED, B_JOINED, WAITING]


def answering(log: GroupLog, seen: list[Event]) -> Callable[[Event], None]:
    """A subscriber that appends an event of its own for each that joins."""

    def answer(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Joined):
            log.append(Left(event.time, event.device, "unwanted"))

    return answer


def test_what_a_subscriber_appends_comes_after_the_present_event_for_all(log: GroupLog) -> None:
    first: list[Event] = []
    second: list[Event] = []
    log.subscribe(answering(log, first))
    log.subscribe(second.append)
    log.append(A_JOINED)
    log.append(B_JOINED)
    a_left = Left(0.0, "a", "unwanted")
    b_left = Left(1.0, "b", "unwanted")
    assert first == second == [A_JOINED, a_left, B_JOINED, b_left]


def test_what_a_late_subscriber_appends_reaches_all_of_them_once(log: GroupLog) -> None:
    first: list[Event] = []
    late: list[Event] = []
    log.subscribe(first.append)
    log.append(A_JOINED)
    log.subscribe(answering(log, late))
    assert first == late == [A_JOINED, Left(0.0, "a", "unwanted")]


def test_a_subscriber_that_another_one_brings_gets_each_event_once(log: GroupLog) -> None:
    brought: list[Event] = []

    def bring(event: Event) -> None:
        if event == B_JOINED:
            log.append(WAITING)
            log.subscribe(brought.append)

    log.subscribe(bring)
    for event in (A_JOINED, B_JOINED, SENT, B_LEFT):
        log.append(event)
    assert brought == EVENTS


def test_what_a_subscriber_raises_comes_out_and_the_log_goes_on(log: GroupLog) -> None:
    coordinator = Coordinator()
    seen: list[Event] = []
    log.subscribe(coordinator.apply)
    log.subscribe(seen.append)
    with pytest.raises(ValueError, match="never joined"):
        log.append(B_LEFT)
    log.append(A_JOINED)
    assert coordinator.members == [("a", "client")]
    assert seen == [A_JOINED]


def test_a_memory_log_may_begin_with_events() -> None:
    seen: list[Event] = []
    log = MemoryGroupLog(EVENTS[:2])
    log.subscribe(seen.append)
    log.append(WAITING)
    assert seen == log.events == EVENTS[:3]


def written(path: Path, events: list[Event]) -> bytes:
    with FileGroupLog(path) as log:
        for event in events:
            log.append(event)
    return path.read_bytes()


def read(path: Path) -> list[Event]:
    with FileGroupLog(path) as log:
        return log.events


def test_a_file_keeps_the_events(tmp_path: Path) -> None:
    path = tmp_path / "group.log"
    written(path, EVENTS[:3])
    assert read(path) == EVENTS[:3]
    content = written(path, EVENTS[3:])
    assert read(path) == EVENTS
    assert path.read_bytes() == content
    assert content.count(b"\n") == len(EVENTS)


def test_a_log_that_is_read_back_folds_to_the_same_state(tmp_path: Path) -> None:
    path = tmp_path / "group.log"
    before = Coordinator()
    with FileGroupLog(path) as log:
        log.subscribe(before.apply)
        for event in EVENTS:
            log.append(event)
    after = Coordinator()
    with FileGroupLog(path) as log:
        log.subscribe(after.apply)
    assert after.members == before.members == [("a", "client"), ("b", "server")]
    assert after.outcome(WAITING.request) == before.outcome(WAITING.request)
    assert after.data_for("a", b"ready") == before.data_for("a", b"ready")


def test_an_event_is_in_the_file_when_append_returns_and_before_anybody_is_told(tmp_path: Path) -> None:
    path = tmp_path / "group.log"
    sizes: list[int] = []
    log = FileGroupLog(path)
    log.subscribe(lambda _: sizes.append(path.read_bytes().count(b"\n")))
    for event in EVENTS:
        log.append(event)
        assert read_events(path) == log.events
    assert sizes == [1, 2, 3, 4, 5]


def test_a_new_file_is_an_empty_log(tmp_path: Path) -> None:
    assert read(tmp_path / "group.log") == []
    assert (tmp_path / "group.log").read_bytes() == b""


def test_a_file_cut_at_any_byte_holds_its_whole_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "group.log"
    content = written(path, EVENTS)
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        caplog.clear()
        lines = content[:length].count(b"\n")
        torn = length - (content[:length].rfind(b"\n") + 1)
        assert read(path) == EVENTS[:lines]
        assert [record.getMessage() for record in caplog.records] == (
            [f"{path}, line {lines + 1}: {torn} bytes of an unfinished event, dropped"] if torn else []
        )
        assert all(record.levelno == logging.WARNING for record in caplog.records)
        written(path, [B_LEFT])
        assert read(path) == [*EVENTS[:lines], B_LEFT]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b"\x80",
        b'{"type":"gone"}',
        b'{"type":"left","time":1.0,"device":"b"}',
        b"[" * 100_000,
    ],
    ids=["empty", "cut", "null", "no UTF-8", "unknown", "field lacks", "deep"],
)
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes, place: int) -> None:
    path = tmp_path / "group.log"
    lines = written(path, EVENTS).splitlines(keepends=True)
    content = b"".join([*lines[:place], line, b"\n", *lines[place:]])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"group\.log, line {place + 1}: "):
        FileGroupLog(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"diary", b"[]", b'{"type', b'{"type":"left"', b'{"time":1'])
def test_only_what_may_be_an_unfinished_event_is_cut_off(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "group.log"
    path.write_bytes(content)
    if b'{"type":"left"'.startswith(content):
        assert read(path) == []
    else:
        with pytest.raises(ValueError, match=r"group\.log, line 1: this is no event"):
            FileGroupLog(path)
        assert path.read_bytes() == content


def test_what_has_no_end_is_not_read() -> None:
    for use in (read_events, FileGroupLog):
        with pytest.raises(OSError, match="no regular file"):
            use("/dev/null")


def test_an_event_that_can_not_be_written_is_not_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "group.log"
    seen: list[Event] = []
    with FileGroupLog(path) as log:
        log.subscribe(seen.append)
        log.append(A_JOINED)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The write stops in the middle of the line, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                log.append(B_JOINED)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.append(B_LEFT)
        assert seen == log.events == [A_JOINED, B_LEFT]
    assert read(path) == [A_JOINED, B_LEFT]


def test_a_file_that_can_not_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileGroupLog(tmp_path / "nowhere" / "group.log")


def test_a_second_process_can_t_have_the_same_log(tmp_path: Path) -> None:
    path = tmp_path / "group.log"
    with FileGroupLog(path) as log:
        log.append(A_JOINED)
        with pytest.raises(BlockingIOError, match="is in use by another process"):
            FileGroupLog(path)
        log.append(B_JOINED)
    with FileGroupLog(path) as log:
        assert log.events == [A_JOINED, B_JOINED]
