# SPDX-License-Identifier: MIT
"""How commands find the agent, where the test decides who runs when."""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

import pytest

from toolkit import meeting


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
