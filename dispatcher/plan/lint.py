# SPDX-License-Identifier: MIT
"""What is wrong with a job's multi-node calls, or would be with LAVA's own commands, said before it runs.

error    in every good run something fails or blocks for ever
warning  it may, or it would with LAVA's own coordinator
note     worth knowing

It speaks up only where it is sure. A call that may not be made, or a device that runs what can't be
read, turns an error into something less.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum

from dispatcher.group.wording import enumerated
from dispatcher.jobs.model import Place
from dispatcher.jobs.text import Text, Texts, known
from dispatcher.plan.calls import NETWORK_ID, Call, CallKind, Unread
from dispatcher.plan.expected import Expected
from dispatcher.plan.programs import START_ID, Program

# Bytes of a message that pass LAVA's own scripts whole.
_LAVA_LINE = 4000
# Devices that are looked at, once for each wait, and ids that are compared.
_MOST_LOOKS = 3_000_000
_MOST_COMPARISONS = 300_000
# Characters of a value that a sentence shows.
_MOST_SHOWN = 40


class Severity(Enum):
    """How bad it is; the value is the word for it."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be said: `rule` is a short name for it, `advice` what to do."""

    place: Place
    severity: Severity
    rule: str
    sentence: str
    advice: str

    def __str__(self) -> str:
        advice = f" {self.advice}" if self.advice else ""
        return f"{self.place}: {self.severity.value}: {self.sentence}{advice} [{self.rule}]"


def findings(expected: Expected) -> list[Finding]:
    """All findings, the errors first, each once, in the order of their places."""
    found: dict[tuple[Place, str, str], Finding] = {}
    names = _names(expected.programs)
    for finding in _all(expected, _Group(expected.programs)):
        # What is wrong on one device of a role is wrong on all of them.
        told = names.sub("", finding.sentence)
        found.setdefault((finding.place, finding.rule, told), finding)
    order = list(Severity)
    return sorted(
        found.values(), key=lambda finding: (order.index(finding.severity), finding.place, finding.rule)
    )


def _names(programs: Sequence[Program]) -> re.Pattern[str]:
    """Finds the names of devices."""
    return re.compile("|".join(rf"(?<!\w){re.escape(program.device)}(?!\w)" for program in programs))


class _Group:
    """What the rules ask about all devices.

    What takes time for many devices and many calls is counted (`may_look`, `may_compare`), and left out at some point.
    """

    def __init__(self, programs: Sequence[Program]) -> None:
        self.programs = programs
        self.roles = list(dict.fromkeys(program.role for program in programs))
        self._looks = _MOST_LOOKS
        self._comparisons = _MOST_COMPARISONS
        # By the items of programs, which devices of a role mostly share.
        self._sent: dict[int, Texts] = {}
        self._unread: dict[int, Unread | None] = {}
        self._contents: dict[int, list[str]] = {}
        for program in programs:
            key = id(program.items)
            if key not in self._sent:
                unread = [item for item in program.items if isinstance(item, Unread)]
                self._sent[key] = Texts(
                    call.message_id for call in program.calls if call.sends and not call.refused
                )
                self._unread[key] = next(iter(unread), None)
                self._contents[key] = list({item.content: None for item in unread})
        self.with_unread = [program for program in programs if self._unread[id(program.items)] is not None]
        different = {id(program.items): program for program in programs}.values()
        waits = (call for program in different for call in program.calls if call.kind is not CallKind.SEND)
        self.waited = Texts(one for call in waits if not call.locks for one in call.ids)
        self.sent = sorted({text for sent in self._sent.values() for text in sent.exact})

    @property
    def left_out(self) -> str:
        """What had to be left out, as a clause; empty if nothing had."""
        if self._looks < 0:
            return "some waits were not looked at"
        return "not all ids were compared to find slips" if self._comparisons < 0 else ""

    def may_look(self, number: int) -> bool:
        """Whether so many devices may still be looked at; they are then counted."""
        self._looks -= number
        return self._looks >= 0

    def may_compare(self, number: int) -> bool:
        """The same for ids that may be meant for each other."""
        self._comparisons -= number
        return self._comparisons >= 0

    def others(self, program: Program, role: str | None = None) -> list[Program]:
        """All other devices, or those of a role."""
        return [other for other in self.programs if other is not program and role in (None, other.role)]

    def sends(self, device: Program, message_id: Text) -> bool:
        """Whether it sends what may be this id."""
        return self._sent[id(device.items)].may_hold(message_id)

    def sent_by(self, devices: Iterable[Program]) -> list[str]:
        """The ids that these send, as far as they are known."""
        different = {id(device.items): self._sent[id(device.items)].exact for device in devices}
        return sorted({text for exact in different.values() for text in exact})

    def unread(self, devices: Iterable[Program]) -> Unread | None:
        """Something that can't be read on one of these devices."""
        found = (self._unread[id(device.items)] for device in devices)
        return next((item for item in found if item is not None), None)

    def mentioned(self, devices: Iterable[Program], call: Call) -> bool:
        """Whether a program that one of them runs, and that is no shell script, has the id in its text."""
        message_id = call.message_id.exact
        different = {id(device.items): self._contents[id(device.items)] for device in devices}
        contents = [content for of_device in different.values() for content in of_device]
        if not message_id or not contents:
            return False
        return not self.may_look(sum(map(len, contents)) // 100) or any(
            message_id in text for text in contents
        )

    def alike(self, word: str, known: Sequence[str], cutoff: float) -> str:
        """The one of these words that is most like it; "" if none is alike."""
        if not self.may_compare(len(known)):
            return ""
        return next(iter(get_close_matches(word, known, n=1, cutoff=cutoff)), "")


