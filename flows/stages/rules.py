# SPDX-License-Identifier: Apache-2.0
"""EGRESS_RULES and INGRESS_RULES: do the groups of the VM let this new connection pass?

Everything that no rule allows is refused. Above the rules stand DHCP and DNS, which always reach the pod's servers;
DHCP reaches nobody else, and a VM is never a DHCP server.  That is seen to behind the egress rules, in DHCP_GUARD: a
switch then looks at ports only in what a policy lets out.  One without egress rules passes them by, in EGRESS_PEER, and
its destinations are not looked at.  Where both are, the lengths of their prefixes multiply, and with them the masks of
cached flows.

Rules only allow, so it does not matter for the verdict which of several matching rules wins; but the winner is
remembered in ct_label. So the most exact one wins: first by its peer, then by its service; of equal ones that with
the lowest number. Each combination of match masks has a priority of its own, so no two flows of equal priority
overlap.

Rules that allow the same ports to many networks are bundled (`flows.bundles`): a packet that no other rule lets pass
finds its network here, and its service in EGRESS_BUNDLES or INGRESS_BUNDLES.

Later fragments have no ports: a rule about ports or ICMP types has a companion that lets later fragments between the
same addresses go on to COMMIT. That is safe: COMMIT's own conntrack look-up puts the packet together again, which
never completes if its first fragment was refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from flows import fields as f
from flows.bands import Band
from flows.bundles import Scope, Services, divide, sets
from flows.fields import Bits, MatchField, Term
from flows.flow import Flow, Load, Match, Pop, Push, Terms
from flows.inputs import Bridge, Ip, Network, Policy, Rule, Segment, Service
from flows.make import drop, go
from flows.ports import PORT_MAX, masks
from flows.tables import (
    COMMIT,
    DHCP_GUARD,
    EGRESS_BUNDLES,
    EGRESS_PEER,
    EGRESS_RULES,
    INGRESS_BUNDLES,
    INGRESS_PEER,
    INGRESS_RULES,
    Table,
)
from flows.terms import (
    FAMILY,
    FOR_WIRE,
    FROM_VM,
    FROM_WIRE,
    ICMP_PROTO,
    ICMPV6_PROTO,
    LATER_FRAGMENT,
    SCTP_PROTO,
    TCP_PROTO,
    UDP4,
    UDP6,
    UDP_PROTO,
    destination,
    source,
)

_PORT_FIELDS: dict[int, MatchField] = {TCP_PROTO: f.TCP_DST, UDP_PROTO: f.UDP_DST, SCTP_PROTO: f.SCTP_DST}
#: How exact a peer is: the length of its prefix, or this.
_IDENTITY_RANK = 129
#: How exact a service is: 0 anything, 1 a protocol, 2 to 17 one more than the bits of its port, or these.
_TYPE_RANK, _CODE_RANK, _FRAGMENT_RANK, _RANKS = 2, 3, 31, 32

#: (protocol and port of a DHCP server, of a DHCP client, source port of a client), per IP version.
_DHCP_PORTS = {4: (67, 68), 6: (547, 546)}
_UDP = {4: UDP4, 6: UDP6}


@dataclass(frozen=True, slots=True, eq=False)
class _Direction:
    """What differs between egress and ingress rules."""

    table: Table
    bundles: Table
    to: Table
    policy: Bits
    identity: Bits
    bundle: Bits
    rule: Bits
    verb: str

    def peer(self, network: Ip | Network) -> Term:
        """The other end is this address or in this network."""
        return destination(network) if self.table is EGRESS_RULES else source(network)


_EGRESS = _Direction(
    EGRESS_RULES,
    EGRESS_BUNDLES,
    INGRESS_PEER,
    f.EGRESS_POLICY,
    f.EGRESS_IDENTITY,
    f.EGRESS_BUNDLE,
    f.EGRESS_RULE,
    "out",
)
_INGRESS = _Direction(
    INGRESS_RULES, INGRESS_BUNDLES, COMMIT, f.INGRESS_POLICY, f.INGRESS_IDENTITY, f.INGRESS_BUNDLE, f.INGRESS_RULE, "in"
)


def bridge_flows(_: Bridge) -> Iterator[Flow]:
    """No VM talks as or to a DHCP server or client, whatever its rules say."""
    for version, ports in _DHCP_PORTS.items():
        for port in ports:
            dhcp = (*_UDP[version], f.UDP_DST.eq(port))
            yield go(INGRESS_PEER, Band.FIRST, "DHCP of a VM", FROM_VM, dhcp, to=DHCP_GUARD)
            yield drop(INGRESS_RULES, Band.REFUSE, "DHCP other than from the pod's servers", dhcp)


def pod_flows(pod: Segment) -> Iterator[Flow]:
    """DHCP with the pod's servers and DNS to its resolvers pass without a rule."""
    for server in _routable(pod.dhcp):
        server_port, client_port = _DHCP_PORTS[server.version]
        asks = (*_UDP[server.version], f.UDP_SRC.eq(client_port), f.UDP_DST.eq(server_port))
        to_it = (f.SRC_POD.eq(pod.number), asks, destination(server))
        yield _pass(_EGRESS, "DHCP to the pod's server", to_it)
        yield go(DHCP_GUARD, Band.ALLOW, "DHCP to the pod's server", to_it, FOR_WIRE, to=COMMIT)
        answers = (*_UDP[server.version], f.UDP_SRC.eq(server_port), f.UDP_DST.eq(client_port), FROM_WIRE)
        yield _pass(_INGRESS, "DHCP from the pod's server", f.DST_POD.eq(pod.number), answers, source(server))
    for resolver in _routable(pod.dns):
        for proto in (UDP_PROTO, TCP_PROTO):
            query = (FAMILY[resolver.version], f.IP_PROTO.eq(proto), _PORT_FIELDS[proto].eq(53))
            yield _pass(_EGRESS, "DNS to the pod's resolver", f.SRC_POD.eq(pod.number), query, destination(resolver))
        later = (FAMILY[resolver.version], LATER_FRAGMENT, destination(resolver))
        yield _pass(_EGRESS, "DNS to the pod's resolver, the rest", f.SRC_POD.eq(pod.number), later)


