# SPDX-License-Identifier: MIT
"""What flow tables say in words: times, names, and how it ended."""

from dataclasses import dataclass

from dispatcher.group.results import FAILING
from dispatcher.group.wording import counted, enumerated
from dispatcher.report.flow.model import Flow, How, Wait

# Names that a sentence tells one by one.
_MOST_NAMES = 4


def duration(seconds: float) -> str:
    """How long, as exactly as a person wants to know it: "12 ms", "3.4 s", "2 min 5 s", "1 h 2 min"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(seconds: float, end: float) -> str:
    """A point in time of a flow that ends at `end`, as exactly as its length asks for."""
    if end < 100:
        return f"{seconds:.{3 if end < 10 else 2}f} s"
    if end < 3600:
        return f"{int(seconds) // 60}:{seconds % 60:04.1f}"
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Devices whose waits failed, in the same call and in the same way.

    `stuck` is whether they never got any further. `seconds` is how long the longest of the waits took,
    `missing` are the devices that had still to send, those first that lack in every one of the waits; `more` counts
    those beside them.
    """

    call: str
    how: How
    stuck: bool
    reason: str
    devices: tuple[str, ...]
    waits: tuple[int, ...]
    seconds: float
    missing: tuple[str, ...]
    more: int


def troubles(flow: Flow) -> list[Trouble]:
    """What went wrong with waits: the devices that are still blocked first, then in the order of time."""
    alike: dict[tuple[str, How, bool, str], list[Wait]] = {}
    for wait in flow.waits:
        if wait.how is not How.FULFILLED:
            # Each time-out names whom it waited for, which `missing` tells better.
            reason = wait.reason if wait.how is How.FAILED else ""
            alike.setdefault((wait.call, wait.how, wait.stuck, reason), []).append(wait)
    found = []
    for (call, how, stuck, reason), waits in alike.items():
        count: dict[str, int] = {}
        for wait in waits:
            for name in wait.missing:
                count[name] = count.get(name, 0) + 1
        found.append(
            Trouble(
                call,
                how,
                stuck,
                reason,
                tuple(dict.fromkeys(wait.device for wait in waits)),
                tuple(wait.number for wait in waits),
                max(wait.seconds for wait in waits),
                # Of devices that wait for each other none lacks everywhere, and all are to be named.
                tuple(sorted(count, key=lambda name: -count[name])),
                max(wait.more for wait in waits),
            )
        )
    return sorted(found, key=lambda trouble: not trouble.stuck)


def sentence(trouble: Trouble) -> str:
    """The trouble in one sentence."""
    who = enumerated(trouble.devices)
    many = len(trouble.devices) > 1
    missing = enumerated(trouble.missing, more=trouble.more)
    whom = f", waiting for {missing}" if missing else ""
    time = duration(trouble.seconds)
    if trouble.how is How.OPEN:
        return f"{who} {'have' if many else 'has'} been blocked for {time} in '{trouble.call}'{whom}."
    was = f"{who} {'were' if many else 'was'} blocked for {time} in '{trouble.call}'{whom}"
    if trouble.how is How.TIMED_OUT:
        return f"{was}; that timed out."
    if trouble.how is How.INTERRUPTED:
        return f"{was}, when {'they were' if many else 'it was'} interrupted."
    return f"{was}; that failed: {trouble.reason}."


def ending(flow: Flow) -> str:
    """How it ended, in a sentence or two."""
    vain = {wait.device for wait in flow.waits if wait.how is not How.FULFILLED}
    stuck = {wait.device for wait in flow.waits if wait.stuck}
    number, here = len(flow.devices), sum(device.here for device in flow.devices.values())
    of_all = f"of {counted(number, 'device')}"
    if stuck:
        one = len(stuck) == 1
        if any(wait.how is How.OPEN for wait in flow.waits):
            first = (
                f"{len(stuck)} {of_all} {'is' if one else 'are'} still blocked after {duration(flow.end)}."
            )
        else:
            first = f"{len(stuck)} {of_all} {'was' if one else 'were'} blocked until stopped."
    elif here:
        first = f"{here} {of_all} {'is' if here == 1 else 'are'} in the group after {duration(flow.end)}, and none is blocked."
    else:
        first = f"All devices have ended, after {duration(flow.end)}."
    failed = sum(case.result == "fail" for case in flow.cases)
    if vain and not stuck:
        first += f" Waits of {len(vain)} {of_all} failed."
    return f"{first} {counted(failed, 'test')} failed." if failed else first


def good(flow: Flow) -> bool:
    """Whether nothing that is drawn went wrong."""
    return (
        all(wait.how is How.FULFILLED for wait in flow.waits)
        and all(case.result != "fail" for case in flow.cases)
        and not any(run.ended_early or run.status for run in flow.runs)
        and all(remark.kind not in FAILING for remark in flow.remarks)
    )


def doings(flow: Flow, trouble: Trouble) -> list[str]:
    """Of those that a trouble waits for: what each does at the end, the first few of them."""
    sentences = []
    for name in trouble.missing[:_MOST_NAMES]:
        device = flow.devices[name]
        newest = next((wait for wait in reversed(flow.waits) if wait.device == name), None)
        sent = list(
            dict.fromkeys(
                message.id for message in flow.messages if message.device == name and not message.unlocks
            )
        )
        told = (
            f"it sent {enumerated([repr(message_id) for message_id in sent])}" if sent else "it sent nothing"
        )
        if newest is not None and newest.stuck:
            state = f"is blocked itself, in '{newest.call}'"
        elif device.here:
            state = "was running when the log ended"
        else:
            stay = device.stays[-1]
            state = f"{stay.reason or 'left'} at {clock(stay.left or 0.0, flow.end)}"
        sentences.append(f"{name} {state}; {told}.")
    return sentences
