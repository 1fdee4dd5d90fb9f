# SPDX-License-Identifier: MIT
"""What the network of isolated devices looks like: one bridge, and an address each on it."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

# 10.0.0.0/8 in the order in which its parts are tried; few people begin with 77.
_SECOND_BYTES = (*range(77, 256), *range(77))
# A unique local one (RFC 4193); the 40 bits were drawn by lot.
_IPV6 = IPv6Network("fd5e:7cb1:93a0::/64")


@dataclass(frozen=True, slots=True)
class Interface:
    """The eth0 of a device."""

    mac: str
    ipv4: IPv4Interface
    ipv6: IPv6Interface


@dataclass(frozen=True, slots=True)
class Network:
    """The bridge's own addresses, which are the devices' default gateways, and the devices' interfaces."""

    gateway_ipv4: IPv4Interface
    gateway_ipv6: IPv6Interface
    interfaces: dict[str, Interface]


def plan_network(names: Sequence[str], routed: Collection[IPv4Network]) -> Network:
    """Addresses for the devices: by their order; MAC addresses: by their names, the same in every run.

    :param routed: what this machine has routes to. Where that is possible, other addresses are taken, so
        that nobody takes one for the other.
    """
    networks = [IPv4Network((f"10.{byte}.0.0", 16)) for byte in _SECOND_BYTES]
    ipv4 = next((net for net in networks if not any(map(net.overlaps, routed))), networks[0])
    macs: set[str] = set()
    interfaces = {}
    for number, name in enumerate(names, start=2):
        mac = _mac(name, macs)
        macs.add(mac)
        interfaces[name] = Interface(
            mac, IPv4Interface((ipv4[number], 16)), IPv6Interface((_IPV6[number], 64))
        )
    return Network(IPv4Interface((ipv4[1], 16)), IPv6Interface((_IPV6[1], 64)), interfaces)


def _mac(name: str, taken: Collection[str]) -> str:
    """A locally administered address that no other device has."""
    digest = name.encode()
    while True:
        digest = hashlib.sha256(digest).digest()
        mac = ":".join(f"{byte:02x}" for byte in b"\x02" + digest[:5])
        if mac not in taken:
            return mac


def routed_networks(table: str) -> list[IPv4Network]:
    """The destinations in the text of /proc/net/route, but for the default route."""
    networks = []
    for line in table.splitlines()[1:]:
        columns = line.split()
        # As the kernel has them in memory, in hexadecimal.
        destination, mask = (bytes.fromhex(columns[index])[::-1] for index in (1, 7))
        if any(mask):
            networks.append(IPv4Network((destination, int.from_bytes(mask, "big").bit_count())))
    return networks
