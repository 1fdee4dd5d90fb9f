# SPDX-License-Identifier: MIT
"""Dead ends: which waits nobody is left to end, and what is said of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.group.coordinator import MAX_RECENT, Coordinator
from dispatcher.group.deadend import DeadEnd, candidates, find, stuck_devices
from dispatcher.group.events import Sent, Unlocked, Waiting, WaitKind, Whom
from tests.dispatcher.group.play import joined, left, play, released

GROUP = "join s-1 server\njoin c-1 client\n"
THREE = GROUP + "join c-2 client\n"


def all_of(coordinator: Coordinator) -> list[str]:
    return [name for name, _ in coordinator.members]


# What is stuck: devices that do nothing but wait, and those of them that will for ever.
STUCK = {
    "each waits for the other": (GROUP + "wait s-1 a\nwait c-1 b", "s-1 c-1", "s-1 c-1"),
    "the other may still send": (GROUP + "wait s-1 a\nwait c-1 b", "s-1", ""),
    "that it has not sent itself is no hindrance": (THREE + "wait-all s-1 x", "s-1", ""),
    "nobody waits": (GROUP, "s-1 c-1", ""),
    "one waits, the other has not said so": (GROUP + "wait s-1 a", "s-1 c-1", ""),
    "all sync but one, which waits for them": (
        THREE + "sync s-1 x\nsync c-1 x\nwait c-2 go",
        "s-1 c-1 c-2",
        "s-1 c-1 c-2",
    ),
    "two wait for each other, a third runs on": (
        THREE + "wait-all s-1 x client\nwait-all c-1 y server",
        "s-1 c-1",
        "s-1 c-1",
    ),
    "the third is enough for one, and that one for the other": (
        THREE + "wait s-1 x\nwait-all c-1 y server",
        "s-1 c-1",
        "",
    ),
    "who waits for somebody stuck is stuck": (
        THREE + "wait-all s-1 x client\nwait-all c-1 y server\nwait-all c-2 z server",
        "s-1 c-1 c-2",
        "s-1 c-1 c-2",
    ),
    "of two waits one may end": (
        THREE + "wait-all s-1 x client as 1\nwait s-1 y as 2\nwait-all c-1 y server",
        "s-1 c-1",
        "",
    ),
    "of two waits none will end": (
        GROUP + "wait-all s-1 x client as 1\nwait s-1 y as 2\nwait-all c-1 y server",
        "s-1 c-1",
        "s-1 c-1",
    ),
    "one has the lock that the other waits for, and waits for that one": (
        GROUP + "lock s-1 power as 1 -> 1\nlock c-1 power\nwait s-1 go",
        "s-1 c-1",
        "s-1 c-1",
    ),
    "who has the lock goes on": (GROUP + "lock s-1 power as 1 -> 1\nlock c-1 power", "s-1 c-1", ""),
    "the lock of a third": (
        THREE + "lock c-2 power as 1 -> 1\nlock c-1 power\nwait-all s-1 x client",
        "s-1 c-1",
        "",
    ),
    "each has the lock that the other waits for": (
        GROUP + "lock s-1 1 as 1 -> 1\nlock c-1 2 as 2 -> 2\nlock s-1 2 as 3\nlock c-1 1 as 4",
        "s-1 c-1",
        "s-1 c-1",
    ),
    "all messages are taken": (
        GROUP + "send c-1 x as s\nwait-next s-1 x as 1 -> 1\nwait-next s-1 x as 2\nwait c-1 go",
        "s-1 c-1",
        "s-1 c-1",
    ),
    "a message is lent, and may go back": (
        GROUP + "send c-1 x as s\nwait-next s-1 x lent as 1 -> 1\nwait-next s-1 x as 2\nwait c-1 go",
        "s-1 c-1",
        "",
    ),
    "a lock is lent, and may go back": (
        GROUP + "lock s-1 power lent as 1 -> 1\nlock c-1 power\nwait s-1 go",
        "s-1 c-1",
        "",
    ),
    "one that has left sends no more": (
        THREE + "leave c-2\nwait s-1 x\nwait c-1 y",
        "s-1 c-1",
        "s-1 c-1",
    ),
}


@pytest.mark.parametrize(("text", "idle", "stuck"), STUCK.values(), ids=STUCK.keys())
def test_stuck(text: str, idle: str, stuck: str) -> None:
    coordinator = play(text)
    assert stuck_devices(coordinator, idle.split()) == set(stuck.split())
    assert (find(coordinator, idle.split(), 0.0) is None) == (not stuck)


def test_a_wait_to_which_its_script_gave_a_time_out_is_no_dead_end() -> None:
    coordinator = play(GROUP + "wait s-1 a")
    coordinator.apply(Waiting(0.0, "c-1", b"1", WaitKind.WAIT, b"b", None, 5.0, own_timeout=True))
    assert candidates(coordinator) == {"s-1"}
    assert stuck_devices(coordinator, all_of(coordinator)) == set()
    # Neither is one beside it on the same device.
    coordinator.apply(Waiting(0.0, "c-1", b"2", WaitKind.WAIT, b"b", None, None))
    assert stuck_devices(coordinator, all_of(coordinator)) == set()
    coordinator.apply(released(b"1"))
    assert stuck_devices(coordinator, all_of(coordinator)) == {"s-1", "c-1"}


def test_a_time_out_that_the_job_gave_hides_no_dead_end() -> None:
    coordinator = play(GROUP + "wait s-1 a")
    coordinator.apply(Waiting(0.0, "c-1", b"1", WaitKind.WAIT, b"b", None, 5.0))
    assert stuck_devices(coordinator, all_of(coordinator)) == {"s-1", "c-1"}


def test_nobody_is_stuck_while_somebody_has_still_to_join() -> None:
    text = "found s-1:server c-1:client c-2:client\njoin s-1 server\njoin c-1 client\nwait s-1 a\nwait c-1 b"
    coordinator = play(text)
    assert stuck_devices(coordinator, all_of(coordinator)) == set()
    coordinator.apply(joined("c-2", "client"))
    coordinator.apply(left("c-2"))
    assert stuck_devices(coordinator, all_of(coordinator)) == {"s-1", "c-1"}


NAMES = ("a", "b", "c", "d")
ROLES = {"a": "x", "b": "x", "c": "y", "d": "z"}
IDS = (b"1", b"2")


@st.composite
def groups(draw: st.DrawFn) -> Coordinator:
    coordinator = Coordinator()
    for name in NAMES:
        coordinator.apply(joined(name, ROLES[name]))
    for number in range(draw(st.integers(0, 12))):
        name, request, message_id = draw(st.sampled_from(NAMES)), b"%d" % number, draw(st.sampled_from(IDS))
        what = draw(st.sampled_from(["send", "leave", *WaitKind, *WaitKind]))
        if what == "leave":
            coordinator.apply(left(name))
        elif name in coordinator.gone:
            continue
        elif what == "send":
            coordinator.apply(Sent(0.0, name, request, message_id, ()))
        else:
            assert isinstance(what, WaitKind)
            whom: Whom = None
            if what in (WaitKind.WAIT_ALL, WaitKind.SYNC):
                whom = draw(st.sampled_from([None, "x", "y", "z", 2, 3, ("a", "c")]))
            others = tuple(IDS) if what is WaitKind.WAIT and draw(st.booleans()) else ()
            expected = draw(st.sampled_from([False, False, False, True]))
            timeout = draw(st.sampled_from([None, 5.0]))
            wait = Waiting(0.0, name, request, what, message_id, whom, timeout, expected, or_ids=others)
            coordinator.apply(wait)
    return coordinator


@given(groups(), st.sets(st.sampled_from(NAMES)))
def test_stuck_are_those_that_wait_whatever_the_others_send(coordinator: Coordinator, idle: set[str]) -> None:
    """Held against the group itself: all that are able send everything, until nothing changes any more."""
    found = stuck_devices(coordinator, idle)
    told = find(coordinator, idle, 1.0)
    open_before = {wait.waiting.identity for wait in coordinator.open_waits()}
    timed = {wait.waiting.device for wait in coordinator.open_waits() if wait.waiting.own_timeout}
    waiting = {wait.waiting.device for wait in coordinator.open_waits()}
    able = [name for name in NAMES if name not in coordinator.gone and name not in idle & (waiting - timed)]
    for turn in range(60):
        name = able[turn % len(able)] if able else ""
        for message_id in IDS if able else ():
            coordinator.apply(Sent(2.0, name, b"%d %s" % (turn, message_id), message_id, ()))
            coordinator.apply(Unlocked(2.0, name, b"%d unlock %s" % (turn, message_id), message_id))
        still = {wait.waiting.identity for wait in coordinator.open_waits()}
        for wait in told.waits if told else ():
            assert wait.identity in still
        # A wait that has ended lets its device go on, and send.
        ended = {coordinator.outcome(request) for request in open_before - still}
        able += [outcome.device for outcome in ended if outcome and outcome.device not in able]
    assert set(NAMES) - set(able) - coordinator.gone == found


SAID = {
    "who follows a barrier of another role": (
        THREE + "sync s-1 x client as 1\nsync c-1 x client as 2\nwait-all c-2 go server",
        "s-1 and c-1 have waited 57 s in `lava-sync --role client x`: c-2 never came to it and waits itself in "
        "`lava-wait-all go server`",
        "c-2 has waited 55 s in `lava-wait-all go server`: s-1 never sent 'go' and waits itself in "
        "`lava-sync --role client x`",
        "So s-1 and c-2 wait for each other",
    ),
    "a lock": (
        THREE + "leave c-2\nlock s-1 power as 1 -> 1\nlock c-1 power\nwait s-1 go",
        "c-1 has waited 55 s in `lava-lock power`: s-1 has 'power' and waits itself in `lava-wait go`",
        "s-1 has waited 54 s in `lava-wait go`: no other device has sent it: c-2 ended, and all others wait in "
        "`lava-lock power`",
    ),
    "messages that have all been taken": (
        GROUP + "send c-1 x as s\nwait-next s-1 x as 1 -> 1\nwait-next s-1 x as 2\nwait-all c-1 go server",
        "s-1 has waited 56 s in `lava-wait --next x`: c-1 has sent 'x' once, which has been taken; it waits itself in "
        "`lava-wait-all go server`",
        "c-1 has waited 55 s in `lava-wait-all go server`: s-1 never sent 'go' and waits itself in "
        "`lava-wait --next x`",
        "So s-1 and c-1 wait for each other",
    ),
    "a typo": (
        GROUP + "send s-1 redy as s\nwait-all c-1 ready server\nsync s-1 end",
        "c-1 has waited 57 s in `lava-wait-all ready server`: s-1 sent 'redy' (did you mean 'ready'?) and "
        "waits itself in `lava-sync end`",
        "s-1 has waited 56 s in `lava-sync end`: c-1 never came to it and waits itself in `lava-wait-all ready server`",
        "So s-1 and c-1 wait for each other",
    ),
    "a typo of one that has ended": (
        THREE + "send c-2 Ready as s\nleave c-2\nwait s-1 ready\nwait c-1 go",
        "s-1 has waited 55 s in `lava-wait ready`: c-2 sent 'Ready' (did you mean 'ready'?) and ended; "
        "c-1 never sent 'ready' and waits itself in `lava-wait go`",
        "c-1 has waited 54 s in `lava-wait go`: no other device has sent it: c-2 ended, and all others wait in "
        "`lava-wait ready`",
    ),
    "a sync too many": (
        GROUP + "sync s-1 x as 1\nsync c-1 x as 2 -> 1 2\nsync s-1 x as 3\nwait c-1 go",
        "s-1 has waited 56 s in `lava-sync x`: c-1 has synced 'x' once, and this is the second; it waits itself in "
        "`lava-wait go`",
        "c-1 has waited 55 s in `lava-wait go`: s-1 never sent 'go' and waits itself in `lava-sync x`",
        "So s-1 and c-1 wait for each other",
    ),
    "the wrong role": (
        THREE + "send s-1 ready as s\nwait-all c-2 ready client\nwait-all c-1 ready client\nsync s-1 end",
        "c-1 and c-2 have waited 56 s in `lava-wait-all ready client`: c-1 and c-2 never sent 'ready' and wait "
        "themselves in `lava-wait-all ready client`; but s-1, of role server, sent it",
        "s-1 has waited 54 s in `lava-sync end`: c-1 and c-2 never came to it and wait themselves in "
        "`lava-wait-all ready client`",
    ),
    "what controls a terminal": (
        GROUP + "wait s-1 a\x1b[2J\nwait c-1 \u202eb",
        "s-1 has waited 58 s in `lava-wait a\\x1b[2J`: c-1 never sent 'a\\x1b[2J' and waits itself in "
        "`lava-wait \\u202eb`",
        "c-1 has waited 57 s in `lava-wait \\u202eb`: s-1 never sent '\\u202eb' and waits itself in "
        "`lava-wait a\\x1b[2J`",
        "So s-1 and c-1 wait for each other",
    ),
    "network": (
        GROUP + "wait-all s-1 network_info\nwait c-1 go",
        "s-1 has waited 58 s in `lava-network collect`: c-1 never sent 'network_info' and waits itself in "
        "`lava-wait go`",
        "c-1 has waited 57 s in `lava-wait go`: s-1 never sent 'go' and waits itself in `lava-network collect`",
        "So s-1 and c-1 wait for each other",
    ),
    "three in a circle": (
        "join a r\njoin b s\njoin c t\nwait-all c z s\nwait-all b y r\nwait-all a x t",
        "c has waited 57 s in `lava-wait-all z s`: b never sent 'z' and waits itself in `lava-wait-all y r`",
        "b has waited 56 s in `lava-wait-all y r`: a never sent 'y' and waits itself in `lava-wait-all x t`",
        "a has waited 55 s in `lava-wait-all x t`: c never sent 'x' and waits itself in `lava-wait-all z s`",
        "So they wait in a circle: a for c, c for b, b for a",
    ),
}


def dead_end(text: str) -> DeadEnd:
    coordinator = play(text)
    found = find(coordinator, all_of(coordinator), 60.0)
    assert found is not None
    return found


@pytest.mark.parametrize("name", SAID)
def test_what_is_said(name: str) -> None:
    text, first, *others = SAID[name]
    assert dead_end(text).sentences == [f"dead end: {first}", *others]


def test_each_wait_has_its_reason() -> None:
    found = dead_end(GROUP + "wait s-1 a as 1\nwait s-1 b as 2\nsync c-1 x as 3")
    assert found.devices == ["s-1", "c-1"]
    assert found.reasons == {
        b"1": "c-1 never sent 'a' and waits itself in `lava-sync x`",
        b"2": "c-1 never sent 'b' and waits itself in `lava-sync x`",
        b"3": "s-1 never came to it and waits itself in `lava-wait a` and `lava-wait b`",
    }


def test_of_many_devices_little_is_said() -> None:
    names = [f"p{number}" for number in range(50)]
    peers = "".join(f"join {name} peer\n" for name in names)
    one_missing = dead_end(peers + "".join(f"sync {name} start\n" for name in names[1:]) + "wait p0 go")
    each_its_own = dead_end(peers + "".join(f"wait {name} id-{name}\n" for name in names))
    each_for_one = dead_end(peers + "".join(f"wait-all {name} id{name}x peer\n" for name in names))
    assert one_missing.sentences[0].startswith(
        "dead end: p1, p2, p3 and 46 more have waited 10 s in `lava-sync start`: p0 never came to it"
    )
    for found in (one_missing, each_its_own, each_for_one):
        assert len(found.reasons) == 50
        assert len(found.sentences) <= 6
        assert len(" ".join(found.sentences)) < 1500


HINTS = {
    "redy": "did you mean 'ready'?",
    "READY": "did you mean 'ready'?",
    "raedy": "did you mean 'ready'?",
    "ready2": "did you mean 'ready'?",
    "go": "never sent",
    "prepared": "never sent",
}


@pytest.mark.parametrize("sent", HINTS)
def test_slips(sent: str) -> None:
    (first, *_) = dead_end(GROUP + f"send s-1 {sent} as s\nwait c-1 ready\nwait s-1 never").sentences
    assert HINTS[sent] in first


def test_what_somebody_waited_for_was_meant() -> None:
    text = "join a r\njoin b r\nsend a redy as s\nwait b redy as w -> w\nwait b ready\nwait a x"
    assert "did you mean" not in " ".join(dead_end(text).sentences)


def test_numbers_are_meant() -> None:
    text = GROUP + "send s-1 step-1 as s\nwait c-1 step-2\nwait s-1 x"
    assert "did you mean" not in " ".join(dead_end(text).sentences)


def test_a_device_can_not_make_it_slow_by_sending_a_lot() -> None:
    coordinator = play(GROUP + "wait c-1 ready")
    for number in range(10 * MAX_RECENT):
        coordinator.apply(Sent(0.0, "s-1", b"s%d" % number, b"ready" + b"x" * number, ()))
    coordinator.apply(Sent(0.0, "s-1", b"last", b"redy", ()))
    assert coordinator.near_miss("s-1", [b"ready"]) == (b"redy", b"ready")
    for number in range(MAX_RECENT):
        coordinator.apply(Sent(0.0, "s-1", b"t%d" % number, b"%d" % number, ()))
    assert coordinator.near_miss("s-1", [b"ready"]) is None
