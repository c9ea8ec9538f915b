# SPDX-License-Identifier: Apache-2.0
"""From what a hypervisor knows to what its flows are built from; pure: the same world gives the same units.

A *policy* is the set of groups of a local NIC; rules are compiled once per policy.  An *identity* is the set of those
groups that local rules of one direction name as peers and that an address belongs to; addresses lead to identities and
rules match identities.  So a member that joins a group costs one flow per direction, and a new port costs none of
its groups' rules.  Only what local rules name is looked at: a hypervisor's state follows its own VMs.

A rule that makes no sense is left out, which allows less and never more, and is reported; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import NamedTuple

from flows.inputs import FANOUT_CHUNKS, Bridge, Fanout, Ip, Network, Policy, Port, Segment, Shared, Standby, Unit
from sgctl import permits
from sgctl.addresses import parse_address, parse_mac
from sgctl.audiences import Audiences, Place, virtuals
from sgctl.binding import Binder, Bound, describe, name_of
from sgctl.identities import Groups, Identities, Numbers
from sgctl.memo import Along, Distinct, Each, Last, Layers
from sgctl.model import Account, Group, Nic, Pod, Range, Zone
from sgctl.numbers import assign
from sgctl.permits import Permits
from sgctl.world import Decision, PortState, Refusal, State, World

PLACED = (State.ACTIVE, State.STANDBY)


def units(world: World) -> Mapping[str, Unit]:
    """What the bridge's flows are built from, by owner."""
    return decide(world).units


def decide(world: World) -> Decision:
    """Everything that follows from a world, computed from nothing."""
    return Decider().decide(world)


class Decider:
    """Decides about one world after the other, and remembers enough to look only at what differs.

    The decision about a world does not depend on the worlds before; units that say the same are the same objects.
    """

    def __init__(self) -> None:
        self._binder = Binder()
        self._identities = Identities()
        self._read, self._permits = Along(permits.read), Last(Permits)
        self._assign, self._assign_identities = Last(assign), Last(assign)
        self._policies, self._segments, self._ports = Each(permits.policy), Each(_segment), Along(_entry)
        self._traits, self._uplinks, self._port_names = Distinct(_traits), Distinct(_uplink), Distinct(_port_name)
        self._bridge, self._chunks, self._fanouts = Last(Bridge), Last(_chunks), Each(Fanout)
        self._names, self._describe, self._standby = Last(_names), Along(describe), Distinct(_waiting)
        self._places, self._shared = Along(Place.of), Last(_shared)
        self._entries = Last(_entries)
        self._audiences, self._virtuals = Audiences(), Last(virtuals)

    def decide(self, world: World) -> Decision:
        """Everything that follows from a world."""
        bound = self._binder.bind(world)
        traits = self._traits(bound)
        placed = [one for one in traits if one.state in PLACED]
        policies = self._assign(frozenset(one.groups for one in placed))
        segments = self._segments_of(world, sorted({one.pod for one in placed}))
        rules = self._permits(self._read(world.rules), frozenset().union(*policies))
        known = self._identities.follow(world.members, (rules.named["egress"], rules.named["ingress"]))
        numbers = self._assign_identities(known[0] | known[1])
        compiled = self._policies_of(policies, rules, known, numbers)
        refusals = _Refusals(world.refused)
        keep = refusals.keep
        uplinks = _preferred(world.uplinks, dict(self._uplinks(bound)))
        first = by_owner([self._bridge(uplinks, 1, world.limits), *compiled])
        ports = self._entries(self._ports(bound, policies, segments))
        if world.refused:
            bound, ports = refusals.close(bound, ports)
            traits = frozenset(filter(None, map(_traits, bound)))
        inhabited = by_owner(segments[pod] for pod in sorted({one.pod for one in traits if one.state is State.ACTIVE}))
        places = self._places(bound)
        fanouts = self._fanouts((n, (n, open_)) for n, open_ in self._chunks(places).items())
        together = self._shared(places)
        audiences = self._audiences.of(places, world.pods, segments)
        virtual = self._virtuals(places, segments)
        peers = self._identities.peers(numbers)
        described = self._describe(bound, *self._names(traits, world.groups, world.accounts))
        return Decision(
            units=Layers(
                keep(first), keep(peers), keep(inhabited), ports, keep(together), keep(virtual), keep(audiences),
                by_owner(fanouts),
            ),
            ports=described,
            standby=self._standby(described),
            problems=(*self._absent(world.uplinks, bound), *rules.problems, *refusals.problems),
            rules=rules.ids,
            policies={number: groups for groups, number in policies.items()},
            identities={number: groups for groups, number in numbers.items()},
        )

    def _absent(self, preferred: tuple[str, ...], bound: tuple[Bound, ...]) -> Iterator[str]:
        """What is wrong with the uplinks that were named: a misspelt one would leave the VMs without a network."""
        names = self._port_names(bound) if preferred else ()
        return (f"uplink {name}: not on the bridge" for name in dict.fromkeys(preferred) if name not in names)

    def _policies_of(
        self, policies: Numbers, rules: Permits, known: tuple[frozenset[Groups], frozenset[Groups]], numbers: Numbers
    ) -> list[Policy]:
        """The policies of the local sets of groups."""
        return self._policies(
            (groups, (number, open_, rules.of(groups, "egress"), rules.of(groups, "ingress"), known, numbers))
            for groups, number in policies.items()
            for open_ in [rules.restricted.isdisjoint(groups)]
        )

    def _segments_of(self, world: World, ids: Sequence[str]) -> dict[str, Segment]:
        """What the ports of each of these pods share."""
        made = self._segments((id, _about_pod(world.pods[id], world.zones, world.ranges)) for id in ids)
        return dict(zip(ids, made, strict=True))


