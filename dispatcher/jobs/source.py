# SPDX-License-Identifier: MIT
"""YAML that somebody else wrote: read safely, with the place of everything.

The file becomes a tree of `Map`, `Items` and `Scalar`, each of which knows its file and line.
Scalars have the types that LAVA's own reader gives them; no tag makes anything else. What is
read is bounded: in size, in depth, and in what it grows to when its aliases are written out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from dispatcher.errors import InputError, SetupError
from dispatcher.jobs.model import Place, Remark

# The largest job in use is a hundredth of it.
MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 60
# Values, each counted as often as an alias repeats it.
MAX_VALUES = 100_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = "tag:yaml.org,2002:"
_SCALARS = {_TAGS + name for name in ("str", "int", "float", "bool", "null", "timestamp")}

# What a template is known by: jinja's statements and expressions; and the variables of other tools.
# `{{.Name}}` is Go's, and docker's in a step.
_JINJA = re.compile(r"\{%|\{\{-?\s*[A-Za-z_]")
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
RENDER_FIRST = "this is a template: render it first, with the tool that it is written for, and run the result"


class JobError(InputError):
    """A job, or a definition, that can't be run. The text begins with the place and says what to do."""

    def __init__(self, place: Place | str, sentence: str) -> None:
        super().__init__(f"{place}: {sentence}")


class RepositoryError(SetupError):
    """A repository that a job names can't be read. The text begins with the place where it is named."""

    def __init__(self, place: Place, error: SetupError) -> None:
        super().__init__(f"{place}: {error}")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value, and its text as it is written."""

    place: Place
    value: Any
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: Sequence["Node"]


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping; the keys are texts."""

    place: Place
    items: Mapping[str, "Node"]
    keys: Mapping[str, Place]

    def get(self, key: str) -> "Node | None":
        """What the key has; None where it is missing or has nothing."""
        node = self.items.get(key)
        return None if isinstance(node, Scalar) and node.value is None else node


Node = Scalar | Items | Map


@dataclass(slots=True)
class Remarks:
    """What is to be told of a job; each sentence once."""

    _first: dict[str, Remark] = field(default_factory=dict)

    def add(self, place: Place, sentence: str, *, hides_calls: bool = False) -> None:
        self._first.setdefault(sentence, Remark(place, sentence, hides_calls))

    def all(self) -> tuple[Remark, ...]:
        return tuple(self._first.values())


def parse(data: bytes, file: str, remarks: Remarks, *, any_tags: bool = False) -> Node:
    """The tree of a YAML file. Raises JobError.

    :param file: what it is called in messages.
    :param any_tags: pass over tags, instead of refusing them; a scalar with one has no value then.
    """
    if len(data) > MAX_BYTES:
        raise JobError(file, f"{len(data)} bytes are too many for a job or definition ({MAX_BYTES})")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise JobError(Place(file, line), "this is not UTF-8 text; name a YAML file") from None
    try:
        _check_depth(text, file)
        node = _LOADER(text).get_single_node()
    except yaml.YAMLError as error:
        raise _no_yaml(error, text, file) from None
    if node is None:
        raise JobError(file, "this file is empty; a job or a test definition is expected")
    return _Converter(file, remarks, text.splitlines(), any_tags).convert(node)


