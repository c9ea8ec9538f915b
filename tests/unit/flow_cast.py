# SPDX-License-Identifier: Apache-2.0
"""Who talks on the bridge of `flow_world`, and the packets that they are able to make."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import ip_address

from flows import frames
from flows.inputs import Port
from flows.packet import BROADCAST, End, Packet
from flows.terms import link_local
from tests.unit.flow_world import BLANK, CAGED, CLIENT, FAR, SERVER, UPLINK

ALL_NODES = (0x333300000001, "ff02::1")
ALL_ROUTERS = (0x333300000002, "ff02::2")
MLD_GROUP = (0x333300000016, "ff02::16")
LISTENER_MAC = 0x02_00_00_00_AA_01
ROUTER_MAC = 0x02_00_00_00_AA_FE


@dataclass(frozen=True, slots=True)
class Hop:
    """Pieces of one packet that come in by a port, and the ports that each must leave by."""

    pieces: tuple[Packet, ...]
    port: int
    out: tuple[int, ...]


Case = tuple[Hop, ...]


def hop(packet: Packet, port: int, *out: int) -> Hop:
    return Hop((packet,), port, out)


def one(packet: Packet, port: int, *out: int) -> Case:
    return (hop(packet, port, *out),)


def end(port: Port, *, version: int = 4, index: int = 0) -> End:
    """An address of a VM, behind its MAC."""
    return End(port.mac, [a for a in port.addresses if a.version == version][index])


def link(port: Port) -> End:
    """A VM's link-local address."""
    return End(port.mac, link_local(port.mac))


def at(mac: int, address: str) -> End:
    return End(mac, ip_address(address))


def behind(mac: int, of: End) -> End:
    """The same address behind another MAC."""
    return replace(of, mac=mac)


def changed(packet: Packet, offset: int, value: bytes) -> Packet:
    """The frame with other bytes at an offset."""
    frame = packet.frame
    return Packet.parse(frame[:offset] + value + frame[offset + len(value) :])


HOP_LIMIT = 14 + 7

client, server, caged, far = end(CLIENT), end(SERVER), end(CAGED), end(FAR)
secondary = end(SERVER, index=1)
client6, server6, caged6 = (end(port, version=6) for port in (CLIENT, SERVER, CAGED))
stranger, stranger6 = at(LISTENER_MAC, "10.1.0.50"), at(LISTENER_MAC, "fd00:1::50")
outside = at(ROUTER_MAC, "198.51.100.7")
partner, partner6 = at(ROUTER_MAC, "172.17.9.9"), at(ROUTER_MAC, "2001:db8:2::9")
nagios, nagios6 = at(ROUTER_MAC, "10.3.0.77"), at(ROUTER_MAC, "fd00:3::77")
dhcp, dhcp6 = at(LISTENER_MAC, "10.1.0.2"), at(LISTENER_MAC, "fd00:1::2")
router_link = at(ROUTER_MAC, "fe80::1")
nobody, nobody6 = at(CLIENT.mac, "0.0.0.0"), at(CLIENT.mac, "::")
everyone = at(BROADCAST, "255.255.255.255")
nodes, routers, listeners = (at(*pair) for pair in (ALL_NODES, ALL_ROUTERS, MLD_GROUP))
C, S, G, F, B = (port.number for port in (CLIENT, SERVER, CAGED, FAR, BLANK))
U = UPLINK


def ns(a: End, target: End | str, lladdr: int | None = None) -> Packet:
    return Packet.solicitation(a, target if isinstance(target, str) else target.ip, lladdr=lladdr)


def na(a: End, b: End, target: End, lladdr: int | None = None) -> Packet:
    return Packet.advertisement(a, b, target.ip, lladdr=lladdr)


def unicast_ns(a: End, b: End, lladdr: int | None = None) -> Packet:
    rest = bytes(4) + b.ip.packed + frames.lladdr_option(frames.SOURCE_LLADDR, lladdr)
    return Packet.icmp6(a, b, frames.NS, rest=rest, ttl=255)


def rs(a: End) -> Packet:
    return Packet.icmp6(a, routers, 133, rest=bytes(4), ttl=255)


def mld(a: End, kind: int = 143) -> Packet:
    return Packet.icmp6(a, listeners, kind, rest=bytes(4), ttl=1)


def behind_hop_by_hop(packet: Packet) -> Packet:
    """The same IPv6 packet with a hop-by-hop options header in front of its payload."""
    frame = bytearray(packet.frame)
    length = struct.unpack_from("!H", frame, 18)[0]
    struct.pack_into("!H", frame, 18, length + 8)
    header = bytes((frame[20], 0, 1, 4, 0, 0, 0, 0))
    frame[20] = 0
    return Packet.parse(bytes(frame[:54]) + header + bytes(frame[54:]))


def raw(src: int, dst: int, kind: int, payload: bytes = bytes(46)) -> Packet:
    return Packet.parse(frames.ethernet(dst, src, kind, payload))


def rarp(mac: int, *, sha: int | None = None, tha: int | None = None) -> Packet:
    """A RARP request with another MAC in one place."""
    nobody = ip_address("0.0.0.0")
    message = frames.arp(3, mac if sha is None else sha, nobody, mac if tha is None else tha, nobody)
    return raw(mac, BROADCAST, frames.ETH_RARP, message)


def twice(packet: Packet) -> Packet:
    """The same neighbour discovery with its link-layer option, which ends it, there twice."""
    frame = bytearray(packet.frame)
    option = bytes(frame[-8:])
    length = struct.unpack_from("!H", frame, 18)[0]
    struct.pack_into("!H", frame, 18, length + 8)
    return Packet.parse(bytes(frame) + option)
