# SPDX-License-Identifier: Apache-2.0
"""The cloud that is measured: rows in batches for speed; what is timed is called through the API or the switch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from uuid import NAMESPACE_OID, uuid5

from sgctl import rules
from sgctl.model import Address, Member, Nic, Row, Rule, Vm, member_id

PODS = {"near": 10, "far": 11}
"""Second byte of the pods' subnets 10.N.0.0/16: `near` is on this hypervisor, `far` elsewhere."""
GROUP_PORT, CIDR_PORT = 12489, 1000
"""The first TCP ports of rules about a group, and of rules about CIDRs; datagrams go to the former too."""
MORE_PORT = 4500
"""The UDP port that the group `more` opens to everybody."""
NEAR = "10.10.0.0/16"


@dataclass(frozen=True, slots=True)
class Size:
    """N ports of this hypervisor in one group, which has R rules about CIDRs and G about a group of M members."""

    ports: int
    rules: int
    members: int
    group_rules: int = 1

    def __str__(self) -> str:
        return f"{self.ports},{self.rules},{self.members}" + (f",{self.group_rules}" if self.group_rules != 1 else "")


@dataclass(frozen=True, slots=True)
class Place:
    """The ids that new rows refer to."""

    account: str
    zone: str
    pods: dict[str, str]
    groups: dict[str, str]


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM with one NIC and one address, by its place and number."""

    pod: str
    number: int

    @property
    def name(self) -> str:
        """Its name, also that of its port."""
        return f"{self.pod}{self.number}"

    @property
    def vm(self) -> str:
        """The VM's id."""
        return str(uuid5(NAMESPACE_OID, f"bench vm {self.name}"))

    @property
    def nic(self) -> str:
        """The NIC's id."""
        return str(uuid5(NAMESPACE_OID, f"bench nic {self.name}"))

    @property
    def mac(self) -> str:
        """The NIC's MAC."""
        return f"02:{PODS[self.pod]:02x}:00:00:{self.number >> 8:02x}:{self.number & 255:02x}"

    @property
    def address(self) -> str:
        """The NIC's address: from 10.N.16.0 on."""
        return str(IPv4Address(f"10.{PODS[self.pod]}.16.0") + self.number)

    @property
    def external_ids(self) -> dict[str, str]:
        """What libvirt writes at its port."""
        return {"iface-id": self.nic, "attached-mac": self.mac}

    def rows(self, place: Place, group: str) -> Iterator[Row]:
        """Its rows, as deployVirtualMachine makes them."""
        groups = frozenset({place.groups[group]})
        account, pod = place.account, place.pods[self.pod]
        yield Vm(id=self.vm, name=self.name, zone=place.zone, account=account, pod=pod)
        yield Nic(
            id=self.nic, vm=self.vm, mac=self.mac, groups=groups, account=account, pod=pod, copied=1,
            addresses=frozenset({self.address}), wanted="Running", vm_name=self.name,
        )  # fmt: skip
        yield Address(id=str(uuid5(NAMESPACE_OID, f"bench address {self.address}")), address=self.address, nic=self.nic)
        yield self.member(place, group)

    def member(self, place: Place, group: str) -> Member:
        """What makes it a member of a group, for those who look for members."""
        id = place.groups[group]
        return Member(id=member_id(id, self.address), group=id, nic=self.nic, address=self.address)


def cidr(number: int) -> str:
    """The source of the CIDR rule with this number."""
    return f"{20 + number // 250}.{number % 250}.0.0/16"


def rule_rows(place: Place, size: Size) -> Iterator[Rule]:
    """The rules of the group `web`."""
    for number in range(size.rules):
        yield cidr_rule(place, number)
    for number in range(size.group_rules):
        yield _rule(place, GROUP_PORT + number, peer=place.groups["sources"])


def cidr_rule(place: Place, number: int) -> Rule:
    """The rule about a CIDR with this number."""
    return _rule(place, CIDR_PORT + number, cidr=cidr(number))


def _rule(place: Place, port: int, *, cidr: str = "", peer: str | None = None) -> Rule:
    traffic = rules.Traffic("tcp", 6, port, port)
    return Rule(
        id=str(uuid5(NAMESPACE_OID, f"bench rule {port}")), group=place.groups["web"], direction="ingress",
        protocol="tcp", proto=6, first=port, last=port, cidr=cidr, peer=peer,
        digest=rules.digest(traffic, cidr=cidr, peer=peer),
    )  # fmt: skip
