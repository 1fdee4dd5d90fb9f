# SPDX-License-Identifier: MIT
"""`python -m bench.engine`: what a send and a wait cost in the engine, by how many devices there are.

Two devices talk, and all others wait. The time is processor time.
"""

import time

from dispatcher.engine import Engine
from dispatcher.group.events import Founded

DEVICES = (10, 100, 1000)
EXCHANGES = 3000


class Talk:
    """A group whose devices all wait, but for two."""

    def __init__(self, devices: int) -> None:
        self._engine = Engine(b"bench 01")
        self._engine.receive_event(Founded(0.0, b"founded"), 0.0)
        self._number = 0
        for number in range(devices):
            self._engine.join(f"d{number}", "peer", 0.0)
        self._turn()
        for number in range(2, devices):
            self._ask(f"d{number}", "wait", [b"never", 10**6])

    def exchange(self) -> None:
        """One waits, the other sends."""
        message_id = b"m%d" % self._number
        self._ask("d0", "wait", [message_id, 60_000])
        assert self._ask("d1", "send", [message_id, [b"k", b"v"]]) == 2

    def _ask(self, device: str, operation: str, arguments: list[object]) -> int:
        self._number += 1
        identity = self._number.to_bytes(8, "big")
        self._engine.request(device, identity, identity, operation, arguments, 0, 0.0)
        return self._turn()

    def _turn(self) -> int:
        while events := self._engine.events_to_append():
            for event in events:
                self._engine.receive_event(event, 0.0)
        self._engine.next_timeout()
        return len(self._engine.answers())


def main() -> None:
    """Print a row for each number of devices."""
    print("| devices | µs for a wait and the send that ends it |")
    print("|---|---|")
    for devices in DEVICES:
        talk = Talk(devices)
        began = time.process_time()
        for _ in range(EXCHANGES):
            talk.exchange()
        print(f"| {devices} | {(time.process_time() - began) / EXCHANGES * 1e6:.0f} |")


if __name__ == "__main__":
    main()
