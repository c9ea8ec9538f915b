# SPDX-License-Identifier: Apache-2.0
"""A few of the moves that `make soak-moves` makes by the hundred: under traffic, tried by intruders, with troubles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from random import Random
from time import sleep

import pytest

from devstack.lab import Lab
from devstack.lab.hypervisor import BRIDGE
from devstack.lab.namespace import wait_for
from tests.faults.movesoak import Soak, soak
from tests.faults.troubles import Trouble, of_agent, of_database, of_switch

CASES: tuple[tuple[str, list[Trouble]], ...] = (
    ("two at once", [of_agent("arrived", "source", 0.5, kill=True)]),
    ("given up", [of_switch("waiting", "target")]),
    ("live", [of_database("waiting", 1.0, kill=False)]),
    ("lost", []),
)


@pytest.fixture(scope="module")
def under_traffic(module_lab: Lab) -> Iterator[Soak]:
    with soak(module_lab) as found:
        yield found


@pytest.mark.parametrize(("kind", "troubles"), CASES, ids=[kind for kind, _ in CASES])
def test_a_move_opens_nothing_and_stops_nothing(under_traffic: Soak, kind: str, troubles: list[Trouble]) -> None:
    under_traffic.move(kind, Random(kind), troubles)


def test_without_guards_every_intruder_would_be_seen(under_traffic: Soak) -> None:
    flow, hypervisors = "cookie=0x99,table=0,priority=65535", under_traffic.fleet.hypervisors
    missing = {one.name for one in under_traffic.intruders.attempts}

    def all_seen() -> bool:
        for watch in under_traffic.watches.values():
            words = under_traffic.intruders.delivered(watch.seen())
            missing.difference_update({name for name in missing for text in words if name in text})
        return not missing

    for hypervisor in hypervisors:
        hypervisor.ofctl("add-flow", BRIDGE, f"{flow},actions=FLOOD")
    with suppress(TimeoutError):
        wait_for("all to arrive", all_seen, timeout=60, step=0.2)
    # A VM that resets what it never opened begins a connection with that: not after the guards are back.
    with under_traffic.intruders.paused():
        sleep(0.3)
        for hypervisor in hypervisors:
            hypervisor.ofctl("--strict", "del-flows", BRIDGE, flow.partition(",")[2])
        under_traffic.fleet.settle()
    for watch in under_traffic.watches.values():
        watch.seen()
    assert not missing
