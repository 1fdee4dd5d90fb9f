# SPDX-License-Identifier: MIT
"""What a device can report of its tests, by a frame, a text signal or a line that a pattern finds. Pure."""

import math
import re

from toolkit.wire.vocabulary import RESULTS

# What a device reports of its tests, and the fields of each kind.
REPORTS = {
    "case-start": ("id",),  # the output of a test begins here
    "case-end": ("id",),
    "result": ("id", "result", "measurement", "units"),
    "reference": ("id", "result", "url"),
    "set-start": ("name",),
    "set-stop": (),
    "run-start": ("name", "uuid"),
    "run-end": ("name", "uuid", "status"),
    "refused": ("command", "reason"),  # a command that was to report something was called wrongly
    "raise": ("message",),
    "event": ("message",),
    "feedback": ("namespace",),
    "malformed": ("text", "reason", "count"),  # a text signal that can't be read, and how many like it
}
# Fields that a device need not give; the others have a text with something in it.
_OPTIONAL = {"measurement", "units", "status", "uuid", "count"}


def check_report(kind: str, fields: tuple[str | None, ...]) -> None:
    """Raises ValueError, with a sentence for a person, if this is nothing that a device can report."""
    names = REPORTS.get(kind)
    if names is None:
        raise ValueError(f"nothing is reported as {kind!r:.40}")
    if len(fields) != len(names) and (kind != "malformed" or len(fields) != 2):  # as older versions wrote it
        raise ValueError(f"{kind} has {len(names)} fields, not {len(fields)}")
    for name, value in zip(names, fields, strict=False):
        if not value and name not in _OPTIONAL:
            raise ValueError(f"the {name} is missing")
        if value is not None and name in _CHECKED:
            _check_field(name, value)


_CHECKED = {"result", "measurement", "status", "count"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _check_field(name: str, value: str) -> None:
    if name == "result" and value not in RESULTS:
        raise ValueError(f"a result is one of {', '.join(RESULTS)}, not {value!r:.40}")
    if name == "measurement" and not _is_number(value):
        raise ValueError(f"a measurement is a number, not {value!r:.40}")
    if name == "status" and not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise ValueError(f"a status is a whole number, not {value!r:.40}")
    if name == "count" and not re.fullmatch(r"[1-9][0-9]{0,8}", value):
        raise ValueError(f"a count is a whole number, not {value!r:.40}")


def _is_number(text: str) -> bool:
    # float() alone would also take "nan", "1_0" and digits of other scripts.
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))
