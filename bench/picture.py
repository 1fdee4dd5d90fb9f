# SPDX-License-Identifier: MIT
"""A picture of the figures that users feel: bars, in groups of one unit each."""

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from bench.row import Row

# Titles of the groups, and what the names of their rows begin with.
GROUPS = (
    ("Console output, more is better", ("a pty, read", "a console demultiplexed")),
    ("`lava-sync`, less is better", ("`lava-sync` of",)),
    (
        "One command, against the bare interpreter: less is better",
        ("lava-self, agent started", "lava-self, agent there (", "--help, median"),
    ),
    ("A wait and the send that ends it, less is better", ("a wait and",)),
)
_WIDTH, _LABEL, _BAR, _STEP = 860, 430, 300, 22
_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<style>text {{ font: 13px sans-serif; fill: #24292f }} .title {{ font-weight: bold }} \
rect {{ fill: #2f6f9f }} .lava {{ fill: #c98b3c }} \
@media (prefers-color-scheme: dark) {{ text {{ fill: #d0d7de }} }}</style>
"""


def svg(rows: Sequence[Row]) -> str:
    """The picture; LAVA's own figures in another colour, where there are any."""
    parts, y = [], 24
    for title, beginnings in GROUPS:
        chosen = [row for row in rows if row.name.startswith(beginnings)]
        if not chosen:
            continue
        parts.append(f'<text class="title" x="8" y="{y}">{escape(title.replace("`", ""))}</text>')
        longest = max(value for row in chosen for _, value in _values(row))
        for row in chosen:
            for kind, value in _values(row):
                y += _STEP
                label = row.name.replace("`", "") if not kind else "LAVA"
                width = max(1.0, value / longest * _BAR)
                parts.append(f'<text x="{_LABEL - 8}" y="{y}" text-anchor="end">{escape(label)}</text>')
                parts.append(
                    f'<rect class="{kind}" x="{_LABEL}" y="{y - 12}" width="{width:.1f}" height="15"/>'
                )
                parts.append(f'<text x="{_LABEL + width + 6:.1f}" y="{y}">{escape(row.said(value))}</text>')
        y += _STEP + 14
    return _HEAD.format(width=_WIDTH, height=y) + "\n".join(parts) + "\n</svg>\n"


def _values(row: Row) -> Iterable[tuple[str, float]]:
    return [("", row.value)] if row.lava is None else [("", row.value), ("lava", row.lava)]
