# SPDX-License-Identifier: MIT
"""Group logs: what every kind promises, in one suite; and what is a file's own.

A further kind of log is one more entry of KINDS.
"""

import asyncio
import contextlib
import json
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from dispatcher.group.events import Event, Founded, Joined, Left, Sent, Waiting, WaitKind, to_json
from dispatcher.group.state import GroupState
from dispatcher.grouplog import GroupLog, GroupLogError
from dispatcher.grouplog.file import FileGroupLog, read_events
from dispatcher.grouplog.memory import MemoryGroupLog
from dispatcher.grouplog.nats.address import parse_address
from dispatcher.grouplog.nats.log import NatsGroupLog
from tests.dispatcher.grouplog.natsserver import url

FOUNDED = Founded(0.0, b"founded")
A_JOINED = Joined(0.0, "a", b"a1", "client")
B_JOINED = Joined(1.0, "b", b"b1", "server")
WAITING = Waiting(2.0, "a", b"\x00" * 8, WaitKind.WAIT, b"ready", None, 30.0)
SENT = Sent(3.0, "b", b"\xff" * 8, b"ready", ((b"ip", b"10.0.0.1"), (b"raw", b"\n\r\x00\x80")))
B_LEFT = Left(4.0, "b", b"b2", "its script ended")
EVENTS: list[Event] = [A_JOINED, B_JOINED, WAITING, SENT, B_LEFT]

# Makes a log; each time for the same group, as far as it outlives its process.
Factory = Callable[[], GroupLog]


def memory(folder: Path) -> Factory:
    return MemoryGroupLog


def file(folder: Path) -> Factory:
    return lambda: FileGroupLog(folder / "group.log")


def nats(folder: Path) -> Factory:
    address, _ = parse_address(url(folder))
    return lambda: NatsGroupLog(address, "group")


KINDS: dict[str, Callable[[Path], Factory]] = {"memory": memory, "file": file, "nats": nats}
# Those whose events outlive their process.
LASTING = ["file", "nats"]


