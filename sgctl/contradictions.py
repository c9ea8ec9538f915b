# SPDX-License-Identifier: Apache-2.0
"""Which rows of the SG database contradict others, and how.

Agents believe what rows say. Much is said twice, since they can ask for it at little cost only so: who is in a group by
`NIC.groups` and by `Member` rows, say. The API writes both in one transaction; a fault of it, or a row made by hand,
could open a group to somebody, or keep somebody out, and nothing else would ever tell.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Protocol, TypeAlias, TypeVar

from sgctl.addresses import parse_address, parse_block, parse_mac
from sgctl.model import (
    Account,
    Address,
    Allowance,
    Group,
    Host,
    Key,
    Member,
    Nic,
    Pod,
    Range,
    Record,
    Row,
    Rule,
    User,
    Vm,
    Zone,
    allowance_text,
    member_id,
)  # fmt: skip
from sgctl.rules import ICMP, WITH_PORTS, RuleError, Traffic, digest, traffic

R = TypeVar("R", bound=Record)
Network: TypeAlias = IPv4Network | IPv6Network

#: Columns with ids of other rows, which the database keeps right.
REFERENCES: dict[type[Row], dict[str, type[Record]]] = {
    Pod: {"zone": Zone},
    Range: {"zone": Zone, "pod": Pod},
    User: {"account": Account},
    Key: {"user": User},
    Group: {"account": Account},
    Rule: {"group": Group, "peer": Group},
    Vm: {"account": Account, "zone": Zone, "pod": Pod},
    Nic: {"vm": Vm, "account": Account, "pod": Pod, "groups": Group},
    Address: {"nic": Nic},
    Allowance: {"nic": Nic},
    Member: {"group": Group, "nic": Nic},
}


class Reads(Protocol):
    """All rows of a database."""

    def get(self, kind: type[R], id: str) -> R | None:
        """The row with this id."""

    def all(self, kind: type[R]) -> list[R]:
        """Every row of a table."""

    def find(self, kind: type[R], **columns: Any) -> list[R]:
        """The rows whose columns have these values; of a set column one element is given."""


@dataclass(frozen=True, slots=True, order=True)
class Contradiction:
    """What a row says against others, in words."""

    table: str
    id: str
    text: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.table} {self.id}: {self.text}"


Found: TypeAlias = Iterator[Contradiction]
Pace: TypeAlias = Callable[[Iterable[Any]], Iterable[Any]]


def contradictions(reads: Reads, pace: Pace = iter) -> Found:
    """All of them; `pace` is what loops over many rows go through."""
    for look in (_references, _members, _nics, _addresses, _promises, _rules, _accounts, _places):
        yield from look(reads, pace)


def _says(row: Row, text: str) -> Contradiction:
    return Contradiction(row.TABLE, row.id, text)


def _references(reads: Reads, pace: Pace) -> Found:
    for kind, columns in REFERENCES.items():
        for row in pace(reads.all(kind)):
            for name, target in columns.items():
                value = getattr(row, name)
                for id in value if isinstance(value, frozenset) else {value} - {None}:
                    if reads.get(target, id) is None:
                        yield _says(row, f"its {name} {id} does not exist")


def _members(reads: Reads, pace: Pace) -> Found:
    for row in pace(reads.all(Member)):
        nic = reads.get(Nic, row.nic)
        if row.id != member_id(row.group, row.address):
            yield _says(row, "its id is not the one by which it would be found to be removed")
        if nic is None:
            continue
        what = f"{row.address} is a member of the group {row.group} for the NIC {row.nic}"
        if row.group not in nic.groups:
            yield _says(row, f"{what}, which is not in that group")
        elif row.address not in _held(reads, nic):
            yield _says(row, f"{what}, which does not have that address")


def _held(reads: Reads, nic: Nic) -> set[str]:
    own = {row.address for row in reads.find(Address, nic=nic.id)}
    return own | {row.address for row in reads.find(Allowance, nic=nic.id)}


def _nics(reads: Reads, pace: Pace) -> Found:
    hosts = {host.name for host in reads.all(Host)}
    for nic in pace(reads.all(Nic)):
        if parse_mac(nic.mac) is None or nic.mac != nic.mac.lower():
            yield _says(nic, f"{nic.mac!r} is no unicast MAC in canonical form")
        if nic.host and nic.host not in hosts:
            yield _says(nic, f"it is on {nic.host}, which no host is called")
        yield from _membership(reads, nic)
        vm = reads.get(Vm, nic.vm)
        if vm is not None:
            yield from _copies(reads, nic, vm)


def _membership(reads: Reads, nic: Nic) -> Found:
    if not nic.groups:
        yield _says(nic, "it is in no group")
    for id in sorted(nic.groups):
        group = reads.get(Group, id)
        if group is not None and group.account != nic.account:
            yield _says(nic, f"it is in the group {id}, which is another account's")
        for address in sorted(_held(reads, nic)):
            if reads.get(Member, member_id(id, address)) is None:
                yield _says(nic, f"it is in the group {id}, but its address {address} is not among the members")


def _copies(reads: Reads, nic: Nic, vm: Vm) -> Found:
    if (nic.account, nic.pod) != (vm.account, vm.pod):
        yield _says(nic, f"its account and pod are not those of its VM {vm.id}")
    if vm.wanted == "Destroyed":
        yield _says(nic, f"its VM {vm.id} is destroyed")
    addresses = frozenset(row.address for row in reads.find(Address, nic=nic.id))
    primary = [parse_address(row.address) for row in reads.find(Address, nic=nic.id) if row.primary]
    for version, count in Counter(one.version for one in primary if one).items():
        if count > 1:
            yield _says(nic, f"{count} of its IPv{version} addresses are primary ones")
    if not nic.complete:
        return
    allowed = frozenset(map(allowance_text, reads.find(Allowance, nic=nic.id)))
    true = {"addresses": addresses, "allowed": allowed, "wanted": vm.wanted, "vm_name": vm.name}
    for name, value in true.items():
        if getattr(nic, name) != value:
            yield _says(nic, f"its copy `{name}` for agents is not what its other rows say")


def _addresses(reads: Reads, pace: Pace) -> Found:
    """Text that differs may be the same address, of which the database's unique index knows nothing."""
    subnets = {pod.id: list(_subnets(reads, pod)) for pod in reads.all(Pod)}
    reserved = {pod.id: _reserved(reads, pod) for pod in reads.all(Pod)}
    seen: dict[Any, Address] = {}
    for row in pace(reads.all(Address)):
        found, nic = parse_address(row.address), reads.get(Nic, row.nic)
        if found is None or str(found) != row.address:
            yield _says(row, f"{row.address!r} is no unicast address in canonical form")
        if found is None:
            continue
        first = seen.setdefault(found, row)
        if first is not row:
            yield _says(row, f"{row.address} is an address of the NICs {row.nic} and {first.nic}")
        if nic is None or nic.pod not in subnets:
            continue
        if not any(found in subnet for subnet in subnets[nic.pod]):
            yield _says(row, f"{row.address} is in no subnet of the NIC's pod {nic.pod}")
        if found in reserved[nic.pod]:
            yield _says(row, f"{row.address} is a router's or a server's of the pod {nic.pod}")


