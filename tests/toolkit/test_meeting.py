# SPDX-License-Identifier: MIT
"""How commands find the agent, and who is at the other end of its socket."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from toolkit import meeting

ROOT = Path(__file__).parents[2]
NOBODY, STRANGER = 65534, 1234

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# Says whether it met somebody, as nobody of a user namespace in which the stranger has no number.
MEETS = f"""
import ctypes, os, sys
sys.path.insert(0, {str(ROOT)!r})
from toolkit import meeting
ready, go = int(sys.argv[1]), int(sys.argv[2])
if ctypes.CDLL(None).unshare(0x10000000):
    os.write(ready, b"no")
    sys.exit()
os.write(ready, b"yes")
os.read(go, 1)
os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
first, agent = meeting.meet("test-{os.getpid()}")
first.setblocking(True)
second, again = meeting.meet("test-{os.getpid()}")
os.write(ready, b"%d %d" % (agent, again))
"""


@pytest.fixture
def squatted() -> Iterator[None]:
    """A stranger listens at the name of nobody's agent."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(STRANGER, STRANGER, STRANGER)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0lavabox/{NOBODY}/test-{os.getppid()}")
        listener.listen(10)
        os.write(tell, b"x")
        while True:
            listener.accept()
    os.read(ready, 1)
    yield
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(tell)


@needs_root
def test_a_stranger_without_a_number_in_our_user_namespace_is_not_met(squatted: None) -> None:
    ready, tell = os.pipe()
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.set_inheritable(tell, True)
        os.set_inheritable(wait, True)
        os.execv(sys.executable, [sys.executable, "-c", MEETS, str(tell), str(wait)])
    os.close(tell)
    if os.read(ready, 10) != b"yes":
        pytest.skip("there are no user namespaces here")
    for kind in ("uid", "gid"):
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 1\n{NOBODY} {NOBODY} 1\n")
    os.write(go, b"x")
    # The first becomes the agent, and the second meets it, as it is of the same user.
    assert os.read(ready, 10) == b"1 0"
    os.waitpid(pid, 0)
    for descriptor in (ready, wait, go):
        os.close(descriptor)


def test_a_number_of_nobody_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        monkeypatch.setattr(meeting, "peer", lambda connection: (os.getpid(), NOBODY))
        monkeypatch.setattr("posix.geteuid", lambda: NOBODY)
        assert meeting.trusted(one)
        monkeypatch.setattr(meeting, "peer", lambda connection: (0, NOBODY))
        assert not meeting.trusted(one)


@pytest.fixture
def taken() -> Iterator[tuple[str, socket.socket]]:
    """A key, and a socket that has the name for it, and does not listen yet."""
    key = f"test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"\0lavabox/{os.geteuid()}/{key}")
        yield key, bound


def test_an_agent_that_does_not_get_to_run_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, taken: tuple[str, socket.socket]
) -> None:
    """Among a thousand commands seconds go by between two steps of one. A second agent would take the first one's answers."""
    key, bound = taken
    seconds = itertools.count()
    monkeypatch.setattr(meeting.time, "monotonic", lambda: float(next(seconds)))
    naps = itertools.count()
    monkeypatch.setattr(meeting.time, "sleep", lambda _: bound.listen() if next(naps) == 20 else None)
    agent, elected = meeting.meet(key)
    with contextlib.closing(agent):
        assert not elected and agent.getpeername() == bound.getsockname()


def test_a_name_where_nobody_ever_listens_is_passed_by(
    monkeypatch: pytest.MonkeyPatch, taken: tuple[str, socket.socket]
) -> None:
    key, bound = taken
    monkeypatch.setattr(meeting.time, "sleep", lambda _: None)
    listener, elected = meeting.meet(key)
    with contextlib.closing(listener):
        assert elected and listener.getsockname().startswith(bound.getsockname() + b"/")


def greets(rival: socket.socket) -> None:
    with rival.accept()[0] as connection:
        connection.send(b"greeting")


@pytest.mark.parametrize(
    ("theirs", "ours", "does", "we_win"),
    [
        # It had looked before we had a name: both would be agents of the console.
        (b"/f", b"\0", greets, False),
        (b"/f", b"\0", socket.socket.close, True),
        (b"/0", b"\xff", lambda rival: None, False),
    ],
    ids=["has won before", "gives way", "has the first name"],
)
def test_of_commands_that_come_at_once_one_becomes_the_agent(
    monkeypatch: pytest.MonkeyPatch,
    taken: tuple[str, socket.socket],
    theirs: bytes,
    ours: bytes,
    does: Callable[[socket.socket], None],
    we_win: bool,
) -> None:
    """Where a stranger has the name that all look for first, they take names of their own."""
    key, bound = taken
    rival = socket.socket(socket.AF_UNIX)

    def random_bytes(count: int) -> bytes:
        # Until here both have looked, and seen nobody.
        rival.bind(bound.getsockname() + theirs)
        rival.listen()
        return ours * count

    def trusted(connection: socket.socket) -> bool:
        does(rival)
        return True

    monkeypatch.setattr(meeting.time, "sleep", lambda _: None)
    monkeypatch.setattr(meeting, "random_bytes", random_bytes)
    monkeypatch.setattr(meeting, "trusted", trusted)
    with contextlib.closing(rival):
        agent, elected = meeting.meet(key)
        with contextlib.closing(agent):
            assert elected == we_win
            name = agent.getsockname() if elected else agent.getpeername()
            assert name == bound.getsockname() + (b"/" + (ours * 8).hex().encode() if we_win else theirs)


def test_a_name_where_nobody_accepts_is_passed_by(
    monkeypatch: pytest.MonkeyPatch, taken: tuple[str, socket.socket]
) -> None:
    """Who connects there would wait for ever."""
    monkeypatch.setattr(meeting, "_FULL", 1)
    key, bound = taken
    bound.listen(0)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(bound.getsockname())
        listener, elected = meeting.meet(key)
        with contextlib.closing(listener):
            assert elected and listener.getsockname().startswith(bound.getsockname() + b"/")
