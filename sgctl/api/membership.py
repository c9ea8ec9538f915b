# SPDX-License-Identifier: Apache-2.0
"""Groups and addresses of NICs, with the `Member` rows that follow from both.

Each change of one of them counts `Nic.revision` up, which the transaction is guarded by: two concurrent changes of the
same NIC cannot miss each other's Member rows.
"""

from __future__ import annotations

from sgctl.api.draft import Draft
from sgctl.model import Address, Member, Nic, member_id


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


def _member(group: str, row: Address) -> Member:
    return Member(id=member_id(group, row.address), group=group, nic=row.nic, address=row.address)


def _remove_members(draft: Draft, row: Address) -> None:
    for member in draft.find(Member, address=row.address):
        draft.delete(member)


def _count(draft: Draft, nic: Nic) -> None:
    draft.update(nic, revision=nic.revision + 1)
