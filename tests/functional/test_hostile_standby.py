# SPDX-License-Identifier: Apache-2.0
"""Ports on standby show their frames to the agent, each within its bound: one that floods does not hide another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.inputs import Bridge, Limit, Limits, Standby, Unit
from flows.meters import meters
from flows.pipeline import build
from sgctl.openflow.meters import Change
from tests.functional.openflow_remote import Remote
from tests.functional.vswitch_sandbox import Sandbox

pytestmark = pytest.mark.functional
FRAME = "ffffffffffff" + "020000000001" + "0806" + "00" * 46
FLOOD = 150
BURST = 10


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def switch(sandbox: Sandbox) -> Iterator[Remote]:
    with Remote(sandbox, "br0") as remote:
        sandbox.add_bridge("br0", "p1", "p2", controller=remote.target)
        remote.connected(1)
        yield remote


def shown(sandbox: Sandbox, switch: Remote, limits: Limits) -> Counter[int]:
    """How many frames of each port the agent sees: of a flood by the first, then of one frame by the second."""
    bridge = Bridge((), limits=limits)
    units: tuple[Unit, ...] = (Standby("a", 1), Standby("b", 2))
    switch.change_meters([(Change.ADD, spec) for unit in units for spec in meters(unit, bridge)])
    flows = [flow for unit in units for flow in build(unit, bridge)]
    switch.apply([replace(flow, cookie=number) for number, flow in enumerate(flows, 1)])
    sandbox.appctl("revalidator/purge")
    for _ in range(FLOOD):
        sandbox.appctl("netdev-dummy/receive", "p1", FRAME)
    sandbox.appctl("netdev-dummy/receive", "p2", FRAME)
    seen: list[tuple[int, bytes]] = []
    while not any(port == 2 for port, _ in seen):
        seen = switch.frames(len(seen) + 1)
    return Counter(port for port, _ in seen)


def test_a_flood_is_shown_within_the_bound(sandbox: Sandbox, switch: Remote) -> None:
    seen = shown(sandbox, switch, Limits(frames=Limit(1, BURST)))
    assert BURST <= seen[1] < FLOOD // 2
    assert seen[2] == 1


def test_without_a_bound_all_of_it_is_shown(sandbox: Sandbox, switch: Remote) -> None:
    assert shown(sandbox, switch, Limits())[1] == FLOOD
