# SPDX-License-Identifier: MIT
"""The multi-node calls that a definition makes on one device, read from its shell text. Nothing is run.

definition --shellwalk--> items in the order in which the device comes to them: calls, local work,
                          and what could not be read

What can't be known from the text alone stays open: a part of an id ("ready-*"), whether a call
is made at all (`perhaps`), how often (`repeatedly`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from dispatcher.group.operations import MAX_ID
from dispatcher.jobs.model import Place
from dispatcher.jobs.text import Text, known
from toolkit.wire import vocabulary

# The message that lava-network uses, as text.
NETWORK_ID = vocabulary.NETWORK_ID.decode()

COMMANDS = (
    *("lava-send", "lava-wait", "lava-wait-all", "lava-sync", "lava-network"),
    *("lava-lock", "lava-unlock"),
)


class CallKind(Enum):
    """What a call does."""

    SEND = "lava-send"
    WAIT = "lava-wait"
    NEXT = "lava-wait --next"
    WAIT_ALL = "lava-wait-all"
    SYNC = "lava-sync"
    LOCK = "lava-lock"
    UNLOCK = "lava-unlock"


@dataclass(frozen=True, slots=True)
class Call:
    """A multi-node call; `text` is the command, with its arguments as far as they are known.

    `background`: the device goes on meanwhile. `timed`: the wait ends by itself. `refused` says why the
    command would not accept its arguments, "" if it would. `dropped` are arguments that it leaves out.
    `or_ids` are the further ids of a lava-wait --any. Whom it waits for: a `role`, `devices` by name, or a `count`.
    `message_id` of a lock is its name.
    """

    place: Place
    text: str
    kind: CallKind
    message_id: Text
    role: Text | None = None
    data: tuple[tuple[Text, Text], ...] = ()
    perhaps: bool = False
    repeatedly: bool = False
    background: bool = False
    timed: bool = False
    refused: str = ""
    dropped: tuple[Text, ...] = ()
    or_ids: tuple[Text, ...] = ()
    devices: tuple[Text, ...] = ()
    count: Text | None = None

    @property
    def ids(self) -> tuple[Text, ...]:
        """The ids of which one will do."""
        return (self.message_id, *self.or_ids)

    @property
    def locks(self) -> bool:
        """Whether it is about a lock, and no message."""
        return self.kind in (CallKind.LOCK, CallKind.UNLOCK)

    @property
    def takes_any(self) -> bool:
        """Whether it waits for a message of whatever other device."""
        return self.kind in (CallKind.WAIT, CallKind.NEXT)

    @property
    def sends(self) -> bool:
        """Whether others can wait for it."""
        return self.kind in (CallKind.SEND, CallKind.SYNC)

    @property
    def certain(self) -> bool:
        """Whether it is made, once, and nothing else happens meanwhile on the device."""
        return not (self.perhaps or self.repeatedly or self.background)


@dataclass(frozen=True, slots=True)
class Work:
    """A script or function that the device runs and that makes no call."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A command that may make calls, which are not known; `content` is its text, if it is at hand."""

    place: Place
    text: str
    content: str = ""


Item = Call | Work | Unread


class DeviceNames:
    """What lava-self, lava-role and lava-group say on a device: `group` is (device, role) of all.

    `asked` says whether anybody has asked for the device's own name: all else is the same for its whole role.
    """

    def __init__(self, device: str, role: str, group: tuple[tuple[str, str], ...]) -> None:
        self._device = device
        self.role = role
        self.group = group
        self.asked = False

    @property
    def device(self) -> str:
        """The device's own name."""
        self.asked = True
        return self._device


@dataclass(frozen=True, slots=True)
class ScriptFile:
    """A file that a script calls; `name` is for messages."""

    name: str
    text: str


# From a path, relative to the definition's folder, to the file; None if there is none to be read. A path that ends
# in / is a folder: the text is that of all files below it that have calls in them.
ReadFile = Callable[[str], ScriptFile | None]


def call_of(words: Sequence[Text], place: Place) -> Call | None:
    """The call that these words of a command line make; None for a command or action that is none."""
    command = words[0].exact
    if command == "lava-network":
        return _network_call(words, place)
    if command not in COMMANDS:
        return None
    kind = CallKind(command)
    text = " ".join(map(str, words))
    if kind is CallKind.SEND:
        return _send(words, text, place)
    arguments = list(words[1:])
    if kind is CallKind.LOCK:
        # What stands behind is a command that it runs.
        arguments = arguments[: next((n for n, word in enumerate(arguments) if word.exact == "--"), None)]
    operands, values, refused = _operands(arguments, _OPTIONS.get(kind, ()))
    if "--next" in values:
        kind = CallKind.NEXT
    most = 2 if kind is CallKind.WAIT_ALL and "--device" not in values else 1
    any_of = "--any" in values
    refused = refused or _together_refused(values) or _count_refused(operands, None if any_of else most)
    message_id, *others = operands or [known("")]
    role = others[0] if most == 2 and others else next(iter(values.get("--role", ())), None)
    for one in [message_id, *(others if any_of else ())]:
        refused = refused or _id_refused(one)
    return Call(
        place,
        text,
        kind,
        message_id,
        role,
        timed="--timeout" in values,
        refused=refused,
        or_ids=tuple(others) if any_of else (),
        devices=tuple(values.get("--device", ())),
        count=next(iter(values.get("--count", ())), None),
    )


