# SPDX-License-Identifier: MIT
"""Commands that LAVA no longer has, and that old test definitions still call."""

from .wire.vocabulary import NO, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def usage(command: str, sentence: str) -> str:
    return """\
usage: %s

LAVA no longer has this command. It is here for test definitions that call it, and says:
  %s

Options:
  -h, --help, --version

Exit status:
  1    always

Example:
  command -v %s
""" % (command, sentence, command)


def refuse(sentence: str) -> "NoReturn":
    raise CommandError(NO, sentence)
