# SPDX-License-Identifier: Apache-2.0
"""What Open vSwitch sees in a frame: the match fields, in the same order of checks as its flow extraction (lib/flow.c).

A header that is cut off or malformed leaves the fields behind it zero, as in the switch. Of several VLAN tags the outer
one is seen (vlan-limit 1). Fragments are seen as with the fragment mode ``nx-match``: the first piece has its ports.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from flows import fields as f
from flows import frames
from flows.fields import MatchField

FRAGMENT_FIRST, FRAGMENT_LATER = 1, 3
#: What OVS shows as the type of a frame without an ethertype (LLC).
NO_ETHERTYPE = 0x05FF
_HOP_BY_HOP, _ROUTING, _AUTHENTICATION, _OPTIONS = 0, 43, 51, 60
_PORTS = {
    frames.TCP: (20, f.TCP_SRC, f.TCP_DST),
    frames.UDP: (8, f.UDP_SRC, f.UDP_DST),
    frames.SCTP: (12, f.SCTP_SRC, f.SCTP_DST),
}


@dataclass(slots=True)
class Seen:
    """The fields of a frame, and its IP packet's parts: addresses, protocol and what lies behind the IP headers.

    offset (bytes), more, ident: those of a fragment.
    """

    fields: dict[MatchField, int] = field(default_factory=dict)
    src: bytes = b""
    dst: bytes = b""
    proto: int = 0
    header: bytes = b""
    payload: bytes = b""
    offset: int = 0
    more: bool = False
    ident: int = 0
    length: int = 0

    @property
    def is_ip(self) -> bool:
        """True if the frame has a well-formed IP header."""
        return bool(self.src)

    @property
    def is_fragment(self) -> bool:
        """True for a piece of a larger packet."""
        return bool(self.offset or self.more)


def read(frame: bytes) -> Seen:
    """All that OVS sees in a frame (at least 14 bytes)."""
    seen = Seen()
    seen.fields[f.ETH_DST] = int.from_bytes(frame[:6], "big")
    seen.fields[f.ETH_SRC] = int.from_bytes(frame[6:12], "big")
    at = 12
    if frame[12:14] in (b"\x81\x00", b"\x88\xa8") and len(frame) >= 18:
        seen.fields[f.VLAN_TCI] = struct.unpack_from("!H", frame, 14)[0] | 0x1000
        at = 16
    kind, at = _ethertype(frame, at)
    seen.fields[f.ETH_TYPE] = kind
    if kind == frames.ETH_IPV4:
        _ipv4(seen, frame[at:])
    elif kind == frames.ETH_IPV6:
        _ipv6(seen, frame[at:])
    elif kind in (frames.ETH_ARP, frames.ETH_RARP):
        _arp(seen, frame[at:])
    return seen


def _ethertype(frame: bytes, at: int) -> tuple[int, int]:
    kind: int = struct.unpack_from("!H", frame, at)[0]
    if kind >= 0x600:
        return kind, at + 2
    llc = frame[at + 2 : at + 10]
    if len(llc) == 8 and llc[:6] == b"\xaa\xaa\x03\0\0\0":
        snap = int.from_bytes(llc[6:], "big")
        if snap >= 0x600:
            return snap, at + 10
    return NO_ETHERTYPE, at + 2


def _arp(seen: Seen, data: bytes) -> None:
    if len(data) < 28 or data[:6] != b"\0\x01\x08\0\x06\x04":
        return
    op, sha, spa, tha, tpa = struct.unpack_from("!H6s4s6s4s", data, 6)
    seen.fields[f.ARP_OP] = op if op <= 0xFF else 0
    for name, value in ((f.ARP_SHA, sha), (f.ARP_SPA, spa), (f.ARP_THA, tha), (f.ARP_TPA, tpa)):
        seen.fields[name] = int.from_bytes(value, "big")


def _ipv4(seen: Seen, data: bytes) -> None:
    if len(data) < 20:
        return
    head, total = (data[0] & 0xF) * 4, struct.unpack_from("!H", data, 2)[0]
    if not 20 <= head <= total <= len(data):
        return
    ident, words, ttl, proto = struct.unpack_from("!HHBB", data, 4)
    seen.header, seen.payload, seen.proto, seen.length = data[:head], data[head:total], proto, total
    seen.src, seen.dst = data[12:16], data[16:20]
    seen.offset, seen.more, seen.ident = (words & 0x1FFF) * 8, bool(words & 0x2000), ident
    seen.fields |= {
        f.IPV4_SRC: int.from_bytes(seen.src, "big"),
        f.IPV4_DST: int.from_bytes(seen.dst, "big"),
        f.IP_TTL: ttl,
        f.IP_PROTO: proto,
    }
    _fragment(seen)
    if not seen.offset:
        _transport(seen)


def _fragment(seen: Seen) -> None:
    if seen.offset:
        seen.fields[f.IP_FRAG] = FRAGMENT_LATER
    elif seen.more:
        seen.fields[f.IP_FRAG] = FRAGMENT_FIRST


def _ipv6(seen: Seen, data: bytes) -> None:
    if len(data) < 40:
        return
    length: int = struct.unpack_from("!H", data, 4)[0]
    if length + 40 > len(data):
        return
    seen.fields[f.IPV6_SRC] = int.from_bytes(data[8:24], "big")
    seen.fields[f.IPV6_DST] = int.from_bytes(data[24:40], "big")
    inner = _past_extensions(seen, data[6], data[40 : 40 + length])
    if inner is None:
        return
    seen.src, seen.dst, seen.length = data[8:24], data[24:40], 40 + length
    seen.header, seen.payload = data[:40], inner
    seen.fields[f.IP_TTL] = data[7]
    seen.fields[f.IP_PROTO] = frames.FRAGMENT if seen.offset else seen.proto
    _fragment(seen)
    if not seen.offset:
        _transport(seen)


def _past_extensions(seen: Seen, proto: int, data: bytes) -> bytes | None:
    """What lies behind the extension headers; stops at a later fragment; None if one is cut off."""
    while proto in (_HOP_BY_HOP, _ROUTING, _OPTIONS, _AUTHENTICATION, frames.FRAGMENT):
        if len(data) < 8:
            return None
        kind, proto, size = proto, data[0], (data[1] + 1) * 8
        if kind == _AUTHENTICATION:
            size = (data[1] + 2) * 4
        if kind == frames.FRAGMENT:
            size = 8
            words, seen.ident = struct.unpack_from("!HI", data, 2)
            seen.offset, seen.more = words & 0xFFF8, bool(words & 1)
        if len(data) < size:
            return None
        data = data[size:]
        if seen.offset:
            break
    seen.proto = proto
    return data


def _transport(seen: Seen) -> None:
    data, proto = seen.payload, seen.proto
    if proto in _PORTS:
        smallest, src, dst = _PORTS[proto]
        if len(data) >= smallest:
            seen.fields[src], seen.fields[dst] = struct.unpack_from("!HH", data)
            if proto == frames.TCP:
                seen.fields[f.TCP_FLAGS] = struct.unpack_from("!H", data, 12)[0] & 0xFFF
    elif proto == frames.ICMP and len(seen.src) == 4 and len(data) >= 8:
        seen.fields[f.ICMP_TYPE], seen.fields[f.ICMP_CODE] = data[0], data[1]
    elif proto == frames.ICMP6 and len(seen.src) == 16 and len(data) >= 8:
        seen.fields[f.ICMPV6_TYPE], seen.fields[f.ICMPV6_CODE] = data[0], data[1]
        if data[0] in (frames.NS, frames.NA) and data[1] == 0 and len(data) >= 24:
            _neighbour(seen, data[8:])


def _neighbour(seen: Seen, data: bytes) -> None:
    """The target and the link-layer options; an option that stands there twice makes OVS forget all three."""
    found: dict[MatchField, int] = {f.ND_TARGET: int.from_bytes(data[:16], "big")}
    data = data[16:]
    while len(data) >= 8:
        kind, size = data[0], data[1] * 8
        if not size or size > len(data):
            break
        option = {frames.SOURCE_LLADDR: f.ND_SLL, frames.TARGET_LLADDR: f.ND_TLL}.get(kind)
        if option is not None and size == 8:
            if found.get(option):
                return
            found[option] = int.from_bytes(data[2:8], "big")
        data = data[size:]
    seen.fields |= found
