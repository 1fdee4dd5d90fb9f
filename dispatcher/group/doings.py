# SPDX-License-Identifier: MIT
"""What each device of a group does, as its log tells: what `lava-group --state` prints. Pure."""

from dispatcher.group.coordinator import Coordinator, OpenWait
from dispatcher.group.wording import command, duration

RUNNING, WAITING, LOST, ENDED, ABSENT = "running", "waiting", "lost", "ended", "absent"


def doings(coordinator: Coordinator, now: float) -> dict[str, tuple[str, str]]:
    """Of each device a word, one of those above, and what there is to add, perhaps nothing.

    A device that waits in several commands is told with the one that it began first.

    :param now: on the clock of the events.
    """
    first: dict[str, OpenWait] = {}
    for wait in coordinator.open_waits():
        device = wait.waiting.device
        if device not in first or wait.waiting.time < first[device].waiting.time:
            first[device] = wait
    found = {}
    for name, _ in coordinator.members:
        if (reason := coordinator.gone_because(name)) is not None:
            found[name] = (ENDED, reason)
        elif (reason := coordinator.lost_because(name)) is not None:
            found[name] = (LOST, reason)
        elif name in first:
            wait = first[name]
            told = f" for {wait.whom}" if wait.missing or wait.more else ""
            since = duration(now - wait.waiting.time)
            found[name] = (WAITING, f"{command(wait.waiting).strip('`')}{told}, since {since}")
        else:
            found[name] = (RUNNING, "") if coordinator.here(name) else (ABSENT, "has not joined yet")
    return found
