# SPDX-License-Identifier: MIT
"""The zipapp's front of msgpack, which starts fast.

msgpack's own front imports what timestamps need, datetime and collections: that
doubles the time that a command takes to start. Our packets hold no timestamps
and no extension types. So this file and ext.py stand in the place of msgpack's
files of these names; packing and unpacking is done by msgpack's own fallback.py.
"""

import sys


class _NoDatetime:
    datetime = None


# fallback.py takes one name from datetime, for an option of Packer that is off.
_datetime = sys.modules.get("datetime")
sys.modules["datetime"] = _NoDatetime  # type: ignore[assignment]
try:
    from msgpack.fallback import Packer, Unpacker, unpackb
finally:
    if _datetime is None:
        del sys.modules["datetime"]
    else:
        sys.modules["datetime"] = _datetime

from msgpack.exceptions import *  # noqa: E402, F403
from msgpack.ext import ExtType, Timestamp  # noqa: E402

__all__ = ["ExtType", "Packer", "Timestamp", "Unpacker", "packb", "unpackb"]


def packb(value: object, **options: object) -> bytes:
    packed: bytes = Packer(**options).pack(value)
    return packed
