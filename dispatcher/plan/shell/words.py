# SPDX-License-Identifier: MIT
"""Words of a shell command, expanded as far as that can be known."""

import ast
import operator
import re
from collections.abc import Callable, Iterable, Sequence

from tree_sitter import Node

from dispatcher.jobs.text import EMPTY, UNKNOWN, Text, known
from dispatcher.plan.shell.grammar import source_text, text_of
from dispatcher.plan.shell.scope import Scope

# What a $(...) prints, as far as it is known; calls in it are noted on the way.
Substitute = Callable[[Node], Text]

# Words that one expansion may become.
_MOST_WORDS = 200
_MOST_CHARACTERS = 100_000
_EXPANSIONS = ("simple_expansion", "expansion", "command_substitution", "arithmetic_expansion")

# A piece of a word: its text, and whether blanks in it part words.
_Piece = tuple[Text, bool]


class _Break:
    """Between two words that came out of one expansion."""


_BREAK = _Break()


class Words:
    """Expands words in a scope."""

    def __init__(self, scope: Scope, substitute: Substitute) -> None:
        self._scope = scope
        self._substitute = substitute

    def fields(self, nodes: Iterable[Node]) -> list[Text]:
        """The words that these nodes stand for: perhaps more or fewer than there are nodes."""
        fields: list[Text] = []
        for group in _adjacent(nodes):
            if len(group) == 1 and group[0].type == "brace_expression":
                fields += _braces(group[0])
            else:
                fields += self._split([piece for node in group for piece in self._pieces(node)])
        return fields[:_MOST_WORDS]

    def text(self, nodes: Iterable[Node]) -> Text:
        """The one text that these nodes stand for, where blanks part nothing: in an assignment."""
        result = EMPTY
        for node in nodes:
            for piece in self._pieces(node):
                result += known(" ") if isinstance(piece, _Break) else piece[0]
        return result

    def _split(self, pieces: Sequence[_Piece | _Break]) -> list[Text]:
        fields: list[Text] = []
        current: Text | None = None
        for piece in pieces:
            if isinstance(piece, _Break):
                fields += [] if current is None else [current]
                current = None
                continue
            value, splits = piece
            separators = self._separators() if splits else None
            if separators is None or value.exact is None:
                # What is not known may be no word at all, or several: it is taken for one.
                current = value if current is None else current + value
                continue
            words = re.split(f"[{re.escape(separators)}]+", value.exact) if separators else [value.exact]
            for number, word in enumerate(words):
                if number and current is not None:
                    fields.append(current)
                    current = None
                if word:
                    current = known(word) if current is None else current + known(word)
        return fields if current is None else [*fields, current]

    def _separators(self) -> str | None:
        separators = self._scope.variables.get("IFS")
        return " \t\n" if separators is None else separators.exact

    def _pieces(self, node: Node, quoted: bool = False) -> list[_Piece | _Break]:
        kind = node.type
        if kind == "concatenation":
            return [piece for child in node.children for piece in self._pieces(child)]
        if kind == "string" and text_of(node) in ('"$@"', '"${@}"'):
            return self._all_arguments(False)
        if kind in ("string", "translated_string"):
            return self._string(node)
        if kind == "raw_string":
            return [(known(text_of(node)[1:-1]), False)]
        if kind == "ansi_c_string":
            return [(known(_unescaped_ansi(text_of(node)[2:-1])), False)]
        if kind in _EXPANSIONS:
            # The lexer may count blanks before it to a quoted expansion.
            raw = text_of(node)
            blanks = raw[: len(raw) - len(raw.lstrip())] if quoted else ""
            lead: list[_Piece | _Break] = [(known(blanks), False)] if blanks else []
            return lead + self._expansion(node, quoted)
        if kind == "process_substitution":
            self._substitute(node)
            return [(UNKNOWN, False)]
        if kind == "array":
            return [(UNKNOWN, False)]
        for child in node.named_children:
            if child.type in (*_EXPANSIONS, "string", "process_substitution"):
                self._pieces(child)
                return [(UNKNOWN, True)]
        return [(known(re.sub(r"\\(.)", r"\1", text_of(node).replace("\\\n", ""), flags=re.DOTALL)), False)]

    def _string(self, node: Node) -> list[_Piece | _Break]:
        pieces: list[_Piece | _Break] = [(EMPTY, False)]
        raw, start = node.text or b"", node.start_byte
        position = 0
        for child in node.children:
            # What the lexer leaves out between two children is white space of the text.
            between = source_text(raw[position : child.start_byte - start])
            if child.type == '"':
                literal = between + text_of(child).replace('"', "")
                pieces.append((known(literal), False))
            elif child.type in _EXPANSIONS:
                pieces.append((known(between), False))
                pieces += self._pieces(child, quoted=True)
            else:
                literal = re.sub(r'\\([\\$"`])', r"\1", (between + text_of(child)).replace("\\\n", ""))
                pieces.append((known(literal), False))
            position = child.end_byte - start
        return pieces

    def _expansion(self, node: Node, quoted: bool) -> list[_Piece | _Break]:
        splits = not quoted
        if node.type == "command_substitution":
            return [(self._substitute(node), splits)]
        if node.type == "arithmetic_expansion":
            return [(self.arithmetic(text_of(node).strip()[3:-2]), splits)]
        raw = text_of(node).strip()
        if raw in ("$@", "${@}") or (raw in ("$*", "${*}") and not quoted):
            return self._all_arguments(splits)
        if node.type == "simple_expansion":
            value = self._scope.value(raw[1:])
            return [(UNKNOWN if value is None else value, splits)]
        return [(self._parameter(node, raw), splits)]

    def _all_arguments(self, splits: bool) -> list[_Piece | _Break]:
        if self._scope.arguments is None:
            return [(UNKNOWN, splits)]
        pieces: list[_Piece | _Break] = []
        for argument in self._scope.arguments:
            pieces += [(argument, splits), _BREAK]
        return pieces[:-1]

    def _parameter(self, node: Node, raw: str) -> Text:
        """`${...}`."""
        match = re.fullmatch(r"\$\{(\w+|[@*#?$!-])(?:\[0\])?(?:(:?[-=+?]|##?|%%?|//?).*)?\}", raw, re.DOTALL)
        if match is None:
            self._visit_inside(node)
            return UNKNOWN
        name, action = match.groups()
        value = self._scope.value(name)
        if not action:
            return UNKNOWN if value is None else value
        operands = _behind(node, action)
        if action[0] in "#%":
            return self._of_path(value, raw)
        if action in ("/", "//"):
            return self._replaced(value, action, operands)
        operand = self.text(operands)
        if action[-1] == "?":
            return UNKNOWN if value is None else value
        missing = value is None or (value == EMPTY and action[0] == ":")
        if action[-1] == "+":
            return EMPTY if missing and value is not None else operand if value and value.exact else UNKNOWN
        if not missing and value is not None and value.exact is None and value.parts == UNKNOWN.parts:
            return UNKNOWN
        result = operand if missing or value is None else value
        if action[-1] == "=" and name.isidentifier():
            self._scope.variables[name] = result
        return result

    @staticmethod
    def _of_path(value: Text | None, raw: str) -> Text:
        """`${path%/*}` and `${path##*/}`, with which scripts find their folder; no other pattern is followed."""
        if value is None or value.exact is None or not raw.endswith(("%/*}", "##*/}")):
            return UNKNOWN
        folder, slash, name = value.exact.rpartition("/")
        return value if not slash else known(folder if raw.endswith("%/*}") else name)

    def _replaced(self, value: Text | None, action: str, operands: list[Node]) -> Text:
        slash = [number for number, operand in enumerate(operands) if operand.type == "/"]
        old = self.text(operands[: slash[0]] if slash else operands).exact
        new = self.text(operands[slash[0] + 1 :]).exact if slash else ""
        if value is None or value.exact is None or not old or new is None or re.search(r"[*?\[]", old):
            return UNKNOWN
        return known(value.exact.replace(old, new, -1 if action == "//" else 1)[:_MOST_CHARACTERS])

    def _visit_inside(self, node: Node) -> None:
        for child in node.named_children:
            if child.type in ("command_substitution", "string", "concatenation", "expansion"):
                self._pieces(child)

    def arithmetic(self, expression: str) -> Text:
        """The value of $((...)) over whole numbers, if it is known."""
        unknown = False

        def number(match: re.Match[str]) -> str:
            nonlocal unknown
            value = self._scope.value(match[1])
            text = "" if value is None else value.exact
            if text is None or not re.fullmatch(r"-?\d{1,15}", text):
                unknown = True
                return "0"
            return f"({int(text)})"

        replaced = re.sub(r"\$?\{?\b([A-Za-z_]\w*|(?<=\$)[\d#])\}?", number, expression)
        if unknown or len(replaced) > 200 or not re.fullmatch(r"[-+*/%()\d\s]+", replaced):
            return UNKNOWN
        try:
            return known(str(_calculated(ast.parse(replaced.strip(), mode="eval").body)))
        except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
            return UNKNOWN


