# SPDX-License-Identifier: Apache-2.0
"""Packets for the bridge of `flow_world`, each with the ports that it must leave by, and no other.

Unit tests send them through the walker, functional tests through a real switch.
"""

from __future__ import annotations

from flows.packet import BROADCAST, End, Packet
from tests.unit.flow_allowed import ALLOWED
from tests.unit.flow_cast import (
    HOP_LIMIT,
    LISTENER_MAC,
    ROUTER_MAC,
    B,
    C,
    Case,
    F,
    G,
    Hop,
    S,
    U,
    at,
    behind,
    behind_hop_by_hop,
    caged,
    caged6,
    changed,
    client,
    client6,
    dhcp,
    dhcp6,
    everyone,
    far,
    hop,
    link,
    mld,
    na,
    nagios,
    nagios6,
    nobody,
    nobody6,
    nodes,
    ns,
    one,
    outside,
    partner,
    partner6,
    rarp,
    raw,
    router_link,
    rs,
    secondary,
    server,
    server6,
    stranger,
    stranger6,
    twice,
    unicast_ns,
)
from tests.unit.flow_virtual import VIRTUAL_CASES
from tests.unit.flow_world import BLANK, CLIENT, FAR, SERVER

ARP: dict[str, Case] = {
    "ask a VM here": one(Packet.arp(client, server.ip), C, S),
    "ask for a secondary address": one(Packet.arp(client, secondary.ip), C, S),
    "ask the wire": one(Packet.arp(client, stranger.ip), C, U),
    "ask one host here again": one(Packet.arp(client, server.ip, dst=server.mac), C, S),
    "ask one host on the wire again": one(Packet.arp(client, stranger.ip, dst=stranger.mac), C, U),
    "answer a VM here": one(Packet.arp(server, client.ip, op=2, dst=client.mac, tha=client.mac), S, C),
    "answer the wire": one(Packet.arp(server, stranger.ip, op=2, dst=stranger.mac), S, U),
    "probe its own address": one(Packet.arp(nobody, client.ip), C, U),
    "probe another's address": one(Packet.arp(nobody, server.ip), C),
    "probe another's address, of it alone": one(Packet.arp(nobody, server.ip, dst=server.mac), C),
    "probe no address": one(Packet.arp(nobody, "0.0.0.0"), C),
    "announce by request": one(Packet.arp(client, client.ip), C, U),
    "announce by reply": one(Packet.arp(client, client.ip, op=2), C, U),
    "announce a secondary address": one(Packet.arp(secondary, secondary.ip), S, U),
    "sender address of another": one(Packet.arp(behind(client.mac, server), stranger.ip), C),
    "sender MAC of another": one(Packet.arp(client, stranger.ip, sha=server.mac), C),
    "reply for another": one(Packet.arp(behind(client.mac, server), caged.ip, op=2, dst=caged.mac), C),
    "probe with another's MAC": one(Packet.arp(nobody, client.ip, sha=server.mac), C),
    "reply from nobody": one(Packet.arp(nobody, server.ip, op=2), C),
    "reply from nobody about its own address": one(Packet.arp(nobody, client.ip, op=2), C),
    "odd operation": one(Packet.arp(client, server.ip, op=8), C),
    "to a multicast MAC": one(Packet.arp(client, server.ip, dst=0x01005E000001), C),
    "a VM without address": one(Packet.arp(at(BLANK.mac, "0.0.0.0"), stranger.ip), B),
    "asked from the wire": one(Packet.arp(stranger, client.ip), U, C),
    "asked from the wire by one": one(Packet.arp(stranger, client.ip, dst=client.mac), U, C),
    "answered from the wire": one(Packet.arp(stranger, client.ip, op=2, dst=client.mac), U, C),
    "probed from the wire": one(Packet.arp(at(LISTENER_MAC, "0.0.0.0"), client.ip), U, C),
    "asked from the wire for nobody here": one(Packet.arp(stranger, "10.1.0.200"), U),
    "announced from the wire": one(Packet.arp(stranger, stranger.ip, op=2), U),
    "VM's address from the wire": one(Packet.arp(behind(LISTENER_MAC, server), client.ip), U),
    "VM's MAC from the wire": one(Packet.arp(behind(server.mac, stranger), client.ip), U),
    "RARP with its own MAC": one(Packet.rarp(client.mac), C, U),
    "RARP with another's MAC inside": one(Packet.rarp(client.mac, sha=server.mac), C),
    "RARP from another's MAC": one(rarp(client.mac, sha=server.mac), C),
    "RARP about another's MAC": one(rarp(client.mac, tha=server.mac), C),
    "RARP reply": one(Packet.rarp(client.mac, op=4), C),
    "RARP from the wire": one(Packet.rarp(stranger.mac), U),
    "RARP of a VM without address": one(Packet.rarp(BLANK.mac), B),
}

