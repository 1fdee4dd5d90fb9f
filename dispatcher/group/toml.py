# SPDX-License-Identifier: MIT
"""TOML that somebody wrote."""

import tomllib
from typing import Any


def parse_toml(text: str) -> dict[str, Any]:
    """The document in a file's text. Raises ValueError, whose sentence says where, for whatever is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
