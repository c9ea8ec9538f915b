# SPDX-License-Identifier: Apache-2.0
"""Large groups and many rules: what they cost adds up, and one change among thousands costs what it costs among few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from flows.pipeline import build
from sgctl.policy import Decider
from sgctl.reconcile import Compiler, plan
from sgctl.world import World
from tests.unit.test_policy_worlds import BRIDGE
from tests.unit.worlds import cidr_rule, member, peer_rule, port, world

POLICIES, MEMBERS, RULES = 50, 2000, 1000
WEB = "g0"


class Host:
    """What one hypervisor decides and compiles, one world after the other."""

    def __init__(self) -> None:
        self._decider, self._compiler = Decider(), Compiler(lambda unit: build(unit, BRIDGE))
        self._installed: dict[int, int] = {}

    def enters(self, of: World) -> tuple[int, int]:
        """How many flows come, and go."""
        desired = self._compiler.compile(self._decider.decide(of).units)
        todo = plan(desired, self._installed)
        self._installed = {cookie: flow.table for cookie, flow in desired.items()}
        return len(todo.adds), len(todo.deletes)


@pytest.fixture(scope="module")
def full() -> Iterator[World]:
    """Each local VM has a group of its own, which admits the members of one large group; the first has many rules."""
    bare = world(
        {f"vm{n}": (f"g{n}",) for n in range(POLICIES)} | {"far": ("crowd",)},
        ports=tuple(port(f"vm{n}", n + 2) for n in range(POLICIES)),
    )
    crowd = (member("crowd", "far", str(IPv4Address("10.200.0.0") + n)) for n in range(MEMBERS))
    peers = (peer_rule(f"p{n}", f"g{n}", "crowd", port=22) for n in range(POLICIES))
    rules = (cidr_rule(f"r{n}", WEB, f"10.{n // 250}.{n % 250}.0/24", port=1000 + n) for n in range(RULES))
    yield replace(bare, members=(*bare.members, *crowd), rules=(*peers, *rules))


def test_members_and_policies_add_up(full: World) -> None:
    host = Host()
    ports, _ = host.enters(replace(full, rules=()))
    (came, went) = host.enters(full)
    assert went == 0
    # A member is one flow, and so is the far VM's own address; a rule about a group four, about a port of a CIDR two.
    assert came == MEMBERS + 1 + 4 * POLICIES + 2 * RULES
    assert ports < 25 * POLICIES + 300


def test_one_change_costs_what_it_does_among_few(full: World) -> None:
    host = Host()
    host.enters(full)
    joined = replace(full, members=(*full.members, member("crowd", "far", "10.201.0.1")))
    assert host.enters(joined) == (1, 0)
    assert host.enters(full) == (0, 1)
    more = replace(full, rules=(*full.rules, cidr_rule("x", WEB, "192.0.2.0/24", port=9)))
    assert host.enters(more) == (2, 0)
    assert host.enters(full) == (0, 2)
