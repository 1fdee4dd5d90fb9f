# SPDX-License-Identifier: MIT
"""lava-background-process-stop: end what lava-background-process-start has started."""

from toolkit.arguments import parse
from toolkit.background import BackgroundProcess
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-background-process-stop NAME

End the background process of that name and all that it has started: with SIGTERM, and
after 5 seconds with SIGKILL. Then print what it has printed, the last 64 KiB at most.
If it had ended before, or was not started, there is only a warning.

Options:
  -h, --help, --version

Environment:
  LAVA_RESULT_DIR  has to be what it was when the process was started

Exit status:
  0    none of its processes runs any more
  1    a process does not end; or the folder cannot be used
  2    usage
  130  interrupted

Example:
  lava-background-process-stop load
"""


def run(arguments: "list[str]", context: "Context") -> int:
    (name,), _ = parse(arguments, 1, 1, (), context)
    warning, output = BackgroundProcess(name, context.environ).stop()
    if warning:
        context.warn(warning)
    context.write(output)
    return OK
