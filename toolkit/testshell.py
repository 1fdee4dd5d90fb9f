# SPDX-License-Identifier: MIT
"""Running a script that records results, with a folder for what it leaves behind."""

import os

from .processes import environment, run
from .sharedfiles import Folder
from .wire.vocabulary import NO, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

RESULT_VARIABLE = "LAVA_RESULT_DIR"


def run_in(
    results: Folder, argv: "list[str]", environ: "Mapping[str, str]", folder: "str | None" = None
) -> int:
    """Run a program with LAVA_RESULT_DIR=`results`; its exit status is returned, and in the file return_code.

    Raises CommandError, with nothing run, where that cannot be written.
    """
    write_number(results, "return_code", None)
    path = os.path.abspath(results.path)
    status = run(argv, environment(environ, **{RESULT_VARIABLE: path}), folder)
    write_number(results, "return_code", status)
    return status


def write_number(folder: Folder, name: str, number: "int | None") -> None:
    """Write a line with the number into a file; None: nothing, to see whether it can be written."""
    try:
        folder.replace(name, b"" if number is None else b"%d\n" % number)
    except OSError as error:
        raise CommandError(NO, "cannot write %s in %s: %s" % (name, folder.path, error.strerror)) from None
