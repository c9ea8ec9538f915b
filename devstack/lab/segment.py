# SPDX-License-Identifier: Apache-2.0
"""Wires, the L2 segment of a pod, and the router between pods."""

import ctypes
import fcntl
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable
from ipaddress import ip_interface
from pathlib import Path

from devstack.lab.namespace import Lab, Namespace, checked_name

ADVERTISE = Path(__file__).with_name("advertise.py")
SIOCETHTOOL = 0x8946
ETHTOOL_SET_OFFLOADS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
"""ETHTOOL_SRXCSUM, STXCSUM, SSG, STSO, SGSO, SGRO of linux/ethtool.h."""


def disable_offloads(namespace: Namespace, device: str) -> None:
    """Let frames leave `device` complete: Open vSwitch in user space sees what is on the wire, checksums included."""
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in ETHTOOL_SET_OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            fcntl.ioctl(sock, SIOCETHTOOL, struct.pack("16sP16x", device.encode(), ctypes.addressof(value)))


def wire(
    near: Namespace, device: str, far: Namespace, far_device: str, *,
    mac: str | None = None, quiet: bool = False, far_quiet: bool = False, hasty: bool = False,
) -> None:  # fmt: skip
    """Join two namespaces by a veth pair, both ends up and without offloads.

    `mac` is the near end's. A quiet end has no IPv6 of its own: it belongs to a switch, which must not speak.
    A hasty near end waits a tenth of a second for others that have its link-local address, which else takes up to two,
    and until `be_patient` as long for every neighbour's answer.
    """
    address = f"address {mac} " if mac else ""
    near.ip(f"link add {device} {address}type veth peer name {far_device} netns {far.path}")
    for namespace, name, silent in ((near, device, quiet), (far, far_device, far_quiet)):
        if silent:
            namespace.sysctl(f"net.ipv6.conf.{name}.disable_ipv6", 1)
        disable_offloads(namespace, name)
    if hasty:
        near.sysctl(f"net.ipv6.conf.{device}.router_solicitation_delay", 0)
        near.sysctl(f"net.ipv6.neigh.{device}.retrans_time_ms", 100)
    far.ip(f"link set {far_device} up")
    near.ip(f"link set {device} up")


def be_patient(namespace: Namespace, device: str) -> None:
    """Let `device` give its neighbours the usual time to answer."""
    namespace.sysctl(f"net.ipv6.neigh.{device}.retrans_time_ms", 1000)


def add_addresses(namespace: Namespace, device: str, addresses: Iterable[str]) -> None:
    """Give `device` addresses in prefix notation, at once usable: duplicate detection would cost a second."""
    namespace.ip(*(
        f"address add {address} dev {device}" + (" nodad" if ip_interface(address).version == 6 else "")
        for address in addresses
    ))  # fmt: skip


def skip_duplicate_detection(namespace: Namespace) -> None:
    """Let interfaces made from now on use their link-local addresses at once, like a machine that has long been up."""
    namespace.sysctl("net.ipv6.conf.default.accept_dad", 0)


def add_gateways(namespace: Namespace, gateways: Iterable[str]) -> None:
    """Send what is not local to these, one of each IP version, whatever has been advertised meanwhile."""
    namespace.ip(*(f"route replace {'::/0' if ':' in gateway else 'default'} via {gateway}" for gateway in gateways))


class Segment:
    """One L2 segment: a Linux bridge in a namespace of its own, the physical network of a pod."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.name = checked_name(name)
        self.namespace = lab.namespace(name)
        self.namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        self.namespace.ip("link add bridge type bridge forward_delay 0 mcast_snooping 0", "link set bridge up")
        self.ports: dict[str, str] = {}

    def connect(self, namespace: Namespace, device: str, *, mac: str | None = None, quiet: bool = False) -> None:
        """Plug a new interface `device` of `namespace` in; `ports` has the segment's end of it, by the name of both."""
        port = self.ports[f"{namespace.name}.{device}"] = f"port{len(self.ports) + 1}"
        wire(namespace, device, self.namespace, port, mac=mac, quiet=quiet, far_quiet=True)
        self.namespace.ip(f"link set {port} master bridge")


class Router:
    """Forwards between segments, IPv4 and IPv6; the gateway of each."""

    def __init__(self, lab: Lab, name: str = "router") -> None:
        self.namespace = lab.namespace(name)
        skip_duplicate_detection(self.namespace)
        for family in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            self.namespace.sysctl(f"net.{family}", 1)

    def connect(self, segment: Segment, addresses: Iterable[str]) -> None:
        """Become the gateway of `segment` with `addresses` (prefix notation)."""
        segment.connect(self.namespace, segment.name)
        add_addresses(self.namespace, segment.name, addresses)

    def advertise(self, segment: Segment, prefix: str) -> None:
        """Announce itself as the segment's IPv6 gateway every second; the addresses are DHCPv6's matter."""
        self.namespace.popen(sys.executable, "-I", "-S", ADVERTISE, segment.name, prefix, stdin=subprocess.DEVNULL)
