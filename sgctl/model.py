# SPDX-License-Identifier: Apache-2.0
"""The rows of the SG database as frozen values, one class per table, one field per column of the same name.

`sgctl.store` turns rows into these values and back; everything else speaks of them only. Ids are UUIDs in text form.
Addresses are text in canonical form (RFC 5952 for IPv6), MACs lower-case with colons, times whole milliseconds of Unix
time. An empty string or None stands for "not set".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias
from uuid import NAMESPACE_OID, uuid5


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What all rows have: an id, which is the row's UUID in the database, and the name of their table."""

    TABLE: ClassVar[str]
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud(Row):
    """The row about the whole.

    sequence: counts barriers, which ask whether agents have applied what is before.  asked: the last one that is for
    all of them.  heartbeat: milliseconds between an agent's heartbeats (`sgctl.heartbeat`); 0: as if it were not there.
    allowances: counts changes of `Allowance` rows and of ranges, which whoever gives addresses and MACs must know of.
    """

    TABLE: ClassVar[str] = "Cloud"
    name: str = "cloud"
    sequence: int = 0
    asked: int = 0
    heartbeat: int = 0
    allowances: int = 0
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone(Row):
    """An availability zone."""

    TABLE: ClassVar[str] = "Zone"
    name: str
    dns1: str = ""
    dns2: str = ""
    internal_dns1: str = ""
    internal_dns2: str = ""
    guest_cidr: str = ""
    domain: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod(Row):
    """An L2 segment of a zone; its own servers, or the zone's internal DNS servers where it names none.

    shared: for agents, the addresses that Allowance rows let several NICs of the pod hold.
    """

    TABLE: ClassVar[str] = "Pod"
    name: str
    zone: str
    gateway: str
    netmask: str
    start_ip: str
    end_ip: str
    dhcp_servers: frozenset[str] = frozenset()
    dns_servers: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Range(Row):
    """Addresses of a pod for its VMs: an IPv4 range, an IPv6 range, or one of each."""

    TABLE: ClassVar[str] = "Range"
    zone: str
    pod: str
    vlan: str = "untagged"
    gateway: str = ""
    netmask: str = ""
    start_ip: str = ""
    end_ip: str = ""
    ip6_gateway: str = ""
    ip6_cidr: str = ""
    start_ipv6: str = ""
    end_ipv6: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Row):
    """A tenant. `type` as CloudStack numbers it: 0 user, 1 root admin, 2 domain admin. `name_key`: case-folded name.

    vms_named: counts up when a VM gets a name of somebody's choice, so that two servers cannot give one name twice.
    grown: counts up when the account gets a group or VM, so that two servers cannot both give the last it may have.
    """

    TABLE: ClassVar[str] = "Account"
    name: str
    name_key: str
    type: int = 0
    vms_named: int = 0
    grown: int = 0
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Row):
    """Somebody who acts for an account."""

    TABLE: ClassVar[str] = "User"
    account: str
    username: str
    firstname: str = ""
    lastname: str = ""
    email: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Key(Row):
    """The key pair that a user signs with."""

    TABLE: ClassVar[str] = "Key"
    user: str
    api_key: str
    secret: str
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Row):
    """A security group. `name_key`: its name, case folded, unique within the account.

    grown: counts up when the group gets a rule or member, as an account's does.
    """

    TABLE: ClassVar[str] = "Group"
    account: str
    name: str
    name_key: str
    description: str = ""
    grown: int = 0
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Row):
    """A permission of a group; either `cidr` (as it was given) or `peer` (a group's id) is set.

    direction: ``ingress`` or ``egress``.  protocol: name, ``all`` or a number.  proto: its IP number, -1 any.
    first, last: destination ports, or ICMP type and code (-1: any); both -1 where the protocol has neither.
    digest: the rule's normal form, unique within group and direction.
    """

    TABLE: ClassVar[str] = "Rule"
    group: str
    direction: str
    protocol: str
    proto: int
    first: int = -1
    last: int = -1
    cidr: str = ""
    peer: str | None = None
    digest: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm(Row):
    """A virtual machine as somebody asked for it; `wanted`: ``Running``, ``Stopped`` or ``Destroyed``."""

    TABLE: ClassVar[str] = "VM"
    name: str
    display_name: str = ""
    account: str
    zone: str
    pod: str
    wanted: str = "Running"
    wanted_host: str = ""
    template: str = ""
    offering: str = ""
    haenable: bool = False
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic(Row):
    """A VM's network interface, bound to a port by ``external_ids:iface-id`` = id.

    groups: its security groups.  host, state, reason, since: written by the agent that has its port; host is the name
    of the hypervisor where the NIC is active, state ``up`` or ``closed`` (then with a reason) or empty.
    revision: counts changes of its groups and addresses, so that concurrent ones cannot miss each other's Member rows.
    addresses, wanted, vm_name: copies of what its Address rows and its VM say, for agents; copied: revision + 1 if they
    are.  allowed: its Allowance rows as `allowance_text` writes them, also for agents.
    """

    TABLE: ClassVar[str] = "NIC"
    vm: str
    account: str
    pod: str
    device: int = 0
    mac: str
    groups: frozenset[str] = frozenset()
    host: str = ""
    state: str = ""
    reason: str = ""
    since: int = 0
    revision: int = 0
    addresses: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    wanted: str = ""
    vm_name: str = ""
    copied: int = 0

    @property
    def complete(self) -> bool:
        """Whether the row says all that an agent needs to know of the NIC; rows of earlier releases do not."""
        return self.copied == self.revision + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(Row):
    """An address of a NIC, unique in the cloud; one primary per NIC and family."""

    TABLE: ClassVar[str] = "Address"
    address: str
    nic: str
    primary: bool = True
    description: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance(Row):
    """What an operator has promised to a NIC beside its addresses: `address` is one address or a CIDR.

    mac: of a guest inside the VM that uses it; empty: the NIC's own.  shared: several NICs may hold it.
    """

    TABLE: ClassVar[str] = "Allowance"
    nic: str
    address: str
    mac: str = ""
    shared: bool = False
    description: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(Row):
    """That an address, or a network that was promised, is in a group: derived from NIC.groups, Address and Allowance,
    written in the same transaction.

    Its id is `sgctl.model.member_id`, so that the row can be addressed without a look-up.
    """

    TABLE: ClassVar[str] = "Member"
    group: str
    nic: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Host(Row):
    """A hypervisor, as its agent reports it; only `asked`, the last barrier that is for it, is the API's.

    seen: time of the last heartbeat.  applied: the barrier that it has behind it.  heartbeat: the interval it keeps.
    """

    TABLE: ClassVar[str] = "Host"
    name: str
    address: str = ""
    version: str = ""
    seen: int = 0
    started: int = 0
    asked: int = 0
    applied: int = 0
    heartbeat: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover(Row):
    """What one hypervisor says to others about a NIC that moves; `handover_id` gives its id.

    waiting: a port of `host` is on standby for the NIC.  connections: those that the NIC has accepted on `host`, in the
    text form of `sgctl.handover`, for the hosts in `to`.  final: the NIC has left `host`.  taken: when, milliseconds of
    Unix time, but always later than all that was `taken` about this NIC before, whatever the clocks.
    rest: what the NIC has brought along to `host` and conntrack does not know better there, in the same form.
    took: the `taken` of the last row of another host that has gone into it.
    asked: when the NIC's guest has last spoken at a port of `host` where it may be or not (`sgctl.agent.contests`).
    nic: None once the NIC is gone.
    """

    TABLE: ClassVar[str] = "Handover"
    nic: str | None
    host: str
    waiting: bool = False
    to: frozenset[str] = frozenset()
    connections: str = ""
    final: bool = False
    taken: int = 0
    rest: str = ""
    took: int = 0
    asked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(Row):
    """That the connections that a rule had admitted shall end; `rule` is the id of the rule, which is gone."""

    TABLE: ClassVar[str] = "Cut"
    rule: str
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Row):
    """An asynchronous command. status: 0 pending, 1 done, 2 failed.  result: the JSON text of the result object."""

    TABLE: ClassVar[str] = "Job"
    account: str
    user: str
    command: str
    status: int = 0
    code: int = 0
    result: str = ""
    instance: str = ""
    server: str = ""
    created: int = 0
    completed: int = 0


Record: TypeAlias = (
    Cloud
    | Zone
    | Pod
    | Range
    | Account
    | User
    | Key
    | Group
    | Rule
    | Vm
    | Nic
    | Address
    | Allowance
    | Member
    | Host
    | Handover
    | Cut
    | Job
)
TABLES: tuple[type[Record], ...] = (
    Cloud, Zone, Pod, Range, Account, User, Key, Group, Rule, Vm, Nic, Address, Allowance, Member, Host, Handover,
    Cut, Job,
)  # fmt: skip


def member_id(group: str, address: str) -> str:
    """The id of the `Member` row that says that `address` is in `group`."""
    return str(uuid5(NAMESPACE_OID, f"sgctl member {group} {address}"))


def allowance_text(row: Allowance) -> str:
    """What a row promises, in a line: the address or network, then the MAC and ``shared``, if it has them."""
    return " ".join(filter(None, (row.address, row.mac, "shared" if row.shared else "")))


def handover_id(nic: str, host: str) -> str:
    """The id of the `Handover` row of a host about a NIC."""
    return str(uuid5(NAMESPACE_OID, f"sgctl handover {nic} {host}"))
