# SPDX-License-Identifier: MIT
"""The long way of a command: imports modules out of the archive that the box is, and runs the command.

Run by __main__.py, which has read the box: `data` is its content, and `decompress` the function of zlib, or what
stands in its place. It may also have begun the command: `identity` is that of its first request then. source.py
may have found modules that were compiled before: `kept`.

The modules are there as bytecode of one version of Python, and as source for all others; of each kind in
two groups. zipimport, which wants an entry for each, takes three times as long.
"""

import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType
    from typing import Any

    data = b""
    decompress = bytes  # type: Callable[..., bytes]
    identity = None  # type: bytes | None
    kept = b""


class Box:
    """The archive, as an importer (PEP 451) of the modules in it.

    `path` is where it is; `version` the Python that it has bytecode for, such as "cpython-311"; `build` names
    what it was built from. `modules` are those that were read, as code or source, and `compiled` is whether some of
    them were compiled here.

    :param decompress: as that of zlib.
    :param kept: what was compiled before, in the form of `marshal`.
    """

    def __init__(self, path: str, data: bytes, decompress: "Callable[..., bytes]", kept: bytes = b"") -> None:
        self.path = path
        self._decompress = decompress
        self._entries = {}  # type: dict[str, memoryview]
        view = memoryview(data)
        at = data.index(b"PK\3\4")
        while data[at : at + 4] == b"PK\3\4":
            # Before each entry: its compressed size, and the length of its name.
            size, name = int.from_bytes(data[at + 18 : at + 22], "little"), data[at + 26]
            start = at + 30 + name
            self._entries[data[at + 30 : start].decode()] = view[start : start + size]
            at = start + size
        magic, self.version, build = bytes(self._entries["version"]).decode().split()
        self.build = build.encode()
        kind = "bytecode" if magic == "".join(["%02x" % byte for byte in MAGIC_NUMBER]) else "source"
        # Most commands need the first alone.
        self._groups = [kind + "/rest", kind + "/front"]
        self.modules = {}  # type: dict[str, CodeType | bytes]
        self._kept = kept
        self.compiled = False

    def _read(self, entry: str) -> "dict[str, Any]":
        return marshal.loads(self._decompress(self._entries[entry], -15))  # type: ignore[no-any-return]

    def usages(self) -> "dict[str, str]":
        """The help texts of all commands and of the box ("lavabox"), by name."""
        return self._read("usages")

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        stem = name.replace(".", "/")
        if stem.partition("/")[0] not in ("toolkit", "msgpack"):
            return None
        if self._kept:
            self.modules, self._kept = marshal.loads(self._kept), b""
        while True:
            for file in (stem + ".py", stem + "/__init__.py"):
                if file in self.modules:
                    package = file != stem + ".py"
                    where = self.path + "/" + file
                    spec = ModuleSpec(name, self, origin=where, is_package=package)  # type: ignore[arg-type]
                    spec.loader_state = file
                    return spec
            if not self._groups:
                return None
            self.modules = dict(self._read(self._groups.pop()), **self.modules)

    def create_module(self, spec: "ModuleSpec") -> None:
        """The usual one will do."""

    def exec_module(self, module: "ModuleType") -> None:
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> "CodeType":
        """The module, compiled."""
        file = self.find_spec(name).loader_state  # type: ignore[union-attr]
        code = self.modules[file]
        if isinstance(code, bytes):
            code = self.modules[file] = compile(code, file, "exec", 0, True, 2)
            self.compiled = True
        return code

    def importer(self) -> "CodeType":
        """This file, compiled."""
        return compile(self._decompress(self._entries["importer.py"], -15), "importer.py", "exec", 0, True, 2)


def help_text(argv: "list[str]", box: Box) -> "str | None":
    """What this command line prints if it plainly asks for help: that takes none of the modules."""
    words = [argv[0].rpartition("/")[2]] + argv[1:]
    if not words[0].startswith("lava-"):
        del words[0]
    return box.usages().get(words[0]) if words[1:2] in (["--help"], ["-h"]) else None


def run_command(box: Box, identity: "bytes | None") -> int:
    """Run the command that `sys.argv` names; returns its exit status. Its first request has that identity."""
    text = help_text(sys.argv, box)
    if text is not None:
        left = text.encode()
        try:
            while left:
                left = left[posix.write(1, left) :]
            return 0
        except OSError:
            pass  # which the long way tells
    sys.meta_path.insert(0, box)
    import toolkit
    from toolkit.cli import main

    toolkit.BUILD = box.build
    return main(sys.argv, box, identity)


def run(box: Box, identity: "bytes | None") -> None:
    """Run the command, and end. KeyboardInterrupt is passed on."""
    # No command lives long enough to need the garbage collector. (The agent does.)
    gc.disable()
    try:
        status = run_command(box, identity)
    except SystemExit as end:
        status = end.code  # type: ignore[assignment]
    finally:
        try:
            sys.stderr.flush()
        except (OSError, AttributeError):
            pass
    # To take the interpreter apart costs a tenth of a short command's time. Answers are written unbuffered.
    posix._exit(status)


if __name__ == "__main__":
    if sys.version_info < (3, 6):
        sys.stderr.write("lavabox needs Python 3.6 or later, and python3 is %s\n" % sys.version.split()[0])
        sys.stderr.flush()
        posix._exit(127)
    # Absolute, since a command may change the directory.
    path = sys.argv[0]
    run(Box(path if path[0] == "/" else posix.getcwd() + "/" + path, data, decompress, kept), identity)
