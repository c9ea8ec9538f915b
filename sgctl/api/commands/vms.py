# SPDX-License-Identifier: Apache-2.0
"""Deploying, changing and listing virtual machines."""

from __future__ import annotations

import re

from sgctl.api import fixed, machines
from sgctl.api.allocate import address_row, free_address, mac, requested_address, spans
from sgctl.api.command import Answer, Call, Mode, Object, command, new_id
from sgctl.api.commands.accounts import DEFAULT_GROUP
from sgctl.api.commands.groups import find_group
from sgctl.api.errors import ApiError, Code, EarlyError, absent, denied, invalid
from sgctl.api.listing import mentions, page, selected
from sgctl.api.membership import add_address, set_groups
from sgctl.api.owners import OWNED_LISTING, OWNER, acting, existing, optional, own, visible
from sgctl.api.params import Param, boolean, ident, idents, text, texts
from sgctl.api.subnets import Ip, canonical, of_version, within
from sgctl.model import Account, Address, Group, Host, Nic, Pod, Vm, Zone
from sgctl.quotas import option

_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_MAX_USERDATA = 1 << 20
_VERSIONS = (("ipaddress", 4), ("ip6address", 6))

_DEPLOY: tuple[Param, ...] = (
    ident("serviceofferingid", "the service offering", required=True),
    ident("templateid", "the template", required=True),
    ident("zoneid", "the zone", required=True),
    text("name", "its host name, unique in the account; default: made from its id"),
    text("displayname", "a name for people; default: the name"),
    *OWNER,
    idents("securitygroupids", "its groups; default: the account's default group"),
    texts("securitygroupnames", "its groups by name"),
    idents("networkids", "the zone's network"),
    text("ipaddress", "its IPv4 address; default: a free one"),
    text("ip6address", "its IPv6 address; default: a free one, if the pod has IPv6"),
    text("macaddress", "its MAC; default: a random one"),
    ident("podid", "extension: the pod; default: one with a free address"),
    ident("hostid", "the host it shall run on", admin=True),
    boolean("startvm", "whether it shall run; default: true"),
    text("userdata", "accepted and ignored", length=_MAX_USERDATA),
    text("keypair", "accepted and ignored"),
    text("hypervisor", "accepted and ignored"),
    text("group", "accepted and ignored"),
)


@command(
    "deployVirtualMachine",
    "Records a virtual machine: gives it a NIC, addresses and groups, for its hypervisor to plug in.",
    *_DEPLOY,
    answer="virtualmachine",
    mode=Mode.ASYNC_CREATE,
)
def deploy(call: Call) -> Answer:
    """What boots it is somebody else: the VM is Starting until an agent reports its port."""
    account = acting(call)
    zone = existing(call, Zone, "zoneid")
    _check_fixed(call, zone)
    vm_id = new_id()
    name = call.args.text("name") or f"VM-{vm_id}"
    if "name" in call.args:
        _take_name(call, account, name)
    groups = _groups(call, account)
    host = optional(call, Host, "hostid")
    pod, addresses = _place(call, zone)
    vm = Vm(
        id=vm_id,
        name=name,
        display_name=call.args.text("displayname"),
        account=account.id,
        zone=zone.id,
        pod=pod.id,
        wanted="Running" if call.args.flag("startvm", True) else "Stopped",
        wanted_host=host.name if host else "",
        template=fixed.TEMPLATE_ID,
        offering=fixed.OFFERING_ID,
        created=call.now,
    )
    nic = Nic(id=new_id(), vm=vm.id, account=account.id, pod=pod.id, mac=mac(call), groups=groups)
    call.draft.insert(vm)
    call.draft.insert(nic)
    for found in addresses:
        add_address(call.draft, nic, address_row(call, nic, found, primary=True), new=True)
    return machines.vm(call.draft, vm, admin=call.caller.admin)