DISCOVERY: dict[str, Case] = {
    "ask a VM here": one(ns(client6, server6, client6.mac), C, S),
    "ask without option": one(ns(client6, server6), C, S),
    "ask the wire": one(ns(client6, stranger6, client6.mac), C, U),
    "ask for a link-local address": one(ns(link(CLIENT), link(SERVER), client6.mac), C, S),
    "ask one host again": one(unicast_ns(client6, server6, client6.mac), C, S),
    "ask one host on the wire again": one(unicast_ns(client6, stranger6), C, U),
    "ask beyond the subnet": one(unicast_ns(client6, at(ROUTER_MAC, "2001:db8::1")), C),
    "ask with another's option": one(ns(client6, server6, server6.mac), C),
    "ask with options twice": one(twice(ns(client6, server6, client6.mac)), C),
    "ask from another's address": one(ns(behind(client6.mac, caged6), server6, client6.mac), C),
    "ask through a router": one(changed(ns(client6, server6), HOP_LIMIT, b"\x40"), C),
    "detect its own address": one(ns(nobody6, client6), C, U),
    "detect its own link-local address": one(ns(nobody6, link(CLIENT)), C, U),
    "detect another's address": one(ns(nobody6, server6), C),
    "detect with an option": one(ns(nobody6, client6, client6.mac), C),
    "a VM without address detects": one(ns(at(BLANK.mac, "::"), link(BLANK)), B, U),
    "answer a VM here": one(na(server6, client6, server6, server6.mac), S, C),
    "answer without option": one(na(server6, client6, server6), S, C),
    "answer the wire": one(na(server6, stranger6, server6, server6.mac), S, U),
    "answer for its link-local address": one(na(link(SERVER), client6, link(SERVER), server6.mac), S, C),
    "announce": one(na(server6, nodes, server6, server6.mac), S, U),
    "answer for another": one(na(client6, caged6, server6, client6.mac), C),
    "answer with another's MAC": one(na(client6, caged6, client6, server6.mac), C),
    "answer from another's address": one(na(behind(client6.mac, server6), caged6, server6, client6.mac), C),
    "router solicitation": one(rs(link(CLIENT)), C, U),
    "router solicitation from nobody": one(rs(nobody6), C, U),
    "router solicitation of a VM without address": one(rs(link(BLANK)), B, U),
    "router solicitation of another": one(rs(behind(client6.mac, link(SERVER))), C),
    "MLD report": one(mld(link(CLIENT)), C, U),
    "MLD report behind options": one(behind_hop_by_hop(mld(link(CLIENT))), C, U),
    "MLD report from nobody": one(mld(nobody6), C, U),
    "MLD report of another": one(mld(behind(client6.mac, link(SERVER))), C),
    "MLD query": one(mld(link(CLIENT), 130), C),
    "router advertisement of a VM": one(Packet.router_advertisement(link(CLIENT)), C),
    "router advertisement of a VM behind options": one(behind_hop_by_hop(Packet.router_advertisement(link(CLIENT))), C),
    "router advertisement of a VM to one": one(Packet.icmp6(link(CLIENT), link(SERVER), 134, ttl=255), C),
    "redirect of a VM": one(Packet.icmp6(link(CLIENT), server6, 137, ttl=255), C),
    "asked from the wire": one(ns(stranger6, client6, stranger6.mac), U, C),
    "asked from the wire for link-local": one(ns(router_link, link(CLIENT), router_link.mac), U, C),
    "asked from the wire by one": one(unicast_ns(stranger6, client6), U, C),
    "asked from the wire for nobody here": one(ns(stranger6, "fd00:1::200"), U),
    "detected from the wire": one(ns(at(LISTENER_MAC, "::"), client6), U, C),
    "asked from the wire with options twice": one(twice(ns(behind(LISTENER_MAC, server6), client6, LISTENER_MAC)), U),
    "answered from the wire": one(na(stranger6, client6, stranger6, stranger6.mac), U, C),
    "announced from the wire": one(na(stranger6, nodes, stranger6, stranger6.mac), U),
    "VM's address asks from the wire": one(ns(behind(LISTENER_MAC, server6), client6), U),
    "VM's link-local address asks from the wire": one(ns(behind(LISTENER_MAC, link(SERVER)), client6), U),
    "VM's address advertised from the wire": one(na(stranger6, client6, server6, LISTENER_MAC), U),
    "VM's address advertised from the wire with options twice": one(
        twice(na(stranger6, client6, server6, LISTENER_MAC)), U
    ),
    "router advertisement": one(Packet.router_advertisement(router_link), U, C, S, G, F, B),
    "router advertisement to one": one(Packet.icmp6(router_link, link(CLIENT), 134, rest=bytes(12), ttl=255), U, C),
    "router advertisement through a router": one(
        changed(Packet.router_advertisement(router_link), HOP_LIMIT, b"\x40"), U
    ),
    "router advertisement from no link-local": one(Packet.router_advertisement(stranger6), U),
    "redirect from the wire": one(Packet.icmp6(router_link, client6, 137, ttl=255), U),
}

