# SPDX-License-Identifier: MIT
"""Loops: those whose turns are known are gone through, of others the body is read once."""

import re
from collections.abc import Mapping, Sequence

from tree_sitter import Node

from dispatcher.jobs.text import UNKNOWN, Text
from dispatcher.plan.shell.conditions import Status
from dispatcher.plan.shell.grammar import text_of
from dispatcher.plan.shell.walker import Stop, Walker
from dispatcher.plan.shell.words import between

# Turns of a loop.
_MOST_TURNS = 100


def for_(walker: Walker, node: Node) -> Status:
    """`for name in words`: one turn for each word that is known."""
    name = text_of(node.child_by_field_name("variable") or node)
    body = [child for child in node.named_children if child.type in ("do_group", "compound_statement")]
    values = node.children_by_field_name("value")
    has_list = any(child.type == "in" for child in node.children)
    words = walker.words().fields(values) if has_list else walker.scope.arguments
    for word in words if words is not None else [UNKNOWN]:
        if word.exact is None and (words is None or not _all_quoted(values)):
            # It may be no word, or many.
            _unknown_turns(walker, body, {name: word}, Status.UNKNOWN)
        else:
            walker.scope.variables[name] = word
            if _turn(walker, body):
                break
    return Status.UNKNOWN


def _turn(walker: Walker, body: Sequence[Node]) -> bool:
    """Read the body of a loop once; whether that ends the loop."""
    try:
        walker.block(body)
    except Stop as stop:
        if stop.what not in ("break", "continue"):
            raise
        return stop.what == "break"
    return False


def _unknown_turns(
    walker: Walker, body: Sequence[Node], variables: Mapping[str, Text], goes_on: Status
) -> None:
    """Read the body of a loop that is run nobody knows how often.

    :param goes_on: whether the first turn comes.
    """
    for name in _assigned(body):
        walker.scope.variables[name] = UNKNOWN
    if _moves_arguments(body):
        walker.scope.arguments = None
    walker.scope.variables.update(variables)
    outer, walker.repeatedly = walker.repeatedly, True
    try:
        if goes_on in (Status.YES, Status.LIKELY):
            _turn(walker, body)
        else:
            before = walker.perhaps
            walker.either([body, ()])
            walker.perhaps = before
    finally:
        walker.repeatedly = outer


def while_(walker: Walker, node: Node) -> Status:
    """while and until."""
    until = node.children[0].type == "until"
    conditions = between(node, node.children[0].type, "do_group")
    body = [child for child in node.named_children if child.type == "do_group"]
    if _counted(walker, conditions, body, until):
        return Status.UNKNOWN
    for name in _assigned([*body, *conditions]):
        walker.scope.variables[name] = UNKNOWN
    outer, walker.repeatedly = walker.repeatedly, True
    try:
        status = walker.block(conditions)
    finally:
        walker.repeatedly = outer
    goes_on = status.negated() if until else status
    if goes_on is not Status.NO:
        _unknown_turns(walker, body, {}, goes_on)
    return Status.UNKNOWN


def _counted(walker: Walker, conditions: Sequence[Node], body: Sequence[Node], until: bool) -> bool:
    """Go through a loop whose turns are all known; False, with nothing done, if they are not."""
    scope, items, perhaps = walker.scope.copy(), len(walker.items), walker.perhaps
    constant = not _assigned([*conditions, *body]) and not _moves_arguments(body)
    for _ in range(1 if constant else _MOST_TURNS):
        status = walker.block(conditions)
        if until:
            status = status.negated()
        if status is Status.NO:
            return True
        if status is not Status.YES:
            break
        if _turn(walker, body):
            return True
    walker.scope, walker.perhaps = scope, perhaps
    del walker.items[items:]
    return False


def c_style_for(walker: Walker, node: Node) -> Status:
    """`for ((i = 0; i < 3; i++))`."""
    body = [child for child in node.named_children if child.type in ("do_group", "compound_statement")]
    _unknown_turns(walker, body, dict.fromkeys(_assigned([node]), UNKNOWN), Status.UNKNOWN)
    return Status.UNKNOWN


def _all_quoted(values: Sequence[Node]) -> bool:
    return all(value.type in ("string", "raw_string", "word", "number") for value in values)


def _moves_arguments(nodes: Sequence[Node]) -> bool:
    """Whether $1 and so on are changed anywhere in these nodes."""
    rest = list(nodes)
    while rest:
        node = rest.pop()
        rest += node.children
        if node.type == "command_name" and node.text in (b"shift", b"set"):
            return True
    return False


def _assigned(nodes: Sequence[Node]) -> set[str]:
    """The variables that are set anywhere in these nodes."""
    names, rest = set(), list(nodes)
    while rest:
        node = rest.pop()
        rest += node.children
        if node.type in ("variable_assignment", "for_statement"):
            target = node.child_by_field_name("name") or node.child_by_field_name("variable")
            if target is not None and target.type == "variable_name":
                names.add(text_of(target))
        elif node.type == "command" and node.children and node.children[0].text == b"read":
            names |= {text_of(child) for child in node.named_children[1:]}
        elif node.type in ("postfix_expression", "unary_expression") and node.children:
            names |= set(re.findall(r"[A-Za-z_]\w*", text_of(node)))
    return names
