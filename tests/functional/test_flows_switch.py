# SPDX-License-Identifier: Apache-2.0
"""A real Open vSwitch accepts every flow as it is meant, and does with every packet of `flow_cases` what it must."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.flow import Flow
from flows.inputs import Bridge, Policy
from tests.functional.dummyswitch import DummySwitch
from tests.unit.flow_cases import CASES, CONNECTIONS, FRAGMENT_CASES, Case, fragments
from tests.unit.flow_world import BRIDGE, POLICIES, UNITS, flows_of

pytestmark = pytest.mark.functional
FLOWS = flows_of()


@pytest.fixture(scope="module")
def real() -> Iterator[DummySwitch]:
    switch = DummySwitch(9)
    try:
        yield switch
    finally:
        switch.close()


def play(real: DummySwitch, case: Case) -> None:
    for hop in case:
        for piece in hop.pieces:
            real.send(piece.frame, hop.port)
        sent = {port: len(frames) for port, frames in real.sent().items()}
        assert sent == dict.fromkeys(hop.out, len(hop.pieces)), f"{hop.pieces[0]} by {hop.port}"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_packets(real: DummySwitch, case: Case) -> None:
    real.load(FLOWS)
    play(real, case)


@pytest.mark.parametrize("number", range(FRAGMENT_CASES))
def test_fragments(real: DummySwitch, number: int) -> None:
    real.load(FLOWS)
    play(real, list(fragments(real.fresh_idents(FRAGMENT_CASES)).values())[number])


@pytest.mark.parametrize("bridge", [BRIDGE, Bridge(uplinks=()), Bridge(uplinks=(8, 9), zone=7)], ids=repr)
def test_read_back(real: DummySwitch, bridge: Bridge, tmp_path: Path) -> None:
    """The switch holds what was sent: nothing refused, merged or changed."""
    flows = flows_of((bridge, *UNITS[1:]), bridge)
    real.load(flows)
    sent = tmp_path / "sent"
    sent.write_text("".join(f"{flow}\n" for flow in flows))
    assert real.differences(sent) == ""


def without_rules(policy: Policy) -> Policy:
    return replace(policy, egress_open=False, egress=(), ingress=())


def test_revoking_keeps_connections(real: DummySwitch) -> None:
    """Every rule goes while connections are open, even one that has had no answer yet: they stay, new ones do not start."""
    closed: list[Flow] = list(
        flows_of((*(unit for unit in UNITS if unit not in POLICIES), *map(without_rules, POLICIES)))
    )
    for name in ("between VMs", "to the wire", "one way", "through the router"):
        case = CONNECTIONS[name]
        real.load(FLOWS)
        play(real, case)
        real.replace(closed)
        play(real, case if name == "one way" else case[1:] + case[2:])
        real.load(closed)
        play(real, (replace(case[0], out=()),))
