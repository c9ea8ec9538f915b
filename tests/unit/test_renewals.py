# SPDX-License-Identifier: Apache-2.0
"""Every change makes a userspace datapath look at bits that what it has cached about the changed part does not."""

from __future__ import annotations

from functools import reduce
from itertools import permutations
from operator import or_

import pytest

from flows import lint
from flows.bands import Band
from flows.flow import Flow
from flows.pipeline import build
from flows.renewals import PARTS, TURNS, Part, Renewal
from flows.tables import BY_NAME, CONNTRACK, OUTPUT, RESUMED_SENDER, STATE, TABLES
from sgctl.agent.renewals import Renewals
from sgctl.memo import Layers
from sgctl.reconcile import Compiler, Plan, scope
from sgctl.world import Decision
from tests.unit.flow_world import BRIDGE, CLIENT, UNITS, flows_of


def gates(one: Renewal) -> tuple[Flow, ...]:
    return build(one, BRIDGE, scope(one.owner))


def test_each_table_is_in_one_part() -> None:
    for table in TABLES:
        assert len([part for part in PARTS if part.holds(table.id)]) == 1, table.name


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_packets_only_get_into_a_part_by_its_gates(part: Part) -> None:
    """From tables before it, and by being looked up in conntrack; the first table is where all packets begin."""
    inside = [table for table in TABLES if part.holds(table.id)]
    ways = [(table, BY_NAME[name]) for table in TABLES for name in table.to]
    ways += [(CONNTRACK, STATE), (CONNTRACK, RESUMED_SENDER), (BY_NAME["COMMIT"], OUTPUT), (OUTPUT, TABLES[0])]
    assert {to for came, to in ways if to in inside and came not in inside} == set(part.gates)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_each_turn_looks_at_more_than_any_other(part: Part) -> None:
    for one, other in permutations(range(TURNS), 2):
        assert Renewal(part, one).bits & ~Renewal(part, other).bits


def test_parts_have_bits_of_their_own() -> None:
    every = [reduce(or_, (Renewal(part, turn).bits for turn in range(TURNS))) for part in PARTS]
    assert sum(every) == reduce(or_, every) < 1 << 32


def test_gates_are_above_all_and_let_nothing_through() -> None:
    found = [flow for part in PARTS for flow in gates(Renewal(part, 3))]
    assert {flow.priority for flow in found} == {Band.NEVER} and not any(flow.actions for flow in found)
    assert max(flow.priority for flow in flows_of(UNITS) if not flow.owner.startswith("renewal/")) < Band.NEVER
    assert lint.check(flows_of()) == []


def decision() -> Decision:
    return Decision(units=Layers({BRIDGE.owner: BRIDGE, CLIENT.owner: CLIENT}), ports=())


def desired(renewals: Renewals) -> dict[int, Flow]:
    return dict(Compiler(lambda unit: build(unit, BRIDGE)).compile(renewals.join(decision()).units))


def userspace() -> Renewals:
    renewals = Renewals()
    renewals.userspace = True
    return renewals


def turned(before: dict[int, Flow], after: dict[int, Flow]) -> set[str]:
    return {after[cookie].owner for cookie in after.keys() - before.keys()}


def test_the_kernel_needs_none() -> None:
    renewals = Renewals()
    assert renewals.join(decision()) == decision()
    assert not renewals.advance(Plan(flows_of([CLIENT])))


@pytest.mark.parametrize(("table", "part"), [(150, "egress"), (170, "ingress"), (40, "senders"), (120, "connections")])
def test_a_change_turns_its_part_and_no_other(table: int, part: str) -> None:
    renewals = userspace()
    before = desired(renewals)
    flow = next(flow for flow in flows_of() if flow.table == table)
    assert renewals.advance(Plan(adds=(flow,)))
    after = desired(renewals)
    assert turned(before, after) == {f"renewal/{part}"}
    assert renewals.advance(Plan(deletes=((flow.cookie, table),)))
    assert turned(after, desired(renewals)) == {f"renewal/{part}"}


def test_gates_are_no_reason_to_turn() -> None:
    renewals = userspace()
    of_gates = tuple(flow for part in PARTS for flow in gates(Renewal(part, 4)))
    assert not renewals.advance(Plan(of_gates, tuple((flow.cookie, flow.table) for flow in of_gates)))


def test_it_goes_on_where_the_switch_is() -> None:
    renewals = userspace()
    flow = next(flow for flow in flows_of() if flow.table == 170)
    for _ in range(TURNS + 3):
        assert renewals.advance(Plan(adds=(flow,)))
    installed = desired(renewals)
    restarted = userspace()
    restarted.adopt(installed)
    assert desired(restarted).keys() == installed.keys()
    fresh = userspace()
    fresh.adopt({})
    assert desired(fresh).keys() == desired(userspace()).keys()


def test_gates_that_are_new_need_no_turn() -> None:
    renewals = userspace()
    first = desired(renewals)
    assert not renewals.advance(Plan(adds=tuple(first.values())))
    assert desired(renewals) == first


def test_what_somebody_else_has_changed_turns_all_parts_once() -> None:
    renewals = userspace()
    before = desired(renewals)
    renewals.suspect()
    assert renewals.advance(Plan())
    assert turned(before, desired(renewals)) == {f"renewal/{part.name}" for part in PARTS}
    assert not renewals.advance(Plan())


def test_gates_that_somebody_has_removed_are_not_put_back_as_they_were() -> None:
    """What was cached while they stood has looked at their bits."""
    renewals = userspace()
    before = desired(renewals)
    renewals.suspect()
    assert renewals.advance(Plan(adds=tuple(before.values())))
    assert turned(before, desired(renewals)) == {f"renewal/{part.name}" for part in PARTS}


def test_a_switch_that_does_not_take_them_does_without() -> None:
    renewals = userspace()
    assert not renewals.refuse(CLIENT.owner)
    assert renewals.join(decision()) != decision()
    assert renewals.refuse("renewal/egress")
    assert renewals.join(decision()) == decision()
