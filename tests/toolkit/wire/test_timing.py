# SPDX-License-Identifier: MIT
"""Times of answers; on lines that lose and delay: test_device_link.py."""

from __future__ import annotations

import pytest

from toolkit.wire.framing import MAX_LINE
from toolkit.wire.timing import FIRST_RTO, MAX_RTO, MIN_RTO, SILENCE, Timing


@pytest.mark.parametrize(("baud", "rate"), [(9600, 960.0), (115200, 11520.0), (0, 1e5), (38400, 1e5)])
def test_the_first_answer_has_the_time_of_the_line_speed(baud: int, rate: float) -> None:
    timing = Timing(baud)
    assert timing.patience(0, 720) == pytest.approx(FIRST_RTO + (720 + MAX_LINE) / rate)


def test_round_trips_are_smoothed() -> None:
    timing = Timing(115200)
    for number in range(1, 50):
        timing.sent(number, 100, number)
        assert timing.unanswered > 100
        timing.answered(number, 60, number + 0.3)
        assert timing.unanswered == 0
    assert 0.3 <= timing.patience(0) <= 0.4
    for number in range(50, 100):
        timing.sent(number, 100, number)
        timing.answered(number, 60, number + 0.01)
    assert timing.patience(0) == pytest.approx(MIN_RTO + MAX_LINE / timing.rate)


def test_each_try_is_given_twice_the_time() -> None:
    timing = Timing(0)
    waits = [timing.patience(tries) - MAX_LINE / timing.rate for tries in range(8)]
    assert waits[:4] == pytest.approx([FIRST_RTO * 2**tries for tries in range(4)])
    assert waits[-1] == pytest.approx(MAX_RTO)


def test_a_slow_line_behind_a_pty_is_measured() -> None:
    timing = Timing(38400)
    for number in range(1, 20):
        timing.sent(number, 500, number)
        timing.answered(number, 60, number + 0.6)
    assert 500 < timing.rate < 2000


def test_rounds_without_an_answer_are_counted_once_each() -> None:
    timing = Timing(0)
    for number in range(1, SILENCE + 1):
        assert not timing.silent
        # Three requests, whose frames are lost together.
        for frame in range(3):
            timing.sent(3 * number + frame, 100, number)
        for frame in range(3):
            timing.unheard(3 * number + frame, 3 * number + 2)
        assert timing.unanswered == 0
    assert timing.silent
    timing.answered(1, 60, 9.0)
    assert not timing.silent and timing.heard == 9.0
