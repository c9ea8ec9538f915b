# SPDX-License-Identifier: Apache-2.0
"""VIRTUAL_GUARD, HOLDER and VIRTUAL: the virtual MACs of VRRP (RFC 5798), which move between the NICs of a cluster.

A MAC leads to one port because the flows say so; a virtual MAC leads to where it was heard last, which the switch
itself remembers. So it moves without a controller, and nobody is flooded: what has not been heard is behind the
uplink. Only three things tell where it is: ARP and neighbour advertisements about an address that goes with it, and
the advertisements of VRRP. They come from a NIC that has been promised both, or by the first uplink, where the others
of the cluster are. Each pod has its own, known by its addresses where a frame comes from the wire.

The flow of VIRTUAL is the port's: what is remembered leads nowhere once the promise has been taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address

from flows import fields as f
from flows import learned
from flows.bands import Band
from flows.fields import Term
from flows.flow import Action, Flow, Learn, Load, Match, Output, Resubmit, Terms
from flows.inputs import Bridge, Cluster, Ip, Network, Port, Segment, Virtual
from flows.make import act, go
from flows.meters import Bound, within
from flows.stages.place import here
from flows.tables import HOLDER, LOCATE, SERVICES, VIRTUAL, VIRTUAL_GUARD, WIRE_GUARD
from flows.terms import (
    ADVERT,
    ARP,
    FAMILY,
    FROM_VM,
    FROM_WIRE,
    ICMPV6,
    IPV6,
    LINK_LOCAL,
    SOLICIT,
    destination,
    inside,
    link_local,
    sender,
    source,
)

_VRRP = f.IP_PROTO.eq(112)
#: Where VRRP's advertisements go: 224.0.0.18 and ff02::12.
_ROUTERS = {
    4: (FAMILY[4], _VRRP, f.ETH_DST.eq(0x01005E000012), f.IPV4_DST.eq(0xE0000012)),
    6: (FAMILY[6], _VRRP, f.ETH_DST.eq(0x333300000012), f.IPV6_DST.eq(int(IPv6Address("ff02::12")))),
}


def bridge_flows(_: Bridge) -> Iterator[Flow]:
    """A virtual MAC that nobody here has is behind the uplink, for VMs."""
    nowhere = (Load(f.OUT_PORT, 0), Load(f.DST_POD, 0))
    yield go(VIRTUAL, Band.OTHERWISE, "not at a VM of this hypervisor", FROM_VM, to=SERVICES, do=nowhere)


def port_flows(port: Port, bridge: Bridge) -> Iterator[Flow]:
    """What a VM may send with a virtual MAC, and that it leads to its port if it was heard there."""
    for mac, addresses in port.virtual.items():
        version = addresses[0].version
        holds = (sender(port), f.ETH_SRC.eq(mac))
        yield from _uses(port, mac, addresses, holds)
        told = within(Bound.FRAGMENTS_SENT, port, bridge, _learn(mac, port.segment))
        for own in _speaks_from(port, version):
            says: Terms = (holds, _to_routers(version), source(own))
            yield go(VIRTUAL_GUARD, Band.EXCEPT, "VRRP advertises that it has it", says, to=LOCATE, do=told)
        at = (f.ETH_DST.eq(mac), f.OUT_PORT.eq(port.number), f.DST_POD.eq(port.segment.number))
        yield go(VIRTUAL, Band.ALLOW, "the VM has the virtual MAC", at, to=SERVICES, do=here(port))
        if version == 6 and bridge.uplinks:
            terms = (FROM_WIRE, f.ETH_DST.eq(mac), IPV6, destination(link_local(port.mac)))
            yield go(LOCATE, Band.ALLOW, "to a virtual MAC", terms, to=VIRTUAL, do=_ask(port.segment))


def _speaks_from(port: Port, version: int) -> tuple[Ip, ...]:
    """What VRRP sends from: one of the NIC's IPv4 addresses, or its link-local one."""
    return tuple(one for one in port.addresses if one.version == 4) if version == 4 else (link_local(port.mac),)


def _uses(port: Port, mac: int, addresses: Iterable[Ip], holds: Terms) -> Iterator[Flow]:
    """Packets from an address that goes with it; ARP from there, or an advertisement, says who has it."""
    remember = (_learn(mac, port.segment),)
    note = "says that it has the virtual MAC"
    link = source(link_local(port.mac))
    for address in addresses:
        from_it = (FAMILY[address.version], source(address))
        yield go(VIRTUAL_GUARD, Band.ALLOW, "promised with this virtual MAC", holds, from_it, to=LOCATE)
        if address.version == 4:
            yield go(VIRTUAL_GUARD, Band.ALLOW, note, holds, ARP, inside(f.ARP_SPA, address), to=LOCATE, do=remember)
        else:
            terms = (holds, ICMPV6, source(address), f.ICMPV6_TYPE.eq(ADVERT))
            yield go(VIRTUAL_GUARD, Band.EXCEPT, note, terms, to=LOCATE, do=remember)
    if any(address.version == 6 for address in addresses):  # Linux uses the NIC's own on the virtual interface, too
        for kind, do in ((SOLICIT, ()), (ADVERT, remember)):
            terms = (holds, ICMPV6, link, f.ICMPV6_TYPE.eq(kind))
            yield go(VIRTUAL_GUARD, Band.ALLOW, "neighbour discovery with a virtual MAC", terms, to=LOCATE, do=do)


