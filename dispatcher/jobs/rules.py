# SPDX-License-Identifier: MIT
"""When devices of a job are stopped: at the time-out of a test action, or as an essential one has failed.

Folded from the group's log, with its times; no I/O and no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispatcher.group.events import Event, Left, Reported
from dispatcher.jobs.model import Place


@dataclass(frozen=True, slots=True)
class TimedAction:
    """A test action with a time-out, known in the group's log by the uuids of its runs.

    It lasts from the beginning of its first run to the end of the last one.
    """

    first: str
    last: str
    timeout: float


@dataclass(frozen=True, slots=True)
class _Running:
    action: TimedAction
    due: float


class JobRules:
    """What a job says of its devices, and which of them it applies to now."""

    def __init__(self, actions: Mapping[str, Sequence[TimedAction]], essential: Mapping[str, Place]) -> None:
        """
        :param actions: the test actions with a time-out, by device.
        :param essential: the devices that the job can't go on without, and where it says so.
        """
        self._first = {action.first: action for of_device in actions.values() for action in of_device}
        self._running: dict[str, _Running] = {}
        self._essential = essential

    def apply(self, event: Event) -> None:
        """Take the next event of the log."""
        if isinstance(event, Left):
            self._running.pop(event.device, None)
        elif isinstance(event, Reported) and event.kind in ("run-start", "run-end"):
            uuid = event.fields[1]
            running = self._running.get(event.device)
            if event.kind == "run-start" and uuid in self._first:
                action = self._first[uuid]
                if running is None or running.action is not action:
                    self._running[event.device] = _Running(action, event.time + action.timeout)
            elif event.kind == "run-end" and running is not None and running.action.last == uuid:
                del self._running[event.device]

    def next_timeout(self) -> float | None:
        """When `expired` has something to say, in the log's time."""
        return min((running.due for running in self._running.values()), default=None)

    def expired(self, time: float) -> list[tuple[str, str]]:
        """The devices to stop, each with what to call its result."""
        over = [(device, running.action) for device, running in self._running.items() if running.due <= time]
        for device, _ in over:
            del self._running[device]
        return [
            (device, f"stopped at the time-out of its test action ({action.timeout:g} s)")
            for device, action in over
        ]

    def failed(self, device: str) -> str | None:
        """What to say as the device has failed, if that ends the run."""
        place = self._essential.get(device)
        return (
            None
            if place is None
            else f"{device} has failed, and its role is essential ({place}): the run ends"
        )
