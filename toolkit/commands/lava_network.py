# SPDX-License-Identifier: MIT
"""lava-network: tell the group the addresses of this device, and look up those of the others."""

from toolkit.arguments import is_word, parse, parse_timeout, quote, to_bytes, to_text
from toolkit.cache import CacheFile, lines
from toolkit.wire.vocabulary import NETWORK_ID, NO, OK, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.context import Context

USAGE = """\
usage: lava-network broadcast INTERFACE
       lava-network collect [--timeout TIME] [INTERFACE] [ROLE]
       lava-network query NAME OPTION
       lava-network hosts FILE
       lava-network alias-hosts FILE

broadcast sends to the group what the kernel knows of the interface, which has to be up,
and of the system: hostname, hostname-full, ipv4, netmask, broadcast, ipv6,
default-gateway, mac, and dns_1, dns_2 and so on from /etc/resolv.conf. What does not
exist is left out. Of several addresses it takes the kernel's first, wider scopes before
narrower ones. A second broadcast, of whatever interface, replaces the first.

collect waits until all other devices, or those of ROLE, have sent theirs, and writes
everything that is known then to the network cache file, this device's own data too.
The file is empty meanwhile, and when collect fails. INTERFACE has no effect.

query prints one of the values above of the device that is called NAME in lava-group,
or nothing if that device has not sent it.

hosts puts a line into FILE, such as /etc/hosts, for each collected device that has an
address: the address, a tab, its hostname-full. The lines stand between two comments and
are replaced the next time. alias-hosts adds a third column: the device's role with its
number in that role, as in client01.

Options:
  --timeout TIME  give up after this time: seconds, or as in 1.5m, 2h (default: never)
  -h, --help, --version

Environment:
  LAVA_WAIT_TIMEOUT              the default of --timeout
  LAVA_MULTI_NODE_NETWORK_CACHE  the network cache file;
                                 else /tmp/lava_multi_node_network_cache.txt

Exit status:
  0    done; query: also if the device has not sent this option
  1    the interface is unknown or down; collect: timed out, no device plays the role,
       or a device has ended without sending; query, hosts, alias-hosts: nothing has
       been collected yet, or nothing from this device; a file cannot be written
  2    usage
  69   no dispatcher answers on this console
  75   the link to the dispatcher failed
  130  interrupted

Example:
  lava-network broadcast eth0
  lava-network collect eth0
  ping -c 1 "$(lava-network query server-1 ipv4)"
"""

VARIABLE = "LAVA_MULTI_NODE_NETWORK_CACHE"
DEFAULT_PATH = "/tmp/lava_multi_node_network_cache.txt"


def run(arguments: "list[str]", context: "Context") -> int:
    if not arguments:
        raise UsageError("expected one of: %s" % ", ".join(_ACTIONS))
    action = _ACTIONS.get(arguments[0])
    if action is None:
        raise UsageError("expected one of %s, not %s" % (", ".join(_ACTIONS), quote(arguments[0])))
    action(arguments[1:], context)
    return OK


def _broadcast(arguments: "list[str]", context: "Context") -> None:
    from toolkit.network import describe

    (interface,), _ = parse(arguments, 1, 1, (), context)
    fields = describe(interface, context.warn)
    (name,) = context.request("self")
    cache, told = _cache(context), _told_file(context)
    # Written back at once: so it is known before anything is sent whether they can be.
    known, before = cache.read(), told.read()
    cache.write(known)
    told.write(before)
    # The group keeps what it was told before, of another interface perhaps: empty it.
    gone = set(_fields(before, name.encode())) - {key for key, _ in fields}
    data = fields + [(key, b"") for key in sorted(gone)]
    context.request("send", NETWORK_ID, [item for pair in data for item in pair])
    own = lines([[name] + [item for pair in fields for item in pair]], prefix=True)
    told.write(own)
    cache.write(own + [line for line in known if not _is_of(line, name.encode())])


