# SPDX-License-Identifier: Apache-2.0
"""Frames as bytes: the headers of Ethernet, ARP, IPv4, IPv6 and what they carry, with right lengths and checksums.

Addresses are `ipaddress` values, MACs are integers.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

Ip: TypeAlias = IPv4Address | IPv6Address

ETH_IPV4, ETH_ARP, ETH_RARP, ETH_VLAN, ETH_IPV6 = 0x0800, 0x0806, 0x8035, 0x8100, 0x86DD
ICMP, TCP, UDP, FRAGMENT, ICMP6, SCTP = 1, 6, 17, 44, 58, 132
TCP_FLAGS = {"F": 0x01, "S": 0x02, "R": 0x04, "P": 0x08, "A": 0x10, "U": 0x20}
NS, NA = 135, 136
#: Link-layer options of neighbour discovery.
SOURCE_LLADDR, TARGET_LLADDR = 1, 2


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that contains a right one."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def pseudo_header(src: bytes, dst: bytes, proto: int, length: int) -> bytes:
    """What the checksums of TCP, UDP and ICMPv6 cover besides the segment."""
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, proto, length)
    return src + dst + struct.pack("!I3xB", length, proto)


def ethernet(dst: int, src: int, kind: int, payload: bytes) -> bytes:
    """An Ethernet II frame."""
    return dst.to_bytes(6, "big") + src.to_bytes(6, "big") + struct.pack("!H", kind) + payload


def tagged(frame: bytes, tci: int) -> bytes:
    """The frame with an 802.1Q tag in front of what it carries."""
    return frame[:12] + struct.pack("!HH", ETH_VLAN, tci) + frame[12:]


def ipv4(
    src: bytes,
    dst: bytes,
    proto: int,
    payload: bytes,
    *,
    ttl: int = 64,
    ident: int = 0,
    offset: int = 0,
    more: bool = False,
) -> bytes:
    """An IPv4 packet; `offset` in units of 8 bytes and `more` are those of a fragment."""
    words = offset | (0x2000 if more else 0)
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, words, ttl, proto, 0, src, dst)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(src: bytes, dst: bytes, proto: int, payload: bytes, *, ttl: int = 64) -> bytes:
    """An IPv6 packet."""
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), proto, ttl, src, dst) + payload


def ip(src: Ip, dst: Ip, proto: int, payload: bytes, *, ttl: int = 64) -> tuple[int, bytes]:
    """An IP packet of either family, and its ethertype."""
    if src.version == 4:
        return ETH_IPV4, ipv4(src.packed, dst.packed, proto, payload, ttl=ttl)
    return ETH_IPV6, ipv6(src.packed, dst.packed, proto, payload, ttl=ttl)


def _with_checksum(segment: bytes, place: int, covered_before: bytes = b"") -> bytes:
    return segment[:place] + struct.pack("!H", checksum(covered_before + segment)) + segment[place + 2 :]


def tcp(src: Ip, dst: Ip, sport: int, dport: int, flags: str, payload: bytes = b"") -> bytes:
    """A TCP segment; `flags` are letters of FSRPAU."""
    bits = sum(TCP_FLAGS[letter] for letter in flags)
    segment = struct.pack("!HHIIBBHHH", sport, dport, 1000, 0, 5 << 4, bits, 65535, 0, 0) + payload
    return _with_checksum(segment, 16, pseudo_header(src.packed, dst.packed, TCP, len(segment)))


def udp(src: Ip, dst: Ip, sport: int, dport: int, payload: bytes = b"") -> bytes:
    """A UDP datagram."""
    segment = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    return _with_checksum(segment, 6, pseudo_header(src.packed, dst.packed, UDP, len(segment)))


def sctp(sport: int, dport: int) -> bytes:
    """An SCTP packet with an INIT chunk, without its CRC (which OVS does not look at)."""
    return struct.pack("!HHII", sport, dport, 0, 0) + struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65535, 1, 1, 1)


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    """An ICMP message; `rest` is all behind the checksum."""
    return _with_checksum(struct.pack("!BBH", kind, code, 0) + rest, 2)


def icmp6(src: Ip, dst: Ip, kind: int, code: int, rest: bytes) -> bytes:
    """An ICMPv6 message; `rest` is all behind the checksum."""
    message = struct.pack("!BBH", kind, code, 0) + rest
    return _with_checksum(message, 2, pseudo_header(src.packed, dst.packed, ICMP6, len(message)))


def lladdr_option(kind: int, mac: int | None) -> bytes:
    """A link-layer address option of neighbour discovery, or nothing."""
    return b"" if mac is None else bytes((kind, 1)) + mac.to_bytes(6, "big")


def arp(op: int, sha: int, spa: Ip, tha: int, tpa: Ip) -> bytes:
    """An ARP or RARP message for IPv4 on Ethernet."""
    head = struct.pack("!HHBBH", 1, ETH_IPV4, 6, 4, op)
    return head + sha.to_bytes(6, "big") + spa.packed + tha.to_bytes(6, "big") + tpa.packed


def fragments(frame: bytes, size: int, ident: int) -> list[bytes]:
    """The frame's IP packet in pieces with at most `size` bytes behind the IP header (a multiple of 8)."""
    ethernet_header, kind = frame[:14], struct.unpack_from("!H", frame, 12)[0]
    head = 20 if kind == ETH_IPV4 else 40
    packet, payload = frame[14 : 14 + head], frame[14 + head :]
    starts = range(0, len(payload), size)
    pieces = []
    for start in starts:
        part, more = payload[start : start + size], start != starts[-1]
        if kind == ETH_IPV4:
            piece = ipv4(
                packet[12:16], packet[16:20], packet[9], part, ttl=packet[8], ident=ident, offset=start // 8, more=more
            )
        else:
            header = struct.pack("!BBHI", packet[6], 0, start | more, ident)
            piece = ipv6(packet[8:24], packet[24:40], FRAGMENT, header + part, ttl=packet[7])
        pieces.append(ethernet_header + piece)
    return pieces
