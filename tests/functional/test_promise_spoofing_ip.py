# SPDX-License-Identifier: Apache-2.0
"""Promise: no VM sends from another's MAC or address, nor frames that are not plain IPv4, ARP or IPv6."""

from collections.abc import Iterator

import pytest
from scapy.contrib.lldp import LLDPDU, LLDPDUChassisID, LLDPDUEndOfLLDPDU, LLDPDUPortID, LLDPDUTimeToLive
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.layers.l2 import ARP, GRE, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPP, PPPoE, PPPoED
from scapy.packet import Packet

from devstack.lab import Lab, Network
from devstack.lab.cloud import Cloud
from tests.functional.promised import WORLD, allow, expect, group_ids, regroup
from tests.functional.scene import BROADCAST, STRANGER_MAC, Frame, Host, Scene, spoofing_scene

pytestmark = pytest.mark.usefixtures("in_force")
ECHO = UDP(sport=1234, dport=9)


@pytest.fixture(scope="module")
def scene(module_lab: Lab) -> Iterator[Scene]:
    with spoofing_scene(module_lab) as scene:
        yield scene


@pytest.fixture
def cloud(scene: Scene) -> Cloud:
    return scene.cloud


def neighbours(scene: Scene) -> dict[str, Host]:
    return {"alice": scene.alice, "bob": scene.bob}


def test_honest_packets_arrive(scene: Scene) -> None:
    mallory = scene.mallory
    frames = {}
    for name, to in neighbours(scene).items():
        frames |= {
            f"UDP to {name}": mallory.head(to) / ECHO,
            f"UDP6 to {name}": mallory.head6(to) / ECHO,
            f"TCP to {name}": mallory.head(to) / TCP(sport=1, dport=2, flags="S"),
            f"ping to {name}": mallory.head(to) / ICMP(),
            f"ESP to {name}": mallory.ether(to) / IP(src=mallory.ip, dst=to.ip, proto=50) / b"sealed",
            f"options and UDP6 to {name}": mallory.head6(to) / IPv6ExtHdrDestOpt() / UDP(sport=2, dport=9),
        }
    arrived = scene.arrivals(mallory, frames)
    for name in frames:
        assert arrived.pop(name) == ({"alice"} if name.endswith("alice") else {"bob", "out1"}), name


def strange_sources(scene: Scene) -> Iterator[tuple[str, str]]:
    yield from {
        "alice": scene.alice.ip, "bob": scene.bob.ip, "gateway": scene.gateway[0], "server": scene.server[0],
        "free": "10.1.0.249", "another pod": "10.2.0.9", "the world": "192.0.2.1", "0.0.0.0": "0.0.0.0",
        "127.0.0.1": "127.0.0.1", "multicast": "224.0.0.1", "broadcast": "255.255.255.255", "subnet": "10.1.0.0",
        "subnet broadcast": "10.1.0.255", "link-local": "169.254.1.1", "class E": "240.0.0.1",
    }.items()  # fmt: skip


def strange_sources6(scene: Scene) -> Iterator[tuple[str, str]]:
    yield from {
        "alice": scene.alice.ip6, "bob": scene.bob.ip6, "gateway": scene.gateway[1], "server": scene.server[1],
        "free": "fd00:1::eeee", "another pod": "fd00:2::9", "::": "::", "::1": "::1", "multicast": "ff02::1",
        "alice's link-local": scene.alice.lla, "gateway's link-local": scene.gateway_lla, "own link-local":
        scene.mallory.lla, "mapped": f"::ffff:{scene.alice.ip}",
    }.items()  # fmt: skip


def test_strange_sources_reach_nobody(scene: Scene) -> None:
    mallory = scene.mallory
    frames: dict[str, Frame] = {}
    for target, to in (*neighbours(scene).items(), ("gateway", None)):
        ether = mallory.ether(to or scene.gateway_mac)
        for name, source in strange_sources(scene):
            for kind, payload in {"UDP": ECHO, "ping": ICMP(), "SYN": TCP(flags="S"), "GRE": GRE()}.items():
                ip = IP(src=source, dst=to.ip if to else "10.200.0.9")
                frames[f"{kind} from {name} to {target}"] = ether / ip / payload
        for name, source in strange_sources6(scene):
            for kind, payload in {"UDP6": ECHO, "SYN6": TCP(flags="S"), "options": IPv6ExtHdrDestOpt() / ECHO}.items():
                ip6 = IPv6(src=source, dst=to.ip6 if to else "fd00:200::9")
                frames[f"{kind} from {name} to {target}"] = ether / ip6 / payload
    assert scene.arrivals(mallory, frames) == {}


