# SPDX-License-Identifier: MIT
"""Files that a script runs, or reads as a part of itself."""

import posixpath
import re
from functools import lru_cache

from dispatcher.jobs.model import Place
from dispatcher.jobs.text import Text, known
from dispatcher.plan.calls import Call, ScriptFile, Unread
from dispatcher.plan.shell.conditions import Status
from dispatcher.plan.shell.scope import FOLDER, Source
from dispatcher.plan.shell.walker import MULTINODE, Stop, Walker

# Text of a program in another language that may make calls: lava-send, or "lava-" + name.
_MAY_CALL = re.compile(rf"{MULTINODE.pattern}|\blava-(?![a-z])")
# A module that a Python program imports, and what may be the name of a file.
_NAMES = re.compile(
    r"""^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+)?import[ \t]+([\w.]+)|["']([\w./-]{1,200})["']""", re.MULTILINE
)
# Files that are looked for.
_MOST_NAMED = 200
# Folders of programs that make no calls.
SYSTEM = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")


def script(walker: Walker, path: Text, arguments: list[Text], place: Place, sourced: bool = False) -> Status:
    """A file that is run, or read as part of this script."""
    where = walker.scope.path(path)
    file = None if where is None else walker.read_file(where)
    text = str(path).replace(FOLDER + "/", "")
    if file is None:
        # What a script reads from the system are settings.
        if (
            not (sourced and str(path).startswith("/") and not text.startswith("*"))
            and posixpath.dirname(str(path)) not in SYSTEM
        ):
            walker.items.append(Unread(place, text))
            if not sourced and not walker.perhaps:
                walker.note_work(text, place, len(walker.items))
        return Status.UNKNOWN
    walker.scripts.add(where or "")
    if not sourced and not _is_shell(file.text):
        return program(walker, text, file.text, place)
    source = _source(file, not sourced)
    before = len(walker.items)
    with walker.one_deeper():
        if sourced:
            _sourced(walker, source, path, arguments)
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


def _sourced(walker: Walker, source: Source, path: Text, arguments: list[Text]) -> None:
    own, above = walker.scope.arguments, walker.scope.sourced
    walker.scope.sourced = path
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
        walker.scope.sourced = above
        if arguments:
            walker.scope.arguments = own


def program(walker: Walker, text: str, content: str, place: Place) -> Status:
    """A file in another language than the shell's."""
    content = _with_what_it_names(walker, posixpath.dirname(text), content)
    if _MAY_CALL.search(content):
        walker.items.append(Unread(place, text, content))
    walker.note_work(text, place, len(walker.items))
    return Status.UNKNOWN


def _with_what_it_names(walker: Walker, folder: str, content: str) -> str:
    """The text of a program with that of the files that it imports, or names in quotes."""
    texts, names, seen = [content], [content], set[str]()
    while names:
        for package, module, quoted in _NAMES.findall(names.pop()):
            parts = f"{package}.{module}".strip(".").split(".")
            near = ["/".join(parts) + ".py", "/".join(parts[:-1]) + ".py"] if package or module else [quoted]
            for name in (posixpath.join(one, name) for name in near for one in (folder, ".")):
                where = walker.scope.path(known(name))
                if where is None or where in seen or len(seen) >= _MOST_NAMED:
                    continue
                seen.add(where)
                file = walker.read_file(where)
                if file is not None:
                    texts.append(file.text)
                    names.append(file.text)
    return "\n".join(texts)


def _is_shell(text: str) -> bool:
    """Whether a file is a shell script, by its first line."""
    first = text.split("\n", 1)[0]
    if not first.startswith("#!"):
        return "\0" not in text[:1000]
    return re.search(r"\b(ba|da|a|mk|k|z)?sh\b", first) is not None
