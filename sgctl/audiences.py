# SPDX-License-Identifier: Apache-2.0
"""Who must hear who has an address that several NICs may hold: all open ports here of the pod where that is. And which
virtual MACs NICs here may hold.

A part of `sgctl.policy`, and pure like it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flows.inputs import Audience, Cluster, Ip, Segment, Virtual
from sgctl.addresses import parse_address
from sgctl.binding import Bound
from sgctl.memo import Last
from sgctl.model import Pod
from sgctl.world import State


class Place(NamedTuple):
    """An open port: its pod, its number, what its NIC shares with others, and with which virtual MACs."""

    pod: str
    number: int
    shared: tuple[Ip, ...]
    virtual: tuple[tuple[int, Ip], ...]

    @classmethod
    def of(cls, one: Bound) -> Place | None:
        """That of a port, if it is open."""
        if one.nic is None or one.state is not State.ACTIVE:
            return None
        shared = tuple(each.network.network_address for each in one.allowed if each.shared)
        virtual = tuple((each.virtual, each.network.network_address) for each in one.allowed if each.virtual)
        return cls(one.nic.pod, one.number, shared, virtual)


class Audiences:
    """Works them out, and remembers."""

    def __init__(self) -> None:
        self._made = Last(_made)

    def of(
        self, places: tuple[Place | None, ...], pods: Mapping[str, Pod], segments: Mapping[str, Segment]
    ) -> Mapping[str, Audience]:
        """The audiences on this hypervisor, by owner; none of pods where nothing is shared."""
        shared = {id: pods[id].shared for id in segments}
        return self._made(places, shared, {id: segment.number for id, segment in segments.items()})


def _made(
    found: Iterable[Place | None], shared: Mapping[str, Iterable[str]], numbers: Mapping[str, int]
) -> dict[str, Audience]:
    """Pods that look the same to their VMs have one number, and so one audience."""
    places = list(filter(None, found))
    if not any(shared.values()) and not any(place.shared for place in places):
        return {}
    ports: dict[int, list[int]] = {}
    addresses: dict[int, set[Ip]] = {}
    for place in places:
        number = numbers[place.pod]
        ports.setdefault(number, []).append(place.number)
        known = addresses.setdefault(number, set())
        known.update(place.shared)
        known.update(address for text in shared[place.pod] if (address := parse_address(text)) is not None)
    made = (Audience(pod, _sorted(known), tuple(sorted(ports[pod]))) for pod, known in addresses.items() if known)
    return {one.owner: one for one in made}


def _sorted(addresses: Iterable[Ip]) -> tuple[Ip, ...]:
    return tuple(sorted(addresses, key=lambda address: (address.version, int(address))))


def virtuals(found: Iterable[Place | None], segments: Mapping[str, Segment]) -> dict[str, Virtual]:
    """The virtual MACs that open ports here may hold, by owner; the clusters of pods that look the same are one."""
    holders: dict[int, dict[int, list[tuple[Place, Ip]]]] = {}
    pods = {segment.number: segment for segment in segments.values()}
    for place in filter(None, found):
        for mac, address in place.virtual:
            holders.setdefault(mac, {}).setdefault(segments[place.pod].number, []).append((place, address))
    made = (
        Virtual(mac, tuple(_cluster(pods[number], clusters[number]) for number in sorted(clusters)))
        for mac, clusters in holders.items()
    )
    return {one.owner: one for one in made}


def _cluster(pod: Segment, holders: Iterable[tuple[Place, Ip]]) -> Cluster:
    pairs = tuple(holders)
    return Cluster(pod, _sorted({one for _, one in pairs}), tuple(sorted({place.number for place, _ in pairs})))