def test_strange_macs_reach_nobody(scene: Scene) -> None:
    mallory = scene.mallory
    frames: dict[str, Frame] = {}
    for target, to in neighbours(scene).items():
        for mac in (scene.alice.mac, scene.bob.mac, scene.gateway_mac, scene.server_mac, STRANGER_MAC, BROADCAST,
                    "00:00:00:00:00:00", "01:00:5e:00:00:01", "33:33:00:00:00:01"):  # fmt: skip
            for ip in (IP(src=mallory.ip, dst=to.ip), IPv6(src=mallory.ip6, dst=to.ip6), IP(src=to.ip, dst=to.ip)):
                name = f"from {mac} to {target}: {ip.src}"
                frames[name] = Ether(src=mac, dst=to.mac) / ip / ECHO
    assert scene.arrivals(mallory, frames) == {}
    assert scene.bob.vm.ping(scene.alice.ip)
    assert scene.stray.vm.ping(scene.bob.ip)


def test_a_macs_owner_must_have_the_address(scene: Scene) -> None:
    """Else whoever may send only to group X writes an address of X into a frame for any neighbour."""
    mallory, alice, bob = scene.mallory, scene.alice, scene.bob
    frames: dict[str, Frame] = {}
    for address in (bob.ip, "10.1.0.249", "192.0.2.1", "255.255.255.255", "10.1.0.255", "224.0.0.1", "127.0.0.1"):
        frames[f"{address} at alice"] = mallory.ether(alice) / IP(src=mallory.ip, dst=address) / ECHO
    for address in (bob.ip6, "fd00:1::eeee", "2001:db8::1", "ff02::1", "::1", alice.lla):
        frames[f"{address} at alice"] = mallory.ether(alice) / IPv6(src=mallory.ip6, dst=address) / ECHO
    for address in (alice.ip, mallory.ip):
        frames[f"{address} at bob"] = mallory.ether(bob) / IP(src=mallory.ip, dst=address) / ECHO
    arrived = scene.arrivals(mallory, frames)
    assert {name: places - {"out1"} for name, places in arrived.items() if places != {"out1"}} == {}


def test_egress_rules_cannot_be_led_around(scene: Scene, net: Network) -> None:
    """With egress to bob alone, alice is out of reach, by her address, bob's address, and inside of tunnels."""
    mallory, alice, bob = scene.mallory, scene.alice, scene.bob
    machine = scene.cloud.machines["mallory"]
    evil = machine.order.account
    evil.call("createSecurityGroup", name="narrow")
    assert group_ids(evil, "narrow")
    allow(evil, "narrow", "udp/1-65535", cidr=f"{bob.ip}/32,{bob.ip6}/128", egress=True)
    regroup(machine, "narrow")
    net.some(mallory.vm, bob.vm, "udp/99")
    net.none(mallory.vm, alice.vm, "udp/99", "tcp/99", "icmp")
    net.none(mallory.vm, bob.vm, "tcp/99", "icmp")
    expect(net)
    allow(evil, "narrow", "udp/40000-60000", cidr=f"{alice.ip}/32", egress=True)
    net.some(mallory.vm, alice.vm, "udp/50000")
    expect(net)
    assert scene.arrivals(mallory, dict(detours(mallory, alice, bob))) == {}
    regroup(machine, "open")
    net.some(mallory.vm, alice.vm, "tcp/99", "icmp")
    expect(net)


def detours(mallory: Host, alice: Host, bob: Host) -> Iterator[tuple[str, Frame]]:
    """Ways to alice for someone who may only send UDP to bob; none of a connection that was allowed before."""
    fresh = UDP(sport=4321, dport=9)
    inner, inner6 = IP(src=mallory.ip, dst=alice.ip) / fresh, IPv6(src=mallory.ip6, dst=alice.ip6) / fresh
    yield "plain", mallory.head(alice) / fresh
    yield "plain 6", mallory.head6(alice) / fresh
    yield "bob's address", mallory.ether(alice) / IP(src=mallory.ip, dst=bob.ip) / fresh
    yield "bob's address 6", mallory.ether(alice) / IPv6(src=mallory.ip6, dst=bob.ip6) / fresh
    routed = IPv6ExtHdrRouting(addresses=[alice.ip6])
    yield "source route", mallory.ether(alice) / IPv6(src=mallory.ip6, dst=bob.ip6) / routed / fresh
    for name, payload in {"IP in IP": inner, "IPv6 in IP": inner6, "GRE": GRE() / inner}.items():
        yield f"{name} to alice", mallory.head(alice) / payload
        yield f"{name} to bob", mallory.head(bob) / payload
        yield f"{name} over IPv6", mallory.head6(alice) / payload
    for name, options in {"hop-by-hop": IPv6ExtHdrHopByHop(), "destination": IPv6ExtHdrDestOpt()}.items():
        for what, payload in {"TCP": TCP(flags="S"), "UDP": fresh}.items():
            yield f"{what} behind {name} options", mallory.head6(alice) / options / payload


