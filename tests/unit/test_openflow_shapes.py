# SPDX-License-Identifier: Apache-2.0
"""Flows are alike if a switch that has taken the one takes the other."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from flows import fields as f
from flows.fields import Term
from flows.flow import Action, Flow, Goto, Load, Match, Meter
from flows.inputs import Bridge, Limit, Limits, Port, Segment
from flows.moulds import ENOUGH, Moulds
from flows.pipeline import build
from sgctl.openflow.shapes import MANY, Taken, shape

TCP = (f.ETH_TYPE.eq(0x0800), f.IP_PROTO.eq(6))


def flow(*terms: Term, actions: tuple[Action, ...] = (), table: int = 1) -> Flow:
    return Flow(table, 2, Match.of(*terms), actions)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (flow(*TCP, f.TCP_DST.eq(80)), flow(*TCP, f.TCP_DST.eq(443))),
        (flow(*TCP, f.IPV4_SRC.prefix(10 << 24, 8)), flow(*TCP, f.IPV4_SRC.prefix(11 << 24, 8))),
        (flow(f.INGRESS_POLICY.eq(1)), flow(f.INGRESS_POLICY.eq(2))),
        (flow(actions=(Load(f.INGRESS_RULE, 1), Goto(9))), flow(actions=(Load(f.INGRESS_RULE, 2), Goto(9)))),
    ],
    ids=["port", "prefix", "register", "loaded value"],
)
def test_values_that_decide_nothing_make_no_difference(one: Flow, other: Flow) -> None:
    assert shape(one) == shape(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (flow(*TCP), flow(f.ETH_TYPE.eq(0x0800), f.IP_PROTO.eq(17))),
        (flow(*TCP, f.IPV4_SRC.prefix(10 << 24, 8)), flow(*TCP, f.IPV4_SRC.prefix(10 << 24, 9))),
        (flow(*TCP, f.IPV4_SRC.eq(1)), flow(*TCP, f.IPV4_DST.eq(1))),
        (flow(f.ct_state("+trk+inv")), flow(f.ct_state("+trk-inv"))),
        (flow(), flow(table=2)),
        (flow(actions=(Goto(8),)), flow(actions=(Goto(9),))),
        (flow(actions=(Meter(8),)), flow(actions=(Meter(9),))),
        (flow(actions=(Load(f.INGRESS_RULE, 1),)), flow(actions=(Load(f.EGRESS_RULE, 1),))),
    ],
    ids=["protocol", "mask", "field", "state", "table", "goto", "meter", "loaded register"],
)
def test_all_else_does(one: Flow, other: Flow) -> None:
    assert shape(one) != shape(other)


def test_what_was_cast_is_judged_by_its_mould() -> None:
    """Flows with meters of their own are like no others; nobody has looked at any."""
    bridge = Bridge((9,), 1, Limits(fragments=Limit(10, 20)))
    pod, moulds = Segment(), Moulds(bridge)
    ports = [Port(f"nic{n}", n, 0x020000000000 + n, (IPv4Address(n),), 1, pod) for n in range(1, ENOUGH + 4)]
    *_, before, one = [moulds.build(port, 1 << 60) for port in ports]
    wanted = build(ports[-1], bridge, 1 << 60)
    assert [shape(flow) for flow in one] == [
        None if flow.actions and isinstance(flow.actions[0], Meter) else shape(flow) for flow in wanted
    ]
    assert None in map(shape, one)
    taken = Taken()
    taken.note(before)
    assert not taken.covers(one)
    assert taken.covers([flow for flow in one if shape(flow)])


def test_only_small_changes_are_remembered() -> None:
    taken = Taken()
    flows = [flow(table=table) for table in range(MANY + 1)]
    taken.note(flows)
    assert not taken.covers(flows[:1])
    taken.note(flows[:-1])
    assert taken.covers(flows[:-1])
    assert not taken.covers(flows)
    assert taken.covers([])
