# SPDX-License-Identifier: Apache-2.0
"""Groups and addresses of NICs, with what follows from them: `Member` rows, and the copies for agents in the NIC's row.

Each change of one of them counts `Nic.revision` up, which the transaction is guarded by: two concurrent changes of the
same NIC cannot miss each other's Member rows.
"""

from __future__ import annotations

from sgctl.api.draft import Draft
from sgctl.model import Address, Member, Nic, Vm, member_id


def add_address(draft: Draft, nic: Nic, row: Address, *, new: bool = False) -> None:
    """Give an address to a NIC and its groups; `new`: the NIC is of the same draft."""
    draft.insert(row)
    for group in nic.groups:
        draft.insert(_member(group, row))
    if not new:
        _count(draft, nic)


def remove_address(draft: Draft, nic: Nic, row: Address) -> None:
    """Take an address from a NIC and its groups."""
    _remove_members(draft, row)
    draft.delete(row)
    _count(draft, nic)


def set_groups(draft: Draft, nic: Nic, groups: frozenset[str]) -> None:
    """Put a NIC with all its addresses into other groups."""
    for row in draft.find(Address, nic=nic.id):
        for group in nic.groups - groups:
            member = draft.get(Member, member_id(group, row.address))
            if member is not None:
                draft.delete(member)
        for group in groups - nic.groups:
            draft.insert(_member(group, row))
    draft.update(nic, groups=groups, revision=nic.revision + 1)


def remove_nic(draft: Draft, nic: Nic) -> None:
    """Take a NIC away with its addresses and memberships."""
    for row in draft.find(Address, nic=nic.id):
        _remove_members(draft, row)
        draft.delete(row)
    draft.delete(nic)


def refresh_copies(draft: Draft) -> None:
    """Bring the copies up to date in the rows of all NICs that a draft is about; for when it is finished."""
    about = {nic.id for nic in draft.touched(Nic)} | {row.nic for row in draft.touched(Address)}
    about |= {nic.id for vm in draft.touched(Vm) for nic in draft.find(Nic, vm=vm.id)}
    for id in about:
        nic = draft.get(Nic, id)
        if nic is not None:
            copy_to(draft, nic)


def copy_to(draft: Draft, nic: Nic) -> None:
    """Copy what agents need to know of a NIC's VM and addresses into its row, if it does not say that already."""
    vm = draft.get(Vm, nic.vm)
    if vm is None:
        return
    addresses = frozenset(row.address for row in draft.find(Address, nic=nic.id))
    copies = {"addresses": addresses, "wanted": vm.wanted, "vm_name": vm.name, "copied": nic.revision + 1}
    if any(getattr(nic, name) != value for name, value in copies.items()):
        draft.update(nic, **copies)


def _member(group: str, row: Address) -> Member:
    return Member(id=member_id(group, row.address), group=group, nic=row.nic, address=row.address)


def _remove_members(draft: Draft, row: Address) -> None:
    for member in draft.find(Member, address=row.address):
        draft.delete(member)


def _count(draft: Draft, nic: Nic) -> None:
    draft.update(nic, revision=nic.revision + 1)
