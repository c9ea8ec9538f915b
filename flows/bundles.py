# SPDX-License-Identifier: Apache-2.0
"""Rules that allow the same port ranges to many networks, so that their flows add up instead of multiplying.

Two hundred CIDRs with ports 1000 to 60001, which are 14 masks, would be 3000 flows. As a *bundle* they are 215: each
network leads to the set of services that are allowed to it, and each such set has the masks of its services once. The
networks of a bundle may lie within each other: the set of a network is its own services and those of all networks
around it, so that the longest prefix says everything. And each network brings the numbers of its rules along, on the
packet's stack, so that it is still known which one has admitted a connection.

Which rules are bundled follows from a policy's rules alone: the services that save most, as long as fewer flows are
needed in all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import count
from operator import attrgetter
from typing import TypeAlias

from flows.inputs import Network, Rule, Service
from flows.ports import PORT_MAX, masks

MOST = 64
"""How many services a bundle may have: their rules' numbers are actions of each network's flow."""
SAVES = 8
"""How many flows a bundle must save at least: it costs packets of new connections a look-up."""
WITH_PORTS = frozenset({6, 17, 132})
Services: TypeAlias = tuple[Service, ...]
_Rules: TypeAlias = Mapping[Service, Rule]


@dataclass(frozen=True, slots=True)
class Scope:
    """A network of a bundle, the services that are allowed to it, and the number of the rule that allows each."""

    network: Network
    services: Services
    rules: tuple[int, ...]


def divide(rules: Iterable[Rule]) -> tuple[list[Rule], list[Scope]]:
    """The rules of one direction of a policy: those that become flows one by one, and what becomes of the others.

    The result does not depend on the order of the rules.
    """
    ordered = sorted(rules, key=attrgetter("number"))
    alone, scopes = [one for one in ordered if not _may_be_bundled(one)], list[Scope]()
    for version in (4, 6):
        family = [one for one in ordered if _may_be_bundled(one) and one.cidr and one.cidr.version == version]
        bundled = _worthwhile(family)
        alone += [one for one in family if one.service not in bundled]
        scopes += _scopes(_tree([one for one in family if one.service in bundled]))
    return alone, scopes


def sets(scopes: Iterable[Scope]) -> dict[Services, int]:
    """A number for each set of services: a digest of it, not 0, no two equal."""
    taken: dict[int, Services] = {}
    for services in sorted({one.services for one in scopes}, key=lambda some: [_order(one) for one in some]):
        free = next(number for salt in count() if (number := _digest(services, salt)) and number not in taken)
        taken[free] = services
    return {services: number for number, services in taken.items()}


def _digest(services: Services, salt: int) -> int:
    text = " ".join("{}:{}-{}".format(*_order(one)) for one in services)
    return int.from_bytes(blake2b(f"{salt} {text}".encode(), digest_size=4).digest(), "big")


def _order(service: Service) -> tuple[int, int, int]:
    return (service.proto or 0, service.first, service.last)


def _may_be_bundled(rule: Rule) -> bool:
    """It is about a network, and some ports."""
    service = rule.service
    return rule.cidr is not None and service.proto in WITH_PORTS and (service.first, service.last) != (0, PORT_MAX)


@cache
def _masks(service: Service) -> int:
    return len(masks(service.first, service.last))


def _worthwhile(rules: Collection[Rule]) -> frozenset[Service]:
    """The services with which a bundle saves most flows; none if that is not enough."""
    networks: dict[Service, set[Network]] = {}
    for rule in rules:
        assert rule.cidr is not None
        networks.setdefault(rule.service, set()).add(rule.cidr)
    saved = {service: len(some) * _masks(service) - _masks(service) for service, some in networks.items()}
    best = sorted((one for one in networks if saved[one]), key=lambda one: (-saved[one], _order(one)))[:MOST]
    if not best:
        return frozenset()
    sizes = [0, *(1 << power for power in range(len(best).bit_length())), len(best)]
    choices = [frozenset(best[:size]) for size in dict.fromkeys(sizes)]
    costs = [_cost(rules, networks, chosen) for chosen in choices]
    cheapest = min(range(len(choices)), key=costs.__getitem__)
    return choices[cheapest] if costs[0] - costs[cheapest] >= SAVES else frozenset()


def _cost(rules: Iterable[Rule], networks: Mapping[Service, Collection[Network]], bundled: Collection[Service]) -> int:
    """How many flows the rules become if these services are bundled."""
    alone = [service for service in networks if service not in bundled]
    later = len({network for service in alone for network in networks[service]})
    scopes = list(_scopes(_tree([one for one in rules if one.service in bundled])))
    shared = sum(1 + sum(map(_masks, services)) for services in {one.services for one in scopes})
    return sum(len(networks[one]) * _masks(one) for one in alone) + later + len(scopes) + shared


def _tree(rules: Iterable[Rule]) -> Iterator[tuple[Network, _Rules]]:
    """Each network with the rules that allow something to it, by service: its own, then those of networks around it."""
    own: dict[Network, dict[Service, Rule]] = {}
    for rule in rules:
        assert rule.cidr is not None
        own.setdefault(rule.cidr, {}).setdefault(rule.service, rule)
    around: list[tuple[int, _Rules]] = []
    for network in sorted(own, key=lambda one: (int(one.network_address), one.prefixlen)):
        while around and around[-1][0] < int(network.network_address):
            around.pop()
        found = {**around[-1][1], **own[network]} if around else own[network]
        around.append((int(network.broadcast_address), found))
        yield network, found


def _scopes(tree: Iterable[tuple[Network, _Rules]]) -> Iterator[Scope]:
    for network, found in tree:
        services = tuple(sorted(found, key=_order))
        yield Scope(network, services, tuple(found[one].number for one in services))
