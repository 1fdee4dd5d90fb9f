# SPDX-License-Identifier: MIT
"""lava-add-keys: let apt trust further signing keys."""

import os

from toolkit.arguments import parse, quote
from toolkit.distributions import package_manager
from toolkit.processes import environment, run_tool
from toolkit.wire.vocabulary import NO, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.client import Context

USAGE = """\
usage: lava-add-keys KEY ...

Get keys from keyserver.ubuntu.com with gpg, and let apt trust what is signed with
them. KEY is the id or the fingerprint of a key, in hexadecimal digits. On a system
without apt nothing is done, and that is said.

Options:
  --help, --version

Exit status:
  0    apt trusts them; or this system has no apt
  1    a key has not been found, or cannot be kept; gpg has said why
  2    usage
  130  interrupted

Example:
  lava-add-keys 0x7C751B3F
"""

SERVER = "hkps://keyserver.ubuntu.com"
FOLDER = "/etc/apt/trusted.gpg.d"


def run(arguments: "list[str]", context: "Context") -> int:
    keys, _ = parse(arguments, 1, len(arguments))
    for key in keys:
        if not _digits(key) or _digits(key).strip("0123456789abcdefABCDEF"):
            raise UsageError("%s is no key: an id or a fingerprint is hexadecimal digits" % quote(key))
    manager = package_manager(context.environ)
    if manager is None or not manager.apt:
        context.warn("this system has no apt: no key has been added")
        return OK
    environ = environment(context.environ)
    for key in keys:
        path = "%s/lavabox-%s.gpg" % (FOLDER, _digits(key))
        # apt does not read the form in which gpg keeps keys by itself, only this older one.
        keep = ["--no-default-keyring", "--keyring", "gnupg-ring:" + path]
        status = run_tool(["gpg", "--batch"] + keep + ["--keyserver", SERVER, "--recv-keys", key], environ)
        if status:
            raise CommandError(NO, "the key %s has not been added: gpg ended with status %d" % (key, status))
        # gpg makes it for its user only, and apt reads it as another one.
        os.chmod(path, 0o644)
    return OK


def _digits(key: str) -> str:
    return key[2:] if key.startswith(("0x", "0X")) else key
