# SPDX-License-Identifier: Apache-2.0
"""Conditions that several stages share, by name."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

from flows import fields as f
from flows.bands import Band
from flows.fields import MatchField, Term
from flows.inputs import Block, Ip, Network, Port

IPV4 = f.ETH_TYPE.eq(0x0800)
ARP = f.ETH_TYPE.eq(0x0806)
RARP = f.ETH_TYPE.eq(0x8035)
IPV6 = f.ETH_TYPE.eq(0x86DD)
#: The condition that a packet is of IP version 4 or 6.
FAMILY = {4: IPV4, 6: IPV6}

ICMP_PROTO, TCP_PROTO, UDP_PROTO, ICMPV6_PROTO, SCTP_PROTO = 1, 6, 17, 58, 132
UDP4 = (IPV4, f.IP_PROTO.eq(UDP_PROTO))
UDP6 = (IPV6, f.IP_PROTO.eq(UDP_PROTO))
ICMPV6 = (IPV6, f.IP_PROTO.eq(ICMPV6_PROTO))

FROM_VM = f.SRC_LOCAL.eq(1)
FROM_WIRE = f.SRC_LOCAL.eq(0)
FOR_VM = f.DST_LOCAL.eq(1)
FOR_WIRE = f.DST_LOCAL.eq(0)

GROUP_BIT = 1 << 40
GROUP_MAC = f.ETH_DST.masked(GROUP_BIT, GROUP_BIT)
BROADCAST_MAC = f.ETH_DST.eq(f.ETH_DST.full)
WHOLE = f.IP_FRAG.masked(0, 3)
LATER_FRAGMENT = f.IP_FRAG.masked(3, 3)
FRAGMENT = f.IP_FRAG.masked(1, 1)

UNSPECIFIED4 = f.IPV4_SRC.eq(0)
BROADCAST4 = f.IPV4_DST.eq(f.IPV4_DST.full)
UNSPECIFIED6 = f.IPV6_SRC.eq(0)
LINK_LOCAL = IPv6Network("fe80::/10")
LINK_MULTICAST = IPv6Network("ff02::/16")
#: To all nodes of the link, RFC 4291 and RFC 2464.
ALL_NODES = (f.ETH_DST.eq(0x333300000001), f.IPV6_DST.eq(int(IPv6Address("ff02::1"))))

ARP_REQUEST, ARP_REPLY = 1, 2
#: ICMPv6 types, RFC 4861, RFC 2710 and RFC 3810.
MLD_QUERY, MLD_REPORT, MLD_DONE, ROUTER_SOLICIT, ROUTER_ADVERT, SOLICIT, ADVERT, REDIRECT = range(130, 138)
MLD2_REPORT = 143
MLD_REPORTS = (MLD_REPORT, MLD_DONE, MLD2_REPORT)

_SRC: dict[int, MatchField] = {4: f.IPV4_SRC, 6: f.IPV6_SRC}
_DST: dict[int, MatchField] = {4: f.IPV4_DST, 6: f.IPV6_DST}


def source(of: Block) -> Term:
    """The packet comes from this address or network."""
    return inside(_SRC[of.version], of)


def destination(of: Block) -> Term:
    """The packet goes to this address or network."""
    return inside(_DST[of.version], of)


def inside(field: MatchField, of: Block) -> Term:
    """The field holds this address, or one of this network."""
    if isinstance(of, IPv4Address | IPv6Address):
        return field.eq(int(of))
    return field.prefix(int(of.network_address), of.prefixlen)


def rank(of: Block) -> int:
    """The priority of a flow about this block where blocks of several owners meet: the smaller one wins."""
    if isinstance(of, IPv4Address | IPv6Address) or of.prefixlen == of.max_prefixlen:
        return Band.ALLOW
    return Band.OTHERWISE + 1 + of.prefixlen


def sender(port: Port) -> tuple[Term, ...]:
    """The packet comes from this VM."""
    return _sender(port.number)


@lru_cache(maxsize=64)
def _sender(number: int) -> tuple[Term, ...]:
    """Kept, for half of a port's flows begin with it."""
    return (f.SRC_PORT.eq(number), FROM_VM)


def families(port: Port) -> tuple[Term, ...]:
    """The IP versions of what is behind it, as conditions."""
    return tuple(FAMILY[version] for version in sorted({one.version for one in port.held}))


def icmpv6(kind: int) -> tuple[Term, ...]:
    """ICMPv6 of this type, code 0, in one piece."""
    return (*ICMPV6, WHOLE, f.ICMPV6_TYPE.eq(kind), f.ICMPV6_CODE.eq(0))


def neighbour_discovery(kind: int) -> tuple[Term, ...]:
    """Neighbour or router discovery of this type that has not crossed a router: its hop limit is 255 (RFC 4861)."""
    return (*icmpv6(kind), f.IP_TTL.eq(255))


def announced(address: Ip) -> tuple[Term, ...]:
    """Somebody tells everybody that it has this address: gratuitous ARP, or an unsolicited advertisement."""
    if address.version == 4:
        return (ARP, BROADCAST_MAC, inside(f.ARP_SPA, address), inside(f.ARP_TPA, address))
    return (*ICMPV6, f.ICMPV6_TYPE.eq(ADVERT), inside(f.ND_TARGET, address))


def link_local(mac: int) -> IPv6Address:
    """The link-local address that a host derives from its MAC (modified EUI-64, RFC 4291)."""
    interface = (mac >> 24 << 40 | 0xFFFE << 24 | mac & 0xFFFFFF) ^ 1 << 57
    return IPv6Address(0xFE80 << 112 | interface)


def speaks_ipv6(port: Port) -> bool:
    """True if IPv6 is open for this port: its NIC has an IPv6 address, or its pod an IPv6 subnet."""
    return any(one.version == 6 for one in (*port.own, *port.segment.subnets))


def receiver(port: Port) -> tuple[Term, ...]:
    """The packet comes from the wire to this VM."""
    return (FROM_WIRE, FOR_VM, f.OUT_PORT.eq(port.number))


def nd_addresses(port: Port) -> tuple[Block, ...]:
    """What a VM may announce by neighbour discovery with its NIC's MAC: what it has of IPv6, and its link-local
    address."""
    own = tuple(one for one in port.own if one.version == 6)
    if not speaks_ipv6(port):
        return own
    derived = link_local(port.mac)
    return own if derived in own else (*own, derived)


def nested_nd(mac: int, networks: Iterable[Network]) -> tuple[Block, ...]:
    """The same for a guest inside a VM."""
    own = tuple(one for one in networks if one.version == 6)
    return (*own, link_local(mac)) if own else ()


def networks(*texts: str) -> tuple[Network, ...]:
    """Networks from their text form."""
    return tuple(map(ip_network, texts))
