# SPDX-License-Identifier: MIT
"""What lava-network tells the group of an interface and of the system behind it."""

import _socket
import os

from . import netlink
from .arguments import quote
from .wire.vocabulary import NO, CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RESOLVER = "/etc/resolv.conf"


def find_link(name: str) -> netlink.Link:
    """The interface of that name; raises CommandError where there is none."""
    try:
        links = netlink.links()
    except (AttributeError, OSError) as error:
        # AttributeError: of a Python that was built without netlink.
        raise CommandError(NO, "the network interfaces cannot be read from the kernel: %s" % error) from None
    for link in links:
        if link.name == name:
            return link
    names = ", ".join([link.name for link in links])
    raise CommandError(NO, "there is no network interface %s; there are: %s" % (quote(name), names))


def describe(interface: str, warn: "Callable[[str], None]") -> "list[tuple[bytes, bytes]]":
    """Keys and values of what there is to say; raises CommandError for an interface that is unknown or down."""
    link = find_link(interface)
    if not link.up:
        raise CommandError(NO, "the network interface %s is down: bring it up first" % interface)
    if not link.running:
        warn("%s has no carrier" % interface)
    name = os.uname().nodename
    fields = [("hostname", name), ("hostname-full", full_name(name))]
    try:
        fields += _addresses(link)
    except OSError as error:
        raise CommandError(
            NO, "the kernel does not say what addresses %s has: %s" % (interface, error)
        ) from None
    keys = {key for key, value in fields if value}
    if not keys & {"ipv4", "ipv6"}:
        warn("%s has no address" % interface)
    fields.append(("mac", link.mac))
    fields += [("dns_%d" % number, server) for number, server in enumerate(name_servers(), start=1)]
    return [(key.encode(), os.fsencode(value)) for key, value in fields if value]


def _addresses(link: netlink.Link) -> "list[tuple[str, str]]":
    fields = []
    for ipv4 in netlink.addresses(netlink.IPV4, link.index)[:1]:
        fields += [
            ("ipv4", ipv4.address),
            ("netmask", netlink.netmask(ipv4.prefix)),
            ("broadcast", ipv4.broadcast),
        ]
    for ipv6 in netlink.addresses(netlink.IPV6, link.index)[:1]:
        fields.append(("ipv6", ipv6.address))
    gateway = netlink.default_gateway(netlink.IPV4, link.index) or netlink.default_gateway(
        netlink.IPV6, link.index
    )
    return fields + [("default-gateway", gateway)]


def full_name(name: str) -> str:
    """The host's name with its domain, as `hostname -f` finds it; `name` itself where there is none."""
    if "." in name:
        return name
    try:
        # As bytes: of a str, Python makes IDNA, for which it imports much.
        answers = _socket.getaddrinfo(
            os.fsencode(name), None, 0, _socket.SOCK_STREAM, 0, _socket.AI_CANONNAME
        )
    except OSError:
        return name
    canonical = answers[0][3]
    # Some systems have their own name as another one of localhost: of no use to other hosts.
    return name if canonical.partition(".")[0] in ("", "localhost") else canonical


def name_servers() -> "list[str]":
    try:
        with open(RESOLVER, "rb") as file:
            lines = [line.split() for line in file.read().decode("utf-8", "surrogateescape").splitlines()]
    except OSError:
        return []
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
