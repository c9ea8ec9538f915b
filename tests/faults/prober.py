# SPDX-License-Identifier: Apache-2.0
"""What must never arrive, tried every 10 ms: strangers' connections, spoofed frames, and a port not yet allowed.

Each frame carries a mark of its own behind its last byte, where Ethernet allows padding, by which sniffers at every VM
and on the wire know it again. Where a frame may be seen on its lawful way (a stranger's SYN on the wire) is said here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from devstack.lab.agent import Guest, Repeater
from devstack.lab.podserver import link_local
from tests.faults.scene import NEWCOMER_MAC, STRAY_MAC, Scene

INTERVAL = 0.01
MARK = b"<must not arrive "
BROADCAST, ALL_NODES, ALL_NODES_MAC = "ff:ff:ff:ff:ff:ff", "ff02::1", "33:33:00:00:00:01"
VMS = ("server", "near", "far", "flapper", "mallory", "morgan", "newcomer", "stray")
WIRES = ("wire1", "wire2")


@dataclass(frozen=True, slots=True)
class Probe:
    """A frame that `sender` sends; `lawful` are places where it may be seen all the same."""

    name: str
    sender: str
    frame: Packet
    lawful: frozenset[str] = field(default=frozenset())


class Prober:
    """Sends until it is stopped, and tells what has arrived where it must not."""

    def __init__(self, scene: Scene) -> None:
        self.probes = tuple(probes(scene))
        self._marks = {MARK + b"%02d>" % number: probe for number, probe in enumerate(self.probes)}
        segment = scene.cloud.pod(1).segment
        self._wire = Guest(segment.namespace)
        self._sniffers = {name: scene.vm(name).sniff(only=MARK) for name in VMS}
        for number, name in enumerate(WIRES, 1):
            self._sniffers[name] = self._wire.sniff(segment.ports[f"hv{number}.eth1"], only=MARK)
        self._repeaters = [self._send(scene, sender) for sender in dict.fromkeys(one.sender for one in self.probes)]

    def _send(self, scene: Scene, sender: str) -> Repeater:
        frames = [bytes(one.frame) + mark for mark, one in self._marks.items() if one.sender == sender]
        return scene.vm(sender).guest.repeat("eth0", frames, interval=INTERVAL)

    def sent(self) -> int:
        """How many frames have been sent."""
        return sum(repeater.sent() for repeater in self._repeaters)

    def arrived(self) -> Counter[tuple[str, str]]:
        """How many frames of which name have arrived where, since the last time; lawful ones left out."""
        found: Counter[tuple[str, str]] = Counter()
        for place, sniffer in self._sniffers.items():
            for probe in filter(None, map(self._known, sniffer.frames(clear=True))):
                if place not in probe.lawful:
                    found[probe.name, place] += 1
        return found

    def _known(self, frame: bytes) -> Probe | None:
        at = frame.rfind(MARK)
        return self._marks.get(frame[at : at + len(MARK) + 3])

    def stop(self) -> None:
        """End sending and watching."""
        for repeater in self._repeaters:
            repeater.stop()
        for sniffer in self._sniffers.values():
            sniffer.stop()
        self._wire.close()


def probes(scene: Scene) -> Iterator[Probe]:
    """All that is tried."""
    yield from _strangers(scene)
    yield from _spoofed(scene, "mallory", "near")
    yield from _spoofed(scene, "morgan", "far")
    yield from _newcomer(scene)
    yield from _stray(scene)


def _ip(scene: Scene, name: str, version: int = 4) -> str:
    return scene.vm(name).address(version)


def _mac(scene: Scene, name: str) -> str:
    return {"newcomer": NEWCOMER_MAC, "stray": STRAY_MAC}.get(name) or scene.machine(name).mac


def _syn(src: str, dst: str) -> Packet:
    network = IPv6(src=src, dst=dst) if ":" in dst else IP(src=src, dst=dst)
    return network / TCP(sport=41000, dport=80, flags="S")


def _strangers(scene: Scene) -> Iterator[Probe]:
    """Another tenant's VMs ask for the open port of the server; from the other hypervisor they get onto the wire."""
    for sender, lawful in (("mallory", frozenset[str]()), ("morgan", frozenset({"wire2"}))):
        for version in (4, 6):
            frame = Ether(src=_mac(scene, sender), dst=_mac(scene, "server"))
            frame /= _syn(_ip(scene, sender, version), _ip(scene, "server", version))
            yield Probe(f"{sender}'s SYN, IPv{version}", sender, frame, lawful)


