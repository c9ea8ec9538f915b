# SPDX-License-Identifier: Apache-2.0
"""Small clouds for tests: rows under short names, whose ids are derived from those names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar
from uuid import NAMESPACE_OID, uuid5

from sgctl.localport import LocalPort
from sgctl.model import (
    Account,
    Address,
    Allowance,
    Group,
    Member,
    Nic,
    Pod,
    Row,
    Rule,
    Vm,
    Zone,
    allowance_text,
    member_id,
)
from sgctl.world import World

R = TypeVar("R", bound=Row)
TCP = 6


def by_id(rows: Iterable[R]) -> dict[str, R]:
    """Rows under their ids."""
    return {row.id: row for row in rows}


def uid(name: str) -> str:
    """The id of what the test calls by this name."""
    return str(uuid5(NAMESPACE_OID, name))


def mac_of(index: int) -> str:
    return f"02:00:00:00:00:{index:02x}"


def address(nic: str, text: str) -> Address:
    return Address(id=uid(f"address {text}"), address=text, nic=uid(nic))


def allowance(nic: str, text: str, *, mac: str = "", shared: bool = False) -> Allowance:
    return Allowance(id=uid(f"{nic} {text}"), nic=uid(nic), address=text, mac=mac, shared=shared)


def member(group: str, nic: str, text: str) -> Member:
    return Member(id=member_id(uid(group), text), group=uid(group), nic=uid(nic), address=text)


def cidr_rule(name: str, group: str, cidr: str, *, direction: str = "ingress", port: int = 80) -> Rule:
    return Rule(
        id=uid(name), group=uid(group), direction=direction, protocol="tcp", proto=TCP, first=port, last=port,
        cidr=cidr, digest=name,
    )  # fmt: skip


def peer_rule(name: str, group: str, peer: str, *, direction: str = "ingress", port: int = 80) -> Rule:
    return replace(cidr_rule(name, group, "", direction=direction, port=port), peer=uid(peer))


def port(nic: str, ofport: int | None, **changes: str | None) -> LocalPort:
    """A port whose iface-id is that of a NIC."""
    values = {"uuid": uid(f"port {ofport}"), "name": f"tap{ofport}", "iface_id": uid(nic)} | changes
    return LocalPort(ofport=ofport, **values)  # type: ignore[arg-type]


def world(vms: dict[str, tuple[str, ...]], **changes: object) -> World:
    """A cloud of one pod; VM number i of `vms` (name -> groups) has a NIC of that name with 10.1.0.(10+i)."""
    groups = sorted({group for names in vms.values() for group in names})
    nics = [
        Nic(
            id=uid(name), vm=uid(f"vm {name}"), account=uid("acme"), pod=uid("pod"), mac=mac_of(i),
            groups=frozenset(map(uid, names)),
        )
        for i, (name, names) in enumerate(vms.items(), 1)
    ]  # fmt: skip
    addresses = {name: f"10.1.0.{10 + i}" for i, name in enumerate(vms, 1)}
    base = World(
        host="hv1",
        accounts=by_id([Account(id=uid("acme"), name="acme", name_key="acme")]),
        zones=by_id([Zone(id=uid("zone"), name="zone", internal_dns1="10.1.0.2")]),
        pods=by_id([_pod()]),
        vms=by_id(Vm(id=uid(f"vm {n}"), name=n, account=uid("acme"), zone=uid("zone"), pod=uid("pod")) for n in vms),
        nics=by_id(nics),
        groups=by_id(Group(id=uid(g), account=uid("acme"), name=g, name_key=g) for g in groups),
        addresses=tuple(address(nic, text) for nic, text in addresses.items()),
        members=tuple(member(group, nic, addresses[nic]) for nic, names in vms.items() for group in names),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def _pod() -> Pod:
    return Pod(
        id=uid("pod"), name="pod", zone=uid("zone"), gateway="10.1.0.1", netmask="255.255.255.0",
        start_ip="10.1.0.10", end_ip="10.1.0.99",
    )  # fmt: skip


def with_nic(before: World, nic: str, **changes: object) -> World:
    """The world with some columns of a NIC changed."""
    row = replace(before.nics[uid(nic)], **changes)  # type: ignore[arg-type]
    return replace(before, nics={**before.nics, row.id: row})


def allowing(before: World, *rows: Allowance) -> World:
    """The world in which NICs have been promised just this."""
    nics = {
        id: replace(nic, allowed=frozenset(allowance_text(row) for row in rows if row.nic == id))
        for id, nic in before.nics.items()
    }
    return replace(before, nics=nics)


def rows(of: World) -> list[Row]:
    """All rows of a world."""
    by_ids = (of.accounts, of.zones, of.pods, of.groups, of.vms, of.nics)
    return [row for table in by_ids for row in table.values()] + [
        row for table in (of.ranges, of.addresses, of.members, of.rules) for row in table
    ]
