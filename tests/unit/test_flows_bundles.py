# SPDX-License-Identifier: Apache-2.0
"""Rules that are bundled: how many flows they are, and that they allow what they say and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import bundles, lint
from flows.flow import Flow
from flows.inputs import Policy, Rule, Service
from flows.packet import End, Packet
from flows.pipeline import build
from flows.ports import masks
from flows.tables import EGRESS_BUNDLES, INGRESS_BUNDLES
from flows.trace import Switch, Walk
from tests.unit.flow_cases import udp_in
from tests.unit.flow_cast import LISTENER_MAC, G, S, U, caged, caged6, server, server6
from tests.unit.flow_world import BRIDGE, LOCKED, TCP, UDP, UNITS, WEB, flows_of, rule

AWKWARD = Service(TCP, 1000, 60001)
RANGES = (AWKWARD, Service(UDP, 1000, 60001), Service(TCP, 3, 700))
TWENTY = tuple(Service(TCP, 1000 + 77 * n, 1060 + 77 * n) for n in range(20))
OTHERS = [unit for unit in UNITS if not (isinstance(unit, Policy) and unit.number in (WEB, LOCKED))]


def many(count: int, version: int = 4) -> list[str]:
    return [f"172.16.{n}.0/24" if version == 4 else f"2001:db8:{n:x}::/48" for n in range(count)]


def numbered(cidrs: list[str], *services: Service) -> tuple[Rule, ...]:
    return tuple(rule(1 + n, service, cidr) for n, (service, cidr) in enumerate(product(services, cidrs)))


def flows(rules: tuple[Rule, ...], way: str = "ingress") -> tuple[Flow, ...]:
    built = build(Policy(1, egress_open=False, **{way: rules}), BRIDGE)  # type: ignore[arg-type]
    assert lint.check(built) == []
    return built


def switch(rules: tuple[Rule, ...]) -> Switch:
    """The bridge, where these are the server's ingress rules, and the caged VM's egress rules."""
    policies = (Policy(WEB, egress_open=True, ingress=rules), Policy(LOCKED, egress_open=False, egress=rules))
    return Switch(flows_of([*OTHERS, *policies]))


def at(address: str) -> End:
    return End(LISTENER_MAC, ip_address(address))


def walks(of: Switch, address: str, proto: int, port: int) -> Iterator[tuple[Walk, int]]:
    """A first packet from an address to the server, and one from the caged VM to that address."""
    peer, make = at(address), {TCP: Packet.tcp, UDP: Packet.udp}[proto]
    here, sender = (server, caged) if peer.ip.version == 4 else (server6, caged6)
    yield of.walk(make(peer, here, port), U), 32
    yield of.walk(make(sender, peer, port), G), 0


@pytest.mark.parametrize("way", ["ingress", "egress"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("services", [(AWKWARD,), RANGES, TWENTY])
def test_networks_and_masks_add_up(way: str, version: int, services: tuple[Service, ...]) -> None:
    blocks = sum(len(masks(one.first, one.last)) for one in services)
    assert len(flows(numbered(many(200, version), *services), way)) <= 200 + blocks + 10


def test_overlapping_networks_add_up_too() -> None:
    cidrs = [*many(100), *(f"172.16.{n}.7/32" for n in range(100)), "172.16.0.0/12"]
    inner = tuple(replace(one, number=one.number + 1000) for one in numbered(cidrs[:50], Service(TCP, 3, 700)))
    blocks = 2 * len(masks(1000, 60001)) + len(masks(3, 700))
    assert len(flows((*numbered(cidrs, AWKWARD), *inner))) <= 201 + blocks + 10


def test_few_rules_are_not_bundled() -> None:
    built = flows((*numbered(many(9), Service(TCP, 22, 22)), *numbered(["10.0.0.0/8"], AWKWARD)))
    assert not {flow.table for flow in built} & {EGRESS_BUNDLES.id, INGRESS_BUNDLES.id}


def test_more_services_than_there_are_places() -> None:
    """The bundle has those that save most; the others are flows of their own."""
    services = [Service(TCP, 1001 + 64 * n, 1060 + 64 * n) for n in range(bundles.MOST + 2)]
    rules = numbered(many(20), *services, AWKWARD)
    _, scopes = bundles.divide(rules)
    assert {len(one.services) for one in scopes} == {bundles.MOST}
    assert all(AWKWARD in one.services for one in scopes)
    of = switch(rules)
    for n in range(bundles.MOST + 2):
        verdicts = [walk.verdict for walk, _ in walks(of, "172.16.7.7", TCP, 1001 + 64 * n)]
        assert verdicts == ["delivered", "delivered"]


def test_policies_with_the_same_rules_have_flows_of_their_own() -> None:
    rules = numbered(many(20), *RANGES)
    pair = [Policy(number, egress_open=False, ingress=rules, egress=rules) for number in (1, 2)]
    assert lint.check([flow for one in pair for flow in build(one, BRIDGE)]) == []


@pytest.mark.parametrize("services", [(AWKWARD,), RANGES])
def test_one_more_network_is_one_more_flow(services: tuple[Service, ...]) -> None:
    rules = numbered(many(20), *services)
    more = tuple(rule(1000 + n, service, "192.0.2.0/24") for n, service in enumerate(services))
    before, after = set(flows(rules)), set(flows((*rules, *more)))
    assert (len(after - before), len(before - after)) == (1, 0)


def test_the_rule_of_each_service_is_remembered() -> None:
    rules = numbered(many(20), *RANGES)
    of = switch(rules)
    for proto, port in ((TCP, 1000), (UDP, 1000), (TCP, 3)):
        right = {one.number for one in rules if admits(one, "172.16.7.7", proto, port)}
        assert len(right) == 1
        for walk, shift in walks(of, "172.16.7.7", proto, port):
            assert {walk.committed[-1].label >> shift & 0xFFFFFFFF} == right


def test_the_narrowest_network_counts() -> None:
    """What is allowed to it alone, and what to the network around it; to the rest of that only the latter."""
    around = numbered(["172.16.0.0/12", *(f"10.{n}.0.0/16" for n in range(64, 96))], AWKWARD)
    inside = tuple(replace(one, number=one.number + 1000) for one in numbered(many(50), Service(UDP, 1000, 60001)))
    of = switch((*around, *inside))
    for address, allowed in {
        "172.16.7.7": {TCP, UDP},
        "172.20.7.7": {TCP},
        "10.70.7.7": {TCP},
        "11.0.0.7": set[int](),
    }.items():
        for proto in (TCP, UDP):
            for walk, _ in walks(of, address, proto, 2000):
                assert bool(walk.sent) == (proto in allowed), (address, proto)


def test_a_neighbour_is_not_around() -> None:
    """The address behind the last one of a network is outside of it."""
    rules = [rule(1, AWKWARD, "10.1.2.0/30"), rule(2, RANGES[1], "10.1.2.4/32")]
    found = {str(network): set(own) for network, own in bundles._tree(rules)}
    assert found == {"10.1.2.0/30": {AWKWARD}, "10.1.2.4/32": {RANGES[1]}}


def test_numbers_of_sets_never_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bundles._digest
    monkeypatch.setattr(bundles, "_digest", lambda services, salt: real(services, salt) % 3)
    scopes = [bundles.Scope(ip_network("10.0.0.0/8"), (one,), (1,)) for one in RANGES[:2]]
    assert sorted(bundles.sets(scopes).values()) == [1, 2]
    assert bundles.sets(scopes) == bundles.sets(reversed(scopes))


def test_a_bundle_costs_one_look_up() -> None:
    few, lots = (switch(numbered([*many(count), "10.1.0.0/24"], AWKWARD)) for count in (0, 20))
    for packet, port in ((Packet.tcp(at("10.1.0.7"), server, 1000), U), (Packet.tcp(caged, at("10.1.0.7"), 1000), G)):
        paths = [of.walk(packet, port) for of in (few, lots)]
        assert {one.verdict for one in paths} == {"delivered"}
        assert [len(one.path) - len(paths[0].path) for one in paths] == [0, 1]


def test_later_pieces_go_where_the_first_may() -> None:
    of = switch(numbered(many(20), Service(UDP, 1000, 60001)))
    peer = at("172.16.7.7")
    for port, out in ((1000, S), (999, None)):
        sent = [walk.outputs for walk in of.walk_pieces(udp_in(peer, server, port, 5 + port), U)]
        assert sent == [(out,) if out else ()] * 3
    assert {walk.outputs for walk in of.walk_pieces(udp_in(at("192.0.2.1"), server, 1000, 9), U)} == {()}


NETWORKS = (
    "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "10.1.2.4/32", "10.200.0.0/16",
    "::/0", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1::1/128",
)  # fmt: skip
PORTS = st.one_of(
    st.sampled_from([(80, 80), (1000, 60001), (1, 65535), (75, 90), (0, 65534)]),
    st.tuples(st.integers(70, 100), st.integers(70, 100)).map(lambda two: (min(two), max(two))),
)
SERVICES = st.builds(lambda proto, ports: Service(proto, *ports), st.sampled_from((TCP, UDP)), PORTS)
RULES = st.lists(st.tuples(SERVICES, st.sampled_from(NETWORKS)), max_size=30).map(
    lambda pairs: tuple(rule(1 + n, *pair) for n, pair in enumerate(pairs))
)
PEERS = (
    "10.1.2.3",
    "10.1.2.4",
    "10.1.2.9",
    "10.1.9.9",
    "10.9.9.9",
    "10.200.0.1",
    "203.0.113.1",
    "2001:db8:1::1",
    "2001:db8:2::2",
)


def admits(one: Rule, address: str, proto: int, port: int) -> bool:
    service = one.service
    assert one.cidr is not None
    return ip_address(address) in one.cidr and service.proto == proto and service.first <= port <= service.last


@pytest.fixture(scope="module")
def _always() -> Iterator[None]:
    """Bundle whatever can be bundled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundles, "SAVES", -1_000_000)
        patch.setattr(bundles, "_cost", lambda rules, networks, chosen: -len(chosen))
        yield


@pytest.mark.usefixtures("_always")
@given(RULES, st.sampled_from((TCP, UDP)), st.lists(st.integers(70, 100), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_what_is_allowed_is_what_the_rules_say(rules: tuple[Rule, ...], proto: int, ports: list[int]) -> None:
    """And the rule that is remembered is one that says so."""
    of = switch(rules)
    for address, port in product(PEERS, (*ports, 0, 1000, 60002)):
        right = {one.number for one in rules if admits(one, address, proto, port)}
        for walk, shift in walks(of, address, proto, port):
            assert walk.verdict == ("delivered" if right else "dropped")
            assert not right or walk.committed[-1].label >> shift & 0xFFFFFFFF in right
        of.forget()


@pytest.mark.usefixtures("_always")
@given(RULES, st.randoms())
def test_their_order_does_not_matter(rules: tuple[Rule, ...], rng: object) -> None:
    shuffled = list(rules)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sorted(map(str, flows(rules))) == sorted(map(str, flows(tuple(shuffled))))
