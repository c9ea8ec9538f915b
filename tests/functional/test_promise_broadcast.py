# SPDX-License-Identifier: Apache-2.0
"""Promise: broadcast, multicast and unknown unicast of VMs are dropped silently, and nobody sees others' traffic."""

from collections.abc import Iterator

import pytest
from scapy.contrib.igmp import IGMP
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from devstack.lab import Hypervisor, Lab
from devstack.lab.cloud import Cloud
from devstack.lab.namespace import wait_for
from tests.functional.promised import BOTH
from tests.functional.scene import BROADCAST, STRANGER_MAC, Frame, Host, Scene, spoofing_scene

pytestmark = pytest.mark.usefixtures("in_force")
GROUPS = ("224.0.0.1", "224.0.0.18", "224.0.0.22", "224.0.0.251", "232.1.2.3", "239.255.255.250")
GROUPS6 = ("ff01::1", "ff02::1", "ff02::2", "ff02::fb", "ff02::1:3", "ff02::c", "ff05::2", "ff0e::1234")


@pytest.fixture(scope="module")
def scene(module_lab: Lab) -> Iterator[Scene]:
    with spoofing_scene(module_lab) as scene:
        yield scene


@pytest.fixture
def cloud(scene: Scene) -> Cloud:
    return scene.cloud


def group_mac(address: str) -> str:
    """The MAC that an IPv4 or IPv6 multicast group has on Ethernet."""
    if ":" in address:
        return "33:33:" + ":".join(f"{octet:02x}" for octet in bytes(IPv6(dst=address))[36:40])
    _, second, third, fourth = (int(part) for part in address.split("."))
    return f"01:00:5e:{second & 127:02x}:{third:02x}:{fourth:02x}"


def to_many(sender: Host, alice: Host) -> Iterator[tuple[str, Frame]]:
    """Datagrams and pings to everybody and to groups, in frames to many and, as a trick, to one."""
    payloads: tuple[Packet, ...] = (UDP(sport=5353, dport=5353), UDP(sport=137, dport=137), ICMP(), IGMP(type=0x16))
    for address in ("255.255.255.255", "10.1.0.255", "10.255.255.255", *GROUPS):
        for payload in payloads:
            for mac in (BROADCAST, group_mac(address), alice.mac):
                name = f"{payload.name} {getattr(payload, 'dport', '')} to {address} at {mac}"
                yield name, sender.ether(mac) / IP(src=sender.ip, dst=address) / payload
    for address in GROUPS6:
        for source in (sender.lla, sender.ip6):
            for payload in (UDP(sport=5353, dport=5353), ICMPv6EchoRequest()):
                for mac in (group_mac(address), BROADCAST, alice.mac):
                    name = f"{payload.name} from {source} to {address} at {mac}"
                    yield name, sender.ether(mac) / IPv6(src=source, dst=address) / payload
    for to in (alice.ip, "10.1.0.249"):
        yield f"{to} in a broadcast", sender.ether(BROADCAST) / IP(src=sender.ip, dst=to) / UDP(dport=53)
        yield f"{to} in a multicast", sender.ether("01:00:5e:00:00:01") / IP(src=sender.ip, dst=to) / UDP(dport=53)
    for to in (alice.ip6, "fd00:1::eeee"):
        yield f"{to} in a multicast", sender.ether("33:33:00:00:00:01") / IPv6(src=sender.ip6, dst=to) / UDP(dport=53)


def test_what_a_vm_sends_to_many_reaches_nobody(scene: Scene) -> None:
    """Neither neighbours nor the wire, in either family; the honest exceptions have tests of their own."""
    unicast = {"one datagram": scene.mallory.head(scene.alice) / UDP(sport=5353, dport=5353)}
    assert scene.arrivals(scene.mallory, unicast) == {"one datagram": {"alice"}}
    assert scene.arrivals(scene.mallory, dict(to_many(scene.mallory, scene.alice))) == {}


def test_what_the_wire_sends_to_many_reaches_no_vm(scene: Scene) -> None:
    unicast = {"one datagram": scene.stray.head(scene.bob) / UDP(sport=5353, dport=5353)}
    assert scene.arrivals(scene.stray, unicast) == {"one datagram": {"bob"}}
    assert scene.arrivals(scene.stray, dict(to_many(scene.stray, scene.alice))) == {}