def _routable(servers: tuple[Ip, ...]) -> list[Ip]:
    """Without link-local ones, to which there are no connections."""
    return [one for one in servers if not one.is_link_local]


def _pass(way: _Direction, note: str, *terms: Terms) -> Flow:
    return go(way.table, Band.EXCEPT, note, *terms, to=way.to)


def policy_flows(policy: Policy) -> Iterator[Flow]:
    """The rules of a set of groups."""
    if policy.egress_open:
        everything = f.EGRESS_POLICY.eq(policy.number)
        yield go(EGRESS_PEER, Band.EXCEPT, "no egress rules: everything", everything, to=INGRESS_PEER)
    yield from _rules(_EGRESS, policy.number, policy.egress)
    yield from _rules(_INGRESS, policy.number, policy.ingress)


def _rules(way: _Direction, policy: int, rules: tuple[Rule, ...]) -> Iterator[Flow]:
    alone, scopes = divide(rules)
    yield from _alone(way, policy, alone)
    numbers = sets(scopes)
    for scope in scopes:
        yield _scope(way, policy, scope, numbers[scope.services])
    for version, services in dict.fromkeys((one.network.version, one.services) for one in scopes):
        yield from _bundle(way, policy, numbers[services], version, services)


def _scope(way: _Direction, policy: int, scope: Scope, number: int) -> Flow:
    """A network leads to the services that are allowed to it, and says by which rules: the first one's is in the
    register, the next one's on top of the stack."""
    first, *others = scope.rules
    stacked = [action for rule in reversed(others) for action in (Load(way.rule, rule), Push(way.rule))]
    known = (Load(way.bundle, number), *stacked, Load(way.rule, first))
    length = scope.network.prefixlen
    terms = (way.policy.eq(policy), FAMILY[scope.network.version], way.peer(scope.network) if length else ())
    note = f"may be let {way.verb} by rule {', '.join(f'{rule:08x}' for rule in scope.rules)}"
    return go(way.table, Band.OTHERWISE + 1 + length, note, terms, to=way.bundles, do=known)


