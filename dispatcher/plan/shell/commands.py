# SPDX-License-Identifier: MIT
"""Simple commands: multi-node calls, functions, scripts, and programs that run other commands."""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace

from tree_sitter import Node

from dispatcher.jobs.model import Place
from dispatcher.jobs.text import Text, known
from dispatcher.plan.calls import COMMANDS, Call, call_of
from dispatcher.plan.shell.assignments import assigned_value, redirect
from dispatcher.plan.shell.builtins import BUILTINS, exists
from dispatcher.plan.shell.conditions import Status
from dispatcher.plan.shell.grammar import text_of
from dispatcher.plan.shell.scope import Function
from dispatcher.plan.shell.scripts import SYSTEM, program, script, texts_run
from dispatcher.plan.shell.walker import MULTINODE, Stop, Walker

_SHELLS = ("sh", "bash", "dash", "ash", "ksh", "mksh", "zsh")
_INTERPRETERS = re.compile(r"(python|perl|ruby|lua|node|tclsh|expect)[\d.]*")
# Programs that run another: their options that have a value, and how many operands come first.
_RUNNERS: dict[str, tuple[str, int]] = {
    "sudo": ("ugCp", 0),
    "env": ("uC", 0),
    "nohup": ("", 0),
    "time": ("of", 0),
    "timeout": ("sk", 1),
    "nice": ("n", 0),
    "ionice": ("cnp", 0),
    "stdbuf": ("ioe", 0),
    "setsid": ("", 0),
    "taskset": ("", 1),
    "chrt": ("TPD", 1),
    "command": ("", 0),
    "builtin": ("", 0),
    "exec": ("a", 0),
    "busybox": ("", 0),
    "unbuffer": ("", 0),
}
# Files that a program reads without being told; "./*": all of its folder.
_MAKEFILES = ("Makefile", "makefile", "GNUmakefile")
_FILES_OF = {
    **dict.fromkeys(("make", "gmake", "remake"), _MAKEFILES),
    "ninja": ("build.ninja",),
    "just": ("justfile", "Justfile"),
    "task": ("Taskfile.yml",),
    "ant": ("build.xml",),
    "ctest": ("CMakeLists.txt",),
    **dict.fromkeys(("npm", "yarn"), ("package.json",)),
    **dict.fromkeys(("pytest", "py.test", "tox", "nox", "avocado", "bats", "prove"), ("./*",)),
    **dict.fromkeys(("docker", "podman", "docker-compose", "podman-compose"), ("./*",)),
}
# They run what stands in a folder; and what their input names, if that is given to a shell.
_RUN_FOLDERS = ("run-parts", "lava-test-runner")
_RUN_INPUT = ("find", "xargs", "parallel")
# Programs that only look at text, and run none of it.
_HARMLESS = {
    "grep",
    "egrep",
    "fgrep",
    "sed",
    "cut",
    "tr",
    "head",
    "tail",
    "sort",
    "tee",
    "pgrep",
}
_HARMLESS |= {"chmod", "stat", "diff", "wc", "man", "dpkg", "rpm", "basename", "dirname", "ls"}
# Those that put a file where it may be run from.
_COPIES = {"cp", "mv", "ln", "install"}
# An option of sed and perl that changes files.
_IN_PLACE = re.compile(r"-[a-zA-Z]*i|--in-place")
# What a call costs beside its own visit, in visits of nodes: each device of the role plays it, and it has a row in
# the table.
_OF_A_CALL = 9
# They succeed, as far as a test has to do with it.
_GOOD = set(["echo", "printf", "mkdir", "sleep", "touch", "rm", "cat", "date", "sync", "pwd"])


def command(walker: Walker, node: Node) -> Status:
    """A command with its arguments, and assignments that hold for it alone."""
    given = "".join(text_of(child) for child in node.children if child.type == "herestring_redirect")
    with walker.feeding(given and texts_run(walker, given)):
        return _command(walker, node)


