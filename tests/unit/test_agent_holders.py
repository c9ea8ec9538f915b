# SPDX-License-Identifier: Apache-2.0
"""What a switch has learned of virtual MACs goes with the last who may hold them, at the latest when it is renewed."""

from __future__ import annotations

from collections.abc import Iterable

from flows.inputs import Unit, Virtual
from flows.learned import DHCP, of_holder
from flows.tables import HOLDER, OUTPUT, VIRTUAL_GUARD
from sgctl.agent.holders import left
from sgctl.memo import Layers
from sgctl.reconcile import Plan
from sgctl.world import Decision
from tests.unit.flow_world import POD, UNITS, VIRTUAL

GUARD_GOES = Plan(deletes=((1, VIRTUAL_GUARD.id),))
MACS = {of_holder(one.mac, cluster.pod.number) for one in VIRTUAL for cluster in one.clusters}


def decided(units: Iterable[Unit]) -> Decision:
    return Decision(units=Layers({unit.owner: unit for unit in units}), ports=())


WITH, WITHOUT = decided(UNITS), decided(unit for unit in UNITS if not isinstance(unit, Virtual))


def test_what_nobody_may_hold_any_more() -> None:
    assert len(MACS) > 1
    assert left(WITH, WITHOUT, GUARD_GOES, ()) == tuple((cookie, HOLDER.id) for cookie in sorted(MACS))


def test_what_somebody_may_still_hold_stays() -> None:
    assert left(WITH, WITH, GUARD_GOES, MACS) == ()


def test_other_changes_leave_nothing() -> None:
    assert left(WITH, WITHOUT, Plan(deletes=((1, OUTPUT.id),)), MACS) == ()
    assert left(WITHOUT, WITH, Plan(), MACS) == ()


def test_at_the_start_by_what_is_there() -> None:
    """An agent that ended between a change and its renewal has left it."""
    gone, lasting = of_holder(0x00005E000177, POD.number), next(iter(MACS))
    assert left(None, WITH, Plan(), {gone, lasting, DHCP, 7}) == ((gone, HOLDER.id),)
