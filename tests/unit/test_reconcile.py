# SPDX-License-Identifier: Apache-2.0
"""Plans turn what is installed into what is desired, touch nothing foreign, and do not depend on history."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.fields import IN_PORT
from flows.flow import Flow, Match, Output
from sgctl.reconcile import Compiler, Plan, cookie_of, ours, plan

LEARNED = (0xFFFF000000000001, 0xFFFF013300000007)


@dataclass(frozen=True)
class Thing:
    """A unit of the tests' own: an owner with flows given as (table, priority, port)."""

    owner: str
    rows: tuple[tuple[int, int, int], ...]


def build(thing: Thing) -> tuple[Flow, ...]:
    return tuple(
        Flow(table, priority, Match.of(IN_PORT.eq(port)), (Output(port),), owner=thing.owner)
        for table, priority, port in thing.rows
    )


rows = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3), st.integers(1, 9)), unique=True, max_size=6)
worlds = st.dictionaries(st.sampled_from("abcde"), rows).map(
    lambda found: {owner: Thing(owner, tuple(of)) for owner, of in found.items()}
)


def applied(installed: dict[int, int], of: Plan) -> dict[int, int]:
    """What a switch holds after a plan."""
    after = installed | {flow.cookie: flow.table for flow in of.adds}
    for cookie, table in of.deletes:
        assert after.pop(cookie) == table
    return after


@given(st.lists(worlds, max_size=5))
def test_any_history_ends_in_what_a_new_compiler_computes(history: list[dict[str, Thing]]) -> None:
    compiler, installed = Compiler(build), {7: 0}
    for world in history:
        desired = dict(compiler.compile(world))  # type: ignore[arg-type]
        assert desired == dict(Compiler(build).compile(world))  # type: ignore[arg-type]
        installed = applied(installed, plan(desired, installed))
        assert plan(desired, installed) == Plan(foreign=1)
        assert set(installed) == {*desired, 7}


@given(st.lists(worlds, max_size=5))
def test_flows_are_told_of_as_they_are_made(history: list[dict[str, Thing]]) -> None:
    compiler, before = Compiler(build), dict[str, Thing]()
    for world in history:
        told: list[Flow] = []
        desired = compiler.compile(world, told.extend)  # type: ignore[arg-type]
        changed = {owner for owner, thing in world.items() if before.get(owner) != thing}
        assert [flow for flow in told if desired[flow.cookie] is not flow] == []
        assert {flow.cookie for flow in told} == {one.cookie for one in desired.values() if one.owner in changed}
        before = world


@given(st.lists(worlds, min_size=1, max_size=4))
def test_colliding_digests_do_not_depend_on_history(history: list[dict[str, Thing]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.flow.Flow.digest", lambda flow, salt=0: (flow.priority + salt) % 97)
        patch.setattr("sgctl.reconcile.scope", lambda owner: 0x5C << 56)
        compiler = Compiler(build)
        for world in history:
            desired = compiler.compile(world)  # type: ignore[arg-type]
            assert len(desired) == sum(len(thing.rows) for thing in world.values())
        assert dict(desired) == dict(Compiler(build).compile(history[-1]))  # type: ignore[arg-type]


@given(worlds)
def test_adds_go_from_the_last_table_to_the_first_and_deletes_back(world: dict[str, Thing]) -> None:
    desired = Compiler(build).compile(world)  # type: ignore[arg-type]
    tables = [flow.table for flow in plan(desired, {}).adds]
    assert tables == sorted(tables, reverse=True)
    installed = {cookie: flow.table for cookie, flow in desired.items()}
    tables = [table for _, table in plan({}, installed).deletes]
    assert tables == sorted(tables)


def test_foreign_and_learned_flows_are_left_alone() -> None:
    installed = {0: 0, 0xDEAD << 48: 3} | dict.fromkeys(LEARNED, 5)
    assert plan({}, installed) == Plan(foreign=2)


def test_equal_units_are_not_built_again() -> None:
    built = []
    compiler = Compiler(lambda unit: built.append(unit.owner) or build(unit))  # type: ignore[arg-type, func-returns-value]
    one, two = Thing("a", ((1, 1, 1),)), Thing("b", ((1, 1, 2),))
    compiler.compile({"a": one, "b": two})  # type: ignore[dict-item]
    compiler.compile({"a": one, "b": Thing("b", ((1, 1, 3),))})  # type: ignore[dict-item]
    assert built == ["a", "b", "b"]
    assert [flow.match for flow in compiler.flows_of("b")] == [Match.of(IN_PORT.eq(3))]


def test_a_cookie_says_whose_and_what() -> None:
    flow = build(Thing("a", ((1, 1, 1),)))[0]
    assert ours(cookie_of(flow)) and not ours(0x5D << 56) and not ours(0)
    other = build(Thing("b", ((1, 1, 1),)))[0]
    assert cookie_of(flow) >> 40 != cookie_of(other) >> 40
    assert cookie_of(flow) & (1 << 40) - 1 == cookie_of(other) & (1 << 40) - 1
