# SPDX-License-Identifier: MIT
"""The parser: shell text in, a tree of nodes out, and the text of a node again.

Characters beyond ASCII go through it as four letters of Latin-1 each: the grammar's scanner (tree-sitter-bash
0.25.1) asks C's isdigit() about whatever follows a brace, which for a character above 255 reads outside of a
table, and may end the process.
"""

import re
from functools import lru_cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

_LANGUAGE = Language(tree_sitter_bash.language())

# Digits of base 64.
_FIRST = 0xC0
_SHIFTS = (18, 12, 6, 0)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
# In `$a-$b/c` and "`a`/b" the grammar parts words; in ${a}-${b}/c and $(a)/b it does not.
_VARIABLE = re.compile(r"(?<![\\$])\$([A-Za-z_]\w*|\d)")
_BACKQUOTES = re.compile(r"(?<!\\)`([^`\\\n]*)`")
_STAND_IN = re.compile(r"[\u00c0-\u00ff]{4}")


@lru_cache(64)
def parse(text: str) -> Node:
    """The root of the tree. Scripts read the same library again and again."""
    braced = _VARIABLE.sub(r"${\1}", _BACKQUOTES.sub(r"$(\1)", text))
    stand_ins = _BEYOND_ASCII.sub(_to_stand_in, braced)
    return Parser(_LANGUAGE).parse(stand_ins.encode()).root_node


def text_of(node: Node) -> str:
    """The source of a node."""
    return source_text(node.text or b"")


def source_text(raw: bytes) -> str:
    """The source that a part of a node's text stands for."""
    text = raw.decode("utf-8", "replace")
    return text if raw.isascii() else _STAND_IN.sub(_from_stand_in, text)


def _to_stand_in(match: re.Match[str]) -> str:
    return "".join(chr(_FIRST + (ord(match[0]) >> shift & 63)) for shift in _SHIFTS)


def _from_stand_in(match: re.Match[str]) -> str:
    return chr(sum(ord(letter) - _FIRST << shift for letter, shift in zip(match[0], _SHIFTS, strict=True)))