def odd_frames(sender: Host, to: Host | str) -> Iterator[tuple[str, Frame]]:
    """Honest packets in frames that are not plain, and frames of other protocols."""
    mac = to if isinstance(to, str) else to.mac
    target = "10.1.0.255" if isinstance(to, str) else to.ip
    target6 = "ff02::1" if isinstance(to, str) else to.ip6
    payloads: dict[str, tuple[int, Packet]] = {
        "IPv4": (0x0800, IP(src=sender.ip, dst=target) / ECHO),
        "IPv6": (0x86DD, IPv6(src=sender.ip6, dst=target6) / ECHO),
        "ARP": (0x0806, ARP(op=1, hwsrc=sender.mac, psrc=sender.ip, pdst=target)),
    }
    for name, (kind, payload) in payloads.items():
        for vlan in (0, 1, 100, 4095):
            yield f"802.1Q {vlan}, {name}", sender.ether(mac) / Dot1Q(vlan=vlan, type=kind) / payload
            yield f"802.1ad {vlan}, {name}", sender.ether(mac, 0x88A8) / Dot1AD(vlan=vlan, type=kind) / payload
        yield f"priority tag, {name}", sender.ether(mac) / Dot1Q(vlan=0, prio=7, type=kind) / payload
        yield f"VLAN 0 twice, {name}", sender.ether(mac) / Dot1Q(vlan=0) / Dot1Q(vlan=0, type=kind) / payload
        yield f"QinQ, {name}", sender.ether(mac, 0x88A8) / Dot1AD(vlan=5) / Dot1Q(vlan=6, type=kind) / payload
        yield f"old QinQ, {name}", sender.ether(mac, 0x9100) / Dot1Q(vlan=6, type=kind) / payload
        yield f"MPLS, {name}", sender.ether(mac, 0x8847) / (b"\x00\x01\x01\xff" + bytes(payload))
        yield f"LLC without SNAP, {name}", Dot3(src=sender.mac, dst=mac) / LLC(dsap=6, ssap=6, ctrl=3) / payload
        yield f"PPPoE, {name}", sender.ether(mac) / PPPoE(sessionid=1) / PPP() / payload
        yield f"802.1Q in SNAP, {name}", snap(sender, mac, 0x8100, bytes(Dot1Q(vlan=0, type=kind) / payload))
    yield "PPPoE discovery", sender.ether(mac) / PPPoED()
    for kind in (
        0x0801,
        0x0842,
        0x22F0,
        0x6003,
        0x809B,
        0x8137,
        0x886D,
        0x888E,
        0x88B5,
        0x88CC,
        0x88F7,
        0x8906,
        0x9000,
    ):
        yield f"ethertype {kind:#06x}", sender.ether(mac, kind) / (b"odd" * 20)
    yield "MACsec", sender.ether(mac, 0x88E5) / (b"\0" * 40)


def snap(sender: Host, mac: str, kind: int, payload: bytes) -> Packet:
    return Dot3(src=sender.mac, dst=mac) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(OUI=0, code=kind) / payload


def test_tagged_and_odd_frames_reach_nobody(scene: Scene) -> None:
    """Neither a VM's nor, at a VM, the wire's."""
    for sender in (scene.mallory, scene.stray):
        for to in (scene.alice, scene.bob, BROADCAST):
            assert scene.arrivals(sender, dict(odd_frames(sender, to))) == {}