def _spoofed(scene: Scene, sender: str, victim: str) -> Iterator[Probe]:
    """A guest speaks for a neighbour who may do what it may not, for routers and for servers."""
    mac, target, its = _mac(scene, sender), _mac(scene, "server"), _mac(scene, victim)
    lla = link_local(mac)
    to_server = Ether(src=mac, dst=target)
    yield Probe(f"{sender} as {victim}, IPv4", sender, to_server / _syn(_ip(scene, victim), _ip(scene, "server")))
    yield Probe(
        f"{sender} as {victim}, IPv6", sender, to_server / _syn(_ip(scene, victim, 6), _ip(scene, "server", 6))
    )
    with_mac = Ether(src=its, dst=target) / _syn(_ip(scene, victim), _ip(scene, "server"))
    yield Probe(f"{sender} as {victim} with its MAC", sender, with_mac)
    claim = ARP(op=2, hwsrc=mac, psrc=_ip(scene, "server"), hwdst=its, pdst=_ip(scene, victim))
    yield Probe(f"{sender}'s false ARP reply", sender, Ether(src=mac, dst=its) / claim)
    gratuitous = ARP(op=1, hwsrc=mac, psrc="10.1.0.1", hwdst=BROADCAST, pdst="10.1.0.1")
    yield Probe(f"{sender}'s gateway by ARP", sender, Ether(src=mac, dst=BROADCAST) / gratuitous)
    advert = IPv6(src=_ip(scene, sender, 6), dst=_ip(scene, victim, 6), hlim=255)
    advert /= ICMPv6ND_NA(tgt=_ip(scene, "server", 6), R=0, S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=mac)
    yield Probe(f"{sender}'s false NA", sender, Ether(src=mac, dst=its) / advert)
    router = IPv6(src=lla, dst=ALL_NODES, hlim=255) / ICMPv6ND_RA(routerlifetime=0)
    router /= ICMPv6NDOptSrcLLAddr(lladdr=mac) / ICMPv6NDOptPrefixInfo(prefix="fd00:66::", validlifetime=1)
    yield Probe(f"{sender}'s RA", sender, Ether(src=mac, dst=ALL_NODES_MAC) / router)
    offer = IP(src=_ip(scene, sender), dst=_ip(scene, victim)) / UDP(sport=67, dport=68)
    offer /= BOOTP(op=2, yiaddr="10.1.0.66") / DHCP(options=[("message-type", "offer"), "end"])
    yield Probe(f"{sender}'s DHCP offer", sender, Ether(src=mac, dst=its) / offer)


def _newcomer(scene: Scene) -> Iterator[Probe]:
    """A port that nobody has allowed yet speaks, and is spoken to."""
    ether = Ether(src=NEWCOMER_MAC, dst=_mac(scene, "server"))
    yield Probe("the newcomer's SYN", "newcomer", ether / _syn("10.1.0.240", _ip(scene, "server")))
    ask = ARP(op=1, hwsrc=NEWCOMER_MAC, psrc="10.1.0.240", pdst=_ip(scene, "server"))
    yield Probe("the newcomer's ARP", "newcomer", Ether(src=NEWCOMER_MAC, dst=BROADCAST) / ask)
    towards = Ether(src=_mac(scene, "near"), dst=NEWCOMER_MAC) / _syn(_ip(scene, "near"), "10.1.0.240")
    yield Probe("a SYN to the newcomer", "near", towards, frozenset({"wire1", "stray"}))


def _stray(scene: Scene) -> Iterator[Probe]:
    """A machine of the physical network asks for the open port, by its own name and as a client."""
    ether = Ether(src=STRAY_MAC, dst=_mac(scene, "server"))
    for name, source in (("own", "10.1.0.253"), ("near's", _ip(scene, "near"))):
        yield Probe(f"the stray's SYN, {name} address", "stray", ether / _syn(source, _ip(scene, "server")))
    yield Probe("the stray's SYN, IPv6", "stray", ether / _syn("fd00:1::253", _ip(scene, "server", 6)))
