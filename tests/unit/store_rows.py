# SPDX-License-Identifier: Apache-2.0
"""Rows for the tests of the store: a small cloud whose references are right."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count
from uuid import NAMESPACE_OID, uuid5

from sgctl.model import Account, Address, Group, Member, Nic, Pod, Range, Row, Rule, Vm, Zone, member_id

_serial = count(1)


def uid(name: str) -> str:
    """The id of what the test calls by this name."""
    return str(uuid5(NAMESPACE_OID, name))


def account(name: str) -> Account:
    return Account(id=uid(f"account {name}"), name=name, name_key=name.casefold())


def group(name: str, of: Account) -> Group:
    return Group(id=uid(f"group {of.name}/{name}"), account=of.id, name=name, name_key=name.casefold())


def rule(of: Group, peer: Group | None = None, port: int = 80) -> Rule:
    admitted = {"peer": peer.id, "cidr": ""} if peer else {"peer": None, "cidr": "0.0.0.0/0"}
    made = Rule(id="", group=of.id, direction="ingress", protocol="tcp", proto=6, first=port, last=port, **admitted)  # type: ignore[arg-type]
    return replace(made, id=uid(f"rule {made}"), digest=f"{port} {made.peer}")


class Place:
    """A zone with a pod, and VMs in it; `rows` is all of it in the order in which it can be inserted."""

    def __init__(self, name: str) -> None:
        self.zone = Zone(id=uid(f"zone {name}"), name=name)
        self.pod = Pod(
            id=uid(f"pod {name}"), name=name, zone=self.zone.id, gateway="10.0.0.1", netmask="255.0.0.0",
            start_ip="10.0.0.2", end_ip="10.0.0.9", dns_servers=frozenset({"10.0.0.2", "10.0.0.3"}),
        )  # fmt: skip
        self.range = Range(id=uid(f"range {name}"), zone=self.zone.id, pod=self.pod.id, start_ip="10.0.0.10")
        self.rows: tuple[Row, ...] = (self.zone, self.pod, self.range)

    def machine(self, of: Account, *groups: Group, host: str = "") -> tuple[Vm, Nic, Address, *tuple[Member, ...]]:
        """A VM with a NIC, an address, and its memberships."""
        number = next(_serial)
        address = str(IPv4Address("10.0.0.0") + number)
        vm = Vm(id=uid(f"vm {number}"), name=f"vm{number}", account=of.id, zone=self.zone.id, pod=self.pod.id)
        nic = Nic(
            id=uid(f"nic {number}"), vm=vm.id, account=of.id, pod=self.pod.id, mac=f"02:00:00:{number:06x}",
            groups=frozenset(group.id for group in groups), host=host,
        )  # fmt: skip
        members = (
            Member(id=member_id(group.id, address), group=group.id, nic=nic.id, address=address) for group in groups
        )
        return vm, nic, Address(id=uid(f"address {number}"), address=address, nic=nic.id), *members
