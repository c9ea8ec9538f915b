# SPDX-License-Identifier: Apache-2.0
"""The frames that announce a NIC, read by scapy."""

from __future__ import annotations

from ipaddress import ip_address

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from sgctl.agent.announce import announcements

MAC = "02:00:00:00:00:0a"
FRAMES = list(announcements(0x02000000000A, [ip_address("10.1.0.5"), ip_address("2001:db8::5")]))


def test_a_rarp_comes_first_and_all_come_from_the_nic() -> None:
    rarp, arp, advertisement = map(Ether, FRAMES)
    assert (rarp.type, rarp.dst) == (0x8035, "ff:ff:ff:ff:ff:ff")
    assert {frame.src for frame in (rarp, arp, advertisement)} == {MAC}
    assert all(len(frame) >= 60 for frame in FRAMES)


def test_a_gratuitous_arp_asks_for_its_own_address() -> None:
    arp = Ether(FRAMES[1])[ARP]
    assert (arp.op, arp.hwsrc, arp.psrc, arp.pdst) == (1, MAC, "10.1.0.5", "10.1.0.5")


def test_a_neighbour_advertisement_overrides_and_has_a_right_checksum() -> None:
    packet = Ether(FRAMES[2])
    body = packet[ICMPv6ND_NA]
    assert (packet[IPv6].hlim, packet[IPv6].dst, packet.dst) == (255, "ff02::1", "33:33:00:00:00:01")
    assert (body.tgt, body.O, body.S, body.R) == ("2001:db8::5", 1, 0, 0)
    assert packet[ICMPv6NDOptDstLLAddr].lladdr == MAC
    checksum = body.cksum
    del body.cksum
    assert Ether(bytes(packet))[ICMPv6ND_NA].cksum == checksum
