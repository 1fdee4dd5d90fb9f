# SPDX-License-Identifier: MIT
"""To try in any Python what the box holds."""

# Begins a script: makes the modules of the box sys.argv[1] ones that can be imported.
IMPORTER = r"""
import sys
with open(sys.argv[1], "rb") as file:
    data = file.read()
at = data.index(b"\0\0importer.py") + 13
found = {"__name__": "box"}
exec(data[at : data.index(b"PK\3\4", at)], found)
sys.meta_path.insert(0, found["Box"](sys.argv[1], data))
"""
