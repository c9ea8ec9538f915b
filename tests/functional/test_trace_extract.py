# SPDX-License-Identifier: Apache-2.0
"""The walker sees in a frame what Open vSwitch sees in it: frames made by scapy, odd and broken ones among them."""

import re
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from flows import headers, text
from flows.fields import FIELDS
from flows.packet import Packet
from tests.functional.dummyswitch import DummySwitch

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = ETHER / IP(src="10.0.0.1", dst="10.0.0.2", ttl=63)
V6 = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=255)
ND = ETHER / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
SLL, TLL = ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01"), ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:01")
NS, NA = ICMPv6ND_NS(tgt="fe80::2"), ICMPv6ND_NA(tgt="fe80::1")
AH = b"\x3a\x02" + bytes(14)
REQUEST = ARP(op=1, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2")

FRAMES: dict[str, Layer] = {
    "tcp": V4 / TCP(sport=1000, dport=80),
    "udp": V4 / UDP(sport=1000, dport=53) / b"x",
    "udp, options": ETHER / IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption_Router_Alert()]) / UDP(dport=5),
    "sctp": V4 / SCTP(sport=7, dport=9),
    "icmp": V4 / ICMP(type=3, code=4),
    "gre": V4 / GRE() / IP(),
    "igmp": V4 / Raw(b"\x11\0\xee\xff\0\0\0\0"),
    "first fragment": ETHER / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / UDP(sport=1, dport=2) / bytes(64),
    "later fragment": ETHER / IP(src="10.0.0.1", dst="10.0.0.2", frag=10, proto=17) / bytes(64),
    "tcp cut off": V4 / TCP(sport=1000, dport=80).build()[:15],
    "udp cut off": ETHER / IP(src="10.0.0.1", dst="10.0.0.2", proto=17) / b"\0\1\0",
    "bad ihl": ETHER / IP(src="10.0.0.1", dst="10.0.0.2", ihl=4) / UDP(),
    "long ihl": ETHER / IP(src="10.0.0.1", dst="10.0.0.2", ihl=15) / UDP(),
    "bad length": ETHER / IP(src="10.0.0.1", dst="10.0.0.2", len=400) / UDP(),
    "short length": ETHER / IP(src="10.0.0.1", dst="10.0.0.2", len=22) / UDP(sport=1, dport=2),
    "tcp6": V6 / TCP(sport=1000, dport=80),
    "udp6": V6 / UDP(sport=1000, dport=547) / b"x",
    "icmp6": V6 / ICMPv6EchoRequest(),
    "hop by hop": V6 / IPv6ExtHdrHopByHop() / UDP(sport=3, dport=4),
    "three extensions": V6 / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt(nh=51) / Raw(AH + ICMPv6ND_RA().build()),
    "first fragment 6": V6 / IPv6ExtHdrFragment(offset=0, m=1, nh=17) / UDP(sport=3, dport=4),
    "later fragment 6": V6 / IPv6ExtHdrFragment(offset=10, m=1, nh=17) / bytes(32),
    "atomic fragment": V6 / IPv6ExtHdrFragment(offset=0, m=0) / UDP(sport=3, dport=4),
    "extension cut off": ETHER / IPv6(src="::1", dst="::2", nh=0) / b"\x3a\x05\0\0\0\0\0\0",
    "no next header": ETHER / IPv6(src="::1", dst="::2", nh=59),
    "bad length 6": ETHER / IPv6(src="::1", dst="::2", plen=100) / UDP(),
    "ns": ND / NS / SLL,
    "ns, no option": ND / NS,
    "ns, both options": ND / NS / SLL / TLL,
    "ns, option twice": ND / NS / SLL / SLL,
    "ns, other option": ND / NS / ICMPv6NDOptPrefixInfo() / SLL,
    "ns, code 1": ND / ICMPv6ND_NS(tgt="fe80::2", code=1) / SLL,
    "ns, length 0": ND / NS / Raw(b"\x01\0" + bytes(6)) / SLL,
    "na": ND / NA / TLL,
    "na in hop by hop": ND / IPv6ExtHdrHopByHop() / NA / TLL,
    "ra": ND / ICMPv6ND_RA() / SLL,
    "arp": ETHER / REQUEST,
    "arp op 300": ETHER / ARP(op=300, psrc="10.0.0.1"),
    "arp, other hardware": ETHER / ARP(hwtype=6, psrc="10.0.0.1"),
    "arp, cut off": ETHER / Raw(REQUEST.build()[:20]),
    "rarp": Ether(src="02:00:00:00:00:01", dst="ff:ff:ff:ff:ff:ff", type=0x8035) / ARP(op=3).build(),
    "tagged": ETHER / Dot1Q(vlan=5, prio=3) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2),
    "priority tag": ETHER / Dot1Q(vlan=0) / REQUEST,
    "service tag": ETHER / Dot1AD(vlan=7) / IP(src="10.0.0.1") / UDP(),
    "two tags": ETHER / Dot1Q(vlan=1) / Dot1Q(vlan=2) / IP() / UDP(),
    "llc": Dot3(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / bytes(35),
    "snap arp": Dot3(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / LLC() / SNAP(code=0x806) / REQUEST.build(),
    "dhcp": ETHER / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67) / BOOTP() / DHCP(),
    "lldp": Ether(type=0x88CC, src="02:00:00:00:00:01", dst="01:80:c2:00:00:0e") / bytes(46),
}
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128, "0": 0}
FRAGMENTS = {"no": 0, "first": 1, "later": 3}
SHORTHANDS = {words: what for what, words in text.SHORTHANDS.items()}
PORTS = {6: "tcp", 17: "udp", 132: "sctp"}


