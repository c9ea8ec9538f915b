# SPDX-License-Identifier: Apache-2.0
"""What operators promise to NICs beside their addresses, for clusters and for guests inside VMs.

An extension: CloudStack has no words for it.
"""

from sgctl.addresses import block_text
from sgctl.api import promises, views
from sgctl.api.command import Answer, Call, Mode, command, new_id
from sgctl.api.errors import absent
from sgctl.api.listing import mentions, page, selected
from sgctl.api.membership import allow, disallow
from sgctl.api.owners import OWNED_LISTING, acting, existing, own
from sgctl.api.params import boolean, ident, text
from sgctl.api.subnets import canonical
from sgctl.model import Allowance, Nic, Pod, Vm


@command(
    "addAllowedAddressToNic",
    "Extension: lets a NIC use an address, a network or a MAC beside its own, for clusters and guests inside a VM.",
    ident("nicid", "the NIC", required=True),
    text("ipaddress", "the address, IPv4 or IPv6"),
    text("cidr", "a network instead, outside of the pods' ranges"),
    text(
        "macaddress",
        "the MAC of a guest inside the VM that alone uses it, or of VRRP with shared=true; default: the NIC's own",
    ),
    boolean("shared", "whether other NICs of the account and pod may hold the address too; who announces it has it"),
    text("description", "what it is for"),
    answer="allowedaddress",
    mode=Mode.ASYNC_CREATE,
    admin=True,
)
def add_allowed(call: Call) -> Answer:
    """A running VM can use it at once; the groups of the NIC hold for it as for its other addresses."""
    nic = own(call, Nic, "nicid")
    pod = call.draft.get(Pod, nic.pod)
    if pod is None:
        raise absent("nicid", nic.id)
    found, shared = promises.asked(call), call.args.flag("shared")
    mac = promises.mac_of(call, nic, found, shared=shared)
    promises.check(call, nic, pod, found, mac=mac, shared=shared)
    row = Allowance(
        id=new_id(),
        nic=nic.id,
        address=block_text(found),
        mac=mac,
        shared=shared,
        description=call.args.text("description"),
        created=call.now,
    )
    allow(call.draft, nic, row)
    return views.allowed_address(call.draft, row)


@command(
    "removeAllowedAddressFromNic",
    "Extension: takes back what a NIC was allowed; its connections from there end.",
    ident("id", "the allowed address", required=True),
    mode=Mode.ASYNC,
    admin=True,
)
def remove_allowed(call: Call) -> Answer:
    """Other NICs that hold the same address keep it."""
    row = existing(call, Allowance, "id")
    nic = call.draft.get(Nic, row.nic)
    if nic is None:
        raise absent("id", row.id)
    disallow(call.draft, nic, row)
    return None


@command(
    "listAllowedAddresses",
    "Extension: lists what NICs are allowed beside their addresses.",
    *OWNED_LISTING,
    ident("id", "only this one"),
    ident("nicid", "only those of this NIC"),
    ident("virtualmachineid", "only those of this VM"),
    text("ipaddress", "only this address or network"),
    text("macaddress", "only those of this MAC"),
    answer="allowedaddress",
)
def list_allowed(call: Call) -> Answer:
    """Of the account, or of everybody for a root admin who says so."""
    if "nicid" in call.args:
        own(call, Nic, "nicid")
    if "virtualmachineid" in call.args:
        own(call, Vm, "virtualmachineid")
    account, address = acting(call).id, canonical(call.args.text("ipaddress"))
    named = any(param in call.args for param in ("id", "nicid", "virtualmachineid"))
    everybody = call.caller.admin and "account" not in call.args and (call.args.flag("listall") or named)

    def fits(row: Allowance) -> bool:
        nic = call.draft.get(Nic, row.nic)
        if nic is None or not (everybody or nic.account == account):
            return False
        asked = selected(call, id=row.id, nicid=nic.id, virtualmachineid=nic.vm, macaddress=row.mac)
        here = address in ("", row.address)
        return asked and here and mentions(call, row.address, row.description)

    return page(call, filter(fits, call.draft.all(Allowance)), lambda row: views.allowed_address(call.draft, row))
