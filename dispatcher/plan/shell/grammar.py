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
_VARIABLE = re.compile(rb"(?<![\\$])\$([A-Za-z_]\w*|\d)")
_BACKQUOTES = re.compile(rb"(?<!\\)`[^`\\\n]*`")
# Where neither is one. (Of a here-document, what is expanded is a node of its own.)
_LITERAL = ("raw_string", "ansi_c_string", "heredoc_body", "comment")
_STAND_IN = re.compile(r"[\u00c0-\u00ff]{4}")


@lru_cache(64)
def parse(text: str) -> Node:
    """The root of the tree. Scripts read the same library again and again."""
    raw = _BEYOND_ASCII.sub(_to_stand_in, text).encode()
    parser = Parser(_LANGUAGE)
    root = parser.parse(raw).root_node
    braced = _braced(raw, root)
    return root if braced == raw else parser.parse(braced).root_node


def _braced(raw: bytes, root: Node) -> bytes:
    """The text with braces around each variable, and $(...) in the place of backquotes; what is quoted stays as it is."""

    def literal(place: int) -> bool:
        node = root.descendant_for_byte_range(place, place + 1)
        return node is not None and node.type in _LITERAL

    edits: list[tuple[int, int, bytes]] = []
    for match in _VARIABLE.finditer(raw):
        if not literal(match.start()):
            edits += [(match.start(1), match.start(1), b"{"), (match.end(), match.end(), b"}")]
    place = 0
    while (found := _BACKQUOTES.search(raw, place)) is not None:
        if literal(found.start()):
            place = found.start() + 1
            continue
        place = found.end()
        edits += [(found.start(), found.start() + 1, b"$("), (place - 1, place, b")")]
    pieces, place = [], 0
    for begin, end, new in sorted(edits):
        pieces += [raw[place:begin], new]
        place = end
    return b"".join([*pieces, raw[place:]])


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
