# SPDX-License-Identifier: MIT
"""Commands of the shell itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dispatcher.jobs.model import Place
from dispatcher.jobs.text import UNKNOWN, Text, joined
from dispatcher.plan.calls import COMMANDS, Call
from dispatcher.plan.shell.conditions import Status, judged, tokens_of_words
from dispatcher.plan.shell.scripts import script
from dispatcher.plan.shell.walker import Stop, Walker

# The box's commands.
OF_THE_BOX = {
    *COMMANDS,
    *("lava-self", "lava-role", "lava-group", "lava-test-case", "lava-test-set", "lava-test-reference"),
    *("lava-test-raise", "lava-test-run-attach", "lava-test-case-attach", "lava-install-packages"),
    *("lava-echo-ipv4", "lava-target-ip", "lava-target-mac", "lava-target-storage", "lava-os-build"),
    *("lava-background-process-start", "lava-background-process-stop", "lava-test-runner", "lava-test-shell"),
    *("lava-test-event", "lava-test-feedback", "lava-test-case-metadata", "lava-common-functions"),
    *("lava-installed-packages", "lava-add-keys", "lava-add-sources", "lava-echo-config", "lava-probe-ip"),
    *("lava-probe-channel", "lava-start-vms", "lava-wait-for-vms"),
    *("lava-vland-names", "lava-vland-self", "lava-vland-tags"),
}
_Builtin = Callable[[Walker, Sequence[Text], Place], Status]


def cd(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    """Change the folder of this shell."""
    target = [word for word in words[1:] if word.exact not in ("-P", "-L", "--")]
    walker.scope.folder = walker.scope.path(target[0]) if target else None
    return Status.LIKELY


def _source_file(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    return script(walker, words[1], list(words[2:]), place, sourced=True) if len(words) > 1 else Status.NO


def _eval(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    return walker.evaluate(joined(words[1:]), place, "eval")


def _stop(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    raise Stop(words[0].exact or "exit")


def _set(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    for number, word in enumerate(words):
        if word.exact == "--":
            walker.scope.arguments = list(words[number + 1 :])
            return Status.YES
    if len(words) > 1 and words[1].parts[0][:1] not in ("-", "+"):
        walker.scope.arguments = list(words[1:])
    return Status.YES


def _shift(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    count = words[1].exact if len(words) > 1 else "1"
    if walker.scope.arguments is not None:
        if count is not None and count.isdecimal() and len(count) < 6:
            walker.scope.arguments = walker.scope.arguments[int(count) :]
        else:
            walker.scope.arguments = None
    return Status.YES


def _read_line(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    for word in words[1:]:
        if word.exact is not None and word.exact.isidentifier():
            walker.scope.variables[word.exact] = UNKNOWN
    return Status.UNKNOWN


def _trap(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    signals = {str(word).upper().removeprefix("SIG") for word in words[2:]}
    if len(words) > 2 and words[1].exact not in ("-", "") and not words[1].parts[0].startswith("-"):
        certain = bool(signals & {"EXIT", "0"}) and not walker.perhaps
        walker.traps.append((words[1], certain, place))
    elif words[1:2] and words[1].exact == "-" and signals & {"EXIT", "0"}:
        walker.traps.clear()
    return Status.YES


def _kill(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    """It may end any wait that was put in the background."""
    if words[1:2] and words[1].exact not in ("-0", "-l"):
        for number, item in enumerate(walker.items):
            if isinstance(item, Call) and item.background:
                walker.items[number] = replace(item, timed=True)
    return Status.UNKNOWN


def _true(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    return Status.YES


def _false(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    return Status.NO


def _test_words(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    rest = list(words[1:])
    if words[0].exact == "[" and rest and rest[-1].exact == "]":
        del rest[-1]
    return judged(tokens_of_words(rest))


def exists(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    """`which X`: the box's commands are there."""
    return there(walker, [word for word in words[1:] if not str(word).startswith("-")])


def there(walker: Walker, words: Sequence[Text]) -> Status:
    """Whether these are commands: of the box, or functions."""
    names = [word.exact for word in words]
    if names and all(name in OF_THE_BOX or name in walker.scope.functions for name in names):
        return Status.YES
    return Status.UNKNOWN


BUILTINS: Mapping[str, _Builtin] = {
    "cd": cd,
    "pushd": cd,
    ".": _source_file,
    "source": _source_file,
    "eval": _eval,
    "exit": _stop,
    "return": _stop,
    "break": _stop,
    "continue": _stop,
    "set": _set,
    "shift": _shift,
    "read": _read_line,
    "trap": _trap,
    "kill": _kill,
    "pkill": _kill,
    "killall": _kill,
    "true": _true,
    ":": _true,
    "false": _false,
    "test": _test_words,
    "[": _test_words,
    "which": exists,
    "type": exists,
    "hash": exists,
}
