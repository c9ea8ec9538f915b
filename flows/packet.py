# SPDX-License-Identifier: Apache-2.0
"""Packets to send through the pipeline: real frames, and what the switch sees in them.

`Packet.parse` takes any frame; the other constructors build one from its two ends. Replies, ICMP errors, fragments and
tagged forms are made from a packet that is there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from flows import conversation, extract, frames, headers, text
from flows.conversation import Conversation
from flows.extract import Seen
from flows.fields import ETH_DST, ETH_SRC, Bits, MatchField
from flows.frames import ICMP6, TCP_FLAGS, Ip

BROADCAST = 0xFFFFFFFFFFFF
#: Identifier and sequence number of an echo request.
_ECHO = b"\x12\x34\0\x01"
_UNREACHABLE = {4: (3, 3), 6: (1, 4)}


@dataclass(frozen=True, slots=True)
class End:
    """One end of a packet: a MAC and an IP address. Behind a router, the MAC is the router's."""

    mac: int
    ip: Ip

    @classmethod
    def of(cls, mac: str, ip: str) -> End:
        """From their usual notations."""
        return cls(int(mac.replace(":", ""), 16), ip_address(ip))


_ALL_DHCP = {4: End(BROADCAST, IPv4Address("255.255.255.255")), 6: End(0x333300010002, IPv6Address("ff02::1:2"))}


