# SPDX-License-Identifier: Apache-2.0
"""SERVICES, FANOUT and DHCP_WAITING: what makes a network usable, and is not a connection.

ARP, neighbour discovery (ND), multicast listener reports and router advertisements never go through conntrack, which
calls them invalid. Nor does DHCP that is broadcast, multicast or link-local; unicast DHCP is an ordinary connection
that `flows.stages.rules` lets pass. All other broadcasts and multicasts end here.

Port numbers are matched only behind a broadcast or server address, so that they do not split other traffic's
megaflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from flows import fields as f
from flows import learned
from flows.bands import Band
from flows.flow import Action, Flow, Learn, Load, Output, Resubmit
from flows.inputs import FANOUT_CHUNKS, Bridge, Fanout, Port, Segment
from flows.make import act, drop, go
from flows.tables import (
    DELIVER,
    DESTINATION,
    DHCP_WAITING,
    FANOUT,
    ND_GUARD,
    NEIGHBOUR,
    SERVICES,
)
from flows.terms import (
    ADVERT,
    ALL_NODES,
    ARP,
    ARP_REPLY,
    ARP_REQUEST,
    BROADCAST4,
    BROADCAST_MAC,
    FOR_VM,
    FOR_WIRE,
    FROM_VM,
    FROM_WIRE,
    GROUP_MAC,
    ICMPV6,
    IPV4,
    IPV6,
    LINK_LOCAL,
    LINK_MULTICAST,
    MLD2_REPORT,
    MLD_DONE,
    MLD_QUERY,
    MLD_REPORT,
    MLD_REPORTS,
    REDIRECT,
    ROUTER_ADVERT,
    ROUTER_SOLICIT,
    SOLICIT,
    UDP4,
    UDP6,
    UNSPECIFIED6,
    WHOLE,
    destination,
    icmpv6,
    link_local,
    neighbour_discovery,
    networks,
    source,
    speaks_ipv6,
)

#: How long a VM that asked by DHCP gets broadcast replies, seconds; clients repeat themselves every 4 to 64 (RFC 2131).
DHCP_WAIT = 60

_DHCP = (*UDP4, WHOLE, BROADCAST_MAC, BROADCAST4)
_DHCP_ASKS = (*_DHCP, f.UDP_SRC.eq(68), f.UDP_DST.eq(67))
_DHCP_ANSWERS = (*_DHCP, f.UDP_SRC.eq(67), f.UDP_DST.eq(68))
_DHCPV6_ASKS = (*UDP6, WHOLE, f.UDP_SRC.eq(546), f.UDP_DST.eq(547))
_DHCPV6_ANSWERS = (*UDP6, WHOLE, f.UDP_SRC.eq(547), f.UDP_DST.eq(546))
(_ALL_ROUTERS,) = networks("ff02::2/128")
(_DHCPV6_AGENTS,) = networks("ff02::1:2/128")
_FROM_LINK = source(LINK_LOCAL)
_TO_LINK = destination(LINK_LOCAL)
_TO_MULTICAST = destination(LINK_MULTICAST)

#: Only routers and servers send these.
_NEVER_FROM_VM = {ROUTER_ADVERT: "router advertisement", REDIRECT: "redirect", MLD_QUERY: "MLD query"}
#: What remains of these types after the exceptions above has a wrong code, hop limit, destination or sender.
_DISCOVERY = (MLD_QUERY, MLD_REPORT, MLD_DONE, ROUTER_SOLICIT, ROUTER_ADVERT, SOLICIT, ADVERT, REDIRECT, MLD2_REPORT)


def bridge_flows(bridge: Bridge) -> Iterator[Flow]:
    """What every bridge treats as a service, and what it does not."""
    yield from _arp()
    yield from _discovery_from_vm()
    yield from _dhcpv6_from_vm()
    if bridge.uplinks:
        yield from _from_wire()
    for kind in _DISCOVERY:
        reason = "ND or MLD that is malformed or not allowed"
        yield drop(SERVICES, Band.REFUSE, reason, ICMPV6, f.ICMPV6_TYPE.eq(kind))
    yield drop(SERVICES, Band.REFUSE, "broadcast or multicast", GROUP_MAC)
    for family in (IPV4, IPV6):
        yield go(SERVICES, Band.ALLOW, "ordinary packet", family, to=DESTINATION)


def _arp() -> Iterator[Flow]:
    request, reply = (ARP, f.ARP_OP.eq(ARP_REQUEST)), (ARP, f.ARP_OP.eq(ARP_REPLY))
    yield go(SERVICES, Band.EXCEPT, "who has this address?", request, BROADCAST_MAC, to=NEIGHBOUR)
    yield go(SERVICES, Band.EXCEPT, "ARP announcement", reply, BROADCAST_MAC, to=NEIGHBOUR)
    yield go(SERVICES, Band.ALLOW, "ARP request to one host", request, to=DELIVER)
    yield go(SERVICES, Band.ALLOW, "ARP reply", reply, to=DELIVER)


def _discovery_from_vm() -> Iterator[Flow]:
    for kind, name in _NEVER_FROM_VM.items():
        yield drop(SERVICES, Band.FIRST, f"{name} from a VM", FROM_VM, ICMPV6, f.ICMPV6_TYPE.eq(kind))
    for kind in (SOLICIT, ADVERT):
        for scope in (_TO_MULTICAST, _TO_LINK):
            terms = (FROM_VM, neighbour_discovery(kind), scope)
            yield go(SERVICES, Band.EXCEPT, "neighbour discovery", terms, to=ND_GUARD)
    for nobody_yet in (_FROM_LINK, UNSPECIFIED6):
        asks = (FROM_VM, neighbour_discovery(ROUTER_SOLICIT), nobody_yet, destination(_ALL_ROUTERS))
        yield go(SERVICES, Band.EXCEPT, "router solicitation", asks, FOR_WIRE, to=DELIVER)
        for kind in MLD_REPORTS:
            report = (FROM_VM, icmpv6(kind), nobody_yet, _TO_MULTICAST)
            yield go(SERVICES, Band.EXCEPT, "MLD report", report, FOR_WIRE, to=DELIVER)


def _dhcpv6_from_vm() -> Iterator[Flow]:
    asks = (FROM_VM, _DHCPV6_ASKS, _FROM_LINK, destination(_DHCPV6_AGENTS), GROUP_MAC)
    yield go(SERVICES, Band.EXCEPT, "DHCPv6 request", asks, to=DELIVER)


def _from_wire() -> Iterator[Flow]:
    wire = FROM_WIRE
    yield go(SERVICES, Band.EXCEPT, "who has this address?", wire, neighbour_discovery(SOLICIT), to=NEIGHBOUR)
    yield go(SERVICES, Band.EXCEPT, "ND reply", wire, neighbour_discovery(ADVERT), FOR_VM, to=DELIVER)
    announced = (wire, neighbour_discovery(ADVERT), ALL_NODES)
    yield go(SERVICES, Band.EXCEPT, "announcement", announced, FOR_WIRE, to=NEIGHBOUR)
    advert = (wire, neighbour_discovery(ROUTER_ADVERT), _FROM_LINK)
    yield go(SERVICES, Band.EXCEPT, "router advertisement to one VM", advert, FOR_VM, to=DELIVER)
    everybody = (advert, GROUP_MAC, FOR_WIRE, _TO_MULTICAST)
    yield act(SERVICES, Band.EXCEPT, "router advertisement to all VMs", everybody, do=_every_chunk())
    yield act(SERVICES, Band.EXCEPT, "DHCP reply to all who wait", wire, _DHCP_ANSWERS, do=_every_chunk())


def _every_chunk() -> tuple[Action, ...]:
    return tuple(action for chunk in range(FANOUT_CHUNKS) for action in (Load(f.CHUNK, chunk), Resubmit(FANOUT.id)))


def pod_flows(pod: Segment) -> Iterator[Flow]:
    """DHCP between the pod's VMs and its servers, and the reach of its neighbour discovery."""
    here = (FROM_VM, f.SRC_POD.eq(pod.number))
    waits = tuple(_await(server) for server in pod.dhcp if isinstance(server, IPv4Address))
    if waits:
        yield go(SERVICES, Band.EXCEPT, "DHCP request", here, _DHCP_ASKS, to=DELIVER, do=waits)
    for server in pod.dhcp:
        if isinstance(server, IPv6Address):
            asks = (here, _DHCPV6_ASKS, _FROM_LINK, destination(server), FOR_WIRE)
            yield go(SERVICES, Band.EXCEPT, "DHCPv6 request to a server", asks, to=DELIVER)
            answers = (FROM_WIRE, FOR_VM, f.DST_POD.eq(pod.number), _DHCPV6_ANSWERS, source(server), _TO_LINK)
            yield go(SERVICES, Band.EXCEPT, "DHCPv6 reply of a server", answers, to=DELIVER)
    for subnet in pod.subnets:
        for kind in (SOLICIT, ADVERT) if subnet.version == 6 else ():
            terms = (here, neighbour_discovery(kind), destination(subnet))
            yield go(SERVICES, Band.EXCEPT, "neighbour discovery within the subnet", terms, to=ND_GUARD)


