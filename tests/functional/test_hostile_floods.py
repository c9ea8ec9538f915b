# SPDX-License-Identifier: Apache-2.0
"""A VM that floods hurts nobody but itself: a neighbour's success while fragments and new connections rain.

Each flood is tried twice. Without bounds it must do harm, or the test would prove nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Ether

from devstack.lab import VM, Hypervisor, Lab
from devstack.lab.hypervisor import BRIDGE as BRIDGE_NAME
from devstack.lab.namespace import wait_for
from flows.flow import Meter
from flows.inputs import Audience, Bridge, Limit, Limits, Port, Unit
from flows.meters import Bound, meters
from flows.text import mac
from tests.unit.flow_world import CLIENT, CLUSTER, OPEN, POD, POLICIES, SERVER, UPLINK, flows_of, port

MALLORY = replace(port(3, "10.1.0.13", "fd00:1::13", policy=OPEN), allowed=CLUSTER)
#: Small enough for floods that a test can afford, and for the pieces of two of them, however long those take: of a
#: thousand pieces that a switch holds it forgets each after 15 seconds.
LIMITS = Limits(connections=Limit(20, 100), fragments=Limit(40, 100))
ROOM = 1000
"""Connections that the switch remembers in these tests."""
FLOOD = 4000
PIECE, PAUSE = 100, 0.005
TRIES = 8
PATIENT, HASTY = 3.0, 0.5
"""Seconds for an answer that must come, and for one that need not; what a flood blocks, it blocks for longer."""


@dataclass(frozen=True, slots=True)
class Site:
    hypervisor: Hypervisor
    client: VM
    server: VM
    mallory: VM
    ports: tuple[Port, ...]
    uplink: int

    def guard(self, limits: Limits) -> None:
        """Hold the pipeline's flows with these limits, and remember nothing."""
        bridge = Bridge(uplinks=(self.uplink,), limits=limits)
        audience = Audience(POD.number, (), tuple(port.number for port in self.ports))
        units: tuple[Unit, ...] = (bridge, POD, *self.ports, audience, *POLICIES)
        self.hypervisor.ofctl("del-flows", BRIDGE_NAME)
        self.hypervisor.ofctl("del-meters", BRIDGE_NAME)
        for spec in (spec for unit in units for spec in meters(unit, bridge)):
            band = f"band=type=drop,rate={spec.rate},burst_size={spec.burst}"
            self.hypervisor.ofctl("add-meter", BRIDGE_NAME, f"meter={spec.number},pktps,burst,stats,{band}")
        self.hypervisor.set_flows(*map(str, flows_of(units, bridge)))
        self.control("dpctl/flush-conntrack")

    def control(self, *command: str) -> str:
        return self.hypervisor.appctl("-t", str(self.hypervisor.directory / "ovs-vswitchd.ctl"), *command)

    def dropped(self, bound: Bound) -> int:
        """Packets of mallory's that a bound has dropped."""
        number = bound.number(self.ports[2].number)
        text = self.hypervisor.ofctl("meter-stats", BRIDGE_NAME, f"meter={number}")
        return int(text.rpartition("packet_count:")[2].split()[0])


@pytest.fixture(scope="module")
def site(module_lab: Lab) -> Site:
    hypervisor = Hypervisor(module_lab, "hv1")
    vms, ports = [], []
    for one in (CLIENT, replace(SERVER, addresses=(SERVER.addresses[0], SERVER.addresses[2])), MALLORY):
        vm = VM(module_lab, f"vm{one.number}")
        number = hypervisor.ofport(hypervisor.plug(vm, one.nic, mac(one.mac)))
        for address in one.addresses:
            vm.add_address(f"{address}/{24 if address.version == 4 else 64}")
        vms.append(vm)
        ports.append(replace(one, number=number))
    router = VM(module_lab, f"vm{UPLINK}")
    uplink = hypervisor.ofport(hypervisor.plug(router, "router", "02:00:00:00:bb:01"))
    hypervisor.vsctl("set-fail-mode", BRIDGE_NAME, "secure")
    hypervisor.ofctl("set-frags", BRIDGE_NAME, "nx-match")
    vms[1].serve("udp", 5300)
    client, server, mallory = vms
    return Site(hypervisor, client, server, mallory, tuple(ports), uplink)


@pytest.fixture
def little_room(site: Site) -> Iterator[None]:
    site.control("dpctl/ct-set-limits", f"zone=1,limit={ROOM}")
    yield
    site.control("dpctl/ct-del-limits", "zone=1")


def ether() -> Ether:
    return Ether(src=mac(MALLORY.mac), dst=mac(SERVER.mac))


