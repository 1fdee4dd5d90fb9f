# SPDX-License-Identifier: MIT
"""lava-wait-all: wait until all other devices, those of a role, or some by name, have sent a message."""

from toolkit.arguments import parse, parse_message_id, parse_timeout, to_text
from toolkit.cache import CacheFile, lines
from toolkit.wire.vocabulary import OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.context import Context

USAGE = """\
usage: lava-wait-all [--timeout TIME] MESSAGE-ID [ROLE]
       lava-wait-all [--timeout TIME] --device NAME [--device NAME ...] MESSAGE-ID

Wait until all other devices of the group have sent a message with this id; with
ROLE, until all other devices that play exactly this role have; with --device, until
the devices of these names have (this one does not count). The data of all messages with
the id, of whatever role, is then in the cache file, one NAME:KEY=VALUE a line, in the
order sent, where NAME is what lava-self prints on the device that sent it. The file is
empty if there was no data, while lava-wait-all waits, and when it fails.

Options:
  --device NAME   wait for this device; may be given several times
  --timeout TIME  give up after this time: seconds, or as in 1.5m, 2h (default: never).
                  A wait with this option that fails is not recorded as a failed result
  --              MESSAGE-ID follows, even if it begins with '-'
  -h, --help, --version

Environment:
  LAVA_WAIT_TIMEOUT      the default of --timeout
  LAVA_MULTI_NODE_CACHE  the cache file; else /tmp/lava_multi_node_cache.txt

Exit status:
  0    all messages are there
  1    they did not come: timed out, there is no such role or device, or one has
       ended without sending; or the cache file cannot be written
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-wait-all client-done client
  lava-wait-all --device panda01 --device hb01 booted
"""


def run(arguments: "list[str]", context: "Context") -> int:
    operands, options = parse(arguments, 1, 2, ("--timeout",), context, repeated=("--device",))
    message_id = parse_message_id(operands[0])
    # An empty one, of a variable without a value, is none.
    role = to_text(operands[1]) if any(operands[1:]) else None
    names = [to_text(name) for name in options["--device"].split("\0")] if "--device" in options else []
    if names and role is not None:
        raise UsageError("--device and a role do not go together")
    if not all(names):
        raise UsageError("the name of a device is empty")
    timeout = parse_timeout(options, context.environ)
    cache = CacheFile(context)
    cache.write([])
    if names:
        rows = context.request("wait-devices", message_id, names, *timeout)
    else:
        rows = context.request("wait-all", message_id, role, *timeout)
    cache.write(lines(rows, prefix=True))
    return OK
