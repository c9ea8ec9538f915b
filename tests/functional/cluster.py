# SPDX-License-Identifier: Apache-2.0
"""What tests of addresses that VMs share have in common: the addresses, who is promised them, announcements, and
packets between holders and others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from devstack.lab.cloud import Cloud, Machine

LENGTH = {4: 24, 6: 64}
CLUSTER = {4: "10.1.0.251", 6: "fd00:1::1:251"}
BROADCAST = "ff:ff:ff:ff:ff:ff"
ALL_NODES = "33:33:00:00:00:01"


class Promises:
    """What has been promised, by NIC and address."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.ids: dict[tuple[str, str], str] = {}

    def add(self, machine: Machine, address: str, **params: str) -> None:
        kind = "cidr" if "/" in address else "ipaddress"
        found = self.cloud.admin.call("addAllowedAddressToNic", nicid=machine.nic, **{kind: address}, **params)
        self.ids[machine.nic, address] = str(found["allowedaddress"]["id"])

    def share(self, *machines: Machine, macs: Mapping[int, str] | None = None) -> None:
        """Let VMs share the cluster's addresses, with these virtual MACs if there are any."""
        for machine in machines:
            for version, address in CLUSTER.items():
                self.add(machine, address, shared="true", **({"macaddress": macs[version]} if macs else {}))

    def remove(self, machine: Machine, address: str) -> None:
        self.cloud.admin.call("removeAllowedAddressFromNic", id=self.ids.pop((machine.nic, address)))


@contextmanager
def promising(cloud: Cloud) -> Iterator[Promises]:
    """Promises that are all taken back in the end."""
    promises = Promises(cloud)
    yield promises
    for id in promises.ids.values():
        cloud.admin.call("removeAllowedAddressFromNic", id=id)


def announcements(mac: str) -> list[bytes]:
    """Who has the cluster's addresses says so."""
    arp = Ether(src=mac, dst=BROADCAST) / ARP(op=1, hwsrc=mac, psrc=CLUSTER[4], pdst=CLUSTER[4])
    advert = Ether(src=mac, dst=ALL_NODES) / IPv6(src=CLUSTER[6], dst="ff02::1", hlim=255)
    return [bytes(arp), bytes(advert / ICMPv6ND_NA(tgt=CLUSTER[6], R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac))]


def echo(source: tuple[str, str], target: tuple[str, str]) -> bytes:
    """A ping's request."""
    request = ICMPv6EchoRequest(data=b"<ping>") if ":" in source[1] else ICMP() / b"<ping>"
    return bytes(_head(source, target) / request)


def datagram(source: tuple[str, str], target: tuple[str, str], sport: int, dport: int) -> bytes:
    """A UDP datagram between MACs and addresses."""
    return bytes(_head(source, target) / UDP(sport=sport, dport=dport) / b"<go on>")


def _head(source: tuple[str, str], target: tuple[str, str]) -> Packet:
    head = IPv6(src=source[1], dst=target[1]) if ":" in source[1] else IP(src=source[1], dst=target[1])
    return Ether(src=source[0], dst=target[0]) / head