def lone_fragments(ident: int) -> list[bytes]:
    """Last pieces of packets that never become whole, half of them IPv6."""
    last = IPv6ExtHdrFragment(id=0, offset=200, nh=17) / (b"x" * 8)
    one = bytes(ether() / IPv6(src="fd00:1::13", dst="fd00:1::12") / last)
    six = (one[:-12] + (ident + n).to_bytes(4, "big") + one[-8:] for n in range(FLOOD // 2))
    return [frame for pair in zip(lone_fragments_4(), six, strict=True) for frame in pair]


@cache
def lone_fragments_4() -> list[bytes]:
    header = ether() / IP(src="10.1.0.13", dst="10.1.0.12", frag=200, proto=17)
    return [bytes(header / (b"x" * 8)) for header[IP].id in range(FLOOD // 2)]


@cache
def new_connections() -> list[bytes]:
    """To an open port of the server from ever other ports, and to ever other addresses outside."""
    outside = Ether(src=mac(MALLORY.mac), dst="02:00:00:00:bb:01")
    inside = (
        ether() / IP(src="10.1.0.13", dst="10.1.0.12") / UDP(sport=2000 + n, dport=5300) for n in range(FLOOD // 2)
    )
    others = (f"203.{number >> 8}.{number & 255}.9" for number in range(FLOOD // 2))
    away = (outside / IP(src="10.1.0.13", dst=other) / UDP(sport=7, dport=7) for other in others)
    return [bytes(one) for pair in zip(inside, away, strict=True) for one in pair]


def announcements() -> list[bytes]:
    """Of an address that mallory may share, to all of its pod."""
    four, six = (str(one.network.network_address) for one in CLUSTER)
    own = mac(MALLORY.mac)
    arp = Ether(src=own, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=own, psrc=four, pdst=four)
    advert = Ether(src=own, dst="33:33:00:00:00:01") / IPv6(src=six, dst="ff02::1", hlim=255)
    return [bytes(arp), bytes(advert / ICMPv6ND_NA(tgt=six, R=0, S=0) / ICMPv6NDOptDstLLAddr(lladdr=own))]


def flood(site: Site, frames: list[bytes]) -> None:
    """Send all of it as fast as the switch takes it: more than some 270 at once would wait in no queue."""
    for start in range(0, len(frames), PIECE):
        site.mallory.send(frames[start : start + PIECE])
        time.sleep(PAUSE)


def successes(attempt: Callable[[], bool]) -> int:
    return sum(attempt() for _ in range(TRIES))


def fails(attempt: Callable[[], bool]) -> bool:
    """Whether one of as many does not succeed."""
    return not all(attempt() for _ in range(TRIES))


def large_datagram(site: Site, *, timeout: float = PATIENT) -> bool:
    return site.client.probe("udp", "10.1.0.12", 5300, size=4000, timeout=timeout) == "open"


def small_datagram(site: Site, *, timeout: float = PATIENT) -> bool:
    return site.client.probe("udp", "10.1.0.12", 5300, timeout=timeout) == "open"


@pytest.mark.parametrize("version", [4, 6])
def test_lone_fragments(site: Site, version: int) -> None:
    """Nobody's large packets are held up by another's pieces, which fill the list that all share."""

    def attempt() -> bool:
        return large_datagram(site) if version == 4 else site.client.ping("fd00:1::12", size=4000, timeout=PATIENT)

    site.guard(LIMITS)
    assert attempt()
    flood(site, lone_fragments(version * 100_000))
    assert successes(attempt) == TRIES
    assert site.dropped(Bound.FRAGMENTS_SENT) > FLOOD // 8


@pytest.mark.parametrize("limits", [LIMITS, Limits()], ids=["bounded", "unbounded"])
def test_announcements(site: Site, limits: Limits) -> None:
    """What one VM may tell all others is bounded, for ARP and neighbour discovery together."""
    site.guard(limits)
    ears = site.server.sniff(only=bytes.fromhex(mac(MALLORY.mac).replace(":", "")))
    began = time.monotonic()
    flood(site, announcements() * (FLOOD // 2))
    assert successes(lambda: small_datagram(site)) == TRIES
    heard, bound = ears.total(), LIMITS.fragments
    ears.stop()
    assert bound is not None
    most = bound.burst + bound.rate * (time.monotonic() - began + 1)
    if limits.fragments is None:
        assert heard > most
    else:
        assert bound.burst // 2 < heard < most
        assert site.dropped(Bound.FRAGMENTS_SENT) > FLOOD // 8


def test_lone_fragments_do_harm_without_bounds(site: Site) -> None:
    site.guard(Limits())
    flood(site, lone_fragments(900_000))
    assert fails(lambda: large_datagram(site, timeout=HASTY))


def test_new_connections(site: Site, little_room: None) -> None:
    """A neighbour's new connections go on being remembered, so their answers arrive."""
    site.guard(LIMITS)
    assert small_datagram(site)
    flood(site, new_connections())
    assert successes(lambda: small_datagram(site)) == TRIES
    assert site.dropped(Bound.OPENED) > FLOOD // 8


def test_new_connections_do_harm_without_bounds(site: Site, little_room: None) -> None:
    site.guard(Limits())
    assert small_datagram(site)

    def full() -> bool:
        flood(site, new_connections())
        return f"limit={ROOM},count={ROOM}" in site.control("dpctl/ct-get-limits", "zone=1")

    wait_for("no more room", full)
    assert fails(lambda: small_datagram(site, timeout=HASTY))


def test_a_busy_vm_s_established_traffic_is_not_bounded(site: Site) -> None:
    """Ten times as many packets as its bound in one connection; only the first meets it."""
    site.guard(Limits(connections=Limit(1, 1)))
    packet = bytes(ether() / IP(src="10.1.0.13", dst="10.1.0.12") / UDP(sport=999, dport=5300) / b"x")
    ears = site.server.sniff()
    site.mallory.send([packet] * 200, interval=0.001)
    wait_for("all of them", lambda: sum(frame == packet for frame in ears.frames()) == 200)
    assert site.dropped(Bound.OPENED) == 0


def test_flows_name_only_meters_that_are_there(site: Site) -> None:
    bridge = Bridge(uplinks=(site.uplink,), limits=LIMITS)
    actions = (action for flow in flows_of(site.ports, bridge) for action in flow.actions)
    used = {action.number for action in actions if isinstance(action, Meter)}
    assert used == {spec.number for unit in site.ports for spec in meters(unit, bridge)}
