# SPDX-License-Identifier: Apache-2.0
"""NICs and their secondary addresses."""

from sgctl.api import fixed, machines, views
from sgctl.api.allocate import address_row, free_address, not_assigned, requested_address
from sgctl.api.command import Answer, Call, Mode, command
from sgctl.api.errors import ApiError, Code, absent, invalid
from sgctl.api.listing import mentions, objects, selected
from sgctl.api.membership import add_address, remove_address
from sgctl.api.owners import LISTING, demand_access, existing, own
from sgctl.api.params import ident, text
from sgctl.api.subnets import address
from sgctl.model import Address, Nic, Pod, Vm
from sgctl.quotas import option

_SECONDARY = "secondary IP"


@command(
    "listNics",
    "Lists the NICs of a VM.",
    *LISTING,
    ident("virtualmachineid", "the VM", required=True),
    ident("nicid", "only this one"),
    ident("networkid", "only those in this network"),
    answer="nic",
)
def list_nics(call: Call) -> Answer:
    """In the order of the VM's devices."""
    vm = own(call, Vm, "virtualmachineid")
    network = fixed.network_id(vm.zone)
    nics = [
        machines.nic(call.draft, nic)
        for nic in machines.nics_of(call.draft, vm)
        if selected(call, nicid=nic.id, networkid=network)
        and mentions(call, nic.mac, *(row.address for row in machines.addresses_of(call.draft, nic)))
    ]
    return objects(call, nics)


@command(
    "addIpToNic",
    "Gives a NIC a secondary address, IPv4 or IPv6; a running VM can use it at once.",
    ident("nicid", "the NIC", required=True),
    text("ipaddress", "the address; default: a free IPv4 address of the pod"),
    text("description", "what it is for"),
    answer="nicsecondaryip",
    mode=Mode.ASYNC_CREATE,
    envelope="addiptovmnicresponse",
)
def add_ip(call: Call) -> Answer:
    """The address must be in a range of the NIC's pod, and nobody's."""
    nic = own(call, Nic, "nicid")
    pod = call.draft.get(Pod, nic.pod)
    if pod is None:
        raise absent("nicid", nic.id)
    most = call.settings.quotas.addresses_per_nic
    if most and call.draft.count(Address, nic=nic.id) >= most:
        raise invalid(f"a NIC may have {most} addresses at most ({option('addresses_per_nic')})")
    if "ipaddress" in call.args:
        found = requested_address(call, pod, call.args.text("ipaddress"), "ipaddress", kind=_SECONDARY)
    else:
        free = free_address(call, pod, 4)
        if free is None:
            raise not_assigned(f"the pod {pod.name} has no free address", _SECONDARY)
        found = free
    row = address_row(call, nic, found, primary=False, description=call.args.text("description"))
    add_address(call.draft, nic, row)
    return views.secondary(row, nic, pod.zone)


@command(
    "removeIpFromNic",
    "Takes a secondary address from its NIC.",
    ident("id", "the secondary address", required=True),
    mode=Mode.ASYNC,
)
def remove_ip(call: Call) -> Answer:
    """Primary addresses stay."""
    row = existing(call, Address, "id")
    nic = call.draft.get(Nic, row.nic)
    if nic is None:
        raise absent("id", row.id)
    demand_access(call, nic.account, "address")
    if row.primary:
        raise invalid(f"{row.address} is the NIC's primary address")
    remove_address(call.draft, nic, row)
    return None


@command(
    "updateVmNicIp",
    "Gives a NIC of a stopped VM another primary address of the same IP version.",
    ident("nicid", "the NIC", required=True),
    text("ipaddress", "the address; default: a free IPv4 address of the pod"),
    answer="virtualmachine",
    mode=Mode.ASYNC,
)
def update_ip(call: Call) -> Answer:
    """The guest has to ask for its address again, so the VM must be stopped."""
    nic = own(call, Nic, "nicid")
    vm, pod = call.draft.get(Vm, nic.vm), call.draft.get(Pod, nic.pod)
    if vm is None or pod is None:
        raise absent("nicid", nic.id)
    if machines.state(vm, machines.nics_of(call.draft, vm)) != "Stopped":
        raise ApiError(Code.PARAMETER, "the VM must be stopped prior to updating its address")
    text_ = call.args.text("ipaddress")
    version = address(text_, "ipaddress").version if text_ else 4
    old = next((row for row in call.draft.find(Address, nic=nic.id) if _is_primary(row, version)), None)
    if old is not None:
        if text_ and str(address(text_, "ipaddress")) == old.address:
            return machines.vm(call.draft, vm, admin=call.caller.admin)
        remove_address(call.draft, nic, old)
    found = requested_address(call, pod, text_, "ipaddress") if text_ else free_address(call, pod, version)
    if found is None:
        raise not_assigned(f"the pod {pod.name} has no free address")
    current = call.draft.get(Nic, nic.id) or nic
    add_address(call.draft, current, address_row(call, current, found, primary=True))
    return machines.vm(call.draft, vm, admin=call.caller.admin)


def _is_primary(row: Address, version: int) -> bool:
    return row.primary and views.is_ipv6(row.address) == (version == 6)
