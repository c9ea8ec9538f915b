# SPDX-License-Identifier: Apache-2.0
"""A hypervisor with one of everything, as values for `flows.pipeline.build`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network

from flows.flow import Flow
from flows.inputs import (
    Allowed,
    Audience,
    Bridge,
    Cluster,
    Connection,
    Fanout,
    Limit,
    Limits,
    Moved,
    Overdrawn,
    Peer,
    Pieces,
    Policy,
    Port,
    Resumed,
    Rule,
    Segment,
    Service,
    Shared,
    Standby,
    Unit,
    Virtual,
)
from flows.pipeline import build

UPLINK = 8
TCP, UDP, ICMP, SCTP, GRE = 6, 17, 1, 132, 47
OPEN, WEB, LOCKED = 0x0A11, 0x3EB, 0x10C
NAGIOS = 0x4A6105

POD = Segment(
    subnets=(ip_network("10.1.0.0/24"), ip_network("fd00:1::/64")),
    dhcp=(ip_address("10.1.0.2"), ip_address("fd00:1::2")),
    dns=(ip_address("10.1.0.2"), ip_address("fd00:1::2")),
)
OTHER_POD = Segment(subnets=(ip_network("10.2.0.0/24"),), dhcp=(ip_address("10.2.0.2"),), dns=(ip_address("10.2.0.2"),))


def mac_of(number: int) -> int:
    return 0x020000000000 | number


def bundle(number: int, proto: int, *cidrs: str) -> tuple[Rule, ...]:
    """Rules that allow ports 1000-1999 to some networks: enough of them to be bundled."""
    return tuple(rule(number + n, Service(proto, 1000, 1999), cidr) for n, cidr in enumerate(cidrs))


def port(number: int, *addresses: str, policy: int = OPEN, segment: Segment = POD) -> Port:
    own = tuple(map(ip_address, addresses))
    return Port(f"nic{number}", number, mac_of(number), own, policy, segment)


def rule(number: int, service: Service, cidr: str | None = None, *identities: int) -> Rule:
    return Rule(number, service, ip_network(cidr) if cidr else None, identities)


LIMITS = Limits(connections=Limit(5000, 10000), fragments=Limit(100, 100), frames=Limit(10, 10))
BRIDGE = Bridge(uplinks=(UPLINK,), limits=LIMITS)
#: A client, whose groups have no egress rules; a web server; a VM that may send to 10.1.0.9 and answer pings; one in
#: another pod, behind the router; one that has no address yet.
CLIENT = port(1, "10.1.0.11", "fd00:1::11")
SERVER = port(2, "10.1.0.12", "10.1.0.99", "fd00:1::12", policy=WEB)
CAGED = port(3, "10.1.0.13", "fd00:1::13", policy=LOCKED)
FAR = port(4, "10.2.0.14", policy=WEB, segment=OTHER_POD)
BLANK = port(5)
#: A VM with guests inside: one has a MAC of its own, others are routed to. It may also hold an address of a cluster,
#: as may its twin.
GUEST_MAC = 0x02_00_00_00_60_01
CLUSTER = tuple(Allowed(ip_network(text), shared=True) for text in ("10.1.0.70", "fd00:1::70"))
OWN_EXTRA = tuple(Allowed(ip_network(text)) for text in ("10.1.0.80", "10.8.0.0/24", "fd00:8::/64"))
NESTED = tuple(Allowed(ip_network(text), GUEST_MAC) for text in ("10.1.0.60", "10.7.0.0/24", "fd00:1::60"))
SECOND_MAC = 0x02_00_00_00_60_09
SECOND = Allowed(ip_network("10.1.0.61"), SECOND_MAC)
HOST = replace(port(6, "10.1.0.16", "fd00:1::16", policy=WEB), allowed=(*CLUSTER, *OWN_EXTRA, *NESTED, SECOND))
TWIN = replace(port(10, "10.1.0.19", "fd00:1::19"), allowed=CLUSTER)
#: A cluster with virtual MACs, and a VM of another pod whose cluster has the same one.
VRRP4, VRRP6 = 0x00_00_5E_00_01_33, 0x00_00_5E_00_02_33
VIRTUALS = (Allowed(ip_network("10.1.0.72"), VRRP4, shared=True), Allowed(ip_network("fd00:1::72"), VRRP6, shared=True))
NODE = replace(port(11, "10.1.0.21", "fd00:1::21", policy=WEB), allowed=VIRTUALS)
MATE = replace(port(12, "10.1.0.22", "fd00:1::22", policy=WEB), allowed=VIRTUALS)
FAR_NODE = replace(
    port(13, "10.2.0.23", policy=WEB, segment=OTHER_POD),
    allowed=(Allowed(ip_network("10.2.0.72"), VRRP4, shared=True),),
)
PORTS = (CLIENT, SERVER, CAGED, FAR, BLANK, HOST, TWIN, NODE, MATE, FAR_NODE)
SHARED = tuple(
    Shared(address, tuple(one.number for one in PORTS if address in one.held or ip_network(address) in one.held))
    for address in (one.network.network_address for one in (*CLUSTER, *VIRTUALS, *FAR_NODE.allowed))
)
VIRTUAL = (
    Virtual(
        VRRP4,
        (
            Cluster(POD, (ip_address("10.1.0.72"),), (NODE.number, MATE.number)),
            Cluster(OTHER_POD, (ip_address("10.2.0.72"),), (FAR_NODE.number,)),
        ),
    ),
    Virtual(VRRP6, (Cluster(POD, (ip_address("fd00:1::72"),), (NODE.number, MATE.number)),)),
)
#: What VMs of the pod share; the last ones are on other hypervisors.
ELSEWHERE = tuple(map(ip_address, ("10.1.0.71", "fd00:1::71")))
AUDIENCE = Audience(
    POD.number,
    (*(one.address for one in SHARED if one.address not in OTHER_POD.subnets[0]), *ELSEWHERE),
    tuple(one.number for one in PORTS if one.segment == POD),
)
FAR_AUDIENCE = Audience(
    OTHER_POD.number, (ip_address("10.2.0.72"),), tuple(one.number for one in PORTS if one.segment == OTHER_POD)
)

POLICIES = (
    Policy(OPEN, egress_open=True),
    Policy(
        WEB,
        egress_open=True,
        ingress=(
            rule(0x80, Service(TCP, 80, 83), "10.1.0.0/16"),
            rule(0x86, Service(TCP, 80, 80), "fd00:1::/64"),
            rule(0x1489, Service(TCP, 12489, 12489), None, NAGIOS),
            rule(0x08, Service(ICMP, icmp_type=8, icmp_code=0), "0.0.0.0/0"),
            rule(0x88, Service(ICMP, icmp_type=128), "::/0"),
            rule(0x53, Service(UDP, 5300, 5300), "10.1.0.0/24"),
            rule(0x84, Service(SCTP, 5, 5), "10.1.0.0/24"),
            rule(0x2F, Service(GRE), "10.1.0.11/32"),
            *bundle(0x31, TCP, "172.16.0.0/16", "172.17.0.0/16", "172.17.9.0/24"),
            *bundle(0x41, UDP, "172.16.0.0/16", "172.17.0.0/16"),
        ),
    ),
    Policy(
        LOCKED,
        egress_open=False,
        egress=(
            rule(0x99, Service(TCP, 1, 1023), "10.1.0.9/32"),
            *bundle(0x91, TCP, "2001:db8:1::/48", "2001:db8:2::/48", "2001:db8:2:9::/64"),
        ),
        ingress=(rule(0x1, Service(), "10.1.0.11/32"),),
    ),
)
PEERS = (
    Peer(ip_address("10.3.0.77"), ingress_identity=NAGIOS),
    Peer(ip_address("fd00:3::77"), egress_identity=7, ingress_identity=NAGIOS),
    Peer(ip_network("10.4.0.0/24"), ingress_identity=NAGIOS),
)
#: What the VM on standby will bring along.
MOVED: tuple[Unit, ...] = (
    Moved("nic7", 7),
    Resumed(
        "nic7",
        7,
        1800000000,
        (
            Connection(TCP, ip_address("10.1.0.17"), ip_address("10.9.0.1"), 80, 40000, 0x80, 1799999990),
            Connection(UDP, ip_address("fd00:1::17"), ip_address("fd00:9::1"), 5000, 53, 0, 1799999980),
            Connection(GRE, ip_address("10.1.0.17"), ip_address("10.9.0.1"), expires=1800000000),
            Connection(ICMP, ip_address("10.1.0.17"), ip_address("10.9.0.1"), ticket=0x71C, expires=1799999999),
            Connection(SCTP, ip_address("fd00:1::17"), ip_address("fd00:9::1"), ticket=0x5C7, opened=True, expires=9),
        ),
        (Pieces(ip_address("10.1.0.17"), ip_address("10.9.0.1"), 0x80, 1800000000),),
    ),
)
#: A VM that has used up its quota of connections.
GREEDY = Overdrawn("nic9", 9, opened=True, accepted=True)
FANOUTS = (Fanout(1, (1, 2)), Fanout(7, (3, 4, 5)))
UNITS: tuple[Unit, ...] = (
    BRIDGE, POD, OTHER_POD, *PORTS, *SHARED, *VIRTUAL, AUDIENCE, FAR_AUDIENCE, Standby("nic7", 7), *MOVED, GREEDY,
    *POLICIES, *PEERS, *FANOUTS,
)  # fmt: skip


def flows_of(units: Iterable[Unit] = UNITS, bridge: Bridge = BRIDGE) -> tuple[Flow, ...]:
    """All flows of a bridge."""
    return tuple(flow for unit in units for flow in build(unit, bridge))
