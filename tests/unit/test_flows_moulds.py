# SPDX-License-Identifier: Apache-2.0
"""Flows that are cast in moulds are those that the pipeline makes: of ports and peers of many shapes, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.flow import Flow
from flows.inputs import Allowed, Block, Bridge, Ip, Limit, Limits, Peer, Port, Segment, Unit
from flows.moulds import ENOUGH, Moulds
from flows.pipeline import build
from flows.terms import link_local
from sgctl.openflow import encode
from sgctl.reconcile import scope

LIMITS = Limits(connections=Limit(100, 200), fragments=Limit(10, 20))
BRIDGES = [Bridge(uplinks, 1, limits) for uplinks, limits in product(((), (9,), (9, 8)), (Limits(), LIMITS))]
SUBNETS = tuple(
    map(ip_network, ("10.1.0.0/16", "10.1.128.0/17", "192.0.2.0/29", "fd00:1::/64", "fd00:1:0:0:8000::/65"))
)
PODS = (
    Segment(),
    Segment(SUBNETS[:1], (ip_address("10.1.0.2"),), (ip_address("10.1.0.2"),)),
    Segment(SUBNETS[3:4]),
    Segment(SUBNETS),
)
#: How addresses come about: the first of a range, and how many there are of it.
RANGES = [
    ("10.1.0.16", 1000), ("10.1.200.16", 1000), ("192.0.2.1", 6), ("172.16.0.1", 1000),
    ("fd00:1::100", 1000), ("fd00:1::8000:0:0:1", 1000), ("2001:db8::1", 1000), ("fe80::1", 1000),
]  # fmt: skip
#: What may be promised beside addresses, of several kinds; for another port, the same a little further.
PROMISES = (
    (Allowed(ip_network("10.1.77.0/32")),),
    (Allowed(ip_network("10.99.0.0/24")),),
    (Allowed(ip_network("10.1.78.0/32"), shared=True),),
    (Allowed(ip_network("fd00:1::77/128"), mac=0x020000000077),),
    (Allowed(ip_network("10.1.79.0/32"), mac=0x00005E000107, shared=True),),
)


def port(at: int, places: Sequence[tuple[int, int]], pod: Segment, allowed: tuple[Allowed, ...] = ()) -> Port:
    """The port with this number; of its addresses it is given in which ranges they are, and where there."""
    addresses = dict.fromkeys(_address(which, at * 37 + start) for which, start in places)
    mac = at * 0x9E3779B97F4A7C15 >> 7 & 0xFEFFFFFFFFFF
    return Port(f"nic{at}", at % 0xFEFF + 1, mac, tuple(addresses), 0xA11 + at % 5, pod, allowed)


def _address(which: int, start: int) -> Ip:
    first, size = RANGES[which]
    return ip_address(first) + start % size


def cast(units: Sequence[Unit], bridge: Bridge) -> Iterator[tuple[Unit, tuple[Flow, ...]]]:
    """The units of which there were enough before, with the flows that moulds make of them."""
    moulds = Moulds(bridge)
    made = [(unit, moulds.build(unit, scope(unit.owner))) for unit in units]
    return iter(made[ENOUGH:])


def check(units: Sequence[Unit], bridge: Bridge) -> None:
    """All of their flows, in all that is known of them, and as they are sent."""
    for unit, flows in cast(units, bridge):
        wanted = build(unit, bridge, scope(unit.owner))
        assert [encode.flow_mod(flow, 7) for flow in flows] == [encode.flow_mod(flow, 7) for flow in wanted]
        known = [one.name for one in fields(Flow) if one.name != "mould"]
        for name in known:
            assert [getattr(flow, name) for flow in flows] == [getattr(flow, name) for flow in wanted]
        assert flows == wanted
        assert list(map(str, flows)) == list(map(str, wanted))
        assert {flow.cookie & (1 << 40) - 1 for flow in flows} == {flow.digest() for flow in wanted}


def all_cast(units: Sequence[Unit], bridge: Bridge) -> bool:
    return all(flow.mould for _, flows in cast(units, bridge) for flow in flows)


ONE_PLACE = [[(which, 5)] for which in range(len(RANGES))]
SEVERAL = [[], [(0, 1), (1, 2)], [(0, 1), (3, 2)], [(0, 3), (4, 9)], [(0, 3), (5, 9), (6, 1), (7, 4)], [(2, 1), (4, 1)]]


@pytest.mark.parametrize("places", [*ONE_PLACE, *SEVERAL], ids=str)
@pytest.mark.parametrize("pod", PODS, ids=["nowhere", "v4", "v6", "several"])
def test_ports_are_cast_as_they_are_built(pod: Segment, places: list[tuple[int, int]]) -> None:
    for bridge in (BRIDGES[0], BRIDGES[3]):
        check([port(at, places, pod) for at in range(1, ENOUGH + 6)], bridge)


@pytest.mark.parametrize("places", [[], [(0, 5)], [(4, 5)], [(0, 1), (1, 2)], [(0, 3), (4, 9)]], ids=str)
def test_ordinary_ports_are_cast(places: list[tuple[int, int]]) -> None:
    for bridge in BRIDGES:
        assert all_cast([port(at, places, PODS[1]) for at in range(1, ENOUGH + 4)], bridge)


def test_the_pipeline_is_asked_once_and_only_by_who_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Unit] = []

    def ask(unit: Unit, bridge: Bridge, scope: int = 0) -> tuple[Flow, ...]:
        asked.append(unit)
        return build(unit, bridge, scope)

    monkeypatch.setattr("flows.moulds.build", ask)
    ports = [port(at, [(0, 5)], PODS[1]) for at in range(1, ENOUGH + 4)]
    (_, flows), *_ = cast(ports, BRIDGES[3])
    asked.clear()
    assert [encode.flow_mod(flow, 7) for flow in flows]
    asked.clear()  # The examples may have been looked at.
    assert [encode.flow_mod(flow, flow.table) for flow in flows]
    assert not asked
    assert all(str(flow) and flow.digest() for flow in flows)
    assert asked == [ports[ENOUGH]]


@pytest.mark.parametrize("allowed", PROMISES, ids=["own", "network", "shared", "nested", "virtual"])
def test_ports_with_promises_are_what_they_are(allowed: tuple[Allowed, ...]) -> None:
    for bridge in BRIDGES[2:4]:
        check([port(at, [(0, 5), (4, 5)], PODS[3], allowed) for at in range(1, ENOUGH + 4)], bridge)


PLACES = st.lists(st.tuples(st.integers(0, len(RANGES) - 1), st.integers(0, 999)), max_size=4)
ALLOWED = st.sampled_from([(), (), *PROMISES])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(PLACES, st.sampled_from(PODS), ALLOWED), min_size=1, max_size=3),
    st.sampled_from(BRIDGES),
    st.lists(st.integers(1, 60000), min_size=ENOUGH, max_size=3 * ENOUGH, unique=True),
)
def test_ports_of_several_shapes_in_any_order(
    shapes: list[tuple[list[tuple[int, int]], Segment, tuple[Allowed, ...]]], bridge: Bridge, numbers: list[int]
) -> None:
    units = [port(at, *shape) for shape in shapes for at in numbers]
    units.sort(key=lambda unit: unit.mac)
    check(units, bridge)


def test_who_has_its_link_local_address_as_an_address_is_another_case() -> None:
    ports = [port(at, [(4, 1)], PODS[3]) for at in range(1, ENOUGH + 4)]
    ports += [replace(one, addresses=(*one.addresses, link_local(one.mac))) for one in ports]
    check(ports, BRIDGES[3])


@pytest.mark.parametrize("changes", [{"number": 0}, {"number": -1}, {"number": 0x10000}, {"mac": 1 << 48},
                                     {"mac": 1 << 200}, {"policy": 1 << 32}], ids=str)  # fmt: skip
def test_what_is_impossible_stays_so(changes: dict[str, int]) -> None:
    moulds, ports = Moulds(BRIDGES[3]), [port(at, [(0, 5)], PODS[1]) for at in range(1, ENOUGH + 4)]
    for one in ports:
        moulds.build(one, 1 << 60)
    wrong = replace(ports[0], **changes)  # type: ignore[arg-type]
    try:
        wanted = build(wrong, BRIDGES[3], 1 << 60)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            moulds.build(wrong, 1 << 60)
    else:
        assert moulds.build(wrong, 1 << 60) == wanted


@pytest.mark.parametrize(("out", "into"), [(0, 5), (3, 0), (3, 5), (0, 0)])
@pytest.mark.parametrize("first", ["11.0.0.0", "2001:db8::", "255.255.0.0"])
def test_peers_are_cast_as_they_are_built(first: str, out: int, into: int) -> None:
    peers = [Peer(ip_address(first) + 77 * at, out, into) for at in range(ENOUGH + 40)]
    check(peers, BRIDGES[3])
    assert all_cast(peers, BRIDGES[3])


@pytest.mark.parametrize("blocks", [("11.0.0.0/24", "11.0.1.0/25"), ("11.0.0.0/32", "2001:db8::/64")])
def test_networks_are_peers_too(blocks: tuple[str, str]) -> None:
    networks: list[Block] = [ip_network(block) for block in blocks]
    check([Peer(one, 3, 5) for one in networks * ENOUGH], BRIDGES[3])


def test_addresses_are_of_the_family_that_they_were() -> None:
    """Small numbers are addresses of both families."""
    peers: list[Unit] = [Peer(kind(at), 3, 5) for at in range(1, ENOUGH + 9) for kind in (IPv4Address, IPv6Address)]
    check(peers, BRIDGES[3])