_LEASE = Packet.dhcp(dhcp, everyone, from_server=True)
_BLANK_ASKS = Packet.dhcp(at(BLANK.mac, "0.0.0.0"))
SERVERS: dict[str, Case] = {
    "DHCP request": one(Packet.dhcp(nobody), C, U),
    "DHCP request with its address": one(Packet.dhcp(client), C, U),
    "DHCP request of a VM without address": one(_BLANK_ASKS, B, U),
    "DHCP request from another's address": one(Packet.dhcp(behind(client.mac, server)), C),
    "broadcast lease nobody waits for": one(_LEASE, U),
    "broadcast lease": (hop(Packet.dhcp(nobody), C, U), hop(_LEASE, U, C)),
    "broadcast lease for two": (hop(Packet.dhcp(nobody), C, U), hop(_BLANK_ASKS, B, U), hop(_LEASE, U, C, B)),
    "broadcast lease of a stranger": (
        hop(Packet.dhcp(nobody), C, U),
        hop(Packet.dhcp(stranger, everyone, from_server=True), U),
    ),
    "broadcast lease of another pod": (hop(Packet.dhcp(at(FAR.mac, "0.0.0.0")), F, U), hop(_LEASE, U)),
    "lease": one(Packet.dhcp(dhcp, client, from_server=True), U, C),
    "lease of a stranger": one(Packet.dhcp(stranger, client, from_server=True), U),
    "renewal": (hop(Packet.dhcp(client, dhcp), C, U), hop(Packet.dhcp(dhcp, client, from_server=True), U, C)),
    "renewal where egress is closed": one(Packet.dhcp(caged, dhcp), G, U),
    "renewal with another pod's server": one(Packet.dhcp(far, behind(ROUTER_MAC, dhcp)), F),
    "renewal with a stranger": one(Packet.dhcp(client, stranger), C),
    "request to a VM": one(Packet.dhcp(client, caged), C),
    "broadcast lease of a VM": one(Packet.dhcp(client, everyone, from_server=True), C),
    "lease of a VM": one(Packet.dhcp(client, caged, from_server=True), C),
    "lease of a VM from another port": one(Packet.udp(client, caged, 68), C),
    "DHCPv6 request": one(Packet.dhcp(link(CLIENT)), C, U),
    "DHCPv6 request of a VM without address": one(Packet.dhcp(link(BLANK)), B, U),
    "DHCPv6 request from another's address": one(Packet.dhcp(behind(client.mac, link(SERVER))), C),
    "DHCPv6 request to the server": one(Packet.dhcp(link(CLIENT), dhcp6), C, U),
    "DHCPv6 reply": one(Packet.dhcp(router_link, link(CLIENT), from_server=True), U, C),
    "DHCPv6 reply of the server": one(Packet.dhcp(dhcp6, link(CLIENT), from_server=True), U, C),
    "DHCPv6 reply to another's address": one(
        Packet.dhcp(router_link, behind(CLIENT.mac, link(SERVER)), from_server=True), U
    ),
    "DHCPv6 reply of a VM": one(Packet.dhcp(link(CLIENT), link(SERVER), from_server=True), C),
    "DHCPv6 reply of a VM to its address": one(Packet.dhcp(client6, caged6, from_server=True), C),
    "DHCPv6 renewal": one(Packet.dhcp(client6, dhcp6), C, U),
    "DNS by UDP where egress is closed": (
        hop(Packet.udp(caged, dhcp, 53), G, U),
        hop(Packet.udp(caged, dhcp, 53).reply(), U, G),
    ),
    "DNS by TCP where egress is closed": one(Packet.tcp(caged, dhcp, 53), G, U),
    "DNS by IPv6 where egress is closed": one(Packet.udp(caged6, dhcp6, 53), G, U),
    "DNS to a stranger where egress is closed": one(Packet.udp(caged, stranger, 53), G),
    "DNS to another pod's resolver where egress is closed": one(Packet.udp(caged, at(ROUTER_MAC, "10.2.0.2"), 53), G),
    "another service of the resolver": one(Packet.tcp(caged, dhcp, 80), G),
}

