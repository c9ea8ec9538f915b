# SPDX-License-Identifier: Apache-2.0
"""Random worlds: the order of rows does not matter, flows never collide, increments equal a new computation."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.inputs import Bridge
from flows.lint import check
from flows.pipeline import build
from sgctl.policy import decide
from sgctl.reconcile import Compiler, plan
from sgctl.world import State, World
from tests.unit.worlds import allowance, allowing, cidr_rule, mac_of, member, peer_rule, port, uid, with_nic, world

GROUPS = ("a", "b", "c", "d")
NAMES = tuple(f"vm{number}" for number in range(1, 7))
BRIDGE = Bridge((9,))
UPLINK = port("nobody", 9, name="eth1", iface_id=None, role="uplink")

groups = st.lists(st.sampled_from(GROUPS), unique=True, max_size=3).map(tuple)
directions = st.sampled_from(["ingress", "egress"])
cidr_rules = st.builds(
    lambda group, cidr, way, number: cidr_rule(
        f"{group} {cidr} {way} {number}", group, cidr, direction=way, port=number
    ),
    st.sampled_from(GROUPS),
    st.sampled_from(["0.0.0.0/0", "10.1.0.0/24", "2001:db8::/32", "10.1.0.12/32", "bad"]),
    directions,
    st.integers(78, 82),
)
peer_rules = st.builds(
    lambda group, peer, way, number: peer_rule(
        f"{group} {peer} {way} {number}", group, peer, direction=way, port=number
    ),
    st.sampled_from(GROUPS),
    st.sampled_from(GROUPS),
    directions,
    st.integers(78, 82),
)
rules = st.lists(st.one_of(cidr_rules, peer_rules), max_size=8, unique_by=lambda rule: rule.id).map(tuple)
allowances = st.lists(
    st.builds(
        lambda nic, text, mac, shared: allowance(nic, text, mac=mac, shared=shared),
        st.sampled_from(NAMES),
        st.sampled_from(["10.1.0.70", "10.1.0.12", "10.1.0.64/28", "10.9.0.0/24", "fd00::70", "fd00:9::/64", "bad"]),
        st.sampled_from(["", "", mac_of(1), mac_of(99), "bad"]),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda row: row.id,
).map(tuple)
plugs = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(1, 8), st.sampled_from([None, mac_of(1), mac_of(2), "bad"])),
    max_size=6,
    unique_by=lambda plug: plug[1],
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A pod with six VMs, some of them plugged in, rightly or wrongly."""
    of = world({name: draw(groups) for name in NAMES})
    known = {group: of.groups.get(uid(group)) for group in GROUPS}
    extra = world({f"holder {group}": (group,) for group in GROUPS}).groups
    of = replace(of, groups={**extra, **{row.id: row for row in known.values() if row}}, rules=draw(rules))
    of = allowing(replace(of, members=(*of.members, member("a", "vm1", "10.9.0.0/24"))), *draw(allowances))
    ports = tuple(port(nic, number, attached_mac=mac) for nic, number, mac in draw(plugs))
    away = draw(st.sampled_from([None, *NAMES]))
    of = replace(of, ports=(UPLINK, *ports))
    return with_nic(of, away, host="hv2", state="up") if away else of


def shuffled(of: World, seed: int) -> World:
    """The same world, with everything in another order."""
    mixed = random.Random(seed)

    def mix(rows: tuple) -> tuple:  # type: ignore[type-arg]
        return tuple(mixed.sample(rows, len(rows)))

    nics = dict(mix(tuple(of.nics.items())))
    lists = {name: mix(getattr(of, name)) for name in ("ports", "addresses", "rules", "members", "ranges")}
    return replace(of, nics=nics, **lists)


@given(worlds(), st.integers())
@settings(deadline=None)
def test_the_order_of_rows_does_not_matter(of: World, seed: int) -> None:
    assert decide(shuffled(of, seed)).units == decide(of).units


@given(worlds())
@settings(deadline=None, max_examples=60)
def test_flows_never_collide_and_keep_to_their_tables(of: World) -> None:
    decision = decide(of)
    flows = [flow for unit in decision.units.values() for flow in build(unit, BRIDGE)]
    assert [key for key, count in Counter(flow.key for flow in flows).items() if count > 1] == []
    assert check(flows) == []


@given(st.lists(worlds(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=25)
def test_increments_equal_a_new_computation(history: list[World]) -> None:
    compiler, installed = Compiler(lambda unit: build(unit, BRIDGE)), {}
    for of in history:
        desired = compiler.compile(decide(of).units)
        todo = plan(desired, installed)
        installed |= {flow.cookie: flow.table for flow in todo.adds}
        installed = {cookie: table for cookie, table in installed.items() if (cookie, table) not in set(todo.deletes)}
    assert set(installed) == set(Compiler(lambda unit: build(unit, BRIDGE)).compile(decide(history[-1]).units))


@given(worlds())
@settings(deadline=None)
def test_every_port_has_a_state_and_every_closed_one_a_reason(of: World) -> None:
    states = decide(of).ports
    assert sorted(state.name for state in states) == sorted(one.name for one in of.ports)
    assert all(state.reason for state in states if state.state in (State.CLOSED, State.STANDBY))
    open_ = [state.nic for state in states if state.state is State.ACTIVE]
    assert len(open_) == len(set(open_))