@pytest.fixture(scope="module")
def switch() -> Iterator[DummySwitch]:
    switch = DummySwitch([1])
    try:
        yield switch
    finally:
        switch.close()


def seen_by_switch(trace: str) -> dict[str, int]:
    """The fields that ofproto/trace prints and `flows.fields` has, those that are not zero."""
    line = re.search(r"^Flow: (.*)$", trace, re.MULTILINE)
    assert line, trace
    found = dict(word.split("=") if "=" in word else (word, "") for word in line[1].split(","))
    for shorthand in found.keys() & SHORTHANDS:
        kind, proto = SHORTHANDS[shorthand]
        found |= {"dl_type": str(kind), "nw_proto": str(proto or found.get("nw_proto", 0))}
    if "dl_vlan" in found:
        found["vlan_tci"] = str(int(found["dl_vlan"]) | int(found["dl_vlan_pcp"]) << 13 | 0x1000)
    transport = PORTS.get(int(found.get("nw_proto", 0)))
    icmp = "icmp" if "nw_src" in found else "icmpv6"
    names = {"tp_src": f"{transport}_src", "tp_dst": f"{transport}_dst", "icmp_type": f"{icmp}_type"}
    names["icmp_code"] = f"{icmp}_code"
    renamed = {names.get(name, name): value for name, value in found.items() if name != "in_port"}
    numbers = {name: number(value) for name, value in renamed.items() if name in FIELDS}
    return {name: value for name, value in numbers.items() if value}


def number(shown: str) -> int:
    """A field's value as ofproto/trace shows it."""
    if shown in FRAGMENTS:
        return FRAGMENTS[shown]
    if set(shown.split("|")) <= TCP_FLAGS.keys():
        return sum(TCP_FLAGS[name] for name in shown.split("|"))
    if re.fullmatch("(..:){5}..", shown):
        return int(shown.replace(":", ""), 16)
    return int(ip_address(shown)) if ":" in shown or "." in shown else int(shown, 0)


@pytest.mark.parametrize("name", FRAMES)
def test_fields(switch: DummySwitch, name: str) -> None:
    frame = bytes(FRAMES[name])
    ours = {term.field.name: term.value for term in headers.unpack(Packet.parse(frame).headers)}
    assert seen_by_switch(switch.trace(frame, 1)) == ours