def _check_depth(text: str, file: str) -> None:
    """Before anything recursive looks at it."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.events.CollectionStartEvent)
        depth -= isinstance(event, yaml.events.CollectionEndEvent)
        if depth > MAX_DEPTH:
            assert event.start_mark is not None
            place = Place(file, event.start_mark.line + 1)
            raise JobError(place, f"lists and mappings are nested more than {MAX_DEPTH} deep")


def _no_yaml(error: yaml.YAMLError, text: str, file: str) -> JobError:
    line, problem = 1, str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        problem = error.problem or error.context or ""
    elif isinstance(error, yaml.reader.ReaderError):
        position = error.position if isinstance(error.position, int) else 0
        line = text.count("\n", 0, position) + 1
        problem = "there is a character that YAML does not allow"
    for number, content in enumerate(text.splitlines(), start=1):
        if not content.lstrip().startswith("#") and _JINJA.search(content):
            return JobError(Place(file, number), RENDER_FIRST)
    lines = text.splitlines()[line - 1 : line]
    if lines and _VARIABLE.search(lines[0]):
        # In braces, as in {count: ${N}}, it is no YAML.
        return JobError(Place(file, line), RENDER_FIRST)
    if lines and "\t" in lines[0]:
        problem += " (indent with spaces, not with tabs)"
    return JobError(Place(file, line), f"this is not YAML: {problem}")


class _Converter:
    def __init__(self, file: str, remarks: Remarks, lines: Sequence[str], any_tags: bool) -> None:
        self._file = file
        self._remarks = remarks
        self._lines = lines
        self._any_tags = any_tags
        self._constructor = yaml.constructor.SafeConstructor()
        # By identity, as an alias is its anchor's node. None: it is being converted.
        self._done: dict[int, tuple[Node, int] | None] = {}

    def convert(self, node: yaml.Node) -> Node:
        return self._convert(node)[0]

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._file, node.start_mark.line + 1)

    def _convert(self, node: yaml.Node) -> tuple[Node, int]:
        """The node, and how many values it has."""
        if id(node) in self._done:
            done = self._done[id(node)]
            if done is None:
                raise JobError(self._place(node), "an alias is used inside its own value")
            return done
        self._done[id(node)] = None
        if isinstance(node, yaml.MappingNode) and self._is(node, "map"):
            done = self._map(node)
        elif isinstance(node, yaml.SequenceNode) and self._is(node, "seq"):
            pairs = [self._convert(item) for item in node.value]
            items = Items(self._place(node), [item for item, _ in pairs])
            done = items, 1 + sum(count for _, count in pairs)
        elif isinstance(node, yaml.ScalarNode):
            done = self._scalar(node), 1
        else:
            raise self._bad_tag(node)
        if done[1] > MAX_VALUES:
            raise JobError(self._place(node), f"with its aliases this has more than {MAX_VALUES} values")
        self._done[id(node)] = done
        return done

    def _is(self, node: yaml.Node, kind: str) -> bool:
        return self._any_tags or node.tag == _TAGS + kind

    def _scalar(self, node: yaml.ScalarNode) -> Scalar:
        place = self._place(node)
        if node.tag in (_TAGS + "value", _TAGS + "merge"):
            # "=" and "<<" where they have no meaning.
            return Scalar(place, node.value, node.value)
        if node.tag not in _SCALARS:
            if self._any_tags:
                return Scalar(place, None, node.value)
            raise self._bad_tag(node)
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise JobError(
                place, f"{node.value[:40]!r} can't be read: {str(error).partition(';')[0]}"
            ) from None
        return Scalar(place, value, node.value)

    def _map(self, node: yaml.MappingNode) -> tuple[Map, int]:
        items: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        merged: list[Map] = []
        count = 1
        for key, value in node.value:
            place = self._place(key)
            if not isinstance(key, yaml.ScalarNode):
                if _JINJA.search(self._lines[place.line - 1]):
                    raise JobError(place, RENDER_FIRST)
                raise JobError(place, "a key is a single word, not a list or mapping")
            content, size = self._convert(value)
            count += size
            if key.tag == _TAGS + "merge":
                merged += self._merged(content)
                continue
            if key.value in items:
                self._remarks.add(
                    place,
                    f"{key.value!r} is given twice, also in line {keys[key.value].line}: the last one holds",
                )
            items[key.value], keys[key.value] = content, place
        for other in merged:
            for name, content in other.items.items():
                if name not in items:
                    items[name], keys[name] = content, other.keys[name]
        return Map(self._place(node), items, keys), count

    def _merged(self, content: Node) -> list[Map]:
        maps = content.items if isinstance(content, Items) else [content]
        found = [item for item in maps if isinstance(item, Map)]
        if len(found) != len(maps):
            raise JobError(content.place, "after '<<:' there must be a mapping, or a list of mappings")
        return found

    def _bad_tag(self, node: yaml.Node) -> JobError:
        return JobError(self._place(node), f"the tag {node.tag!r:.60} is not allowed in a job; leave it out")


# Looking at nodes. Each raises JobError if the node has the wrong type; `what` says what it is.


def as_map(node: Node, what: str) -> Map:
    if not isinstance(node, Map):
        raise JobError(node.place, f"{what} should be a mapping, lines of KEY: VALUE, not {_kind(node)}")
    return node


def as_list(node: Node, what: str) -> Sequence[Node]:
    if not isinstance(node, Items):
        raise JobError(node.place, f"{what} should be a list, items that begin with '- ', not {_kind(node)}")
    return node.items


def as_text(node: Node, what: str) -> str:
    """The text as it is written, of a value that may not be empty or a part of a template."""
    if not isinstance(node, Scalar) or node.value is None or not node.text:
        raise JobError(node.place, f"{what} should be a text, not {_kind(node)}")
    check_rendered(node)
    return node.text


def as_whole_number(node: Node, what: str) -> int:
    if not isinstance(node, Scalar) or type(node.value) is not int:
        if isinstance(node, Scalar):
            check_rendered(node)
        raise JobError(node.place, f"{what} should be a whole number, not {_kind(node)}")
    return node.value


def as_truth(node: Node, what: str) -> bool:
    if not isinstance(node, Scalar) or not isinstance(node.value, bool):
        raise JobError(node.place, f"{what} should be true or false, not {_kind(node)}")
    return node.value


def as_texts(node: Node, what: str) -> list[str]:
    """The texts of a list; a single one counts as a list of one."""
    if isinstance(node, Scalar):
        return [as_text(node, what)]
    return [as_text(item, what) for item in as_list(node, what)]


_UNITS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


def as_seconds(node: Node, what: str) -> float:
    """Of `minutes: 5` and its like."""
    total = 0.0
    for key, value in as_map(node, what).items.items():
        if key == "skip":
            continue
        if key not in _UNITS:
            raise JobError(value.place, f"{what} has days, hours, minutes or seconds, not {key!r:.40}")
        number = value.value if isinstance(value, Scalar) else None
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e9:
            if isinstance(value, Scalar):
                check_rendered(value)
            raise JobError(value.place, f"{key} should be a number, not {_kind(value)}")
        total += number * _UNITS[key]
    if total <= 0:
        raise JobError(node.place, f"{what} is no time; write for example 'minutes: 5'")
    return total


def check_rendered(node: Scalar) -> None:
    """Raises JobError if this is a part of a template that nobody has filled in."""
    if _JINJA.search(node.text) or _VARIABLE.search(node.text):
        raise JobError(node.place, f"{node.text[:60]!r}: {RENDER_FIRST}")


def plain(node: Node) -> Any:
    """The node as Python has it."""
    if isinstance(node, Map):
        return {key: plain(value) for key, value in node.items.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.value


def _kind(node: Node) -> str:
    if isinstance(node, Map):
        return "a mapping"
    if isinstance(node, Items):
        return "a list"
    return "nothing" if node.value is None or not node.text else repr(node.text[:40])
