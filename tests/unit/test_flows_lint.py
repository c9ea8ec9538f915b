# SPDX-License-Identifier: Apache-2.0
"""The pipeline is as declared, and what is not is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows import fields as f
from flows import lint
from flows.bands import Band
from flows.flow import Ct, CtClear, Flow, Goto, Load, Match, OutputBits, Resubmit
from flows.inputs import Bridge
from flows.tables import (
    CLASSIFIER,
    COMMIT,
    DELIVER,
    DESTINATION,
    FANOUT,
    LOCATE,
    OUTPUT,
    SERVICES,
    SOURCE_GUARD,
    STATE,
    TABLES,
)
from flows.terms import IPV4, UDP4
from tests.unit.flow_world import BRIDGE, UNITS, flows_of


@pytest.mark.parametrize("bridge", [BRIDGE, Bridge(uplinks=()), Bridge(uplinks=(8, 9), zone=7)], ids=repr)
def test_pipeline_is_as_declared(bridge: Bridge) -> None:
    assert lint.check(flows_of((bridge, *UNITS[1:]), bridge)) == []


def test_tables_are_all_used() -> None:
    assert lint.reachable() == {table.name for table in TABLES}


def test_every_table_drops_what_it_does_not_know() -> None:
    misses = [flow for flow in flows_of() if flow.priority == Band.MISS]
    assert [flow.table for flow in misses] == [table.id for table in TABLES]
    assert all(flow.drops and flow.note and not flow.match.terms for flow in misses)


def test_every_flow_has_an_owner_and_a_note() -> None:
    assert all(flow.owner and flow.note for flow in flows_of())


def test_frames_do_not_bring_conntrack_state_along() -> None:
    first = [flow for flow in flows_of() if flow.table == CLASSIFIER.id]
    let_in = [flow for flow in first if any(isinstance(action, Goto) for action in flow.actions)]
    assert let_in and all(flow.actions[0] == CtClear() for flow in let_in)


def flow(table: int, *terms: f.Term, do: tuple[object, ...] = (), note: str = "why") -> Flow:
    return Flow(table, 5, Match.of(*terms), do, owner="test", note=note)  # type: ignore[arg-type]


COMMITTED = Ct(1, OUTPUT.id, commit=True)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (flow(11), "no such table"),
        (flow(LOCATE.id, IPV4, f.IPV4_SRC.eq(1)), "may not match nw_src"),
        (flow(CLASSIFIER.id, f.OUT_PORT.eq(1)), "may not read all of reg1"),
        (flow(SOURCE_GUARD.id, f.DST_LOCAL.eq(1)), "may not read all of reg0"),
        (flow(SERVICES.id, f.UDP_DST.eq(53)), "udp_dst without its protocol"),
        (flow(SERVICES.id, f.IPV4_SRC.eq(1)), "nw_src without its Ethernet type"),
        (flow(SERVICES.id, do=(Load(f.OUT_PORT, 1), Goto(DELIVER.id))), "may not write OUT_PORT"),
        (flow(SERVICES.id, do=(Goto(STATE.id),)), "may not go to STATE"),
        (flow(SERVICES.id, do=(Resubmit(LOCATE.id),)), "may not go to LOCATE"),
        (flow(SERVICES.id, do=(Goto(200),)), "may not go to 200"),
        (flow(SERVICES.id, do=(Goto(FANOUT.id),)), "may not go on to FANOUT"),
        (flow(SERVICES.id, do=(Resubmit(DESTINATION.id),)), "may not resubmit to DESTINATION"),
        (flow(SERVICES.id, do=(Goto(DELIVER.id), Goto(DELIVER.id))), "goto is not the last action"),
        (flow(SERVICES.id, do=(OutputBits(f.SRC_POD),)), None),
        (flow(STATE.id, do=(OutputBits(f.OUT_PORT),)), "may not read OUT_PORT"),
        (flow(COMMIT.id, IPV4, do=(COMMITTED,)), "commits a packet that may be invalid"),
        (flow(SERVICES.id, *UDP4, note=""), "no note"),
    ],
)  # fmt: skip
def test_finds(wrong: Flow, problem: str | None) -> None:
    found = lint.check([wrong])
    assert (problem is None and not found) or any(problem and problem in text for text in found)


def test_finds_flows_with_two_owners() -> None:
    one = flow(SERVICES.id, IPV4)
    assert "both own" in lint.check([one, replace(one, owner="other")])[0]


def test_finds_overlaps() -> None:
    one = flow(SERVICES.id, *UDP4)
    other = flow(SERVICES.id, IPV4, f.SRC_LOCAL.eq(1), do=(Goto(DELIVER.id),))
    assert "undecided between" in lint.check([one, other])[0]
    assert lint.check([one, replace(other, actions=())]) == []
    assert lint.check([one, replace(other, priority=6)]) == []


def test_finds_a_table_without_a_drop() -> None:
    flows = [one for one in flows_of() if (one.table, one.priority) != (STATE.id, Band.MISS)]
    assert lint.check(flows) == ["STATE: a miss is not a drop"]
