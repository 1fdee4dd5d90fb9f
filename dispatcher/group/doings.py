# SPDX-License-Identifier: MIT
"""What each device of a group does, as its log tells: what `lava-group --state` prints. Pure."""

from dispatcher.group.coordinator import Coordinator
from dispatcher.group.events import Waiting
from dispatcher.group.wording import command, duration, needed

RUNNING, WAITING, LOST, ENDED, ABSENT = "running", "waiting", "lost", "ended", "absent"


def doings(coordinator: Coordinator, now: float) -> dict[str, tuple[str, str]]:
    """Of each device a word, one of those above, and what there is to add, perhaps nothing.

    A device that waits in several commands is told with the one that it began first.

    :param now: on the clock of the events.
    """
    first: dict[str, tuple[Waiting, list[str], int | None]] = {}
    for group in coordinator.wait_groups():
        for wait in group.waits:
            if wait.device not in first or wait.time < first[wait.device][0].time:
                first[wait.device] = (wait, group.lacking, group.enough)
    found = {}
    for name, _ in coordinator.members:
        if (reason := coordinator.gone_because(name)) is not None:
            found[name] = (ENDED, reason)
        elif (reason := coordinator.lost_because(name)) is not None:
            found[name] = (LOST, reason)
        elif name in first:
            wait, lacking, enough = first[name]
            whom = [other for other in lacking if other != name]
            told = f" for {needed(whom, enough)}" if whom else ""
            since = duration(now - wait.time)
            found[name] = (WAITING, f"{command(wait).strip('`')}{told}, since {since}")
        else:
            found[name] = (RUNNING, "") if coordinator.here(name) else (ABSENT, "has not joined yet")
    return found
