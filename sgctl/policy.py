# SPDX-License-Identifier: Apache-2.0
"""From what a hypervisor knows to what its flows are built from; pure: the same world gives the same units.

A *policy* is the set of groups of a local NIC; rules are compiled once per policy.  An *identity* is the set of those
groups that local rules of one direction name as peers and that an address belongs to; addresses lead to identities and
rules match identities.  So a member that joins a group costs one flow per direction, and a new port costs none of
its groups' rules.  Only what local rules name is looked at: a hypervisor's state follows its own VMs.

A rule that makes no sense is left out, which allows less and never more, and is reported; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network

from flows import inputs
from flows.inputs import FANOUT_CHUNKS, Bridge, Fanout, Ip, Network, Peer, Policy, Port, Segment, Service, Standby, Unit
from sgctl.binding import Bound, bind, describe, parse_address, parse_mac
from sgctl.model import Member, Nic, Pod, Rule
from sgctl.numbers import assign
from sgctl.world import Decision, Refusal, State, World

ICMP = 1
WITH_PORTS = frozenset({6, 17, 132})
DIRECTIONS = ("egress", "ingress")
PLACED = (State.ACTIVE, State.STANDBY)


def units(world: World) -> Mapping[str, Unit]:
    """What the bridge's flows are built from, by owner."""
    return decide(world).units


def decide(world: World) -> Decision:
    """Everything that follows from a world."""
    bound = bind(world)
    policies = assign(one.nic.groups for one in bound if one.nic is not None and one.state in PLACED)
    rules = _Rules(world, frozenset().union(*policies))
    identities = {direction: _identities(world, rules, direction) for direction in DIRECTIONS}
    numbers = assign(set(identities["egress"].values()) | set(identities["ingress"].values()))
    shared = [_policy(number, groups, rules, identities, numbers) for groups, number in policies.items()]
    refusals = _Refusals(world.refused)
    kept = refusals.keep([_bridge(world, bound), *shared, *_peers(identities, numbers)])
    bound, ports = _open(world, bound, policies, refusals)
    pods = refusals.keep({port.segment for port in ports if isinstance(port, Port)})
    found = [*kept, *pods, *ports, *_fanouts(bound)]
    return Decision(
        units={unit.owner: unit for unit in found},
        ports=tuple(describe(world, one) for one in bound),
        problems=(*rules.problems, *refusals.problems),
        rules={number: rule_id for rule_id, number in rules.numbers.items()},
        policies={number: groups for groups, number in policies.items()},
        identities={number: groups for groups, number in numbers.items()},
    )


class _Refusals:
    """Units that the switch did not take, as long as they are what it did not take."""

    def __init__(self, refused: Mapping[str, Refusal]) -> None:
        self.problems: list[str] = []
        self._refused = refused

    def of(self, unit: Unit) -> str:
        """Why the switch would not take this very unit; empty if it may be tried."""
        refusal = self._refused.get(unit.owner)
        return refusal.reason if refusal is not None and refusal.unit == unit else ""

    def keep(self, units: Iterable[Unit]) -> list[Unit]:
        """The units that may be tried."""
        kept = []
        for unit in units:
            if reason := self.of(unit):
                self.problems.append(f"{unit.owner}: {reason}")
            else:
                kept.append(unit)
        return kept


def _open(
    world: World, bound: Iterable[Bound], policies: Mapping[frozenset[str], int], refusals: _Refusals
) -> tuple[list[Bound], list[Unit]]:
    """The ports as they are in the end, and the units of those that are open or on standby."""
    segments = {pod: _segment(world, pod) for pod in {one.nic.pod for one in bound if one.nic and one.state in PLACED}}
    ports: list[Bound] = []
    units: list[Unit] = []
    for one in bound:
        if one.nic is None or one.state not in PLACED:
            ports.append(one)
            continue
        unit = _port(one, one.nic, policies, segments)
        reason = refusals.of(unit)
        ports.append(replace(one, state=State.CLOSED, reason=reason) if reason else one)
        units += [] if reason else [unit]
    return ports, units


