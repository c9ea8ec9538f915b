# SPDX-License-Identifier: Apache-2.0
"""VMs and NICs as the objects of CloudStack's answers; a VM's state follows from what is wanted and what agents see."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from sgctl.api import fixed, views
from sgctl.api.command import Call, Object
from sgctl.api.draft import Reads
from sgctl.heartbeat import silent
from sgctl.model import Account, Address, Group, Host, Nic, Pod, Range, Vm, Zone

UP = "up"


def nics_of(reads: Reads, vm: Vm) -> list[Nic]:
    """The NICs of a VM, in the order of its devices."""
    return sorted(reads.find(Nic, vm=vm.id), key=lambda nic: nic.device)


def addresses_of(reads: Reads, nic: Nic) -> list[Address]:
    """The addresses of a NIC, the primary ones first, IPv4 before IPv6."""
    rows = reads.find(Address, nic=nic.id)
    return sorted(rows, key=lambda row: (not row.primary, views.is_ipv6(row.address), row.created, row.address))


def host_of(nics: Iterable[Nic]) -> str:
    """The name of the hypervisor that has the VM; empty if none reports it."""
    return next((nic.host for nic in nics if nic.host and nic.state == UP), "")


def state(vm: Vm, nics: Iterable[Nic]) -> str:
    """CloudStack's word for where a VM is between what is wanted and what the switches report."""
    if vm.wanted == "Destroyed":
        return "Destroyed"
    host = host_of(nics)
    if vm.wanted == "Stopped":
        return "Stopping" if host else "Stopped"
    if not host:
        return "Starting"
    return "Migrating" if vm.wanted_host and vm.wanted_host != host else "Running"


def is_down(call: Call, host: Host) -> bool:
    """Whether nothing has been heard of a hypervisor for longer than the threshold, and than what it has promised."""
    return silent(host, now=call.now, timeout=call.settings.host_timeout_ms)


def known_state(call: Call, vm: Vm, nics: Sequence[Nic]) -> str:
    """The same, but Unknown for what would run on a hypervisor that is Down."""
    found = state(vm, nics)
    hosts = call.draft.find(Host, name=host_of(nics)) if found in ("Running", "Migrating", "Stopping") else []
    return "Unknown" if any(is_down(call, host) for host in hosts) else found


def vm(reads: Reads, row: Vm, *, admin: bool) -> Object:
    """A VM with its groups and NICs; where it runs is for admins only."""
    nics = nics_of(reads, row)
    zone = reads.get(Zone, row.zone)
    pod = reads.get(Pod, row.pod)
    groups = {id for nic in nics for id in nic.groups}
    return {
        "id": row.id,
        "name": row.name,
        "displayname": row.display_name or row.name,
        **views.owner(reads, row.account),
        "state": state(row, nics),
        "zoneid": row.zone,
        "zonename": zone.name if zone else "",
        "podid": row.pod,
        "podname": pod.name if pod else "",
        "templateid": row.template,
        "templatename": fixed.ANY,
        "templatedisplaytext": fixed.TEMPLATE_TEXT,
        "serviceofferingid": row.offering,
        "serviceofferingname": fixed.ANY,
        "cpunumber": 1,
        "memory": 1024,
        "hypervisor": "KVM",
        "haenable": row.haenable,
        "created": fixed.timestamp(row.created),
        "passwordenabled": False,
        "securitygroup": [_group(reads, id) for id in sorted(groups)],
        "nic": [nic(reads, found) for found in nics],
        "tags": [],
        "affinitygroup": [],
        **(_placement(reads, row, nics) if admin else {}),
    }


def _placement(reads: Reads, row: Vm, nics: list[Nic]) -> Object:
    name = host_of(nics)
    host = next(iter(reads.find(Host, name=name)), None) if name else None
    return views.given(hostid=host.id if host else "", hostname=name, instancename=f"i-{row.id[:8]}")


def _group(reads: Reads, id: str) -> Object:
    group = reads.get(Group, id)
    account = reads.get(Account, group.account) if group else None
    return views.given(
        id=id,
        name=group.name if group else "",
        description=group.description if group else "",
        account=account.name if account else "",
    )


def nic(reads: Reads, row: Nic) -> Object:
    """A NIC with its primary addresses, their subnets, and its secondary addresses."""
    pod = reads.get(Pod, row.pod)
    zone = reads.get(Zone, pod.zone) if pod else None
    addresses = addresses_of(reads, row)
    ranges = reads.find(Range, pod=row.pod)
    return {
        "id": row.id,
        "networkid": fixed.network_id(zone.id) if zone else "",
        "networkname": fixed.network_name(zone) if zone else "",
        "macaddress": row.mac,
        **_primary4(addresses, ranges),
        **_primary6(addresses, ranges),
        "isdefault": row.device == 0,
        "deviceid": str(row.device),
        "type": "Shared",
        "traffictype": "Guest",
        "virtualmachineid": row.vm,
        "broadcasturi": "vlan://untagged",
        "secondaryip": [
            {"id": address.id, "ipaddress": address.address} for address in addresses if not address.primary
        ],
        **views.given(state=row.state, reason=row.reason),
    }


def _primary4(addresses: list[Address], ranges: list[Range]) -> Object:
    text = next((row.address for row in addresses if row.primary and not views.is_ipv6(row.address)), "")
    if not text:
        return {}
    home = next((row for row in ranges if row.gateway and _same_subnet4(text, row)), None)
    return views.given(ipaddress=text, netmask=home.netmask if home else "", gateway=home.gateway if home else "")


def _same_subnet4(text: str, row: Range) -> bool:
    return IPv4Address(text) in _subnet4(row.gateway, row.netmask)


@lru_cache(1024)
def _subnet4(gateway: str, netmask: str) -> IPv4Network:
    return IPv4Network(f"{gateway}/{netmask}", strict=False)


@lru_cache(1024)
def _subnet6(cidr: str) -> IPv6Network:
    return IPv6Network(cidr)


def _primary6(addresses: list[Address], ranges: list[Range]) -> Object:
    text = next((row.address for row in addresses if row.primary and views.is_ipv6(row.address)), "")
    if not text:
        return {}
    address = IPv6Address(text)
    home = next((row for row in ranges if row.ip6_cidr and address in _subnet6(row.ip6_cidr)), None)
    return views.given(
        ip6address=text, ip6cidr=home.ip6_cidr if home else "", ip6gateway=home.ip6_gateway if home else ""
    )
