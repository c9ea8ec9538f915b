# SPDX-License-Identifier: Apache-2.0
"""LOCATE and DESTINATION: who is this frame for?

No flooding: a MAC is a local port's, or it is behind the uplink; only virtual MACs move between ports
(`flows.stages.virtual`). DESTINATION also wants the address to be the NIC's: otherwise a VM whose egress rules name
only one group could reach any neighbour, by writing an address of that group into a frame for the neighbour's MAC.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from flows import fields as f
from flows.bands import Band
from flows.flow import Action, Flow, Load
from flows.inputs import Bridge, Port, Segment
from flows.make import drop, go
from flows.tables import CONNTRACK, DESTINATION, LOCATE, SERVICES
from flows.terms import (
    FAMILY,
    FOR_WIRE,
    FROM_VM,
    FROM_WIRE,
    GROUP_MAC,
    IPV4,
    IPV6,
    LINK_LOCAL,
    destination,
    networks,
    source,
)

#: Multicast, reserved and broadcast, loopback, "this network"; for IPv6 also link-local, which only ND and DHCP use.
_NOT_A_HOST = networks("224.0.0.0/3", "127.0.0.0/8", "0.0.0.0/8", "ff00::/8", "fe80::/10", "::/127")


def bridge_flows(_: Bridge) -> Iterator[Flow]:
    """What is for nobody here, and what never reaches a host."""
    yield go(LOCATE, Band.OTHERWISE, "not to a MAC of this hypervisor", FROM_VM, to=SERVICES)
    yield go(LOCATE, Band.OTHERWISE, "broadcast or multicast from the wire", FROM_WIRE, GROUP_MAC, to=SERVICES)
    for network in _NOT_A_HOST:
        yield drop(DESTINATION, Band.REFUSE, "no host's address", FAMILY[network.version], destination(network))
    yield drop(DESTINATION, Band.REFUSE, "link-local source", IPV6, source(LINK_LOCAL))
    yield go(DESTINATION, Band.OTHERWISE, "to the wire", FROM_VM, FOR_WIRE, to=CONNTRACK)


def pod_flows(pod: Segment) -> Iterator[Flow]:
    """The broadcast addresses of a pod's subnets."""
    for subnet in pod.subnets:
        if isinstance(subnet, IPv4Network) and subnet.prefixlen < 31:
            terms = (FROM_VM, f.SRC_POD.eq(pod.number), IPV4, destination(subnet.broadcast_address))
            yield drop(DESTINATION, Band.REFUSE, "subnet broadcast", terms)


def here(port: Port) -> tuple[Action, ...]:
    """It is for this VM."""
    return (
        Load(f.DST_LOCAL, 1),
        Load(f.OUT_PORT, port.number),
        Load(f.INGRESS_POLICY, port.policy),
        Load(f.DST_POD, port.segment.number),
    )


def port_flows(port: Port) -> Iterator[Flow]:
    """A VM's MAC leads to its port; each of its addresses is behind this MAC, and those of guests inside it, only."""
    to_it = here(port)
    yield go(LOCATE, Band.ALLOW, "to the VM's MAC", f.ETH_DST.eq(port.mac), to=SERVICES, do=to_it)
    for mac in port.nested:
        yield go(LOCATE, Band.ALLOW, "to the MAC of a guest inside the VM", f.ETH_DST.eq(mac), to=SERVICES, do=to_it)
    for address in port.held:
        terms = (f.DST_LOCAL.eq(1), f.OUT_PORT.eq(port.number), FAMILY[address.version], destination(address))
        yield go(DESTINATION, Band.ALLOW, "to the VM's address", terms, to=CONNTRACK)