def _bundle(way: _Direction, policy: int, number: int, version: int, services: Services) -> Iterator[Flow]:
    """The services of a set, each with the number of its rule; where several match, the most exact one wins."""
    chosen: dict[tuple[int, Match], Flow] = {}
    note = f"let {way.verb} by its network's rule"
    for place, service in enumerate(services):
        remember = (Pop(way.rule),) * place
        for exactness, terms in _services(service, version):
            match = (way.policy.eq(policy), way.bundle.eq(number), FAMILY[version], terms)
            flow = go(way.bundles, Band.ALLOW + exactness, note, match, to=way.to, do=remember)
            chosen.setdefault((flow.priority, flow.match), flow)
    yield from chosen.values()


def _alone(way: _Direction, policy: int, rules: list[Rule]) -> Iterator[Flow]:
    chosen: dict[tuple[int, Match], Flow] = {}
    for rule in sorted(rules, key=lambda one: one.number):
        for flow in _of_one(way, policy, rule):
            chosen.setdefault((flow.priority, flow.match), flow)
    yield from chosen.values()


@lru_cache(maxsize=1 << 13)
def _of_one(way: _Direction, policy: int, rule: Rule) -> tuple[Flow, ...]:
    """The flows of a rule by itself; kept, for of the many of a policy one at a time changes."""
    note = f"let {way.verb} by rule {rule.number:08x}"
    load, who = (Load(way.rule, rule.number),), way.policy.eq(policy)
    return tuple(
        go(way.table, Band.ALLOW + rank, note, who, terms, to=way.to, do=load) for rank, terms in _matches(way, rule)
    )


def _matches(way: _Direction, rule: Rule) -> Iterator[tuple[int, tuple[Terms, ...]]]:
    """What a rule allows, each with how exact it is."""
    for rank, peer, versions in _peers(way, rule):
        if rule.service.proto is None:
            yield rank * _RANKS, (peer, FAMILY[versions[0]] if len(versions) == 1 else ())
            continue
        for version in versions:
            for exactness, terms in _services(rule.service, version):
                yield rank * _RANKS + exactness, (peer, FAMILY[version], terms)


def _peers(way: _Direction, rule: Rule) -> Iterator[tuple[int, tuple[Term, ...], tuple[int, ...]]]:
    """The other ends of a rule: how exact, condition, IP versions."""
    if rule.cidr is not None:
        length = rule.cidr.prefixlen
        yield length, (way.peer(rule.cidr),) if length else (), (rule.cidr.version,)
    for identity in rule.identities:
        yield _IDENTITY_RANK, (way.identity.eq(identity),), (4, 6)


def _services(service: Service, version: int) -> Iterator[tuple[int, tuple[Term, ...]]]:
    """The conditions of a service with a protocol, each with how exact it is, and those of its later fragments."""
    assert service.proto is not None
    proto = ICMPV6_PROTO if (service.proto, version) == (ICMP_PROTO, 6) else service.proto
    one = f.IP_PROTO.eq(proto)
    exact = True
    if proto in _PORT_FIELDS and (service.first, service.last) != (0, PORT_MAX):
        for value, mask in masks(service.first, service.last):
            yield 1 + mask.bit_count(), (one, _PORT_FIELDS[proto].masked(value, mask))
    elif service.icmp_type is not None and proto in (ICMP_PROTO, ICMPV6_PROTO):
        yield _icmp(service, proto, one)
    else:
        yield 1, (one,)
        exact = False
    if exact or version == 6:
        yield _FRAGMENT_RANK, (LATER_FRAGMENT,)


def _icmp(service: Service, proto: int, one: Term) -> tuple[int, tuple[Term, ...]]:
    kind, code = (f.ICMP_TYPE, f.ICMP_CODE) if proto == ICMP_PROTO else (f.ICMPV6_TYPE, f.ICMPV6_CODE)
    assert service.icmp_type is not None
    if service.icmp_code is None:
        return _TYPE_RANK, (one, kind.eq(service.icmp_type))
    return _CODE_RANK, (one, kind.eq(service.icmp_type), code.eq(service.icmp_code))
