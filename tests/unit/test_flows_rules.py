# SPDX-License-Identifier: Apache-2.0
"""Rules as flows: which matches a rule becomes, and who wins where rules meet."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import lint
from flows.flow import Flow, Load
from flows.inputs import Bridge, Policy, Rule, Service
from flows.packet import End, Packet
from flows.pipeline import build
from flows.tables import EGRESS_PEER, EGRESS_RULES, INGRESS_RULES
from flows.trace import Switch
from tests.unit.flow_cast import (
    C,
    S,
    U,
    behind,
    client,
    client6,
    dhcp,
    dhcp6,
    nagios,
    nagios6,
    server,
    server6,
    stranger,
    stranger6,
)
from tests.unit.flow_world import OPEN, SERVER, UNITS, WEB, flows_of, rule

BRIDGE = Bridge(uplinks=(1,))
REG_POLICY, REG_PEER = "reg3=0x1", "reg5=0x7"


def ingress(*rules: Rule) -> tuple[Flow, ...]:
    return build(Policy(1, egress_open=False, ingress=rules), BRIDGE)


def matches(one: Rule) -> set[str]:
    return {str(flow.match).replace(f",{REG_POLICY}", "").replace(f"{REG_POLICY},", "") for flow in ingress(one)}


def number(flow: Flow) -> int:
    return next(action.value for action in flow.actions if isinstance(action, Load))


V4, V6 = "10.0.0.0/8", "fd00::/16"
LATER4, LATER6 = "nw_frag=later,ip,nw_src=10.0.0.0/8", "nw_frag=later,ipv6,ipv6_src=fd00::/16"


def words(*texts: str) -> set[frozenset[str]]:
    """Matches, each as the set of its conditions."""
    return {frozenset(text.split(",")) for text in texts}


@pytest.mark.parametrize(
    ("service", "cidr", "expected"),
    [
        (Service(), V4, ["ip,nw_src=10.0.0.0/8"]),
        (Service(), V6, ["ipv6,ipv6_src=fd00::/16"]),
        (Service(), "0.0.0.0/0", ["ip"]),
        (Service(), "10.1.2.3/32", ["ip,nw_src=10.1.2.3"]),
        (Service(6), V4, ["tcp,nw_src=10.0.0.0/8"]),
        (Service(6), V6, ["tcp6,ipv6_src=fd00::/16", LATER6]),
        (Service(6, 22, 22), V4, ["tcp,nw_src=10.0.0.0/8,tcp_dst=22", LATER4]),
        (Service(6, 0, 0), V4, ["tcp,nw_src=10.0.0.0/8,tcp_dst=0", LATER4]),
        (Service(17, 8, 15), V6, ["udp6,ipv6_src=fd00::/16,udp_dst=0x8/0xfff8", LATER6]),
        (Service(132, 5, 5), V4, ["sctp,nw_src=10.0.0.0/8,sctp_dst=5", LATER4]),
        (Service(47), V4, ["ip,nw_src=10.0.0.0/8,nw_proto=47"]),
        (Service(0), V4, ["ip,nw_src=10.0.0.0/8,nw_proto=0"]),
        (Service(58), V4, ["ip,nw_src=10.0.0.0/8,nw_proto=58"]),
        (Service(1), V4, ["icmp,nw_src=10.0.0.0/8"]),
        (Service(1), V6, ["icmp6,ipv6_src=fd00::/16", LATER6]),
        (Service(1, icmp_type=0, icmp_code=0), V4, ["icmp,nw_src=10.0.0.0/8,icmp_type=0,icmp_code=0", LATER4]),
        (Service(1, icmp_type=8), V4, ["icmp,nw_src=10.0.0.0/8,icmp_type=8", LATER4]),
        (Service(1, icmp_type=128), V6, ["icmp6,ipv6_src=fd00::/16,icmpv6_type=128", LATER6]),
    ],
)  # fmt: skip
def test_service(service: Service, cidr: str, expected: list[str]) -> None:
    found = {frozenset(text.split(",")) for text in matches(rule(9, service, cidr))}
    assert found == words(*expected)


def test_group_serves_both_families() -> None:
    found = {frozenset(text.split(",")) for text in matches(rule(9, Service(6, 22, 22), None, 7))}
    later = (f"ip,{REG_PEER},nw_frag=later", f"ipv6,{REG_PEER},nw_frag=later")
    assert found == words(f"tcp,{REG_PEER},tcp_dst=22", f"tcp6,{REG_PEER},tcp_dst=22", *later)


def test_group_with_any_protocol_is_one_flow() -> None:
    assert matches(rule(9, Service(), None, 7)) == {REG_PEER}


def test_empty_group_is_nobody() -> None:
    assert ingress(rule(9, Service())) == ()


def test_equal_rules_are_one_flow_of_the_lowest() -> None:
    flows = ingress(rule(9, Service(47), V4), rule(5, Service(47), V4))
    assert [number(flow) for flow in flows] == [5]


def test_the_most_exact_rule_wins() -> None:
    """First by peer, then by service: a member's port, a port of one address, of a network, a protocol, anything."""
    rules = (
        rule(6, Service(47), None, 7), rule(5, Service(6, 80, 80), "10.1.2.3/32"), rule(4, Service(6, 80, 80), V4),
        rule(3, Service(6, 80, 95), V4), rule(2, Service(6), V4), rule(1, Service(), V4),
    )  # fmt: skip
    flows = [flow for flow in ingress(*rules) if "later" not in str(flow.match) and "ipv6" not in str(flow.match)]
    ranked = sorted(flows, key=lambda flow: -flow.priority)
    assert [number(flow) for flow in ranked] == [6, 5, 4, 3, 2, 1]


