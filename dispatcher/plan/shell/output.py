# SPDX-License-Identifier: MIT
"""What a $(...) prints, where that is known."""

import posixpath
from collections.abc import Sequence

from tree_sitter import Node

from dispatcher.jobs.text import UNKNOWN, Text, joined, known
from dispatcher.plan.calls import Work
from dispatcher.plan.shell import builtins
from dispatcher.plan.shell.conditions import Status
from dispatcher.plan.shell.scope import absolute
from dispatcher.plan.shell.walker import Walker
from dispatcher.plan.shell.words import command_nodes

# Lines of seq.
_MOST_LINES = 100


def substitute(walker: Walker, node: Node) -> Text:
    """The output; the calls that are made for it are noted."""
    before = len(walker.items)
    statements = [child for child in node.children if child.is_named and child.type != "comment"]
    printed = _printed(walker, statements)
    if printed is None or len(walker.items) > before:
        del walker.items[before:]
        walker.apart(statements)
        # What it runs is not worth a row of its own.
        walker.items[before:] = [item for item in walker.items[before:] if not isinstance(item, Work)]
    return UNKNOWN if printed is None else printed


def _printed(walker: Walker, statements: Sequence[Node]) -> Text | None:
    """The output of the few commands whose output is known."""
    if len(statements) == 1 and statements[0].type == "list":
        parts = statements[0].named_children
        folder = walker.scope.folder
        if len(parts) == 2 and all(part.type == "command" for part in parts):
            first, second = (walker.words().fields(command_nodes(part)) for part in parts)
            if first and second and first[0].exact == "cd" and second[0].exact == "pwd":
                try:
                    builtins.cd(walker, first, walker.source.place(parts[0]))
                    where = walker.scope.folder
                finally:
                    walker.scope.folder = folder
                return None if where is None else known(absolute(where))
        return None
    if len(statements) == 1 and statements[0].type == "redirected_statement":
        statements = [child for child in statements[0].named_children if not child.type.endswith("redirect")]
    if len(statements) != 1 or statements[0].type != "command":
        return None
    words = walker.words().fields(command_nodes(statements[0]))
    return _output_of(walker, words) if words and words[0].exact not in walker.scope.functions else None


def _output_of(walker: Walker, words: Sequence[Text]) -> Text | None:
    name, arguments = words[0].exact, list(words[1:])
    options = [word for word in arguments if word.exact is not None and word.exact.startswith("-")]
    operands = [word for word in arguments if word not in options]
    if name == "lava-self":
        return known(walker.names.device)
    if name == "lava-role":
        roles = list(dict.fromkeys(role for _, role in walker.names.group))
        return known("\n".join(roles)) if arguments else known(walker.names.role)
    if name == "lava-group" and arguments and arguments[0].exact is not None:
        return known("\n".join(device for device, role in walker.names.group if role == arguments[0].exact))
    if name == "echo" and not options:
        return joined(arguments)
    if name == "which" or (name == "command" and [word.exact for word in options] == ["-v"]):
        # Called by its name it is the same.
        return operands[0] if len(operands) == 1 and builtins.there(walker, operands) is Status.YES else None
    if name == "pwd" and walker.scope.folder is not None:
        return known(absolute(walker.scope.folder))
    if (
        name == "seq"
        and not options
        and operands
        and all((word.exact or "").isdecimal() for word in operands)
    ):
        return _sequence([int(str(word)[:9]) for word in operands])
    if len(operands) == 1 and name in ("dirname", "basename", "readlink", "realpath"):
        return _of_path(walker, name, operands[0])
    return None


def _of_path(walker: Walker, name: str, path: Text) -> Text | None:
    if path.exact is None:
        return None
    if name == "dirname":
        return known(posixpath.dirname(path.exact.rstrip("/")) or ".")
    if name == "basename":
        return known(posixpath.basename(path.exact.rstrip("/")))
    where = walker.scope.path(path)
    return None if where is None else known(absolute(where))


def _sequence(numbers: list[int]) -> Text | None:
    first, step = (numbers[0] if len(numbers) > 1 else 1), (numbers[1] if len(numbers) > 2 else 1)
    if step == 0 or len(numbers) > 3:
        return None
    found = range(first, numbers[-1] + 1, step)
    return known("\n".join(map(str, found))) if len(found) <= _MOST_LINES else None
