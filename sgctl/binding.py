# SPDX-License-Identifier: Apache-2.0
"""Which NIC a local port belongs to, and whether it may be open.

A port is open only if everything about it is right; anything else leaves it closed, with a reason for people, and
disturbs no other port. ``external_ids:attached-mac`` may be absent, but if it is there it must be the NIC's.

Of ports that claim the same thing (an iface-id, a MAC, an OpenFlow number, an address) one deterministic port has it:
those that name the right attached-mac come first, then lower OpenFlow numbers, then names. The others stay closed, so
that a second, mistaken port cannot stop the one that works.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from uuid import UUID

from flows.inputs import Ip
from sgctl.localport import UPLINK_ROLE, LocalPort
from sgctl.model import Address, Nic
from sgctl.world import PortState, State, World

MAX_OFPORT = 0xFEFF
"""The highest OpenFlow number of a real port that fits the pipeline's registers."""

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bound:
    """What is to be done with one port; `nic` and `addresses` (in canonical order) where they are known."""

    port: LocalPort
    state: State
    reason: str = ""
    nic: Nic | None = None
    addresses: tuple[Ip, ...] = ()

    @property
    def number(self) -> int:
        """The port's OpenFlow number; only for ports that have one."""
        assert self.port.ofport is not None
        return self.port.ofport


class Closed(Exception):
    """The port stays closed, for this reason."""


def bind(world: World) -> list[Bound]:
    """All local ports, in the order of their names."""
    addresses = _addresses(world.addresses)
    judged = [_judge(world, port, addresses) for port in world.ports]
    return sorted(_exclusive(judged), key=lambda bound: (bound.port.name, bound.port.uuid))


def is_uplink(world: World, port: LocalPort) -> bool:
    """True if the port leads to the physical network."""
    return port.name in world.uplinks or port.role == UPLINK_ROLE


def parse_mac(text: str) -> int | None:
    """A unicast MAC address as a number, None if it is not one."""
    text = text.strip().lower()
    value = int(text.replace(":", ""), 16) if _MAC.fullmatch(text) else 0
    return value if value and not value >> 40 & 1 else None