def test_open_egress_is_one_flow() -> None:
    (flow,) = build(Policy(1, egress_open=True), BRIDGE)
    assert (flow.table, str(flow.match)) == (EGRESS_PEER.id, "reg2=0x1")


def test_egress_looks_at_the_destination() -> None:
    flows = build(Policy(1, egress_open=False, egress=(rule(9, Service(47), V4),)), BRIDGE)
    assert [(flow.table, str(flow.match)) for flow in flows] == [
        (EGRESS_RULES.id, "reg2=0x1,ip,nw_proto=47,nw_dst=10.0.0.0/8")
    ]


PORTS = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted)
ICMP = st.one_of(st.none(), st.integers(0, 3))
SERVICES = st.one_of(
    st.just(Service()),
    st.builds(Service, st.sampled_from((0, 1, 6, 17, 47, 58, 132))),
    st.builds(lambda proto, ports: Service(proto, *ports), st.sampled_from((6, 17, 132)), PORTS),
    st.builds(lambda kind, code: Service(1, icmp_type=kind, icmp_code=code), st.integers(0, 3), ICMP),
)
CIDRS = st.sampled_from(("0.0.0.0/0", V4, "10.1.0.0/16", "10.1.2.3/32", "::/0", V6, "fd00:1::1/128"))
NUMBERS = st.integers(1, 2**32 - 1)
RULES = st.one_of(
    st.builds(lambda n, s, c: Rule(n, s, ip_network(c)), NUMBERS, SERVICES, CIDRS),
    st.builds(lambda n, s, i: Rule(n, s, identities=tuple(i)), NUMBERS, SERVICES, st.sets(st.integers(1, 3))),
)


@given(st.lists(RULES, max_size=12), st.lists(RULES, max_size=6))
def test_no_two_rules_leave_it_to_the_switch(incoming: list[Rule], outgoing: list[Rule]) -> None:
    """Whatever the rules, the flows are as declared, unique, and no packet matches two of equal priority."""
    flows = build(Policy(1, egress_open=False, egress=tuple(outgoing), ingress=tuple(incoming)), BRIDGE)
    assert lint.check(flows) == []


@given(st.lists(RULES, max_size=8), st.randoms())
def test_order_does_not_matter(rules: list[Rule], rng: object) -> None:
    shuffled = rules.copy()
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = ingress(*rules), ingress(*shuffled)
    assert sorted(map(str, one)) == sorted(map(str, other))


def test_tables_of_a_direction() -> None:
    assert {flow.table for flow in ingress(rule(9, Service(), V4))} == {INGRESS_RULES.id}


@pytest.mark.parametrize(("a", "b", "ports"), [(stranger, server, (67, 68)), (stranger6, server6, (546, 547))])
def test_no_rule_lets_dhcp_in(a: End, b: End, ports: tuple[int, int]) -> None:
    everything = Policy(WEB, egress_open=True, ingress=(rule(1, Service(), "0.0.0.0/0"), rule(2, Service(), "::/0")))
    policies = {everything.owner: everything}
    switch = Switch(flows_of([policies.get(unit.owner, unit) for unit in UNITS]))
    assert switch.walk(Packet.udp(a, b, 69), U).outputs == (S,)
    assert [switch.walk(Packet.udp(a, b, port), U).outputs for port in ports] == [(), ()]


EVERYTHING = (rule(1, Service(), "0.0.0.0/0"), rule(2, Service(), "::/0"), rule(3, Service(), None, 7))


@pytest.mark.parametrize("policy", [Policy(OPEN, egress_open=True), Policy(OPEN, egress_open=False, egress=EVERYTHING)])
@pytest.mark.parametrize("version", [4, 6])
def test_no_rule_lets_dhcp_out(policy: Policy, version: int) -> None:
    """But to the pod's servers: neither to others outside, nor to a VM that has a server's address."""
    near, far, near_by, asked = (
        (client, nagios, server, dhcp) if version == 4 else (client6, nagios6, server6, dhcp6)
    )
    asks, answers = (67, 68) if version == 4 else (547, 546)
    usurper = replace(SERVER, addresses=(*SERVER.addresses, asked.ip))
    units = {one.owner: one for one in (policy, usurper)}
    switch = Switch(flows_of([units.get(unit.owner, unit) for unit in UNITS]))

    def reached(to: End, port: int, *, source: int = answers) -> tuple[int, ...]:
        return switch.walk(Packet.udp(near, to, port, sport=source), C).outputs

    assert reached(far, 69) == reached(asked, asks) == (U,)
    for to in (far, near_by, behind(SERVER.mac, asked)):
        assert [reached(to, port, source=source) for port in (asks, answers) for source in (asks, answers)] == [()] * 4
    assert [reached(asked, asks, source=asks), reached(asked, answers)] == [(), ()]
