# SPDX-License-Identifier: Apache-2.0
"""Router advertisements: ``advertise.py DEVICE PREFIX [SECONDS]``, a script of its own.

They tell hosts to ask DHCPv6 for addresses (M flag), that the prefix is on the link, and that this is the gateway;
no host makes up an address by itself (the prefix' A flag is clear).
"""

import ipaddress
import socket
import struct
import sys
import time

ROUTER_ADVERTISEMENT = 134
MANAGED = 0x80
ON_LINK = 0x80
LIFETIME = 1800


def advertisement(prefix: ipaddress.IPv6Network, mac: bytes) -> bytes:
    """The ICMPv6 message of RFC 4861, 4.2, with our MAC and the prefix; the kernel fills the checksum in."""
    header = struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, 64, MANAGED, LIFETIME, 0, 0)
    source = struct.pack("!BB6s", 1, 1, mac)
    information = struct.pack(
        "!BBBBIII16s", 3, 4, prefix.prefixlen, ON_LINK, LIFETIME, LIFETIME, 0, prefix.network_address.packed
    )
    return header + source + information


def mac_of(device: str) -> bytes:
    """The MAC of an interface of this namespace."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((device, 0))
        return bytes(sock.getsockname()[4])


def main(device: str, prefix: str, seconds: str = "1") -> None:
    """Advertise until killed."""
    message = advertisement(ipaddress.IPv6Network(prefix), mac_of(device))
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        while True:
            sock.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex(device)))
            time.sleep(float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
