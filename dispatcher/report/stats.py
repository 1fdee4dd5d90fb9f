# SPDX-License-Identifier: MIT
"""What went over the consoles, as a table for people."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from dispatcher.line.session import Counters


def rows(counters: Mapping[str, Counters]) -> list[Sequence[str]]:
    """The counters of each device, with a head."""
    names = [field.name for field in fields(Counters)]
    head = ("device", *names)
    return [head, *((device, *(str(getattr(of, name)) for name in names)) for device, of in counters.items())]
