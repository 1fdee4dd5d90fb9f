# SPDX-License-Identifier: MIT
"""Results as a table for people, and why the run failed in sentences."""

from collections import Counter
from collections.abc import Sequence

from dispatcher.group.events import readable
from dispatcher.report import Report
from toolkit.wire.vocabulary import RESULTS

# Failures that are told one by one.
MAX_SENTENCES = 20
# Characters of a name in the table.
_MAX_NAME = 40


def rows(report: Report) -> list[Sequence[str]]:
    """Numbers of results by device, run and set, with a head; nothing if there are no results."""
    results = report.results
    counts: dict[tuple[str, int | None, str | None], Counter[str]] = {}
    order = {name: place for place, (name, _) in enumerate(results.devices)}
    for case in results.cases:
        counts.setdefault((case.device, case.run, case.set), Counter())[case.result] += 1
    if not counts:
        return []
    lines: list[Sequence[str]] = [("device", "run", "set", *RESULTS)]
    # Stable: within a device as they came.
    for (device, run, in_set), words in sorted(counts.items(), key=lambda item: order[item[0][0]]):
        name = "-" if run is None else _short(results.runs[run].name)
        numbers = [str(words[word]) for word in RESULTS]
        lines.append((device, name, "-" if in_set is None else _short(in_set), *numbers))
    return lines


def sentences(report: Report) -> list[str]:
    """Which tests failed, and how many signals could not be read. How devices ended stands elsewhere."""
    failures = [
        f"{failure.device}: {readable(failure.sentence)}"
        for failure in report.results.failures(over=report.over)
    ]
    shown = failures[:MAX_SENTENCES]
    if len(failures) > len(shown):
        shown.append(f"and {len(failures) - len(shown)} more failures")
    for name, _ in report.results.devices:
        count, _ = report.results.malformed(name)
        if count:
            shown.append(f"{name}: {count} malformed signal{'s' if count > 1 else ''}, not recorded")
    return shown


def _short(text: str) -> str:
    text = readable(text)
    return text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 3] + "..."