_UDP = Packet.udp(client, server, 9)
STRANGE: dict[str, Case] = {
    "tagged": one(Packet.tcp(client, server, 80).tagged(7), C),
    "priority-tagged": one(Packet.tcp(client, server, 80).tagged(0), C),
    "double-tagged": one(Packet.tcp(client, server, 80).tagged(7).tagged(0), C),
    "tagged ARP from the wire": one(Packet.arp(stranger, client.ip).tagged(0), U),
    "LLC": one(raw(CLIENT.mac, SERVER.mac, 0x26, b"\x42\x42\x03" + bytes(43)), C),
    "LLDP": one(raw(CLIENT.mac, 0x0180C200000E, 0x88CC), C),
    "STP": one(raw(CLIENT.mac, 0x0180C2000000, 0x26, b"\x42\x42\x03" + bytes(43)), C),
    "MLD report to bridges": one(
        Packet.icmp6(link(CLIENT), at(0x0180C200000E, "ff02::16"), 143, rest=bytes(4), ttl=1), C
    ),
    "PPPoE": one(raw(CLIENT.mac, BROADCAST, 0x8863), C),
    "MPLS": one(raw(CLIENT.mac, SERVER.mac, 0x8847), C),
    "MPLS from the wire": one(raw(ROUTER_MAC, CLIENT.mac, 0x8847), U),
    "another's MAC": one(Packet.tcp(behind(SERVER.mac, client), caged, 80), C),
    "group MAC": one(Packet.tcp(behind(CLIENT.mac | 1 << 40, client), server, 80), C),
    "null MAC": one(Packet.tcp(behind(0, client), server, 80), C),
    "another's address": one(Packet.tcp(behind(CLIENT.mac, caged), server, 80), C),
    "a stranger's address": one(Packet.tcp(behind(CLIENT.mac, stranger), server, 80), C),
    "another's IPv6 address": one(Packet.tcp(behind(CLIENT.mac, caged6), server6, 80), C),
    "no address": one(Packet.udp(nobody, stranger, 99), C),
    "data from a link-local address": one(Packet.udp(link(CLIENT), router_link, 99), C),
    "data to a link-local address": one(Packet.udp(client6, router_link, 99), C),
    "data to an unusual link-local address": one(Packet.udp(client6, at(ROUTER_MAC, "febf::1"), 99), C),
    "a VM without address": one(Packet.udp(at(BLANK.mac, "10.1.0.15"), stranger, 99), B),
    "IPv6 where the pod has none": one(rs(link(FAR)), F),
    "IPv6 from nobody where the pod has none": one(rs(at(FAR.mac, "::")), F),
    "broadcast": one(Packet.udp(client, everyone, 99), C),
    "subnet broadcast": one(Packet.udp(client, at(BROADCAST, "10.1.0.255"), 99), C),
    "subnet broadcast to a router": one(Packet.udp(client, at(ROUTER_MAC, "10.1.0.255"), 99), C),
    "multicast": one(Packet.udp(client, at(0x01005E0000FB, "224.0.0.251"), 5353), C),
    "multicast to a router": one(Packet.udp(client, at(ROUTER_MAC, "224.0.0.251"), 5353), C),
    "IGMP": one(Packet.ip(client, at(0x01005E000016, "224.0.0.22"), 2, bytes(16)), C),
    "IPv6 multicast": one(Packet.udp(client6, at(0x3333000000FB, "ff02::fb"), 5353), C),
    "IPv6 multicast to a router": one(Packet.udp(client6, at(ROUTER_MAC, "ff0e::fb"), 5353), C),
    "loopback": one(Packet.udp(client, at(ROUTER_MAC, "127.0.0.1"), 99), C),
    "multicast from the wire": one(Packet.udp(stranger, at(0x01005E0000FB, "224.0.0.251"), 5353), U),
    "broadcast from the wire": one(Packet.udp(stranger, everyone, 99), U),
    "unknown MAC from the wire": one(Packet.tcp(stranger, at(0x02000000AA77, "10.1.0.12"), 80), U),
    "another address behind a VM's MAC": one(Packet.tcp(client, at(SERVER.mac, "10.1.0.9"), 80), C),
    "an allowed address behind a VM's MAC": one(Packet.tcp(caged, at(SERVER.mac, "10.1.0.9"), 80), G),
    "a VM's address behind another VM's MAC": one(Packet.tcp(client, behind(SERVER.mac, caged), 80), C),
    "another address behind a VM's MAC, from the wire": one(Packet.tcp(stranger, at(SERVER.mac, "10.1.0.9"), 80), U),
    "VM's address from the wire": one(Packet.tcp(behind(LISTENER_MAC, client), server, 80), U),
    "VM's IPv6 address from the wire": one(Packet.tcp(behind(LISTENER_MAC, client6), server6, 80), U),
    "VM's MAC from the wire": one(Packet.tcp(behind(CLIENT.mac, stranger), server, 80), U),
    "loopback from the wire": one(Packet.tcp(at(LISTENER_MAC, "127.0.0.1"), server, 80), U),
    "closed port": one(Packet.tcp(client, server, 80), 6),
}


