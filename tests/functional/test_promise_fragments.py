# SPDX-License-Identifier: Apache-2.0
"""Promise: fragments and ICMP errors of what is allowed pass; nobody else's do, and none leaks to a third."""

from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
)
from scapy.packet import Packet, Raw

from devstack.lab import Lab, Network
from devstack.lab.agent import probe_request
from devstack.lab.cloud import Cloud
from devstack.lab.namespace import wait_for
from tests.functional.promised import BOTH, allow, expect, regroup
from tests.functional.scene import FENCE_PORT, Frame, Host, Scene, spoofing_scene

pytestmark = pytest.mark.usefixtures("in_force")
ERRORS = {4: ((3, 4), (3, 1), (11, 0)), 6: ((2, 0), (1, 0), (3, 0))}
"""Type and code: too big, host unreachable, time exceeded."""


@pytest.fixture(scope="module")
def scene(module_lab: Lab) -> Iterator[Scene]:
    """Here alice and bob let in UDP to two ports and nothing else."""
    with spoofing_scene(module_lab) as scene:
        good = scene.cloud.accounts["good"]
        good.call("createSecurityGroup", name="narrow")
        allow(good, "narrow", "udp/53", f"udp/{FENCE_PORT}", cidr="10.0.0.0/8,fd00::/16")
        for name in ("alice", "bob"):
            regroup(scene.cloud.machines[name], "narrow")
        yield scene


@pytest.fixture
def cloud(scene: Scene) -> Cloud:
    return scene.cloud


@pytest.fixture(autouse=True)
def narrow(scene: Scene) -> None:
    """Wait until that is so."""
    net = Network()
    for host in (scene.alice, scene.bob):
        for version in BOTH:
            net.some(scene.mallory.vm, host.vm, "udp/53", f"udp/{FENCE_PORT}", version=version)
            net.none(scene.mallory.vm, host.vm, "udp/54", version=version)
    expect(net)


@pytest.mark.parametrize("size", [4000, 40_000])
def test_large_datagrams_pass_where_their_port_is_open(scene: Scene, size: int) -> None:
    for sender in (scene.mallory, scene.stray):
        refused = []
        for target in (scene.alice, scene.bob):
            target.vm.serve("udp", 54)
            for address in (target.ip, target.ip6):
                assert sender.vm.probe("udp", address, 53, size=size, timeout=2) == "open"
                refused.append(probe_request("udp", address, 54, size=size, tries=1))
        assert sender.vm.guest.call("probes", probes=refused) == ["timeout"] * 4


