# SPDX-License-Identifier: MIT
"""Where the long way of a command begins: runs importer.py or source.py, for which it finds what inflates.

Run by __main__.py, which has read the box: `data` is its content. Apart from that, since a thin client has no use
for it, and would compile it each time.
"""

import marshal
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    data = b""


def entry(name: bytes) -> memoryview:
    """The archive, from the content of this entry on. (To copy it would take longer than to inflate what is wanted.)"""
    mark = b"\0\0" + name
    return memoryview(data)[data.index(mark) + len(mark) :]


kept = b""
try:
    from zlib import decompress
except ImportError:
    exec(bytes(entry(b"inflate.py")).partition(b"PK\3\4")[0])
if MAGIC_NUMBER + b"__main__" in data:
    exec(marshal.loads(decompress(entry(b"importer.bytecode"), -15)))
exec(decompress(entry(b"source.py"), -15))