def _check_fixed(call: Call, zone: Zone) -> None:
    known = {"templateid": fixed.TEMPLATE_ID, "serviceofferingid": fixed.OFFERING_ID}
    for param, only in known.items():
        if call.args.text(param) != only:
            raise absent(param, call.args.text(param))
    for network in call.args.texts("networkids"):
        if network != fixed.network_id(zone.id):
            raise absent("networkids", network)


def _take_name(call: Call, account: Account, name: str) -> None:
    """Refuse a name that is none or that another VM of the account has, be it since a moment ago."""
    if not _NAME.fullmatch(name):
        raise invalid(
            "Invalid parameter name: a VM's name has 1 to 63 ASCII letters, digits and hyphens, begins with a letter "
            "and does not end with a hyphen"
        )
    for other in call.draft.find(Vm, name=name):
        if other.account == account.id and other.wanted != "Destroyed":
            raise invalid(f"account {account.name} has a VM with the name {name} already")
    now = call.draft.get(Account, account.id)
    if now is not None:
        call.draft.update(now, vms_named=now.vms_named + 1)


def _groups(call: Call, account: Account) -> frozenset[str]:
    """The groups that a VM of `account` shall be in, never none."""
    if "securitygroupids" in call.args and "securitygroupnames" in call.args:
        raise invalid("give either securitygroupids or securitygroupnames")
    ids = {_group_by_id(call, account, id).id for id in call.args.texts("securitygroupids")}
    ids |= {_group_by_name(call, account, name).id for name in call.args.texts("securitygroupnames")}
    most = call.settings.quotas.groups_per_nic
    if most and len(ids) > most:
        raise ApiError(Code.LIMIT, f"a VM may be in {most} groups at most ({option('groups_per_nic')})")
    return frozenset(ids or {_group_by_name(call, account, DEFAULT_GROUP).id})


def _group_by_id(call: Call, account: Account, id: str) -> Group:
    group = call.draft.get(Group, id)
    if group is None:
        raise absent("securitygroupids", id)
    if group.account != account.id:
        raise denied(f"security group {id} belongs to another account than {account.name}")
    return group


def _group_by_name(call: Call, account: Account, name: str) -> Group:
    group = find_group(call, account, name)
    if group is None:
        raise EarlyError(Code.PARAMETER, f"Unable to find security group {name} of account {account.name}")
    return group


def _place(call: Call, zone: Zone) -> tuple[Pod, list[Ip]]:
    """The pod for a new VM and its addresses there: what was asked for, or whatever has room.

    Only if none obviously has room, each is searched for its last free addresses.
    """
    pods = _pods(call, zone)
    for thorough in (False, True):
        for pod in pods:
            addresses = _addresses(call, pod, thorough=thorough)
            if addresses:
                return pod, addresses
    raise ApiError(Code.CAPACITY, f"no pod of the zone {zone.name} has a free address")


def _pods(call: Call, zone: Zone) -> list[Pod]:
    """The pods that come into question, those with asked-for addresses only."""
    chosen = optional(call, Pod, "podid")
    if chosen is not None:
        if chosen.zone != zone.id:
            raise invalid(f"pod {chosen.name} is not in the zone {zone.name}")
        return [chosen]
    pods = sorted(call.draft.find(Pod, zone=zone.id), key=lambda pod: (pod.created, pod.id))
    for param, version in _VERSIONS:
        if param in call.args:
            asked = of_version(call, param, version)
            pods = [pod for pod in pods if any(within(asked, span) for span in spans(call, pod, version))]
            if not pods:
                raise ApiError(Code.INTERNAL, f"{asked} is in no range of a pod of the zone {zone.name}")
    return pods


def _addresses(call: Call, pod: Pod, *, thorough: bool) -> list[Ip]:
    """One address of each IP version that the pod has; none if one of them has run out."""
    found: list[Ip] = []
    for param, version in _VERSIONS:
        if param in call.args:
            of_version(call, param, version)
            found.append(requested_address(call, pod, call.args.text(param), param))
        elif spans(call, pod, version):
            free = free_address(call, pod, version, thorough=thorough)
            if free is None:
                return []
            found.append(free)
    return found