def _adjacent(nodes: Iterable[Node]) -> list[list[Node]]:
    """The nodes, those together that stand together without a blank."""
    groups: list[list[Node]] = []
    for node in nodes:
        if groups and groups[-1][-1].end_byte == node.start_byte:
            groups[-1].append(node)
        else:
            groups.append([node])
    return groups


def _behind(node: Node, action: str) -> list[Node]:
    """The children behind the operator, without the closing brace."""
    types = [child.type for child in node.children]
    start = types.index(action) + 1 if action in types else len(types)
    return [child for child in node.children[start:] if child.type != "}"]


def _braces(node: Node) -> list[Text]:
    match = re.fullmatch(r"\{(-?\d{1,6})\.\.(-?\d{1,6})\}", text_of(node))
    if match is None:
        return [UNKNOWN]
    first, last = int(match[1]), int(match[2])
    step = 1 if last >= first else -1
    return [known(str(number)) for number in range(first, last + step, step)[:_MOST_WORDS]]


_ANSI = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "e": "\x1b", "a": "\a", "b": "\b"}


def _unescaped_ansi(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ANSI.get(match[1], match[0]), text, flags=re.DOTALL)


_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    # A shell rounds towards zero.
    ast.Div: lambda a, b: int(a / b),
    ast.Mod: lambda a, b: a - b * int(a / b),
}


def _calculated(node: ast.AST) -> int:
    match node:
        case ast.Constant(value=int() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_calculated(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_calculated(left), _calculated(right))
    raise ValueError("not a sum")


def between(node: Node, start: str, end: str) -> list[Node]:
    """The children behind the one of type `start` and before that of type `end`."""
    types = [child.type for child in node.children]
    first = types.index(start) + 1 if start in types else 0
    last = types.index(end, first) if end in types[first:] else len(types)
    return node.children[first:last]


def command_nodes(node: Node) -> list[Node]:
    nodes: list[Node] = []
    for child in node.named_children:
        if child.type == "command_name":
            nodes += child.children
        elif not child.type.endswith("redirect") and child.type != "variable_assignment":
            nodes.append(child)
    return nodes
