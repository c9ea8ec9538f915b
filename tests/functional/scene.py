# SPDX-License-Identifier: Apache-2.0
"""The scene of the spoofing tests: who sends frames of any kind, who watches, and which of them arrive where.

One pod on two hypervisors. Every security group lets everything in and out, so what does not arrive was stopped by a
guard and not by the want of a rule. Frames carry a number behind their last byte, where Ethernet allows padding, by
which they are known again; the last frames of each volley are ordinary datagrams, and once those have arrived, whatever
was sent before them has arrived too, or never will.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from devstack.lab import VM, Lab
from devstack.lab.agent import Guest, Sniffer
from devstack.lab.cloud import Cloud
from devstack.lab.namespace import wait_for
from devstack.lab.podserver import SERVER_MAC, link_local
from tests.functional.promised import WORLD, allow, boot, gateway_mac, order, promised_cloud

BROADCAST = "ff:ff:ff:ff:ff:ff"
STRANGER_MAC = "02:bb:00:00:00:01"
"""Nobody's."""
FENCE_PORT = 50000
VOLLEY = 40
"""So many frames at once fit in any socket's buffer, also on a busy machine."""
Frame = Packet | bytes
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine of the scene by its addresses."""

    vm: VM
    mac: str
    ip: str
    ip6: str

    @property
    def lla(self) -> str:
        """Its IPv6 link-local address."""
        return link_local(self.mac)

    def ether(self, to: "Host | str", kind: int | None = None) -> Ether:
        """An Ethernet header from it; `kind` where scapy cannot know it from the payload."""
        mac = to if isinstance(to, str) else to.mac
        return Ether(src=self.mac, dst=mac) if kind is None else Ether(src=self.mac, dst=mac, type=kind)

    def head(self, to: "Host") -> Packet:
        """Ethernet and IPv4 headers from it to another machine of the segment."""
        return self.ether(to) / IP(src=self.ip, dst=to.ip)

    def head6(self, to: "Host") -> Packet:
        """The same with IPv6."""
        return self.ether(to) / IPv6(src=self.ip6, dst=to.ip6)


@dataclass(slots=True)
class Scene:
    """mallory and alice share a hypervisor, bob is on the other one, stray is on the wire behind no hypervisor.

    Frames are seen at these four, and as they leave the hypervisors for the wire: `out1`, `out2`.
    """

    cloud: Cloud
    mallory: Host
    alice: Host
    bob: Host
    stray: Host
    gateway_mac: str
    sniffers: dict[str, Sniffer] = field(default_factory=dict)
    server_mac: str = SERVER_MAC
    server = ("10.1.0.2", "fd00:1::2")
    gateway = ("10.1.0.1", "fd00:1::1")

    @property
    def gateway_lla(self) -> str:
        """The router's link-local address."""
        return link_local(self.gateway_mac)

    def arrivals(self, sender: Host, frames: Mapping[str, Frame]) -> dict[str, set[str]]:
        """Send frames from a machine, and tell of each that arrived anywhere where it did."""
        marks = {name: mark() for name in frames}
        for sniffer in self.sniffers.values():
            sniffer.frames(clear=True)
        volley = [bytes(frame) + marks[name] for name, frame in frames.items()]
        for start in range(0, len(volley), VOLLEY):
            self._send(sender, volley[start : start + VOLLEY])
        seen = {place: sniffer.frames() for place, sniffer in self.sniffers.items()}
        found = {name: {at for at in seen if any(one in frame for frame in seen[at])} for name, one in marks.items()}
        return {name: places for name, places in found.items() if places}

    def _send(self, sender: Host, frames: list[bytes]) -> None:
        """Send frames; returns when they have arrived or never will."""
        fences = {name: mark() for name in ("alice", "bob") if name != sender.vm.name}
        sender.vm.send([*frames, *(bytes(self._fence(sender, name)) + fence for name, fence in fences.items())])
        for name, fence in fences.items():
            wait_for(f"what {sender.vm.name} sent last reaches {name}", lambda at=name, what=fence: self._has(at, what))

    def _has(self, place: str, what: bytes) -> bool:
        return bool(self.sniffers[place].frames(what))

    def _fence(self, sender: Host, name: str) -> Packet:
        target: Host = getattr(self, name)
        return sender.head(target) / UDP(sport=40000 + next(_numbers) % 20000, dport=FENCE_PORT)


def mark() -> bytes:
    """A number that no other frame has."""
    return b"<frame %08d>" % next(_numbers)


@contextmanager
def spoofing_scene(lab: Lab) -> Iterator[Scene]:
    """Build it; afterwards a recompute must find nothing to change."""
    with promised_cloud(lab, pods=1) as cloud:
        tenants = {name: cloud.create_account(name, ("open",)) for name in ("evil", "good")}
        for tenant in tenants.values():
            allow(tenant, "open", "all", cidr=WORLD)
        boot(
            cloud,
            order(cloud, tenants["evil"], "mallory", 1, "open"),
            order(cloud, tenants["good"], "alice", 1, "open"),
            order(cloud, tenants["good"], "bob", 2, "open"),
        )
        scene = Scene(cloud, *_hosts(cloud), gateway_mac(cloud, cloud.pod(1)))
        wire = Guest(cloud.pod(1).segment.namespace)
        _watch(scene, wire)
        yield scene
        wire.close()


def _hosts(cloud: Cloud) -> Iterator[Host]:
    for name in ("mallory", "alice", "bob"):
        vm = cloud.machines[name].vm
        yield Host(vm, cloud.machines[name].mac, vm.address(), vm.address(6))
    stray = VM(cloud.lab, "stray")
    stray.join(cloud.pod(1).segment, mac="02:aa:00:00:00:01")
    stray.add_address("10.1.0.253/24")
    stray.add_address("fd00:1::253/64")
    yield Host(stray, "02:aa:00:00:00:01", stray.address(), stray.address(6))


def _watch(scene: Scene, wire: Guest) -> None:
    for host in (scene.mallory, scene.alice, scene.bob, scene.stray):
        scene.sniffers[host.vm.name] = host.vm.sniff()
    ports = scene.cloud.pod(1).segment.ports
    for number in (1, 2):
        device = ports[f"hv{number}.eth1"]
        scene.sniffers[f"out{number}"] = wire.sniff(device)
