# SPDX-License-Identifier: MIT
"""How long to wait for the answer to a frame, by what earlier ones took. No clock: `now` is in seconds.

A slow line needs seconds to carry what is on it, and a pty a millisecond. So the time to wait is made of
two parts: the round trip, smoothed (Jacobson and Karels), and the bytes on the line at its speed.
"""

from .framing import MAX_LINE

# Bytes of most answers.
ANSWER = 64
SLOW_BAUD = 57600
# The speed that ptys show, and that says nothing; and what is assumed until something is measured.
UNKNOWN_BAUD = 38400
FIRST_RATE = 100000.0  # bytes a second

# Seconds.
FIRST_RTO = 0.4
MIN_RTO = 0.2
MAX_RTO = 8.0
# Unanswered frames in a row after which nobody is taken to listen.
SILENCE = 4
# Frames of which the time is kept until they are answered.
_REMEMBERED = 64


class Timing:
    """The times of one link's frames.

    :param baud: line speed in bits per second, 0 where unknown.
    """

    __slots__ = (
        "_answered_bytes",
        "_counted",
        "_measured",
        "_rounds",
        "_rttvar",
        "_sent_at",
        "_sent_bytes",
        "_srtt",
        "heard",
        "rate",
        "slow",
    )

    def __init__(self, baud: int) -> None:
        self._measured = baud in (0, UNKNOWN_BAUD)
        self.rate = FIRST_RATE if self._measured else baud / 10.0  # bytes a second
        self.slow = 0 < baud <= SLOW_BAUD and baud != UNKNOWN_BAUD
        self.heard = 0.0  # when the last line came
        self._sent_at = {}  # type: dict[int, tuple[float, int, int]]
        self._sent_bytes = 0  # of frames, and of the answers to them
        self._answered_bytes = 0
        self._srtt = None  # type: float | None
        self._rttvar = 0.0
        self._rounds = 0  # of frames without any answer, one after the other
        self._counted = 0  # newest sequence number of these rounds

    @property
    def unanswered(self) -> int:
        """Bytes that may be on the line, up and down."""
        return self._sent_bytes - self._answered_bytes

    @property
    def silent(self) -> bool:
        """Whether too many frames in a row had no answer."""
        return self._rounds >= SILENCE

    def listen(self, now: float) -> None:
        """From now on an answer is expected."""
        self.heard = now
        self._rounds = 0

    def sent(self, sequence: int, size: int, now: float) -> None:
        """A frame of `size` bytes goes out that wants an answer."""
        self._sent_bytes += size + ANSWER
        self._sent_at[sequence] = (now, self._sent_bytes, self.unanswered)
        if len(self._sent_at) > _REMEMBERED:
            del self._sent_at[min(self._sent_at)]

    def answered(self, sequence: int, size: int, now: float) -> None:
        """A line of `size` bytes came, typed when `sequence` was the newest frame that the host had."""
        self.listen(now)
        sent = self._sent_at.get(sequence)
        self._sent_at = {s: t for s, t in self._sent_at.items() if s > sequence}
        if sent is not None:
            time, total, on_the_way = sent
            self._answered_bytes = max(self._answered_bytes, total)
            self._measure(now - time, on_the_way - ANSWER + size)

    def unheard(self, sequence: int, newest: int) -> None:
        """This frame was not answered in time; whatever else is on the line, up to `newest`, is lost with it."""
        self._answered_bytes = self._sent_bytes
        if sequence > self._counted:
            self._counted = newest
            self._rounds += 1

    def patience(self, tries: int, on_the_way: int = 0) -> float:
        """Seconds to wait for the answer to the newest frame, sent in vain `tries` times before.

        At least `on_the_way` bytes go before it.
        """
        rto = FIRST_RTO if self._srtt is None else max(MIN_RTO, self._srtt + 4 * self._rttvar)
        return min(MAX_RTO, rto * 2.0**tries) + (max(on_the_way, self.unanswered) + MAX_LINE) / self.rate

    def _measure(self, rtt: float, size: int) -> None:
        """A frame was answered after `rtt` seconds, in which `size` bytes crossed the line."""
        # An answer names its frame, so repeats do not blur the estimate.
        if self._srtt is None:
            self._srtt, self._rttvar = rtt, rtt / 2
        else:
            self._rttvar += (abs(self._srtt - rtt) - self._rttvar) / 4
            self._srtt += (rtt - self._srtt) / 8
        if self._measured:
            # The line is at least so fast. That it once was faster is forgotten slowly.
            rate = size / max(rtt, 1e-6)
            self.rate = rate if self.rate == FIRST_RATE else max(rate, self.rate * 0.75)
