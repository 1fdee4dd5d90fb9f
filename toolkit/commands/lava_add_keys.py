# SPDX-License-Identifier: MIT
"""lava-add-keys: let apt trust further signing keys."""

import os

from toolkit.distributions import ENVIRONMENT, package_manager
from toolkit.processes import environment, run_tool
from toolkit.wire.vocabulary import NO, OK, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-add-keys [OPTION ...] KEY ...

Get keys from keyserver.ubuntu.com with gpg, and let apt trust what is signed with
them. KEY is the id or the fingerprint of a key, in hexadecimal digits; any other word
is a package that brings keys, and is installed. An OPTION goes to gpg. On a system
without apt nothing is done, with a warning.

Options:
  -h, --help, --version

Exit status:
  0    apt trusts them; or this system has no apt
  1    a key has not been found, or cannot be kept; gpg has said why
  130  interrupted

Example:
  lava-add-keys 0x7C751B3F
"""

SERVER = "hkps://keyserver.ubuntu.com"
FOLDER = "/etc/apt/trusted.gpg.d"


def run(arguments: "list[str]", context: "Context") -> int:
    options, keys, packages = _sorted(arguments)
    if not keys and not packages:
        context.warn("no key is named: nothing has been added")
        return OK
    manager = package_manager(context.environ)
    if manager is None or not manager.apt:
        context.warn("this system has no apt: no key has been added")
        return OK
    environ = environment(context.environ, **ENVIRONMENT)
    if packages:
        status = run_tool(manager.install + packages, environ)
        if status:
            raise CommandError(NO, "%s: apt-get ended with status %d" % (" ".join(packages), status))
    for key in keys:
        path = "%s/lavabox-%s.gpg" % (FOLDER, _digits(key))
        # apt does not read the form in which gpg keeps keys by itself, only this older one.
        keep = ["--no-default-keyring", "--keyring", "gnupg-ring:" + path]
        status = run_tool(
            ["gpg", "--batch"] + keep + ["--keyserver", SERVER] + options + ["--recv-keys", key], environ
        )
        if status:
            raise CommandError(NO, "the key %s has not been added: gpg ended with status %d" % (key, status))
        # gpg makes it for its user only, and apt reads it as another one.
        os.chmod(path, 0o644)
    return OK


def _sorted(arguments: "list[str]") -> "tuple[list[str], list[str], list[str]]":
    """Options for gpg with their values; keys; and packages, which LAVA's script installs, too."""
    options = []  # type: list[str]
    keys = []  # type: list[str]
    packages = []  # type: list[str]
    is_value = False
    for argument in arguments:
        is_key = bool(_digits(argument)) and not _digits(argument).strip("0123456789abcdefABCDEF")
        if argument.startswith("-") or (is_value and not is_key):
            options.append(argument)
        else:
            (keys if is_key else packages).append(argument)
        is_value = argument.startswith("-") and "=" not in argument
    return options, keys, packages


def _digits(key: str) -> str:
    return key[2:] if key.startswith(("0x", "0X")) else key
