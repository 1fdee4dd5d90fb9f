# SPDX-License-Identifier: MIT
"""lava-wait-all: wait until all other devices, or those of a role, have sent a message."""

from toolkit.arguments import parse, parse_message_id, parse_timeout, to_text
from toolkit.cache import CacheFile, lines
from toolkit.wire.vocabulary import OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-wait-all [--timeout TIME] MESSAGE-ID [ROLE]

Wait until all other devices of the group have sent a message with this id; with
ROLE, until all other devices that play exactly this role have. The data of all
messages with the id, of whatever role, is then in the cache file, one
NAME:KEY=VALUE a line, in the order sent, where NAME is what lava-self prints on
the device that sent it. The file is empty when there was none, while lava-wait-all
waits, and when it fails.

Options:
  --timeout TIME  give up after so long: seconds, or as in 1.5m, 2h (default: never).
                  It says that this wait may end without what it waits for
  --              MESSAGE-ID follows, even if it begins with '-'
  -h, --help, --version

Environment:
  LAVA_WAIT_TIMEOUT      the default of --timeout
  LAVA_MULTI_NODE_CACHE  the cache file; else /tmp/lava_multi_node_cache.txt

Exit status:
  0    all messages are there
  1    they did not come: timed out, no device plays this role, or a device has
       ended without sending; or the cache file cannot be written
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-wait-all client-done client
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, options = parse(arguments, 1, 2, ("--timeout",), context)
    message_id = parse_message_id(operands[0])
    # An empty one, of a variable without a value, is none.
    role = to_text(operands[1]) if any(operands[1:]) else None
    timeout = parse_timeout(options, context.environ)
    cache = CacheFile(context)
    cache.write([])
    rows = context.request("wait-all", message_id, role, *timeout)
    cache.write(lines(rows, prefix=True))
    return OK