def _who(program: Program) -> str:
    """What is said of one device holds for all of its role, mostly."""
    return f"role {program.role}"


def _all(expected: Expected, group: _Group) -> Iterator[Finding]:
    explained: set[tuple[int, str, Place]] = set()
    seen: set[tuple[int, str]] = set()
    for program in group.programs:
        # Devices of a role that do the same have the same said of them.
        alike = (id(program.items), program.role)
        if alike in seen:
            continue
        seen.add(alike)
        for call in program.calls:
            if call.refused:
                yield Finding(
                    call.place,
                    Severity.WARNING if call.perhaps else Severity.ERROR,
                    "refused",
                    f"{call.kind.value} refuses this with status 2: {call.refused}.",
                    "Mend the arguments.",
                )
                continue
            waits = list(_wait_findings(group, program, call))
            if any(finding.severity is Severity.ERROR for finding in waits):
                explained.add((*alike, call.place))
            yield from waits
            yield from _data_findings(call)
        yield from _sent_differently(program)
        yield from _before_own_send(program)
        yield from _unwaited(group, program)
    yield from _dead_end(expected, group, explained)
    if group.left_out:
        yield Finding(
            group.programs[0].items[0].place,
            Severity.NOTE,
            "too-many",
            f"there are so many devices and calls that {group.left_out}.",
            "",
        )


# Waits


def _wait_findings(group: _Group, program: Program, call: Call) -> Iterator[Finding]:
    if call.kind is CallKind.SEND or call.locks:
        return
    role: str | None = None
    if call.role is not None:
        role = call.role.exact
        if role is None:
            return
        if role not in group.roles:
            yield _no_such_role(group, call, role)
            return
    if len(group.programs) == 1:
        if call.takes_any:
            yield _finding(
                call, group, (), "alone", "there is no other device in the group", "Give it another role."
            )
        return
    if not group.may_look(len(group.programs)):
        return
    others = group.others(program, role)
    if call.devices:
        others = [other for other in others if any(name.may_be(known(other.device)) for name in call.devices)]
    if call.takes_any or call.count is not None:
        sent = any(group.sends(other, one) for one in call.ids for other in others)
        if not sent and call.takes_any and not group.mentioned(others, call):
            yield _never_sent(group, program, call, others)
    else:
        silent = [other for other in others if not group.sends(other, call.message_id)]
        if silent and not all(group.mentioned([other], call) for other in silent):
            yield _left_out(group, program, call, others, silent)


