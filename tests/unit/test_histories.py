# SPDX-License-Identifier: Apache-2.0
"""All that lies between a world and the switch, through histories: restarts, moves, promises, quotas, refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.flow import Flow
from flows.inputs import Bridge, Connection, Limit, Limits, Unit
from flows.pipeline import build
from sgctl.agent.arrivals import carry
from sgctl.overdraft import overdraw
from sgctl.policy import Decider
from sgctl.reconcile import Compiler, Plan, scope
from sgctl.world import Decision, Ending, Overdraft, Refusal, World
from tests.unit.test_policy_worlds import GROUPS, NAMES, UPLINK, allowances, cidr_rules, groups, peer_rules
from tests.unit.worlds import address, allowing, member, peer_rule, port, uid, with_nic, world

Event: TypeAlias = Callable[[World], World]
OTHER_UPLINK = port("nobody", 20, name="eth2", iface_id=None, role="uplink")
METERED = Limits(connections=Limit(5, 5))
nics = st.sampled_from(NAMES).map(uid)
endings = st.builds(
    lambda peer, rule: Ending((Connection(17, ip_address("10.1.0.11"), ip_address(peer), 53, 4000, rule, 3000),)),
    st.sampled_from(["10.9.0.1", "10.1.0.12"]),
    st.integers(0, 2),
)
brought = st.dictionaries(nics, st.dictionaries(st.sampled_from([3000, 3004]), endings, min_size=1), max_size=2)
overdrafts = st.dictionaries(nics, st.builds(Overdraft, opened=st.booleans(), accepted=st.just(True)), max_size=2)


class Step(NamedTuple):
    """What happens next: the world is this, the agent has started anew, what it plans is not carried out."""

    world: World
    restart: bool
    refused: bool


class Agent:
    """What the writer remembers from one world to the next, without a switch."""

    def __init__(self) -> None:
        self.decider, self.bridge, self.compiler = Decider(), Bridge(()), Compiler(self.build)

    def build(self, unit: Unit) -> Sequence[Flow]:
        return build(unit, self.bridge, scope(unit.owner))

    def plan(self, world: World, installed: dict[int, int]) -> tuple[Decision, Plan]:
        decision = carry(self.decider.decide(world), world.brought, world.refused)
        decision = overdraw(decision, world.overdrafts, world.refused)
        bridge = decision.units.get("bridge", Bridge(()))
        assert isinstance(bridge, Bridge)
        if bridge != self.bridge:
            self.bridge, self.compiler = bridge, Compiler(self.build)
        self.compiler.compile(decision.units)
        return decision, self.compiler.plan(installed)


def toggled(rows: tuple[Any, ...], row: Any) -> tuple[Any, ...]:
    """The rows without one, or with it where it was not."""
    others = tuple(one for one in rows if one.id != row.id)
    return others if len(others) < len(rows) else (*rows, row)


def plugged(of: World, vm: int, number: int | None) -> World:
    """The port of a VM has another number, or has gone."""
    others = tuple(one for one in of.ports if one.uuid != uid(f"tap {vm}"))
    ports = (port(NAMES[vm], number, uuid=uid(f"tap {vm}"), name=f"tap{vm}"),) if number else ()
    return replace(of, ports=(*others, *ports))


names = st.sampled_from(NAMES)
texts = st.sampled_from(["10.1.0.11", "10.1.0.12", "10.1.0.70", "10.9.0.0/24"])
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        lambda group, name, text: lambda of: replace(of, members=toggled(of.members, member(group, name, text))),
        st.sampled_from(GROUPS), names, texts,
    ),
    st.builds(lambda rule: lambda of: replace(of, rules=toggled(of.rules, rule)), st.one_of(peer_rules, cidr_rules)),
    st.builds(lambda name, ids: lambda of: with_nic(of, name, groups=frozenset(map(uid, ids))), names, groups),
    st.builds(lambda rows: lambda of: allowing(of, *rows), allowances),
    st.builds(lambda name, text: lambda of: replace(of, addresses=toggled(of.addresses, address(name, text))),
              names, st.sampled_from(["10.1.0.70", "10.1.0.71", "fd00::70"])),
    st.builds(lambda name, host: lambda of: with_nic(of, name, host=host, state="up"),
              names, st.sampled_from(["", "hv1", "hv2"])),
    st.builds(lambda vm, number: lambda of: plugged(of, vm, number),
              st.integers(0, 5), st.sampled_from([None, 1, 2, 7, 8])),
    st.builds(lambda ids: lambda of: replace(of, claimed=ids), st.frozensets(nics, max_size=2)),
    st.builds(lambda what: lambda of: replace(of, brought=what), brought),
    st.builds(lambda what: lambda of: replace(of, overdrafts=what), overdrafts),
    st.builds(lambda some: lambda of: replace(of, uplinks=some), st.sampled_from([(), ("eth2", "eth1"), ("eth1",)])),
    st.builds(lambda rates: lambda of: replace(of, limits=rates), st.sampled_from([Limits(), METERED])),
    st.builds(lambda which: lambda of: refusing(of, which), st.integers(0, 100)),
)  # fmt: skip


def refusing(of: World, which: int) -> World:
    """The switch refuses one of the units, or none any more."""
    units = [unit for unit in Agent().plan(of, {})[0].units.values() if not isinstance(unit, Bridge)]
    unit = units[which] if which < len(units) else None
    return replace(of, refused={unit.owner: Refusal(unit, "bad match")} if unit else {})


def beginning() -> World:
    """Six VMs here, half of them in a group that names another."""
    of = world({name: (GROUPS[i % 2],) for i, name in enumerate(NAMES)}, ports=(UPLINK, OTHER_UPLINK))
    extra = world({f"holder {group}": (group,) for group in GROUPS}).groups
    rules = (peer_rule("in", "a", "b"), peer_rule("out", "a", "c", direction="egress"))
    of = replace(of, groups={**extra, **of.groups}, rules=rules)
    for vm in range(len(NAMES)):
        of = plugged(of, vm, vm + 1)
    return of


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """One small event after the other, and some of them undone at last."""
    steps = [Step(beginning(), restart=False, refused=False)]
    for event in draw(st.lists(events, min_size=1, max_size=12)):
        happened = event(steps[-1].world)
        steps.append(Step(happened, draw(st.integers(0, 9)) == 0, draw(st.integers(0, 4)) == 0))
    return [*steps, *(Step(one.world, restart=False, refused=False) for one in steps[:-1][::-3])]


@given(histories())
@settings(deadline=None, max_examples=60)
def test_a_history_leaves_nothing_behind(history: list[Step]) -> None:
    """Whatever happened before, the switch gets what an agent that has just started would give it, and no more."""
    agent, installed = Agent(), dict[int, int]()
    for step in history:
        if step.restart:
            agent, installed = Agent(), dict(installed)
        decision, todo = agent.plan(step.world, installed)
        new = Agent()
        fresh, alone = new.plan(step.world, {})
        assert decision == fresh
        if step.refused:
            continue
        for cookie, _ in todo.deletes:
            del installed[cookie]
        installed.update((flow.cookie, flow.table) for flow in todo.adds)
        assert installed == {flow.cookie: flow.table for flow in alone.adds}
        assert new.plan(step.world, installed)[1].empty
