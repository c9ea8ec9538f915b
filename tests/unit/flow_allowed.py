# SPDX-License-Identifier: Apache-2.0
"""Packets of a VM that has been promised more than its addresses, and of those that would like to have the same."""

from __future__ import annotations

from flows.packet import End, Packet
from flows.terms import link_local
from tests.unit.flow_cast import (
    LISTENER_MAC,
    ROUTER_MAC,
    C,
    Case,
    S,
    U,
    at,
    behind,
    caged,
    client,
    client6,
    end,
    far,
    hop,
    na,
    nagios,
    nodes,
    ns,
    one,
    outside,
    rs,
    server,
    stranger,
    stranger6,
    unicast_ns,
)
from tests.unit.flow_world import AUDIENCE, ELSEWHERE, FAR, GUEST_MAC, HOST, SECOND_MAC, TWIN

H, T = HOST.number, TWIN.number
host, host6, twin, twin6 = end(HOST), end(HOST, version=6), end(TWIN), end(TWIN, version=6)
vip, vip6 = at(HOST.mac, "10.1.0.70"), at(HOST.mac, "fd00:1::70")
twin_vip, twin_vip6 = behind(TWIN.mac, vip), behind(TWIN.mac, vip6)
extra, routed, routed6 = at(HOST.mac, "10.1.0.80"), at(HOST.mac, "10.8.0.5"), at(HOST.mac, "fd00:8::5")
guest, guest6, guests = at(GUEST_MAC, "10.1.0.60"), at(GUEST_MAC, "fd00:1::60"), at(GUEST_MAC, "10.7.0.5")
second = at(SECOND_MAC, "10.1.0.61")
guest_link = End(GUEST_MAC, link_local(GUEST_MAC))
remote_vip, remote_vip6 = behind(LISTENER_MAC, vip), behind(LISTENER_MAC, vip6)
distant, distant6 = (End(LISTENER_MAC, address) for address in ELSEWHERE)
to_a_few, to_itself = at(0x333300000016, "ff02::16"), at(0x333300000001, "fd00:1::70")
outside6 = at(ROUTER_MAC, "2001:db8::7")
near = at(HOST.mac, "10.8.0.6")
sibling = at(LISTENER_MAC, "10.4.0.5")


def nobody(mac: int, version: int = 4) -> End:
    return at(mac, "0.0.0.0" if version == 4 else "::")


def answered(first: Packet, port: int, out: int) -> Case:
    """A connection: the first packet, its answer, and what follows."""
    return hop(first, port, out), hop(first.reply(), out, port), hop(first.follow_up("A"), port, out)


def told(by: int) -> tuple[int, ...]:
    """All VMs of the pod and the wire, but not the one that tells them."""
    return tuple(sorted({*AUDIENCE.ports, U} - {by}))