def test_unknown_unicast_reaches_no_vm(scene: Scene) -> None:
    """The wire may know the MAC, so it may see the frame; the hypervisors do not, and flood nothing."""
    for sender, places in ((scene.mallory, {"out1", "stray"}), (scene.stray, set())):
        ether = Ether(src=sender.mac, dst=STRANGER_MAC)
        frames: dict[str, Frame] = {
            "nobody's address": ether / IP(src=sender.ip, dst="10.1.0.249") / UDP(dport=53),
            "alice's address": ether / IP(src=sender.ip, dst=scene.alice.ip) / UDP(dport=53),
            "bob's address": ether / IP(src=sender.ip, dst=scene.bob.ip) / UDP(dport=53),
            "bob's address 6": ether / IPv6(src=sender.ip6, dst=scene.bob.ip6) / UDP(dport=53),
            "no MAC": Ether(src=sender.mac, dst="00:00:00:00:00:00") / IP(src=sender.ip, dst=scene.alice.ip) / UDP(),
        }
        arrived = scene.arrivals(sender, frames)
        assert set().union(*arrived.values()) <= places


def test_the_sender_hears_nothing_of_it(scene: Scene) -> None:
    """Silently: no error, no reset, no echo of its own frames comes back."""
    mallory = scene.mallory
    heard = mallory.vm.sniff()
    mallory.vm.send(bytes(frame) for frame in list(dict(to_many(mallory, scene.alice)).values())[:40])
    marker = b"answered"
    mallory.vm.send([bytes(mallory.head(scene.alice) / ICMP(id=77) / marker)])
    wait_for("an answer", lambda: heard.frames(marker))
    for frame in map(Ether, heard.frames()):
        assert ICMP not in frame or frame[ICMP].type == 0, frame.summary()
        assert frame.src != mallory.mac
        assert "ICMPv6 Destination Unreachable" not in repr(frame)
    heard.stop()


def test_a_promiscuous_nic_sees_nothing_of_its_neighbours(scene: Scene) -> None:
    """mallory shares the hypervisor with alice, and listens to everything; alice talks to bob, to stray and the pod."""
    mallory, alice, bob, stray = scene.mallory, scene.alice, scene.bob, scene.stray
    listener = mallory.vm.sniff()
    other = bob.vm.sniff()
    for version in BOTH:
        for peer in (bob, stray):
            peer.vm.serve("tcp", 80)
            address = peer.vm.address(version)
            assert alice.vm.probe("tcp", address, 80) == "open"
            assert alice.vm.ping(address, size=4000)
        for server in (scene.server[BOTH.index(version)], scene.gateway[BOTH.index(version)]):
            assert alice.vm.ping(server)
        assert alice.vm.resolve(scene.server[BOTH.index(version)], "bob")
    alice.vm.dhcp()
    assert mallory.vm.ping(bob.ip)
    assert [frame for frame in map(Ether, listener.frames()) if concerns(frame, alice)] == []
    assert [frame for frame in map(Ether, other.frames()) if concerns(frame, alice)] != []
    listener.stop()
    other.stop()


def test_no_mac_is_learned(scene: Scene) -> None:
    """So none is forgotten, or crowded out, and nobody is flooded until it is learned again. What the switches have
    learned before they had an agent is left out."""
    for hypervisor in scene.cloud.hypervisors:
        addresses(hypervisor, "fdb/flush")
    for version in BOTH:
        for peer in (scene.alice, scene.bob, scene.stray):
            assert scene.mallory.vm.ping(peer.vm.address(version))
            assert peer.vm.ping(scene.gateway[BOTH.index(version)])
    scene.alice.vm.dhcp()
    for hypervisor in scene.cloud.hypervisors:
        assert addresses(hypervisor, "fdb/show") == []


def addresses(hypervisor: Hypervisor, command: str) -> list[str]:
    """What a command about learned MACs answers, without its first line."""
    control = str(hypervisor.directory / "ovs-vswitchd.ctl")
    return hypervisor.appctl("-t", control, command, "br-int").splitlines()[1:]


def concerns(frame: Ether, host: Host) -> bool:
    """Whether a frame is from or to a machine, by its MAC or any of its addresses."""
    ends = [(layer.src, layer.dst) for kind in (Ether, IP, IPv6) if (layer := frame.getlayer(kind)) is not None]
    return any(own in end for end in ends for own in (host.mac, host.ip, host.ip6, host.lla))