def _subnets(reads: Reads, pod: Pod) -> Iterator[Network]:
    ranges = reads.find(Range, pod=pod.id)
    texts = {f"{row.gateway}/{row.netmask}" for row in ranges if row.gateway} | {f"{pod.gateway}/{pod.netmask}"}
    for text in sorted(texts | {row.ip6_cidr for row in ranges if row.ip6_cidr}):
        try:
            yield ip_network(text, strict=False)
        except ValueError:
            continue


def _reserved(reads: Reads, pod: Pod) -> set[Any]:
    ranges = reads.find(Range, pod=pod.id)
    routers = {pod.gateway, *(row.gateway for row in ranges), *(row.ip6_gateway for row in ranges)}
    return {parse_address(text) for text in routers | pod.dhcp_servers | pod.dns_servers} - {None}


def _promises(reads: Reads, pace: Pace) -> Found:
    """Who has been promised what is somebody else's."""
    blocks: dict[tuple[int, int], dict[int, list[Allowance]]] = defaultdict(lambda: defaultdict(list))
    guests: dict[str, str] = {}
    for row in pace(reads.all(Allowance)):
        found = parse_block(row.address)
        if found is None:
            yield _says(row, f"{row.address!r} is no address or network that may be promised")
        else:
            network = ip_network(found)
            blocks[network.version, network.prefixlen][int(network.network_address)].append(row)
        if row.mac and (reads.find(Nic, mac=row.mac) or guests.setdefault(row.mac, row.nic) != row.nic):
            yield _says(row, f"the MAC {row.mac} is another NIC's, or promised to one")
    for one in pace([*reads.all(Address), *reads.all(Allowance)] if blocks else []):
        for row in _covering(blocks, one.address):
            if row.id != one.id and not _may_share(reads, row, one):
                text = f"{row.address} overlaps with {one.address}, which the NIC {one.nic} has"
                yield _says(row, text)
    yield from _shared(reads)