def _port(
    one: Bound, nic: Nic, policies: Mapping[frozenset[str], int], segments: Mapping[str, Segment]
) -> Port | Standby:
    if one.state is State.STANDBY:
        return Standby(nic.id, one.number)
    return Port(nic.id, one.number, _mac(nic), one.addresses, policies[nic.groups], segments[nic.pod])


@dataclass(frozen=True, slots=True)
class _Allowed:
    """A rule that makes sense."""

    rule: Rule
    service: Service
    cidr: Network | None


class _Rules:
    """The rules of the local groups, by group and direction, and what was wrong with others."""

    def __init__(self, world: World, groups: frozenset[str]) -> None:
        self.problems: list[str] = []
        self.restricted: set[str] = set()
        self._allowed: dict[tuple[str, str], list[_Allowed]] = {}
        for rule in sorted(world.rules, key=lambda rule: rule.id):
            if rule.group in groups:
                self._add(rule)
        known = [one.rule.id for rules in self._allowed.values() for one in rules]
        self.numbers = {next(iter(key)): number for key, number in assign(frozenset({i}) for i in known).items()}

    def _add(self, rule: Rule) -> None:
        if rule.direction == "egress":
            self.restricted.add(rule.group)
        try:
            allowed = _allowed(rule)
        except ValueError as error:
            self.problems.append(f"rule {rule.id}: {error}")
            return
        self._allowed.setdefault((rule.group, rule.direction), []).append(allowed)

    def of(self, groups: Iterable[str], direction: str) -> Iterator[_Allowed]:
        """The rules of these groups in one direction."""
        for group in sorted(groups):
            yield from self._allowed.get((group, direction), ())

    def named(self, direction: str) -> frozenset[str]:
        """The groups that rules of one direction name."""
        rules = (one.rule for (_, way), rules in self._allowed.items() if way == direction for one in rules)
        return frozenset(rule.peer for rule in rules if rule.peer)


def _allowed(rule: Rule) -> _Allowed:
    """A rule in the pipeline's words; ValueError says what is wrong with it."""
    if rule.direction not in DIRECTIONS:
        raise ValueError(f"no direction {rule.direction!r}")
    if bool(rule.cidr) == bool(rule.peer):
        raise ValueError("needs either a CIDR or a group")
    cidr = ip_network(rule.cidr.strip(), strict=False) if rule.cidr else None
    return _Allowed(rule, _service(rule), cidr)


def _service(rule: Rule) -> Service:
    if not -1 <= rule.proto <= 255:
        raise ValueError(f"no IP protocol {rule.proto}")
    if rule.proto == ICMP:
        return Service(ICMP, icmp_type=_icmp(rule.first), icmp_code=_icmp(rule.last))
    if rule.proto not in WITH_PORTS:
        return Service(None if rule.proto < 0 else rule.proto)
    if (rule.first, rule.last) in ((-1, -1), (0, 0)):
        return Service(rule.proto)
    if not 0 <= rule.first <= rule.last <= 65535:
        raise ValueError(f"no port range {rule.first}-{rule.last}")
    return Service(rule.proto, rule.first, rule.last)


def _icmp(value: int) -> int | None:
    if not -1 <= value <= 255:
        raise ValueError(f"no ICMP type or code {value}")
    return None if value < 0 else value


def _identities(world: World, rules: _Rules, direction: str) -> dict[Ip, frozenset[str]]:
    """The identity of every address that rules of one direction name through groups."""
    named = rules.named(direction)
    found: dict[Ip, set[str]] = {}
    for member in world.members:
        if member.group in named and (address := _member_address(member)) is not None:
            found.setdefault(address, set()).add(member.group)
    return {address: frozenset(groups) for address, groups in found.items()}