def virtual_flows(virtual: Virtual, bridge: Bridge) -> Iterator[Flow]:
    """Frames for a virtual MAC, what tells from the wire where it is, and VRRP's advertisements to the others."""
    wire = tuple(map(Output, bridge.uplinks[:1]))
    for cluster in virtual.clusters:
        pod, ports = cluster.pod, tuple(map(Output, cluster.ports))
        for_it = (FROM_VM, f.SRC_POD.eq(pod.number), f.ETH_DST.eq(virtual.mac))
        yield go(LOCATE, Band.ALLOW, "to a virtual MAC", for_it, to=VIRTUAL, do=_ask(pod))
        says = (FROM_VM, f.SRC_POD.eq(pod.number), f.ETH_SRC.eq(virtual.mac), _ROUTERS[_version(cluster)])
        yield act(SERVICES, Band.EXCEPT, "VRRP to the others of the cluster", says, do=(*ports, *wire))
        if wire:
            alone = len(virtual.clusters) == 1
            yield from _wire_flows(virtual.mac, cluster, bridge, alone=alone)


def holders(virtual: Virtual) -> Iterator[Flow]:
    """All flows that a switch may learn of where a virtual MAC is."""
    for cluster in virtual.clusters:
        learn = _learn(virtual.mac, cluster.pod)
        for port in (0, *cluster.ports):
            note = "heard there last" if port else "heard from the wire last"
            yield Flow(
                learn.table, learn.priority, Match.of(learn.match), (Load(f.OUT_PORT, port),), note=note,
                cookie=learn.cookie,
            )  # fmt: skip


def _wire_flows(mac: int, cluster: Cluster, bridge: Bridge, *, alone: bool) -> Iterator[Flow]:
    came = (f.IN_PORT.eq(bridge.uplinks[0]), f.ETH_SRC.eq(mac))
    remember = (_learn(mac, cluster.pod),)
    note = "another hypervisor has the virtual MAC"
    for address in cluster.addresses:
        for terms in _for(address):
            yield go(LOCATE, Band.ALLOW, "to a virtual MAC", FROM_WIRE, f.ETH_DST.eq(mac), terms, to=VIRTUAL,
                     do=_ask(cluster.pod))  # fmt: skip
        if address.version == 4:
            terms = (ARP, f.ARP_SHA.eq(mac), inside(f.ARP_SPA, address))
        else:
            terms = (*ICMPV6, f.ICMPV6_TYPE.eq(ADVERT), inside(f.ND_TARGET, address))
        yield go(WIRE_GUARD, Band.EXCEPT, note, came, terms, to=LOCATE, do=remember)
    to_routers = _to_routers(_version(cluster))
    for network in _routers_of(cluster, alone=alone):
        yield go(WIRE_GUARD, Band.EXCEPT, note, came, to_routers, source(network), to=LOCATE, do=remember)
        says = (FROM_WIRE, f.ETH_SRC.eq(mac), _ROUTERS[network.version], source(network))
        yield act(SERVICES, Band.EXCEPT, "VRRP to those of the cluster", says, do=tuple(map(Output, cluster.ports)))


def _for(address: Ip) -> Iterator[tuple[Term, ...]]:
    """A frame is about this address of the cluster."""
    yield (FAMILY[address.version], destination(address))
    if address.version == 4:
        yield (ARP, inside(f.ARP_TPA, address))


def _routers_of(cluster: Cluster, *, alone: bool) -> tuple[Network, ...]:
    """Where advertisements of a cluster come from; a link-local address does not tell which of several it is of."""
    if _version(cluster) == 6:
        return (LINK_LOCAL,) if alone else ()
    return tuple(subnet for subnet in cluster.pod.subnets if subnet.version == 4)


def _version(cluster: Cluster) -> int:
    return cluster.addresses[0].version


def _to_routers(version: int) -> tuple[Term, ...]:
    """An advertisement of VRRP, by its IP header."""
    return tuple(term for term in _ROUTERS[version] if term.field is not f.ETH_DST)


def _ask(pod: Segment) -> tuple[Action, ...]:
    return (Load(f.DST_POD, pod.number), Resubmit(HOLDER.id))


def _learn(mac: int, pod: Segment) -> Learn:
    """From now on this MAC is, for this pod, where this frame came from: a port, or 0 for the wire."""
    return Learn(
        table=HOLDER.id,
        priority=Band.ALLOW,
        timeout=0,
        cookie=learned.of_holder(mac, pod.number),
        match=(f.ETH_DST.eq(mac), f.DST_POD.eq(pod.number)),
        loads=((f.OUT_PORT, f.SRC_PORT),),
    )
