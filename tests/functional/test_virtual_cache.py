# SPDX-License-Identifier: Apache-2.0
"""When a virtual MAC goes from one to another, the switch is not made to forget (`sgctl.agent.renewals`).

With IPv4 a learned flow changes where packets go, and never how closely they are looked at: no cached flow overlaps
another. With IPv6 they are looked at more closely where the MAC is here, and some overlap after it has been elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest

from flows.packet import End, Packet
from tests.functional.dummyswitch import DummySwitch
from tests.functional.test_stale_cache import SOURCES, patience
from tests.unit.flow_cast import ROUTER_MAC, at, client, na, nodes
from tests.unit.flow_virtual import vip, vip6
from tests.unit.flow_world import CLIENT, MATE, NODE, UPLINK, VRRP4, VRRP6, flows_of

HOLDERS = (NODE.number, UPLINK, MATE.number, NODE.number, MATE.number, UPLINK, NODE.number)
MANY = 400
NOBODYS = 0x02AA00000000
"""The first of many MACs that are behind the uplink, if anywhere: a cached flow each."""
ADDRESSES = ("10.1.0.72", "10.1.0.73", "10.1.0.200", "203.0.113.9")
OUTSIDE = tuple(at(ROUTER_MAC, source) for source in ("10.1.0.90", "10.3.0.77", "203.0.113.5"))
NEIGHBOUR = at(ROUTER_MAC, "fd00:1::90")
HOPS = 21
"""Where the hop limit is in a frame."""


@pytest.fixture
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(range(1, 13))
    try:
        switch.replace(flows_of())
        yield switch
    finally:
        switch.close()


def claim(real: DummySwitch, port: int, version: int) -> None:
    """Somebody who may says that it has the MAC; the switch has heard it, and looked after its cache."""
    says = Packet.arp(vip, vip.ip) if version == 4 else na(vip6, nodes, vip6, VRRP6)
    real.receive(says.frame, port)
    for _ in range(2):
        patience(real)


def ask() -> Iterator[tuple[int, bytes]]:
    """What a VM here and machines outside may say to the MAC: (port, frame)."""
    for to in (at(VRRP4, address) for address in ADDRESSES):
        for by, port in ((client, CLIENT.number), *((one, UPLINK) for one in OUTSIDE)):
            whole = Packet.udp(by, to, 5300, payload=bytes(3000))
            yield from ((port, one.frame) for one in (Packet.tcp(by, to, 80), Packet.udp(by, to, 5300)))
            yield from ((port, piece.frame) for piece in whole.fragments())


def looked_at(real: DummySwitch) -> set[str]:
    """The matches of what is cached about frames for the MAC, before they have been tracked."""
    lines = real.control("dpctl/dump-flows").splitlines()
    found = [one for one in lines if "recirc_id(0)" in one and "dst=00:00:5e:00:01:33" in one]
    return {re.sub(r", packets:.*", "", one) for one in found}


def test_who_has_it_changes_nothing_in_what_is_looked_at(real: DummySwitch) -> None:
    seen = []
    for holder in HOLDERS[:3]:
        claim(real, holder, 4)
        real.control("revalidator/purge")
        for port, frame in ask():
            real.receive(frame, port)
            real.sent()
        seen.append(looked_at(real))
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) > len(ADDRESSES)


def from_afar(real: DummySwitch, hops: Iterable[int]) -> dict[int, int]:
    """How many of the neighbour's segments leave by which port, one for each hop limit."""
    real.sent()
    for limit in hops:
        frame = bytearray(Packet.tcp(NEIGHBOUR, vip6, 80, sport=next(SOURCES)).frame)
        frame[HOPS] = limit
        real.receive(bytes(frame), UPLINK)
    return {port: len(frames) for port, frames in real.sent().items()}


def test_it_is_found_when_it_has_been_elsewhere(real: DummySwitch) -> None:
    here, there = range(40, 120), range(120, 160)
    for _ in range(2):
        claim(real, NODE.number, 6)
        assert from_afar(real, here) == {NODE.number: len(here)}
        claim(real, UPLINK, 6)
        assert from_afar(real, there) == {}
        claim(real, NODE.number, 6)
        assert from_afar(real, here) == {NODE.number: len(here)}


def test_whatever_is_cached_it_is_found_where_it_is(real: DummySwitch) -> None:
    for holder in HOLDERS:
        claim(real, holder, 4)
        real.sent()
        for _ in range(20):
            real.receive(Packet.udp(client, vip, 5300, sport=next(SOURCES)).frame, CLIENT.number)
        assert {port: len(frames) for port, frames in real.sent().items()} == {holder: 20}
        for number in range(MANY):
            stranger = End(NOBODYS + number, vip.ip)
            real.receive(Packet.udp(client, stranger, 5300).frame, CLIENT.number)
        assert len(real.control("dpctl/dump-flows").splitlines()) > MANY
