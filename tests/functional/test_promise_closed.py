# SPDX-License-Identifier: Apache-2.0
"""Promise: a port about which anything is wrong has no path at all, neither out nor in, until it is right again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_RS

from devstack.lab import Hypervisor, Lab
from devstack.lab.cloud import Cloud, Machine
from devstack.lab.namespace import wait_for
from tests.functional import test_promise_spoofing_arp as arp
from tests.functional import test_promise_spoofing_dhcp as dhcp
from tests.functional import test_promise_spoofing_nd as nd
from tests.functional.promised import admin, boot, order
from tests.functional.scene import BROADCAST, STRANGER_MAC, Frame, Host, Scene, spoofing_scene

pytestmark = pytest.mark.usefixtures("in_force")
ROUTERS_ANSWER = b"\x86\x00"
"""How a router advertisement begins, but for its checksum."""


@dataclass(frozen=True, slots=True)
class Ghost:
    """A VM beside alice and mallory whose port is made wrong."""

    scene: Scene
    machine: Machine
    host: Host

    @property
    def hypervisor(self) -> Hypervisor:
        return self.machine.order.hypervisor

    def set_id(self, key: str, value: str) -> None:
        """Change what the port says of itself; an empty value: it does not say that any more."""
        if value:
            self.hypervisor.vsctl("set", "Interface", self.machine.port, f'external_ids:{key}="{value}"')
        else:
            self.hypervisor.vsctl("remove", "Interface", self.machine.port, "external_ids", key)

    def wait(self, state: str) -> None:
        def shown() -> str:
            ports = admin(self.scene.cloud.managers[self.hypervisor.name], "/admin/ports")["ports"]
            return next(str(port["state"]) for port in ports if port["name"] == self.machine.port)

        wait_for(f"the port to be {state}", lambda: shown() == state, step=0.05)


@pytest.fixture(scope="module")
def ghost(module_lab: Lab) -> Iterator[Ghost]:
    with spoofing_scene(module_lab) as scene:
        (vm,) = boot(scene.cloud, order(scene.cloud, scene.cloud.accounts["good"], "ghost", 1, "open"))
        machine = scene.cloud.machines["ghost"]
        scene.sniffers["ghost"] = vm.sniff()
        yield Ghost(scene, machine, Host(vm, machine.mac, vm.address(), vm.address(6)))


@pytest.fixture
def cloud(ghost: Ghost) -> Cloud:
    return ghost.scene.cloud


def labelled(key: str, value: str) -> Callable[[Ghost], Callable[[], None]]:
    """The port says something else of itself, until it is put right."""

    def spoil(ghost: Ghost) -> Callable[[], None]:
        right = {"iface-id": ghost.machine.nic, "attached-mac": ghost.machine.mac}[key]
        ghost.set_id(key, value)
        return lambda: ghost.set_id(key, right)

    return spoil


def stopped(ghost: Ghost) -> Callable[[], None]:
    """The API says that the VM is not to run."""
    account = ghost.machine.order.account
    account.call("stopVirtualMachine", id=ghost.machine.id)
    return lambda: account.call("startVirtualMachine", id=ghost.machine.id)


WRONGS = {
    "no id": labelled("iface-id", ""),
    "an id that no NIC has": labelled("iface-id", str(uuid4())),
    "no UUID": labelled("iface-id", "ghost"),
    "another MAC than the NIC's": labelled("attached-mac", STRANGER_MAC),
    "a stopped VM": stopped,
}


@contextmanager
def wrong(ghost: Ghost, how: Callable[[Ghost], Callable[[], None]]) -> Iterator[None]:
    """Meanwhile the port is closed."""
    put_right = how(ghost)
    try:
        ghost.wait("closed")
        yield
    finally:
        put_right()
        ghost.wait("active")


def said(ghost: Ghost) -> dict[str, Frame]:
    """One of each kind of frame that an honest guest sends."""
    own, alice, bob = ghost.host, ghost.scene.alice, ghost.scene.bob
    frames: dict[str, Frame] = {
        "probe": arp.arp(own, BROADCAST, 1, psrc="0.0.0.0", pdst=own.ip),
        "announcement": arp.arp(own, BROADCAST, 2, pdst=own.ip),
        "RARP": arp.rarp(own),
        "duplicate detection": nd.asks(own, own.ip6, src="::", sll=None),
        "neighbour advertisement": nd.tells(own, nd.ALL_NODES),
        "router solicitation": nd.to_group(own, nd.ALL_ROUTERS) / ICMPv6ND_RS(),
        "MLD report": nd.report(own),
        "DHCP": dhcp.asks(own) / dhcp.message("discover", own.mac),
        "DHCPv6": dhcp.asks6(own) / dhcp.solicit(own),
    }
    for name, to in {"alice": alice, "bob": bob}.items():
        frames |= {
            f"ARP for {name}": arp.arp(own, BROADCAST, 1, pdst=to.ip),
            f"ARP to {name}": arp.arp(own, to, 2, hwdst=to.mac, pdst=to.ip),
            f"solicitation of {name}": nd.asks(own, to.ip6),
            f"UDP to {name}": own.head(to) / UDP(sport=7, dport=9),
            f"UDP6 to {name}": own.head6(to) / UDP(sport=7, dport=9),
            f"segment to {name}": own.head(to) / TCP(sport=7, dport=80, flags="A"),
            f"ping to {name}": own.head(to) / ICMP(id=7),
            f"ping6 to {name}": own.head6(to) / ICMPv6EchoRequest(id=7),
        }
    return frames


def seen_by_the_switch(hypervisor: Hypervisor) -> int:
    """How many frames the first table has decided about."""
    lines = hypervisor.ofctl("dump-flows", "br-int", "table=0").splitlines()
    return sum(int(line.partition("n_packets=")[2].partition(",")[0]) for line in lines if "n_packets=" in line)


@pytest.mark.parametrize("how", WRONGS)
def test_what_it_says_reaches_nobody(ghost: Ghost, how: str) -> None:
    """Whatever it says; all of that arrives while nothing is wrong."""
    frames = said(ghost)
    plain = bytes(frames["UDP to alice"])
    tagged: dict[str, Frame] = {"tagged": plain[:12] + b"\x81\0\0\0" + plain[12:]}
    with wrong(ghost, WRONGS[how]):
        assert heard(ghost, frames | tagged) == {}
    assert set(ghost.scene.arrivals(ghost.host, frames)) == set(frames)


def heard(ghost: Ghost, frames: dict[str, Frame]) -> dict[str, list[str]]:
    """Which of the ghost's frames are seen where, once the switch has decided about all of them."""
    marks = {name: b"<ghost: %s>" % name.encode() for name in frames}
    before = seen_by_the_switch(ghost.hypervisor)
    ghost.host.vm.send([bytes(frame) + marks[name] for name, frame in frames.items()])
    wait_for("the switch to see them", lambda: seen_by_the_switch(ghost.hypervisor) >= before + len(frames))
    seen = {place: b"".join(sniffer.frames(b"<ghost: ")) for place, sniffer in ghost.scene.sniffers.items()}
    found = {name: [place for place, data in seen.items() if mark in data] for name, mark in marks.items()}
    return {name: places for name, places in found.items() if places}


