# SPDX-License-Identifier: Apache-2.0
"""Promise: no VM speaks for another, or for a router, in ICMPv6; honest neighbour discovery and MLD work."""

from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet6 import (
    ICMPv6MLQuery,
    ICMPv6MLQuery2,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.packet import Packet

from devstack.lab import Lab
from devstack.lab.cloud import Cloud
from tests.functional.scene import STRANGER_MAC, Frame, Host, Scene, spoofing_scene

pytestmark = pytest.mark.usefixtures("in_force")
ALL_NODES, ALL_ROUTERS, MLD_ROUTERS = "ff02::1", "ff02::2", "ff02::16"
GROUP_MACS = {ALL_NODES: "33:33:00:00:00:01", ALL_ROUTERS: "33:33:00:00:00:02", MLD_ROUTERS: "33:33:00:00:00:16"}
FREE = "fd00:1::eeee"


@pytest.fixture(scope="module")
def scene(module_lab: Lab) -> Iterator[Scene]:
    with spoofing_scene(module_lab) as scene:
        yield scene


@pytest.fixture
def cloud(scene: Scene) -> Cloud:
    return scene.cloud


def group_of(address: str) -> tuple[str, str]:
    """The solicited-node multicast address of an address, and its MAC."""
    tail = IPv6(dst=address).build()[37:40]
    return f"ff02::1:ff{tail[0]:02x}:{tail[1]:02x}{tail[2]:02x}", f"33:33:ff:{tail[0]:02x}:{tail[1]:02x}:{tail[2]:02x}"


def asks(
    sender: Host, target: str, *, src: str = "", to: Host | None = None, sll: str | None = "", hlim: int = 255,
    **more: Any,
) -> Packet:  # fmt: skip
    """A neighbour solicitation that is honest but for what is given; `sll` None leaves the option out."""
    group, mac = (to.ip6, to.mac) if to else group_of(target)
    ip = sender.ether(mac) / IPv6(src=src or sender.ip6, dst=group, hlim=hlim)
    option = () if sll is None else (ICMPv6NDOptSrcLLAddr(lladdr=sll or sender.mac),)
    return joined(ip / ICMPv6ND_NS(tgt=target, **more), option)


def tells(
    sender: Host, to: Host | str, *, target: str = "", src: str = "", tll: str | None = "", hlim: int = 255, **more: Any
) -> Packet:
    """A neighbour advertisement that is honest but for what is given, to a host or to all nodes."""
    dst, mac = (to, GROUP_MACS[to]) if isinstance(to, str) else (to.ip6, to.mac)
    ip = sender.ether(mac) / IPv6(src=src or sender.ip6, dst=dst, hlim=hlim)
    option = () if tll is None else (ICMPv6NDOptDstLLAddr(lladdr=tll or sender.mac),)
    return joined(ip / ICMPv6ND_NA(tgt=target or sender.ip6, R=0, S=0, O=1, **more), option)


def joined(packet: Packet, options: tuple[Packet, ...]) -> Packet:
    for option in options:
        packet /= option
    return packet


def to_group(sender: Host, group: str, *, src: str = "", hlim: int = 255) -> Packet:
    """Headers from a link-local address to a multicast group."""
    return sender.ether(GROUP_MACS[group]) / IPv6(src=src or sender.lla, dst=group, hlim=hlim)


def report(sender: Host, src: str = "") -> Packet:
    ip = to_group(sender, MLD_ROUTERS, src=src, hlim=1)
    return ip / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2()


def test_honest_discovery_reaches_the_one_it_concerns(scene: Scene) -> None:
    mallory, alice, bob = scene.mallory, scene.alice, scene.bob
    solicitation = ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=mallory.mac)
    frames = {
        "who is alice": asks(mallory, alice.ip6),
        "who is alice, link-locally": asks(mallory, alice.lla, src=mallory.lla),
        "who is bob": asks(mallory, bob.ip6),
        "who is the gateway": asks(mallory, scene.gateway[1]),
        "still there, alice?": asks(mallory, alice.ip6, to=alice),
        "still there, bob?": asks(mallory, bob.ip6, to=bob),
        "without its MAC": asks(mallory, alice.ip6, sll=None),
        "I am mallory, alice": tells(mallory, alice),
        "I am mallory, bob": tells(mallory, bob, tll=None),
        "my link-local address": tells(mallory, alice, target=mallory.lla, src=mallory.lla),
        "unsolicited": tells(mallory, ALL_NODES),
        "detection of its own address": asks(mallory, mallory.ip6, src="::", sll=None),
        "detection of its link-local address": asks(mallory, mallory.lla, src="::", sll=None),
        "router solicitation": to_group(mallory, ALL_ROUTERS) / solicitation,
        "router solicitation from nowhere": to_group(mallory, ALL_ROUTERS, src="::") / ICMPv6ND_RS(),
        "MLD report": report(mallory),
        "MLD report from nowhere": report(mallory, "::"),
        "MLDv1 report": to_group(mallory, ALL_ROUTERS, hlim=1) / ICMPv6MLReport(mladdr="ff02::1:3"),
    }
    to_wire, wire = {"out1"}, {"out1", "stray"}
    assert scene.arrivals(mallory, frames) == {
        "who is alice": {"alice"},
        "who is alice, link-locally": {"alice"},
        "who is bob": wire | {"bob"},
        "who is the gateway": wire,
        "still there, alice?": {"alice"},
        "still there, bob?": to_wire | {"bob"},
        "without its MAC": {"alice"},
        "I am mallory, alice": {"alice"},
        "I am mallory, bob": to_wire | {"bob"},
        "my link-local address": {"alice"},
        "unsolicited": wire,
        "detection of its own address": wire,
        "detection of its link-local address": wire,
        "router solicitation": wire,
        "router solicitation from nowhere": wire,
        "MLD report": wire,
        "MLD report from nowhere": wire,
        "MLDv1 report": wire,
    }


