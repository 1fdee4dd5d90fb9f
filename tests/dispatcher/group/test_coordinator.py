# SPDX-License-Identifier: MIT
"""The rules of the coordinator, each as a short play with a name (see play.py)."""

import pytest

from dispatcher.group.coordinator import Coordinator, OpenWait, Outcome
from dispatcher.group.events import Event, Lost, Sent, Taken, Unlocked, Waiting, WaitKind
from tests.dispatcher.group.play import joined, left, parse, play, released, reported

PLAYS = {
    "wait ends when another device sends": """
        join a client
        join b server
        wait a x
        send b x as s -> a
    """,
    "wait ends at once when another device has sent": """
        join a client
        join b server
        send b x as s
        wait a x -> a
    """,
    "wait does not end by another id": """
        join a client
        join b server
        wait a x
        send b y as s
        a lacks b
    """,
    "wait does not end by the device's own message": """
        join a client
        join b server
        send a x as s1
        wait a x
        send a x as s2
        a lacks b
    """,
    "wait ends by a sync of another device": """
        join a client
        join b server
        wait a x
        sync b x -> a
        b lacks a
    """,
    "wait can be repeated and ends at once each time": """
        join a client
        join b server
        send b x as s
        wait a x as w1 -> w1
        wait a x as w2 -> w2
    """,
    "one message ends the waits of all others but not of its sender": """
        join a r
        join b r
        join c r
        wait a x
        wait b x
        wait c x
        send b x as s1 -> a c
        send c x as s2 -> b
    """,
    "several waits of one device on one id all end": """
        join a r
        join b r
        wait a x as w1
        wait-all a x as w2
        wait a x as w3
        send b x as s -> w1 w2 w3
    """,
    "wait-all needs all other devices": """
        join a r
        join b r
        join c r
        wait-all a x
        a lacks b c
        send c x as s1
        a lacks b
        send b x as s2 -> a
    """,
    "wait-all does not need the device's own message": """
        join a r
        join b r
        send b x as s
        wait-all a x -> a
    """,
    "wait-all is not ended by one device that sends twice": """
        join a r
        join b r
        join c r
        wait-all a x
        send b x as s1
        send b x as s2
        a lacks c
    """,
    "wait-all of every device ends with the last message that each needs": """
        join a r
        join b r
        join c r
        wait-all a x
        wait-all b x
        wait-all c x
        send a x as s1
        send b x as s2 -> c
        send c x as s3 -> a b
    """,
    "wait-all takes a sync for a message": """
        join a r
        join b r
        wait-all a x
        sync b x -> a
    """,
    "wait-all with a role needs the devices of that role only": """
        join a client
        join b server
        join c server
        join d observer
        wait-all a x server
        a lacks b c
        send d x as s1
        send c x as s2
        send b x as s3 -> a
    """,
    "wait-all with the device's own role needs the others of it": """
        join a peer
        join b peer
        join c guest
        wait-all a x peer
        send a x as s1
        send c x as s2
        a lacks b
        send b x as s3 -> a
    """,
    "wait-all with a role that only the device has ends at once": """
        join a client
        join b server
        wait-all a x client -> a
    """,
    "wait-all with a role that no device has is an error at once": """
        join a client
        join b server
        wait-all a x servers -> a!1
        wait-all a x Server as a2 -> a2!1
    """,
    "a role is known to waits that begin after a device with it joined": """
        join a client
        wait-all a x server as w1 -> w1!1
        join b server
        wait-all a x server as w2
        w2 lacks b
    """,
    "sync ends when all have synced": """
        join a r
        join b r
        join c r
        sync a x
        sync c x
        a lacks b
        sync b x -> a c b
    """,
    "sync takes a message for a sync": """
        join a r
        join b r
        send b x as s
        sync a x -> a
    """,
    "sync is a true barrier when it is repeated": """
        join a r
        join b r
        sync a x as a1
        sync b x as b1 -> a1 b1
        sync a x as a2
        a2 lacks b
        sync b x as b2 -> a2 b2
        sync b x as b3
        b3 lacks a
    """,
    "a fast device is at most one sync ahead": """
        join a r
        join b r
        join c r
        sync a x as a1
        sync b x as b1
        sync c x as c1 -> a1 b1 c1
        sync a x as a2
        sync b x as b2
        a2 lacks c
        sync c x as c2 -> a2 b2 c2
    """,
    "the second sync needs two messages of each": """
        join a r
        join b r
        send b x as s1
        sync a x as a1 -> a1
        sync a x as a2
        a2 lacks b
        send b x as s2 -> a2
    """,
    "a message before the first sync does not make it the second": """
        join a r
        join b r
        send a x as s
        sync a x as a1
        sync b x as b1 -> a1 b1
    """,
    "syncs of different ids count apart": """
        join a r
        join b r
        sync a x as a1
        sync b x as b1 -> a1 b1
        sync a y as a2
        sync b y as b2 -> a2 b2
    """,
    "a sync that timed out has been sent all the same": """
        join a r
        join b r
        sync a x as a1
        release a1 75 -> a1!75
        sync b x as b1 -> b1
    """,
    "a late joiner counts for open waits": """
        join a r
        join b r
        join c r
        wait-all a x
        sync b x
        join d r
        send c x as s1
        a lacks d
        b lacks a d
        send d x as s2 -> a
        send a x as s3 -> b
    """,
    "a late joiner of another role does not count": """
        join a client
        join b server
        join c server
        wait-all a x server
        send b x as s1
        join d client
        join e server
        a lacks c e
        send e x as s2
        send c x as s3 -> a
    """,
    "a late joiner does not undo what has ended": """
        join a r
        join b r
        sync a x
        sync b x -> a b
        join c r
        release a 1
    """,
    "a late joiner gets what was sent before": """
        join a r
        send a x as s
        join b r
        wait b x -> b
    """,
    "a late joiner may end a wait that one device is enough for": """
        join a r
        join b r
        wait a x
        join c r
        a lacks b c
        send c x as s -> a
    """,
    "a repeated request does nothing": """
        join a r
        join b r
        sync a x as r1
        sync a x as r1
        r1 lacks b
        sync b x as r2 -> r1 r2
        sync a x as r1
        sync a x as r3
        r3 lacks b
    """,
    "a repeated message does not count twice": """
        join a r
        join b r
        send b x as s
        sync a x as a1 -> a1
        sync a x as a2
        send b x as s
        a2 lacks b
    """,
    "the identity of another request does nothing, whoever uses it": """
        join a r
        join b r
        join c r
        wait a x as w
        send b x as w
        wait-all c x as w
        w lacks b c
    """,
    "a request that was released stays so": """
        join a r
        join b r
        wait a x as w
        release w 1 -> w!1
        send b x as s
        wait a x as w
    """,
    "a release ends one wait of several": """
        join a r
        join b r
        wait a x as w1
        wait a x as w2
        release w1 130 -> w1!130
        send b x as s -> w2
    """,
    "a release of what has ended or is not known does nothing": """
        join a r
        join b r
        send b x as s
        release s 1
        wait a x as w -> w
        release w 1
        release nothing 1
        wait a x as nothing -> nothing
    """,
    "wait-all and sync fail when a needed device leaves": """
        join a r
        join b r
        join c r
        sync a x
        wait-all b x as w
        wait-all b x r as wr
        leave c -> a!1 w!1 wr!1
    """,
    "a device that leaves when it has sent is no loss": """
        join a r
        join b r
        join c r
        wait-all a x
        send b x as s1
        leave b
        a lacks c
        send c x as s2 -> a
        wait b x -> b
    """,
    "a device that leaves between two syncs is missed at the second": """
        join a r
        join b r
        sync a x as a1
        sync b x as b1 -> a1 b1
        leave b
        sync a x as a2 -> a2!1
    """,
    "a device of another role may leave": """
        join a client
        join b server
        join c observer
        wait-all a x server
        leave c
        send b x as s -> a
    """,
    "wait fails only when all others have left": """
        join a r
        join b r
        join c r
        wait a x
        leave b
        a lacks c
        leave c -> a!1
    """,
    "the waits of a device end with it": """
        join a r
        join b r
        wait a x
        leave a -> a!130
        send b x as s
    """,
    "whoever has left is no loss to itself": """
        join a r
        join b r
        join c r
        sync a x as w1
        wait a y as w2
        sync c x as w3
        leave a -> w1!130 w2!130
        sync b x as w4 -> w3 w4
    """,
    "a wait that is hopeless when it begins ends at once": """
        join a r
        join b r
        join c r
        leave b
        wait-all a x as w1 -> w1!1
        sync a x as w2 -> w2!1
        wait a x as w3
        leave c -> w3!1
        wait a x as w4 -> w4!1
    """,
    "a hopeless sync is a message all the same": """
        join a r
        join b r
        join c r
        leave c
        wait a x
        sync b x -> a b!1
    """,
    "what was sent before all others left fulfils a wait": """
        join a r
        join b r
        send b x as s
        leave b
        wait a x as w1 -> w1
        wait-all a x as w2 -> w2
        sync a x as w3 -> w3
    """,
    "a device that joins again is back": """
        join a r
        join b r
        leave b
        wait-all a x as w1 -> w1!1
        join b r
        wait-all a x as w2
        wait a x as w3
        send b x as s -> w2 w3
    """,
    "a device that joins again keeps its first role": """
        join a client
        join b server
        leave b
        join b client
        wait-all a x client as w1 -> w1
        wait-all a x server as w2
        w2 lacks b
    """,
    "a device that joins twice counts once": """
        join a r
        join b r
        join b r
        sync a x
        sync b x -> a b
    """,
    "leaving twice is leaving once": """
        join a r
        join b r
        join c r
        wait c x
        leave b
        leave b
        c lacks a
        join b r
        leave a
        c lacks b
    """,
    "a device alone has nobody to wait for": """
        join a r
        wait-all a x as w1 -> w1
        sync a x as w2 -> w2
        sync a x as w3 -> w3
        wait a x as w4 -> w4!1
    """,
    "a declared group is complete when all members have joined": """
        found a:client b:server
        join a client
        wait-all a x server as w1
        send a y as s1
        w1 lacks b
        join b server
        send b x as s2 -> w1
    """,
    "what a declared member lacks counts before it has joined": """
        found a:r b:r c:r
        join a r
        join b r
        sync a x as w1
        sync b x as w2
        w1 lacks c
    """,
    "a lava-wait does not need all members": """
        found a:r b:r c:r
        join a r
        join b r
        wait a x
        send b x as s -> a
    """,
    "a wait-all of those that are there waits for the others to join": """
        found 3
        join a r
        join b r
        send b x as s
        wait-all a x
        join c r
        a lacks c
        send c x as s2 -> a
    """,
    "what is fulfilled by those who have joined ends when the group is complete": """
        found 3
        join a client
        join b server
        send b x as s
        wait-all a x server
        join c client -> a
    """,
    "a role that nobody has yet is no error until all have joined": """
        found 2
        join a client
        wait-all a x server as w
        join b server
        w lacks b
    """,
    "a role that nobody has is an error once all have joined": """
        found 2
        join a client
        wait-all a x servers
        wait a y as w
        join b server -> a!1
    """,
    "who was not declared takes no member's place": """
        found a:r b:r
        join a r
        join c r
        send c x as s1
        wait-all a x
        a lacks b
    """,
    "nobody is alone in a group that is not complete": """
        found 2
        join a r
        wait a x
        join b r
        send b x as s -> a
    """,
    "outcomes come in the order in which the requests were made": """
        join a r
        join b r
        join c r
        wait-all c x r as w1
        wait a x as w2
        wait-all c x as w3
        send a x as s0
        wait c x as w4 -> w4
        wait-all a x as w5
        wait c y as w6
        send b x as s1 -> w1 w2 w3
    """,
    "wait-next gives each message once, in order, and not the own ones": """
        join a r
        join b r
        send b x as s1
        send a x as s2
        send b x as s3
        wait-next a x as 1 -> 1
        wait-next a x as 2 -> 2
        wait-next a x as 3
        wait-next a x as 4
        send b x as s4 -> 3
        send b x as s5 -> 4
        wait-next b x as 5 -> 5
    """,
    "a message that is lent holds up the device's next wait for it, until it is taken": """
        join a r
        join b r
        send b x as s1
        send b x as s2
        wait-next a x lent as 1 -> 1
        wait-next a x lent as 2
        take a 1 as t1 -> 2
        take a 1 as t2
    """,
    "a message that goes back is the next one": """
        join a r
        join b r
        wait-next a x lent as 1
        send b x as s1 -> 1
        wait-next a x lent as 2
        release 1 130 -> 2
        take a 1 as t1 -> t1!1
        take a 2 as t2
        release 2 130
        wait-next a x as 3
    """,
    "who waits behind a message that is lent is not hopeless yet": """
        join a r
        join b r
        send b x as s1
        wait-next a x lent as 1 -> 1
        wait-next a x as 2
        leave b
        take a 1 as t -> 2!1
    """,
    "a message that is lent to a device that ends goes back": """
        join a r
        join b r
        send b x as s1
        wait-next a x lent as 1 -> 1
        leave a
        join a r
        take a 1 as t -> t!1
        wait-next a x as 2 -> 2
    """,
    "nobody takes what another device was lent": """
        join a r
        join b r
        send b x as s1
        wait-next a x lent as 1 -> 1
        wait-next a x as 2
        release 1 130 -> 2
        take b 2 as t -> t!1
    """,
    "a lock goes from one to the next in the order in which they asked": """
        join a r
        join b r
        join c r
        lock a power as 1 -> 1
        lock c power as 2
        lock b power as 3
        lock c power as 4
        3 lacks a
        unlock a power as u1 -> 2 4
        3 lacks c
        unlock c power as u2 -> 3
        unlock c power as u3 -> u3!1
    """,
    "a device whose first wait for a lock has ended waits behind those that asked before its next one": """
        join a client
        join b client
        join c client
        lock a power as 1 -> 1
        lock b power as 2
        lock c power as 3
        lock b power as 4
        release 2 1 -> 2!1
        unlock a power as u1 -> 3
        unlock c power as u2 -> 4
    """,
    "a device that has a lock goes on at once": """
        join a r
        join b r
        lock a power as 1 -> 1
        lock b power as 2
        lock a power as 3 -> 3
    """,
    "a lock is had as long as one command needs it": """
        join a r
        join b r
        lock a power as 1 -> 1
        lock a power as 2 -> 2
        lock b power as 3
        unlock a power of 1 as u1
        unlock a power of 1 as u2
        unlock a power of 2 as u3 -> 3
        unlock a power of 2 as u4
    """,
    "lava-unlock gives a lock back whatever needs it": """
        join a r
        join b r
        lock a power as 1 -> 1
        lock a power lent as 2 -> 2
        lock b power as 3
        unlock a power as u -> 3
        unlock a power of 1 as v
        take a 2 as t
    """,
    "a lock that is lent goes on if it is not taken": """
        join a r
        join b r
        lock a power lent as 1 -> 1
        lock b power lent as 2
        release 1 130 -> 2
        take b 2 as t
        release 2 130
        lock a power as 3
        3 lacks b
    """,
    "a lock of a device that ends goes on": """
        join a r
        join b r
        lock a power as 1 -> 1
        lock b power lent as 2
        leave a -> 2
        leave b
        join a r
        lock a power as 3 -> 3
    """,
    "a lock is no message": """
        join a r
        join b r
        lock a x as 1 -> 1
        wait b x as 2
        send a x as s -> 2
        lock b x as 3
    """,
}


