# SPDX-License-Identifier: MIT
"""Leaves what this Python has compiled, where the box has no bytecode for it: the next agent then starts in half the time.

In $XDG_RUNTIME_DIR, or in /run (which root alone can write to); where neither can be, nothing is left. Both are gone
with the next boot. zipapp/source.py reads it, and says what it takes for its own.
"""

import marshal
import os
import sys

import toolkit

from .sharedfiles import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .zipapp.importer import Box


def keep(box: "Box") -> None:
    """Write the file, in the place of an older one. It goes on without, where that cannot be."""
    modules = {file: code for file, code in box.modules.items() if not isinstance(code, bytes)}
    content = marshal.dumps((box.importer(), marshal.dumps(modules)))
    try:
        with Folder(os.environ.get("XDG_RUNTIME_DIR") or "/run", private=True) as folder:
            name = "lavabox-%s" % sys.implementation.cache_tag
            folder.replace(name, toolkit.BUILD + sys.version.encode() + content)
    except OSError:
        pass
