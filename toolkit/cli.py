# SPDX-License-Identifier: MIT
"""Finds the command that is meant, and runs it.

It is the name of the box, where that is a link: `lava-send ID`; else the first
argument: `lavabox lava-send ID`.
"""

import posix  # `os` takes longer to start than all of this
import sys

from .arguments import to_bytes
from .call import carry_out, environment, meant, run, usage, without_cr
from .client import Client
from .commands import COMMANDS
from .thin import unwind_when_told_to_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .box import Box


def main(argv: "list[str]", box: "Box | None" = None, identity: "bytes | None" = None) -> int:
    """The exit status of what `argv` asks for.

    :param box: the zipapp, where this runs from it.
    :param identity: of the command's first request, where that may have been sent already.
    """
    _mend_standard_files()
    unwind_when_told_to_end()
    words = without_cr([to_bytes(word) for word in argv])
    environ = environment(posix.environ)
    name, arguments = meant(words)
    context = Client("lavabox" if name is None else name, environ, identity)
    try:
        if name in COMMANDS:
            return run(arguments, context)
        from . import box as itself

        if name is not None:
            return itself.unknown(name, Client("lavabox", environ))
        return carry_out(
            lambda: usage("lavabox", itself),
            lambda words, context: itself.run(words, context, box),
            arguments,
            context,
        )
    except ImportError as error:
        from .missing import NOT_FOUND, sentence

        context.warn(sentence(error))
        return NOT_FOUND


def _mend_standard_files() -> None:
    """Put something in the place of standard files that the caller has closed.

    Else the next file or socket opened gets the number 1, and the answer goes there.
    """
    for descriptor in range(3):
        try:
            posix.fstat(descriptor)
        except OSError:
            # The lowest free number is this one. Not to be written to: that is an error still.
            posix.open("/dev/null", posix.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open("/dev/null", "w")  # noqa: SIM115
