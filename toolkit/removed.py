# SPDX-License-Identifier: MIT
"""Commands that LAVA no longer has, and that old test definitions still call."""

from .wire.vocabulary import NO, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


# To be filled in: `command`, and the `sentence` that it says.
USAGE = """\
usage: {command}

LAVA no longer has this command. It is here for test definitions that call it, and says:
  {sentence}

Options:
  -h, --help, --version

Exit status:
  1    always

Example:
  command -v {command}
"""


def refuse(sentence: str) -> "NoReturn":
    raise CommandError(NO, sentence)
