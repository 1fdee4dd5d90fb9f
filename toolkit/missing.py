# SPDX-License-Identifier: MIT
"""Pythons of small images lack modules: which package brings them."""

import sys

# What a shell reports for a command that it does not find.
NOT_FOUND = 127

# Of each module, the package in Yocto, which splits Python more finely than others.
_YOCTO = {"_socket": "python3-io", "termios": "python3-io", "select": "python3-io", "fcntl": "python3-fcntl"}

_SENTENCE = (
    "%s, which is Python %s, lacks the module %s: install python3 (Debian, Ubuntu, OpenWrt), "
    "%s (Yocto), or switch it on in the configuration of python3 (Buildroot); "
    "LAVABOX_PYTHON=PROGRAM names another Python"
)


def sentence(error: ImportError) -> str:
    """What is missing, and what to install."""
    version = sys.version.split()[0]
    module = error.name or str(error)
    return _SENTENCE % (sys.executable or "python3", version, module, _YOCTO.get(module, "python3-modules"))