@pytest.mark.parametrize("text", PLAYS.values(), ids=PLAYS.keys())
def test_rule(text: str) -> None:
    play(text)


REASONS = {
    "no other device": ("join a r", "wait a x", "there is no other device in the group"),
    "no such role": (
        "join a client\njoin b server\njoin c client",
        "wait-all a x srv",
        "no device has the role 'srv'; the roles are client, server",
    ),
    "one has left": ("join a r\njoin b r\nleave b", "wait-all a ready", "b ended without sending 'ready'"),
    "two have left": (
        "join a r\njoin b r\njoin c r\nleave c\nleave b",
        "wait a x",
        "c and b ended without sending 'x'",
    ),
    "only those that lack are named": (
        "join a r\njoin b r\njoin c r\nsend b x as s\nleave b\nleave c",
        "wait-all a x",
        "c ended without sending 'x'",
    ),
    "many have left": (
        "\n".join(["join a r", *(f"join b{n} r\nleave b{n}" for n in range(5))]),
        "wait a x",
        "b0, b1, b2 and 2 more ended without sending 'x'",
    ),
    "four have left": (
        "\n".join(["join a r", *(f"join b{n} r\nleave b{n}" for n in range(4))]),
        "sync a x",
        "b0, b1, b2 and b3 ended without sending 'x'",
    ),
    "left between syncs": (
        "join a r\njoin b r\nsend b x as s\nleave b\nsync a x as a1 -> a1",
        "sync a x",
        "b ended without sending 'x' twice",
    ),
}