# The options of each beside --timeout; those of _FLAGS have no value.
_OPTIONS: dict[CallKind, tuple[str, ...]] = {
    CallKind.WAIT: ("--any", "--next"),
    CallKind.WAIT_ALL: ("--device",),
    CallKind.SYNC: ("--role", "--count"),
}
_FLAGS = ("--any", "--next")


def _together_refused(values: dict[str, list[Text]]) -> str:
    for one, other in (("--any", "--next"), ("--role", "--count")):
        if one in values and other in values:
            return f"{one} and {other} do not go together"
    return ""


def _network_call(words: Sequence[Text], place: Place) -> Call | None:
    text = " ".join(map(str, words))
    action = words[1].exact if len(words) > 1 else None
    if action == "broadcast":
        refused = "an interface is missing" if len(words) == 2 else ""
        return Call(place, text, CallKind.SEND, known(NETWORK_ID), refused=refused)
    if action == "collect":
        operands, values, refused = _operands(words[2:])
        timed = "--timeout" in values
        role = operands[1] if len(operands) > 1 else None
        if len(operands) > 2:
            refused = refused or f"too many arguments, from '{operands[2]}' on"
        return Call(place, text, CallKind.WAIT_ALL, known(NETWORK_ID), role, timed=timed, refused=refused)
    return None


def _send(words: Sequence[Text], text: str, place: Place) -> Call:
    arguments = list(words[1:])
    refused = ""
    if arguments and arguments[0].exact == "--":
        del arguments[0]
    elif arguments and arguments[0].parts[0].startswith("-"):
        refused = f"'{arguments[0]}' is an unknown option"
    if not arguments:
        return Call(place, text, CallKind.SEND, known(""), refused="a message id is missing")
    data, dropped = [], []
    for argument in arguments[1:]:
        pair = argument.partition("=")
        if pair is not None and pair[0] != known(""):
            data.append(pair)
            refused = refused or _pair_refused(*pair)
        elif argument.exact is not None:
            dropped.append(argument)
    refused = refused or _id_refused(arguments[0])
    return Call(
        place, text, CallKind.SEND, arguments[0], data=tuple(data), refused=refused, dropped=tuple(dropped)
    )


def _operands(
    arguments: Sequence[Text], options: tuple[str, ...] = ()
) -> tuple[list[Text], dict[str, list[Text]], str]:
    """The operands of a wait, the values of its options, and why it is refused.

    :param options: those that it has beside --timeout.
    """
    operands: list[Text] = []
    values: dict[str, list[Text]] = {}
    refused = ""
    rest = iter(arguments)
    for argument in rest:
        if argument.exact == "--":
            operands.extend(rest)
        elif argument.exact != "-" and argument.parts[0].startswith("-"):
            name, value = argument.partition("=") or (argument, None)
            option = name.exact or ""
            if option in _FLAGS and option in options and value is None:
                values[option] = []
                continue
            if option not in ("--timeout", *options):
                refused = refused or f"'{argument}' is an unknown option"
                # It may be a time-out all the same, whose name is not known.
                option = "--timeout"
            elif value is None:
                value = next(rest, None)
                if value is None:
                    refused = refused or f"{option} needs a value"
            values.setdefault(option, []).extend([] if value is None else [value])
        else:
            operands.append(argument)
    return operands, values, refused


def _count_refused(operands: list[Text], most: int | None) -> str:
    if not operands:
        return "a message id is missing"
    # What isn't known may be no word at all, where it isn't quoted.
    if most is not None and len(operands) > most and all(operand.exact is not None for operand in operands):
        return f"too many arguments, from '{operands[most]}' on"
    return ""


_NO_WORD = re.compile(r"[\x00-\x20\x7f]")


def _id_refused(message_id: Text) -> str:
    if message_id == known(""):
        return "the message id is empty"
    for part in message_id.parts:
        if _NO_WORD.search(part) or "=" in part:
            return f"'{message_id}' is not a message id: it has white space, a control character or '=' in it"
    if sum(len(part.encode("utf-8", "replace")) for part in message_id.parts) > MAX_ID:
        return f"the message id has more than {MAX_ID} bytes"
    return ""


def _pair_refused(key: Text, value: Text) -> str:
    if any(map(_NO_WORD.search, key.parts)):
        return f"the key '{key}' has white space or a control character in it"
    if any("\n" in part or "\r" in part for part in value.parts):
        return f"the value of {key} has a line break in it"
    return ""