class _Traits(NamedTuple):
    """What ports may have in common."""

    groups: Groups
    pod: str
    account: str
    state: State


def _traits(one: Bound) -> _Traits | None:
    nic = one.nic
    return None if nic is None else _Traits(nic.groups, nic.pod, nic.account, one.state)


def _names(
    traits: Iterable[_Traits], groups: Mapping[str, Group], accounts: Mapping[str, Account]
) -> tuple[dict[str, str | None], dict[Groups, tuple[str, ...]]]:
    """The names of accounts and of sets of groups."""
    owners = {one.account: accounts.get(one.account) for one in traits}
    sets = {one.groups for one in traits}
    return (
        {id: account.name if account else None for id, account in owners.items()},
        {ids: tuple(sorted(name_of(id, groups, accounts) for id in ids)) for ids in sets},
    )


def _waiting(port: PortState) -> PortState | None:
    return port if port.state is State.STANDBY else None


def _shared(places: Iterable[Place | None]) -> dict[str, Unit]:
    """What several NICs may hold, with the open ports here of those that do."""
    found: dict[Ip, list[int]] = {}
    for place in filter(None, places):
        for address in place.shared:
            found.setdefault(address, []).append(place.number)
    return by_owner(Shared(address, tuple(sorted(numbers))) for address, numbers in found.items())


def by_owner(units: Iterable[Unit]) -> dict[str, Unit]:
    """Units under their owners."""
    return {unit.owner: unit for unit in units}


class _Refusals:
    """Units that the switch did not take, as long as they are what it did not take."""

    def __init__(self, refused: Mapping[str, Refusal]) -> None:
        self.problems: list[str] = []
        self._refused = refused

    def of(self, unit: Unit) -> str:
        """Why the switch would not take this very unit; empty if it may be tried."""
        refusal = self._refused.get(unit.owner)
        return refusal.reason if refusal is not None and refusal.unit == unit else ""

    def keep(self, units: Mapping[str, Unit]) -> Mapping[str, Unit]:
        """The units that may be tried."""
        reasons = {owner: reason for owner in self._refused.keys() & units.keys() if (reason := self.of(units[owner]))}
        self.problems += [f"{owner}: {reasons[owner]}" for owner in sorted(reasons)]
        return {owner: unit for owner, unit in units.items() if owner not in reasons} if reasons else units

    def close(self, bound: tuple[Bound, ...], units: Mapping[str, Unit]) -> tuple[tuple[Bound, ...], dict[str, Unit]]:
        """The ports without those that the switch would not take."""
        reasons = {unit.nic: self.of(unit) for unit in units.values() if isinstance(unit, Port | Standby)}
        kept = {owner: unit for owner, unit in units.items() if not self.of(unit)}
        return tuple(_closed(one, reasons.get(one.nic.id, "")) if one.nic else one for one in bound), kept


def _closed(one: Bound, reason: str) -> Bound:
    return replace(one, state=State.CLOSED, reason=reason) if reason else one


def _entry(one: Bound, policies: Numbers, segments: Mapping[str, Segment]) -> tuple[str, Unit] | None:
    """The unit of a port that is open or on standby, with its owner."""
    nic = one.nic
    if nic is None or one.state not in PLACED:
        return None
    unit: Unit = Standby(nic.id, one.number)
    if one.state is State.ACTIVE:
        unit = Port(nic.id, one.number, _mac(nic), one.addresses, policies[nic.groups], segments[nic.pod], one.allowed)
    return unit.owner, unit


def _entries(found: Iterable[tuple[str, Unit] | None]) -> dict[str, Unit]:
    return dict(filter(None, found))


def _uplink(one: Bound) -> tuple[str, int] | None:
    """The name and the OpenFlow number of an uplink that works."""
    return (one.port.name, one.number) if one.state is State.UPLINK and not one.reason else None


def _preferred(names: Iterable[str], usable: Mapping[str, int]) -> tuple[int, ...]:
    """OpenFlow numbers of the uplinks, in order of preference."""
    configured = [name for name in dict.fromkeys(names) if name in usable]
    others = sorted(usable.keys() - set(configured))
    return tuple(usable[name] for name in (*configured, *others))


def _port_name(one: Bound) -> str:
    return one.port.name


def _mac(nic: Nic) -> int:
    mac = parse_mac(nic.mac)
    assert mac is not None, "bind() has checked it"
    return mac


def _about_pod(
    pod: Pod, zones: Mapping[str, Zone], ranges: Iterable[Range]
) -> tuple[Pod, Zone | None, tuple[Range, ...]]:
    return pod, zones.get(pod.zone), tuple(row for row in ranges if row.pod == pod.id)


def _segment(pod: Pod, zone: Zone | None, ranges: Iterable[Range]) -> Segment:
    resolvers = (zone.internal_dns1, zone.internal_dns2) if zone else ()
    return Segment(
        subnets=_subnets(pod, ranges),
        dhcp=_servers(pod.dhcp_servers or resolvers),
        dns=_servers(pod.dns_servers or resolvers),
    )


def _subnets(pod: Pod, ranges: Iterable[Range]) -> tuple[Network, ...]:
    texts = [(pod.gateway, pod.netmask)]
    for row in ranges:
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


def _chunks(places: Iterable[Place | None]) -> dict[int, tuple[int, ...]]:
    """The numbers of the open ports by the part of the fan-out that they are in."""
    chunks: dict[int, list[int]] = {}
    for number in sorted(place.number for place in filter(None, places)):
        chunks.setdefault(number % FANOUT_CHUNKS, []).append(number)
    return {chunk: tuple(ports) for chunk, ports in chunks.items()}