@pytest.mark.parametrize(("before", "wait", "reason"), REASONS.values(), ids=REASONS.keys())
def test_reason(before: str, wait: str, reason: str) -> None:
    coordinator = play(before)
    assert coordinator.apply(parse(wait.split(), 0.0)) == [Outcome(b"a", "a", 1, reason)]


def test_the_reason_names_the_device_whose_leaving_ended_the_wait() -> None:
    coordinator = play("join a r\njoin b r\njoin c r\nwait-all a x")
    assert coordinator.apply(left("c")) == [Outcome(b"a", "a", 1, "c ended without sending 'x'")]


def test_what_a_device_sent_is_harmless_in_a_reason() -> None:
    coordinator = play("join a r\njoin b r\nleave b")
    wait = Waiting(0.0, "a", b"1", WaitKind.SYNC, "é\x1b[2J\n".encode() + b"\xff", None, None)
    (outcome,) = coordinator.apply(wait)
    assert outcome.reason == "b ended without sending 'é\\x1b[2J\\n\\xff'"
    (outcome,) = coordinator.apply(Waiting(0.0, "a", b"2", WaitKind.WAIT_ALL, b"x", "\x9b\udcff", None))
    assert outcome.reason == "no device has the role '\\x9b\\udcff'; the roles are r"