@dataclass(frozen=True, slots=True)
class Packet:
    """A frame, the match fields that the switch sees in it (`flows.headers`), and what conntrack sees in it."""

    frame: bytes
    headers: int = field(compare=False)
    talk: Conversation | None = field(compare=False, repr=False)
    seen: Seen = field(compare=False, repr=False)

    @classmethod
    def parse(cls, frame: bytes) -> Packet:
        """A frame as the switch sees it."""
        seen = extract.read(frame)
        value = headers.pack(name.eq(number) for name, number in seen.fields.items())[0]
        return cls(frame, value, conversation.of(seen), seen)

    @classmethod
    def ip(cls, a: End, b: End, proto: int, payload: bytes = b"", *, ttl: int = 64) -> Packet:
        """From `a` to `b`, any IP protocol."""
        return cls.parse(frames.ethernet(b.mac, a.mac, *frames.ip(a.ip, b.ip, proto, payload, ttl=ttl)))

    @classmethod
    def tcp(cls, a: End, b: End, dport: int, *, sport: int = 40000, flags: str = "S", payload: bytes = b"") -> Packet:
        """A TCP segment; `flags` are letters of FSRPAU."""
        return cls.ip(a, b, frames.TCP, frames.tcp(a.ip, b.ip, sport, dport, flags, payload))

    @classmethod
    def udp(cls, a: End, b: End, dport: int, *, sport: int = 40000, payload: bytes = b"") -> Packet:
        """A UDP datagram."""
        return cls.ip(a, b, frames.UDP, frames.udp(a.ip, b.ip, sport, dport, payload))

    @classmethod
    def sctp(cls, a: End, b: End, dport: int, *, sport: int = 40000) -> Packet:
        """An SCTP INIT."""
        return cls.ip(a, b, frames.SCTP, frames.sctp(sport, dport))

    @classmethod
    def icmp(cls, a: End, b: End, kind: int = 8, code: int = 0, *, rest: bytes = _ECHO, ttl: int = 64) -> Packet:
        """An ICMP message, or ICMPv6 between IPv6 addresses (where an echo request, 8, is 128)."""
        if b.ip.version == 4:
            return cls.ip(a, b, frames.ICMP, frames.icmp(kind, code, rest), ttl=ttl)
        return cls.icmp6(a, b, 128 if kind == 8 else kind, code, rest=rest, ttl=ttl)

    @classmethod
    def icmp6(cls, a: End, b: End, kind: int, code: int = 0, *, rest: bytes = _ECHO, ttl: int = 64) -> Packet:
        """An ICMPv6 message."""
        return cls.ip(a, b, ICMP6, frames.icmp6(a.ip, b.ip, kind, code, rest), ttl=ttl)

    @classmethod
    def arp(
        cls, a: End, target: Ip | str, *, op: int = 1, dst: int = BROADCAST, tha: int = 0, sha: int | None = None
    ) -> Packet:
        """An ARP message of `a` about `target`; `sha`: another sender MAC in it than the frame's."""
        message = frames.arp(op, a.mac if sha is None else sha, a.ip, tha, IPv4Address(target))
        return cls.parse(frames.ethernet(dst, a.mac, frames.ETH_ARP, message))

    @classmethod
    def rarp(cls, mac: int, *, op: int = 3, sha: int | None = None) -> Packet:
        """The RARP request with which a hypervisor announces a MAC; `sha`: another MAC in it."""
        inside, zero = mac if sha is None else sha, IPv4Address(0)
        message = frames.arp(op, inside, zero, inside, zero)
        return cls.parse(frames.ethernet(BROADCAST, mac, frames.ETH_RARP, message))

    @classmethod
    def solicitation(cls, a: End, target: Ip | str, *, lladdr: int | None = None) -> Packet:
        """A neighbour solicitation to the solicited-node group; `lladdr`: the source link-layer option."""
        wanted = IPv6Address(target)
        low = int(wanted) & 0xFFFFFF
        group = End(0x3333FF000000 | low, IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | low))
        rest = bytes(4) + wanted.packed + frames.lladdr_option(frames.SOURCE_LLADDR, lladdr)
        return cls.icmp6(a, group, frames.NS, rest=rest, ttl=255)

    @classmethod
    def advertisement(cls, a: End, b: End, target: Ip | str, *, lladdr: int | None = None) -> Packet:
        """A neighbour advertisement; `lladdr`: the target link-layer option."""
        rest = b"\x60\0\0\0" + IPv6Address(target).packed + frames.lladdr_option(frames.TARGET_LLADDR, lladdr)
        return cls.icmp6(a, b, frames.NA, rest=rest, ttl=255)

    @classmethod
    def router_advertisement(cls, a: End) -> Packet:
        """A router advertisement to all nodes."""
        nodes = End(0x333300000001, IPv6Address("ff02::1"))
        return cls.icmp6(a, nodes, 134, rest=struct.pack("!BBHII", 64, 0, 1800, 0, 0), ttl=255)

    @classmethod
    def dhcp(cls, a: End, b: End | None = None, *, from_server: bool = False) -> Packet:
        """A DHCP or DHCPv6 message of a client to its server (`b` None: to all of them), or of a server."""
        client, server = (68, 67) if a.ip.version == 4 else (546, 547)
        sport, dport = (server, client) if from_server else (client, server)
        return cls.udp(a, b or _ALL_DHCP[a.ip.version], dport, sport=sport, payload=bytes(240))

    def get(self, of: MatchField | Bits) -> int:
        """The value of a field or of a part of one."""
        return headers.get_bits(self.headers, of) if isinstance(of, Bits) else headers.get(self.headers, of)

    @property
    def ends(self) -> tuple[End, End]:
        """Source and destination of an IP packet."""
        src, dst = (ip_address(address) for address in (self.seen.src, self.seen.dst))
        return End(self.get(ETH_SRC), src), End(self.get(ETH_DST), dst)

    def tagged(self, tci: int = 0) -> Packet:
        """The frame with an 802.1Q tag (VLAN 0: a priority tag)."""
        return self.parse(frames.tagged(self.frame, tci))

    def reply(self, *, flags: str = "SA") -> Packet:
        """What the receiver of a TCP, UDP, SCTP, echo or other IP packet answers."""
        b, a = self.ends
        data, proto = self.seen.payload, self.seen.proto
        if proto in (frames.TCP, frames.UDP, frames.SCTP):
            dport, sport = struct.unpack_from("!HH", data)
            if proto == frames.TCP:
                return self.tcp(a, b, dport, sport=sport, flags=flags)
            return self.udp(a, b, dport, sport=sport) if proto == frames.UDP else self.sctp(a, b, dport, sport=sport)
        if proto == frames.ICMP:
            return self.icmp(a, b, {8: 0, 13: 14, 15: 16}[data[0]], rest=data[4:])
        return self.icmp6(a, b, 129, rest=data[4:]) if proto == ICMP6 else self.ip(a, b, proto, data)

    def error(self, by: End | None = None, kind: int | None = None, code: int = 0) -> Packet:
        """An ICMP error about this packet, by its receiver or by somebody else; by default "port unreachable"."""
        source, receiver = self.ends
        by = by or receiver
        if kind is None:
            kind, code = _UNREACHABLE[by.ip.version]
        quoted = self.seen.header + self.seen.payload[:64]
        return self.icmp(by, source, kind, code, rest=bytes(4) + quoted)

    def follow_up(self, flags: str = "PA") -> Packet:
        """The same TCP segment with other flags; other packets as they are."""
        if self.seen.proto != frames.TCP:
            return self
        at = len(self.frame) - len(self.seen.payload) + 13
        bits = sum(TCP_FLAGS[letter] for letter in flags)
        changed = bytearray(self.frame)
        changed[at] = bits
        changed[at + 3 : at + 5] = b"\0\0"
        data = bytes(changed[at - 13 :])
        total = frames.checksum(frames.pseudo_header(self.seen.src, self.seen.dst, frames.TCP, len(data)) + data)
        changed[at + 3 : at + 5] = total.to_bytes(2, "big")
        return self.parse(bytes(changed))

    def fragments(self, size: int = 1400, ident: int = 1) -> tuple[Packet, ...]:
        """The packet in pieces of `size` bytes (a multiple of 8) behind the IP header."""
        return tuple(map(self.parse, frames.fragments(self.frame, size, ident)))

    def __str__(self) -> str:
        return text.match(headers.unpack(self.headers))


def reassembled(pieces: tuple[Packet, ...]) -> Conversation | None:
    """The conversation of the packet that fragments are pieces of.

    Raises ValueError if they are not all pieces of one packet.
    """
    ordered = sorted(pieces, key=lambda piece: piece.seen.offset)
    at = 0
    for piece in ordered:
        if piece.seen.offset != at or piece.seen.ident != ordered[0].seen.ident:
            raise ValueError(f"not the next piece: {piece}")
        at += len(piece.seen.payload)
    if ordered[-1].seen.more:
        raise ValueError("the last piece is missing")
    first = ordered[0].seen
    payload = b"".join(piece.seen.payload for piece in ordered)
    whole = Seen(src=first.src, dst=first.dst, proto=first.proto, payload=payload, header=first.header)
    return conversation.of(whole)