def _no_such_role(group: _Group, call: Call, role: str) -> Finding:
    return Finding(
        call.place,
        Severity.WARNING if call.perhaps else Severity.ERROR,
        "no-such-role",
        f"no device has the role '{role}'.",
        _did_you_mean(group, role, group.roles) or f"The roles are {', '.join(group.roles)}.",
    )


def _never_sent(group: _Group, program: Program, call: Call, others: Sequence[Program]) -> Finding:
    shown = _shown(call)
    if group.sends(program, call.message_id):
        sentence = f"{_who(program)} waits for '{shown}', which only it sends itself, and lava-wait is for messages of others"
        advice = (
            f"Let another device send it{', or leave the wait out' if call.kind is CallKind.WAIT else ''}."
        )
        return _finding(call, group, others, "own-message", sentence, advice)
    sentence = f"{_who(program)} waits for '{shown}', which no other device sends"
    return _finding(call, group, others, "never-sent", sentence, _mend_id(group, call))


def _left_out(
    group: _Group, program: Program, call: Call, others: Sequence[Program], silent: Sequence[Program]
) -> Finding:
    """A lava-wait-all or lava-sync that some devices have no part in."""
    shown = _shown(call)
    if len(silent) == len(others) and not group.sends(program, call.message_id):
        sentence = f"{_who(program)} waits for '{shown}', which no other device sends"
        return _finding(call, group, silent, "never-sent", sentence, _mend_id(group, call))
    roles = list(dict.fromkeys(other.role for other in silent))
    lacking = {other.device for other in silent}
    partly = {other.role for other in others if other.device not in lacking}
    whole = [role for role in roles if role not in partly]
    names = [f"role {role}" for role in whole]
    names += [other.device for other in silent if other.role not in whole]
    verb = "has" if len(names) == 1 else "have"
    if call.kind is CallKind.SYNC:
        sentence = (
            f"{enumerated(names)} {verb} no lava-sync or lava-send of '{shown}', so this lava-sync can't end"
        )
        rule, hint = "sync-left-out", f"Add 'lava-sync {shown}' there."
    else:
        sentence = f"{enumerated(names)} {'does' if len(names) == 1 else 'do'} not send '{shown}', so this {_command(call)} can't end"
        rule, hint = (
            "wait-all-left-out",
            f"Add {_sending(call)} there"
            + (", or name the role that sends it." if call.role is None else "."),
        )
    return _finding(call, group, silent, rule, sentence, _meant(group, silent, call) or hint)


def _finding(
    call: Call, group: _Group, senders: Sequence[Program], rule: str, sentence: str, advice: str
) -> Finding:
    """An error, or what is left of it where it is not certain."""
    severity = Severity.ERROR
    unread = group.unread(senders)
    if unread is not None:
        severity = Severity.NOTE
        what = f"'{_cut(unread.text)}'" if unread.text.strip("*") else "what is run"
        sentence += f"; perhaps {what} does ({unread.place}), which can't be read"
    elif call.perhaps or call.timed:
        severity = Severity.WARNING
        sentence += "; it may not be reached" if call.perhaps else "; it may end by its time-out or a signal"
    return Finding(call.place, severity, rule, f"{sentence}.", advice)


def _mend_id(group: _Group, call: Call) -> str:
    """What to do about an id that is not sent."""
    exact = call.message_id.exact
    hint = _did_you_mean(group, exact, [one for one in group.sent if one != exact]) if exact else ""
    return hint or f"Add {_sending(call)} to another role."


def _meant(group: _Group, silent: Sequence[Program], call: Call) -> str:
    """The id that those who lack the right one may have meant by theirs."""
    exact = call.message_id.exact
    if exact is None:
        return ""
    theirs = [one for one in group.sent_by(silent) if one != exact]
    close = group.alike(exact, theirs, 0.75)
    return f"They send '{close}': is the same meant?" if close and _is_slip(exact, close) else ""


