# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a virtual MAC leads nowhere once it is not promised any more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.inputs import Cluster, Port, Unit, Virtual
from flows.packet import Packet
from flows.tables import HOLDER
from flows.trace import Switch
from tests.unit.flow_cast import C, U, client, stranger
from tests.unit.flow_virtual import M, N, vip
from tests.unit.flow_world import MATE, NODE, UNITS, flows_of


def without(*ports: Port, closed: bool = False) -> tuple[Unit, ...]:
    """The world where these have not been promised anything, or are closed."""
    numbers = {port.number for port in ports}

    def changed(unit: Unit) -> Unit | None:
        if isinstance(unit, Port) and unit in ports:
            return None if closed else replace(unit, allowed=())
        if isinstance(unit, Virtual):
            left = (replace(one, ports=tuple(n for n in one.ports if n not in numbers)) for one in unit.clusters)
            return virtual(unit, tuple(one for one in left if one.ports))
        return unit

    return tuple(one for unit in UNITS if (one := changed(unit)) is not None)


def virtual(unit: Virtual, clusters: tuple[Cluster, ...]) -> Virtual | None:
    return replace(unit, clusters=clusters) if clusters else None


@pytest.fixture
def switch() -> Switch:
    """It was heard at NODE last."""
    switch = Switch(flows_of())
    switch.walk(Packet.arp(vip, vip.ip), N)
    assert switch.walk(Packet.tcp(client, vip, 80), C).outputs == (N,)
    switch.conntrack.forget()
    return switch


@pytest.mark.parametrize("closed", [False, True])
def test_a_port_that_has_lost_it_is_not_where_it_is(switch: Switch, closed: bool) -> None:
    switch.install(flows_of(without(NODE, closed=closed)))
    assert switch.learned
    assert switch.walk(Packet.tcp(client, vip, 80), C).outputs == (U,)
    assert switch.walk(Packet.tcp(stranger, vip, 80), U).outputs == ()
    switch.walk(Packet.arp(vip, vip.ip), M)
    assert switch.walk(Packet.tcp(client, vip, 80), C).outputs == (M,)


def test_it_is_forgotten_with_the_last_that_may_hold_it(switch: Switch) -> None:
    switch.install(flows_of(without(NODE, MATE)))
    assert [flow for flow in switch.learned if flow.table == HOLDER.id] == []
    assert switch.walk(Packet.tcp(client, vip, 80), C).outputs == (U,)


def test_time_does_not_make_it_forgotten(switch: Switch) -> None:
    switch.expire()
    assert switch.walk(Packet.tcp(client, vip, 80), C).outputs == (N,)
