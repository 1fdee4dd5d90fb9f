# SPDX-License-Identifier: MIT
"""The long way of a command: imports modules out of the archive that the box is, and runs the command.

Run by __main__.py, which has read the box: `data` is its content. It may also have begun the command: `identity`
is that of its first request then.

The modules are there as bytecode of one version of Python, and as source for all others; of each kind in
two streams. zipimport, which wants an entry for each, takes three times as long.
"""

import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

    data = b""
    identity = None  # type: bytes | None


class Box:
    """The archive, as an importer (PEP 451) of the modules in it.

    `path` is where it is; `version` the Python that it has bytecode for, such as "cpython-311"; `build` names
    what it was built from.
    """

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self._entries = {}  # type: dict[str, bytes]
        at = data.index(b"PK\3\4")
        while data[at : at + 4] == b"PK\3\4":
            # Before each entry: its compressed size, and the length of its name.
            size, name = int.from_bytes(data[at + 18 : at + 22], "little"), data[at + 26]
            start = at + 30 + name
            self._entries[data[at + 30 : start].decode()] = data[start : start + size]
            at = start + size
        magic, self.version, build = self._entries["version"].decode().split()
        self.build = build.encode()
        self._compiled = magic == "".join(["%02x" % byte for byte in MAGIC_NUMBER])
        kind = "bytecode" if self._compiled else "source"
        # Most commands that only say something need the first alone.
        self._streams = [kind + "/rest", kind + "/front"]
        self._modules = {}  # type: dict[str, bytes]
        if kind + "/rest" not in self._entries:
            sys.stderr.write(
                "lavabox: this one is for %s alone, and python3 is %s: take one that is built for it, or for all\n"
                % (self.version, sys.implementation.cache_tag)
            )
            sys.stderr.flush()
            posix._exit(127)

    def _inflate(self, data: bytes) -> bytes:
        try:
            from zlib import decompress
        except ImportError:
            found = {}  # type: ignore[var-annotated]
            exec(self._entries["inflate.py"], found)
            inflated = found["inflate"](data)  # type: bytes
            return inflated
        return decompress(data, -15)

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        stem = name.replace(".", "/")
        if stem.partition("/")[0] not in ("toolkit", "msgpack"):
            return None
        while True:
            for file in (stem + ".py", stem + "/__init__.py"):
                if file in self._modules:
                    package = file != stem + ".py"
                    where = self.path + "/" + file
                    spec = ModuleSpec(name, self, origin=where, is_package=package)  # type: ignore[arg-type]
                    spec.loader_state = file
                    return spec
            if not self._streams:
                return None
            self._modules.update(marshal.loads(self._inflate(self._entries[self._streams.pop()])))

    def create_module(self, spec: "ModuleSpec") -> None:
        """The usual one will do."""

    def exec_module(self, module: "ModuleType") -> None:
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> "CodeType":
        """The module, compiled."""
        file = self.find_spec(name).loader_state  # type: ignore[union-attr]
        content = self._modules[file]
        if self._compiled:
            return marshal.loads(content)  # type: ignore[no-any-return]
        return compile(content, file, "exec", 0, True, 2)


def run(box: Box, identity: "bytes | None") -> None:
    """Run the command that `sys.argv` names, and end. Its first request has that identity."""
    # No command lives long enough to need the garbage collector. (The agent does.)
    gc.disable()
    try:
        sys.meta_path.insert(0, box)
        import toolkit
        from toolkit.cli import main

        toolkit.BUILD = box.build
        status = main(sys.argv, box, identity)
    except KeyboardInterrupt:
        status = 130
    except SystemExit as end:
        status = end.code  # type: ignore[assignment]
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
    run(Box(path if path[0] == "/" else posix.getcwd() + "/" + path, data), identity)
