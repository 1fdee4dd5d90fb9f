# SPDX-License-Identifier: MIT
"""Files that a script runs, or reads as a part of itself."""

import posixpath
import re
from collections.abc import Iterable, Set
from functools import lru_cache

from dispatcher.jobs.model import Place
from dispatcher.jobs.text import Text, known
from dispatcher.plan.calls import Call, ScriptFile
from dispatcher.plan.shell.conditions import Status
from dispatcher.plan.shell.scope import FOLDER, Source
from dispatcher.plan.shell.walker import MULTINODE, Stop, Walker

# Text of a program in another language that may make calls: lava-send, or "lava-" + name.
_MAY_CALL = re.compile(rf"{MULTINODE.pattern}|\blava-(?![a-z])")
# What may be the name of a file in the text of a program: a module that a Python program imports, what a Makefile
# includes, a word in quotes, and a word with a dot or a slash in it.
_IMPORTS = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+)?import[ \t]+([\w.]+)", re.MULTILINE)
_INCLUDES = re.compile(r"^[ \t]*[-s]?include[ \t]+(.*)", re.MULTILINE)
_NAMES = re.compile(r"""["']([\w+-]{1,200})["']|([\w+-]{0,200}[./][\w./+-]{0,200})""")
# From the first character of a pattern on.
_PATTERN = re.compile(r"[^/]*[*?\[].*")
# Files that are looked for.
_MOST_NAMED = 1000
# Folders of programs that make no calls.
SYSTEM = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")


def script(walker: Walker, path: Text, arguments: list[Text], place: Place, sourced: bool = False) -> Status:
    """A file that is run, or read as part of this script."""
    where = walker.scope.path(path)
    file = None if where is None else walker.read_file(where)
    text = str(path).replace(FOLDER + "/", "")
    if file is None:
        if walker.written:
            walker.note_unread(place, text, *walker.written)
        # What a script reads from the system are settings.
        elif (
            not (sourced and str(path).startswith("/") and not text.startswith("*"))
            and posixpath.dirname(str(path)) not in SYSTEM
        ):
            walker.note_unread(place, text)
            if not sourced and not walker.perhaps:
                walker.note_work(text, place, len(walker.items))
        return Status.UNKNOWN
    if where in walker.changed:
        walker.note_unread(place, text, file.text, *walker.written)
        return Status.UNKNOWN
    walker.scripts.add(where or "")
    walker.ran.append(where or "")
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
    near = files_behind(walker, _names_in(content, posixpath.dirname(text)))
    if near or _MAY_CALL.search(content):
        walker.note_unread(place, text, content, *near)
    walker.note_work(text, place, len(walker.items))
    return Status.UNKNOWN


def texts_run(walker: Walker, text: str, *, own: bool = True, read: Set[str] = frozenset()) -> str:
    """What may be run of a text that a program gets: itself, if there are calls in it, and the files that it names.

    :param own: whether its own calls count.
    :param read: files of which the calls are noted already.
    """
    words = [(name, "") for word in text.split() for name in (word, *_around_equals(word))]
    words += _names_in(text, "")
    texts = [text] if own and MULTINODE.search(text) else []
    return "\n".join([*texts, *files_behind(walker, words, read)])


def files_behind(walker: Walker, names: Iterable[tuple[str, str]], read: Set[str] = frozenset()) -> list[str]:
    """The texts with calls of the files that these words may name, alone, by a pattern or with their folder; and of
    the files that are named in one of them.

    :param names: each with the folder of the file that has it.
    :param read: files that are left out.
    """
    found, seen, waiting = list[str](), set[tuple[str | None, bool]](), list(names)
    while waiting and len(seen) < _MOST_NAMED:
        word, folder = waiting.pop()
        for path in dict.fromkeys((posixpath.join(folder, word), word)):
            place = _PATTERN.sub("", path.strip("'\";")) or "."
            where = None if word.startswith("-") else walker.scope.path(known(place))
            whole = path.endswith("/*")
            if where is None or where in read or (where, whole) in seen:
                continue
            seen.add((where, whole))
            file = walker.read_file(where)
            if file is not None:
                waiting += _names_in(file.text, posixpath.dirname(place))
            # A folder of what is read here holds nothing new, unless all of it is meant.
            elif whole or (where != "." and not any(one.startswith(f"{where}/") for one in walker.scripts)):
                file = walker.read_file(f"{where}/")
            if file is not None and _MAY_CALL.search(file.text):
                found.append(file.text)
    walker.spend(len(seen) // 20)
    return found


def _around_equals(word: str) -> list[str]:
    """`--file=x.mk` names x.mk."""
    _, equals, behind = word.partition("=")
    return [behind] if equals else []


def _names_in(text: str, folder: str) -> list[tuple[str, str]]:
    """What may be names of files in the text of a file in this folder."""
    names = [name for found in _NAMES.findall(text) for name in found if name]
    # What a variable stands for may be any file there.
    names += ["./*" if "$" in name else name for line in _INCLUDES.findall(text) for name in line.split()]
    for package, module in _IMPORTS.findall(text):
        parts = f"{package}.{module}".strip(".").split(".")
        paths = ("/".join(parts), "/".join(parts[:-1]))
        names += [f"{path}{end}" for path in paths for end in (".py", "/__init__.py")]
    return [(name, folder) for name in dict.fromkeys(names)][:_MOST_NAMED]


def _is_shell(text: str) -> bool:
    """Whether a file is a shell script, by its first line."""
    first = text.split("\n", 1)[0]
    if not first.startswith("#!"):
        return "\0" not in text[:1000]
    return re.search(r"\b(ba|da|a|mk|k|z)?sh\b", first) is not None
