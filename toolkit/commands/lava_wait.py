# SPDX-License-Identifier: MIT
"""lava-wait: wait until any other device has sent a message."""

from toolkit.arguments import parse, parse_message_id, parse_timeout
from toolkit.cache import CacheFile, lines, wants_prefix
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-wait [--timeout TIME] MESSAGE-ID

Wait until any other device of the group has sent a message with this id, or go on
at once if one has already. The data of all such messages is then in the cache file,
one KEY=VALUE a line, in the order sent. The file is empty when there was none, while
lava-wait waits, and when it fails. Waiting again for the same id gives all its data
again, as it is by then: see `lava-send --help`.

Options:
  --timeout TIME  give up after so long: seconds, or as in 1.5m, 2h (default: never).
                  It says that this wait may end without what it waits for
  --              MESSAGE-ID follows, even if it begins with '-'
  -h, --help, --version

Environment:
  LAVA_WAIT_TIMEOUT               the default of --timeout
  LAVA_MULTI_NODE_CACHE           the cache file; else /tmp/lava_multi_node_cache.txt
  LAVA_MULTI_NODE_CACHE_PREFIX=1  lines are NAME:KEY=VALUE, as of lava-wait-all

Exit status:
  0    the message is there
  1    it did not come: timed out, or no device is left that could send it;
       or the cache file cannot be written
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-wait server-ready
  address=$(grep '^address=' /tmp/lava_multi_node_cache.txt | cut -d = -f 2-)
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, options = parse(arguments, 1, 1, ("--timeout",), context)
    message_id = parse_message_id(operands[0])
    timeout = parse_timeout(options, context.environ)
    cache = CacheFile(context)
    cache.write([])
    rows = context.request("wait", message_id, *timeout)
    cache.write(lines(rows, wants_prefix(context.environ)))
    return OK