def test_a_release_hands_on_its_status_and_reason() -> None:
    coordinator = play("join a r\njoin b r\nwait a x as w")
    assert coordinator.apply(released(b"w", 75, "link lost")) == [Outcome(b"w", "a", 75, "link lost")]
    assert coordinator.outcome(b"w") == Outcome(b"w", "a", 75, "link lost")


DATA = {
    "nothing was sent": ("", ""),
    "a message without data": ("send b x as 1", ""),
    "pairs stand in the order sent": ("send b x z=1 a=2 as 1", "b:z=1 b:a=2"),
    "own data is left out": ("send a x k=1 as 1\nsend b x k=2 as 2", "b:k=2"),
    "another id's data is left out": ("send b y k=1 as 1", ""),
    "devices stand in the order sent": ("send c x k=1 as 1\nsend b x k=2 as 2", "c:k=1 b:k=2"),
    "a key sent later is added": (
        "send b x k=1 as 1\nsend c x k=2 as 2\nsend b x l=3 as 3",
        "b:k=1 c:k=2 b:l=3",
    ),
    "a key sent again takes the place of all that its sender sent before": (
        "send b x k=1 l=2 as 1\nsend c x k=3 as 2\nsend b x k=4 as 3",
        "c:k=3 b:k=4",
    ),
    "a key sent again with the same value does so too": (
        "send b x k=1 l=2 as 1\nsend b x k=1 as 2",
        "b:k=1",
    ),
    "what was added since goes with the message that is replaced": (
        "send b x k=1 as 1\nsend b x l=2 as 2\nsend b x l=3 m=4 as 3",
        "b:l=3 b:m=4",
    ),
    "a key that was replaced counts as new": (
        "send b x k=1 l=2 as 1\nsend b x k=3 as 2\nsend b x l=4 as 3",
        "b:k=3 b:l=4",
    ),
    "another device's keys are no repetition": ("send b x k=1 as 1\nsend c x k=2 as 2", "b:k=1 c:k=2"),
    "another id's keys are no repetition": ("send b x k=1 as 1\nsend b y k=2 as 2", "b:k=1"),
    "a key twice in one message": ("send b x k=1 l=2 k=3 as 1", "b:l=2 b:k=3"),
    "a message without data takes nothing away": ("send b x k=1 as 1\nsend b x as 2\nsync b x as 3", "b:k=1"),
    "an empty value is a value": ("send b x k=1 as 1\nsend b x k= as 2", "b:k="),
    "a repeated request adds nothing": ("send b x k=1 as 1\nsend b x k=2 as 2\nsend b x k=1 as 1", "b:k=2"),
    "data stays when its sender has left": ("send b x k=1 as 1\nleave b", "b:k=1"),
}