def _collect(arguments: "list[str]", context: "Context") -> None:
    operands, options = parse(arguments, 0, 2, ("--timeout",), context)
    role = to_text(operands[1]) if any(operands[1:]) else None
    timeout = parse_timeout(options, context.environ)
    cache = _cache(context)
    own = _told_file(context).read()
    cache.write([])
    rows = context.request("wait-all", NETWORK_ID, role, *timeout)
    cache.write(own + lines([_without_empty(*row) for row in rows], prefix=True))


def _cache(context: "Context") -> CacheFile:
    return CacheFile(context, VARIABLE, DEFAULT_PATH)


def _told_file(context: "Context") -> CacheFile:
    """What this device has told: a collect that fails leaves nothing in the cache file, and keeps this."""
    return CacheFile(context, VARIABLE, DEFAULT_PATH, ".own")


def _without_empty(name: str, *items: bytes) -> "list[Any]":
    """A row without the keys that the device has emptied."""
    pairs = zip(items[::2], items[1::2])
    return [name] + [item for pair in pairs if pair[1] for item in pair]


def _query(arguments: "list[str]", context: "Context") -> None:
    (name, option), _ = parse(arguments, 2, 2, (), context)
    known = _collected(context)
    fields = _fields(known, to_bytes(name))
    if not fields:
        names = ", ".join([device.decode("utf-8", "backslashreplace") for device in _devices(known)])
        raise CommandError(NO, "no data of %s has been collected, only of: %s" % (quote(name), names))
    if to_bytes(option) in fields:
        context.write(fields[to_bytes(option)] + b"\n")


def _hosts(arguments: "list[str]", context: "Context") -> None:
    (path,), _ = parse(arguments, 1, 1, (), context)
    _write_hosts(path, context, {})


def _alias_hosts(arguments: "list[str]", context: "Context") -> None:
    (path,), _ = parse(arguments, 1, 1, (), context)
    aliases = {}
    count = {}  # type: dict[str, int]
    # Numbered in the order of lava-group, which is the same on every device.
    for name, role in context.request("group"):
        count[role] = count.get(role, 0) + 1
        aliases[name.encode()] = ("%s%02d" % (role, count[role])).encode()
    _write_hosts(path, context, aliases)


def _write_hosts(path: str, context: "Context", aliases: "dict[bytes, bytes]") -> None:
    from toolkit.hostsfile import replace_block

    known = _collected(context)
    found = []
    for device in _devices(known):
        fields = _fields(known, device)
        columns = [_address(fields), fields.get(b"hostname-full") or fields.get(b"hostname") or b""]
        # What a device tells is any text: it must not become more than two columns of one line.
        if not all([is_word(column) and b"#" not in column for column in columns]):
            context.warn("%s is left out: it has sent no address or no name" % quote(device))
            continue
        if device in aliases:
            columns.append(aliases[device])
        found.append(b"\t".join(columns) + b"\n")
    replace_block(path, found)


def _address(fields: "dict[bytes, bytes]") -> bytes:
    """Of IPv6 only what is an address on other links too."""
    ipv6 = fields.get(b"ipv6", b"")
    return fields.get(b"ipv4") or (b"" if ipv6.lower().startswith(b"fe80:") else ipv6)


def _collected(context: "Context") -> "list[bytes]":
    known = _cache(context).read()
    if not known:
        raise CommandError(NO, "nothing has been collected yet: use `lava-network collect` first")
    return known


def _is_of(line: bytes, device: bytes) -> bool:
    return line.startswith(device + b":")


def _devices(known: "list[bytes]") -> "list[bytes]":
    """Each once, in the order of the lines."""
    found = []  # type: list[bytes]
    for line in known:
        device = line.partition(b":")[0]
        if device not in found:
            found.append(device)
    return found


def _fields(known: "list[bytes]", device: bytes) -> "dict[bytes, bytes]":
    fields = {}
    for line in known:
        if _is_of(line, device):
            key, _, value = line[len(device) + 1 :].rstrip(b"\n").partition(b"=")
            fields[key] = value
    return fields


_ACTIONS = {
    "broadcast": _broadcast,
    "collect": _collect,
    "query": _query,
    "hosts": _hosts,
    "alias-hosts": _alias_hosts,
}
