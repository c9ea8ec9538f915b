# SPDX-License-Identifier: Apache-2.0
"""SOURCE_GUARD, NESTED_GUARD and WIRE_GUARD: may this source say that it is this address?

A VM sends from its own addresses, and from none (0.0.0.0, ::) where a standard asks for it. So does a guest inside it
that has been promised a MAC and addresses, but each of its addresses with its MAC only. A frame from the wire never
comes from an address of a VM that is here: with one conntrack zone it could ride on that VM's connections.
Except through a router: two local VMs in different subnets meet by way of the wire, so IPv4 and IPv6 sources are
checked only where the destination is in the source's own subnet. An address that several NICs may hold is nobody's on
this hypervisor alone, so it may come from the wire too; the MACs of its holders here may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from flows import fields as f
from flows.bands import Band
from flows.fields import Term
from flows.flow import Flow, Terms
from flows.inputs import Block, Bridge, Network, Port
from flows.make import drop, go
from flows.tables import LOCATE, NESTED_GUARD, SOURCE_GUARD, WIRE_GUARD
from flows.terms import (
    ADVERT,
    ARP,
    BROADCAST4,
    FAMILY,
    ICMPV6,
    IPV4,
    IPV6,
    MLD_REPORTS,
    ROUTER_SOLICIT,
    SOLICIT,
    UDP4,
    UNSPECIFIED4,
    UNSPECIFIED6,
    WHOLE,
    destination,
    inside,
    link_local,
    nd_addresses,
    nested_nd,
    networks,
    sender,
    source,
    speaks_ipv6,
)

_DISCOVER = (*UDP4, WHOLE, UNSPECIFIED4, BROADCAST4, f.UDP_SRC.eq(68), f.UDP_DST.eq(67))
#: What a host sends before it has an address: duplicate address detection, router solicitation, MLD reports.
_BEFORE_ADDRESS = (SOLICIT, ROUTER_SOLICIT, *MLD_REPORTS)
_IMPOSSIBLE = networks("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8")


def bridge_flows(bridge: Bridge) -> Iterator[Flow]:
    """Packets without a source address, what is left, and sources that cannot be."""
    yield go(SOURCE_GUARD, Band.ALLOW, "DHCP before an address", _DISCOVER, to=LOCATE)
    for kind in _BEFORE_ADDRESS:
        terms = (*ICMPV6, UNSPECIFIED6, f.ICMPV6_TYPE.eq(kind))
        yield go(SOURCE_GUARD, Band.ALLOW, "ND before an address", terms, to=LOCATE)
        yield go(NESTED_GUARD, Band.ALLOW, "ND before an address", terms, to=LOCATE)
    yield drop(SOURCE_GUARD, Band.OTHERWISE, "IPv4 source not the NIC's", IPV4)
    yield drop(SOURCE_GUARD, Band.OTHERWISE, "IPv6 source not the NIC's", IPV6)
    yield drop(SOURCE_GUARD, Band.OTHERWISE, "ARP sender not the NIC's", ARP)
    if bridge.uplinks:
        yield from _wire_flows()


def _wire_flows() -> Iterator[Flow]:
    for network in _IMPOSSIBLE:
        yield drop(WIRE_GUARD, Band.REFUSE, "impossible source", FAMILY[network.version], source(network))
    for kind in (SOLICIT, ADVERT):  # OVS reads all of its fields as zero where a link-layer option is there twice
        terms = (*ICMPV6, f.ICMPV6_TYPE.eq(kind), f.ND_TARGET.eq(0))
        yield drop(WIRE_GUARD, Band.FIRST, "ND that is malformed", terms)
    detection = (*ICMPV6, UNSPECIFIED6, f.ICMPV6_TYPE.eq(SOLICIT))
    yield go(WIRE_GUARD, Band.EXCEPT, "duplicate address detection", detection, to=LOCATE)
    for protocol in (IPV4, ARP, IPV6):
        yield go(WIRE_GUARD, Band.ALLOW, "from the wire", protocol, to=LOCATE)


def port_flows(port: Port, bridge: Bridge) -> Iterator[Flow]:
    """What a VM may send from, and what others may not."""
    for address in port.own:
        yield go(SOURCE_GUARD, Band.ALLOW, "own address", sender(port), _from(address), to=LOCATE)
        if address.version == 4:
            terms = (ARP, inside(f.ARP_SPA, address))
            yield go(SOURCE_GUARD, Band.ALLOW, "own address in ARP", sender(port), terms, to=LOCATE)
            yield go(SOURCE_GUARD, Band.ALLOW, "ARP probe", sender(port), _probe(address), to=LOCATE)
    if speaks_ipv6(port) and (derived := link_local(port.mac)) not in port.addresses:
        yield go(SOURCE_GUARD, Band.ALLOW, "own link-local address", sender(port), _from(derived), to=LOCATE)
    for mac, promised in port.nested.items():
        yield from _nested(port, mac, promised)
    if bridge.uplinks:
        yield from _claims(port)


def _nested(port: Port, mac: int, promised: tuple[Network, ...]) -> Iterator[Flow]:
    """What a guest inside a VM may send from with its MAC."""
    guest = (sender(port), f.ETH_SRC.eq(mac))
    for network in (*promised, *nested_nd(mac, promised)[-1:]):
        yield go(NESTED_GUARD, Band.ALLOW, "promised to this MAC", guest, _from(network), to=LOCATE)
        if network.version == 4:
            terms = (ARP, inside(f.ARP_SPA, network))
            yield go(NESTED_GUARD, Band.ALLOW, "promised to this MAC, in ARP", guest, terms, to=LOCATE)
            yield go(NESTED_GUARD, Band.ALLOW, "ARP probe", guest, _probe(network), to=LOCATE)


def _probe(block: Block) -> Terms:
    """Asking whether an address is free is for who may have it: others that ask at the same time would give it up."""
    return (ARP, f.ARP_OP.eq(1), f.ARP_SPA.eq(0), inside(f.ARP_TPA, block))


def _from(address: Block) -> tuple[Term, ...]:
    return (FAMILY[address.version], source(address))


def _claims(port: Port) -> Iterator[Flow]:
    """Frames from the wire that claim to be this VM, or a guest inside it."""
    for mac in (port.mac, *port.nested):
        yield drop(WIRE_GUARD, Band.FIRST, "MAC of a VM here, from the wire", f.ETH_SRC.eq(mac))
    for address in (one for one in port.held if one not in port.shared):
        for subnet in _own_subnet(address, port):
            reason = "address of a VM here, from the wire"
            yield drop(WIRE_GUARD, Band.FIRST, reason, _from(address), subnet)
        if address.version == 4:
            reason = "ARP sender of a VM here, from the wire"
            yield drop(WIRE_GUARD, Band.FIRST, reason, ARP, inside(f.ARP_SPA, address))
    guests = (own for mac, promised in port.nested.items() for own in nested_nd(mac, promised))
    for own in (*nd_addresses(port), *guests):
        if own not in port.shared:
            yield from _nd_claims(own, routed=own in port.held)


def _nd_claims(own: Block, *, routed: bool) -> Iterator[Flow]:
    reason = "ND of a VM here, from the wire"
    asks = (*ICMPV6, f.ICMPV6_TYPE.eq(SOLICIT)) if routed else (IPV6,)
    yield drop(WIRE_GUARD, Band.FIRST, reason, asks, source(own))
    yield drop(WIRE_GUARD, Band.FIRST, reason, ICMPV6, f.ICMPV6_TYPE.eq(ADVERT), inside(f.ND_TARGET, own))


def _own_subnet(address: Block, port: Port) -> tuple[tuple[Term, ...], ...]:
    """Destinations to which a packet from `address` crosses no router; all, if its subnet is not known.

    What a VM has been promised outside of its pod's subnets is routed to it, and the VM itself sends to these subnets.
    """
    subnets = [one for one in port.segment.subnets if _within(address, one)]
    if not subnets and isinstance(address, IPv4Network | IPv6Network):
        subnets = [one for one in (*port.segment.subnets, address) if one.version == address.version]
    return tuple((destination(one),) for one in subnets) or ((),)


def _within(address: Block, subnet: Network) -> bool:
    if address.version != subnet.version:
        return False
    if isinstance(address, IPv4Address | IPv6Address):
        return address in subnet
    return address.subnet_of(subnet)  # type: ignore[arg-type]
