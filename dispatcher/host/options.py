# SPDX-License-Identifier: MIT
"""Types of arguments that several commands have, for argparse."""

import argparse
import math
import re

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Seconds: 31 years, as on the devices. What is meant to be longer is a slip.
_LONGEST = 1e9

HOW_TO_WRITE = "90, 90s, 1.5m, 10h or 1d"


def duration(text: str) -> float:
    """Seconds, from a number and `s`, `m`, `h` or `d`: "90", "1.5m". Raises ArgumentTypeError."""
    match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)([smhd]?)", text)
    try:
        seconds = float(match[1]) * _UNITS[match[2]] if match is not None else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is no time; write it as in {HOW_TO_WRITE}")
    return seconds


def positive_duration(text: str) -> float:
    """As `duration`, but not 0."""
    seconds = duration(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text}: it must be more than 0")
    return seconds