def told(sender: Host, ghost: Host) -> dict[str, Frame]:
    """What others send to it, as far as they know it."""
    return {
        "ARP for it": arp.arp(sender, BROADCAST, 1, pdst=ghost.ip),
        "ARP to it": arp.arp(sender, ghost, 1, pdst=ghost.ip),
        "ARP reply": arp.arp(sender, ghost, 2, hwdst=ghost.mac, pdst=ghost.ip),
        "solicitation": nd.asks(sender, ghost.ip6),
        "solicitation to it": nd.asks(sender, ghost.ip6, to=ghost),
        "advertisement": nd.tells(sender, ghost),
        "UDP": sender.head(ghost) / UDP(sport=7, dport=9),
        "UDP6": sender.head6(ghost) / UDP(sport=7, dport=9),
        "segment": sender.head(ghost) / TCP(sport=7, dport=80, flags="A"),
        "ping": sender.head(ghost) / ICMP(id=8),
        "ping6": sender.head6(ghost) / ICMPv6EchoRequest(id=8),
    }


@pytest.mark.parametrize("how", WRONGS)
def test_it_hears_nothing(ghost: Ghost, how: str) -> None:
    """Neither what neighbours and the wire say to it, nor what the router and the pod's server tell all VMs."""
    scene, ear = ghost.scene, ghost.scene.sniffers["ghost"]
    senders = (scene.mallory, scene.bob, scene.stray)
    with wrong(ghost, WRONGS[how]):
        ear.frames(clear=True)
        for sender in senders:
            arrived = scene.arrivals(sender, told(sender, ghost.host))
            assert not any({"alice", "mallory", "ghost"} & places for places in arrived.values()), sender.vm.name
            assert ear.frames() == [], sender.vm.name
        scene.alice.vm.dhcp()
        assert advertised(scene, "alice")
        assert ear.frames() == []
    for sender in senders:
        frames = told(sender, ghost.host)
        arrived = scene.arrivals(sender, frames)
        assert {name for name, places in arrived.items() if "ghost" in places} == set(frames), sender.vm.name
    assert advertised(scene, "ghost")


def advertised(scene: Scene, name: str) -> bool:
    """Whether a router advertisement arrives there after alice has asked for one."""
    ear = scene.sniffers[name]
    ear.frames(clear=True)
    ask = bytes(nd.to_group(scene.alice, nd.ALL_ROUTERS) / ICMPv6ND_RS())
    scene.alice.vm.send([ask])
    wait_for(f"an advertisement at {name}", lambda: any(frame[54:56] == ROUTERS_ANSWER for frame in ear.frames()))
    return True
