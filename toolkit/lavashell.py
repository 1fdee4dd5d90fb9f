# SPDX-License-Identifier: MIT
"""The box in the place of the shell that LAVA's own runner starts a definition with: `lavabox -e .../run.sh`.

LAVA's runner calls `$SHELL -e run.sh`, and an `environment` of the device or the job may say what SHELL is. Then
the commands of the box come first in PATH, and the beginning and the end of the run go to the dispatcher as
requests; the lines of run.sh that print them as text are left out. Where no dispatcher answers, the script is run
as it is.
"""

import os

from .processes import SHELL, become, environment, run
from .wire.vocabulary import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

# What LAVA's dispatcher writes into run.sh.
_NAME = b"export TESTRUN_ID="
_SIGNALS = (b"<LAVA_SIGNAL_STARTRUN $TESTRUN_ID $UUID>", b"<LAVA_SIGNAL_ENDRUN $TESTRUN_ID $UUID>")


def execute(arguments: "list[str]", context: "Context", box: "str | None") -> int:
    """Be the shell that was called with these arguments; -e SCRIPT is run as described above.

    :param box: the path of the zipapp, if it is one.
    """
    environ = environment(context.environ)
    script = os.path.abspath(arguments[1]) if arguments[0] == "-e" and arguments[1:] else ""
    folder = os.path.dirname(script)
    # LAVA's overlay has the shell of the device in the first line of its own scripts.
    shell = os.fsdecode(_read(folder + "/../../../bin/lava-test-shell").partition(b"\n")[0][2:].strip())
    environ["SHELL"] = shell = shell if os.access(shell, os.X_OK) else SHELL
    argv = [shell] + arguments
    lines = _read(script).split(b"\n")
    run_of = [line[len(_NAME) :].strip() for line in lines if line.startswith(_NAME)]
    run_of.append(_read(folder + "/uuid").strip())
    signals = [line for line in lines if any([signal in line for signal in _SIGNALS])]
    if box is None or not all(run_of) or (len(run_of), len(signals)) != (2, 2):
        become(argv, environ)
    folder += "/.lavabox"
    try:
        from .install import install

        if not os.path.isdir(folder):
            os.mkdir(folder)
        if install(["-s", folder], context, box):
            raise OSError("it has other files in %s" % folder)
        context.replace(folder + "/run.sh", b"\n".join([b":" if line in signals else line for line in lines]))
        context.request("run-start", *run_of)
    except (CommandError, OSError) as error:
        context.warn("%s is run as it is: %s" % (script, getattr(error, "text", error)))
        become(argv, environ)
    environ["PATH"] = folder + ":" + environ.get("PATH", os.defpath)
    status = run([shell, "-e", folder + "/run.sh"] + arguments[2:], environ)
    context.request("run-end", *(run_of + [status]))
    return status


def _read(path: str) -> bytes:
    """A file; nothing where it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