def forged(scene: Scene) -> Iterator[tuple[str, Frame]]:
    """Every field of neighbour discovery that can lie, one at a time, to everybody it could reach."""
    mallory = scene.mallory
    foreign = {
        "alice": scene.alice.ip6, "alice's link-local": scene.alice.lla, "bob": scene.bob.ip6,
        "gateway": scene.gateway[1], "gateway's link-local": scene.gateway_lla, "server": scene.server[1], "free": FREE,
        "loopback": "::1", "multicast": ALL_NODES,
    }  # fmt: skip
    macs = {"alice's MAC": scene.alice.mac, "gateway's MAC": scene.gateway_mac, "nobody's MAC": STRANGER_MAC}
    for name, victim in (("alice", scene.alice), ("bob", scene.bob), ("all", None)):
        target: Host | str = victim or ALL_NODES
        asked = (victim or scene.alice).ip6
        for of, address in foreign.items():
            yield f"{name}: NA for {of}", tells(mallory, target, target=address)
            yield f"{name}: NA from {of}", tells(mallory, target, src=address)
            yield f"{name}: NA as {of}", tells(mallory, target, target=address, src=address)
            yield f"{name}: NS from {of}", asks(mallory, asked, src=address, to=victim)
        for of, mac in macs.items():
            yield f"{name}: NA tll {of}", tells(mallory, target, tll=mac)
            yield f"{name}: NS sll {of}", asks(mallory, asked, sll=mac, to=victim)
        twice = tells(mallory, target, tll=None) / ICMPv6NDOptDstLLAddr(lladdr=mallory.mac)
        yield f"{name}: NA with two tll", twice / ICMPv6NDOptDstLLAddr(lladdr=scene.alice.mac)
        again = asks(mallory, asked, to=victim) / ICMPv6NDOptSrcLLAddr(lladdr=scene.alice.mac)
        yield f"{name}: NS with two sll", again
        yield f"{name}: NA hop limit", tells(mallory, target, hlim=254)
        yield f"{name}: NS hop limit", asks(mallory, asked, hlim=64, to=victim)
        yield f"{name}: NA code", tells(mallory, target, code=1)
        yield f"{name}: NS code", asks(mallory, asked, code=1, to=victim)
        stolen = tells(mallory, target)
        stolen.src = scene.alice.mac
        yield f"{name}: NA with alice's dl_src", stolen


def test_forged_discovery_reaches_nobody(scene: Scene) -> None:
    assert scene.arrivals(scene.mallory, dict(forged(scene))) == {}


def test_duplicate_detection_of_foreign_addresses_reaches_nobody(scene: Scene) -> None:
    """Else a VM could keep its neighbours from ever using their addresses."""
    mallory = scene.mallory
    frames: dict[str, Frame] = {}
    for name, address in {
        "alice": scene.alice.ip6, "alice's link-local": scene.alice.lla, "bob": scene.bob.ip6, "free": FREE,
        "gateway": scene.gateway_lla,
    }.items():  # fmt: skip
        frames[f"DAD of {name}"] = asks(mallory, address, src="::", sll=None)
        frames[f"answer to DAD of {name}"] = tells(mallory, ALL_NODES, target=address)
    frames["DAD with a MAC"] = asks(mallory, mallory.ip6, src="::")
    frames["DAD to alice"] = asks(mallory, scene.alice.ip6, src="::", sll=None, to=scene.alice)
    assert scene.arrivals(mallory, frames) == {}


