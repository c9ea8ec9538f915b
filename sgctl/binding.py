# SPDX-License-Identifier: Apache-2.0
"""Which NIC a local port belongs to, and whether it may be open.

A port is open only if everything about it is right; anything else leaves it closed, with a reason for people, and
disturbs no other port. ``external_ids:attached-mac`` may be absent, but if it is there it must be the NIC's.

Of ports that claim the same thing (an iface-id, a MAC, an OpenFlow number, an address) one deterministic port has it
(but what several NICs may hold):
those that name the right attached-mac come first, then lower OpenFlow numbers, then names. The others stay closed, so
that a second, mistaken port cannot stop the one that works.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any
from uuid import UUID

from flows.inputs import Allowed, Ip
from sgctl.addresses import block_text, parse_address, parse_mac, promised
from sgctl.localport import UPLINK_ROLE, LocalPort
from sgctl.memo import Grouped, changes, exchange
from sgctl.model import Account, Address, Group, Nic, Vm
from sgctl.world import PortState, State, World

MAX_OFPORT = 0xFEFF
"""The highest OpenFlow number of a real port that fits the pipeline's registers."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is to be done with one port; `nic`, its `addresses` and what else it is `allowed` (in canonical order) and
    `vm` where known."""

    port: LocalPort
    state: State
    reason: str = ""
    nic: Nic | None = None
    addresses: tuple[Ip, ...] = ()
    vm: Vm | None = None
    allowed: tuple[Allowed, ...] = ()

    @property
    def number(self) -> int:
        """The port's OpenFlow number; only for ports that have one."""
        assert self.port.ofport is not None
        return self.port.ofport


_bound = attrgetter("bound")


class Closed(Exception):
    """The port stays closed, for this reason."""


def is_uplink(world: World, port: LocalPort) -> bool:
    """True if the port leads to the physical network."""
    return port.name in world.uplinks or port.role == UPLINK_ROLE


class Binder:
    """Judges all ports of a world, and remembers: a port about which nothing has changed is not looked at again."""

    def __init__(self) -> None:
        self._addresses: Grouped[Address] = Grouped(attrgetter("nic"))
        self._forget()

    def _forget(self) -> None:
        self._world = World(host="")
        self._bound: tuple[Bound, ...] = ()
        self._places: dict[str, tuple[str, str]] = {}
        self._order: list[tuple[str, str]] = []
        self._ranked: list[_Ranked] = []
        self._resting: dict[str, set[str]] = {}
        self._claims: dict[str, int] = {}
        self._shares: dict[str, int] = {}
        self._contested = 0

    def bind(self, world: World) -> tuple[Bound, ...]:
        """All local ports, in the order of their names; the same object as before if what they rest on is the same."""
        if self._look(world):
            self._bound = _settle(self._ranked) if self._contested else tuple(map(_bound, self._ranked))
        return self._bound

    def _look(self, world: World) -> bool:
        """Judge the ports that are new or not what they were, and those that rest on what differs; true if any do, or
        have gone."""
        if (world.host, world.uplinks) != (self._world.host, self._world.uplinks):
            self._forget()
        gone, come = exchange(self._world.ports, world.ports)
        left = {port.uuid for port in gone}
        differ = _differ(self._world, world) | self._addresses.follow(world.addresses)
        touched = {uuid for id in differ for uuid in self._resting.get(id, ())} - left
        for uuid in left:
            self._drop(uuid)
        for port in (*come, *map(self._drop, touched)):
            self._add(_Ranked.of(_judge(*_facts(world, port, self._addresses.groups))))
        self._world = world
        return bool(left or come or touched)

    def _drop(self, uuid: str) -> LocalPort:
        """Forget what was found about a port."""
        at = bisect_left(self._order, self._places.pop(uuid))
        del self._order[at]
        ranked = self._ranked.pop(at)
        for id in _grounds(ranked.bound):
            self._resting[id].discard(uuid)
            if not self._resting[id]:
                del self._resting[id]
        self._count(ranked, -1)
        return ranked.bound.port

    def _add(self, ranked: _Ranked) -> None:
        port = ranked.bound.port
        place = self._places[port.uuid] = (port.name, port.uuid)
        at = bisect_left(self._order, place)
        self._order.insert(at, place)
        self._ranked.insert(at, ranked)
        for id in _grounds(ranked.bound):
            self._resting.setdefault(id, set()).add(port.uuid)
        self._count(ranked, 1)

    def _count(self, ranked: _Ranked, by: int) -> None:
        """Know how many claims are made more than once, or of what others share."""
        for counts, names in ((self._claims, ranked.claims), (self._shares, ranked.shares)):
            for name in names:
                self._contested -= self._is_contested(name)
                if number := counts.get(name, 0) + by:
                    counts[name] = number
                else:
                    del counts[name]
                self._contested += self._is_contested(name)

    def _is_contested(self, name: str) -> bool:
        claims = self._claims.get(name, 0)
        return claims > 1 or (claims == 1 and name in self._shares)


