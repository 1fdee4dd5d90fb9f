# SPDX-License-Identifier: MIT
"""lava-sync: wait until every device of the group has come to the same point."""

from toolkit.arguments import parse, parse_message_id, parse_timeout
from toolkit.cache import CacheFile, lines
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-sync [--timeout TIME] MESSAGE-ID

Send a message with this id and wait until every other device of the group has sent
it too. The second lava-sync of an id waits until every other device has sent it
twice, and so on: repeated, it stays a barrier. The data that messages with the id
carried is then in the cache file, as with lava-wait-all; mostly there is none, and
the file is empty. It is also empty while lava-sync waits, and when it fails.

Options:
  --timeout TIME  give up after so long: seconds, or as in 1.5m, 2h (default: never).
                  It says that this wait may end without what it waits for
  --              MESSAGE-ID follows, even if it begins with '-'
  -h, --help, --version

Environment:
  LAVA_WAIT_TIMEOUT      the default of --timeout
  LAVA_MULTI_NODE_CACHE  the cache file; else /tmp/lava_multi_node_cache.txt

Exit status:
  0    every device has come to this point
  1    not all came: timed out, or a device has ended without coming;
       or the cache file cannot be written
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-sync start
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, options = parse(arguments, 1, 1, ("--timeout",), context)
    message_id = parse_message_id(operands[0])
    timeout = parse_timeout(options, context.environ)
    cache = CacheFile(context)
    cache.write([])
    rows = context.request("sync", message_id, *timeout)
    cache.write(lines(rows, prefix=True))
    return OK
