# SPDX-License-Identifier: Apache-2.0
"""Frames that tell the physical network where a NIC is now: RARP, gratuitous ARP (RFC 5227) and unsolicited NA."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from struct import pack

from flows.inputs import Ip

BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")
_ICMPV6 = 58
_OVERRIDE = 0x20000000
_MINIMUM = 60


def announcements(mac: int, addresses: Iterable[Ip]) -> Iterator[bytes]:
    """One RARP, which moves the MAC in every switch of the segment, and one announcement per address."""
    own = mac.to_bytes(6, "big")
    yield _padded(BROADCAST + own + b"\x80\x35" + _arp(3, own, IPv4Address(0), own, IPv4Address(0)))
    for address in addresses:
        if isinstance(address, IPv4Address):
            yield _padded(BROADCAST + own + b"\x08\x06" + _arp(1, own, address, bytes(6), address))
        else:
            yield ALL_NODES_MAC + own + b"\x86\xdd" + _advertisement(own, address)


def _arp(operation: int, sender: bytes, source: IPv4Address, target: bytes, wanted: IPv4Address) -> bytes:
    return pack("!HHBBH", 1, 0x0800, 6, 4, operation) + sender + source.packed + target + wanted.packed


def _advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """An IPv6 packet with an unsolicited neighbour advertisement (RFC 4861, section 4.4)."""
    body = pack("!BBHI", 136, 0, 0, _OVERRIDE) + address.packed + b"\x02\x01" + mac
    pseudo = address.packed + ALL_NODES.packed + pack("!II", len(body), _ICMPV6)
    body = body[:2] + pack("!H", _checksum(pseudo + body)) + body[4:]
    return pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255) + address.packed + ALL_NODES.packed + body


def _checksum(data: bytes) -> int:
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _padded(frame: bytes) -> bytes:
    return frame.ljust(_MINIMUM, b"\0")
