# SPDX-License-Identifier: MIT
"""The text behind the `-c` of the box's /bin/sh header.

Any Python reads it, from 2.7 on: for an old one it has a sentence. It has no single quotes, since it stands between
such in the header.
"""

import sys

if sys.version_info < (3, 6):
    sys.stderr.write("lavabox needs Python 3.6 or later, and python3 is %s\n" % sys.version.split()[0])
    sys.exit(127)

import marshal
import posix
from _frozen_importlib_external import MAGIC_NUMBER

del sys.argv[0]
# Absolute, since a command may change the directory.
box = sys.argv[0]
if box[0] != "/":
    box = posix.getcwd() + "/" + box
try:
    with open(box, "rb") as file:
        data = file.read()
    # __main__.py is the first entry of the archive, not compressed; and there as bytecode behind this mark.
    mark, at = MAGIC_NUMBER + b"__main__", data.index(b"PK\3\4")
    if mark in data:
        exec(marshal.loads(data[data.index(mark) + len(mark) :]))
    else:
        size = int.from_bytes(data[at + 18 : at + 22], "little")
        exec(data[at + 41 : at + 41 + size])
except KeyboardInterrupt:
    posix._exit(130)
