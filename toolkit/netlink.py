# SPDX-License-Identifier: MIT
"""What the kernel says of network interfaces, by rtnetlink(7): links, addresses, default routes.

No program is run, so it is the same with iproute2, net-tools, BusyBox or none of them.
"""

import _socket
import errno
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# <linux/netlink.h>
_ROUTE = 0
_REQUEST, _DUMP = 0x01, 0x300
_ERROR, _DONE = 2, 3
_INTERRUPTED_DUMP = 0x10
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_TYPE = 0x3FFF  # of an attribute's type, without its two flags

# <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>: what to ask for, and what is in an answer
_GET_LINK, _GET_ADDRESS, _GET_ROUTE = 18, 22, 26
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE_MESSAGE = struct.Struct(
    "=BBBBBBBBI"
)  # family, prefix length, ..., table, protocol, scope, type, flags
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, hops, index
_LINK_ADDRESS, _LINK_NAME = 1, 3
_ADDRESS_ADDRESS, _ADDRESS_LOCAL, _ADDRESS_BROADCAST, _ADDRESS_FLAGS = 1, 2, 4, 8
_ROUTE_LINK, _ROUTE_GATEWAY, _ROUTE_MULTIPATH = 4, 5, 9
_MAIN_TABLE = 254
_DUPLICATE, _DEPRECATED, _TENTATIVE, _SECONDARY = 0x08, 0x20, 0x40, 0x01

# <linux/if.h>
_UP, _RUNNING = 0x1, 0x40

IPV4, IPV6 = int(_socket.AF_INET), int(_socket.AF_INET6)

# A dump that something changed meanwhile is asked for again, so often.
_TRIES = 10


class Link:
    """A network interface."""

    __slots__ = ("index", "mac", "name", "running", "up")

    def __init__(self, index: int, name: str, flags: int, mac: bytes) -> None:
        self.index = index
        self.name = name
        self.up = bool(flags & _UP)
        self.running = bool(flags & _RUNNING)  # it has a carrier
        self.mac = ":".join(["%02x" % byte for byte in mac])  # "" where it has none


class Address:
    """An address of an interface; `broadcast` is "" where there is none."""

    __slots__ = ("address", "broadcast", "preference", "prefix")

    def __init__(self, address: str, prefix: int, broadcast: str, preference: "tuple[object, ...]") -> None:
        self.address = address
        self.prefix = prefix
        self.broadcast = broadcast
        self.preference = preference  # the address to be named is the least


def links() -> "list[Link]":
    """All interfaces, in the kernel's order. Raises OSError, as the other functions here."""
    found = []
    for body in _dump(_GET_LINK, 0):
        _, _, index, flags, _ = _LINK.unpack_from(body)
        attributes = _attributes(body, _LINK.size)
        name = attributes.get(_LINK_NAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape")
        found.append(Link(index, name, flags, attributes.get(_LINK_ADDRESS, b"")))
    return found


def addresses(family: int, index: int) -> "list[Address]":
    """The addresses of a link, the one to be named first: the widest in scope, and lasting ones before others.

    An address that another host has been found to use is none.
    """
    found = []  # type: list[Address]
    for body in _dump(_GET_ADDRESS, family):
        of_family, prefix, flags, scope, of_index = _ADDRESS.unpack_from(body)
        if (of_family, of_index) != (family, index):
            continue
        attributes = _attributes(body, _ADDRESS.size)
        if _ADDRESS_FLAGS in attributes:
            (flags,) = struct.unpack("=I", attributes[_ADDRESS_FLAGS])
        # Of a point-to-point link, _ADDRESS_ADDRESS is the other end's.
        address = attributes.get(_ADDRESS_LOCAL) or attributes.get(_ADDRESS_ADDRESS)
        if not address or flags & _DUPLICATE:
            continue
        # Of IPv6, _SECONDARY means temporary.
        preference = (scope, bool(flags & (_TENTATIVE | _DEPRECATED)), bool(flags & _SECONDARY), len(found))
        broadcast = _text(family, attributes.get(_ADDRESS_BROADCAST, b""))
        found.append(Address(_text(family, address), prefix, broadcast, preference))
    return sorted(found, key=_preference)


def default_gateway(family: int, index: int) -> str:
    """The gateway of the link's default route with the least metric; else of another link's; "" if there is none."""
    own, others = [], []  # type: tuple[list[bytes], list[bytes]]
    for body in _dump(_GET_ROUTE, family):
        of_family, prefix, _, _, table, _, _, _, _ = _ROUTE_MESSAGE.unpack_from(body)
        if (of_family, prefix, table) != (family, 0, _MAIN_TABLE):
            continue
        attributes = _attributes(body, _ROUTE_MESSAGE.size)
        (link,) = struct.unpack("=i", attributes.get(_ROUTE_LINK, bytes(4)))
        hops = [(link, attributes.get(_ROUTE_GATEWAY, b""))]
        hops += _next_hops(attributes.get(_ROUTE_MULTIPATH, b""))
        for link, gateway in hops:
            if gateway:
                (own if link == index else others).append(gateway)
    # The kernel lists them in the order of their metrics.
    return _text(family, (own + others + [b""])[0])


def netmask(prefix: int) -> str:
    """Of an IPv4 address."""
    return _text(IPV4, (0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF).to_bytes(4, "big"))


def _preference(address: Address) -> "tuple[Any, ...]":
    return address.preference


def _text(family: int, address: bytes) -> str:
    return _socket.inet_ntop(family, address) if address else ""


def _next_hops(data: bytes) -> "Iterator[tuple[int, bytes]]":
    while len(data) >= _NEXT_HOP.size:
        length, _, _, link = _NEXT_HOP.unpack_from(data)
        yield link, _attributes(data[:length], _NEXT_HOP.size).get(_ROUTE_GATEWAY, b"")
        data = data[max(_aligned(length), _NEXT_HOP.size) :]


def _dump(kind: int, family: int) -> "list[bytes]":
    """The bodies of all that the kernel has of a kind."""
    netlink = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _ROUTE)
    try:
        for sequence in range(1, _TRIES + 1):
            body = bytes([family]) + bytes(15)
            netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _DUMP, sequence, 0) + body)
            bodies = _receive(netlink, sequence)
            if bodies is not None:
                return bodies
    finally:
        netlink.close()
    raise OSError(errno.EAGAIN, "the network interfaces change all the time")


def _receive(netlink: "_socket.socket", sequence: int) -> "list[bytes] | None":
    """The answer to a request; None if something changed while the kernel made it."""
    bodies = []  # type: list[bytes]
    consistent = True
    while True:
        data = netlink.recv(1 << 17)
        while len(data) >= _HEADER.size:
            length, kind, flags, of_sequence, _ = _HEADER.unpack_from(data)
            body, data = data[_HEADER.size : length], data[_aligned(length) :]
            if of_sequence != sequence:
                continue
            consistent = consistent and not flags & _INTERRUPTED_DUMP
            if kind == _DONE:
                return bodies if consistent else None
            if kind == _ERROR:
                (number,) = struct.unpack_from("=i", body)
                raise OSError(-number, "the kernel refuses to list its network interfaces")
            bodies.append(body)


def _attributes(data: bytes, offset: int) -> "dict[int, bytes]":
    found = {}
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        found[kind & _TYPE] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += max(_aligned(length), _ATTRIBUTE.size)
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