def _did_you_mean(group: _Group, word: str, known: Sequence[str]) -> str:
    close = group.alike(word, known, 0.8)
    return f"Did you mean '{close}'?" if close else ""


def _sending(call: Call) -> str:
    if call.message_id.exact == NETWORK_ID and call.text.startswith("lava-network"):
        return "'lava-network broadcast INTERFACE'"
    return f"'lava-send {_shown(call)}'"


def _command(call: Call) -> str:
    return "lava-network collect" if call.text.startswith("lava-network") else call.kind.value


def _shown(call: Call) -> str:
    return str(call.message_id)


def _dead_end(expected: Expected, group: _Group, explained: set[tuple[int, str, Place]]) -> Iterator[Finding]:
    """Devices that stay blocked although each of the messages is sent somewhere."""
    blocked = {entry.device: entry.call for entry in expected.blocked}
    programs = {program.device: program for program in expected.programs}
    for entry in expected.blocked:
        program = programs[entry.device]
        if (id(program.items), program.role, entry.call.place) in explained:
            continue
        locks = entry.call.locks
        senders = [
            name
            for name in entry.missing
            if locks or any(group.sends(programs[name], one) for one in entry.call.ids)
        ]
        waiting = [name for name in senders if name in blocked]
        stays = f"{_who(programs[entry.device])} stays blocked in '{entry.call.text}'"
        if waiting:
            other = blocked[waiting[0]]
            sentence = f"{stays}: {_who(programs[waiting[0]])} would {'give that back' if locks else 'send that'} after '{other.text}' ({other.place}), in which it stays blocked itself."
            advice = f"Let one of them {'give it back' if locks else 'send'} before it waits."
            yield Finding(entry.call.place, Severity.ERROR, "dead-end", sentence, advice)
        elif senders and entry.call.kind is CallKind.SYNC:
            sentence = f"{stays}: {enumerated(senders)} {'makes' if len(senders) == 1 else 'make'} this lava-sync less often."
            advice = "Let all devices make it equally often."
            yield Finding(entry.call.place, Severity.ERROR, "sync-count", sentence, advice)
        elif senders and entry.call.kind is CallKind.NEXT:
            sentence = f"{stays}: {enumerated(senders)} {'sends' if len(senders) == 1 else 'send'} fewer messages than it takes."
            advice = "Take as many as are sent, or give it a --timeout."
            yield Finding(entry.call.place, Severity.ERROR, "next-count", sentence, advice)


def _before_own_send(program: Program) -> Iterator[Finding]:
    """LAVA's coordinator counts the device that waits among those that have to send."""
    sent = Texts()
    for item in program.items:
        if isinstance(item, Unread):
            return
        if not isinstance(item, Call) or item.refused:
            continue
        alone = item.kind is CallKind.WAIT_ALL and item.role is None and not item.devices
        if alone and not sent.may_hold(item.message_id):
            yield Finding(
                item.place,
                Severity.WARNING,
                "wait-all-before-own-send",
                f"{_who(program)} has not sent '{_shown(item)}' itself when it comes to this {_command(item)}: "
                "that works here, but LAVA's coordinator would wait for this device too, for ever.",
                f"Put {_sending(item)} before it, so that it works in LAVA, or name a role.",
            )
        if item.sends:
            sent.add(item.message_id)


# Messages


def _sent_differently(program: Program) -> Iterator[Finding]:
    """An id that a device certainly sends twice, with other data."""
    first: dict[Text, Call] = {}
    for call in program.calls:
        if call.kind is not CallKind.SEND or call.perhaps or call.refused or call.message_id.exact is None:
            continue
        if call.message_id.exact == NETWORK_ID:
            continue
        before = first.setdefault(call.message_id, call)
        if _differ(before, call):
            yield Finding(
                call.place,
                Severity.WARNING,
                "sent-differently",
                f"{_who(program)} sends '{_shown(call)}' again with other data than before ({before.place}): "
                "a wait may get either, and LAVA forgets the first.",
                "Give the second message an id of its own.",
            )


