# SPDX-License-Identifier: Apache-2.0
"""Packets of a cluster whose virtual MACs go to who was heard last, and of those that would like to have them."""

from __future__ import annotations

from flows.packet import BROADCAST, End, Packet
from flows.terms import link_local
from tests.unit.flow_allowed import answered, nobody, told
from tests.unit.flow_cast import (
    LISTENER_MAC,
    C,
    Case,
    F,
    Hop,
    U,
    at,
    behind,
    client,
    client6,
    end,
    far,
    hop,
    link,
    mld,
    na,
    nodes,
    ns,
    one,
    outside,
    stranger,
    stranger6,
    unicast_ns,
)
from tests.unit.flow_world import FAR_NODE, MATE, NODE, VRRP4, VRRP6

N, M, O = NODE.number, MATE.number, FAR_NODE.number  # noqa: E741 - as the other ports
node, mate, node6, mate6, other = end(NODE), end(MATE), end(NODE, version=6), end(MATE, version=6), end(FAR_NODE)
vip, vip6, far_vip = at(VRRP4, "10.1.0.72"), at(VRRP6, "fd00:1::72"), at(VRRP4, "10.2.0.72")
with_nic, with_nic6 = behind(NODE.mac, vip), behind(NODE.mac, vip6)
elsewhere, elsewhere6 = at(LISTENER_MAC, "10.1.0.90"), at(LISTENER_MAC, "fe80::90")
all_routers, all_routers6 = at(0x01005E000012, "224.0.0.18"), at(0x333300000012, "ff02::12")
foreign = at(LISTENER_MAC, "10.2.0.90")


def vrrp(mac: int, by: End, to: End = all_routers) -> Packet:
    return Packet.ip(behind(mac, by), to, 112, bytes(20))


def heard(port: int) -> Hop:
    """The IPv4 address is announced by a port."""
    return hop(Packet.arp(vip, vip.ip), port, *told(port))


def heard6(port: int) -> Hop:
    return hop(na(vip6, nodes, vip6, VRRP6), port, *told(port))


_WAYS = {N: (M, U), M: (N, U), U: (N, M)}


def advertised(port: int, by: End) -> Hop:
    """VRRP says so; the others of the cluster hear it."""
    return hop(vrrp(VRRP4, by), port, *sorted(_WAYS[port]))


def advertised6(port: int, by: End) -> Hop:
    return hop(vrrp(VRRP6, by, all_routers6), port, *sorted(_WAYS[port]))


def syn(a: End, b: End) -> Packet:
    return Packet.tcp(a, b, 80)