def _member_address(member: Member) -> Ip | None:
    return parse_address(member.address)


def _bridge(world: World, bound: Iterable[Bound]) -> Bridge:
    usable = {one.port.name: one.number for one in bound if one.state is State.UPLINK and not one.reason}
    configured = [name for name in dict.fromkeys(world.uplinks) if name in usable]
    others = sorted(usable.keys() - set(configured))
    return Bridge(tuple(usable[name] for name in (*configured, *others)))


def _mac(nic: Nic) -> int:
    mac = parse_mac(nic.mac)
    assert mac is not None, "bind() has checked it"
    return mac


def _segment(world: World, pod_id: str) -> Segment:
    pod = world.pods[pod_id]
    zone = world.zones.get(pod.zone)
    resolvers = (zone.internal_dns1, zone.internal_dns2) if zone else ()
    return Segment(
        subnets=_subnets(world, pod),
        dhcp=_servers(pod.dhcp_servers or resolvers),
        dns=_servers(pod.dns_servers or resolvers),
    )


def _subnets(world: World, pod: Pod) -> tuple[Network, ...]:
    texts = [(pod.gateway, pod.netmask)]
    for row in world.ranges:
        if row.pod == pod.id:
            texts += [(row.gateway, row.netmask), tuple(row.ip6_cidr.split("/", 1))]  # type: ignore[list-item]
    networks = {network for text in texts if (network := _network(*text)) is not None}
    return tuple(sorted(networks, key=lambda net: (net.version, int(net.network_address), net.prefixlen)))


def _network(address: str, mask: str = "") -> Network | None:
    if not address or not mask:
        return None
    try:
        return ip_network(f"{address}/{mask}", strict=False)
    except ValueError:
        return None


def _servers(texts: Iterable[str]) -> tuple[Ip, ...]:
    addresses = {address for text in texts if (address := parse_address(text)) is not None}
    return tuple(sorted(addresses, key=lambda address: (address.version, int(address))))


def _policy(
    number: int,
    groups: frozenset[str],
    rules: _Rules,
    identities: Mapping[str, Mapping[Ip, frozenset[str]]],
    numbers: Mapping[frozenset[str], int],
) -> Policy:
    def compiled(direction: str) -> tuple[inputs.Rule, ...]:
        known = set(identities[direction].values())
        wanted = (_rule(one, rules, known, numbers) for one in rules.of(groups, direction))
        return tuple(rule for rule in wanted if rule.cidr is not None or rule.identities)

    return Policy(number, rules.restricted.isdisjoint(groups), compiled("egress"), compiled("ingress"))


def _rule(
    one: _Allowed, rules: _Rules, known: Iterable[frozenset[str]], numbers: Mapping[frozenset[str], int]
) -> inputs.Rule:
    peers = sorted(numbers[groups] for groups in known if one.rule.peer in groups) if one.rule.peer else []
    return inputs.Rule(rules.numbers[one.rule.id], one.service, one.cidr, tuple(peers))


def _peers(
    identities: Mapping[str, Mapping[Ip, frozenset[str]]], numbers: Mapping[frozenset[str], int]
) -> Iterator[Peer]:
    egress, ingress = identities["egress"], identities["ingress"]
    for address in sorted(egress.keys() | ingress.keys(), key=lambda one: (isinstance(one, IPv4Address), int(one))):
        out, into = egress.get(address), ingress.get(address)
        yield Peer(address, numbers[out] if out else 0, numbers[into] if into else 0)


def _fanouts(bound: Iterable[Bound]) -> Iterator[Fanout]:
    chunks: dict[int, list[int]] = {}
    for one in bound:
        if one.state is State.ACTIVE:
            chunks.setdefault(one.number % FANOUT_CHUNKS, []).append(one.number)
    for chunk, ports in chunks.items():
        yield Fanout(chunk, tuple(sorted(ports)))
