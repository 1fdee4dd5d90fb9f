# SPDX-License-Identifier: MIT
"""Statements of a script: branches, lists, pipelines, definitions, assignments."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from tree_sitter import Node

from dispatcher.jobs.text import EMPTY, Text, known
from dispatcher.plan.shell import commands, loops
from dispatcher.plan.shell.assignments import assignment, declaration, redirect, unset
from dispatcher.plan.shell.conditions import Status, Token, judged
from dispatcher.plan.shell.grammar import text_of
from dispatcher.plan.shell.scope import Function
from dispatcher.plan.shell.scripts import texts_run
from dispatcher.plan.shell.walker import Visit, Walker
from dispatcher.plan.shell.words import between

# A redirection of input from a file.
_FROM_A_FILE = re.compile(r"<\s*([^\s<>&(].*)", re.DOTALL)
# A redirection of output into what may be a script; a log is none.
_INTO_A_FILE = re.compile(r">\s*(?!&|/dev/|\S*\.(?:log|txt)\b)[^\s>&]")
# One into a folder of what the system runs by itself.
_FOR_SERVICES = re.compile(r">\s*[\"']?/(?:etc|var/spool)/")

# Programs that write what they read to a file.
_WRITES = re.compile(r"\b(?:tee|dd|install)\b(?!\s+\S*\.(?:log|txt)\b)")


def _if_(walker: Walker, node: Node) -> Status:
    clauses, otherwise = _clauses(node)
    open_branches: list[Sequence[Node]] = []
    likely: int | None = None
    for conditions, body in clauses:
        with walker.maybe(bool(open_branches)):
            status = walker.block(conditions)
        if status is Status.NO:
            continue
        if status is Status.YES:
            otherwise = body
            break
        if status is Status.LIKELY and likely is None:
            likely = len(open_branches)
        elif status is not Status.UNLIKELY:
            likely = -1 if likely is None else likely
        open_branches.append(body)
    if not open_branches:
        return walker.block(otherwise)
    # Where all that came before is unlikely, what is left is what a good run does.
    walker.either([*open_branches, otherwise], len(open_branches) if likely is None else likely)
    return Status.UNKNOWN


def _case(walker: Walker, node: Node) -> Status:
    words = walker.words()
    value = words.text(between(node, "case", "in"))
    open_branches: list[Sequence[Node]] = []
    certain = False
    for item in node.children:
        if item.type != "case_item":
            continue
        fits = max(
            (_fits(value, words.text([pattern])) for pattern in _patterns(item)),
            default=Status.UNKNOWN,
            key=lambda status: status.value,
        )
        if fits is Status.NO:
            continue
        body = _case_body(item)
        certain = fits is Status.YES
        if certain and not open_branches:
            return walker.block(body)
        open_branches.append(body)
        if certain:
            break
    if open_branches:
        walker.either(open_branches if certain else [*open_branches, ()])
    return Status.UNKNOWN


def _list_(walker: Walker, node: Node) -> Status:
    """`a && b` and `a || b`."""
    left, right = node.named_children[0], node.named_children[-1]
    status = walker.visit(left)
    is_and = any(child.type == "&&" for child in node.children)
    goes_on = status if is_and else status.negated()
    if goes_on is Status.NO:
        return status
    if goes_on is Status.YES:
        return walker.visit(right)
    if goes_on is Status.LIKELY:
        return walker.visit(right)
    walker.either([[right], ()], likely=1 if goes_on is Status.UNLIKELY else None)
    return status if goes_on is Status.UNLIKELY else Status.UNKNOWN


def _pipeline(walker: Walker, node: Node) -> Status:
    status, text, before = Status.YES, "", len(walker.items)
    for child in node.named_children:
        if child.type != "comment":
            ran = len(walker.ran)
            with walker.feeding(text):
                status = walker.apart([child])
            more = walker.more_than_calls(text_of(child), before)
            text = texts_run(walker, text_of(child), own=more, read=set(walker.ran[ran:])) or text
    if _WRITES.search(text_of(node)):
        walker.note_written(text)
    return Status.UNKNOWN if status is Status.YES else status


def _negated(walker: Walker, node: Node) -> Status:
    return walker.block(node.children).negated()


def _subshell(walker: Walker, node: Node) -> Status:
    return walker.apart(node.children)


def _redirected(walker: Walker, node: Node) -> Status:
    status, before, ran = Status.YES, len(walker.items), len(walker.ran)
    with walker.feeding("".join(_input(walker, child) for child in node.named_children)):
        for child in node.named_children:
            if child.type.endswith("redirect"):
                redirect(walker, child)
            else:
                status = walker.visit(child)
    targets = [
        text_of(child) for child in node.named_children if child.type in ("file_redirect", "heredoc_redirect")
    ]
    if any(map(_INTO_A_FILE.search, targets)):
        more = walker.more_than_calls(text_of(node), before)
        written = texts_run(walker, text_of(node), own=more, read=set(walker.ran[ran:]))
        walker.note_written(written)
        # A service of the device may run it, such as cron.
        if written and any(map(_FOR_SERVICES.search, targets)):
            walker.note_unread(walker.source.place(node), "a file for a service", written)
    return status


def _input(walker: Walker, node: Node) -> str:
    """What may be run of what a redirection feeds: of a here-document, or a file."""
    if node.type == "heredoc_redirect":
        return texts_run(walker, text_of(node))
    match = _FROM_A_FILE.match(text_of(node)) if node.type == "file_redirect" else None
    return "" if match is None else texts_run(walker, match[1], own=False)


def _function(walker: Walker, node: Node) -> Status:
    name = node.child_by_field_name("name")
    body = node.child_by_field_name("body")
    if name is not None and body is not None:
        walker.scope.functions[text_of(name)] = Function(body, walker.source)
    return Status.YES


def _test_(walker: Walker, node: Node) -> Status:
    if node.children[0].type == "((":
        return Status.UNKNOWN
    tokens = _tokens(walker, node.children[1:-1])
    return judged(tokens, patterns=node.children[0].type == "[[")


def _tokens(walker: Walker, nodes: Sequence[Node]) -> list[Token]:
    tokens: list[Token] = []
    for node in nodes:
        if node.type in (
            "binary_expression",
            "unary_expression",
            "parenthesized_expression",
            "negated_command",
        ):
            tokens += _tokens(walker, node.children)
        elif node.type == "test_operator" or not node.is_named:
            tokens.append(Token(known(text_of(node).strip()), True))
        else:
            quoted = node.type in ("string", "raw_string")
            fields = walker.words().fields([node])
            # A quoted word is one, also if it is empty.
            tokens += [Token(field) for field in (fields or ([EMPTY] if quoted else []))]
    return tokens


VISITS: Mapping[str, Visit] = {
    "command": commands.command,
    "list": _list_,
    "pipeline": _pipeline,
    "negated_command": _negated,
    "if_statement": _if_,
    "case_statement": _case,
    "for_statement": loops.for_,
    "c_style_for_statement": loops.c_style_for,
    "while_statement": loops.while_,
    "function_definition": _function,
    "variable_assignment": assignment,
    "declaration_command": declaration,
    "unset_command": unset,
    "test_command": _test_,
    "subshell": _subshell,
    "redirected_statement": _redirected,
    "compound_statement": Walker.children,
    "do_group": Walker.children,
    "program": Walker.children,
}


def _clauses(node: Node) -> tuple[list[tuple[list[Node], list[Node]]], Sequence[Node]]:
    """Of an if: conditions and bodies, and what stands behind else."""
    clauses = [(between(node, "if", "then"), _body(node))]
    otherwise: Sequence[Node] = ()
    for child in node.children:
        if child.type == "elif_clause":
            clauses.append((between(child, "elif", "then"), _body(child)))
        elif child.type == "else_clause":
            otherwise = child.children[1:]
    return clauses, otherwise


def _body(node: Node) -> list[Node]:
    body = between(node, "then", "fi")
    return [child for child in body if child.type not in ("elif_clause", "else_clause")]


def _patterns(item: Node) -> list[Node]:
    return [child for child in between(item, "(", ")") if child.is_named]


def _case_body(item: Node) -> list[Node]:
    types = [child.type for child in item.children]
    start = types.index(")") + 1 if ")" in types else len(types)
    return item.children[start:]


def _fits(value: Text, pattern: Text) -> Status:
    if pattern.exact == "*":
        return Status.YES
    if value.exact is not None and pattern.exact is not None:
        return Status.YES if fnmatchcase(value.exact, pattern.exact) else Status.NO
    if pattern.exact is not None and not re.search(r"[*?\[]", pattern.exact) and not value.may_be(pattern):
        return Status.NO
    return Status.UNKNOWN