@command(
    "updateVirtualMachine",
    "Changes a virtual machine; its groups also while it runs.",
    ident("id", "the VM", required=True),
    text("name", "its new host name"),
    text("displayname", "its new name for people"),
    boolean("haenable", "whether it is to be restarted elsewhere"),
    idents("securitygroupids", "its new groups"),
    texts("securitygroupnames", "its new groups by name"),
    text("userdata", "accepted and ignored", length=_MAX_USERDATA),
    answer="virtualmachine",
)
def update_vm(call: Call) -> Answer:
    """What is not given stays."""
    vm = own(call, Vm, "id")
    account = call.draft.get(Account, vm.account)
    if account is None or vm.wanted == "Destroyed":
        raise absent("id", vm.id)
    name = call.args.text("name", vm.name)
    if name != vm.name:
        _take_name(call, account, name)
    if "securitygroupids" in call.args or "securitygroupnames" in call.args:
        groups = _groups(call, account)
        for nic in machines.nics_of(call.draft, vm):
            if nic.groups != groups:
                set_groups(call.draft, nic, groups)
    changed = call.draft.update(
        vm,
        name=name,
        display_name=call.args.text("displayname", vm.display_name),
        haenable=call.args.flag("haenable", vm.haenable),
    )
    return machines.vm(call.draft, changed, admin=call.caller.admin)


_LIST: tuple[Param, ...] = (
    *OWNED_LISTING,
    ident("id", "only this one"),
    idents("ids", "only these"),
    text("name", "only those with this in their name"),
    text("state", "only those in this state"),
    ident("zoneid", "only those in this zone"),
    ident("podid", "only those in this pod"),
    ident("hostid", "only those on this host", admin=True),
    ident("networkid", "only those in this network"),
    ident("securitygroupid", "only members of this group"),
    text("ipaddress", "only the one with this address"),
    text("ip6address", "only the one with this IPv6 address"),
    text("details", "accepted and ignored"),
)


@command("listVirtualMachines", "Lists virtual machines.", *_LIST, answer="virtualmachine")
def list_vms(call: Call) -> Answer:
    """Destroyed ones are shown to root admins only."""
    vms = visible(call, Vm, lambda vm: _fits(call, vm))
    return page(call, vms, lambda vm: _shown(call, vm))


def _shown(call: Call, vm: Vm) -> Object:
    shown = machines.vm(call.draft, vm, admin=call.caller.admin)
    return shown | {"state": machines.known_state(call, vm, machines.nics_of(call.draft, vm))}


def _fits(call: Call, vm: Vm) -> bool:
    if vm.wanted == "Destroyed" and not call.caller.admin:
        return False
    if not selected(call, id=vm.id, zoneid=vm.zone, podid=vm.pod, networkid=fixed.network_id(vm.zone)):
        return False
    ids = call.args.texts("ids")
    if (ids and vm.id not in ids) or not mentions(call, vm.name, vm.display_name):
        return False
    if call.args.text("name").casefold() not in vm.name.casefold():
        return False
    return _nics_fit(call, vm)


def _nics_fit(call: Call, vm: Vm) -> bool:
    wanted = ("state", "hostid", "securitygroupid", "ipaddress", "ip6address")
    if not any(param in call.args for param in wanted):
        return True
    nics = machines.nics_of(call.draft, vm)
    host = call.draft.get(Host, call.args.text("hostid")) if "hostid" in call.args else None
    if "hostid" in call.args and (host is None or machines.host_of(nics) != host.name):
        return False
    groups = {id for nic in nics for id in nic.groups}
    if "securitygroupid" in call.args and call.args.text("securitygroupid") not in groups:
        return False
    addresses = {row.address for nic in nics for row in call.draft.find(Address, nic=nic.id)}
    asked = {canonical(call.args.text(param)) for param in ("ipaddress", "ip6address") if param in call.args}
    return asked <= addresses and selected(call, state=machines.known_state(call, vm, nics))