def _command(walker: Walker, node: Node) -> Status:
    given: dict[str, Text] = {}
    nodes: list[Node] = []
    for child in node.children:
        if child.type == "variable_assignment":
            name, value = assigned_value(walker, child)
            if name is not None:
                given[name] = value
        elif child.type == "command_name":
            nodes += child.children
        elif child.type.endswith("redirect"):
            redirect(walker, child)
        elif child.type != "<<<":
            nodes.append(child)
    words = walker.words().fields(nodes)
    if not words:
        walker.scope.variables.update(given)
        return Status.LIKELY
    if not given:
        return _run(walker, words, walker.source.place(node))
    outer, walker.scope = walker.scope, walker.scope.copy()
    walker.scope.variables.update(given)
    walker.scope.exported |= given.keys()
    try:
        status = _run(walker, words, walker.source.place(node))
    finally:
        for name in given:
            walker.scope.variables.pop(name, None)
            if name in outer.variables:
                walker.scope.variables[name] = outer.variables[name]
        walker.scope.exported = outer.exported
    return status


def _run(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    words = _without_folder(walker, words)
    name = words[0].exact
    if name is None:
        return _unknown_command(walker, words, place)
    if name in walker.scope.functions:
        return _call_function(walker, walker.scope.functions[name], words, place)
    if name == "lava-lock":
        return _lock(walker, words, place)
    if name in COMMANDS:
        return _note(walker, words, place)
    builtin = BUILTINS.get(name)
    if builtin is not None:
        return builtin(walker, words, place)
    base = posixpath.basename(name)
    if base in _RUNNERS and (base == name or posixpath.dirname(name) in SYSTEM):
        return _runner(walker, base, words, place)
    if base in _SHELLS and (base == name or posixpath.dirname(name) in SYSTEM):
        return _run_shell(walker, words, place)
    _note_changed(walker, base, words[1:])
    if _INTERPRETERS.fullmatch(base):
        return _run_interpreter(walker, words, place)
    if "/" in name:
        return script(walker, words[0], list(words[1:]), place)
    if name == "lava-test-case":
        return _test_case(walker, words, place)
    found = _in_path(walker, name)
    if found is not None:
        return script(walker, found, list(words[1:]), place)
    if name == "lava-background-process-start":
        return _background(walker, words, place)
    if name in _GOOD or (name.startswith("lava-") and name not in _RUN_FOLDERS):
        return Status.LIKELY
    if base in _COPIES:
        walker.note_written(texts_run(walker, " ".join(map(str, words[1:]))))
    elif base not in _HARMLESS:
        _note_what_it_may_run(walker, words, place)
    return Status.UNKNOWN


def _without_folder(walker: Walker, words: Sequence[Text]) -> Sequence[Text]:
    """`/lava-7/bin/lava-send x` and `$BIN/lava-send x` are calls, unless the definition has such a file."""
    _, slash, base = words[0].parts[-1].rpartition("/")
    if not slash or base not in (*COMMANDS, "lava-test-case"):
        return words
    where = walker.scope.path(words[0])
    if where is not None and walker.read_file(where) is not None:
        return words
    return [known(base), *words[1:]]


def _note_changed(walker: Walker, name: str, words: Sequence[Text]) -> None:
    """The files of the definition that a program changes, or puts others in the place of."""
    in_place = any(map(_IN_PLACE.match, map(str, words)))
    if name == "tee" or (name in ("sed", "perl", "ruby") and in_place):
        changed = list(words)
    elif name in _COPIES and words:
        folder = str(words[-1])
        changed = [
            words[-1],
            *(known(posixpath.join(folder, posixpath.basename(str(one)))) for one in words[:-1]),
        ]
    else:
        return
    walker.changed.update(where for where in map(walker.scope.path, changed) if where is not None)


def _note_what_it_may_run(walker: Walker, words: Sequence[Text], place: Place) -> None:
    """Any program may run what its arguments name, what it reads, or a file that was written: su, flock, find, xargs,
    chroot, ssh, awk, docker, make."""
    name, given = posixpath.basename(str(words[0])), " ".join(map(str, words[1:]))
    files = " ".join(_FILES_OF.get(name, ()))
    texts = [walker.fed, *walker.written, texts_run(walker, f"{given} {files}")]
    functions = walker.scope.functions.keys() & walker.scope.exported & set(given.split())
    texts += [text_of(walker.scope.functions[function].body) for function in sorted(functions)]
    # What it runs is not said here, but that it is run by a shell.
    unsaid = name in _RUN_FOLDERS or (name in _RUN_INPUT and any(word.exact in _SHELLS for word in words[1:]))
    if any(texts) or unsaid:
        walker.note_unread(place, str(words[0]), *texts)


def _in_path(walker: Walker, name: str) -> Text | None:
    """Where a command is that a folder of the definition has, which the script has put into PATH."""
    for folder in str(walker.scope.value("PATH") or "").split(":"):
        if folder and folder != "*":
            path = known(posixpath.join(folder, name))
            where = walker.scope.path(path)
            if where is not None and walker.read_file(where) is not None:
                return path
    return None


def _unknown_command(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    text = str(words[0])
    # With a known name behind an unknown folder it is a program as others are.
    if "/" not in text or text.endswith("*") or text.endswith((".sh", ".bash")):
        walker.note_unread(place, text)
    return Status.UNKNOWN


def _note(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    call = call_of(words, place)
    if call is None:
        return Status.LIKELY
    walker.spend(_OF_A_CALL)
    walker.items.append(
        replace(
            call,
            perhaps=walker.perhaps,
            repeatedly=walker.repeatedly,
            background=walker.background,
            timed=call.timed or walker.timed or "LAVA_WAIT_TIMEOUT" in walker.scope.exported,
        )
    )
    return Status.LIKELY


def _call_function(walker: Walker, function: Function, words: Sequence[Text], place: Place) -> Status:
    scope, before = walker.scope, len(walker.items)
    arguments, perhaps = scope.arguments, walker.perhaps
    scope.arguments = list(words[1:])
    outer, walker.source = walker.source, function.source
    with walker.one_deeper():
        try:
            walker.visit(function.body)
        except Stop as stop:
            if stop.what != "return":
                raise
            walker.perhaps = perhaps
        finally:
            walker.source = outer
            walker.scope.arguments = arguments
    if function.source.own:
        walker.note_work(str(words[0]), place, before)
    # What it returns is not known; what it does is most of what a test does.
    return Status.LIKELY if any(isinstance(item, Call) for item in walker.items[before:]) else Status.UNKNOWN


def _runner(walker: Walker, name: str, words: Sequence[Text], place: Place) -> Status:
    with_value, operands = _RUNNERS[name]
    rest = list(words[1:])
    if name == "command" and rest and rest[0].exact in ("-v", "-V"):
        return exists(walker, rest, place)
    while rest:
        first = rest[0].exact
        if first is None or not (first.startswith("-") or (name in ("env", "sudo") and "=" in first)):
            break
        del rest[0]
        if first == "--":
            break
        if len(first) == 2 and first[1] in with_value and rest:
            del rest[0]
        if name == "env" and first in ("-S", "--split-string") and rest:
            _run_inner(walker, rest[:1], place, "env -S")
            return Status.LIKELY
    rest = rest[operands:]
    if not rest:
        _note_what_it_may_run(walker, words, place)
        return Status.LIKELY
    timed, walker.timed = walker.timed, walker.timed or name == "timeout"
    try:
        _run(walker, rest, place)
    finally:
        walker.timed = timed
    if name == "exec":
        raise Stop("exit")
    return Status.UNKNOWN if name == "timeout" else Status.LIKELY


def _run_shell(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    """`sh -c TEXT`, `bash -x FILE`."""
    rest, on_input = list(words[1:]), False
    while rest and rest[0].exact is not None and rest[0].exact[:1] in ("-", "+"):
        option = rest.pop(0).exact or ""
        if option == "--version":
            return Status.LIKELY
        on_input = on_input or ("s" in option and not option.startswith("--"))
        if "c" in option and not option.startswith("--"):
            if not rest:
                return Status.UNKNOWN
            outer = walker.scope
            walker.scope = outer.for_script(rest[1] if len(rest) > 1 else known("sh"), rest[2:])
            try:
                return walker.evaluate(rest[0], place, "sh -c")
            except Stop:
                return Status.UNKNOWN
            finally:
                walker.scope = outer
        if option in ("-o", "+o") and rest:
            del rest[0]
    if rest and not on_input:
        return script(walker, rest[0], rest[1:], place)
    # A shell that is fed by a pipe, a file or a here-document.
    walker.note_unread(place, f"the input of {words[0]}")
    return Status.UNKNOWN


def _run_interpreter(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    if walker.fed or walker.written:
        walker.note_unread(place, str(words[0]), walker.fed, *walker.written)
    for number, word in enumerate(words[1:], 1):
        text = str(word)
        if MULTINODE.search(text):
            walker.note_unread(place, str(words[0]))
            break
        if text == "-m" and number + 1 < len(words):
            return _run_module(walker, words[number + 1 :], place)
        if not text.startswith("-"):
            where = walker.scope.path(word)
            file = None if where is None else walker.read_file(where)
            if file is not None:
                return program(walker, text, file.text, place)
            if text.endswith((".py", ".pl")):
                walker.note_unread(place, text)
            break
    return Status.UNKNOWN


def _run_module(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    """`python3 -m MODULE`: of the definition, or a program such as pytest."""
    folder = str(words[0]).replace(".", "/")
    for path in (f"{folder}.py", f"{folder}/__main__.py"):
        where = walker.scope.path(known(path))
        file = None if where is None else walker.read_file(where)
        if file is not None:
            return program(walker, path, file.text, place)
    _note_what_it_may_run(walker, words, place)
    return Status.UNKNOWN


def _lock(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    """`lava-lock NAME -- COMMAND...`, which gives the lock back when the command has ended."""
    status = _note(walker, words, place)
    marks = [number for number, word in enumerate(words) if word.exact == "--"]
    if marks:
        _run_inner(walker, list(words[marks[0] + 1 :]), place, "lava-lock")
        names = [word for word in words[1 : marks[0]] if not str(word).startswith("-")]
        _note(walker, [known("lava-unlock"), *names[-1:]], place)
    return status


def _background(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    """`lava-background-process-start NAME --cmd COMMAND`."""
    outer, walker.background = walker.background, True
    try:
        _run_inner(walker, _behind(words, "--cmd"), place, "lava-background-process-start")
    finally:
        walker.background = outer
    return Status.LIKELY


def _test_case(walker: Walker, words: Sequence[Text], place: Place) -> Status:
    """`lava-test-case ID --shell COMMAND...`: one word is shell text, several are a command."""
    _run_inner(walker, _behind(words, "--shell"), place, "lava-test-case")
    return Status.LIKELY


def _behind(words: Sequence[Text], mark: str) -> list[Text]:
    """The words behind the first that is this one; none if there is none."""
    exact = [word.exact for word in words]
    return list(words[exact.index(mark) + 1 :]) if mark in exact else []


def _run_inner(walker: Walker, words: list[Text], place: Place, name: str) -> None:
    """What a command runs in a process of its own: one word is shell text, several are a command."""
    outer, walker.scope = walker.scope, walker.scope.copy()
    try:
        if len(words) == 1:
            walker.evaluate(words[0], place, name)
        elif words:
            _run(walker, words, place)
    except Stop:
        pass
    finally:
        walker.scope = outer
