# SPDX-License-Identifier: MIT
"""To try in any Python what the box holds."""

# Begins a script: makes the modules of the box sys.argv[1] ones that can be imported.
IMPORTER = r"""
import sys
with open(sys.argv[1], "rb") as file:
    data = file.read()
def entry(name):
    return data[data.index(b"\0\0" + name) + 2 + len(name) :]
found = {"__name__": "box"}
exec(entry(b"inflate.py").partition(b"PK\3\4")[0], found)
if "without zlib" not in sys.argv:
    import zlib
    found["decompress"] = zlib.decompress
exec(found["decompress"](entry(b"importer.py"), -15), found)
sys.meta_path.insert(0, found["Box"](sys.argv[1], data, found["decompress"]))
"""
