# SPDX-License-Identifier: MIT
"""lava-test-shell: run a program with a folder for its results."""

from toolkit.arguments import quote
from toolkit.processes import command_line
from toolkit.sharedfiles import Folder
from toolkit.testshell import run_in
from toolkit.wire.vocabulary import NO, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-shell --output_dir DIRECTORY PROGRAM [ARGUMENT ...]

Run a program, which finds the directory in LAVA_RESULT_DIR, and then write its exit
status to the file return_code there. lava-test-runner does this with each definition.

Options:
  --output_dir DIRECTORY  where its results go; it must exist
  -h, --help, --version

Exit status:
  0    the program has been run, and its exit status written
  1    the directory cannot be written to; nothing has been run
  2    usage
  130  interrupted

Example:
  lava-test-shell --output_dir /tmp/results ./run.sh
"""


def run(arguments: "list[str]", context: "Context") -> int:
    option, rest = arguments[:1], arguments[1:]
    if option and option[0].startswith("--output_dir="):
        option, rest = ["--output_dir"], [option[0].partition("=")[2]] + rest
    if option not in ([], ["--output_dir"]):
        # LAVA's script does not look at it.
        context.warn("%s stands where --output_dir is expected" % quote(option[0]))
    if not rest or not rest[0]:
        raise UsageError("--output_dir needs a directory")
    if len(rest) < 2:
        raise UsageError("a program to run is missing")
    try:
        results = Folder(rest[0])
    except OSError as error:
        raise CommandError(NO, "cannot use the directory %s: %s" % (rest[0], error.strerror)) from None
    with results:
        run_in(results, command_line(["exec"] + rest[1:]), context.environ)
    return OK