def _await(server: IPv4Address) -> Learn:
    return Learn(
        table=DHCP_WAITING.id,
        priority=Band.ALLOW,
        timeout=DHCP_WAIT,
        cookie=learned.DHCP,
        match=(IPV4, f.IPV4_SRC.eq(int(server))),
        copies=((f.OUT_PORT, f.SRC_PORT),),
        output=f.SRC_PORT,
    )


def port_flows(port: Port, bridge: Bridge) -> Iterator[Flow]:
    """DHCPv6 servers and relays answer from their own link-local address, to the VM's."""
    if speaks_ipv6(port) and bridge.uplinks:
        own = destination(link_local(port.mac))
        terms = (FROM_WIRE, FOR_VM, f.OUT_PORT.eq(port.number), _DHCPV6_ANSWERS, _FROM_LINK, own)
        yield go(SERVICES, Band.EXCEPT, "DHCPv6 reply", terms, to=DELIVER)


def fanout_flows(fanout: Fanout) -> Iterator[Flow]:
    """One part of all VMs: router advertisements to each, DHCP replies to those that wait."""
    if not fanout.ports:
        return
    part = f.CHUNK.eq(fanout.chunk)
    everyone = tuple(Output(number) for number in fanout.ports)
    yield act(FANOUT, Band.ALLOW, "router advertisement", part, ICMPV6, do=everyone)
    waiting = tuple(
        action for number in fanout.ports for action in (Load(f.OUT_PORT, number), Resubmit(DHCP_WAITING.id))
    )
    yield act(FANOUT, Band.ALLOW, "DHCP reply", part, UDP4, do=waiting)