def udp_in(a: End, b: End, port: int, ident: int) -> tuple[Packet, ...]:
    return Packet.udp(a, b, port, payload=bytes(3000)).fragments(1400, ident)


RULES: dict[str, Case] = {
    "a port": one(Packet.tcp(client, server, 80), C, S),
    "the range's end": one(Packet.tcp(client, server, 83), C, S),
    "below the range": one(Packet.tcp(client, server, 79), C),
    "above the range": one(Packet.tcp(client, server, 84), C),
    "another protocol": one(_UDP, C),
    "a secondary address": one(Packet.tcp(client, secondary, 80), C, S),
    "from the wire": one(Packet.tcp(stranger, server, 80), U, S),
    "from outside the CIDR": one(Packet.tcp(outside, server, 80), U),
    "IPv6": one(Packet.tcp(client6, server6, 80), C, S),
    "an IPv4 rule opens no IPv6": one(Packet.tcp(client6, server6, 81), C),
    "a member of a group": one(Packet.tcp(nagios, server, 12489), U, S),
    "a member of a group by IPv6": one(Packet.tcp(nagios6, server6, 12489), U, S),
    "a member of a group, another port": one(Packet.tcp(nagios, server, 12490), U),
    "no member": one(Packet.tcp(stranger, server, 12489), U),
    "a local VM that is no member": one(Packet.tcp(client, server, 12489), C),
    "one of many networks": one(Packet.tcp(partner, server, 1000), U, S),
    "one of many networks, another port": one(Packet.tcp(partner, server, 999), U),
    "one of many networks within another": one(Packet.udp(partner, server, 1000), U, S),
    "none of many networks": one(Packet.tcp(outside, server, 1000), U),
    "closed egress, one of many networks": one(Packet.tcp(caged6, partner6, 1999), G, U),
    "closed egress, one of many networks, another port": one(Packet.tcp(caged6, partner6, 2000), G),
    "ping": (hop(Packet.icmp(outside, server), U, S), hop(Packet.icmp(outside, server).reply(), S, U)),
    "ping by IPv6": one(Packet.icmp(client6, server6), C, S),
    "timestamp request": one(Packet.icmp(client, server, 13), C),
    "GRE": one(Packet.ip(client, server, 47, bytes(8)), C, S),
    "GRE of another": one(Packet.ip(stranger, server, 47, bytes(8)), U),
    "protocol 0": one(Packet.ip(client, server, 0, bytes(8)), C),
    "SCTP": (hop(Packet.sctp(client, server, 5), C, S), hop(Packet.sctp(client, server, 6), C)),
    "anything from one address": one(Packet.udp(client, caged, 1234), C, G),
    "anything from one address by IPv6": one(Packet.udp(client6, caged6, 1234), C),
    "no rule at all": one(Packet.tcp(stranger, client, 22), U),
    "closed egress, allowed": one(Packet.tcp(caged, at(LISTENER_MAC, "10.1.0.9"), 1023), G, U),
    "closed egress, another port": one(Packet.tcp(caged, at(LISTENER_MAC, "10.1.0.9"), 1024), G),
    "closed egress, another address": one(Packet.tcp(caged, server, 80), G),
    "closed egress, IPv6": one(Packet.tcp(caged6, server6, 80), G),
    "closed egress, ping": one(Packet.icmp(caged, outside), G),
    "open egress": one(Packet.udp(client, outside, 4711), C, U),
    "unusual ICMP": one(Packet.icmp(client, outside, 9), C),
    "unusual ICMPv6": one(Packet.icmp6(client6, at(ROUTER_MAC, "2001:db8::1"), 139), C),
}