VIRTUAL_CASES: dict[str, Case] = {
    "not heard yet, from a VM": one(syn(client, vip), C, U),
    "not heard yet, from the wire": one(syn(stranger, vip), U),
    "it is where it announces": (heard(N), hop(syn(client, vip), C, N)),
    "it is where it announces, from the wire": (heard(N), hop(syn(stranger, vip), U, N)),
    "by the router": (heard(N), hop(Packet.icmp(outside, vip), U, N)),
    "it is where it advertises": (advertised(M, mate), hop(syn(client, vip), C, M)),
    "it is where it answers": (
        hop(Packet.arp(vip, client.ip, op=2, dst=client.mac), N, C), hop(syn(client, vip), C, N),
    ),
    "it goes to its mate and back": (
        heard(N), hop(syn(client, vip), C, N), heard(M), hop(syn(client, vip), C, M), advertised(N, node),
        hop(syn(client, vip), C, N),
    ),
    "it goes elsewhere": (heard(N), heard(U), hop(syn(client, vip), C, U), hop(syn(stranger, vip), U)),
    "it goes elsewhere, by advertisement": (heard(N), advertised(U, elsewhere), hop(syn(client, vip), C, U)),
    "it comes from elsewhere": (heard(U), advertised(N, node), hop(syn(client, vip), C, N)),
    "its groups hold": (heard(N), hop(Packet.tcp(client, vip, 84), C)),
    "a connection": (heard(N), *answered(syn(client, vip), C, N)),
    "a connection answered with the NIC's MAC": (
        heard(N), hop(syn(client, vip), C, N), hop(Packet.parse(syn(client, with_nic).reply().frame), N, C),
    ),
    "a connection from it": (heard(N), *answered(Packet.tcp(vip, outside, 80), N, U)),
    "a connection from it with the NIC's MAC": answered(Packet.tcp(with_nic, outside, 80), N, U),
    "the NIC's own address behind it": (heard(N), hop(syn(client, behind(VRRP4, node)), C, N)),
    "another's address behind it": (heard(N), hop(syn(client, behind(VRRP4, mate)), C)),
    "what it sends says nothing": (hop(Packet.tcp(vip, outside, 80), N, U), hop(syn(client, vip), C, U)),
    "to itself": (heard(N), hop(syn(behind(NODE.mac, node), vip), N)),
    "asked by one": (heard(N), hop(Packet.arp(client, vip.ip, dst=VRRP4), C, N)),
    "answered by one": (heard(N), hop(Packet.arp(client, vip.ip, op=2, dst=VRRP4), C, N)),
    "asked by one of the wire": (heard(N), hop(Packet.arp(stranger, vip.ip, dst=VRRP4), U, N)),
    "who has it?": one(Packet.arp(client, vip.ip), C, U, N, M),
    "another claims it": (
        heard(N), hop(Packet.arp(vip, vip.ip), C), hop(Packet.arp(behind(client.mac, vip), vip.ip), C),
        hop(Packet.arp(behind(client.mac, vip), vip.ip, sha=VRRP4), C), hop(vrrp(VRRP4, client), C),
        hop(vrrp(client.mac, client), C), hop(syn(client, vip), C, N),
    ),
    "another sends with it": one(syn(behind(VRRP4, client), outside), C),
    "another MAC inside": (heard(N), hop(Packet.arp(vip, vip.ip, sha=NODE.mac), M), hop(syn(client, vip), C, N)),
    "it claims another's address": (heard(M), hop(Packet.arp(behind(VRRP4, client), client.ip), N),
                                    hop(syn(client, vip), C, M)),
    "it probes": one(Packet.arp(nobody(VRRP4), vip.ip), N),
    "it sends from the NIC's address": one(Packet.tcp(behind(VRRP4, node), outside, 80), N),
    "it sends from another's": one(Packet.tcp(behind(VRRP4, client), outside, 80), N),
    "it advertises from another's": one(vrrp(VRRP4, mate), N),
    "it advertises to somebody": one(vrrp(VRRP4, node, client), N),
    "a NIC advertises with its own MAC": one(vrrp(NODE.mac, node), N),
    "from the wire, of no pod": (heard(N), hop(vrrp(VRRP4, outside), U), hop(syn(client, vip), C, N)),
    "from the wire, with another MAC inside": (
        heard(N), hop(Packet.arp(vip, vip.ip, sha=LISTENER_MAC), U, *told(U)), hop(syn(client, vip), C, N),
    ),
    "another pod has it, too": (
        heard(N), hop(vrrp(VRRP4, other), O, U), hop(Packet.arp(far_vip, far_vip.ip), O, F, U),
        hop(syn(client, vip), C, N), hop(Packet.icmp(far, far_vip), F, O), hop(Packet.icmp(far, vip), F),
        hop(Packet.icmp(foreign, far_vip), U, O), hop(syn(stranger, vip), U, N),
    ),
    "another pod's goes elsewhere": (
        heard(N), hop(Packet.arp(far_vip, far_vip.ip), U, F, O), hop(vrrp(VRRP4, foreign), U, O),
        hop(syn(client, vip), C, N), hop(syn(far, far_vip), F, U),
    ),
    "not heard yet, IPv6": one(syn(client6, vip6), C, U),
    "it is where it announces, IPv6": (heard6(N), hop(syn(client6, vip6), C, N), hop(syn(stranger6, vip6), U, N)),
    "it is where it answers, IPv6": (hop(na(vip6, client6, vip6, VRRP6), N, C), hop(syn(client6, vip6), C, N)),
    "it goes to its mate and back, IPv6": (
        heard6(N), hop(syn(client6, vip6), C, N), advertised6(M, link(MATE)), hop(syn(client6, vip6), C, M),
        heard6(N), hop(syn(client6, vip6), C, N),
    ),
    "it goes elsewhere, IPv6": (heard6(N), heard6(U), hop(syn(client6, vip6), C, U), hop(syn(stranger6, vip6), U)),
    "it goes elsewhere, by advertisement, IPv6": (
        heard6(N), advertised6(U, elsewhere6), hop(syn(client6, vip6), C, U),
    ),
    "a connection, IPv6": (heard6(N), *answered(syn(client6, vip6), C, N)),
    "asked by one, IPv6": (heard6(N), hop(unicast_ns(client6, vip6, client6.mac), C, N)),
    "it asks, IPv6": one(unicast_ns(behind(VRRP6, link(NODE)), client6, VRRP6), N, C),
    "it is answered, IPv6": (
        heard6(N), hop(na(client6, behind(VRRP6, link(NODE)), client6, client6.mac), C, N),
        hop(na(stranger6, behind(VRRP6, link(NODE)), stranger6, LISTENER_MAC), U, N),
    ),
    "who has it, IPv6?": one(ns(client6, vip6, client6.mac), C, U, N, M),
    "another claims it, IPv6": (
        heard6(N), hop(na(vip6, nodes, vip6, VRRP6), C), hop(na(behind(client.mac, vip6), nodes, vip6, VRRP6), C),
        hop(na(client6, nodes, vip6, VRRP6), C), hop(vrrp(VRRP6, client6, all_routers6), C),
        hop(syn(client6, vip6), C, N),
    ),
    "it claims another's, IPv6": (heard6(M), hop(na(vip6, nodes, client6, VRRP6), N)),
    "its derived link-local address": one(
        unicast_ns(End(VRRP6, link_local(VRRP6)), client6, VRRP6), N
    ),
    "it joins groups": one(mld(behind(VRRP6, link(NODE))), N),
    "IPv4 with the MAC of IPv6": one(Packet.arp(behind(VRRP6, vip), vip.ip), N),
    "IPv6 with the MAC of IPv4": one(na(behind(VRRP4, vip6), nodes, vip6, VRRP4), N),
    "everybody": one(Packet.udp(vip, at(BROADCAST, "255.255.255.255"), 9), N),
    "a NIC's MAC with its address": (
        hop(syn(client, with_nic), C, N), hop(Packet.arp(with_nic, vip.ip), N, *told(N)), hop(syn(client, vip), C, U),
    ),
}  # fmt: skip