class Reader:
    """Opens a log, and keeps what comes out of it."""

    def __init__(self, log: GroupLog, founded: Founded = FOUNDED) -> None:
        self.log = log
        self.founded = founded
        self.events: list[Event] = []
        self.failed: list[tuple[bytes, str]] = []
        self.notices: list[str] = []
        self.on_event: Callable[[Event], object] = lambda event: None

    async def open(self) -> "Reader":
        await self.log.open(
            self.founded,
            self._deliver,
            lambda *why, may_come=False: self.failed.append(why),
            self.notices.append,
            lambda error: self.notices.append(str(error)),
        )
        return self

    def _deliver(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    async def append(self, *events: Event) -> None:
        """Append, and wait until all have come back or failed."""
        for event in events:
            self.log.append(event)
        async with asyncio.timeout(30):
            while any(not self.answered(event) for event in events):
                await asyncio.sleep(0)

    def answered(self, event: Event) -> bool:
        return event in self.events or event.identity in [identity for identity, _ in self.failed]


@contextlib.asynccontextmanager
async def opened(log: GroupLog, founded: Founded = FOUNDED) -> AsyncIterator[Reader]:
    reader = Reader(log, founded)
    await reader.open()
    try:
        yield reader
    finally:
        await log.close()


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    return KINDS[request.param](tmp_path)


@pytest.fixture(params=LASTING)
def make_lasting(request: pytest.FixtureRequest, tmp_path: Path) -> Factory:
    return KINDS[request.param](tmp_path)


def run(test: Awaitable[object]) -> None:
    async def wrapped() -> None:
        await test

    asyncio.run(wrapped())


# -- every kind --------------------------------------------------------------------------------


def test_a_new_log_begins_with_the_event_that_founds_the_group(make: Factory) -> None:
    async def test() -> None:
        async with opened(make()) as reader:
            assert reader.events == [FOUNDED]
            assert reader.notices == []

    run(test())


def test_each_event_comes_back_once_and_in_order(make: Factory) -> None:
    async def test() -> None:
        async with opened(make()) as reader:
            await reader.append(*EVENTS)
            assert reader.events == [FOUNDED, *EVENTS]
            assert reader.failed == []

    run(test())


def test_what_is_appended_while_an_event_is_delivered_comes_after_it(make: Factory) -> None:
    async def test() -> None:
        async with opened(make()) as reader:
            answer = Left(0.0, "a", b"answer", "unwanted")

            def deliver(event: Event) -> None:
                if event is A_JOINED or event == A_JOINED:
                    reader.log.append(answer)

            reader.on_event = deliver
            await reader.append(A_JOINED)
            await reader.append(B_JOINED)
            assert reader.events == [FOUNDED, A_JOINED, answer, B_JOINED]

    run(test())


def test_a_log_is_opened_again_as_it_was_left(make_lasting: Factory) -> None:
    async def test() -> None:
        state = GroupState()
        async with opened(make_lasting()) as reader:
            await reader.append(*EVENTS)
            for event in reader.events:
                state.apply(event)
        for _ in range(2):
            again = GroupState()
            # Another founding event is made each time; that of the log counts.
            async with opened(make_lasting(), Founded(9.0, b"another")) as reader:
                assert reader.events == [FOUNDED, *EVENTS]
                for event in reader.events:
                    again.apply(event)
            assert again.number == state.number
            assert again.coordinator.members == [("a", "client"), ("b", "server")]
            assert again.coordinator.outcome(WAITING.identity) == state.coordinator.outcome(WAITING.identity)
            assert again.coordinator.data_for("a", b"ready") == [("b", *pair) for pair in SENT.data]

    run(test())


def test_a_log_goes_on_where_it_was(make_lasting: Factory) -> None:
    async def test() -> None:
        async with opened(make_lasting()) as reader:
            await reader.append(*EVENTS[:2])
        async with opened(make_lasting()) as reader:
            await reader.append(*EVENTS[2:])
        async with opened(make_lasting()) as reader:
            assert reader.events == [FOUNDED, *EVENTS]

    run(test())


MEMBERS = (("a", "client"), ("b", "server"))
# How a group was founded, as what it is opened, and what is said to it.
FOUNDINGS: dict[str, tuple[Founded, Founded, str]] = {
    "other members": (
        Founded(0.0, b"1", MEMBERS),
        Founded(0.0, b"2", MEMBERS[:1]),
        "the group was founded with the members a:client, b:server, not with the members a:client",
    ),
    "another size": (
        Founded(0.0, b"1", None, 2),
        Founded(0.0, b"2", None, 3),
        "the group was founded with the size 2, not with the size 3",
    ),
    "a size where none was said": (
        Founded(0.0, b"1"),
        Founded(0.0, b"2", None, 3),
        "the group was founded with no size, not with the size 3",
    ),
    "the same members": (Founded(0.0, b"1", MEMBERS, 2), Founded(0.0, b"2", MEMBERS, 2), ""),
    "nothing is said": (Founded(0.0, b"1", MEMBERS, 2), Founded(0.0, b"2"), ""),
}


@pytest.mark.parametrize("name", FOUNDINGS)
def test_a_group_is_founded_once(make_lasting: Factory, name: str) -> None:
    first, second, sentence = FOUNDINGS[name]

    async def test() -> None:
        async with opened(make_lasting(), first) as reader:
            await reader.append(A_JOINED)
        if sentence:
            with pytest.raises(GroupLogError, match=sentence):
                await Reader(make_lasting(), second).open()
        async with opened(make_lasting(), Founded(0.0, b"3") if sentence else second) as reader:
            assert reader.events == [first, A_JOINED]

    run(test())


# -- a file ------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "group.log"


def written(path: Path, events: list[Event]) -> bytes:
    async def write() -> None:
        async with opened(FileGroupLog(path)) as reader:
            await reader.append(*events)

    run(write())
    return path.read_bytes()


def read(path: Path) -> Reader:
    reader = Reader(FileGroupLog(path))

    async def open_and_close() -> None:
        await reader.open()
        await reader.log.close()

    run(open_and_close())
    return reader


def refused(path: Path, sentence: str, *, fresh: bool = False) -> None:
    """Opening it is refused, and it stays as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(GroupLogError, match=sentence):
        run(Reader(FileGroupLog(path, fresh=fresh)).open())
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_file_is_not_touched_by_being_opened(path: Path) -> None:
    content = written(path, EVENTS)
    assert content.count(b"\n") == len(EVENTS) + 1
    assert read(path).notices == []
    assert path.read_bytes() == content


def test_an_event_is_in_the_file_before_it_is_delivered(path: Path) -> None:
    async def test() -> None:
        sizes: list[int] = []
        async with opened(FileGroupLog(path)) as reader:
            reader.on_event = lambda _: sizes.append(path.read_bytes().count(b"\n"))
            for event in EVENTS:
                await reader.append(event)
                # Somebody may look at it meanwhile.
                assert [found for _, found in read_events(path, pytest.fail)] == reader.events
        assert sizes == [2, 3, 4, 5, 6]

    run(test())


def test_a_file_cut_at_any_byte_holds_its_whole_lines(path: Path) -> None:
    content = written(path, EVENTS)
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        lines = content[:length].count(b"\n")
        torn = length - (content[:length].rfind(b"\n") + 1)
        reader = read(path)
        assert reader.events == [FOUNDED, *EVENTS][: max(lines, 1)]
        assert reader.notices == (
            [f"{path}: cut off {torn} bytes of an event that was not finished"] if torn else []
        )
        written(path, [B_LEFT])
        assert read(path).events[-1] == B_LEFT
        assert path.read_bytes().count(b"\n") == max(lines, 1) + 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b"\x80",
        b'{"type":7}',
        b'{"type":"left","time":1.0,"device":"b"}',
        b"[" * 100_000,
    ],
    ids=["empty", "cut", "null", "no UTF-8", "no kind", "field lacks", "deep"],
)
@pytest.mark.parametrize("place", [0, 2, 6])
def test_a_damaged_line_is_named(path: Path, line: bytes, place: int) -> None:
    lines = written(path, EVENTS).splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:place], line, b"\n", *lines[place:]]))
    refused(path, rf"group\.log, line {place + 1}: ")
    with pytest.raises(ValueError, match=rf"group\.log, line {place + 1}: "):
        read_events(path, pytest.fail)


@pytest.mark.parametrize("content", [b"diary", b"[]", b'{"type', b'{"type":"left"', b'{"time":1'])
def test_only_what_may_be_an_unfinished_event_is_cut_off(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    if b'{"type":"left"'.startswith(content):
        assert read(path).events == [FOUNDED]
    else:
        refused(path, r"group\.log, line 1: this is no event")


def test_what_another_version_wrote_is_passed_over_and_kept(path: Path) -> None:
    content = written(path, EVENTS[:2])
    newer = {**to_json(WAITING), "colour": "red"}
    content += b'{"type":"split","time":1.0}\n' * 2 + json.dumps(newer).encode() + b"\n"
    path.write_bytes(content)
    reader = read(path)
    assert reader.events == [FOUNDED, *EVENTS[:3]]
    told = ["events of the kind 'split'", "the field 'colour' of waiting events"]
    assert reader.notices == [f"{what} are ignored: another version of lavabox wrote them" for what in told]
    assert path.read_bytes() == content
    notices: list[str] = []
    assert [number for number, _ in read_events(path, notices.append)] == [1, 2, 3, 6]
    assert notices == reader.notices
    # It goes on behind what it does not know.
    assert written(path, [SENT]).startswith(content)
    assert read(path).events == [FOUNDED, *EVENTS[:4]]


def test_a_file_that_founds_no_group_is_refused(path: Path) -> None:
    path.write_text(json.dumps(to_json(A_JOINED)) + "\n")
    refused(path, "line 1: this does not found a group")
    path.write_text('{"type":"split"}\n')
    refused(path, "line 1: this does not found a group")


def test_a_file_that_is_to_be_new(path: Path) -> None:
    written(path, [])
    refused(path, "holds another run; name a new file, or remove this one", fresh=True)
    path.write_bytes(b"")
    run(Reader(FileGroupLog(path, fresh=True)).open())


@contextlib.contextmanager
def full_disk(path: Path, room: int) -> Iterator[None]:
    """The file may grow by so many bytes only, as on a disk that is nearly full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("room", [0, 10])
def test_an_event_that_can_not_be_written_fails_and_is_not_in_the_file(path: Path, room: int) -> None:
    async def test() -> None:
        async with opened(FileGroupLog(path)) as reader:
            await reader.append(A_JOINED)
            content = path.read_bytes()
            with full_disk(path, room):
                await reader.append(B_JOINED, WAITING)
                assert path.read_bytes() == content
            assert reader.failed == [
                (event.identity, f"{path}: File too large") for event in (B_JOINED, WAITING)
            ]
            # It may be tried again.
            await reader.append(B_LEFT)
            reader.log.append(B_JOINED)
            assert reader.events == [FOUNDED, A_JOINED, B_LEFT, B_JOINED]

    run(test())
    assert read(path).events == [FOUNDED, A_JOINED, B_LEFT, B_JOINED]


def test_a_group_that_can_not_be_begun_is_an_error(path: Path) -> None:
    path.touch()
    with full_disk(path, 10):
        refused(path, "File too large")


def test_what_can_not_be_opened_is_an_error(path: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere" / "group.log", "nowhere")
    refused(tmp_path, "Is a directory")
    # Neither has an end.
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("/dev/null", "a device"), (tmp_path / "pipe", "a named pipe")):
        refused(Path(name), f"it is {kind}, and not a file")
        with pytest.raises(OSError, match=f"it is {kind}, and not a file"):
            read_events(name, pytest.fail)


def test_a_name_that_leads_to_another_file_once_the_log_is_open(path: Path, tmp_path: Path) -> None:
    """What was locked is what is read and written."""

    class Exchanged(FileGroupLog):
        def _lock(self) -> None:
            super()._lock()
            path.rename(tmp_path / "moved")
            path.write_text("something else\n")

    async def test() -> None:
        async with opened(Exchanged(path)) as reader:
            await reader.append(B_JOINED)
            assert reader.events == [FOUNDED, A_JOINED, B_JOINED]

    content = written(path, [A_JOINED])
    run(test())
    assert (tmp_path / "moved").read_bytes().startswith(content)
    assert path.read_text() == "something else\n"


def test_a_second_process_can_t_have_the_same_log(path: Path) -> None:
    async def test() -> None:
        async with opened(FileGroupLog(path)) as reader:
            await reader.append(A_JOINED)
            with pytest.raises(GroupLogError, match="is in use by another process"):
                await Reader(FileGroupLog(path)).open()
            await reader.append(B_JOINED)
        async with opened(FileGroupLog(path)) as reader:
            assert reader.events == [FOUNDED, A_JOINED, B_JOINED]

    run(test())
