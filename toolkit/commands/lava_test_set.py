# SPDX-License-Identifier: MIT
"""lava-test-set: put the test cases that follow into a named set."""

from toolkit.arguments import parse_words, quote
from toolkit.reports import parse_name
from toolkit.wire.vocabulary import NO, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-set start NAME
       lava-test-set stop [NAME]

Open a test set: the test cases that this device records from now on belong to it,
until it is stopped. Sets do not nest: a set that is started while another is open takes
its place, and a stop without a start does nothing, each with a warning. NAME may be any
text; stop ignores it.

Options:
  -h, --help, --version

Exit status:
  0    the dispatcher has it
  2    usage; nothing has been recorded, and the dispatcher is told of it
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-test-set start network
  lava-test-case ping --shell ping -c 1 192.168.1.1
  lava-test-set stop
"""


def run(arguments: "list[str]", context: "Context") -> int:
    verb, rest = arguments[:1], arguments[1:]
    if verb == ["start"]:
        words = parse_words(rest, 1, context)
        if not words:
            raise UsageError("the name of the test set is missing")
        _start(parse_name(words[0], "name of the test set"), context)
    elif verb == ["stop"]:
        try:
            context.request("set-stop")
        except CommandError as error:
            _warn_of(error, context)
    elif verb:
        raise UsageError("start or stop is expected, not %s" % quote(verb[0]))
    else:
        raise UsageError("start or stop is missing")
    return OK


def _start(name: bytes, context: "Context") -> None:
    try:
        context.request("set-start", name)
    except CommandError as error:
        # Another one is open. In LAVA, the new one takes its place.
        _warn_of(error, context)
        context.request("set-stop")
        context.request("set-start", name)


def _warn_of(error: CommandError, context: "Context") -> None:
    """Warn of a refusal; raises the error if it is anything else."""
    if error.status != NO:
        raise error
    context.warn(error.text)
