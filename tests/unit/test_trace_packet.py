# SPDX-License-Identifier: Apache-2.0
"""Packets: what the constructors build is what scapy reads, what they derive belongs together."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from flows import fields as f
from flows.packet import End, Packet, reassembled

A, B = (End.of(f"02:00:00:00:00:0{n}", f"10.0.0.{n}") for n in (1, 2))
A6, B6 = (End.of(f"02:00:00:00:00:0{n}", f"2001:db8::{n}") for n in (1, 2))
BOTH = pytest.mark.parametrize(("a", "b"), [(A, B), (A6, B6)], ids=["v4", "v6"])


def rebuilt(packet: Packet) -> bytes:
    """The frame as scapy builds it again with lengths and checksums of its own."""
    layers = Ether(packet.frame)
    for layer in (IP, IPv6, TCP, UDP, ICMP):
        if layer in layers:
            for name in ("len", "plen", "chksum"):
                layers[layer].fields.pop(name, None)
    return bytes(layers)


@BOTH
def test_lengths_and_checksums_are_those_of_scapy(a: End, b: End) -> None:
    packets = [Packet.tcp(a, b, 80), Packet.udp(a, b, 53, payload=b"odd"), Packet.icmp(a, b), Packet.dhcp(a)]
    for packet in [*packets, packets[0].reply(), packets[1].error(), packets[0].follow_up("FA")]:
        assert rebuilt(packet) == packet.frame
        assert packet.talk is not None


def test_what_scapy_reads() -> None:
    assert Ether(Packet.arp(A, B.ip).frame)[ARP].psrc == "10.0.0.1"
    assert Ether(Packet.rarp(A.mac).frame).type == 0x8035
    assert Ether(Packet.solicitation(A6, B6.ip, lladdr=A6.mac).frame)[ICMPv6ND_NS].tgt == "2001:db8::2"
    assert Ether(Packet.advertisement(A6, B6, A6.ip).frame)[ICMPv6ND_NA].tgt == "2001:db8::1"
    assert ICMPv6ND_RA in Ether(Packet.router_advertisement(A6).frame)
    assert Ether(Packet.tcp(A, B, 1).tagged(5).frame)[Dot1Q].vlan == 5


@BOTH
def test_replies_are_the_other_direction(a: End, b: End) -> None:
    ports = (Packet.tcp(a, b, 80), Packet.udp(a, b, 53), Packet.sctp(a, b, 5))
    for packet in (*ports, Packet.ip(a, b, 47, bytes(8)), Packet.icmp(a, b)):
        assert packet.talk is not None
        reply = packet.reply().talk
        assert reply is not None and reply.tuple == packet.talk.tuple.reversed()


@BOTH
def test_errors_are_about_the_packet(a: End, b: End) -> None:
    packet = Packet.udp(a, b, 53)
    error = packet.error(by=End(b.mac, b.ip + 7)).talk
    assert packet.talk is not None and error is not None
    assert error.error and error.tuple == packet.talk.tuple.reversed()
    assert packet.error().error().talk is None


@BOTH
def test_fragments(a: End, b: End) -> None:
    whole = Packet.udp(a, b, 53, payload=bytes(5000))
    pieces = whole.fragments()
    assert [piece.get(f.IP_FRAG) for piece in pieces] == [1, 3, 3, 3]
    assert [piece.get(f.UDP_DST) for piece in pieces] == [53, 0, 0, 0]
    assert all(piece.talk is None for piece in pieces)
    assert reassembled(tuple(reversed(pieces))) == whole.talk
    for some in (pieces[1:], pieces[:-1], pieces[::2]):
        with pytest.raises(ValueError, match="piece"):
            reassembled(some)


@pytest.mark.parametrize("at", [24, 37, 50])
def test_a_wrong_checksum_is_no_conversation(at: int) -> None:
    frame = bytearray(Packet.tcp(A, B, 80).frame)
    frame[at] ^= 0xFF
    assert Packet.parse(bytes(frame)).talk is None


def test_udp_without_checksum_is_valid_in_v4_only() -> None:
    for packet, valid in ((Packet.udp(A, B, 53), True), (Packet.udp(A6, B6, 53), False)):
        at = len(packet.frame) - 2
        talk = Packet.parse(packet.frame[:at] + b"\0\0").talk
        assert (talk is not None) is valid


def test_ends() -> None:
    assert Packet.tcp(A, B, 80).ends == (A, B)
