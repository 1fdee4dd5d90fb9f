# SPDX-License-Identifier: MIT
"""What a shell knows at a place in its script: variables, functions, arguments, the folder it is in."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tree_sitter import Node

from dispatcher.jobs.model import Place
from dispatcher.jobs.text import EMPTY, UNKNOWN, Text, joined, known

# Stands for the definition's folder, wherever that is on a device.
FOLDER = "/.definition"


@dataclass(frozen=True, slots=True)
class Source:
    """Shell text, and the place of each of its lines. `own`: what stands in it is the test's, not a library's."""

    text: str
    places: tuple[Place, ...]
    own: bool = True

    def place(self, node: Node) -> Place:
        """Where the node begins."""
        return self.places[min(node.start_point[0], len(self.places) - 1)]


@dataclass(frozen=True, slots=True)
class Function:
    """A shell function."""

    body: Node
    source: Source


@dataclass(slots=True)
class Scope:
    """The state of a shell. `arguments` is None where they are not known, `folder` likewise.

    Folders are relative to that of the definition.
    """

    name: Text = field(default_factory=lambda: known("sh"))
    arguments: list[Text] | None = field(default_factory=list)
    variables: dict[str, Text] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    functions: dict[str, Function] = field(default_factory=dict)
    folder: str | None = "."
    # The file that is read as a part of the script, bash's BASH_SOURCE.
    sourced: Text | None = None

    def copy(self) -> "Scope":
        """One that can be changed on its own."""
        return replace(
            self,
            arguments=None if self.arguments is None else list(self.arguments),
            variables=dict(self.variables),
            exported=set(self.exported),
            functions=dict(self.functions),
        )

    def for_script(self, name: Text, arguments: list[Text] | None) -> "Scope":
        """What a script finds that is run from here."""
        handed = {key: value for key, value in self.variables.items() if key in self.exported}
        functions = {key: value for key, value in self.functions.items() if key in self.exported}
        return Scope(name, arguments, handed, {*handed, *functions}, functions, self.folder)

    def value(self, name: str) -> Text | None:
        """Of a variable or a parameter such as 1, @ or #; None if it is not set here."""
        if name in self.variables:
            return self.variables[name]
        if name == "0":
            return self.name
        if name == "BASH_SOURCE":
            return self.sourced or self.name
        if self.arguments is None or name in ("?", "$", "!", "-", "_"):
            return UNKNOWN if not name.isidentifier() else None
        if name.isdecimal():
            number = int(name)
            return self.arguments[number - 1] if number <= len(self.arguments) else EMPTY
        if name in ("@", "*"):
            return joined(self.arguments)
        if name == "#":
            return known(str(len(self.arguments)))
        if name == "PWD" and self.folder is not None:
            return known(absolute(self.folder))
        return None

    def path(self, text: Text) -> str | None:
        """A path as it is from the definition's folder; None if it is not known, or is elsewhere."""
        path = text.exact
        if not path or "\0" in path:
            return None
        if path == FOLDER or path.startswith(FOLDER + "/"):
            return posixpath.normpath("./" + path[len(FOLDER) + 1 :])
        if path.startswith(("/", "~")) or self.folder is None:
            return None
        return posixpath.normpath(posixpath.join(self.folder, path))


def absolute(folder: str) -> str:
    """A path from the definition's folder, as a script would print it."""
    return FOLDER if folder == "." else f"{FOLDER}/{folder}"


def merged(scopes: Sequence[Scope]) -> Scope:
    """What is known after one of several branches, whichever it was."""
    result = scopes[0].copy()
    for other in scopes[1:]:
        for name in result.variables.keys() | other.variables.keys():
            if result.value(name) != other.value(name):
                result.variables[name] = UNKNOWN
        result.exported |= other.exported
        result.functions = {**other.functions, **result.functions}
        if result.folder != other.folder:
            result.folder = None
        if result.arguments != other.arguments:
            result.arguments = None
    return result