@lru_cache(maxsize=1 << 16)
def parse_address(text: str) -> Ip | None:
    """An address that a VM may have, None if the text is not one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    unusable = address.is_multicast or address.is_unspecified or address.is_loopback
    return None if unusable or getattr(address, "scope_id", None) else address


def _addresses(rows: Iterable[Address]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.nic, []).append(row.address)
    return found


def _judge(world: World, port: LocalPort, addresses: Mapping[str, list[str]]) -> Bound:
    nic = None
    try:
        if is_uplink(world, port):
            return Bound(port, State.UPLINK, _number_problem(port))
        nic = _nic(world, port)
        _check_nic(world, port, nic)
        own, reason = _own_addresses(addresses.get(nic.id, ()))
        if problem := _number_problem(port):
            raise Closed(problem)
    except Closed as closed:
        return Bound(port, State.CLOSED, str(closed), nic)
    state, place = _place(world, nic)
    return Bound(port, state, "; ".join(filter(None, (place, reason))), nic, own)


def _nic(world: World, port: LocalPort) -> Nic:
    if not port.iface_id:
        raise Closed("no external_ids:iface-id")
    try:
        nic_id = str(UUID(port.iface_id))
    except ValueError:
        raise Closed(f"iface-id {_shown(port.iface_id)} is not a UUID") from None
    if nic_id not in world.nics:
        raise Closed(f"no NIC has the id {nic_id}")
    return world.nics[nic_id]


def _check_nic(world: World, port: LocalPort, nic: Nic) -> None:
    mac = parse_mac(nic.mac)
    if mac is None:
        raise Closed(f"the NIC's MAC {_shown(nic.mac)} is not a unicast MAC")
    if port.attached_mac and parse_mac(port.attached_mac) != mac:
        raise Closed(f"attached-mac {_shown(port.attached_mac)} is not the NIC's {nic.mac}")
    if missing := sorted(nic.groups - world.groups.keys()):
        raise Closed(f"no security group has the id {missing[0]}")
    if nic.pod not in world.pods:
        raise Closed(f"no pod has the id {_shown(nic.pod)}")
    vm = world.vms.get(nic.vm)
    if vm is None:
        raise Closed("the NIC's VM is not known")
    if vm.wanted != "Running":
        raise Closed(f"VM {_shown(vm.name)} is to be {_shown(vm.wanted)}")


def _own_addresses(texts: Iterable[str]) -> tuple[tuple[Ip, ...], str]:
    good, bad = [], []
    for text in sorted(texts):
        address = parse_address(text)
        if address is None:
            bad.append(_shown(text))
        else:
            good.append(address)
    good.sort(key=lambda address: (address.version, int(address)))
    return tuple(good), f"not an address of a VM: {', '.join(bad)}" if bad else ""


def _number_problem(port: LocalPort) -> str:
    if port.ofport is not None and 0 < port.ofport <= MAX_OFPORT:
        return ""
    if port.error:
        return f"the switch says: {_shown(port.error, 120)}"
    return "no OpenFlow number yet" if port.ofport is None else f"OpenFlow number {port.ofport} is not valid"


def _place(world: World, nic: Nic) -> tuple[State, str]:
    """Whether the NIC is active here: it is, unless a live hypervisor has it up and its guest has not spoken here."""
    elsewhere = nic.host != world.host and nic.host in world.live and nic.state == "up"
    if elsewhere and nic.id not in world.claimed:
        return State.STANDBY, f"active on {nic.host}"
    return State.ACTIVE, ""


def _exclusive(judged: Iterable[Bound]) -> Iterator[Bound]:
    """Every NIC, MAC, number and address belongs to one port only."""
    holders: dict[str, str] = {}
    for bound in sorted(judged, key=_precedence):
        claims = _claims(bound)
        lost = next((f"{claim} belongs to port {holders[claim]}" for claim in claims if claim in holders), "")
        if lost:
            yield replace(bound, state=State.CLOSED, reason=lost)
            continue
        holders.update(dict.fromkeys(claims, bound.port.name))
        yield bound


def _precedence(bound: Bound) -> tuple[bool, bool, int, str, str]:
    port = bound.port
    return (bound.state is not State.UPLINK, not port.attached_mac, port.ofport or 0, port.name, port.uuid)


def _claims(bound: Bound) -> list[str]:
    if bound.state is State.CLOSED or (bound.state is State.UPLINK and bound.reason):
        return []
    claims = [f"OpenFlow number {bound.port.ofport}"]
    if bound.nic is not None:
        claims += [f"NIC {bound.nic.id}", f"MAC {bound.nic.mac}"]
        claims += [f"address {address}" for address in bound.addresses]
    return claims


def _shown(text: str, limit: int = 48) -> str:
    """Text from outside, printable and short."""
    clean = "".join(char if char.isprintable() else "?" for char in text[:limit])
    return f"'{clean}{'…' if len(text) > limit else ''}'"


def describe(world: World, bound: Bound) -> PortState:
    """The port for people."""
    nic = bound.nic
    if nic is None:
        return PortState(name=bound.port.name, ofport=bound.port.ofport, state=bound.state, reason=bound.reason)
    vm, account = world.vms.get(nic.vm), world.accounts.get(nic.account)
    return PortState(
        name=bound.port.name,
        ofport=bound.port.ofport,
        state=bound.state,
        reason=bound.reason,
        nic=nic.id,
        vm=vm.name if vm else None,
        vmid=nic.vm,
        account=account.name if account else None,
        mac=nic.mac,
        addresses=tuple(map(str, bound.addresses)),
        groups=tuple(sorted(group_name(world, group) for group in nic.groups)),
    )


def group_name(world: World, group_id: str) -> str:
    """A group as ``account/name``, or its id where it is not known."""
    group = world.groups.get(group_id)
    if group is None:
        return group_id
    account = world.accounts.get(group.account)
    return f"{account.name if account else group.account}/{group.name}"