def routers_only(scene: Scene, sender: Host) -> Iterator[tuple[str, Frame]]:
    """What only routers send, to all and to one, plain and behind extension headers."""
    prefix = ICMPv6NDOptPrefixInfo(prefix="fd00:66::", prefixlen=64)
    advert = ICMPv6ND_RA(routerlifetime=1800) / ICMPv6NDOptSrcLLAddr(lladdr=sender.mac) / prefix
    redirect = ICMPv6ND_Redirect(tgt=sender.lla, dst="fd00:9::1")
    for name, to in (("alice", scene.alice), ("bob", scene.bob)):
        for message, payload in {"RA": advert, "redirect": redirect, "MLD query": ICMPv6MLQuery()}.items():
            for source in (sender.lla, sender.ip6, scene.gateway_lla, scene.gateway[1]):
                ip = IPv6(src=source, dst=to.ip6, hlim=255)
                yield f"{message} to {name} from {source}", sender.ether(to) / ip / payload
        for hop in (255, 64):
            for message, payload in {"RA": advert, "redirect": redirect}.items():
                ip = sender.ether(to) / IPv6(src=sender.lla, dst=to.lla, hlim=hop)
                yield f"{message} behind options to {name}, {hop}", ip / IPv6ExtHdrDestOpt() / payload
                yield f"{message} in a fragment to {name}, {hop}", ip / IPv6ExtHdrFragment(m=0, offset=0) / payload
                first = ip / IPv6ExtHdrFragment(m=1, id=7) / IPv6ExtHdrDestOpt()
                yield f"options of {message} in a fragment to {name}, {hop}", first
                later = ip / IPv6ExtHdrFragment(m=0, offset=1, id=7, nh=60) / bytes(payload)
                yield f"{message} in a later fragment to {name}, {hop}", later
    for message, payload in {"RA": advert, "query": ICMPv6MLQuery(), "query 2": ICMPv6MLQuery2()}.items():
        for source in (sender.lla, scene.gateway_lla, "::"):
            yield f"{message} to all from {source}", to_group(sender, ALL_NODES, src=source) / payload
            hop = to_group(sender, ALL_NODES, src=source, hlim=1) / IPv6ExtHdrHopByHop(options=[RouterAlert()])
            yield f"{message} behind hop-by-hop to all from {source}", hop / payload
    yield "RS to all nodes", to_group(sender, ALL_NODES) / ICMPv6ND_RS()
    yield "RS to alice", sender.ether(scene.alice) / IPv6(src=sender.lla, dst=scene.alice.lla, hlim=255) / ICMPv6ND_RS()


def test_no_vm_is_a_router(scene: Scene) -> None:
    assert scene.arrivals(scene.mallory, dict(routers_only(scene, scene.mallory))) == {}


def test_the_router_is_one(scene: Scene) -> None:
    """The positive control: advertisements arrive from the wire, and gave every VM its gateway."""
    for host in (scene.mallory, scene.alice, scene.bob):
        assert f"via {scene.gateway_lla}" in host.vm.exec("ip", "-6", "route", "show", "default")
        assert "fd00:66" not in host.vm.exec("ip", "-6", "route")
        assert host.vm.ping(scene.gateway[1])


def test_the_wire_may_ask_and_answer_but_not_be_a_vm(scene: Scene) -> None:
    stray, mallory, alice, bob = scene.stray, scene.mallory, scene.alice, scene.bob
    honest = {
        "who is alice": asks(stray, alice.ip6),
        "who is bob": asks(stray, bob.ip6),
        "I am stray": tells(stray, alice),
        "detection of alice's address": asks(stray, alice.ip6, src="::", sll=None),
    }
    assert scene.arrivals(stray, honest) == {
        "who is alice": {"alice"}, "who is bob": {"bob"}, "I am stray": {"alice"},
        "detection of alice's address": {"alice"},
    }  # fmt: skip
    claims = {
        "NA for mallory": tells(stray, alice, target=mallory.ip6),
        "NA for mallory with two tll": tells(stray, alice, target=mallory.ip6) / ICMPv6NDOptDstLLAddr(lladdr=stray.mac),
        "NA for mallory's link-local": tells(stray, alice, target=mallory.lla),
        "NA from mallory": tells(stray, alice, src=mallory.ip6),
        "NS from mallory": asks(stray, alice.ip6, src=mallory.ip6),
        "NS from mallory's link-local": asks(stray, alice.ip6, src=mallory.lla, to=alice),
        "NA to all": tells(stray, ALL_NODES),
        "who is nobody": asks(stray, FREE),
        "NS hop limit": asks(stray, alice.ip6, hlim=64),
    }
    assert scene.arrivals(stray, claims) == {}


def test_the_neighbours_still_know_each_other(scene: Scene) -> None:
    for host, others in ((scene.alice, (scene.mallory, scene.bob)), (scene.bob, (scene.alice, scene.mallory))):
        for other in others:
            assert host.vm.ping(other.ip6)
            assert other.mac in host.vm.exec("ip", "-6", "neighbour", "show", other.ip6)
