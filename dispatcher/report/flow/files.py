# SPDX-License-Identifier: MIT
"""The forms of a flow, as the names of files ask for them."""

from pathlib import Path

from dispatcher.errors import UsageError
from dispatcher.report.flow import page, table, tables
from dispatcher.report.flow.model import Flow

FORMATS = ("text", "markdown", "html")

_SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown", ".txt": "text"}
# Columns of a text that goes to a file.
_WIDTH = 120


def format_of(path: Path) -> str:
    """The format that the suffix of a file asks for. Raises UsageError if it asks for none."""
    found = _SUFFIXES.get(path.suffix.lower())
    if found is None:
        raise UsageError(f"the format of {path} is not known; give it the suffix .html, .md or .txt")
    return found


def written(flow: Flow, form: str, title: str, by: str = "role", width: int = _WIDTH) -> bytes:
    """The flow in one of FORMATS. `width` is that of the text, in columns of a terminal."""
    drawn = tables.table(flow, by)
    if form == "html":
        return page.document(flow, drawn, title)
    text = table.markdown(drawn) if form == "markdown" else table.text(drawn, width)
    return text.encode("utf-8", "backslashreplace")
