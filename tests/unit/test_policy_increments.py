# SPDX-License-Identifier: Apache-2.0
"""What is remembered from one world to the next changes no decision, and keeps what has not changed."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.inputs import Peer
from flows.pipeline import build
from sgctl.policy import Decider, decide
from sgctl.reconcile import Compiler, cookie_of, plan, scope
from sgctl.world import Decision, Refusal, World
from tests.unit.test_policy_worlds import BRIDGE, NAMES, worlds
from tests.unit.worlds import cidr_rule, member, peer_rule, port, uid, world

CHANGING = ("ports", "nics", "groups", "addresses", "rules", "members", "vms", "pods", "accounts", "zones", "ranges")


@st.composite
def histories(draw: st.DrawFn) -> list[World]:
    """Worlds that differ in few of their parts, some without VMs or groups that others speak of; there and back."""
    sources = [draw(worlds()) for _ in range(3)]
    empty = World(host="hv1")
    steps = [sources[0]]
    for _ in range(draw(st.integers(1, 6))):
        part = draw(st.sampled_from(CHANGING))
        other = draw(st.sampled_from([*sources, empty]))
        step = replace(steps[-1], **{part: getattr(other, part)})
        claimed = frozenset(map(uid, draw(st.sets(st.sampled_from(NAMES), max_size=2))))
        steps.append(replace(step, claimed=claimed))
    return [*steps, *reversed(steps)]


def refusing(of: World, choice: int) -> World:
    """The same world after the switch has refused one of its units."""
    units = list(decide(of).units.values())
    unit = units[choice % len(units)]
    return replace(of, refused={unit.owner: Refusal(unit, "bad match")})


def parts(decision: Decision) -> dict[str, object]:
    return {field.name: getattr(decision, field.name) for field in fields(decision)}


@given(histories(), st.integers(0, 1000))
@settings(deadline=None, max_examples=200)
def test_a_history_does_not_matter(history: list[World], choice: int) -> None:
    decider = Decider()
    for of in (*history, refusing(history[-1], choice), history[0]):
        assert parts(decider.decide(of)) == parts(decide(of))


CLOUD = world(
    {"web1": ("web",), "web2": ("web",), "nag1": ("nagios",), "nag2": ("nagios",)},
    ports=(port("web1", 1), port("web2", 2)),
    rules=(peer_rule("r", "web", "nagios"),),
)


def test_flows_are_built_with_the_cookies_that_they_would_get() -> None:
    units = decide(CLOUD).units
    for unit in units.values():
        with_cookies = build(unit, BRIDGE, scope(unit.owner))
        assert with_cookies == build(unit, BRIDGE)
        assert [flow.cookie for flow in with_cookies] == [cookie_of(flow) for flow in build(unit, BRIDGE)]


def changed(before: World, after: World) -> set[str]:
    """The owners of units that are not the same objects."""
    decider = Decider()
    old, new = decider.decide(before).units, decider.decide(after).units
    return {owner for owner in old.keys() | new.keys() if old.get(owner) is not new.get(owner)}


def test_what_has_not_changed_is_the_same_object() -> None:
    assert changed(CLOUD, replace(CLOUD)) == set()
    rule = cidr_rule("s", "web", "192.0.2.0/24")
    (policy,) = changed(CLOUD, replace(CLOUD, rules=(*CLOUD.rules, rule)))
    assert policy.startswith("policy/")
    joined = replace(CLOUD, members=(*CLOUD.members, member("nagios", "web1", "10.1.0.11")))
    assert changed(CLOUD, joined) == {"peer/10.1.0.11"}
    fanout, port1 = sorted(changed(CLOUD, replace(CLOUD, ports=CLOUD.ports[1:])))
    assert (fanout, port1) == ("fanout/1", f"port/{uid('web1')}")


@pytest.mark.parametrize("part", ["groups", "vms", "pods", "accounts", "zones"])
def test_what_a_port_needs_goes_and_comes_back(part: str) -> None:
    there = world({"web1": ("web",)}, ports=(port("web1", 5),))
    gone = replace(there, **{part: {}})  # type: ignore[arg-type]
    decider = Decider()
    for step in (there, gone, there):
        assert decider.decide(step) == decide(step)


def test_a_member_that_leaves_and_comes_back() -> None:
    decider = Decider()
    without = replace(CLOUD, members=tuple(row for row in CLOUD.members if row.nic != uid("nag2")))
    for of, count in ((CLOUD, 2), (without, 1), (replace(CLOUD, members=()), 0), (without, 1), (CLOUD, 2)):
        units = decider.decide(of).units.values()
        assert sum(isinstance(unit, Peer) for unit in units) == count


@given(histories(), st.lists(st.booleans(), min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_plans_of_what_has_changed_are_plans_of_all(history: list[World], carried_out: list[bool]) -> None:
    """Whether the plans before were carried out or refused."""
    decider, compiler = Decider(), Compiler(lambda unit: build(unit, BRIDGE))
    installed: dict[int, int] = {}
    for number, of in enumerate(history):
        desired = compiler.compile(decider.decide(of).units)
        todo = compiler.plan(installed)
        assert todo == plan(desired, installed)
        if carried_out[number % len(carried_out)]:
            for cookie, _ in todo.deletes:
                del installed[cookie]
            installed.update((flow.cookie, flow.table) for flow in todo.adds)
