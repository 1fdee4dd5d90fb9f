# SPDX-License-Identifier: MIT
"""lava-background-process-start: run something while the test goes on."""

from toolkit.arguments import parse
from toolkit.background import BackgroundProcess
from toolkit.wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-background-process-start NAME --cmd COMMAND

Start COMMAND, one argument with shell code for /bin/sh, and return when it has begun.
It runs once, in a session of its own, without input, until it ends by itself or
`lava-background-process-stop NAME` ends it. What it prints goes to the file `output`
in its folder, LAVA_RESULT_DIR/results/NAME.

Options:
  --cmd COMMAND  what to run
  -h, --help, --version

Environment:
  LAVA_RESULT_DIR  as lava-test-runner sets it; without, the folder is
                   /tmp/lava_background_processes.UID/NAME

Exit status:
  0    it has been started; one of this name that was running has been ended, with a
       warning
  1    the folder cannot be used
  2    usage
  130  interrupted

Example:
  lava-background-process-start load --cmd "stress --cpu 4"
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, options = parse(arguments, 1, len(arguments), ("--cmd",))
    if len(operands) > 1:
        raise UsageError("give one name, and the command as one argument: quote it")
    process = BackgroundProcess(operands[0], context.environ)
    if not options.get("--cmd"):
        context.warn("no command is given: nothing has been started")
        return OK
    if process.start(options["--cmd"], context.environ):
        context.warn("it was running, and has been ended: a name stands for one process")
    return OK
