# SPDX-License-Identifier: Apache-2.0
"""Groups and addresses of NICs, and what they are promised beside them, with what follows from these: `Member` rows,
and the copies for agents in the rows of NICs and pods.

Each change of one of them counts `Nic.revision` up, which the transaction is guarded by: two concurrent changes of the
same NIC cannot miss each other's Member rows. An address that several NICs may hold is in the groups of all of them;
what changes that also counts `Cloud.allowances` up.
"""

from __future__ import annotations

from typing import Any

from sgctl.api.draft import Draft
from sgctl.model import Address, Allowance, Cloud, Member, Nic, Pod, Vm, allowance_text, member_id
from sgctl.store import Guard


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
    promised = draft.find(Allowance, nic=nic.id)
    rows: list[Address | Allowance] = [*draft.find(Address, nic=nic.id), *promised]
    for row in rows:
        for group in nic.groups - groups:
            _leave(draft, group, row)
        for group in groups - nic.groups:
            _join(draft, group, row)
    if any(row.shared for row in promised):
        count_allowances(draft)
    draft.update(nic, groups=groups, revision=nic.revision + 1)


def allow(draft: Draft, nic: Nic, row: Allowance) -> None:
    """Promise a NIC and its groups what the row says."""
    draft.insert(row)
    for group in nic.groups:
        _join(draft, group, row)
    count_allowances(draft)
    _count(draft, nic)


def disallow(draft: Draft, nic: Nic, row: Allowance) -> None:
    """Take a promise back."""
    _break(draft, nic, row)
    count_allowances(draft)
    _count(draft, nic)


def _break(draft: Draft, nic: Nic, row: Allowance) -> None:
    draft.delete(row)
    for group in nic.groups:
        _leave(draft, group, row)


def count_allowances(draft: Draft) -> None:
    """Let nobody write who has not seen what is promised from now on, or which ranges there are."""
    for cloud in draft.all(Cloud):
        draft.update(cloud, allowances=cloud.allowances + 1)


def demand_allowances(draft: Draft) -> None:
    """Write only if nothing has been promised since to others: somebody gets an address or a MAC."""
    for cloud in draft.all(Cloud):
        draft.demand(Guard(Cloud, cloud.id, {"allowances": cloud.allowances}))


def remove_nic(draft: Draft, nic: Nic) -> None:
    """Take a NIC away with its addresses and memberships."""
    for row in draft.find(Address, nic=nic.id):
        _remove_members(draft, row)
        draft.delete(row)
    promised = draft.find(Allowance, nic=nic.id)
    for one in promised:
        _break(draft, nic, one)
    if promised:
        count_allowances(draft)
    draft.delete(nic)


def refresh_copies(draft: Draft) -> None:
    """Bring the copies up to date in the rows of all NICs and pods that a draft is about; for when it is finished."""
    about = {nic.id for nic in draft.touched(Nic)}
    about |= {row.nic for row in draft.touched(Address)} | {row.nic for row in draft.touched(Allowance)}
    about |= {nic.id for vm in draft.touched(Vm) for nic in draft.find(Nic, vm=vm.id)}
    for id in about:
        nic = draft.get(Nic, id)
        if nic is not None:
            copy_to(draft, nic)
    pods = {nic.id: nic.pod for nic in draft.touched(Nic)}
    for row in draft.touched(Allowance):
        if row.shared:
            _share(draft, pods[row.nic], row.address)


def _share(draft: Draft, id: str, address: str) -> None:
    """Say in a pod's row whether NICs share an address."""
    pod = draft.get(Pod, id)
    if pod is not None:
        held = any(row.shared for row in draft.find(Allowance, address=address))
        draft.update(pod, shared=pod.shared | {address} if held else pod.shared - {address})


def share_all(draft: Draft) -> None:
    """Say in all pods' rows what their NICs share."""
    shared: dict[str, set[str]] = {}
    for row in draft.all(Allowance):
        nic = draft.get(Nic, row.nic) if row.shared else None
        if nic is not None:
            shared.setdefault(nic.pod, set()).add(row.address)
    for pod in draft.all(Pod):
        draft.update(pod, shared=frozenset(shared.get(pod.id, ())))


def copy_to(draft: Draft, nic: Nic) -> None:
    """Copy what agents need to know of a NIC's VM, addresses and allowances into its row, if it does not say so."""
    vm = draft.get(Vm, nic.vm)
    if vm is None:
        return
    addresses = frozenset(row.address for row in draft.find(Address, nic=nic.id))
    allowed = frozenset(map(allowance_text, draft.find(Allowance, nic=nic.id)))
    said = {"addresses": addresses, "allowed": allowed, "wanted": vm.wanted, "vm_name": vm.name}
    copies: dict[str, Any] = {**said, "copied": nic.revision + 1}
    if any(getattr(nic, name) != value for name, value in copies.items()):
        draft.update(nic, **copies)


def _join(draft: Draft, group: str, row: Address | Allowance) -> None:
    if draft.get(Member, member_id(group, row.address)) is None:
        draft.insert(_member(group, row))


def _leave(draft: Draft, group: str, row: Address | Allowance) -> None:
    """Take the row's address out of a group, unless another NIC there may hold it as well."""
    member = draft.get(Member, member_id(group, row.address))
    if member is None:
        return
    others = _other_holders(draft, row) if isinstance(row, Allowance) and row.shared else []
    heir = next((nic for nic in others if group in nic.groups), None)
    if heir is None:
        draft.delete(member)
    elif member.nic == row.nic:
        draft.update(member, nic=heir.id)


def _other_holders(draft: Draft, row: Allowance) -> list[Nic]:
    rows = (other for other in draft.find(Allowance, address=row.address) if other.nic != row.nic)
    return [nic for other in rows if (nic := draft.get(Nic, other.nic)) is not None]


def _member(group: str, row: Address | Allowance) -> Member:
    return Member(id=member_id(group, row.address), group=group, nic=row.nic, address=row.address)


def _remove_members(draft: Draft, row: Address) -> None:
    for member in draft.find(Member, address=row.address):
        draft.delete(member)


def _count(draft: Draft, nic: Nic) -> None:
    draft.update(nic, revision=nic.revision + 1)