def _covering(blocks: Any, address: str) -> Iterator[Allowance]:
    """The promises that hold all of an address or network."""
    block = parse_block(address)
    if block is None:
        return
    network = ip_network(block)
    for (version, length), rows in blocks.items():
        if version == network.version and length <= network.prefixlen:
            left = network.max_prefixlen - length
            yield from rows.get(int(network.network_address) >> left << left, ())


def _may_share(reads: Reads, row: Allowance, other: Address | Allowance) -> bool:
    if not (isinstance(other, Allowance) and row.shared and other.shared and row.address == other.address):
        return False
    one, two = reads.get(Nic, row.nic), reads.get(Nic, other.nic)
    return one is None or two is None or (one.account, one.pod) == (two.account, two.pod)


def _shared(reads: Reads) -> Found:
    held: dict[str, set[str]] = defaultdict(set)
    for row in reads.all(Allowance):
        nic = reads.get(Nic, row.nic) if row.shared else None
        if nic is not None:
            held[nic.pod].add(row.address)
    for pod in reads.all(Pod):
        if pod.shared != held[pod.id]:
            yield _says(pod, "its `shared` is not what its NICs were promised")


def _rules(reads: Reads, pace: Pace) -> Found:
    for row in pace(reads.all(Rule)):
        if bool(row.cidr) == bool(row.peer):
            yield _says(row, "it names either nobody, or both a network and a group")
            continue
        said = Traffic(row.protocol, row.proto, row.first, row.last)
        try:
            if _meant(row) != said:
                yield _says(row, f"protocol {row.protocol} with {row.proto}, {row.first}, {row.last} is no rule")
            elif digest(said, cidr=row.cidr, peer=row.peer) != row.digest:
                yield _says(row, "its digest is not that of what it says, so that it may be there twice")
        except RuleError as error:
            yield _says(row, str(error))


def _meant(row: Rule) -> Traffic:
    if row.proto in WITH_PORTS:
        return traffic(row.protocol, start=row.first, end=row.last)
    if row.proto == ICMP:
        return traffic(row.protocol, icmp_type=row.first, icmp_code=row.last)
    return traffic(row.protocol)


def _accounts(reads: Reads, pace: Pace) -> Found:
    for account in pace(reads.all(Account)):
        if not reads.find(Group, account=account.id, name_key="default"):
            yield _says(account, "it has no group `default`")


def _places(reads: Reads, pace: Pace) -> Found:
    for row in pace([*reads.all(Vm), *reads.all(Range)]):
        pod = reads.get(Pod, row.pod)
        if pod is not None and pod.zone != row.zone:
            yield _says(row, f"its pod {pod.id} is not in its zone {row.zone}")
    spans = [(subnet, pod) for pod in reads.all(Pod) for subnet in _subnets(reads, pod)]
    spans.sort(key=lambda span: (span[0].version, int(span[0].network_address), span[0].prefixlen))
    widest: tuple[Network, Pod] | None = None
    for subnet, pod in spans:
        if widest and widest[0].version == subnet.version and widest[0].overlaps(subnet):
            if widest[1].id != pod.id:
                yield _says(pod, f"its subnet {subnet} overlaps with {widest[0]} of the pod {widest[1].id}")
        else:
            widest = subnet, pod