@pytest.mark.parametrize(("text", "expected"), DATA.values(), ids=DATA.keys())
def test_data(text: str, expected: str) -> None:
    coordinator = play(f"join a r\njoin b r\njoin c r\n{text}")
    data = coordinator.data_for("a", b"x")
    assert " ".join(f"{sender}:{key.decode()}={value.decode()}" for sender, key, value in data) == expected


def test_any_bytes_are_carried() -> None:
    coordinator = play("join a r\njoin b r")
    data = ((b"k", bytes(range(256))), (b"\xff-k", b""))
    coordinator.apply(Sent(0.0, "b", b"1", b"x", data))
    assert coordinator.data_for("a", b"x") == [("b", *pair) for pair in data]


AWAITED = {
    "join a r": "",
    "found a:r b:r c:s\njoin b r": "a and c",
    "found 3\njoin a r": "2 more devices",
    "found 2\njoin a r\njoin a r": "1 more device",
    "found 2\njoin a r\njoin b r\nleave a": "",
}


@pytest.mark.parametrize("text", AWAITED)
def test_who_has_still_to_join(text: str) -> None:
    coordinator = play(text)
    assert coordinator.awaited == AWAITED[text]
    assert coordinator.complete == (not AWAITED[text])


def test_members_stand_in_the_order_joined_and_stay() -> None:
    coordinator = play("join b server\njoin a client\nleave b\njoin c x\njoin b client")
    assert coordinator.members == [("b", "server"), ("a", "client"), ("c", "x")]
    assert Coordinator().members == []


