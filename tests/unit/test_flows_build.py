# SPDX-License-Identifier: Apache-2.0
"""Flows are a function of their unit, the bridge and the scope, whatever has been built before."""

from __future__ import annotations

from ipaddress import ip_network

from flows.flow import DIGEST_BITS, Flow
from flows.inputs import Bridge, Policy, Rule, Service
from flows.pipeline import build

BRIDGE = Bridge((1,))
SCOPES = (0x5C0001 << DIGEST_BITS, 0x5C0002 << DIGEST_BITS)
SSH = Rule(7, Service(6, 22, 22), cidr=ip_network("10.0.0.0/8"))


def test_flows_that_a_stage_keeps_do_not_remember_whom_they_were_given_to() -> None:
    policy = Policy(3, egress_open=True, ingress=(SSH,))
    first = build(policy, BRIDGE, SCOPES[0])
    shown = [*map(_all_of, first)]
    second, unmarked = build(policy, BRIDGE, SCOPES[1]), build(policy, BRIDGE)
    for flow, other, bare in zip(first, second, unmarked, strict=True):
        assert flow == other == bare
        assert (flow.cookie, other.cookie, bare.cookie) == (*(scope | flow.digest() for scope in SCOPES), 0)
        assert flow.owner == other.owner == bare.owner == policy.owner
    assert [*map(_all_of, first)] == shown == [*map(_all_of, build(policy, BRIDGE, SCOPES[0]))]


def test_a_kept_flow_of_the_same_owner_is_the_same_object() -> None:
    policy, wider = (Policy(4, egress_open, ingress=(SSH,)) for egress_open in (True, False))
    before, after = build(policy, BRIDGE, SCOPES[0]), build(wider, BRIDGE, SCOPES[0])
    kept = {flow.cookie: flow for flow in before}
    assert any(kept.get(flow.cookie) is flow for flow in after)


def _all_of(flow: Flow) -> tuple[object, ...]:
    return flow.table, flow.priority, flow.match, flow.actions, flow.owner, flow.note, flow.cookie, flow.expires