def _differ(first: Call, second: Call) -> bool:
    """Whether the data of two messages certainly differ."""
    if first is second:
        return False
    one, other = dict(first.data), dict(second.data)
    if any(key.exact is None for key in (*one, *other)):
        return False
    return one.keys() != other.keys() or any(not one[key].may_be(other[key]) for key in one)


def _unwaited(group: _Group, program: Program) -> Iterator[Finding]:
    if any(other is not program for other in group.with_unread):
        return
    for call in program.calls:
        message_id = call.message_id.exact
        if call.kind is not CallKind.SEND or call.refused or message_id in (None, START_ID, NETWORK_ID):
            continue
        if group.waited.may_hold(call.message_id):
            continue
        assert message_id is not None
        twins: list[str] = []
        if group.may_compare(len(group.waited.exact)):
            twins = sorted(twin for twin in group.waited.exact if _is_slip(message_id, twin))
        if twins:
            sentence = f"nobody waits for '{message_id}', but '{twins[0]}' is waited for."
            yield Finding(
                call.place, Severity.WARNING, "near-twin", sentence, "Is one of the two misspelled?"
            )
        else:
            yield Finding(call.place, Severity.NOTE, "unwaited", f"nobody waits for '{message_id}'.", "")


def _is_slip(one: str, other: str) -> bool:
    """Whether two ids look like one id and a slip of it; step-1 and step-2 do not."""
    if one == other:
        return False
    first, second = (re.split(r"[-_.]", text) for text in (one, other))
    if first == second or re.sub(r"[-_.]", "", one) == re.sub(r"[-_.]", "", other):
        return True
    if len(first) != len(second):
        return False
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    return len(pairs) == 1 and _one_edit(*sorted(pairs[0], key=len))


def _one_edit(short: str, long: str) -> bool:
    """Whether a letter too many, a wrong letter or two exchanged ones make the one of the other."""
    if len(short) < 4 or re.sub(r"\d", "", short) != short or re.sub(r"\d", "", long) != long:
        return False
    start = next((n for n in range(len(short)) if short[n] != long[n]), len(short))
    a, b = short[start:], long[start:]
    if len(short) == len(long):
        exchanged = a[:2] == b[1::-1] and a[2:] == b[2:]
        return exchanged or (len(short) > 4 and a[1:] == b[1:])
    return len(long) == len(short) + 1 and a == b[1:]


def _data_findings(call: Call) -> Iterator[Finding]:
    for word in call.dropped:
        yield Finding(
            call.place,
            Severity.WARNING,
            "no-pair",
            f"'{_cut(str(word))}' is not KEY=VALUE, and is left out of the message.",
            "Put quotes around a value with blanks in it.",
        )
    for key, value in call.data:
        for trouble in _quirks(key, value):
            sentence = f"LAVA's own lava-send spoils '{_cut(f'{key}={value}')}': {trouble}. Here it arrives as it is."
            yield Finding(call.place, Severity.NOTE, "spoilt-by-lava", sentence, "")


def _quirks(key: Text, value: Text) -> Iterator[str]:
    """What LAVA's scripts make of a pair."""
    name = key.exact
    if name is not None and not re.fullmatch(r"\w+", name):
        yield "a key that is not only letters, digits and '_' becomes part of the word before it, which may be the id"
    text = value.exact
    if text is None:
        parts = value.parts
    elif not text:
        yield "a pair without a value is dropped"
        return
    else:
        parts = (text,)
    for sign, trouble in (
        (r"[ \t]{2}|\t", "several blanks become one"),
        (">", "what follows '>' is lost"),
        (r"\s\w+=", "a blank and a word with '=' begin a new pair"),
        (r"\\", "backslashes are taken out"),
    ):
        if any(re.search(sign, part) for part in parts):
            yield trouble
    if sum(len(part.encode("utf-8", "replace")) for part in parts) > _LAVA_LINE:
        yield "it is cut, as the line is too long for a terminal"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