def test_requests_are_known_from_their_event_on() -> None:
    coordinator = play("join a r\njoin b r\nwait a x as w")
    assert coordinator.known(b"w")
    assert coordinator.outcome(b"w") is None
    assert not coordinator.known(b"s")
    coordinator.apply(Sent(1.0, "b", b"s", b"x", ()))
    assert coordinator.known(b"s")
    assert coordinator.outcome(b"s") == Outcome(b"s", "b", 0, "")
    assert coordinator.outcome(b"w") == Outcome(b"w", "a", 0, "")
    assert coordinator.outcome(b"?") is None
    assert coordinator.missing(b"w") == coordinator.missing(b"?") == []


def test_a_report_is_known_and_changes_nothing_else() -> None:
    coordinator = play("join a r\njoin b r\nwait a x as w")
    assert coordinator.apply(reported("b", "event", "x", identity=b"s")) == []
    assert coordinator.outcome(b"s") == Outcome(b"s", "b", 0, "")
    assert coordinator.missing(b"w") == ["b"]
    assert coordinator.apply(reported("b", "event", "x", identity=b"w")) == []
    assert coordinator.outcome(b"w") is None


def test_any_event_that_comes_again_changes_nothing() -> None:
    """Whoever does not know whether an append came through may repeat it, also much later."""
    coordinator = play("join a r\njoin b r\njoin c r\nwait a x as w1\nwait a x as w2")
    gone, back, release = left("c"), joined("c", "r"), released(b"w1")
    for event in (gone, back, release):
        coordinator.apply(event)
        assert coordinator.known(event.identity)
    assert coordinator.apply(gone) == coordinator.apply(release) == []
    assert coordinator.gone == frozenset()
    coordinator.apply(left("c"))
    assert coordinator.apply(back) == []
    assert coordinator.gone == {"c"}
    assert [wait.identity for wait in coordinator.waits()] == [b"w2"]


def test_open_waits_stand_in_the_order_they_began() -> None:
    coordinator = play("""
        join a r
        join b r
        join c s
        sync b x as 9
        wait a y as 8
        wait-all c x r as 7
        wait-all b z r as 6
        wait-all a z r as 5
        release 8 1 -> 8!1
        wait b y as 4
    """)
    assert coordinator.open_waits() == [
        OpenWait(Waiting(3.0, "b", b"9", WaitKind.SYNC, b"x", None, None), ["a", "c"]),
        OpenWait(Waiting(5.0, "c", b"7", WaitKind.WAIT_ALL, b"x", "r", None), ["a"]),
        OpenWait(Waiting(6.0, "b", b"6", WaitKind.WAIT_ALL, b"z", "r", None), ["a"]),
        OpenWait(Waiting(7.0, "a", b"5", WaitKind.WAIT_ALL, b"z", "r", None), ["b"]),
        OpenWait(Waiting(9.0, "b", b"4", WaitKind.WAIT, b"y", None, None), ["a", "c"]),
    ]


STRANGERS = {
    "send": Sent(0.0, "x", b"s", b"x", ()),
    "wait": Waiting(0.0, "x", b"s", WaitKind.WAIT, b"x", None, None),
    "sync": Waiting(0.0, "x", b"s", WaitKind.SYNC, b"x", None, None),
    "leave": left("x"),
    "report": reported("x", "set-stop", identity=b"s"),
    "take": Taken(0.0, "x", b"s", b"w"),
    "unlock": Unlocked(0.0, "x", b"s", b"power"),
    "lose": Lost(0.0, "x", b"s", "connection lost"),
}


