# SPDX-License-Identifier: Apache-2.0
"""Frames that tell the physical network where a NIC is now: RARP, gratuitous ARP (RFC 5227) and unsolicited NA."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from flows import frames
from flows.inputs import Ip

BROADCAST = 0xFFFF_FFFF_FFFF
ALL_NODES, ALL_NODES_MAC = IPv6Address("ff02::1"), 0x3333_0000_0001
_REQUEST, _REVERSE_REQUEST = 1, 3
_OVERRIDE = bytes.fromhex("20000000")
_NOBODY = IPv4Address(0)
_MINIMUM = 60
"""Bytes of an Ethernet frame without its checksum, at least."""


def announcements(mac: int, addresses: Iterable[Ip]) -> Iterator[bytes]:
    """One RARP, which moves the MAC in every switch of the segment, and one announcement per address."""
    reverse = frames.arp(_REVERSE_REQUEST, mac, _NOBODY, mac, _NOBODY)
    yield frames.ethernet(BROADCAST, mac, frames.ETH_RARP, reverse).ljust(_MINIMUM, b"\0")
    for address in addresses:
        if isinstance(address, IPv4Address):
            gratuitous = frames.arp(_REQUEST, mac, address, 0, address)
            yield frames.ethernet(BROADCAST, mac, frames.ETH_ARP, gratuitous).ljust(_MINIMUM, b"\0")
        else:
            yield frames.ethernet(ALL_NODES_MAC, mac, *_advertisement(mac, address))


def _advertisement(mac: int, address: IPv6Address) -> tuple[int, bytes]:
    """An IPv6 packet with an unsolicited neighbour advertisement (RFC 4861, section 4.4), and its ethertype."""
    rest = _OVERRIDE + address.packed + frames.lladdr_option(frames.TARGET_LLADDR, mac)
    message = frames.icmp6(address, ALL_NODES, frames.NA, 0, rest)
    return frames.ip(address, ALL_NODES, frames.ICMP6, message, ttl=255)
