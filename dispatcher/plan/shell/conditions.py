# SPDX-License-Identifier: MIT
"""What is known of how a command ends, and the conditions of `test`, `[` and `[[`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from dispatcher.jobs.text import EMPTY, Text


class Status(Enum):
    """Whether a command succeeds. What is only likely may turn out otherwise on a bad day."""

    YES = 2
    LIKELY = 1
    UNKNOWN = 0
    UNLIKELY = -1
    NO = -2

    def negated(self) -> "Status":
        """That of `! command`."""
        return Status(-self.value)


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a condition; `operator` if it is none of the operands."""

    text: Text
    operator: bool = False


_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}
_BINARY = {"=", "==", "!=", "=~", "<", ">", "-nt", "-ot", "-ef", *_NUMBERS}


def tokens_of_words(words: Sequence[Text]) -> list[Token]:
    """The tokens of `test WORDS`."""
    return [Token(word, word.exact in _BINARY or word.exact in ("!", "-a", "-o", "(", ")")) for word in words]


def judged(tokens: Sequence[Token], patterns: bool = False) -> Status:
    """How `test` ends with these tokens.

    :param patterns: whether the right side of = is a pattern, as in [[.
    """
    for words, both in ((("-o", "||"), max), (("-a", "&&"), min)):
        # Not the first or last, which would be an operand.
        for place in range(1, len(tokens) - 1):
            if tokens[place].operator and tokens[place].text.exact in words:
                left = judged(tokens[:place], patterns)
                right = judged(tokens[place + 1 :], patterns)
                return both(left, right, key=lambda status: status.value)
    if tokens and len(tokens) > 1 and tokens[0].operator and tokens[0].text.exact == "!":
        return judged(tokens[1:], patterns).negated()
    if any(token.operator and token.text.exact in ("(", ")") for token in tokens):
        return Status.UNKNOWN
    if len(tokens) == 1:
        return _not_empty(tokens[0].text)
    if len(tokens) == 2:
        return _unary(tokens[0].text.exact, tokens[1].text)
    if len(tokens) == 3:
        return _binary(tokens[0].text, tokens[1].text.exact, tokens[2].text, patterns)
    # An unquoted variable that is empty leaves its operator alone: no test, so no success.
    return Status.UNKNOWN


def _known(value: bool) -> Status:
    return Status.YES if value else Status.NO


def _not_empty(text: Text) -> Status:
    if text.exact is not None:
        return _known(text != EMPTY)
    return Status.YES if any(text.parts) else Status.UNKNOWN


def _unary(action: str | None, operand: Text) -> Status:
    if action == "-n":
        return _not_empty(operand)
    if action == "-z":
        return _not_empty(operand).negated()
    return Status.UNKNOWN


def _binary(left: Text, action: str | None, right: Text, patterns: bool) -> Status:
    if action in ("=", "==", "!="):
        if patterns and right.exact is not None and re.search(r"[*?\[]", right.exact):
            if left.exact is None:
                return Status.UNKNOWN
            equal = _known(fnmatchcase(left.exact, right.exact))
        elif left.may_be(right):
            equal = Status.YES if left.exact is not None and right.exact is not None else Status.UNKNOWN
        else:
            equal = Status.NO
        return equal.negated() if action == "!=" else equal
    if action in _NUMBERS and left.exact is not None and right.exact is not None:
        try:
            return _known(_NUMBERS[action](int(left.exact), int(right.exact)))
        except ValueError:
            return Status.NO
    return Status.UNKNOWN
