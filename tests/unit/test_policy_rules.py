# SPDX-License-Identifier: Apache-2.0
"""Policies, identities, peers and segments: what the rules of local groups become."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TypeVar

import pytest

from flows.inputs import Fanout, Peer, Policy, Port, Segment, Service
from sgctl.model import Range, Rule
from sgctl.numbers import assign, number
from sgctl.policy import decide, units
from sgctl.world import Refusal, World
from tests.unit.worlds import cidr_rule, member, peer_rule, port, uid, with_nic, world

T = TypeVar("T")
CLOUD = world({"web1": ("web",), "nag1": ("nagios",), "cac1": ("nagios", "cacti")})
WEB_PORT = (port("web1", 1),)


def only(kind: type[T], of: World) -> list[T]:
    return [unit for unit in units(of).values() if isinstance(unit, kind)]


def with_rules(*rules: Rule) -> World:
    return replace(CLOUD, ports=WEB_PORT, rules=rules)


def test_without_ports_there_is_only_the_bridge() -> None:
    assert set(units(CLOUD)) == {"bridge"}


def test_ports_with_the_same_groups_share_one_policy() -> None:
    of = replace(
        world({"a": ("x", "y"), "b": ("y", "x"), "c": ("x",)}), ports=(port("a", 1), port("b", 2), port("c", 3))
    )
    numbers = {unit.number: unit.policy for unit in only(Port, of)}
    assert numbers[1] == numbers[2] != numbers[3]
    assert {unit.number for unit in only(Policy, of)} == set(numbers.values())


def test_a_cidr_rule_is_taken_with_host_bits_cleared() -> None:
    (policy,) = only(Policy, with_rules(cidr_rule("r", "web", "10.9.8.7/8")))
    (rule,) = policy.ingress
    assert (rule.cidr, rule.service) == (ip_network("10.0.0.0/8"), Service(6, 80, 80))
    assert policy.egress_open and rule.number


def test_a_group_rule_leads_to_identities_of_its_members() -> None:
    of = with_rules(peer_rule("r1", "web", "nagios", port=1), peer_rule("r2", "web", "cacti", port=2))
    (policy,) = only(Policy, of)
    peers = {str(peer.address): peer for peer in only(Peer, of)}
    assert set(peers) == {"10.1.0.12", "10.1.0.13"}
    nagios, both = peers["10.1.0.12"].ingress_identity, peers["10.1.0.13"].ingress_identity
    by_port = {rule.service.first: set(rule.identities) for rule in policy.ingress}
    assert by_port == {1: {nagios, both}, 2: {both}}
    assert not any(peer.egress_identity for peer in peers.values())


def test_a_joining_member_changes_one_unit() -> None:
    before = with_rules(peer_rule("r", "web", "nagios"))
    after = replace(before, members=(*before.members, member("nagios", "new", "2001:db8::5")))
    old, new = units(before), units(after)
    assert [owner for owner in new if old.get(owner) != new[owner]] == ["peer/2001:db8::5"]


def test_local_members_are_peers_too() -> None:
    of = with_rules(peer_rule("r", "web", "web"))
    assert [str(peer.address) for peer in only(Peer, of)] == ["10.1.0.11"]


def test_rules_of_groups_without_local_members_are_not_looked_at() -> None:
    assert units(with_rules(peer_rule("r", "nagios", "web"))) == units(with_rules())


def test_a_rule_that_names_an_empty_group_allows_nobody_and_still_restricts_egress() -> None:
    of = replace(with_rules(peer_rule("r", "web", "empty", direction="egress")))
    (policy,) = only(Policy, of)
    assert (policy.egress_open, policy.egress) == (False, ())


def test_egress_is_open_only_if_no_group_of_the_set_restricts_it() -> None:
    of = replace(
        CLOUD,
        ports=(port("cac1", 3), port("nag1", 2)),
        rules=(cidr_rule("r", "cacti", "10.0.0.0/8", direction="egress"),),
    )
    by_groups = {len(decide(of).policies[policy.number]): policy.egress_open for policy in only(Policy, of)}
    assert by_groups == {1: True, 2: False}


BROKEN = [
    replace(cidr_rule("bad", "web", "10.0.0.0/8"), first=90, last=80),
    replace(cidr_rule("bad", "web", "10.0.0.0/8"), first=-1, last=80),
    replace(cidr_rule("bad", "web", "10.0.0.0/8"), last=70000),
    replace(cidr_rule("bad", "web", "10.0.0.0/8"), proto=256),
    replace(cidr_rule("bad", "web", "10.0.0.0/8"), proto=1, first=300),
    replace(cidr_rule("bad", "web", "10.0.0.0/8"), direction="sideways"),
    cidr_rule("bad", "web", "10.0.0.0/33"),
    cidr_rule("bad", "web", ""),
    replace(cidr_rule("bad", "web", "10.0.0.0/8"), peer=uid("nagios")),
]


@pytest.mark.parametrize("bad", BROKEN)
def test_a_broken_rule_is_left_out_and_reported_and_the_others_stay(bad: Rule) -> None:
    good = cidr_rule("good", "web", "10.0.0.0/8")
    decision = decide(with_rules(bad, good))
    assert len(decision.problems) == 1 and uid("bad") in decision.problems[0]
    assert decision.units == units(with_rules(good))


def test_a_broken_egress_rule_does_not_open_egress() -> None:
    (policy,) = only(Policy, with_rules(cidr_rule("bad", "web", "10.0.0.0/33", direction="egress")))
    assert not policy.egress_open


@pytest.mark.parametrize(
    ("proto", "first", "last", "service"),
    [
        (-1, -1, -1, Service()),
        (6, 0, 0, Service(6)),
        (17, 0, 65535, Service(17)),
        (132, 7, 9, Service(132, 7, 9)),
        (1, 0, 0, Service(1, icmp_type=0, icmp_code=0)),
        (1, 8, -1, Service(1, icmp_type=8)),
        (1, -1, -1, Service(1)),
        (47, -1, -1, Service(47)),
        (0, -1, -1, Service(0)),
    ],
)
def test_services(proto: int, first: int, last: int, service: Service) -> None:
    rule = replace(cidr_rule("r", "web", "::/0"), proto=proto, first=first, last=last)
    (policy,) = only(Policy, with_rules(rule))
    assert policy.ingress[0].service == service


def test_segment_has_all_subnets_and_the_pods_servers() -> None:
    extra = Range(
        id=uid("range"), zone=uid("zone"), pod=uid("pod"), ip6_cidr="2001:db8::/64", ip6_gateway="2001:db8::1"
    )
    other = Range(id=uid("other"), zone=uid("zone"), pod=uid("pod2"), ip6_cidr="2001:db8:1::/64")
    (unit,) = only(Port, replace(CLOUD, ports=WEB_PORT, ranges=(extra, other)))
    server = (ip_address("10.1.0.2"),)
    assert unit.segment == Segment((ip_network("10.1.0.0/24"), ip_network("2001:db8::/64")), server, server)
    pods = {key: replace(pod, dhcp_servers=frozenset({"10.1.0.3"})) for key, pod in CLOUD.pods.items()}
    (unit,) = only(Port, replace(CLOUD, ports=WEB_PORT, pods=pods))
    assert (unit.segment.dhcp, unit.segment.dns) == ((ip_address("10.1.0.3"),), server)


def test_a_pod_is_a_unit_once_for_all_its_open_ports() -> None:
    of = replace(CLOUD, ports=(port("web1", 1), port("nag1", 2)))
    assert only(Segment, of) == [only(Port, of)[0].segment]


def test_fanouts_hold_all_open_ports() -> None:
    ports = (port("web1", 1), port("nag1", 33), port("cac1", 2))
    assert sorted((unit.chunk, unit.ports) for unit in only(Fanout, replace(CLOUD, ports=ports))) == [
        (1, (1, 33)),
        (2, (2,)),
    ]


def test_a_refused_policy_is_left_out_and_reported() -> None:
    of = with_rules(cidr_rule("r", "web", "10.0.0.0/8"))
    (policy,) = only(Policy, of)
    decision = decide(replace(of, refused={policy.owner: Refusal(policy, "bad match")}))
    assert policy.owner not in decision.units
    assert decision.problems == (f"{policy.owner}: bad match",)


def test_groups_of_a_running_vm_may_change() -> None:
    of = with_rules(cidr_rule("r", "cacti", "10.0.0.0/8"))
    after = with_nic(of, "web1", groups=frozenset({uid("web"), uid("cacti")}))
    assert only(Policy, of)[0].ingress == ()
    assert len(only(Policy, after)[0].ingress) == 1


def test_rules_whose_digests_meet_have_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("numbers", "permits"):
        monkeypatch.setattr(f"sgctl.{module}.number", lambda keys, salt=0: number(keys, salt) % 5)
    rules = [cidr_rule(f"r{port}", "web", "10.0.0.0/8", port=port) for port in (1, 2, 3, 4)]
    decision = decide(with_rules(*rules))
    assert {one.number for unit in decision.units.values() if isinstance(unit, Policy) for one in unit.ingress} == {
        1, 2, 3, 4,
    } == set(decision.rules)  # fmt: skip
    assert set(decision.rules.values()) == {rule.id for rule in rules}


def test_numbers_are_never_zero_and_never_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgctl.numbers.number", lambda keys, salt=0: number(keys, salt) % 3)
    sets = [frozenset({"a"}), frozenset({"b"})]
    assert sorted(assign(sets).values()) == [1, 2]
    assert assign(sets) == assign(reversed(sets))
