# SPDX-License-Identifier: Apache-2.0
"""ND_GUARD and NEIGHBOUR: what a VM says about itself, and who is asked.

SOURCE_GUARD has checked who sends; here the addresses and MACs *inside* neighbour discovery are held against the
NIC's. OVS reads a link-layer option as zero where it is absent, and all ND fields as zero where it is there twice: so
only what is listed passes. A question reaches the one who is asked and nobody else; announcements leave by the uplink
only. Who has an address that several may hold, they say themselves: a question about it reaches all of them that are
here, and the wire. Its announcement (gratuitous ARP, an advertisement to all nodes) reaches all VMs of the pod, here
and, by the wire, on other hypervisors: otherwise they would go on sending to who had it before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows import fields as f
from flows.bands import Band
from flows.flow import Flow, Load, Output, Terms
from flows.inputs import Audience, Block, Bridge, Ip, Port, Shared
from flows.make import act, drop, go
from flows.meters import Bound, within
from flows.tables import AUDIENCE, DELIVER, ND_GUARD, NEIGHBOUR, Table
from flows.terms import (
    ADVERT,
    ALL_NODES,
    ARP,
    ARP_REQUEST,
    BROADCAST_MAC,
    FOR_VM,
    FOR_WIRE,
    FROM_VM,
    FROM_WIRE,
    GROUP_MAC,
    ICMPV6,
    SOLICIT,
    UNSPECIFIED6,
    announced,
    inside,
    nd_addresses,
    nested_nd,
    rank,
    sender,
    speaks_ipv6,
)

_SOLICITS = (*ICMPV6, f.ICMPV6_TYPE.eq(SOLICIT))
_ADVERTISES = (*ICMPV6, f.ICMPV6_TYPE.eq(ADVERT))
_REQUESTS = (ARP, BROADCAST_MAC, f.ARP_OP.eq(ARP_REQUEST))


def bridge_flows(_: Bridge) -> Iterator[Flow]:
    """Solicitations without an option, and questions about addresses that are not here."""
    terms = (_SOLICITS, UNSPECIFIED6)
    yield drop(ND_GUARD, Band.REFUSE, "duplicate address detection of a foreign address", terms)
    yield drop(ND_GUARD, Band.FIRST, "ND that is malformed", _SOLICITS, f.ND_TARGET.eq(0))
    yield go(ND_GUARD, Band.ALLOW, "asks without its MAC", _SOLICITS, f.ND_SLL.eq(0), to=NEIGHBOUR)
    yield go(NEIGHBOUR, Band.EXCEPT, "to one host", FOR_VM, to=DELIVER)
    yield go(NEIGHBOUR, Band.OTHERWISE, "asked of the wire", FROM_VM, to=DELIVER)


def port_flows(port: Port, bridge: Bridge) -> Iterator[Flow]:
    """A VM's own addresses: it may speak for them, and is asked about them."""
    shared = port.shared
    if speaks_ipv6(port):
        yield from _speaks(port, port.mac, nd_addresses(port), shared)
    for mac, promised in port.nested.items():
        if targets := nested_nd(mac, promised):
            yield from _speaks(port, mac, targets, shared)
    for address in port.held:
        if address.version == 4 and address not in shared:
            about = inside(f.ARP_TPA, address)
            yield _asked(port, address, (_REQUESTS, about))
            note = "probes or announces its own address"
            yield go(NEIGHBOUR, Band.EXCEPT, note, sender(port), ARP, about, to=DELIVER)
    for mac, addresses in port.virtual.items():
        yield from _speaks_virtually(port, mac, addresses)
    for one in port.allowed:
        if one.shared:
            yield _announces(one.network.network_address, port, port.mac, bridge)
        if one.virtual and one.network.version == 6:
            yield _announces(one.network.network_address, port, one.mac, bridge)


def _announces(address: Ip, port: Port, mac: int, bridge: Bridge) -> Flow:
    """A VM tells its pod that it has an address that others may hold, and by which MAC: its NIC's, or a virtual one.

    What ARP says of that, the first table has looked at.
    """
    by_arp = address.version == 4
    exactly: Terms = FOR_WIRE if by_arp else (*ALL_NODES, f.ND_TLL.eq(mac))
    terms = (sender(port), announced(address), exactly)
    told = within(Bound.FRAGMENTS_SENT, port, bridge)
    return go(NEIGHBOUR if by_arp else ND_GUARD, Band.EXCEPT, "announces what it shares", terms, to=AUDIENCE, do=told)


