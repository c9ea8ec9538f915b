# SPDX-License-Identifier: Apache-2.0
"""How many flows a thing costs, and how many look-ups a packet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from flows.inputs import Bridge, Fanout, Peer, Policy, Service
from flows.pipeline import build
from flows.trace import Switch
from tests.unit.flow_cases import CASES
from tests.unit.flow_world import BRIDGE, CLIENT, FAR, OTHER_POD, POD, SERVER, flows_of, port, rule

LOOK_UPS = 13


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        (FAR, 20),
        (CLIENT, 44),
        (BRIDGE, 195),
        (POD, 18),
        (OTHER_POD, 8),
        (Peer(ip_address("10.0.0.1"), 1, 2), 2),
        (Peer(ip_address("10.0.0.1"), 0, 2), 1),
        (Peer(ip_address("10.0.0.1")), 0),
        (Fanout(1, (2, 3)), 2),
        (Fanout(1, ()), 0),
        (Policy(1, egress_open=True), 1),
        (Policy(1, egress_open=False), 0),
    ],
)  # fmt: skip
def test_flows_of_a_unit(unit: object, most: int) -> None:
    assert len(build(unit, BRIDGE)) == most if most < 100 else len(build(unit, BRIDGE)) < most  # type: ignore[arg-type]


def test_a_second_address_costs_little() -> None:
    one = port(9, "10.1.0.1")
    assert len(build(port(9, "10.1.0.1", "10.1.0.2"), BRIDGE)) - len(build(one, BRIDGE)) == 10


def test_a_rule_costs_its_masks() -> None:
    policy = Policy(1, egress_open=False, ingress=(rule(9, Service(6, 80, 95), "10.0.0.0/8"),))
    wider = replace(policy, ingress=(*policy.ingress, rule(8, Service(6, 22, 23), "10.0.0.0/8")))
    assert len(build(policy, BRIDGE)) == 2
    assert len(build(wider, BRIDGE)) == 3


def test_ports_do_not_know_rules() -> None:
    """A port's flows depend on the number of its policy only, and a peer's on nothing else at all."""
    one, other = (build(replace(SERVER, policy=number), BRIDGE) for number in (1, 2))
    assert sum(a != b for a, b in zip(one, other, strict=True)) == 5
    assert build(Peer(ip_address("10.0.0.1"), 1, 2), BRIDGE) == build(
        Peer(ip_address("10.0.0.1"), 1, 2), Bridge(uplinks=())
    )


def test_building_twice_gives_the_same() -> None:
    assert flows_of() == flows_of()
    assert [flow.digest() for flow in flows_of()] == [flow.digest() for flow in flows_of()]


def test_no_packet_looks_up_more() -> None:
    """A virtual MAC is looked for in two tables more, here by VMs without egress rules, which meet one table fewer."""
    assert longest_way(name for name in CASES if not name.startswith("virtual")) == LOOK_UPS
    assert longest_way(name for name in CASES if name.startswith("virtual")) == LOOK_UPS + 1


def longest_way(names: Iterable[str]) -> int:
    """The most tables that a packet of these cases meets."""
    longest, flows = 0, flows_of()
    for case in (CASES[name] for name in names):
        switch = Switch(flows)
        for hop in case:
            # A fan-out visits its parts one after the other, of which only those with ports count here.
            walks = (switch.walk(piece, hop.port) for piece in hop.pieces)
            longest = max(longest, *(len(set(walk.path)) for walk in walks))
    return longest
