# SPDX-License-Identifier: Apache-2.0
"""Each port's bounds: where they stand, what meets them and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.flow import Controller, Flow, Meter
from flows.inputs import Bridge, Limits, Standby, Unit
from flows.lint import check
from flows.meters import FIRST, LAST, Bound, meters
from flows.pipeline import build
from flows.tables import BY_ID
from flows.trace import Switch, Walk
from tests.unit.flow_cases import CASES, CONNECTIONS
from tests.unit.flow_cast import Case
from tests.unit.flow_world import BLANK, BRIDGE, CLIENT, FAR, LIMITS, UNITS, UPLINK, flows_of, port

FREE = replace(BRIDGE, limits=Limits())
NAMES = {spec.number: spec.bound for unit in UNITS for spec in meters(unit, BRIDGE)}


def numbers(flows: tuple[Flow, ...]) -> set[int]:
    return {action.number for flow in flows for action in flow.actions if isinstance(action, Meter)}


def met(walk: Walk) -> list[Bound | None]:
    """The bounds that a packet has met."""
    flows = (step.flow for step in walk.steps if step.flow)
    return [NAMES[action.number] for flow in flows for action in flow.actions if isinstance(action, Meter)]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.owner)
def test_each_meter_that_flows_use_is_there_and_no_other(unit: Unit) -> None:
    assert numbers(build(unit, BRIDGE)) == {spec.number for spec in meters(unit, BRIDGE)}
    assert not numbers(build(unit, FREE)) and not list(meters(unit, FREE))


def test_a_bound_stands_in_its_table() -> None:
    for unit in (CLIENT, Standby("nic7", 7)):
        for flow in build(unit, BRIDGE):
            for number in numbers((flow,)):
                (spec,) = (spec for spec in meters(unit, BRIDGE) if spec.number == number)
                assert spec.bound is not None and BY_ID[flow.table] is spec.bound.table


def test_numbers_are_each_port_s_own() -> None:
    ports = [port(number, "10.1.0.1") for number in (1, 2, 65279)]
    found = [spec.number for one in ports for spec in meters(one, BRIDGE)]
    assert len(set(found)) == 12
    assert (min(found), max(found)) == (FIRST, LAST)


def test_the_rate_is_not_part_of_the_flows() -> None:
    """Another rate changes meters only."""
    assert LIMITS.connections
    faster = replace(BRIDGE, limits=replace(LIMITS, connections=replace(LIMITS.connections, rate=9)))
    assert build(CLIENT, faster) == build(CLIENT, BRIDGE)
    assert set(meters(CLIENT, faster)) != set(meters(CLIENT, BRIDGE))


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(connections=LIMITS.connections), Limits(fragments=LIMITS.fragments)]
)
def test_any_limit_may_be_left_out(limits: Limits) -> None:
    bridge = replace(BRIDGE, limits=limits)
    assert check(flows_of((bridge, *UNITS[1:]), bridge)) == []


def test_without_uplinks_nothing_comes_from_the_wire() -> None:
    island = Bridge(uplinks=(), limits=LIMITS)
    bounds = {BY_ID[flow.table].name for flow in build(FAR, island) if numbers((flow,))}
    assert bounds == {"CONNTRACK", "STATE"}


def play(case: Case) -> list[list[Bound | None]]:
    switch = Switch(flows_of())
    return [met(walk) for hop in case for walk in switch.walk_pieces(hop.pieces, hop.port)]


def test_only_the_first_packet_of_a_connection_counts() -> None:
    first, *rest = play(CONNECTIONS["between VMs"])
    assert first == [Bound.OPENED]
    assert not any(rest)
    first, *rest = play(CONNECTIONS["to the wire"])
    assert first == [Bound.OPENED]
    assert not any(rest)


def test_what_others_open_counts_once_the_rules_accept_it() -> None:
    accepted = refused = 0
    for case in CASES.values():
        for hop in case[:1]:
            if hop.port != UPLINK or hop.pieces[0].seen.is_fragment:
                continue
            (found, *_) = play(case[:1])
            accepted += found == [Bound.ACCEPTED]
            refused += not found
            assert found in ([], [Bound.ACCEPTED])
            assert hop.out or not found
    assert accepted and refused


def test_a_standby_port_shows_frames_within_its_bound() -> None:
    (flow,) = build(Standby("nic7", 7), BRIDGE)
    assert flow.actions == (Meter(Bound.SHOWN.number(7)), Controller())


def test_ports_without_addresses_have_no_connections() -> None:
    assert not numbers(build(BLANK, BRIDGE))
