# SPDX-License-Identifier: Apache-2.0
"""Rows that contradict others are named; those that the API writes never do."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sgctl.contradictions import REFERENCES, contradictions
from sgctl.model import (
    TABLES,
    Account,
    Address,
    Allowance,
    Group,
    Host,
    Member,
    Nic,
    Pod,
    Range,
    Row,
    Rule,
    Vm,
    member_id,
)  # fmt: skip
from sgctl.store import Delete, Insert, Update
from sgctl.store.columns import schema_json
from tests.unit.api_memory import Client, Cloud, deploy
from tests.unit.store_rows import uid


class Place:
    """A cloud with a bit of everything, made by the API."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        admin, zone = self.cloud.admin, self.cloud.zone()
        self.pod = self.cloud.pod(zone, ipv6=True)
        self.second = self.cloud.pod(zone)
        self.user, self.other = self.cloud.account("web"), self.cloud.account("other")
        self.user.ok("createSecurityGroup", name="a")
        nics = [self.deploy(zone, self.user, securitygroupnames="a,default", podid=self.pod["id"]) for _ in range(2)]
        self.deploy(zone, self.other, podid=self.second["id"])
        self.nic = nics[0]
        self.user.ok("addIpToNic", nicid=self.nic)
        for nic in nics:
            admin.ok("addAllowedAddressToNic", nicid=nic, ipaddress="10.2.0.210", shared="true")
        admin.ok("addAllowedAddressToNic", nicid=self.nic, ipaddress="10.2.0.211", macaddress="02:00:00:00:60:01")
        admin.ok("addAllowedAddressToNic", nicid=self.nic, cidr="10.9.0.0/24")
        admin.ok("addAllowedAddressToNic", nicid=nics[1], cidr="fd00:9::/64")
        for protocol, params in (
            ("tcp", {"startport": 80}), ("6", {"startport": 0, "endport": 0}), ("icmp", {"icmptype": 8}), ("all", {}),
            ("gre", {}), ("99", {}),
        ):  # fmt: skip
            self.allow(protocol=protocol, cidrlist="10.0.0.5/8,FD00::1/8", **params)
        self.allow(usersecuritygrouplist="default", account="other")

    def deploy(self, zone: Any, user: Client, **params: object) -> str:
        return str(deploy(user, zone, **params)["nic"][0]["id"])

    def allow(self, **params: object) -> None:
        self.user.ok("authorizeSecurityGroupIngress", securitygroupname="a", **params)

    def one(self, kind: type[Any], **columns: object) -> Any:
        """Some row."""
        return min(self.cloud.memory.replica.find(kind, **columns), key=lambda row: str(row.id))

    def group(self, name: str, of: Client) -> Group:
        found: Group = self.one(Group, account=of.account.id, name_key=name)
        return found

    def named(self) -> dict[str, list[str]]:
        """What is said, by the id of the row."""
        found: dict[str, list[str]] = {}
        for one in contradictions(self.cloud.memory.replica):
            found.setdefault(one.id, []).append(one.text)
        return found

    def set(self, row: Row, **columns: object) -> str:
        self.cloud.memory.write([Update(type(row), row.id, columns)])
        return row.id

    def insert(self, row: Row) -> str:
        self.cloud.memory.write([Insert(row)])
        return row.id


@pytest.fixture
def place() -> Place:
    return Place()


def test_what_the_api_writes_is_without_contradiction(place: Place) -> None:
    assert place.named() == {}
    user, (vm, *_) = place.user, place.user.ok("listVirtualMachines")["virtualmachine"]
    user.ok("updateVirtualMachine", id=vm["id"], securitygroupnames="a")
    assert place.named() == {}
    user.ok("stopVirtualMachine", id=vm["id"])
    user.ok("updateVmNicIp", nicid=vm["nic"][0]["id"])
    assert place.named() == {}
    user.ok("destroyVirtualMachine", id=vm["id"])
    assert place.named() == {}
    for rule in user.ok("listSecurityGroups", securitygroupname="a")["securitygroup"][0]["ingressrule"]:
        user.ok("revokeSecurityGroupIngress", id=rule["ruleid"])
    place.cloud.admin.ok("deleteAccount", id=place.other.account.id)
    assert place.named() == {}


