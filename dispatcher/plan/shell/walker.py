# SPDX-License-Identifier: MIT
"""Where a reading of shell text is: its state, and statements one after the other, apart, or in branches.

Where a condition is known it takes the branch; where it is not, it takes all, and what it finds there is
noted as "perhaps". A loop whose turns are known is gone through; of another, the body is read once, with
the variables that it sets unknown, and what it holds is noted as "repeatedly". It is taken for granted
that commands succeed, as they do in a good run.

All work is bounded: what goes on too long or too deep is noted as not read.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from tree_sitter import Node

from dispatcher.jobs.model import Place
from dispatcher.jobs.text import UNKNOWN, Text, known
from dispatcher.plan.calls import Call, DeviceNames, Item, ReadFile, Unread, Work
from dispatcher.plan.shell.conditions import Status
from dispatcher.plan.shell.grammar import parse, text_of
from dispatcher.plan.shell.scope import Scope, Source, merged
from dispatcher.plan.shell.words import Words

# Nodes that are visited for one definition, depths of nodes and of scripts that call scripts.
_MOST_NODES = 100_000
_DEEPEST = 60
_MOST_NESTED = 12
_MOST_CHARACTERS = 500_000

# (The text that `printf` is given has "\n" before it.)
MULTINODE = re.compile(r"(?:\b|(?<=\\[nt]))lava-(?:send|wait|wait-all|sync|network|lock|unlock)\b")

Visit = Callable[["Walker", Node], Status]
# What a $(...) prints.
Substitute = Callable[["Walker", Node], Text]


class Stop(Exception):
    """The rest is not reached: by exit, return, break or continue."""

    def __init__(self, what: str) -> None:
        self.what = what


class TooMuch(Exception):
    """The bounds are reached."""


class Walker:
    """Reads the scripts of one device, one after the other, into `items`.

    `perhaps`, `repeatedly`, `background` and `timed` hold for the calls that are noted now.
    """

    def __init__(
        self,
        names: DeviceNames,
        read_file: ReadFile,
        visits: Mapping[str, Visit],
        substitute: Substitute,
        written: list[str],
    ) -> None:
        self.items: list[Item] = []
        self.names = names
        self.read_file = read_file
        self._visits = visits
        self._substitute = substitute
        self.scope = Scope()
        self.source = Source("", ())
        self._nodes = 0
        self._depth = 0
        self._nested = 0
        self.perhaps = False
        self.repeatedly = False
        self.background = False
        self.timed = False
        self.traps: list[tuple[Text, bool, Place]] = []
        # Text with calls in it that is no command here: what programs get on their input now, and what was written
        # to a file, by this definition or an earlier one, from which they may run it.
        self.fed = ""
        self.written = written
        # Files that were changed or made, from the definition's folder: what they hold then is not known.
        self.changed: set[str] = set()
        # The files that were read, from the definition's folder; and each time that one was.
        self.scripts: set[str] = set()
        self.ran: list[str] = []

    def run(self, source: Source, variables: Mapping[str, str], environment: Mapping[str, str]) -> None:
        """Read one definition, which begins in its folder.

        :param variables: of its shell; what that runs does not have them, but has those of `environment`.
        """
        both = {**environment, **variables}
        self.scope = Scope(
            variables={name: known(value) for name, value in both.items()}, exported=set(environment)
        )
        self._nodes = self._depth = self._nested = 0
        self.perhaps = self.repeatedly = self.background = self.timed = False
        self.traps = []
        try:
            self.run_shell(source)
        except (TooMuch, RecursionError):
            place = source.places[0]
            self.note_unread(place, place.file)

    def run_shell(self, source: Source) -> None:
        """A shell of its own: `exit` ends it, and its traps come then."""
        traps, self.traps = self.traps, []
        perhaps = self.perhaps
        with suppress(Stop):
            self.run_text(source)
        for action, certain, place in self.traps:
            with self.maybe(not certain):
                self.evaluate(action, place, "trap")
        self.traps, self.perhaps = traps, perhaps

    def run_text(self, source: Source) -> Status:
        if len(source.text) > _MOST_CHARACTERS:
            raise TooMuch
        outer, self.source = self.source, source
        try:
            return self.visit(parse(source.text))
        finally:
            self.source = outer

    @contextmanager
    def one_deeper(self) -> Iterator[None]:
        if self._nested >= _MOST_NESTED:
            raise TooMuch
        self._nested += 1
        try:
            yield
        finally:
            self._nested -= 1

    def evaluate(self, text: Text, place: Place, command: str) -> Status:
        """Text that is run as shell code."""
        if text.exact is None:
            if MULTINODE.search(str(text)) or text.parts == UNKNOWN.parts:
                self.note_unread(place, command)
            return Status.UNKNOWN
        lines = text.exact.count("\n") + 1
        with self.one_deeper():
            try:
                return self.run_text(Source(text.exact, (place,) * lines, self.source.own))
            except Stop as stop:
                # An action of a trap, for example, that itself says exit.
                if command == "trap":
                    return Status.UNKNOWN
                raise stop

    def spend(self, work: int) -> None:
        """Count work that is done, in visits of nodes. Raises TooMuch."""
        self._nodes += work
        if self._nodes > _MOST_NODES:
            raise TooMuch

    def _copied(self) -> Scope:
        """The scope, for a shell or branch of its own."""
        self.spend(len(self.scope.variables) // 10)
        return self.scope.copy()

    def visit(self, node: Node) -> Status:
        self.spend(1)
        visit = self._visits.get(node.type)
        if visit is None:
            return self.children(node)
        if self._depth >= _DEEPEST:
            raise TooMuch
        self._depth += 1
        try:
            return visit(self, node)
        finally:
            self._depth -= 1

    def children(self, node: Node) -> Status:
        if node.type == "ERROR":
            return self.error(node)
        return self.block(node.children)

    def block(self, nodes: Sequence[Node]) -> Status:
        """Statements one after the other; the status is that of the last."""
        status = Status.YES
        for number, node in enumerate(nodes):
            if node.is_named and node.type != "comment":
                if number + 1 < len(nodes) and nodes[number + 1].type == "&":
                    status = self._in_background(node)
                else:
                    status = self.visit(node)
        return status

    def error(self, node: Node) -> Status:
        """What is no shell text, or not understood: the calls in it are noted, with doubt."""
        before = len(self.items)
        with self.maybe(True):
            self.branch(node.children)
        found = sum(isinstance(item, Call) for item in self.items[before:])
        text = text_of(node)
        if len(MULTINODE.findall(text)) > found:
            self.note_unread(self.source.place(node), text.split("\n")[0][:40])
        return Status.UNKNOWN

    @contextmanager
    def maybe(self, perhaps: bool) -> Iterator[None]:
        outer, self.perhaps = self.perhaps, self.perhaps or perhaps
        try:
            yield
        finally:
            self.perhaps = outer

    def apart(self, nodes: Sequence[Node]) -> Status:
        """In a shell of its own, which changes nothing in this one."""
        outer = self.scope
        self.scope = self._copied()
        traps, self.traps = self.traps, []
        try:
            return self.block(nodes)
        except Stop as stop:
            if stop.what != "exit":
                raise
            return Status.UNKNOWN
        finally:
            self.scope, self.traps = outer, traps

    def branch(self, nodes: Sequence[Node]) -> tuple[Scope | None, bool]:
        """Nodes that may not be run: the scope after them, None if they end the script; whether that matters.

        This scope stays as it was. It matters where calls were made on the way.
        """
        outer, before = self.scope, len(self.items)
        self.scope = self._copied()
        try:
            self.block(nodes)
            return self.scope, False
        except Stop:
            return None, any(isinstance(item, Call) for item in self.items[before:])
        finally:
            self.scope = outer

    def either(self, branches: Sequence[Sequence[Node]], likely: int | None = None) -> None:
        """One of several branches, it is not known which; `likely` is the one of a good run."""
        ends, doubt = [], False
        for number, nodes in enumerate(branches):
            with self.maybe(number != likely):
                scope, matters = self.branch(nodes)
            if scope is not None:
                ends.append(scope)
            doubt = doubt or matters
        if not ends:
            raise Stop("exit")
        self.scope = merged(ends)
        # Whether the rest is reached was decided by what is not known.
        self.perhaps = self.perhaps or doubt

    def words(self) -> Words:
        return Words(self.scope, partial(self._substitute, self))

    def note_work(self, text: str, place: Place, before: int) -> None:
        """Of what made no call itself, only that it was run."""
        new = self.items[before:]
        if self.perhaps or self.repeatedly or self.background or any(isinstance(item, Call) for item in new):
            return
        self.items[before:] = [Work(place, text), *(item for item in new if not isinstance(item, Work))]

    @contextmanager
    def feeding(self, text: str) -> Iterator[None]:
        """What is visited has this text as input, if it is not empty."""
        outer, self.fed = self.fed, text or self.fed
        try:
            yield
        finally:
            self.fed = outer

    def note_unread(self, place: Place, name: str, *texts: str) -> None:
        """What is called so runs something that is not read here; these texts may be among that."""
        self.items.append(Unread(place, name, "\n".join(filter(None, texts))))

    def note_written(self, text: str) -> None:
        """This text was written to a file."""
        if text and text not in self.written:
            self.written.append(text)

    def more_than_calls(self, text: str, before: int) -> bool:
        """Whether commands with this text name more calls than they made; `before` is the number of items before them."""
        named = len(MULTINODE.findall(text))
        return named > sum(isinstance(item, Call) for item in self.items[before:])

    def _in_background(self, node: Node) -> Status:
        outer, self.background = self.background, True
        try:
            self.apart([node])
        finally:
            self.background = outer
        return Status.YES