_SYN = Packet.tcp(client, server, 80)
_OUT = Packet.udp(client, outside, 4711)
_LOCAL = Packet.udp(client, server, 5300)
_ROUTED = Packet.tcp(behind(CLIENT.mac, client), behind(ROUTER_MAC, far), 80)
_ROUTED_IN = Packet.tcp(behind(ROUTER_MAC, client), far, 80)
_BACK = Packet.tcp(far, behind(ROUTER_MAC, client), 40000, sport=80, flags="SA")
_BACK_IN = Packet.tcp(behind(ROUTER_MAC, far), client, 40000, sport=80, flags="SA")
CONNECTIONS: dict[str, Case] = {
    "between VMs": (
        hop(_SYN, C, S), hop(_SYN.reply(), S, C), hop(_SYN.follow_up("A"), C, S), hop(_SYN.follow_up("PA"), C, S)
    ),
    "to the wire": (hop(_OUT, C, U), hop(_OUT.reply(), U, C), hop(_OUT, C, U)),
    "one way": (hop(_LOCAL, C, S), hop(_LOCAL, C, S), hop(_LOCAL, C, S)),
    "answer without question": one(Packet.udp(outside, client, 40000, sport=4711), U),
    "SYN+ACK without question": one(_SYN.reply(), S),
    "answer by another": (hop(_OUT, C, U), hop(Packet.udp(stranger, client, 40000, sport=4711), U)),
    "through the router": (hop(_ROUTED, C, U), hop(_ROUTED_IN, U, F), hop(_BACK, F, U), hop(_BACK_IN, U, C)),
    "through the router, not allowed": (
        hop(Packet.tcp(client, behind(ROUTER_MAC, far), 84), C, U),
        hop(Packet.tcp(behind(ROUTER_MAC, client), far, 84), U),
        hop(Packet.tcp(far, behind(ROUTER_MAC, client), 40000, sport=84, flags="SA"), F),
    ),
    "error of an end": (hop(_LOCAL, C, S), hop(_LOCAL.error(), S, C)),
    "error of a router": (hop(_OUT, C, U), hop(_OUT.error(by=at(ROUTER_MAC, "10.1.0.1")), U, C)),
    "error of a third VM": (hop(_LOCAL, C, S), hop(_LOCAL.error(by=caged), G)),
    "error about nothing": one(_LOCAL.error(), S),
    "error about a refused connection": (hop(_UDP, C), hop(_UDP.error(), S)),
    "redirect": (hop(_OUT, C, U), hop(_OUT.error(by=at(ROUTER_MAC, "10.1.0.1"), kind=5, code=1), U)),
    "source quench": (hop(_OUT, C, U), hop(_OUT.error(by=at(ROUTER_MAC, "10.1.0.1"), kind=4), U)),
}  # fmt: skip


def fragments(ident: int) -> dict[str, Case]:
    """Packets in pieces; a switch keeps pieces for a while, so each run wants identifiers of its own."""
    return {
        "allowed": (Hop(udp_in(client, server, 5300, ident), C, (S,)),),
        "refused": (Hop(udp_in(client, server, 5301, ident + 1), C, ()),),
        "IPv6 refused": (Hop(udp_in(client6, server6, 5300, ident + 2), C, ()),),
        "to the wire": (Hop(udp_in(client, outside, 99, ident + 3), C, (U,)),),
        "from the wire": (Hop(udp_in(stranger, server, 5300, ident + 4), U, (S,)),),
        "IPv6 to the wire": (Hop(udp_in(client6, stranger6, 99, ident + 5), C, (U,)),),
        "from another's address": (Hop(udp_in(behind(CLIENT.mac, caged), server, 5300, ident + 6), C, ()),),
        "lone later piece": (Hop(udp_in(client, server, 5300, ident + 7)[1:], C, ()),),
    }


FRAGMENT_CASES = 8
CASES: dict[str, Case] = {
    f"{section}: {name}": case
    for section, cases in {
        "ARP": ARP, "ND": DISCOVERY, "servers": SERVERS, "strange": STRANGE, "rules": RULES, "connection": CONNECTIONS,
        **ALLOWED, "virtual": VIRTUAL_CASES,
    }.items()
    for name, case in cases.items()
}  # fmt: skip