def stranger(place: Place) -> str:
    """Another account's NIC gets into a group: the case that must never go unnoticed."""
    nic = place.one(Nic, account=place.other.account.id)
    address = place.one(Address, nic=nic.id).address
    group = place.group("a", place.user).id
    return place.insert(Member(id=member_id(group, address), group=group, nic=nic.id, address=address))


def no_address(place: Place) -> str:
    group = place.group("a", place.user).id
    return place.insert(Member(id=member_id(group, "10.2.0.199"), group=group, nic=place.nic, address="10.2.0.199"))


def lost_member(place: Place) -> str:
    member = place.one(Member, nic=place.nic, address=place.one(Address, nic=place.nic, primary=False).address)
    place.cloud.memory.write([Delete(Member, member.id)])
    return place.nic


def odd_id(place: Place) -> str:
    member = place.one(Member, nic=place.nic)
    place.cloud.memory.write([Delete(Member, member.id)])
    return place.insert(replace(member, id=uid("odd")))


def twice(place: Place) -> str:
    nic = place.one(Nic, account=place.other.account.id)
    (address,) = (one for one in place.one(Nic, id=place.nic).addresses if ":" in one)
    return place.insert(Address(id=uid("twice"), address=address.replace("::", ":0:0:0:0:0:"), nic=nic.id))


def column(kind: type[Any], **columns: object) -> Callable[[Place], str]:
    """Some row says something else."""
    return lambda place: place.set(place.one(kind), **columns)


def of_nic(**columns: object) -> Callable[[Place], str]:
    return lambda place: place.set(place.one(Nic, id=place.nic), **columns)


def foreign_group(place: Place) -> str:
    return place.set(place.one(Nic, id=place.nic), groups=frozenset({place.group("default", place.other).id}))


def protocol(place: Place) -> str:
    return place.set(place.one(Rule, protocol="tcp"), proto=17)


def destroyed(place: Place) -> str:
    place.set(place.one(Vm, id=place.one(Nic, id=place.nic).vm), wanted="Destroyed")
    return place.nic


def gateway(place: Place) -> str:
    return place.set(place.one(Address, nic=place.nic, primary=False), address=place.pod["gateway"])


def elsewhere(place: Place) -> str:
    return place.set(place.one(Address, nic=place.nic, primary=False), address="192.0.2.7")


def second_primary(place: Place) -> str:
    place.set(place.one(Address, nic=place.nic, primary=False), primary=True)
    return place.nic


def overlap(place: Place) -> str:
    """A network that holds other VMs' addresses."""
    return place.insert(Allowance(id=uid("net"), nic=place.nic, address="10.3.0.0/24"))


def foreign_share(place: Place) -> str:
    nic = place.one(Nic, account=place.other.account.id)
    return place.insert(Allowance(id=uid("share"), nic=nic.id, address="10.2.0.210", shared=True))


def guest_mac(place: Place) -> str:
    mac = place.one(Nic, account=place.other.account.id).mac
    return place.set(place.one(Allowance, address="10.2.0.211"), mac=mac)


def no_default(place: Place) -> str:
    group = place.group("default", place.other)
    place.set(group, name_key="x")
    return group.account


def overlapping_pods(place: Place) -> str:
    return place.set(place.one(Pod, id=place.second["id"]), gateway="10.2.0.129", netmask="255.255.255.128")


def another_zone(place: Place) -> str:
    return place.set(place.one(Range), zone=place.cloud.zone()["id"])


def dangling(place: Place) -> str:
    return place.set(place.one(Rule, peer=place.group("default", place.other).id), peer=uid("nobody"))