def _grounds(bound: Bound) -> set[str]:
    """The ids of what the judgement of a port rests on."""
    nic, named = bound.nic, nic_id(bound.port.iface_id or "") or ""
    return {named} if nic is None else {named, nic.vm, nic.pod, *nic.groups}


def _differ(old: World, new: World) -> set[str]:
    """The ids of NICs and VMs that differ, and of groups and pods that have come or gone."""
    rows = {row.id for part in (*changes(old.nics, new.nics), *changes(old.vms, new.vms)) for row in part}
    there = _came_or_went(old.groups, new.groups) | _came_or_went(old.pods, new.pods)
    return rows | there | (old.claimed ^ new.claimed)


def _came_or_went(old: Mapping[str, Any], new: Mapping[str, Any]) -> Set[str]:
    return frozenset() if old is new else old.keys() ^ new.keys()


def _facts(world: World, port: LocalPort, addresses: Mapping[str, Iterable[Address]]) -> tuple[Any, ...]:
    """All that `_judge` needs to know, so that it depends on nothing else."""
    uplink = is_uplink(world, port)
    nic = None if uplink else world.nics.get(nic_id(port.iface_id or "") or "")
    if nic is None:
        return port, uplink, None, (), "", False, None, False
    missing = "" if world.groups.keys() >= nic.groups else min(nic.groups - world.groups.keys())
    own = tuple(row.address for row in addresses.get(nic.id, ()))
    return port, uplink, nic, own, missing, nic.pod in world.pods, world.vms.get(nic.vm), _elsewhere(world, nic)


def _judge(
    port: LocalPort,
    uplink: bool,
    nic: Nic | None,
    addresses: Iterable[str],
    missing_group: str,
    pod_known: bool,
    vm: Vm | None,
    elsewhere: bool,
) -> Bound:
    try:
        if uplink:
            return Bound(port, State.UPLINK, _number_problem(port))
        if nic is None:
            raise Closed(_no_nic(port))
        if problem := _nic_problem(port, nic) or _missing(nic, missing_group, pod_known) or _vm_problem(vm):
            raise Closed(problem)
        own, bad = _own_addresses(addresses)
        allowed, worse = promised(nic.allowed, own, parse_mac(nic.mac) or 0)
        if problem := _number_problem(port):
            raise Closed(problem)
    except Closed as closed:
        return Bound(port, State.CLOSED, str(closed), nic, vm=vm)
    state, place = (State.STANDBY, f"active on {nic.host}") if elsewhere else (State.ACTIVE, "")
    wrong = (_wrong("not an address of a VM", bad), _wrong("cannot be allowed", worse))
    return Bound(port, state, "; ".join(filter(None, (place, *wrong))), nic, own, vm, allowed)


@lru_cache(maxsize=1 << 14)
def nic_id(text: str) -> str | None:
    """An iface-id in the form that rows have their ids in, None if it cannot be one."""
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _no_nic(port: LocalPort) -> str:
    if not port.iface_id:
        return "no external_ids:iface-id"
    named = nic_id(port.iface_id)
    return f"no NIC has the id {named}" if named else f"iface-id {_shown(port.iface_id)} is not a UUID"


def _nic_problem(port: LocalPort, nic: Nic) -> str:
    mac = parse_mac(nic.mac)
    if mac is None:
        return f"the NIC's MAC {_shown(nic.mac)} is not a unicast MAC"
    if port.attached_mac and parse_mac(port.attached_mac) != mac:
        return f"attached-mac {_shown(port.attached_mac)} is not the NIC's {nic.mac}"
    return ""


def _missing(nic: Nic, group: str, pod_known: bool) -> str:
    if group:
        return f"no security group has the id {group}"
    return "" if pod_known else f"no pod has the id {_shown(nic.pod)}"


def _vm_problem(vm: Vm | None) -> str:
    if vm is None:
        return "the NIC's VM is not known"
    return "" if vm.wanted == "Running" else f"VM {_shown(vm.name)} is to be {_shown(vm.wanted)}"


def _own_addresses(texts: Iterable[str]) -> tuple[tuple[Ip, ...], list[str]]:
    good: list[Ip] = []
    bad: list[str] = []
    for text in sorted(texts):
        address = parse_address(text)
        if address is None:
            bad.append(text)
        else:
            good.append(address)
    good.sort(key=lambda address: (address.version, int(address)))
    return tuple(good), bad


def _wrong(what: str, texts: Iterable[str]) -> str:
    shown = ", ".join(map(_shown, texts))
    return f"{what}: {shown}" if shown else ""