def pieces(sender: Host, to: Host, version: int, port: int, size: int, marker: bytes) -> list[Packet]:
    """The fragments of one datagram, each of which holds the marker."""
    payload = UDP(sport=777, dport=port) / Raw((marker * (size // len(marker) + 1))[:size])
    if version == 4:
        ether, ip = sender.ether(to), IP(src=sender.ip, dst=to.ip, id=port)
        return [ether / piece for piece in fragment(ip / payload, fragsize=1400)]
    ip6 = IPv6(src=sender.ip6, dst=to.ip6) / IPv6ExtHdrFragment(id=port) / payload
    return [sender.ether(to) / piece for piece in fragment6(ip6, 1400)]


def test_refused_pieces_do_not_leak(scene: Scene) -> None:
    """Pieces of a refused datagram are never seen anywhere: not at their target, nor at whoever sends next."""
    mallory, alice, bob = scene.mallory, scene.alice, scene.bob
    for sniffer in scene.sniffers.values():
        sniffer.frames(clear=True)
    for to in (alice, bob):
        for version in BOTH:
            refused = pieces(mallory, to, version, 54, 4000, b"refused.")
            passed = pieces(mallory, to, version, 53, 4000, b"allowed.")
            mallory.vm.send(map(bytes, [*refused, *refused[1:], *refused[:1], *passed]))
    assert scene.arrivals(mallory, {"an ordinary packet": mallory.head(alice) / UDP(sport=9, dport=53)}) != {}
    for sender in (scene.stray, mallory, bob):
        assert sender.vm.probe("udp", alice.ip, 53, size=4000, timeout=2) == "open"
    seen = {name: sniffer.frames(b"refused.") for name, sniffer in scene.sniffers.items()}
    assert {name: len(frames) for name, frames in seen.items() if frames and name not in ("out1", "stray")} == {}


def test_lone_pieces_reach_nobody(scene: Scene) -> None:
    """Incomplete datagrams, a first piece too short for its ports, a last piece without a first."""
    mallory = scene.mallory
    frames: dict[str, Frame] = {}
    for name, to in {"alice": scene.alice, "bob": scene.bob}.items():
        for version in BOTH:
            whole = pieces(mallory, to, version, 54, 4000, b"refused.")
            frames |= {f"piece {number} for {name} 6{version}": one for number, one in enumerate(whole[:-1])}
        ip = IP(src=mallory.ip, dst=to.ip, proto=17)
        frames[f"tiny first piece for {name}"] = mallory.ether(to) / IP(
            src=mallory.ip, dst=to.ip, proto=6, flags="MF", id=9
        ) / bytes(TCP(dport=22, flags="S"))[:8]  # fmt: skip
        later = ip.copy()
        later.frag, later.id = 500, 99
        frames[f"lone last piece for {name}"] = mallory.ether(to) / later / (b"x" * 64)
    arrived = scene.arrivals(mallory, frames)
    assert {name: places - {"out1"} for name, places in arrived.items() if places != {"out1"}} == {}


def error(sender: Host, to: Host, about: Packet, version: int, kind: int, code: int) -> Packet:
    """An ICMP error that quotes a packet."""
    quoted = Raw(bytes(about)[:200])
    if version == 4:
        return sender.head(to) / ICMP(type=kind, code=code, nexthopmtu=1300 if kind == 3 else 0) / quoted
    message = {2: ICMPv6PacketTooBig(mtu=1300), 1: ICMPv6DestUnreach(code=code), 3: ICMPv6TimeExceeded()}[kind]
    return sender.head6(to) / message / quoted


def packet_of(source: Host, target: Host, version: int, sport: int, dport: int) -> Packet:
    """What the ends of a connection send each other, as a router would quote it."""
    if version == 4:
        return IP(src=source.ip, dst=target.ip) / UDP(sport=sport, dport=dport) / (b"q" * 32)
    return IPv6(src=source.ip6, dst=target.ip6) / UDP(sport=sport, dport=dport) / (b"q" * 32)


def connect(one: Host, other: Host, sport: int) -> None:
    """Make a connection that both ends accept, over IPv4 and IPv6."""
    for address in (other.ip, other.ip6):
        assert one.vm.probe("udp", address, 53, source_port=sport) == "open"


def test_errors_about_a_connection_reach_its_ends(scene: Scene) -> None:
    """From the wire, as routers send them, and from the other end; local or not, whoever began it."""
    connect(scene.mallory, scene.alice, 5001)
    connect(scene.mallory, scene.bob, 5002)
    connect(scene.stray, scene.alice, 5003)
    cases: dict[str, tuple[Host, Host, tuple[Host, Host, int, int]]] = {
        "router, of bob's": (scene.stray, scene.mallory, (scene.mallory, scene.bob, 5002, 53)),
        "alice, of her own": (scene.alice, scene.mallory, (scene.mallory, scene.alice, 5001, 53)),
        "mallory, of the reply": (scene.mallory, scene.alice, (scene.alice, scene.mallory, 53, 5001)),
        "bob, of his own": (scene.bob, scene.mallory, (scene.mallory, scene.bob, 5002, 53)),
        "stray, of the reply": (scene.stray, scene.alice, (scene.alice, scene.stray, 53, 5003)),
    }
    for name, (sender, to, ends) in cases.items():
        one, other, sport, dport = ends
        frames = {
            f"{name}: {kind}/{code} IPv{version}": error(sender, to, about, version, kind, code)
            for version in BOTH
            for about in [packet_of(one, other, version, sport, dport)]
            for kind, code in ERRORS[version]
        }
        arrived = scene.arrivals(sender, frames)
        assert {frame for frame in frames if to.vm.name in arrived.get(frame, ())} == set(frames)


def test_forged_errors_reach_nobody(scene: Scene) -> None:
    """A VM's errors about other people's connections, about none, and those that steer instead of telling."""
    mallory, alice, bob, stray = scene.mallory, scene.alice, scene.bob, scene.stray
    connect(stray, alice, 5004)
    connect(bob, alice, 5005)
    connect(mallory, alice, 5006)
    frames: dict[str, Frame] = {}
    for version in BOTH:
        others = packet_of(alice, stray, version, 53, 5004)
        bobs = packet_of(alice, bob, version, 53, 5005)
        nobodys = packet_of(alice, mallory, version, 53, 9999)
        own = packet_of(alice, mallory, version, 53, 5006)
        for kind, code in ERRORS[version]:
            frames |= {
                f"about stray's, {kind} IPv{version}": error(mallory, alice, others, version, kind, code),
                f"about bob's, {kind} IPv{version}": error(mallory, alice, bobs, version, kind, code),
                f"about nobody's, {kind} IPv{version}": error(mallory, alice, nobodys, version, kind, code),
            }
        if version == 4:
            frames["redirect"] = mallory.head(alice) / ICMP(type=5, code=1, gw=mallory.ip) / Raw(bytes(own))
            frames["source quench"] = mallory.head(alice) / ICMP(type=4) / Raw(bytes(own))
    assert scene.arrivals(mallory, frames) == {}


def test_steering_from_the_wire_reaches_nobody(scene: Scene) -> None:
    stray, mallory, bob = scene.stray, scene.mallory, scene.bob
    connect(mallory, bob, 5007)
    own = packet_of(mallory, bob, 4, 5007, 53)
    frames: dict[str, Frame] = {
        "redirect": stray.head(mallory) / ICMP(type=5, code=1, gw=stray.ip) / Raw(bytes(own)),
        "source quench": stray.head(mallory) / ICMP(type=4) / Raw(bytes(own)),
    }
    for version in BOTH:
        nobodys = packet_of(scene.alice, stray, version, 53, 9998)
        for kind, code in ERRORS[version]:
            frames[f"about nobody's, {kind} IPv{version}"] = error(stray, scene.alice, nobodys, version, kind, code)
    assert scene.arrivals(stray, frames) == {}


def test_path_mtu_and_time_exceeded_reach_the_applications(scene: Scene) -> None:
    """A router's errors about a VM's own packets, in the VM's own words; no rule lets them in."""
    outside = scene.cloud.add_outside()
    outside.serve("udp", 53)
    networks = ("10.200.0.0/24", "fd00:200::/64 metric 256")
    scene.cloud.router.namespace.ip(*(f"route replace {network} dev outside mtu lock 1300" for network in networks))
    vm = scene.alice.vm
    for version in BOTH:
        address = outside.address(version)
        wait_for("smaller packets", lambda to=address: vm.probe("udp", to, 53, size=1400, timeout=2) == "open")
        assert "mtu 1300" in vm.exec("ip", f"-{version}", "route", "get", address)
        traced = vm.exec("sh", "-c", f"ping -{version} -n -c1 -W2 -t1 {address} || true")
        assert scene.gateway[BOTH.index(version)] in traced and "exceeded" in traced.lower()