@pytest.mark.parametrize("event", STRANGERS.values(), ids=STRANGERS.keys())
def test_an_event_of_a_device_that_never_joined_is_refused_and_changes_nothing(event: Event) -> None:
    coordinator = play("join a r\njoin b r\nwait a x as w")
    with pytest.raises(ValueError, match="'x' never joined the group"):
        coordinator.apply(event)
    assert not coordinator.known(b"s")
    assert coordinator.missing(b"w") == ["b"]
    assert coordinator.members == [("a", "r"), ("b", "r")]


def test_a_thousand_devices_sync_again_and_again() -> None:
    coordinator = Coordinator()
    devices = [f"device-{number}" for number in range(1000)]
    for device in devices:
        coordinator.apply(joined(device, "peer"))
    for turn in range(10):
        ended: list[str] = []
        for device in devices:
            assert ended == []
            request = f"{device} {turn}".encode()
            wait = Waiting(0.0, device, request, WaitKind.SYNC, b"x", None, None)
            ended = [outcome.device for outcome in coordinator.apply(wait)]
        assert ended == devices
    assert coordinator.open_waits() == []


def test_a_sync_that_repeats_one_that_came_to_nothing_stands_for_it() -> None:
    """`until lava-sync x --timeout 5; do :; done` must not ask more and more of the others."""
    coordinator = Coordinator()
    for event in (joined("a", "r"), joined("b", "r")):
        coordinator.apply(event)
    coordinator.apply(Waiting(1.0, "a", b"1", WaitKind.SYNC, b"x", None, 5.0))
    coordinator.apply(released(b"1"))
    coordinator.apply(Waiting(7.0, "a", b"2", WaitKind.SYNC, b"x", None, 5.0))
    ended = coordinator.apply(Waiting(8.0, "b", b"3", WaitKind.SYNC, b"x", None, None))
    assert {outcome.request: outcome.status for outcome in ended} == {b"2": 0, b"3": 0}
    assert coordinator.apply(Waiting(9.0, "b", b"4", WaitKind.SYNC, b"x", None, None)) == []


def test_a_device_that_left_may_have_sent_something_alike() -> None:
    coordinator = play("join a r\njoin b s\nsend b redy as s\nwait-all a ready s as w")
    (outcome,) = coordinator.apply(left("b"))
    assert outcome.reason == "b ended without sending 'ready'; b sent 'redy' (did you mean 'ready'?)"


UNMET = {
    "wait": ("wait a x as w", "'x' from b or c"),
    "wait-all": ("wait-all a x as w", "'x' from b and c"),
    "a role": ("wait-all a x s as w", "'x' from b"),
    "sync": ("send b x as s\nsync a x as w", "'x' from c"),
    "the second sync": (
        "sync a x as 1\nsend b x as 2\nsend c x as 3 -> 1\nsync a x as w",
        "'x' twice from b and c",
    ),
    "something alike": (
        "send b redy as s\nwait a ready as w",
        "'ready' from b or c; b sent 'redy' (did you mean 'ready'?)",
    ),
    "no wait": ("wait a x as v", ""),
    "three of three": ("sync a x 3 as w", "'x' from b and c"),
    "two of three": ("sync a x 2 as w", "'x' from b or c"),
    "a lock": ("lock b power as 1 -> 1\nlock a power as w", "the lock 'power', which b has"),
    "the next message": ("wait-next a x as w", "'x' from b or c"),
}


@pytest.mark.parametrize(("text", "expected"), UNMET.values(), ids=UNMET.keys())
def test_what_a_wait_still_waits_for(text: str, expected: str) -> None:
    assert play("join a r\njoin b s\njoin c t\n" + text).unmet(b"w") == expected


def test_waits_that_need_the_same_stand_together() -> None:
    coordinator = play("join a r\njoin b r\njoin c s\nsync a x\nwait c x -> c\nwait c y as w\nsync b x as v")
    found = [
        ([wait.identity for wait in group.waits], group.lacking, group.enough)
        for group in coordinator.wait_groups()
    ]
    assert found == [([b"a", b"v"], ["c"], None), ([b"w"], ["a", "b", "c"], 1)]
