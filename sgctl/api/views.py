# SPDX-License-Identifier: Apache-2.0
"""Rows as the objects of CloudStack's answers."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network

from sgctl.api import fixed
from sgctl.api.command import Object
from sgctl.api.draft import Reads
from sgctl.api.owners import DOMAIN, DOMAIN_ID
from sgctl.model import Account, Address, Allowance, Cloud, Group, Host, Key, Nic, Pod, Range, Rule, User, Vm, Zone
from sgctl.rules import ICMP, WITH_PORTS

ACCOUNT_TYPES = {0: "User", 1: "Admin", 2: "DomainAdmin"}


def given(**fields: object) -> Object:
    """The fields that are set: CloudStack leaves out what is null."""
    return {name: value for name, value in fields.items() if value not in (None, "")}


def owner(reads: Reads, account_id: str) -> Object:
    """Whose something is."""
    account = reads.get(Account, account_id)
    name = account.name if account else ""
    return {"account": name, "domainid": DOMAIN_ID, "domain": DOMAIN, "domainpath": DOMAIN}


def rule(reads: Reads, row: Rule) -> Object:
    """A rule: ports or ICMP type and code, and a CIDR or a group."""
    view: Object = {"ruleid": row.id, "protocol": row.protocol, "tags": []}
    if row.proto == ICMP:
        view |= {"icmptype": row.first, "icmpcode": row.last}
    elif row.proto in WITH_PORTS:
        view |= {"startport": row.first, "endport": row.last}
    if row.peer is None:
        return view | {"cidr": row.cidr}
    peer = reads.get(Group, row.peer)
    return view | {"securitygroupname": peer.name if peer else "", "account": _account_name(reads, peer)}


def _account_name(reads: Reads, group: Group | None) -> str:
    account = reads.get(Account, group.account) if group else None
    return account.name if account else ""


def group(reads: Reads, row: Group, rules: Iterable[Rule] | None = None) -> Object:
    """A security group with its rules and VMs, or with `rules` only; both lists of rules are always there."""
    shown = reads.find(Rule, group=row.id) if rules is None else rules
    directions: dict[str, list[Object]] = {"ingress": [], "egress": []}
    for item in sorted(shown, key=_rule_order):
        directions[item.direction].append(rule(reads, item))
    return {
        **given(id=row.id, name=row.name, description=row.description),
        **owner(reads, row.account),
        "ingressrule": directions["ingress"],
        "egressrule": directions["egress"],
        "tags": [],
        **(_members(reads, row) if rules is None else {}),
    }


def _rule_order(row: Rule) -> tuple[int | str, ...]:
    """As they came; those of one command by what they are, so that lists of equal rules are equal."""
    return row.created, row.proto, row.first, row.last, row.cidr, row.peer or "", row.id


def _members(reads: Reads, row: Group) -> Object:
    vms = sorted({nic.vm for nic in reads.find(Nic, groups=row.id)})
    return {"virtualmachinecount": len(vms), "virtualmachineids": vms}


def zone(row: Zone) -> Object:
    """A zone."""
    return given(
        id=row.id,
        name=row.name,
        networktype="Basic",
        securitygroupsenabled=True,
        dns1=row.dns1,
        dns2=row.dns2,
        internaldns1=row.internal_dns1,
        internaldns2=row.internal_dns2,
        guestcidraddress=row.guest_cidr,
        domain=row.domain,
        allocationstate="Enabled",
        dhcpprovider="External",
        localstorageenabled=False,
        zonetoken=row.id,
        tags=[],
    )


def pod(reads: Reads, row: Pod) -> Object:
    """A pod; first and last address are lists since CloudStack 4.11."""
    place = reads.get(Zone, row.zone)
    return given(
        id=row.id,
        name=row.name,
        zoneid=row.zone,
        zonename=place.name if place else "",
        gateway=row.gateway,
        netmask=row.netmask,
        startip=[row.start_ip],
        endip=[row.end_ip],
        dhcpservers=sorted(row.dhcp_servers),
        dnsservers=sorted(row.dns_servers),
        allocationstate="Enabled",
    )


def address_range(reads: Reads, row: Range) -> Object:
    """An address range."""
    place = reads.get(Pod, row.pod)
    return given(
        id=row.id,
        vlan=row.vlan,
        zoneid=row.zone,
        podid=row.pod,
        podname=place.name if place else "",
        networkid=fixed.network_id(row.zone),
        gateway=row.gateway,
        netmask=row.netmask,
        cidr=str(IPv4Network(f"{row.gateway}/{row.netmask}", strict=False)) if row.gateway else "",
        startip=row.start_ip,
        endip=row.end_ip,
        ip6gateway=row.ip6_gateway,
        ip6cidr=row.ip6_cidr,
        startipv6=row.start_ipv6,
        endipv6=row.end_ipv6,
        forvirtualnetwork=False,
    )


def account(reads: Reads, row: Account) -> Object:
    """An account with its users."""
    return {
        "id": row.id,
        "name": row.name,
        "accounttype": row.type,
        "roletype": ACCOUNT_TYPES[row.type],
        "rolename": ACCOUNT_TYPES[row.type],
        "domainid": DOMAIN_ID,
        "domain": DOMAIN,
        "domainpath": DOMAIN,
        "state": "enabled",
        "created": fixed.timestamp(row.created),
        "vmtotal": len(reads.find(Vm, account=row.id)),
        "user": [user(reads, found) for found in sorted(reads.find(User, account=row.id), key=lambda u: u.created)],
    }


def user(reads: Reads, row: User) -> Object:
    """A user; the API key is a name, the secret is never shown."""
    holder = reads.get(Account, row.account)
    key = next(iter(reads.find(Key, user=row.id)), None)
    kind = holder.type if holder else 0
    return {
        **given(
            id=row.id,
            username=row.username,
            firstname=row.firstname,
            lastname=row.lastname,
            email=row.email,
            apikey=key.api_key if key else "",
        ),
        **owner(reads, row.account),
        "accountid": row.account,
        "accounttype": kind,
        "roletype": ACCOUNT_TYPES[kind],
        "rolename": ACCOUNT_TYPES[kind],
        "state": "enabled",
        "created": fixed.timestamp(row.created),
        "iscallerchilddomain": False,
        "isdefault": False,
    }


def host_place(reads: Reads, row: Host) -> tuple[Zone | None, Pod | None]:
    """Where a hypervisor is: in the pod of the VMs that it has, if that is one; in the zone, if there is one."""
    pods = {nic.pod for nic in reads.find(Nic, host=row.name)}
    pod = reads.get(Pod, pods.pop()) if len(pods) == 1 else None
    zones = [reads.get(Zone, pod.zone)] if pod else list(reads.all(Zone))
    return (zones[0] if len(zones) == 1 else None), pod


def host(reads: Reads, row: Host, *, state: str) -> Object:
    """A hypervisor as its agent has registered it."""
    place, pod = host_place(reads, row)
    return given(
        id=row.id,
        name=row.name,
        state=state,
        type="Routing",
        ipaddress=row.address,
        hypervisor="KVM",
        resourcestate="Enabled",
        version=row.version,
        zoneid=place.id if place else "",
        zonename=place.name if place else "",
        podid=pod.id if pod else "",
        podname=pod.name if pod else "",
        created=fixed.timestamp(row.started),
        lastpinged=fixed.timestamp(row.seen),
        **_progress(reads, row),
        details={},
        capabilities="securitygroups",
    )


def _progress(reads: Reads, row: Host) -> Object:
    """Extensions: the host's ports by state, and how many barriers its switch is behind."""
    states = [nic.state for nic in reads.find(Nic, host=row.name)]
    asked = max([row.asked, *(cloud.asked for cloud in reads.all(Cloud))])
    return {
        "portsup": states.count("up"),
        "portsclosed": states.count("closed"),
        "applied": row.applied,
        "lag": max(0, asked - row.applied),
    }


def is_ipv6(text: str) -> bool:
    """Whether an address in its canonical form is an IPv6 one."""
    return ":" in text


def secondary(row: Address, nic: Nic, zone_id: str) -> Object:
    """A secondary address."""
    return {
        "id": row.id,
        "ipaddress": row.address,
        "nicid": nic.id,
        "networkid": fixed.network_id(zone_id),
        "virtualmachineid": nic.vm,
        **given(description=row.description),
    }


def allowed_address(reads: Reads, row: Allowance) -> Object:
    """What a NIC is allowed beside its addresses."""
    nic = reads.get(Nic, row.nic)
    return {
        "id": row.id,
        "nicid": row.nic,
        **given(virtualmachineid=nic.vm if nic else ""),
        "ipaddress": row.address,
        **given(macaddress=row.mac, description=row.description),
        "shared": row.shared,
        **(owner(reads, nic.account) if nic else {}),
        "created": fixed.timestamp(row.created),
    }
