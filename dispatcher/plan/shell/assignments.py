# SPDX-License-Identifier: MIT
"""Assignments, and the words of redirections."""

from tree_sitter import Node

from dispatcher.jobs.text import EMPTY, UNKNOWN, Text
from dispatcher.plan.shell.conditions import Status
from dispatcher.plan.shell.grammar import text_of
from dispatcher.plan.shell.walker import Walker


def redirect(walker: Walker, node: Node) -> None:
    """Read a redirection: its words may hold a $(...)."""
    for child in node.children:
        if child.type in ("heredoc_body", "pipeline", "list", "command"):
            if child.type == "heredoc_body":
                walker.words().text(child.named_children)
            else:
                walker.visit(child)
        elif child.is_named and child.type not in ("heredoc_start", "heredoc_end", "file_descriptor"):
            if child.type.endswith("redirect"):
                redirect(walker, child)
            else:
                where = walker.scope.path(walker.words().text([child]))
                if where is not None and ">" in text_of(node).partition(text_of(child))[0]:
                    walker.changed.add(where)


def assignment(walker: Walker, node: Node) -> Status:
    """`name=value`."""
    name, value = assigned_value(walker, node)
    if name is not None:
        walker.scope.variables[name] = value
    return Status.LIKELY


def assigned_value(walker: Walker, node: Node) -> tuple[str | None, Text]:
    """The variable of an assignment, None where it is none that is kept here, and its value."""
    target = node.child_by_field_name("name")
    value = walker.words().text(_behind_equals(node))
    if target is None or target.type != "variable_name":
        return None, value
    name = text_of(target)
    if any(child.type == "+=" for child in node.children):
        value = (walker.scope.value(name) or UNKNOWN) + value
    return name, value


def declaration(walker: Walker, node: Node) -> Status:
    """export, local and their like."""
    command = node.children[0].type
    for child in node.named_children:
        name: str | None = None
        if child.type == "variable_assignment":
            name, value = assigned_value(walker, child)
            if name is not None:
                walker.scope.variables[name] = value
        elif child.type == "variable_name":
            name = text_of(child)
            if command in ("local", "declare", "typeset"):
                walker.scope.variables[name] = EMPTY
        else:
            walker.words().text([child])
        if command == "export" and name is not None:
            walker.scope.exported.add(name)
    return Status.YES


def unset(walker: Walker, node: Node) -> Status:
    """`unset name`: known to be empty from now on."""
    for child in node.named_children:
        if child.type == "variable_name":
            name = text_of(child)
            walker.scope.variables[name] = EMPTY
    return Status.YES


def _behind_equals(node: Node) -> list[Node]:
    types = [child.type for child in node.children]
    for sign in ("=", "+="):
        if sign in types:
            return node.children[types.index(sign) + 1 :]
    return []
