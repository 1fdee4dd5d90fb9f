# SPDX-License-Identifier: MIT
"""lava-sync: wait until every device of the group, of a role, or so many of them have come to the same point."""

from toolkit.arguments import parse, parse_count, parse_message_id, parse_timeout, to_text
from toolkit.cache import CacheFile, lines
from toolkit.wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-sync [--timeout TIME] MESSAGE-ID
       lava-sync [--timeout TIME] --role ROLE MESSAGE-ID
       lava-sync [--timeout TIME] --count N MESSAGE-ID

Send a message with this id and wait until every other device of the group has sent
it too. The second lava-sync of an id waits until every other device has sent it
twice, and so on: each time it is a barrier. The data that messages with the id
carried is then in the cache file, as with lava-wait-all; mostly there is none, and
the file is empty. It is also empty while lava-sync waits, and when it fails.

With --role, wait only for the other devices of this role. With --count, wait until any
N devices have come, this one among them; a device that comes later goes on at once.

Options:
  --role ROLE     a barrier of the devices of this role
  --count N       a barrier of any N devices
  --timeout TIME  give up after this time: seconds, or as in 1.5m, 2h (default: never).
                  A wait with this option that fails is not recorded as a failed result
  --              MESSAGE-ID follows, even if it begins with '-'
  -h, --help, --version

Environment:
  LAVA_WAIT_TIMEOUT      the default of --timeout
  LAVA_MULTI_NODE_CACHE  the cache file; else /tmp/lava_multi_node_cache.txt

Exit status:
  0    every device has come to this point
  1    not all came: timed out, there is no such role, or a device has ended
       without coming; or the cache file cannot be written
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-sync start
  lava-sync --role client connected
  lava-sync --count 3 enough-clients
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, options = parse(arguments, 1, 1, ("--timeout", "--role", "--count"), context)
    message_id = parse_message_id(operands[0])
    whom = None  # type: str | int | None
    if "--role" in options and "--count" in options:
        raise UsageError("--role and --count do not go together")
    if "--role" in options:
        whom = to_text(options["--role"])
        if not whom:
            raise UsageError("the role is empty")
    if "--count" in options:
        whom = parse_count(options["--count"])
    timeout = parse_timeout(options, context.environ)
    cache = CacheFile(context)
    cache.write([])
    if whom is None:
        rows = context.request("sync", message_id, *timeout)
    else:
        rows = context.request("sync-some", message_id, whom, *timeout)
    cache.write(lines(rows, prefix=True))
    return OK