def test_frames_for_bridges_reach_nobody(scene: Scene) -> None:
    mallory = scene.mallory
    lldp = LLDPDUChassisID(subtype=4, id=b"\2" * 6) / LLDPDUPortID(subtype=7, id=b"x") / LLDPDUTimeToLive(ttl=9)
    frames: dict[str, Frame] = {
        "STP": Dot3(src=mallory.mac, dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(),
        "STP to alice": Dot3(src=mallory.mac, dst=scene.alice.mac) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(),
        "LLDP": mallory.ether("01:80:c2:00:00:0e") / LLDPDU() / lldp / LLDPDUEndOfLLDPDU(),
        "pause": mallory.ether("01:80:c2:00:00:01", 0x8808) / (b"\0\1\xff\xff" + b"\0" * 42),
        "LACP": mallory.ether("01:80:c2:00:00:02", 0x8809) / (b"\1\1" + b"\0" * 108),
        "802.1X": mallory.ether("01:80:c2:00:00:03", 0x888E) / (b"\2\1\0\0" + b"\0" * 42),
        "CDP": snap(mallory, "01:00:0c:cc:cc:cc", 0x2000, b"\2\xb4" + b"\0" * 40),
        "loopback test": mallory.ether("cf:00:00:00:00:00", 0x9000) / (b"\0" * 46),
        "IP to a bridge": mallory.ether("01:80:c2:00:00:00") / IP(src=mallory.ip, dst=scene.alice.ip) / ECHO,
    }
    assert scene.arrivals(mallory, frames) == {}


def test_snap_is_guarded_like_plain_frames(scene: Scene) -> None:
    """OVS reads IP and ARP in SNAP as if they were plain; so must the guards."""
    mallory, alice, bob = scene.mallory, scene.alice, scene.bob
    frames: dict[str, Frame] = {
        f"{name} at {to.vm.name}": snap(mallory, to.mac, kind, bytes(payload))
        for to in (alice, bob)
        for name, kind, payload in (
            ("IPv4 of alice", 0x0800, IP(src=alice.ip, dst=to.ip) / ECHO),
            ("IPv6 of alice", 0x86DD, IPv6(src=alice.ip6, dst=to.ip6) / ECHO),
            ("ARP of alice", 0x0806, ARP(op=2, hwsrc=mallory.mac, psrc=alice.ip, hwdst=to.mac, pdst=to.ip)),
        )
    }
    assert scene.arrivals(mallory, frames) == {}
    stray = scene.stray
    claims: dict[str, Frame] = {
        "IPv4 of mallory": snap(stray, alice.mac, 0x0800, bytes(IP(src=mallory.ip, dst=alice.ip) / ECHO)),
        "IPv6 of mallory": snap(stray, alice.mac, 0x86DD, bytes(IPv6(src=mallory.ip6, dst=alice.ip6) / ECHO)),
        "ARP of mallory": snap(stray, alice.mac, 0x0806, bytes(ARP(op=2, hwsrc=stray.mac, psrc=mallory.ip))),
    }
    assert scene.arrivals(stray, claims) == {}


def test_the_wire_cannot_be_a_vm_of_this_hypervisor(scene: Scene) -> None:
    stray, mallory, alice, bob = scene.stray, scene.mallory, scene.alice, scene.bob
    honest = {"IPv4": stray.head(alice) / ECHO, "IPv6": stray.head6(alice) / ECHO}
    assert scene.arrivals(stray, honest) == {"IPv4": {"alice"}, "IPv6": {"alice"}}
    as_mallory = Ether(src=mallory.mac, dst=alice.mac)
    frames: dict[str, Frame] = {
        "mallory's address": stray.ether(alice) / IP(src=mallory.ip, dst=alice.ip) / ECHO,
        "mallory's address 6": stray.ether(alice) / IPv6(src=mallory.ip6, dst=alice.ip6) / ECHO,
        "alice's own address": stray.ether(alice) / IP(src=alice.ip, dst=alice.ip) / ECHO,
        "mallory's MAC": as_mallory / IP(src=stray.ip, dst=alice.ip) / ECHO,
        "mallory altogether": as_mallory / IP(src=mallory.ip, dst=alice.ip) / ECHO,
        "bob's address at alice": stray.ether(alice) / IP(src=stray.ip, dst=bob.ip) / ECHO,
        "tagged": stray.ether(alice) / Dot1Q(vlan=0) / IP(src=stray.ip, dst=alice.ip) / ECHO,
        "tagged 100": stray.ether(alice) / Dot1Q(vlan=100) / IP(src=stray.ip, dst=alice.ip) / ECHO,
        "odd": stray.ether(alice, 0x88B5) / (b"odd" * 20),
        "STP": Dot3(src=stray.mac, dst=alice.mac) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / STP(),
    }
    for source in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"):
        frames[f"from {source}"] = stray.ether(alice) / IP(src=source, dst=alice.ip) / ECHO
    for source in ("::", "::1", "ff02::1"):
        frames[f"from {source}"] = stray.ether(alice) / IPv6(src=source, dst=alice.ip6) / ECHO
    assert scene.arrivals(stray, frames) == {}
    assert mallory.vm.ping(scene.gateway[0])  # the wire's own switch has been told lies: let it learn the truth


def test_a_wanderer_is_still_itself(scene: Scene, net: Network) -> None:
    """After all of that everybody is reached as before."""
    allow(scene.cloud.accounts["good"], "open", "tcp/1-65535", cidr=WORLD)
    for version in (4, 6):
        net.both(scene.mallory.vm, scene.alice.vm, "tcp/80", "udp/53", "icmp", version=version)
        net.both(scene.mallory.vm, scene.bob.vm, "tcp/80", "udp/53", "icmp", version=version)
    net.check()