def _speaks(port: Port, mac: int, targets: Iterable[Block], shared: frozenset[Block]) -> Iterator[Flow]:
    """Neighbour discovery by who has this MAC, and these addresses."""
    terms = (sender(port), _SOLICITS, f.ND_SLL.eq(mac))
    yield go(ND_GUARD, Band.ALLOW, "asks with its MAC", terms, to=NEIGHBOUR)
    for own in targets:
        yield from _speaks_for(own, port, mac, asks=NEIGHBOUR if own in shared else DELIVER)
        if own not in shared:
            yield _asked(port, own, (_SOLICITS, GROUP_MAC, inside(f.ND_TARGET, own)))


def _speaks_virtually(port: Port, mac: int, addresses: Iterable[Ip]) -> Iterator[Flow]:
    """Neighbour discovery that names a virtual MAC; the VM says the same of its addresses with its NIC's."""
    for own in addresses:
        if own.version == 6:
            terms = (sender(port), _ADVERTISES, inside(f.ND_TARGET, own), f.ND_TLL.eq(mac))
            yield go(ND_GUARD, Band.ALLOW, "speaks for what it shares", terms, to=DELIVER)
    if any(own.version == 6 for own in addresses):
        yield go(
            ND_GUARD, Band.ALLOW, "asks with a virtual MAC", sender(port), _SOLICITS, f.ND_SLL.eq(mac), to=NEIGHBOUR
        )


def shared_flows(shared: Shared, bridge: Bridge) -> Iterator[Flow]:
    """All that may hold an address are asked who has it."""
    here = tuple(Output(number) for number in shared.ports)
    if shared.address.version == 4:
        asks: Terms = (_REQUESTS, inside(f.ARP_TPA, shared.address))
    else:
        asks = (_SOLICITS, GROUP_MAC, inside(f.ND_TARGET, shared.address))
    wire = tuple(Output(number) for number in bridge.uplinks[:1])
    yield act(NEIGHBOUR, Band.ALLOW, "all that may hold it are asked", asks, FROM_VM, do=(*here, *wire))
    if wire:
        yield act(NEIGHBOUR, Band.ALLOW, "all that may hold it are asked", asks, FROM_WIRE, do=here)


def audience_flows(audience: Audience, bridge: Bridge) -> Iterator[Flow]:
    """All VMs of a pod hear what its VMs announce of the addresses that they share, be they here or elsewhere."""
    here = tuple(map(Output, audience.ports))
    wire = tuple(map(Output, bridge.uplinks[:1]))
    note = "all of the pod are told"
    yield act(AUDIENCE, Band.ALLOW, note, FROM_VM, f.SRC_POD.eq(audience.pod), do=(*here, *wire))
    if wire:
        yield act(AUDIENCE, Band.ALLOW, note, FROM_WIRE, f.DST_POD.eq(audience.pod), do=here)
        for address in audience.addresses:
            terms = (FROM_WIRE, FOR_WIRE, announced(address))
            pod = (Load(f.DST_POD, audience.pod),)
            yield go(NEIGHBOUR, Band.EXCEPT, "announced on another hypervisor", terms, to=AUDIENCE, do=pod)


def _speaks_for(own: Block, port: Port, mac: int, *, asks: Table) -> Iterator[Flow]:
    target = inside(f.ND_TARGET, own)
    detection = (sender(port), _SOLICITS, UNSPECIFIED6, target, f.ND_SLL.eq(0))
    yield go(ND_GUARD, Band.EXCEPT, "duplicate address detection", detection, to=asks)
    for option in (mac, 0):
        terms = (sender(port), _ADVERTISES, target, f.ND_TLL.eq(option))
        yield go(ND_GUARD, Band.ALLOW, "speaks for its own address", terms, to=DELIVER)


def _asked(port: Port, about: Block, question: Terms) -> Flow:
    here = (Load(f.DST_LOCAL, 1), Load(f.OUT_PORT, port.number))
    return go(NEIGHBOUR, rank(about), "the VM is asked", question, to=DELIVER, do=here)
