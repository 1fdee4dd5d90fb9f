# SPDX-License-Identifier: MIT
"""Texts of which a part may not be known, as they come out of a script that is read but not run.

`ready-$(date)` is the text "ready-" with something unknown behind it, shown as "ready-*".
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

# Characters of a text, and parts of it. A script can double a variable with every line; what has grown beyond this
# counts as not known.
MAX_CHARACTERS = 20_000
_MAX_PARTS = 100
# Texts with unknown parts that are compared for one `Texts`, with each other or with exact ones.
_MAX_COMPARED = 50_000


@dataclass(frozen=True, slots=True)
class Text:
    """The known parts of a text: between each two of them there is something unknown, perhaps nothing."""

    parts: tuple[str, ...] = ("",)

    @property
    def exact(self) -> str | None:
        """The text, if all of it is known."""
        return self.parts[0] if len(self.parts) == 1 else None

    def __str__(self) -> str:
        return "*".join(self.parts)

    def __add__(self, other: "Text") -> "Text":
        middle = self.parts[-1] + other.parts[0]
        parts = (*self.parts[:-1], middle, *other.parts[1:])
        # Two unknowns in a row are one.
        inner = tuple(part for part in parts[1:-1] if part)
        if len(inner) > _MAX_PARTS or sum(map(len, parts)) > MAX_CHARACTERS:
            return UNKNOWN
        return Text((parts[0], *inner, parts[-1]) if len(parts) > 1 else parts)

    def may_be(self, other: "Text") -> bool:
        """Whether both may be the same text."""
        mine, theirs = self.exact, other.exact
        if mine is not None and theirs is not None:
            return mine == theirs
        if theirs is not None:
            return self._may_be_exactly(theirs)
        if mine is not None:
            return other._may_be_exactly(mine)
        first, second = self.parts, other.parts
        starts = first[0].startswith(second[0]) or second[0].startswith(first[0])
        return starts and (first[-1].endswith(second[-1]) or second[-1].endswith(first[-1]))

    def _may_be_exactly(self, text: str) -> bool:
        start, *inner, end = self.parts
        if len(text) < len(start) + len(end) or not (text.startswith(start) and text.endswith(end)):
            return False
        position, last = len(start), len(text) - len(end)
        for part in inner:
            position = text.find(part, position, last)
            if position < 0:
                return False
            position += len(part)
        return True

    def partition(self, separator: str) -> "tuple[Text, Text] | None":
        """What stands before and behind the first `separator` that is known of; None if there is none."""
        for number, part in enumerate(self.parts):
            before, found, behind = part.partition(separator)
            if found:
                return Text((*self.parts[:number], before)), Text((behind, *self.parts[number + 1 :]))
        return None


EMPTY = Text()
UNKNOWN = Text(("", ""))


def known(text: str) -> Text:
    """A text that is known."""
    return Text((text,))


def joined(texts: Sequence[Text], separator: str = " ") -> Text:
    """All texts in one."""
    result = texts[0] if texts else EMPTY
    for text in texts[1:]:
        result += known(separator) + text
        if result == UNKNOWN:
            break
    return result


class Texts:
    """Texts of which one may be the same as another: what is sent, what is waited for."""

    def __init__(self, texts: Iterable[Text] = ()) -> None:
        self.exact: dict[str, Text] = {}
        self._vague: dict[Text, None] = {}
        self._compared = 0
        for text in texts:
            self.add(text)

    def add(self, text: Text) -> None:
        """One more."""
        if text.exact is None:
            self._vague[text] = None
        else:
            self.exact[text.exact] = text

    def may_hold(self, text: Text) -> bool:
        """Whether one of them may be this text; yes as well once too many were compared to tell."""
        if text.exact is not None and text.exact in self.exact:
            return True
        others: list[Collection[Text]] = [self._vague.keys()]
        if text.exact is None:
            others.append(self.exact.values())
        self._compared += sum(map(len, others))
        return self._compared > _MAX_COMPARED or any(one.may_be(text) for some in others for one in some)
