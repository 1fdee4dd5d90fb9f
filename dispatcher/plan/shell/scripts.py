# SPDX-License-Identifier: MIT
"""Files that a script runs, or reads as a part of itself."""

import posixpath
import re
from functools import lru_cache

from dispatcher.jobs.model import Place
from dispatcher.jobs.text import Text
from dispatcher.plan.calls import Call, ScriptFile, Unread
from dispatcher.plan.shell.conditions import Status
from dispatcher.plan.shell.scope import FOLDER, Source
from dispatcher.plan.shell.walker import MULTINODE, Stop, Walker

# Folders of programs that make no calls.
SYSTEM = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")


def script(walker: Walker, path: Text, arguments: list[Text], place: Place, sourced: bool = False) -> Status:
    """A file that is run, or read as part of this script."""
    where = walker.scope.path(path)
    file = None if where is None else walker.read_file(where)
    text = str(path).replace(FOLDER + "/", "")
    if file is None:
        # What a script reads from the system are settings.
        if not (sourced and str(path).startswith(("/", "*"))) and posixpath.dirname(str(path)) not in SYSTEM:
            walker.items.append(Unread(place, text))
            if not sourced and not walker.perhaps:
                walker.note_work(text, place, len(walker.items))
        return Status.UNKNOWN
    if not sourced and not _is_shell(file.text):
        return program(walker, text, file.text, place)
    source = _source(file, not sourced)
    before = len(walker.items)
    with walker.one_deeper():
        if sourced:
            _sourced(walker, source, arguments)
            return Status.LIKELY
        outer = walker.scope
        walker.scope = outer.for_script(path, arguments)
        try:
            walker.run_shell(source)
        finally:
            walker.scope = outer
    walker.note_work(text, place, before)
    return Status.LIKELY if any(isinstance(item, Call) for item in walker.items[before:]) else Status.UNKNOWN


@lru_cache(100)
def _source(file: ScriptFile, own: bool) -> Source:
    lines = file.text.count("\n") + 1
    return Source(file.text, tuple(Place(file.name, line) for line in range(1, lines + 1)), own)


def _sourced(walker: Walker, source: Source, arguments: list[Text]) -> None:
    own = walker.scope.arguments
    if arguments:
        walker.scope.arguments = arguments
    perhaps = walker.perhaps
    try:
        walker.run_text(source)
    except Stop as stop:
        if stop.what != "return":
            raise
        walker.perhaps = perhaps
    finally:
        if arguments:
            walker.scope.arguments = own


def program(walker: Walker, text: str, content: str, place: Place) -> Status:
    """A file in another language than the shell's."""
    if MULTINODE.search(content):
        walker.items.append(Unread(place, text, content))
    walker.note_work(text, place, len(walker.items))
    return Status.UNKNOWN


def _is_shell(text: str) -> bool:
    """Whether a file is a shell script, by its first line."""
    first = text.split("\n", 1)[0]
    if not first.startswith("#!"):
        return "\0" not in text[:1000]
    return re.search(r"\b(ba|da|a|mk|k|z)?sh\b", first) is not None