SPOILT: dict[str, tuple[Callable[[Place], str], str]] = {
    "stranger in a group": (stranger, "which is not in that group"),
    "member without address": (no_address, "which does not have that address"),
    "member that is lost": (lost_member, "is not among the members"),
    "member of an odd id": (odd_id, "its id is not the one"),
    "address in other letters": (twice, "is an address of the NICs"),
    "group of others": (foreign_group, "another account's"),
    "no group": (of_nic(groups=frozenset()), "in no group"),
    "unknown host": (of_nic(host="h9"), "which no host is called"),
    "MAC": (of_nic(mac="01:00:00:00:00:01"), "no unicast MAC"),
    "copied addresses": (of_nic(addresses=frozenset({"10.2.0.50"})), "`addresses`"),
    "copied promises": (of_nic(allowed=frozenset({"10.9.9.0/24"})), "`allowed`"),
    "copied state": (of_nic(wanted="Stopped"), "`wanted`"),
    "account of a NIC": (of_nic(account=uid("nobody")), "not those of its VM"),
    "destroyed VM": (destroyed, "is destroyed"),
    "router's address": (gateway, "a router's or a server's"),
    "address of nowhere": (elsewhere, "in no subnet"),
    "text": (column(Address, address="10.2.0.010"), "no unicast address"),
    "two primary addresses": (second_primary, "are primary ones"),
    "promised network": (overlap, "overlaps with 10.3.0."),
    "shared between accounts": (foreign_share, "overlaps with 10.2.0.210"),
    "promised nonsense": (column(Allowance, address="everything"), "may be promised"),
    "guest's MAC": (guest_mac, "is another NIC's"),
    "shared by nobody": (column(Pod, shared=frozenset({"10.2.0.9"})), "`shared`"),
    "rule about nobody": (column(Rule, cidr="", peer=None), "nobody"),
    "rule with nonsense": (column(Rule, cidr="10.0.0.0/99", peer=None), "is no CIDR"),
    "protocol": (protocol, "is no rule"),
    "digest": (column(Rule, digest="x"), "its digest"),
    "peer": (dangling, "does not exist"),
    "no default group": (no_default, "no group `default`"),
    "pods": (overlapping_pods, "overlaps with"),
    "zone": (another_zone, "not in its zone"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_contradicts_is_named(place: Place, name: str) -> None:
    spoil, text = SPOILT[name]
    id = spoil(place)
    found = place.named()
    assert any(text in one for one in found.get(id, ())), found


def test_known_hosts_are_fine(place: Place) -> None:
    place.set(place.one(Nic, id=place.nic), host=place.one(Host).name, state="up")
    assert place.named() == {}


def test_an_earlier_releases_nic_has_no_copies_yet(place: Place) -> None:
    place.set(place.one(Nic, id=place.nic), copied=0, addresses=frozenset(), allowed=frozenset())
    assert place.named() == {}


def test_all_references_of_the_schema_are_looked_at() -> None:
    strong = {
        kind: {
            name
            for name, column in schema_json()["tables"][kind.TABLE]["columns"].items()
            if "'refType': 'strong'" in str(column)
        }
        for kind in TABLES
    }
    assert {kind: set(columns) for kind, columns in REFERENCES.items()} == {k: v for k, v in strong.items() if v}


def test_order_does_not_matter(place: Place) -> None:
    """Rows come from the database in any order."""
    for name in ("stranger in a group", "promised network", "pods"):
        SPOILT[name][0](place)
    first = set(contradictions(place.cloud.memory.replica))
    mixed = set(contradictions(place.cloud.memory.replica, lambda rows: random.sample(list(rows), len(list(rows)))))
    assert first == mixed and all(str(one).startswith(f"{one.table} {one.id}: ") for one in first)
    assert {one.table for one in first} <= {kind.TABLE for kind in (Account, Member, Allowance, Pod, Nic, Address)}
