# SPDX-License-Identifier: MIT
"""lava-test-feedback: ask the dispatcher to look at another console of this device."""

from toolkit.arguments import parse
from toolkit.reports import parse_name, required
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-test-feedback --namespace NAMESPACE

Ask the dispatcher to read the output of the connection that the job calls NAMESPACE,
and note that it has been asked.

Options:
  --namespace NAMESPACE  a name from the job, any text
  -h, --help, --version

Exit status:
  0    the dispatcher has the request
  2    usage; nothing has been sent
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-test-feedback --namespace second-console
"""


def run(arguments: "list[str]", context: "Context") -> int:
    _, options = parse(arguments, 0, 0, ("--namespace",))
    namespace = required(options, "--namespace")
    if not namespace:
        context.warn("the namespace is empty: nothing has been sent")
        return OK
    context.request("feedback", parse_name(namespace, "namespace"))
    return OK
