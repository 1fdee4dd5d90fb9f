# SPDX-License-Identifier: MIT
"""lava-wait: wait until any other device has sent a message.

With --any: one of several. With --next: one that this device has not been given yet, so
that a server takes its clients' requests one by one.
"""

from toolkit.arguments import MAX_IDS, parse, parse_message_id, parse_timeout
from toolkit.cache import CacheFile, lines, wants_prefix
from toolkit.wire.vocabulary import OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-wait [--timeout TIME] MESSAGE-ID
       lava-wait [--timeout TIME] --any MESSAGE-ID ...
       lava-wait [--timeout TIME] --next MESSAGE-ID

Wait until any other device of the group has sent a message with this id, or go on
at once if one has already. The data of all such messages is then in the cache file,
one KEY=VALUE a line, in the order sent. The file is empty if there was no data, while
lava-wait waits, and when it fails. Another wait for the same id gives all its data
again, and what has been sent since.

With --any, wait until one of several messages is there, and print its id. If several
are there, take the one that was sent first. The cache file has the data of that one.

With --next, wait for the next message with this id that no `lava-wait --next` of this
device has taken yet, and print the name of its sender. The cache file has the data of
this one message. Messages come one by one, each once, in the order sent, also if a
sender sends the id again. If lava-wait does not end with 0, its message comes again.

Options:
  --any           wait for one of several messages
  --next          take the next message, each once
  --timeout TIME  give up after this time: seconds, or as in 1.5m, 2h (default: never).
                  A wait with this option that fails is not recorded as a failed result
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
  if [ "$(lava-wait --any ready failed)" = failed ]; then exit 1; fi
  while client=$(lava-wait --timeout 5m --next request); do
    lava-send "answer-$client"
  done
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, options = parse(arguments, 1, MAX_IDS, ("--timeout",), context, flags=("--any", "--next"))
    if "--any" in options and "--next" in options:
        raise UsageError("--any and --next do not go together")
    if "--any" not in options and len(operands) > 1:
        operands, options = parse(arguments, 1, 1, ("--timeout",), context, flags=("--next",))
    ids = list(dict.fromkeys([parse_message_id(operand) for operand in operands]))
    timeout = parse_timeout(options, context.environ)
    cache = CacheFile(context)
    cache.write([])
    printed = ids[0] + b"\n" if "--any" in options else b""
    if len(ids) > 1:
        chosen, *rows = context.request("wait-any", ids, *timeout)
        printed = chosen + b"\n"
    elif "--next" in options:
        rows = context.borrow("wait-next", ids[0], *timeout)
        printed = rows[0][0].encode() + b"\n"
    else:
        rows = context.request("wait", ids[0], *timeout)
    cache.write(lines(rows, wants_prefix(context.environ)))
    context.write(printed)
    if "--next" in options:
        # Last: a command that is killed before has taken nothing.
        try:
            context.take()
        except (CommandError, KeyboardInterrupt):
            cache.write([])
            raise
    return OK