def _number_problem(port: LocalPort) -> str:
    if port.ofport is not None and 0 < port.ofport <= MAX_OFPORT:
        return ""
    if port.error:
        return f"the switch says: {_shown(port.error, 120)}"
    return "no OpenFlow number yet" if port.ofport is None else f"OpenFlow number {port.ofport} is not valid"


def _elsewhere(world: World, nic: Nic) -> bool:
    """Whether another hypervisor has the NIC up, and its guest has not spoken here: then it is not active here.

    An agent that has not been heard of for long, or a database that is away, does not tell that the guest is here.
    """
    away = nic.host not in ("", world.host) and nic.state == "up"
    return away and nic.id not in world.claimed


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A port with what decides who has what."""

    bound: Bound
    precedence: tuple[bool, bool, int, str, str]
    claims: tuple[str, ...]
    shares: tuple[str, ...]

    @classmethod
    def of(cls, bound: Bound) -> _Ranked:
        port = bound.port
        first = (bound.state is not State.UPLINK, not port.attached_mac, port.ofport or 0, port.name, port.uuid)
        return cls(bound, first, tuple(_claims(bound)), _shares(bound))


def _settle(ranked: Collection[_Ranked]) -> tuple[Bound, ...]:
    """Every NIC, MAC, number and address belongs to one port only, or to those that share it. The order stays."""
    settled = {one.port.uuid: one for one in _settled(ranked)}
    return tuple(settled[one.bound.port.uuid] for one in ranked)


def _settled(ranked: Iterable[_Ranked]) -> Iterator[Bound]:
    """Who has a right to what it claims, has it; the others are closed."""
    holders: dict[str, str] = {}
    sharers: dict[str, str] = {}
    for one in sorted(ranked, key=lambda one: one.precedence):
        own = ((claim, holders.get(claim) or sharers.get(claim)) for claim in one.claims)
        against = chain(own, ((share, holders.get(share)) for share in one.shares))
        lost = next((f"{claim} belongs to port {port}" for claim, port in against if port), "")
        if lost:
            yield replace(one.bound, state=State.CLOSED, reason=lost)
            continue
        holders.update(dict.fromkeys(one.claims, one.bound.port.name))
        sharers.update(dict.fromkeys(one.shares, one.bound.port.name))
        yield one.bound


def _claims(bound: Bound) -> list[str]:
    if bound.state is State.CLOSED or (bound.state is State.UPLINK and bound.reason):
        return []
    claims = [f"OpenFlow number {bound.port.ofport}"]
    if bound.nic is not None:
        claims += [f"NIC {bound.nic.id}", f"MAC {bound.nic.mac}"]
        claims += [f"address {address}" for address in bound.addresses]
        claims += [f"address {block_text(one.network)}" for one in bound.allowed if not one.shared]
        claims += [f"MAC {mac.to_bytes(6, 'big').hex(':')}" for mac in {one.nested for one in bound.allowed} - {0}]
    return claims


def _shares(bound: Bound) -> tuple[str, ...]:
    """What it claims only against those that do not share it."""
    if bound.state is State.CLOSED or not bound.allowed:
        return ()
    macs = sorted({one.virtual for one in bound.allowed} - {0})
    return (
        *(f"address {block_text(one.network)}" for one in bound.allowed if one.shared),
        *(f"MAC {mac.to_bytes(6, 'big').hex(':')}" for mac in macs),
    )


def _shown(text: str, limit: int = 48) -> str:
    """Text from outside, printable and short."""
    clean = "".join(char if char.isprintable() else "?" for char in text[:limit])
    return f"'{clean}{'…' if len(text) > limit else ''}'"


def describe(
    bound: Bound, accounts: Mapping[str, str | None], names: Mapping[frozenset[str], tuple[str, ...]]
) -> PortState:
    """The port for people; the names of its account and of its NIC's groups are given."""
    nic, vm = bound.nic, bound.vm
    if nic is None:
        return PortState(name=bound.port.name, ofport=bound.port.ofport, state=bound.state, reason=bound.reason)
    return PortState(
        name=bound.port.name,
        ofport=bound.port.ofport,
        state=bound.state,
        reason=bound.reason,
        nic=nic.id,
        vm=vm.name if vm else None,
        vmid=nic.vm,
        account=accounts[nic.account],
        mac=nic.mac,
        addresses=tuple(map(str, bound.addresses)),
        allowed=bound.allowed,
        groups=names[nic.groups],
    )


def group_name(world: World, group_id: str) -> str:
    """A group as ``account/name``, or its id where it is not known."""
    return name_of(group_id, world.groups, world.accounts)


def name_of(group_id: str, groups: Mapping[str, Group], accounts: Mapping[str, Account]) -> str:
    """The same, of these rows."""
    group = groups.get(group_id)
    if group is None:
        return group_id
    account = accounts.get(group.account)
    return f"{account.name if account else group.account}/{group.name}"