_PING = Packet.icmp(outside, routed)
CLUSTER_CASES: dict[str, Case] = {
    "ask who has it": one(Packet.arp(client, vip.ip), C, H, U, T),
    "ask who has it, from the wire": one(Packet.arp(stranger, vip.ip), U, H, T),
    "a holder asks who has it": one(Packet.arp(host, vip.ip), H, U, T),
    "a holder announces it": one(Packet.arp(vip, vip.ip), H, *told(H)),
    "its twin announces it": one(Packet.arp(twin_vip, vip.ip), T, *told(T)),
    "a holder announces it by reply": one(Packet.arp(vip, vip.ip, op=2), H, *told(H)),
    "a holder answers another by broadcast": one(Packet.arp(vip, client.ip, op=2), H, U),
    "a holder asks by it": one(Packet.arp(vip, client.ip), H, C),
    "a holder announces it by another message": one(Packet.arp(vip, vip.ip, op=3), H),
    "a holder announces to one": one(Packet.arp(vip, vip.ip, op=2, dst=client.mac), H, C),
    "a holder announces its own address": one(Packet.arp(host, host.ip), H, U),
    "a holder announces its own address by reply": one(Packet.arp(host, host.ip, op=2), H, U),
    "another announces its own address by reply": one(Packet.arp(client, client.ip, op=2), C, U),
    "another answers by broadcast for it": one(Packet.arp(client, vip.ip, op=2), C, U),
    "a holder answers": one(Packet.arp(vip, client.ip, op=2, dst=client.mac), H, C),
    "its twin answers": one(Packet.arp(twin_vip, client.ip, op=2, dst=client.mac), T, C),
    "a holder elsewhere announces it": one(Packet.arp(remote_vip, vip.ip), U, *told(U)),
    "a holder elsewhere announces it by reply": one(Packet.arp(remote_vip, vip.ip, op=2), U, *told(U)),
    "one that is shared elsewhere only": one(Packet.arp(distant, distant.ip), U, *told(U)),
    "one that is shared elsewhere only, by reply": one(Packet.arp(distant, distant.ip, op=2), U, *told(U)),
    "one that is shared elsewhere only, asked for": one(Packet.arp(stranger, distant.ip), U),
    "one that is shared elsewhere only, by a VM here": one(Packet.arp(behind(client.mac, distant), distant.ip), C),
    "one that nobody shares, from the wire": one(Packet.arp(stranger, stranger.ip), U),
    "one that nobody shares, from the wire, by reply": one(Packet.arp(stranger, stranger.ip, op=2), U),
    "a broadcast answer from the wire": one(Packet.arp(stranger, client.ip, op=2), U),
    "a holder announces it from the wire with a MAC here": one(Packet.arp(vip, vip.ip), U),
    "a holder elsewhere answers": one(Packet.arp(remote_vip, client.ip, op=2, dst=client.mac), U, C),
    "a holder is asked again": one(Packet.arp(client, vip.ip, dst=host.mac), C, H),
    "probe": one(Packet.arp(nobody(HOST.mac), vip.ip), H, U, T),
    "another announces it": one(Packet.arp(behind(client.mac, vip), vip.ip), C),
    "another announces it by reply": one(Packet.arp(behind(client.mac, vip), vip.ip, op=2), C),
    "another answers": one(Packet.arp(behind(client.mac, vip), caged.ip, op=2, dst=caged.mac), C),
    "a holder announces it with its twin's MAC": one(Packet.arp(vip, vip.ip, sha=twin.mac), H),
    "a holder as its twin": one(Packet.arp(twin_vip, vip.ip), H),
    "a holder's MAC from the wire": one(Packet.arp(vip, client.ip), U),
    "ask who has it, IPv6": one(ns(client6, vip6, client6.mac), C, H, U, T),
    "ask who has it, from the wire, IPv6": one(ns(stranger6, vip6, stranger6.mac), U, H, T),
    "a holder asks, IPv6": one(ns(host6, vip6, host6.mac), H, U, T),
    "duplicate detection, IPv6": one(ns(nobody(HOST.mac, 6), vip6), H, U, T),
    "another's duplicate detection, IPv6": one(ns(nobody(client.mac, 6), vip6), C),
    "a holder announces it, IPv6": one(na(vip6, nodes, vip6, host.mac), H, *told(H)),
    "a holder announces it from its own address, IPv6": one(na(host6, nodes, vip6, host.mac), H, *told(H)),
    "its twin announces it, IPv6": one(na(twin_vip6, nodes, twin_vip6, twin.mac), T, *told(T)),
    "a holder announces it without its MAC, IPv6": one(na(vip6, nodes, vip6), H, U),
    "a holder announces it with its twin's MAC, IPv6": one(na(vip6, nodes, vip6, twin.mac), H),
    "a holder announces it to a few, IPv6": one(na(vip6, to_a_few, vip6, host.mac), H, U),
    "a holder announces it to itself, by all nodes' MAC, IPv6": one(na(host6, to_itself, vip6, host.mac), H, U),
    "a holder announces its own address, IPv6": one(na(host6, nodes, host6, host.mac), H, U),
    "another announces it, IPv6": one(na(client6, nodes, vip6, client.mac), C),
    "a holder elsewhere announces it, IPv6": one(na(remote_vip6, nodes, vip6, LISTENER_MAC), U, *told(U)),
    "a holder elsewhere announces it to a few, IPv6": one(na(remote_vip6, to_a_few, vip6, LISTENER_MAC), U),
    "one that is shared elsewhere only, IPv6": one(na(distant6, nodes, distant6, LISTENER_MAC), U, *told(U)),
    "one that nobody shares, from the wire, IPv6": one(na(stranger6, nodes, stranger6, LISTENER_MAC), U),
    "a holder answers, IPv6": one(na(vip6, client6, vip6, host.mac), H, C),
    "its twin answers, IPv6": one(na(twin_vip6, client6, twin_vip6, twin.mac), T, C),
    "a holder elsewhere answers, IPv6": one(na(remote_vip6, client6, vip6, LISTENER_MAC), U, C),
    "another answers, IPv6": one(na(client6, stranger6, vip6, client.mac), C),
    "a holder answers with its twin's MAC, IPv6": one(na(vip6, client6, vip6, twin.mac), H),
    "serve": answered(Packet.tcp(client, vip, 80), C, H),
    "serve, IPv6": answered(Packet.tcp(client6, vip6, 80), C, H),
    "serve the wire": answered(Packet.icmp(outside, vip), U, H),
    "a port that its groups do not open": one(Packet.tcp(client, vip, 84), C),
    "its twin's groups open nothing": one(Packet.tcp(client, twin_vip, 80), C),
    "ask from it": answered(Packet.tcp(vip, stranger, 80), H, U),
    "its twin asks from it": answered(Packet.tcp(twin_vip6, stranger6, 80), T, U),
    "another asks from it": one(Packet.tcp(behind(client.mac, vip), stranger, 80), C),
    "another asks from it, IPv6": one(Packet.tcp(behind(client.mac, vip6), stranger6, 80), C),
    "a holder elsewhere asks from it": answered(Packet.tcp(remote_vip, server, 80), U, S),
    "behind another's MAC": one(Packet.tcp(stranger, behind(client.mac, vip), 80), U),
    "VRRP to its twin that lets nobody in": one(Packet.ip(host, twin, 112, bytes(20)), H),
}
NESTED_CASES: dict[str, Case] = {
    "ask for a guest": one(Packet.arp(client, guest.ip), C, H),
    "ask for a guest, from the wire": one(Packet.arp(stranger, guest.ip), U, H),
    "a guest asks": one(Packet.arp(guest, client.ip), H, C),
    "a guest answers": one(Packet.arp(guest, client.ip, op=2, dst=client.mac), H, C),
    "a guest probes": one(Packet.arp(nobody(GUEST_MAC), guest.ip), H, U),
    "a guest announces": one(Packet.arp(guest, guest.ip), H, U),
    "a guest probes what it has not been promised": one(Packet.arp(nobody(GUEST_MAC), server.ip), H),
    "a guest asks as another": one(Packet.arp(behind(GUEST_MAC, server), client.ip), H),
    "a guest asks as its VM": one(Packet.arp(behind(GUEST_MAC, host), client.ip), H),
    "a guest with another's MAC inside": one(Packet.arp(guest, client.ip, sha=server.mac), H),
    "its VM asks as the guest": one(Packet.arp(behind(HOST.mac, guest), client.ip), H),
    "another VM asks as the guest": one(Packet.arp(guest, stranger.ip), C),
    "another VM asks with the guest's address": one(Packet.arp(behind(client.mac, guest), stranger.ip), C),
    "the guest's MAC from the wire": one(Packet.arp(behind(GUEST_MAC, stranger), client.ip), U),
    "the guest's address from the wire": one(Packet.arp(behind(LISTENER_MAC, guest), client.ip), U),
    "a guest is a DHCP client": one(Packet.dhcp(nobody(GUEST_MAC)), H),
    "RARP of a guest": one(Packet.rarp(GUEST_MAC), H),
    "tagged frame of a guest": one(Packet.udp(guest, stranger, 9).tagged(), H),
    "ask for a guest, IPv6": one(ns(client6, guest6, client6.mac), C, H),
    "a guest asks, IPv6": one(ns(guest6, client6, GUEST_MAC), H, C),
    "a guest asks from its link, IPv6": one(ns(guest_link, client6, GUEST_MAC), H, C),
    "a guest answers, IPv6": one(na(guest6, client6, guest6, GUEST_MAC), H, C),
    "a guest is asked for its link, IPv6": one(ns(client6, guest_link, client6.mac), C, H),
    "a guest detects, IPv6": one(ns(nobody(GUEST_MAC, 6), guest6), H, U),
    "a guest detects another's, IPv6": one(ns(nobody(GUEST_MAC, 6), client6), H),
    "a guest looks for routers, IPv6": one(rs(guest_link), H, U),
    "a guest answers for another, IPv6": one(na(guest6, client6, stranger6, GUEST_MAC), H),
    "a guest answers with another's MAC, IPv6": one(na(guest6, client6, guest6, server.mac), H),
    "a guest asks as its VM, IPv6": one(unicast_ns(behind(GUEST_MAC, host6), client6, GUEST_MAC), H),
    "a guest is a router, IPv6": one(Packet.router_advertisement(guest_link), H),
    "the guest's address from the wire, IPv6": one(na(behind(LISTENER_MAC, guest6), client6, guest6, LISTENER_MAC), U),
    "serve from a guest": answered(Packet.tcp(client, guest, 80), C, H),
    "serve from a guest, IPv6": answered(Packet.tcp(client6, guest6, 80), C, H),
    "a port that the groups do not open": one(Packet.tcp(client, guest, 84), C),
    "a guest asks the wire": answered(Packet.tcp(guest, stranger, 80), H, U),
    "a guest behind a guest": answered(Packet.tcp(guests, stranger, 80), H, U),
    "a guest behind a guest serves": answered(Packet.tcp(client, guests, 80), C, H),
    "a guest as another": one(Packet.tcp(behind(GUEST_MAC, server), stranger, 80), H),
    "a second guest serves": answered(Packet.tcp(client, second, 80), C, H),
    "a guest as the second": one(Packet.tcp(behind(GUEST_MAC, second), stranger, 80), H),
    "the second as the guest in ARP": one(Packet.arp(behind(SECOND_MAC, guest), client.ip), H),
    "a guest as its VM": one(Packet.tcp(behind(GUEST_MAC, host), stranger, 80), H),
    "its VM as the guest": one(Packet.tcp(behind(HOST.mac, guest), stranger, 80), H),
    "another VM as the guest": one(Packet.tcp(guest, stranger, 80), C),
    "an unknown MAC of the same VM": one(Packet.tcp(behind(GUEST_MAC + 1, guest), stranger, 80), H),
    "the guest from the wire": one(Packet.tcp(behind(LISTENER_MAC, guest), client, 80), U),
    "to the guest's MAC with another address": one(Packet.tcp(client, behind(GUEST_MAC, stranger), 80), C),
}
ROUTED_CASES: dict[str, Case] = {
    "an extra address": answered(Packet.tcp(client, extra, 80), C, H),
    "ask for it": one(Packet.arp(client, extra.ip), C, H),
    "announce it": one(Packet.arp(extra, extra.ip), H, U),
    "it from the wire": one(Packet.arp(behind(LISTENER_MAC, extra), client.ip), U),
    "send from a network": answered(Packet.tcp(routed, stranger, 80), H, U),
    "send from a network, IPv6": answered(Packet.tcp(routed6, outside6, 80), H, U),
    "ask for one of a network": one(Packet.arp(stranger, routed.ip), U, H),
    "ask for one of a network, IPv6": one(ns(stranger6, routed6, stranger6.mac), U, H),
    "answer for one of a network": one(Packet.arp(routed, client.ip, op=2, dst=client.mac), H, C),
    "to one of a network": answered(Packet.icmp(outside, routed), U, H),
    "to one of a network, IPv6": one(Packet.icmp6(outside6, routed6, 128, rest=bytes(4)), U, H),
    "an error about its connection": (hop(_PING, U, H), hop(_PING.error(), H, U)),
    "an error of another about its connection": (hop(_PING, U, H), hop(_PING.error(by=client), C)),
    "beside the network": one(Packet.tcp(at(HOST.mac, "10.8.1.5"), stranger, 80), H),
    "beside the network, IPv6": one(Packet.tcp(at(HOST.mac, "fd00:8:0:1::5"), stranger6, 80), H),
    "another VM from the network": one(Packet.tcp(behind(client.mac, routed), stranger, 80), C),
    "another VM from the network, IPv6": one(Packet.tcp(behind(client.mac, routed6), stranger6, 80), C),
    "another VM asks from the network": one(Packet.arp(behind(client.mac, routed), stranger.ip), C),
    "the network from the wire": one(Packet.icmp(behind(LISTENER_MAC, routed), server), U),
    "the network from the wire into itself": one(
        Packet.tcp(behind(LISTENER_MAC, routed), at(HOST.mac, "10.8.0.6"), 80), U
    ),
    "the network by way of the router": one(Packet.icmp(behind(ROUTER_MAC, routed), far), U, FAR.number),
    "a peer that is a network": one(Packet.tcp(sibling, server, 12489), U, S),
    "beside that network": one(Packet.tcp(at(LISTENER_MAC, "10.4.1.5"), server, 12489), U),
    "a peer that is an address": one(Packet.tcp(nagios, server, 12489), U, S),
}
ALLOWED = {"cluster": CLUSTER_CASES, "nested": NESTED_CASES, "routed": ROUTED_CASES}
